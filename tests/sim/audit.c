/* SPDX-License-Identifier: MIT
 *
 * audit.c - what may be in the database after a restart, and what must be in it at the end. It
 * reads the tables, and never what the core thinks.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- What is there: I1, I2, I6 --------------------------------------------------------------- */

struct found {
    uint8_t *transactions; /* by number: in the ledger */
    uint8_t *rows;         /* by event: in the table */
    struct {
        int64_t tombstone, lowest, largest;
    } lanes[OUTBOX_LANES];
    bool failed;
};

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    return sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK ? statement : NULL;
}

static void find_transactions(struct sim *sim, sqlite3 *db, struct found *found)
{
    int result = SQLITE_ERROR;
    sqlite3_stmt *s = prepare(db, "SELECT tx FROM ledger");
    while (s && (result = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t tx = sqlite3_column_int64(s, 0);
        if (tx < 1 || tx > sim->model.transaction_count)
            breaks(sim, ATOMICITY, "the ledger has a transaction %" PRId64, tx);
        else
            found->transactions[tx] = 1;
    }
    found->failed = found->failed || result != SQLITE_DONE;
    (void)sqlite3_finalize(s);
}

static const char *text(sqlite3_stmt *s, int column)
{
    return (const char *)sqlite3_column_text(s, column);
}

static bool has_headers(const struct model_event *e, const char *headers)
{
    char expected[40];
    const char *correlation = model_correlation(e);
    sqlite3_snprintf(sizeof expected, expected, MODEL_HEADER "%s\n", correlation);
    return is_same_text(headers, correlation ? expected : NULL);
}

/* Columns from 2: payload, topic, content type, type, key, retain, expires, keep_last, headers. */
static bool is_as_stored(const struct sim *sim, uint32_t event, sqlite3_stmt *s)
{
    const struct model_event *e = &sim->model.events[event - 1];
    struct wire wire = {.has_data = true, .size = (size_t)sqlite3_column_bytes(s, 2)};
    const char *topic = (const char *)sqlite3_column_text(s, 3);
    char expected[16];
    if (e->body == BODY_CHANGE && !topic) /* a dead letter is whole */
        return change_is_stored(e, sqlite3_db_handle(s));
    model_topic(sim, e, expected);
    wire.data = sqlite3_column_blob(s, 2);
    return topic && strcmp(topic, expected) == 0 && wire_has_body(sim, event, &wire) &&
           is_same_text(text(s, 4), model_content_type(e->body)) &&
           is_same_text(text(s, 5), model_type(e)) && is_same_text(text(s, 6), model_key(e)) &&
           (sqlite3_column_int(s, 7) != 0) == model_is_retained(e) &&
           age_is_stored(e, sqlite3_column_int64(s, 8)) &&
           (sqlite3_column_int(s, 9) != 0) == e->keep_last && has_headers(e, text(s, 10));
}

/* An event in doubt whose id was given to another since, and which is there in place of that. */
static uint32_t find_in_doubt(struct sim *sim, outbox_lane lane, int64_t id, sqlite3_stmt *s)
{
    struct model *model = &sim->model;
    for (uint32_t event = model->event_count; event > 0; event--) {
        const struct model_event *e = model_event(model, event);
        if (e->lane != lane || e->id != id || e->fate != IN_DOUBT || !is_as_stored(sim, event, s))
            continue;
        model_named(model, event, id);
        return event;
    }
    return 0;
}

static void find_rows(struct sim *sim, sqlite3 *db, outbox_lane lane, struct found *found)
{
    int result = SQLITE_ERROR;
    char sql[200];
    sqlite3_snprintf(sizeof sql, sql,
                     "SELECT id, ledger IS NOT NULL, payload, topic, content_type, type, key,"
                     " retain, expires, keep_last, headers FROM %s ORDER BY id",
                     lane_table(lane));
    sqlite3_stmt *s = prepare(db, sql);
    while (s && (result = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(s, 0);
        uint32_t event = model_owner(&sim->model, lane, id);
        if (found->lanes[lane].lowest == 0)
            found->lanes[lane].lowest = id;
        found->lanes[lane].largest = id;
        if (sqlite3_column_int(s, 1)) {
            found->lanes[lane].tombstone = id;
            continue;
        }
        if (!event || !is_as_stored(sim, event, s))
            event = find_in_doubt(sim, lane, id, s);
        if (event)
            found->rows[event] = 1;
        else
            breaks(sim, NO_INVENTION, "%s row %" PRId64 " is not what anybody stored",
                   lane_name(lane), id);
    }
    found->failed = found->failed || result != SQLITE_DONE;
    (void)sqlite3_finalize(s);
}

static bool has_left(const struct found *found, const struct model_event *e)
{
    return e->id <= found->lanes[e->lane].tombstone;
}

/* Whether the transaction is there; one without a ledger row is if its event's row is. */
static bool is_there(struct sim *sim, const struct found *found, uint32_t number)
{
    struct model *model = &sim->model;
    const struct model_transaction *t = model_transaction(model, number);
    if (t->has_ledger || t->first == 0)
        return found->transactions[number] != 0;
    const struct model_event *e = model_event(model, t->first);
    return found->rows[t->first] || (t->fate == COMMITTED && has_left(found, e));
}

static void check_whole(struct sim *sim, const struct found *found, uint32_t number, bool there)
{
    struct model *model = &sim->model;
    uint32_t event = model_transaction(model, number)->first;
    for (; event; event = model_event(model, event)->next_in_transaction) {
        const struct model_event *e = model_event(model, event);
        if (there && e->fate != ABORTED && !found->rows[event] && !has_left(found, e))
            breaks(sim, ATOMICITY, "transaction %u is there, its " EVENT " is not", number,
                   EVENT_OF(e));
        if ((!there || e->fate == ABORTED) && found->rows[event])
            breaks(sim, ATOMICITY, "transaction %u is not there, its " EVENT " is", number,
                   EVENT_OF(e));
    }
}

/* Of each lane: what was lost and what was kept of that which had committed. */
struct losses {
    uint32_t first_lost[OUTBOX_LANES], last_kept[OUTBOX_LANES];
};

/* A committed transaction is gone. Allowed for those that were not durable, from the end,
 * unsent. */
static void lose(struct sim *sim, uint32_t number, struct losses *losses)
{
    struct model *model = &sim->model;
    uint32_t event = model_transaction(model, number)->first;
    for (; event; event = model_event(model, event)->next_in_transaction) {
        const struct model_event *e = model_event(model, event);
        uint32_t *first_lost = &losses->first_lost[e->lane];
        if (e->fate != COMMITTED)
            continue;
        if (e->connection > 0)
            breaks(sim, NO_PHANTOM, EVENT " was sent and transaction %u is gone", EVENT_OF(e),
                   number);
        else if (e->order <= model->lanes[e->lane].durable)
            breaks(sim, NO_LOSS, EVENT " was durable and is gone", EVENT_OF(e));
        if (e->order && e->order < *first_lost)
            *first_lost = e->order;
    }
    tell(sim, "transaction %u is gone, as it may be", number);
}

static void keep(struct sim *sim, uint32_t number, struct losses *losses)
{
    uint32_t event = model_transaction(&sim->model, number)->first;
    for (; event; event = model_event(&sim->model, event)->next_in_transaction) {
        const struct model_event *e = model_event(&sim->model, event);
        if (e->order > losses->last_kept[e->lane])
            losses->last_kept[e->lane] = e->order;
    }
}

static void forget_lost(struct sim *sim, const struct losses *losses)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (losses->first_lost[i] < losses->last_kept[i])
            breaks(sim, NO_LOSS, "what was lost is not the end of what was committed");
    for (int i = 0; i < OUTBOX_LANES && sim->broken == NO_INVARIANT; i++)
        if (losses->first_lost[i] != UINT32_MAX)
            model_forget_order(&sim->model, &sim->model.lanes[i], losses->first_lost[i]);
}

static void resolve_each(struct sim *sim, const struct found *found, bool power_was_cut)
{
    struct model *model = &sim->model;
    struct losses losses = {.first_lost = {UINT32_MAX, UINT32_MAX}};
    for (uint32_t number = 1; number <= model->transaction_count; number++) {
        const struct model_transaction *t = model_transaction(model, number);
        bool there = is_there(sim, found, number);
        check_whole(sim, found, number, there);
        if (t->fate == COMMITTED && there)
            keep(sim, number, &losses);
        else if (t->fate == COMMITTED)
            lose(sim, number, &losses);
        if (t->fate == ABORTED && there)
            breaks(sim, ATOMICITY, "transaction %u was rolled back and is there", number);
    }
    forget_lost(sim, &losses);
    if (sim->broken != NO_INVARIANT)
        return;
    for (uint32_t number = 1; number <= model->transaction_count; number++) {
        enum fate fate = model_transaction(model, number)->fate;
        bool there = is_there(sim, found, number);
        if (fate == IN_DOUBT && there) {
            tell(sim, "transaction %u, which was in doubt, is there", number);
            model_commit(model, number, sim->device.now_us);
        } else if (!there && fate != ABORTED && (fate != IN_DOUBT || power_was_cut)) {
            model_abort(model, number); /* in doubt: the next power cut may still bring it back */
        }
    }
}

/* ---- The ledgers: I14 ------------------------------------------------------------------------ */

static int64_t number(sqlite3 *db, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    sqlite3_stmt *s = sql ? prepare(db, sql) : NULL;
    int64_t value = s && sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -1;
    (void)sqlite3_finalize(s);
    sqlite3_free(sql);
    return value;
}

static void check_count(struct sim *sim, outbox_lane lane, const char *what, int64_t is,
                        int64_t expected)
{
    if (is != expected)
        breaks(sim, LEDGER, "%" PRId64 " %s events count as %s, not %" PRId64, is, lane_name(lane),
               what, expected);
}

/* All that is up to the tombstone has left and is counted; what is behind it waits. */
static void check_lane(struct sim *sim, sqlite3 *db, outbox_lane lane, const struct found *found,
                       const outbox_lane_counts *counts)
{
    int64_t tombstone = found->lanes[lane].tombstone, largest = found->lanes[lane].largest;
    uint64_t left[OUTCOMES];
    uint32_t sum = model_count(&sim->model, &sim->model.lanes[lane], tombstone, left);
    const struct {
        const char *what;
        int64_t is, expected;
    } numbers[] = {
        {"delivered", counts->delivered, (int64_t)left[DELIVERED]},
        {"expired", counts->expired, (int64_t)left[EXPIRED]},
        {"evicted", counts->evicted, (int64_t)left[EVICTED]},
        {"superseded", counts->superseded, (int64_t)left[SUPERSEDED]},
        {"dead letters", counts->dead_lettered, (int64_t)left[DEAD]},
        {"holes", counts->holes, tombstone - sum},
        {"pending", counts->pending, largest - tombstone},
        {"accepted", counts->accepted, sum + largest - tombstone},
        {"the last", counts->last_id, largest},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        check_count(sim, lane, numbers[i].what, numbers[i].is, numbers[i].expected);
    int64_t dead =
        number(db, "SELECT count(*) FROM outbox_dead WHERE lane = '%s'", lane_name(lane));
    if (dead >= 0) /* else a call failed */
        check_count(sim, lane, "dead letters that are kept", dead, counts->dead_lettered);
}

/* Of each lane and reason one announcement at most is on its way. */
static void check_announcements(struct sim *sim, sqlite3 *db, outbox_lane lane)
{
    int64_t most = number(db,
                          "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM %s"
                          " WHERE type = 'outbox.dropped' GROUP BY payload->>'reason')",
                          lane_table(lane));
    if (most > 1)
        breaks(sim, LEDGER, "%" PRId64 " %s announcements of one reason wait", most,
               lane_name(lane));
}

static void check_sums(struct sim *sim, const outbox_statistics *now)
{
    const outbox_lane_counts *n = &now->lanes[OUTBOX_NORMAL], *u = &now->lanes[OUTBOX_URGENT];
    if (now->pending != n->pending + u->pending || now->accepted != n->accepted + u->accepted ||
        now->delivered != n->delivered + u->delivered ||
        now->dead_lettered != n->dead_lettered + u->dead_lettered ||
        now->holes != n->holes + u->holes)
        breaks(sim, LEDGER, "the statistics are not the sums of both lanes");
}

/* Where a hand was in a lane its counts may have begun anew. */
static void check_ledgers(struct sim *sim, sqlite3 *db, const struct found *found)
{
    outbox_statistics now;
    if (outbox_inspect(db, &now, NULL, 0) != OUTBOX_OK)
        return; /* a call failed, or the tombstone is gone: at the end that is judged */
    check_sums(sim, &now);
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (!sim->model.lanes[i].epoch_changes) {
            check_lane(sim, db, (outbox_lane)i, found, &now.lanes[i]);
            check_announcements(sim, db, (outbox_lane)i);
        }
}

/* ---- After a start --------------------------------------------------------------------------- */

static void resolve_lane(struct sim *sim, outbox_lane number, struct found *found,
                         bool power_was_cut)
{
    struct model_lane *lane = &sim->model.lanes[number];
    int64_t *tombstone = &found->lanes[number].tombstone, lowest = found->lanes[number].lowest;
    if (lane->epoch_changes && *tombstone == 0 && lowest > 0)
        *tombstone = lowest - 1; /* somebody deleted it; nothing else left since */
    if (!power_was_cut)
        return;
    lane->settled = 0; /* a settle may be undone */
    if (!lane->epoch_changes && *tombstone < lane->seen.id)
        ledger_rewind(sim, number, *tombstone);
}

static void resolve(struct sim *sim, sqlite3 *db, struct found *found, bool power_was_cut)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        resolve_lane(sim, (outbox_lane)i, found, power_was_cut);
    resolve_each(sim, found, power_was_cut);
    if (sim->broken != NO_INVARIANT)
        return;
    ledger_look(sim, db);
    limits_undone(sim, NULL, false); /* no transaction is open */
    for (int i = 0; i < OUTBOX_LANES; i++)
        oracle_left(sim, (outbox_lane)i, found->lanes[i].tombstone);
    if (power_was_cut)
        model_all_durable(&sim->model);
    for (int i = 0; i < OUTBOX_LANES && power_was_cut; i++)
        sim->model.lanes[i].floor = found->lanes[i].tombstone;
    check_ledgers(sim, db, found);
}

bool audit_resolve(struct sim *sim, sqlite3 *db, bool power_was_cut)
{
    struct model *model = &sim->model;
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (!drops_discover(sim, db, (outbox_lane)i))
            return false; /* a row that is not known would be taken for an invention */
    struct found found = {.transactions = calloc(model->transaction_count + 1, 1),
                          .rows = calloc(model->event_count + 1, 1)};
    if (!found.transactions || !found.rows)
        abort();
    find_transactions(sim, db, &found);
    for (int i = 0; i < OUTBOX_LANES; i++)
        find_rows(sim, db, (outbox_lane)i, &found);
    if (!found.failed)
        resolve(sim, db, &found, power_was_cut);
    free(found.transactions);
    free(found.rows);
    return !found.failed;
}

/* ---- The end --------------------------------------------------------------------------------- */

/* What is said of a dead letter is why it is one. */
static bool is_reason(const struct model_event *e, const char *text)
{
    char reason[32];
    if (!text || !*text)
        return false;
    sqlite3_snprintf(sizeof reason, reason, "reason 0x%02x", (unsigned)e->reason);
    if (e->body == BODY_UNFIT)
        return strstr(text, "broker") == NULL;
    return e->may_die && strstr(text, e->reason ? reason : "hung up") != NULL;
}

/* A dead letter is kept as it was stored. */
static void check_dead_letters(struct sim *sim, sqlite3 *db, outbox_lane lane)
{
    int result = SQLITE_ERROR;
    char sql[200];
    sqlite3_snprintf(sizeof sql, sql,
                     "SELECT id, reason, payload, topic, content_type, type, key, retain,"
                     " expires, keep_last, headers FROM outbox_dead WHERE lane = '%s'",
                     lane_name(lane));
    sqlite3_stmt *s = prepare(db, sql);
    while (s && (result = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(s, 0);
        uint32_t event = model_owner(&sim->model, lane, id);
        if (!event || !is_as_stored(sim, event, s) ||
            !is_reason(model_event(&sim->model, event), text(s, 1)))
            breaks(sim, NO_LOSS, "%s dead letter %" PRId64 " is not what somebody stored",
                   lane_name(lane), id);
    }
    if (result != SQLITE_DONE)
        breaks(sim, RECOVERY, "the dead letters cannot be read");
    (void)sqlite3_finalize(s);
}

/* Behind a last audit_resolve(), which has compared the counts. */
void audit_at_end(struct sim *sim, sqlite3 *db)
{
    outbox_statistics now;
    char sentence[200] = "";
    int code = outbox_inspect(db, &now, sentence, sizeof sentence);
    if (code != OUTBOX_OK)
        breaks(sim, RECOVERY, "the outbox cannot be read: %s", sentence);
    else if (number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") != 1)
        breaks(sim, RECOVERY, "the database is damaged");
    else if (now.pending != 0)
        breaks(sim, NO_LOSS, "%" PRId64 " events are pending", now.pending);
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        check_dead_letters(sim, db, (outbox_lane)i);
    change_at_end(sim, db);
}
