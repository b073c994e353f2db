/* SPDX-License-Identifier: MIT
 *
 * app.c - the application: up to three connections, each of which does one SQL statement at a time,
 * so that the transactions of several are open at once and being BUSY is real.
 *
 * Each transaction writes its number into a table of the application's own, `ledger`. That row
 * shares its fate with the events, and tells after a crash what became of a transaction in doubt.
 */
#include "sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_US = 50000, PATIENCE = 6 };

static uint32_t pick(struct sim *sim, uint32_t bound)
{
    return sim_choose(&sim->choices, TAG_APP, bound);
}

static bool chance(struct sim *sim, uint32_t per_mille)
{
    return sim_chance(&sim->choices, TAG_APP, per_mille);
}

static bool is_alive(const struct sim *sim)
{
    return sim->device.powered && sim->device.is_alive[PROCESS_APP];
}

/* ---- Statements ------------------------------------------------------------------------------ */

/* I12: what else may keep the application waiting. */
static bool somebody_else_is_busy(const struct sim *sim, const struct writer *writer)
{
    for (unsigned i = 0; i < WRITERS; i++)
        if (i != writer->index && sim->writers[i].transaction)
            return true;
    return sim->nemesis.reader || sim->settings.is_wal;
}

static int run(struct sim *sim, struct writer *writer, const char *format, ...)
{
    va_list arguments;
    uint64_t injected = sim->nemesis.injected;
    va_start(arguments, format);
    char *sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    if (!sql)
        abort();
    int result = sqlite3_exec(writer->db, sql, NULL, NULL, NULL);
    trace_event(sim, sql, writer->index, (uint64_t)result);
    sqlite3_free(sql);
    if ((result & 0xff) == SQLITE_BUSY && injected == sim->nemesis.injected && is_alive(sim) &&
        !somebody_else_is_busy(sim, writer))
        breaks(sim, ISOLATION, "the application is kept waiting by nobody but the forwarder");
    return result & 0xff;
}

static int64_t number(sqlite3 *db, const char *sql, int64_t otherwise)
{
    sqlite3_stmt *s = NULL;
    int64_t value = otherwise;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        value = sqlite3_column_int64(s, 0);
    (void)sqlite3_finalize(s);
    return value;
}

/* ---- The end of a transaction ---------------------------------------------------------------- */

static bool commits_are_durable(const struct sim *sim, const struct writer *writer)
{
    const char *synchronous = sim->settings.synchronous[writer->index];
    if (strcmp(synchronous, "EXTRA") == 0)
        return true;
    return strcmp(synchronous, "FULL") == 0 && strcmp(sim->settings.journal, "DELETE") != 0;
}

/* Who gets an id shows that the transaction in doubt which had it too has not committed. But what
 * that has written lies in the WAL until another one is written over it, and the next recovery may
 * find it. */
static void settle_doubt(struct model *model, uint32_t transaction)
{
    uint32_t event = model_transaction(model, transaction)->first;
    for (; event; event = model_event(model, event)->next_in_transaction) {
        uint32_t other = model_event(model, event)->displaces;
        for (; other; other = model_event(model, other)->displaces)
            if (model_event(model, other)->fate == IN_DOUBT)
                model_abort(model, model_event(model, other)->transaction);
    }
}

static void committed(struct sim *sim, struct writer *writer, uint32_t transaction)
{
    model_commit(&sim->model, transaction, sim->device.now_us);
    model_transaction(&sim->model, transaction)->written = sim->device.disk.number;
    if (commits_are_durable(sim, writer)) {
        model_all_durable(&sim->model);
        settle_doubt(&sim->model, transaction);
    }
    tell(sim, "writer %u commits transaction %u", writer->index, transaction);
    ledger_look(sim, writer->db);
    trace_event(sim, "order", sim->model.lanes[OUTBOX_NORMAL].order_count,
                sim->model.lanes[OUTBOX_URGENT].order_count);
}

static void rolled_back(struct sim *sim, struct writer *writer)
{
    model_abort(&sim->model, writer->transaction);
    limits_undone(sim, writer, false);
    writer->transaction = 0;
}

/* SQLite rolls back by itself after some errors. */
static bool has_vanished(struct sim *sim, struct writer *writer)
{
    if (!writer->transaction || !sqlite3_get_autocommit(writer->db))
        return false;
    tell(sim, "transaction %u is rolled back by SQLite", writer->transaction);
    rolled_back(sim, writer);
    return true;
}

static void roll_back(struct sim *sim, struct writer *writer)
{
    tell(sim, "writer %u rolls back transaction %u", writer->index, writer->transaction);
    if (run(sim, writer, "ROLLBACK") != SQLITE_OK && !sqlite3_get_autocommit(writer->db))
        app_close(sim, writer); /* closing ends it in every case */
    else
        rolled_back(sim, writer);
}

/* COMMIT failed: it may have happened, and may happen at a recovery to come. */
static void is_in_doubt(struct sim *sim, struct writer *writer)
{
    uint32_t transaction = writer->transaction;
    char sql[64];
    model_doubt(&sim->model, transaction);
    limits_in_doubt(sim);
    writer->transaction = 0;
    if (!sqlite3_get_autocommit(writer->db) && run(sim, writer, "ROLLBACK") != SQLITE_OK &&
        !sqlite3_get_autocommit(writer->db))
        app_close(sim, writer);
    tell(sim, "transaction %u is in doubt", transaction);
    sqlite3_snprintf(sizeof sql, sql, "SELECT count(*) FROM ledger WHERE tx = %u", transaction);
    if (writer->db && is_alive(sim) && number(writer->db, sql, 0) == 1) {
        tell(sim, "it is there, but a power cut may still undo it");
        model_commit(&sim->model, transaction, sim->device.now_us);
    }
}

static void commit(struct sim *sim, struct writer *writer)
{
    int result = run(sim, writer, "COMMIT");
    if (result == SQLITE_OK) {
        committed(sim, writer, writer->transaction);
        writer->transaction = 0;
    } else if (result == SQLITE_BUSY && !sqlite3_get_autocommit(writer->db)) {
        if (++writer->attempts >= PATIENCE)
            roll_back(sim, writer);
    } else {
        is_in_doubt(sim, writer);
    }
}

static void end(struct sim *sim, struct writer *writer)
{
    if (chance(sim, sim->settings.rollback_per_mille))
        roll_back(sim, writer);
    else if (chance(sim, sim->settings.odd_per_mille / 4))
        app_close(sim, writer);
    else
        commit(sim, writer);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static uint32_t pick_size(struct sim *sim)
{
    uint32_t limit = (uint32_t)sim->settings.payload_max;
    switch (pick(sim, 8)) {
    case 1:
        return 0;
    case 2:
        return 1;
    case 3:
        return limit - 1;
    case 4:
        return limit;
    case 5:
        return limit + 1;
    default:
        return 8 + pick(sim, 120);
    }
}

static int store(struct sim *sim, struct writer *writer, uint32_t number, const uint8_t *body,
                 int64_t *id)
{
    const struct model_event *e = model_event(&sim->model, number);
    char topic[16];
    model_topic(sim, e, topic);
    outbox_event event = {.topic = topic,
                          .payload = body,
                          .payload_len = e->size,
                          .content_type = model_content_type(e->body),
                          .type = model_type(e),
                          .key = model_key(e),
                          .correlation_id = model_correlation(e),
                          .retain = model_is_retained(e),
                          .ttl_ms = e->ttl_ms,
                          .keep_last = e->keep_last,
                          .lane = e->lane};
    int code = outbox_put(writer->box, &event, id);
    oracle_code(sim, "put", code);
    int expected = e->size > sim->settings.payload_max ? OUTBOX_TOO_LARGE
                   : e->body == BODY_UNFIT             ? OUTBOX_BAD_PAYLOAD
                                                       : code;
    if (code != expected || (code == OUTBOX_TOO_LARGE && e->size <= sim->settings.payload_max) ||
        (code == OUTBOX_BAD_PAYLOAD && e->body != BODY_UNFIT))
        breaks(sim, CONTRACT, "put of %u bytes answered %d", e->size, code);
    if (code == OUTBOX_FULL && !limits_hold(sim, e->lane))
        breaks(sim, CONTRACT, "the %s lane is full without a limit", lane_name(e->lane));
    return code;
}

static int insert(struct sim *sim, struct writer *writer, uint32_t number, const uint8_t *body,
                  int64_t *id)
{
    const struct model_event *e = model_event(&sim->model, number);
    sqlite3_stmt *s = NULL;
    char topic[16], sql[260], headers[40];
    sqlite3_snprintf(sizeof sql, sql,
                     "INSERT INTO %s(id, topic, payload, content_type, type, key, retain, expires,"
                     " keep_last, headers)"
                     " VALUES((SELECT max(id) + ?1 FROM %s), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                     lane_table(e->lane), lane_table(e->lane));
    model_topic(sim, e, topic);
    int result = sqlite3_prepare_v2(writer->db, sql, -1, &s, NULL);
    if (result == SQLITE_OK) {
        (void)sqlite3_bind_int64(s, 1, writer->jump);
        (void)sqlite3_bind_text(s, 2, topic, -1, SQLITE_STATIC);
        if (e->body == BODY_BYTES)
            (void)sqlite3_bind_blob(s, 3, body, (int)e->size, SQLITE_STATIC);
        else
            (void)sqlite3_bind_text(s, 3, (const char *)body, (int)e->size, SQLITE_STATIC);
        (void)sqlite3_bind_text(s, 4, model_content_type(e->body), -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(s, 5, model_type(e), -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(s, 6, model_key(e), -1, SQLITE_STATIC);
        (void)sqlite3_bind_int(s, 7, model_is_retained(e));
        if (e->expires != 0)
            (void)sqlite3_bind_int64(s, 8, e->expires);
        (void)sqlite3_bind_int(s, 9, e->keep_last);
        sqlite3_snprintf(sizeof headers, headers, MODEL_HEADER "%s\n", model_correlation(e));
        if (model_correlation(e))
            (void)sqlite3_bind_text(s, 10, headers, -1, SQLITE_STATIC);
        (void)sqlite3_step(s);
        result = sqlite3_finalize(s);
    }
    *id = sqlite3_last_insert_rowid(writer->db);
    return result;
}

/* Other writers add to whatever the clock says. */
static void draw_age(struct sim *sim, bool is_foreign, struct model_event *e)
{
    static const int64_t ttls[] = {3600000, 1, 200, 5000, OUTBOX_TTL_MAX};
    if (sim_chance(&sim->choices, TAG_FEATURE, sim->settings.ttl_per_mille))
        e->ttl_ms = ttls[sim_choose(&sim->choices, TAG_FEATURE, 5)];
    e->expires = is_foreign && e->ttl_ms ? device_wall_ms(&sim->device) + e->ttl_ms
                                         : age_expires(sim, e->ttl_ms);
    e->keep_last = sim_chance(&sim->choices, TAG_FEATURE, sim->settings.keep_last_per_mille);
}

/* What the next event is to be. */
static struct model_event draw(struct sim *sim, struct writer *writer)
{
    bool is_foreign = writer->box == NULL;
    bool is_unfit = chance(sim, sim->settings.odd_per_mille / (is_foreign ? 2 : 4));
    struct model_event e = {.size = pick_size(sim)};
    e.stream = pick(sim, STREAMS);
    e.body = is_unfit ? BODY_UNFIT : (enum body)pick(sim, BODIES);
    e.lane = sim_chance(&sim->choices, TAG_LANE, sim->settings.urgent_per_mille) ? OUTBOX_URGENT
                                                                                 : OUTBOX_NORMAL;
    writer->jump = 1;
    if (is_foreign && chance(sim, 100)) /* it may leave holes in the ids */
        writer->jump += pick(sim, 4);
    if (is_foreign && e.size > sim->settings.payload_max)
        e.size = 20; /* it would be held back for ever */
    if (is_unfit && e.size < 8)
        e.size = 8;
    if (e.body == BODY_JSON && e.size < 2)
        e.body = BODY_TEXT;
    draw_age(sim, is_foreign, &e);
    return e;
}

void app_stored(struct sim *sim, uint32_t event, int64_t id)
{
    struct model_event *e = model_event(&sim->model, event);
    uint32_t owner = model_owner(&sim->model, e->lane, id);
    if (owner && model_event(&sim->model, owner)->fate == IN_DOUBT)
        e->displaces = owner;
    model_named(&sim->model, event, id);
}

/* Gives the event, 0 if it was not stored; then `is_certain` tells whether that is sure. */
static uint32_t put(struct sim *sim, struct writer *writer, uint32_t transaction,
                    const struct model_event *like, bool *is_certain)
{
    struct model *model = &sim->model;
    bool is_foreign = writer->box == NULL;
    uint32_t event = model_add(model, transaction, like);
    if (!model_key(model_event(model, event)))
        model_event(model, event)->keep_last = false;
    uint8_t *bytes = malloc(like->size + 1);
    int64_t id = 0;
    struct put_look look;
    if (!bytes)
        abort();
    model_body(model, event, bytes);
    limits_before_put(sim, writer, like->lane, &look);
    int code =
        is_foreign ? insert(sim, writer, event, bytes, &id) : store(sim, writer, event, bytes, &id);
    free(bytes);
    trace_event(sim, "put", event, (uint64_t)id);
    *is_certain = code == OUTBOX_TOO_LARGE || code == OUTBOX_BAD_PAYLOAD || code == OUTBOX_BUSY ||
                  code == OUTBOX_FULL || (is_foreign && (code & 0xff) == SQLITE_BUSY);
    if (code == 0) {
        app_stored(sim, event, id);
        if (!is_foreign)
            age_read_back(sim, writer->db, model_event(model, event));
    }
    limits_after_put(sim, writer, event, &look, code);
    if (code != 0) {
        model_abort_event(model, event);
        return 0;
    }
    tell(sim, "writer %u puts " EVENT " into transaction %u", writer->index,
         EVENT_OF(model_event(model, event)), transaction);
    return event;
}

static int64_t largest(struct writer *writer, outbox_lane lane, int64_t otherwise)
{
    char sql[64];
    sqlite3_snprintf(sizeof sql, sql, "SELECT max(id) FROM %s", lane_table(lane));
    return number(writer->db, sql, otherwise);
}

/* The put failed, and the event may be there all the same, behind `last`. */
static void put_is_in_doubt(struct sim *sim, struct writer *writer, uint32_t transaction,
                            int64_t last)
{
    struct model *model = &sim->model;
    uint32_t event = model_transaction(model, transaction)->first;
    struct model_event *e = model_event(model, event);
    int64_t id = last + writer->jump;
    e->fate = ATTEMPTED;
    model_doubt(model, transaction);
    e->id = id;
    if (model_owner(model, e->lane, id) == 0)
        model_named(model, event, id);
    if (!sqlite3_get_autocommit(writer->db)) {
        app_close(sim, writer);
        return;
    }
    if (!is_alive(sim) || largest(writer, e->lane, 0) != id)
        return;
    /* It is there; another one in doubt that has the id was not, before. */
    uint32_t owner = model_owner(model, e->lane, id);
    if (owner != event && model_event(model, owner)->fate == IN_DOUBT)
        app_stored(sim, event, id);
    if (model_owner(model, e->lane, id) == event)
        model_commit(model, transaction, sim->device.now_us);
}

/* A put that is a transaction of its own. Whether it was stored. */
static bool put_alone(struct sim *sim, struct writer *writer)
{
    bool is_certain;
    struct model_event like = draw(sim, writer);
    int64_t last = largest(writer, like.lane, -1);
    if (last < 0)
        return false;
    uint32_t transaction = model_begin(&sim->model, writer->index, false);
    bool stored = put(sim, writer, transaction, &like, &is_certain) != 0;
    if (stored)
        committed(sim, writer, transaction);
    else if (is_certain)
        model_abort(&sim->model, transaction);
    else
        put_is_in_doubt(sim, writer, transaction, last);
    return stored;
}

/* ---- A transaction --------------------------------------------------------------------------- */

static void begin(struct sim *sim, struct writer *writer)
{
    change_begin(sim, writer);
    if (run(sim, writer, pick(sim, 2) ? "BEGIN IMMEDIATE" : "BEGIN") != SQLITE_OK)
        return;
    writer->transaction = model_begin(&sim->model, writer->index, true);
    writer->left = 1 + pick(sim, sim->settings.long_transaction);
    writer->attempts = 0;
    writer->has_ledger = false;
    writer->in_savepoint = false;
}

static void write_ledger(struct sim *sim, struct writer *writer)
{
    if (run(sim, writer, "INSERT INTO ledger(tx) VALUES(%u)", writer->transaction) == SQLITE_OK)
        writer->has_ledger = true;
    else if (!has_vanished(sim, writer) && ++writer->attempts >= PATIENCE)
        roll_back(sim, writer);
}

static void undo_savepoint(struct sim *sim, struct writer *writer)
{
    struct model *model = &sim->model;
    if (run(sim, writer, "ROLLBACK TO s; RELEASE s") != SQLITE_OK) {
        if (!has_vanished(sim, writer))
            roll_back(sim, writer);
        return;
    }
    uint32_t event = model_transaction(model, writer->transaction)->first;
    for (; event; event = model_event(model, event)->next_in_transaction)
        if (event >= writer->savepoint_event && model_event(model, event)->fate == ATTEMPTED)
            model_abort_event(model, event);
    limits_undone(sim, writer, true);
    writer->in_savepoint = false;
    tell(sim, "writer %u rolls back to its savepoint", writer->index);
}

static void continue_transaction(struct sim *sim, struct writer *writer)
{
    unsigned odd = sim->settings.odd_per_mille;
    if (writer->in_savepoint && chance(sim, 300)) {
        undo_savepoint(sim, writer);
        return;
    }
    writer->left--;
    if (!writer->in_savepoint && chance(sim, odd)) {
        writer->savepoint_event = sim->model.event_count + 1;
        writer->in_savepoint = run(sim, writer, "SAVEPOINT s") == SQLITE_OK;
    } else if (chance(sim, odd / 2)) {
        (void)run(sim, writer, "INSERT INTO business(k) VALUES(-1)"); /* breaks its CHECK */
    } else if (chance(sim, odd)) {
        (void)run(sim, writer, "INSERT OR REPLACE INTO business VALUES(%u, randomblob(200))",
                  pick(sim, 50));
    } else if (sim_chance(&sim->choices, TAG_CHANGE, sim->settings.changes_per_mille)) {
        change_write(sim, writer, writer->transaction);
    } else {
        bool is_certain;
        struct model_event like = draw(sim, writer);
        (void)put(sim, writer, writer->transaction, &like, &is_certain);
    }
    (void)has_vanished(sim, writer);
}

/* What applications do beside. */
static void do_something_odd(struct sim *sim, struct writer *writer)
{
    static const char *const statements[] = {
        "PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA wal_checkpoint(RESTART)", "CREATE TABLE IF NOT EXISTS other(x)",
        "DROP TABLE IF EXISTS other",     "VACUUM",
    };
    uint32_t count = sizeof statements / sizeof statements[0];
    uint32_t which = pick(sim, count + 1);
    if (which < count)
        (void)run(sim, writer, statements[which]);
    else
        app_close(sim, writer);
}

static void do_next(struct sim *sim, struct writer *writer)
{
    if (!writer->db)
        (void)app_open(sim, writer);
    else if (writer->transaction && !writer->has_ledger)
        write_ledger(sim, writer);
    else if (writer->transaction && writer->left > 0)
        continue_transaction(sim, writer);
    else if (writer->transaction)
        end(sim, writer);
    else if (chance(sim, sim->settings.autocommit_per_mille))
        (void)put_alone(sim, writer);
    else if (chance(sim, sim->settings.odd_per_mille / 2))
        do_something_odd(sim, writer);
    else
        begin(sim, writer);
}

void app_step(struct sim *sim, struct writer *writer)
{
    sim_span_begin(&sim->choices);
    do_next(sim, writer);
    sim->operations_done++;
    writer->due = sim->device.now_us + 200 + pick(sim, 2 * sim->settings.think_ms * 1000 + 1);
    sim_span_end(&sim->choices);
}

void app_finish(struct sim *sim)
{
    for (unsigned i = 0; i < sim->settings.writers; i++) {
        struct writer *writer = &sim->writers[i];
        for (int attempt = 0; attempt < PATIENCE && writer->db && writer->transaction; attempt++)
            commit(sim, writer);
    }
}

bool app_put_last(struct sim *sim)
{
    struct writer *writer = &sim->writers[0];
    for (int attempt = 0; attempt < PATIENCE && writer->db && !writer->transaction; attempt++)
        if (put_alone(sim, writer)) /* it may draw one that is refused */
            return true;
    return false;
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void on_committed(void *context, const int64_t durable[OUTBOX_LANES])
{
    struct sim *sim = context;
    trace_event(sim, "committed", (uint64_t)durable[OUTBOX_NORMAL],
                (uint64_t)durable[OUTBOX_URGENT]);
    if (!chance(sim, 50)) /* a wake-up may get lost on its way to another process */
        node_committed(sim, durable);
}

static void on_stats(void *context, outbox_statistics *statistics)
{
    (void)context, (void)statistics;
}

static int on_flush(void *context, const int64_t last[OUTBOX_LANES], unsigned timeout_ms)
{
    (void)context, (void)last, (void)timeout_ms;
    return OUTBOX_OK;
}

/* Another process: nobody tells. On one connection: the forwarder itself. */
static int64_t on_acked(void *context, outbox_lane lane)
{
    const struct sim *sim = context;
    return sim->profile->one_connection && sim->node.forwarder
               ? outbox_forwarder_acked(sim->node.forwarder, lane)
               : 0;
}

static void on_stop(void *context)
{
    (void)context;
}

static bool connect(struct sim *sim, struct writer *writer)
{
    const struct settings *settings = &sim->settings;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    writer->attempts = 0;
    writer->transaction = 0;
    return sqlite3_open_v2("app.db", &writer->db, flags, device_vfs_name(PROCESS_APP)) ==
               SQLITE_OK &&
           run(sim, writer, "PRAGMA synchronous = %s", settings->synchronous[writer->index]) ==
               SQLITE_OK &&
           run(sim, writer, "PRAGMA wal_autocheckpoint = %u", settings->autocheckpoint) ==
               SQLITE_OK &&
           sqlite3_busy_timeout(writer->db, 3) == SQLITE_OK;
}

bool app_make_database(struct sim *sim)
{
    struct writer *writer = &sim->writers[0];
    bool made = connect(sim, writer) &&
                run(sim, writer, "PRAGMA journal_mode = %s", sim->settings.journal) == SQLITE_OK &&
                run(sim, writer,
                    "CREATE TABLE ledger(tx INTEGER PRIMARY KEY);"
                    "CREATE TABLE business(k INTEGER PRIMARY KEY CHECK(k >= 0), v);"
                    "CREATE TABLE thing(k INTEGER PRIMARY KEY, v)") == SQLITE_OK;
    app_close(sim, writer);
    disk_sync_directory(&sim->device.disk);
    return made;
}

static bool attach(struct sim *sim, struct writer *writer)
{
    static const outbox_service service = {.version = 1,
                                           .committed = on_committed,
                                           .stats = on_stats,
                                           .flush = on_flush,
                                           .acked = on_acked,
                                           .stop = on_stop};
    char sentence[200] = "";
    outbox_config config = {.device = "sim",
                            .payload_max = sim->settings.payload_max,
                            .small_heap = sim->settings.forwarder.small_heap,
                            .sentence = sentence,
                            .sentence_size = sizeof sentence};
    memcpy(config.limits, sim->settings.limits, sizeof config.limits);
    int code = outbox_attach(writer->db, &config, &writer->box);
    oracle_code(sim, "attach", code);
    trace_event(sim, "attach", writer->index, (uint64_t)-code);
    if (code != OUTBOX_OK) {
        tell(sim, "writer %u cannot attach: %s", writer->index, sentence);
        return false;
    }
    if (outbox_bind(writer->box, &service, sim) != OUTBOX_OK)
        breaks(sim, CONTRACT, "the service cannot be bound");
    return true;
}

bool app_open(struct sim *sim, struct writer *writer)
{
    bool is_foreign = sim->settings.is_foreign[writer->index];
    /* No pragma here: a rollback mode other than DELETE belongs to the connection. */
    bool opened = connect(sim, writer) &&
                  (sim->settings.is_wal || run(sim, writer, "PRAGMA journal_mode = %s",
                                               sim->settings.journal) == SQLITE_OK) &&
                  (is_foreign || attach(sim, writer));
    if (!opened)
        app_close(sim, writer);
    writer->due = sim->device.now_us + (opened ? 0 : RETRY_US);
    return opened;
}

void app_close(struct sim *sim, struct writer *writer)
{
    bool was_open = writer->transaction != 0;
    if (sim->profile->one_connection && sim->node.db)
        node_close(sim);
    if (writer->db && was_open)
        tell(sim, "writer %u closes its connection in transaction %u", writer->index,
             writer->transaction);
    outbox_detach(writer->box);
    writer->box = NULL;
    if (writer->db && sqlite3_close(writer->db) != SQLITE_OK)
        breaks(sim, BOUNDED_MEMORY, "the application's connection does not close");
    writer->db = NULL;
    if (was_open)
        rolled_back(sim, writer);
    writer->due = sim->device.now_us + RETRY_US;
}
