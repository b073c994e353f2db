/* SPDX-License-Identifier: MIT
 *
 * writer.c - attach, put, detach: the application's side, on the application's connection.
 *
 * A put is one INSERT into outbox_event inside the application's transaction, so a crash leaves
 * the event if and only if it leaves that transaction. All else here is memory: when the commit is
 * visible the forwarder is woken and told which events the commit has made durable. That claim is
 * made only for events whose commit this handle has seen, with the synchronous level that it read
 * before; whatever is in doubt (a savepoint undone, another writer) is claimed to nobody, and the
 * forwarder then syncs before it sends.
 */
#include "writer.h"

#include "capture_check.h"
#include "expiry.h"
#include "schema.h"
#include "sql.h"
#include "text.h"

#include <assert.h>
#include <string.h>

#define OB_OLDEST_SQLITE 3034000 /* sqlite3_txn_state() */

/* ---- The transaction as SQLite tells it -------------------------------------------------------- */

static void forget_puts(outbox *box)
{
    memset(box->last_put, 0, sizeof box->last_put);
}

static void on_began(void *context)
{
    outbox *box = context;
    box->touched = true;
    box->is_judged = false;
    forget_puts(box);
}

static void on_committed(void *context)
{
    outbox *box = context;
    int64_t durable[OUTBOX_LANES] = {0};
    if (box->is_durable)
        memcpy(durable, box->last_put, sizeof durable);
    box->touched = box->is_judged = false;
    forget_puts(box);
    if (box->service)
        box->service->committed(box->service_context, durable);
}

/* What was undone may have made room before. */
static void forget_fill(outbox *box)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        box->fill[i].is_known = false;
}

static void on_undone(void *context)
{
    outbox *box = context;
    box->touched = box->is_judged = false;
    forget_puts(box);
    forget_fill(box);
}

/* Which events the savepoint took with it is not known here, so none is claimed to be durable:
 * an id that was given back may be taken next by a writer that does not sync. */
static void on_partly_undone(void *context)
{
    outbox *box = context;
    forget_puts(box);
    forget_fill(box);
}

static void on_release_statements(void *context)
{
    outbox *box = context;
    for (int i = 0; i < OB_PUT_STATEMENTS; i++) {
        (void)sqlite3_finalize(box->statement[i]); /* repeats what the last step said */
        box->statement[i] = NULL;
    }
    for (int i = 0; i < OUTBOX_LANES; i++)
        ob_table_close(&box->table[i]);
}

static void on_closed(void *context)
{
    outbox *box = context;
    assert(!box->wakeup.db);
    box->touched = false;
    if (box->is_orphan)
        sqlite3_free(box);
}

void ob_writer_leave(outbox *box)
{
    if (!box)
        return;
    assert(!box->service);
    box->is_orphan = true;
    if (!box->wakeup.db)
        sqlite3_free(box);
}

static const struct ob_wakeup_methods on_wakeup = {
    .began = on_began,
    .committed = on_committed,
    .undone = on_undone,
    .partly_undone = on_partly_undone,
    .release_statements = on_release_statements,
    .closed = on_closed,
};

/* ---- Attach ----------------------------------------------------------------------------------- */

static const char *warning_of(enum ob_journal journal, int synchronous)
{
    if (journal == OB_JOURNAL_MEMORY)
        return "journal_mode is MEMORY: a crash in a commit can damage the database, so events are "
               "neither atomic nor durable across a crash; use WAL";
    if (synchronous == 0)
        return "synchronous is OFF: a power cut can damage the database, so events are neither "
               "atomic nor durable across it; use FULL";
    if (ob_sql_is_durable(journal, synchronous))
        return NULL;
    if (journal == OB_JOURNAL_UNKNOWN || synchronous < 0)
        return "journal_mode or synchronous cannot be read, so a power cut may undo the newest "
               "commits, though none whose events were sent; allow both pragmas";
    if (journal == OB_JOURNAL_DELETE)
        return "synchronous is below EXTRA in journal_mode DELETE: a power cut may undo the newest "
               "commits, though none whose events were sent; use EXTRA, or WAL with FULL";
    return "synchronous is below FULL: a power cut may undo the newest commits, though none whose "
           "events were sent; use FULL";
}

/* Reads what a commit of the connection can promise. */
static int judge_settings(sqlite3 *db, outbox *box)
{
    struct ob_error ignored; /* what cannot be read is not durable */
    int synchronous;
    enum ob_journal journal = ob_sql_journal(db);
    (void)ob_sql_synchronous(db, &synchronous, &ignored);
    if (journal == OB_JOURNAL_OFF)
        return ob_error_set(&box->error, OUTBOX_UNSAFE_JOURNAL,
                            "journal_mode is OFF, so nothing can be rolled back; use WAL");
    box->is_durable = ob_sql_is_durable(journal, synchronous);
    box->warning = warning_of(journal, synchronous);
    return OUTBOX_OK;
}

static int check_connection(sqlite3 *db, outbox *box)
{
    if (sqlite3_libversion_number() < OB_OLDEST_SQLITE)
        return ob_error_set(&box->error, OUTBOX_OLD_SQLITE,
                            "this is SQLite %s; link 3.34.0 or newer", sqlite3_libversion());
    if (!sqlite3_get_autocommit(db))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a transaction is open; attach before it or after it");
    if (sqlite3_db_readonly(db, "main") == 1)
        return ob_error_set(&box->error, OUTBOX_READONLY,
                            "the database was opened read-only; open it for writing");
    return judge_settings(db, box);
}

static int check_config(const outbox_config *config, outbox *box)
{
    if (config->device && !ob_text_is_device(config->device, strlen(config->device)))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a device name has 1 to %d of the characters A-Z a-z 0-9 . _ ~ -",
                            OUTBOX_ATTRIBUTE_MAX);
    if (config->payload_max > OUTBOX_PAYLOAD_CAP)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "payload_max is over %d bytes",
                            OUTBOX_PAYLOAD_CAP);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        const outbox_limit *limit = &config->limits[i];
        if (limit->max_events < OUTBOX_UNLIMITED || limit->max_events > OUTBOX_ID_MAX ||
            limit->max_bytes < OUTBOX_UNLIMITED || limit->max_bytes > OUTBOX_ID_MAX ||
            (limit->when_full != OUTBOX_REJECT && limit->when_full != OUTBOX_EVICT_OLDEST))
            return ob_error_set(&box->error, OUTBOX_MISUSE,
                                "a limit of the %s lane is out of range: 0 to 2^48, or "
                                "OUTBOX_UNLIMITED",
                                ob_lane_name((outbox_lane)i));
    }
    return OUTBOX_OK;
}

/* Whether the device's name or a limit is to be another one than is stored. */
static int has_wishes(sqlite3 *db, const outbox_config *config, outbox *box, bool *wishes)
{
    char stored[OUTBOX_ATTRIBUTE_MAX + 1];
    int code = OUTBOX_OK;
    *wishes = false;
    if (config->device) {
        code = ob_schema_device(db, stored, &box->error);
        *wishes = code == OUTBOX_CORRUPT || strcmp(stored, config->device) != 0;
        if (code == OUTBOX_CORRUPT) /* it gets this name */
            code = OUTBOX_OK;
    }
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++) {
        struct ob_limit limit;
        code = ob_limit_load(db, (outbox_lane)i, &limit, &box->error);
        *wishes = *wishes || ob_limit_apply(&config->limits[i], &limit);
    }
    return code;
}

/* Does the tables' work only where there is some, so that a second attach writes nothing. */
static int ensure_schema(sqlite3 *db, const outbox_config *config, outbox *box)
{
    enum ob_schema_found found;
    bool wishes = true;
    int code = ob_schema_find(db, &found, &box->error);
    if (code == OUTBOX_OK && found == OB_SCHEMA_PRESENT)
        code = has_wishes(db, config, box, &wishes);
    if (code == OUTBOX_OK && wishes)
        code = ob_schema_make(db, config->device, config->limits, &box->error);
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = ob_limit_load(db, (outbox_lane)i, &box->limit[i], &box->error);
    return code;
}

static int attach(outbox *box, sqlite3 *db, const outbox_config *config)
{
    int code = check_config(config, box);
    if (code == OUTBOX_OK)
        code = check_connection(db, box);
    if (code != OUTBOX_OK)
        return code;
    box->payload_max = config->payload_max ? config->payload_max : OUTBOX_PAYLOAD_MAX;
    box->vfs = ob_sql_vfs(db);
    /* Registered first: it fails on a connection that is attached already, and takes back nothing
     * but itself when the tables cannot be made. */
    code = ob_wakeup_register(&box->wakeup, db, &on_wakeup, box, &box->error);
    if (code == OUTBOX_OK)
        code = ensure_schema(db, config, box);
    if (code == OUTBOX_OK)
        ob_capture_note_drift(box);
    else
        ob_wakeup_unregister(&box->wakeup);
    return code;
}

static void say(const outbox_config *config, const char *sentence)
{
    if (config->sentence && config->sentence_size > 0)
        sqlite3_snprintf((int)config->sentence_size, config->sentence, "%s", sentence);
}

int outbox_attach(sqlite3 *db, const outbox_config *config, outbox **box)
{
    static const outbox_config defaults;
    if (!box)
        return OUTBOX_MISUSE;
    *box = NULL;
    if (!db)
        return OUTBOX_MISUSE;
    if (!config)
        config = &defaults;
    outbox *made = sqlite3_malloc((int)sizeof *made);
    if (!made) {
        say(config, outbox_strerror(OUTBOX_NO_MEMORY));
        return OUTBOX_NO_MEMORY;
    }
    memset(made, 0, sizeof *made);
    int code = attach(made, db, config);
    if (code != OUTBOX_OK) {
        say(config, made->error.sentence);
        sqlite3_free(made);
        return code;
    }
    *box = made;
    return OUTBOX_OK;
}

const char *outbox_errmsg(const outbox *box)
{
    if (!box || box->error.code == OUTBOX_OK)
        return outbox_strerror(OUTBOX_OK);
    return box->error.sentence;
}

const char *outbox_warning(const outbox *box)
{
    if (!box || box->warning || !box->has_drift)
        return box ? box->warning : NULL;
    return "a captured table or its triggers have changed, so its changes may not be captured; "
           "call "
           "outbox_capture_doctor(), then outbox_capture_resume()";
}

void outbox_detach(outbox *box)
{
    if (!box)
        return;
    if (box->service)
        (void)outbox_stop(box); /* fails only when nothing runs */
    assert(!box->service);
    ob_wakeup_unregister(&box->wakeup);
    sqlite3_free(box);
}

/* ---- Put --------------------------------------------------------------------------------------- */

static int check_attribute(outbox *box, const char *name, const char *value)
{
    if (!value || ob_text_is_attribute(value, strlen(value)))
        return OUTBOX_OK;
    return ob_error_set(&box->error, OUTBOX_BAD_ATTRIBUTE,
                        "the %s is empty, over %d bytes, not UTF-8 or holds a control character",
                        name, OUTBOX_ATTRIBUTE_MAX);
}

static int check_payload(outbox *box, const outbox_event *event, enum ob_media media)
{
    if (event->payload_len > box->payload_max)
        return ob_error_set(&box->error, OUTBOX_TOO_LARGE,
                            "the payload has %lld bytes, payload_max is %lld",
                            (long long)event->payload_len, (long long)box->payload_max);
    if (media == OB_MEDIA_JSON && !ob_json_is_value(event->payload, event->payload_len))
        return ob_error_set(&box->error, OUTBOX_BAD_PAYLOAD,
                            "the content type is JSON and the payload is not one JSON value");
    if (media == OB_MEDIA_TEXT && !ob_text_is_utf8(event->payload, event->payload_len))
        return ob_error_set(&box->error, OUTBOX_BAD_PAYLOAD,
                            "the content type is text and the payload is not UTF-8");
    return OUTBOX_OK;
}

static int check_event(outbox *box, const outbox_event *event, enum ob_media *media)
{
    if (!event || (event->payload_len > 0 && !event->payload))
        return ob_error_set(&box->error, OUTBOX_MISUSE, "the event or its payload is NULL");
    if (!event->topic || !ob_text_is_topic(event->topic, strlen(event->topic)))
        return ob_error_set(&box->error, OUTBOX_BAD_TOPIC,
                            "a topic has 1 to %d bytes of UTF-8 without '+', '#' and controls",
                            OUTBOX_TOPIC_MAX);
    if (event->lane != OUTBOX_NORMAL && event->lane != OUTBOX_URGENT)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "there is no lane %d", (int)event->lane);
    if (event->ttl_ms < 0 || event->ttl_ms > OUTBOX_TTL_MAX)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "ttl_ms is negative or over 2^46");
    int code = check_attribute(box, "type", event->type);
    if (code == OUTBOX_OK)
        code = check_attribute(box, "content type", event->content_type);
    if (code == OUTBOX_OK)
        code = check_attribute(box, "key", event->key);
    if (code == OUTBOX_OK && event->keep_last && !event->key)
        code = ob_error_set(&box->error, OUTBOX_BAD_ATTRIBUTE,
                            "keep_last is set and there is no key: give one");
    if (code != OUTBOX_OK)
        return code;
    *media = event->content_type ? ob_text_media(event->content_type, strlen(event->content_type))
                                 : OB_MEDIA_OTHER;
    return check_payload(box, event, *media);
}

static bool has_limit(const outbox *box, outbox_lane lane)
{
    return box->limit[lane].max_events > 0 || box->limit[lane].max_bytes > 0;
}

static int prepare_lane(outbox *box, outbox_lane lane)
{
    sqlite3 *db = box->wakeup.db;
    bool is_measured = box->limit[lane].max_bytes > 0;
    enum ob_table_sql which = is_measured ? OB_SQL_PUT_MEASURED : OB_SQL_PUT;
    int place = (is_measured ? OB_PUT_MEASURED : OB_PUT_INSERT) + (int)lane;
    int code = ob_sql_prepare(db, ob_lane_sql(lane, which), &box->statement[place], &box->error);
    if (code == OUTBOX_OK && has_limit(box, lane) && !box->table[lane].db)
        code = ob_table_open(&box->table[lane], db, lane, &box->error);
    return code;
}

static sqlite3_stmt *insert_statement(const outbox *box, outbox_lane lane)
{
    return box
        ->statement[(box->limit[lane].max_bytes > 0 ? OB_PUT_MEASURED : OB_PUT_INSERT) + (int)lane];
}

static int prepare_put(outbox *box)
{
    static const char *const sql[OB_PUT_STATEMENTS] = {
        [OB_PUT_TOUCH] = "INSERT INTO outbox_commit(touch) VALUES(1)",
        [OB_PUT_SAVEPOINT] = "SAVEPOINT outbox_put",
        [OB_PUT_RELEASE] = "RELEASE outbox_put",
    };
    int code = ob_wakeup_connect(&box->wakeup, &box->error);
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = prepare_lane(box, (outbox_lane)i);
    for (int i = OB_PUT_TOUCH; i < OB_PUT_STATEMENTS && code == OUTBOX_OK; i++) {
        code = ob_sql_prepare(box->wakeup.db, sql[i], &box->statement[i], &box->error);
        if (i == OB_PUT_TOUCH && code == OUTBOX_SQLITE) { /* denied, see touch() */
            ob_error_clear(&box->error);
            code = OUTBOX_OK;
        }
    }
    return code;
}

static int bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    return text ? sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC)
                : sqlite3_bind_null(statement, index);
}

/* The payload's storage class is what tells readers of the table text from bytes. */
static int bind_payload(sqlite3_stmt *statement, int index, const outbox_event *event,
                        enum ob_media media)
{
    const void *payload = event->payload_len > 0 ? event->payload : "";
    if (media == OB_MEDIA_OTHER)
        return sqlite3_bind_blob64(statement, index, payload, event->payload_len, SQLITE_STATIC);
    return sqlite3_bind_text64(statement, index, payload, event->payload_len, SQLITE_STATIC,
                               SQLITE_UTF8);
}

static int bind_event(outbox *box, const outbox_event *event, enum ob_media media)
{
    sqlite3_stmt *statement = insert_statement(box, event->lane);
    int64_t now = ob_sql_now(box->vfs);
    int result = bind_text(statement, 1, event->topic);
    if (result == SQLITE_OK)
        result = bind_payload(statement, 2, event, media);
    if (result == SQLITE_OK)
        result = sqlite3_bind_int64(statement, 3, now);
    if (result == SQLITE_OK)
        result =
            event->retain ? sqlite3_bind_int(statement, 4, 1) : sqlite3_bind_null(statement, 4);
    if (result == SQLITE_OK)
        result = bind_text(statement, 5, event->type);
    if (result == SQLITE_OK)
        result = bind_text(statement, 6, event->content_type);
    if (result == SQLITE_OK)
        result = bind_text(statement, 7, event->key);
    if (result == SQLITE_OK && event->ttl_ms > 0)
        result = sqlite3_bind_int64(statement, 8, ob_expiry_at_put(event->ttl_ms, now));
    if (result == SQLITE_OK && event->keep_last)
        result = sqlite3_bind_int(statement, 9, 1);
    if (result == SQLITE_OK && box->limit[event->lane].max_bytes > 0)
        result = sqlite3_bind_int64(statement, 10, ob_limit_bytes(event));
    if (result != SQLITE_OK)
        return ob_error_sqlite(&box->error, box->wakeup.db, result, "binding the event");
    return OUTBOX_OK;
}

/* Takes the event out again. */
static int take_back(outbox *box, outbox_lane lane, int64_t id)
{
    struct ob_error why = box->error;
    int64_t ignored;
    /* Our own row has no ledger: whatever happens, the tombstone is not deleted here. */
    int code = ob_sql_number(box->wakeup.db, ob_lane_sql(lane, OB_SQL_TAKE_BACK), id, 0, 0,
                             &ignored, &box->error);
    if (code == OUTBOX_OK)
        box->error = why;
    return code;
}

/* The id behind the largest one is what SQLite gives out, unless some other writer has stored one
 * near 2^63: then it gives out random ones, and neither order nor identity would hold. */
static int refuse_id(outbox *box, outbox_lane lane, int64_t id)
{
    int code = take_back(box, lane, id);
    if (code != OUTBOX_OK)
        return code;
    return ob_error_set(&box->error, OUTBOX_BAD_ID,
                        "another writer has stored an event with an id out of range (0 to 2^48); "
                        "put again once the forwarder has moved it to outbox_dead");
}

/* Makes room for the event that was just stored, or takes it out again. */
static int keep_limit(outbox *box, outbox_lane lane, int64_t id)
{
    int64_t acked = 0;
    bool moved = false;
    if (!has_limit(box, lane))
        return OUTBOX_OK;
    if (box->service)
        acked = box->service->acked(box->service_context, lane);
    int code =
        ob_limit_keep(&box->table[lane], &box->limit[lane], id, acked, &box->fill[lane], &moved);
    /* Where SQLite has rolled all of it back, the id may be another writer's by now. */
    if (code == OUTBOX_OK || sqlite3_txn_state(box->wakeup.db, "main") != SQLITE_TXN_WRITE)
        return code;
    int taken = take_back(box, lane, id);
    return taken == OUTBOX_OK ? code : taken;
}

/* An authorizer may deny the touch, when it is prepared or when a new authorizer makes SQLite prepare
 * it again. The event is stored all the same; the forwarder then finds it by its check for other
 * writers. */
static int touch(outbox *box)
{
    int code = ob_sql_step(box->statement[OB_PUT_TOUCH], NULL, &box->error, "touching");
    if (code != OUTBOX_SQLITE || sqlite3_errcode(box->wakeup.db) != SQLITE_AUTH)
        return code;
    ob_error_clear(&box->error);
    return OUTBOX_OK;
}

/* Inserts the event into whatever transaction is open, and sees to it that its commit is heard. */
static int insert(outbox *box, const outbox_event *event, enum ob_media media, int64_t *id)
{
    sqlite3 *db = box->wakeup.db;
    sqlite3_stmt *statement = insert_statement(box, event->lane);
    int code = OUTBOX_OK;
    if (!box->touched && box->statement[OB_PUT_TOUCH])
        code = touch(box);
    if (code == OUTBOX_OK)
        code = bind_event(box, event, media);
    if (code == OUTBOX_OK)
        code = ob_sql_step(statement, NULL, &box->error, "storing the event");
    /* The payload is the caller's; leave no pointer to it behind. Cannot fail. */
    (void)sqlite3_clear_bindings(statement);
    if (code != OUTBOX_OK)
        return code;
    if (sqlite3_changes(db) != 1)
        return ob_error_set(&box->error, OUTBOX_SQLITE,
                            "a trigger on %s has ignored the event; drop the trigger",
                            ob_lane_table(event->lane));
    *id = sqlite3_last_insert_rowid(db);
    if (*id > OUTBOX_ID_MAX || *id <= 0)
        return refuse_id(box, event->lane, *id);
    code = keep_limit(box, event->lane, *id);
    if (code != OUTBOX_OK)
        return code;
    box->last_put[event->lane] = *id;
    box->is_judged = box->touched; /* else nobody tells when the transaction ends */
    return OUTBOX_OK;
}

/* Without a transaction the put makes one, so that its commit is heard like any other. */
static int insert_alone(outbox *box, const outbox_event *event, enum ob_media media, int64_t *id)
{
    int code =
        ob_sql_step(box->statement[OB_PUT_SAVEPOINT], NULL, &box->error, "opening a transaction");
    if (code != OUTBOX_OK)
        return code;
    code = insert(box, event, media, id);
    if (code == OUTBOX_OK)
        code = ob_sql_step(box->statement[OB_PUT_RELEASE], NULL, &box->error, "committing");
    if (code == OUTBOX_OK)
        return OUTBOX_OK;
    code = ob_sql_give_up(box->wakeup.db, code, &box->error);
    box->left_open = !sqlite3_get_autocommit(box->wakeup.db);
    return code;
}

/* Ends the transaction that a put before has left open, and says so: who did not heed that put's
 * error takes what was written since for committed. */
static int end_left_over(outbox *box)
{
    sqlite3 *db = box->wakeup.db;
    if (!box->left_open || sqlite3_get_autocommit(db)) {
        box->left_open = false;
        return OUTBOX_OK;
    }
    /* Without our savepoint it is another transaction, which the application has opened since. */
    int result = sqlite3_exec(db, "ROLLBACK TO outbox_put", NULL, NULL, NULL);
    box->left_open = result != SQLITE_ERROR;
    if (!box->left_open)
        return OUTBOX_OK;
    box->left_open = result != SQLITE_OK || !ob_sql_rollback(db);
    return ob_error_set(&box->error, OUTBOX_SQLITE,
                        box->left_open
                            ? "the transaction that an earlier put could not roll back is still "
                              "open: run ROLLBACK before anything else"
                            : "an earlier put could not end its transaction; it is rolled back "
                              "now with all that was written since; repeat that and put again");
}

/* In autocommit with a write under way, be it to an attached or a temporary table, we run inside a
 * statement of the application, a SQL function for instance: its transaction, which covers all
 * databases of the connection, is ours. */
static bool is_alone(sqlite3 *db)
{
    return sqlite3_get_autocommit(db) && sqlite3_txn_state(db, NULL) != SQLITE_TXN_WRITE;
}

/* What a put needs to know and to have before it writes. When memory runs out in any statement, SQLite
 * may roll the open transaction back; an event must not be stored without what it is about. */
static int get_ready(outbox *box, bool alone)
{
    int code = prepare_put(box);
    if (code == OUTBOX_OK && !box->is_judged)
        code = judge_settings(box->wakeup.db, box);
    if (code == OUTBOX_OK && !alone && is_alone(box->wakeup.db))
        code = ob_error_set(&box->error, OUTBOX_SQLITE,
                            "the journal mode and synchronous could not be read, and SQLite has "
                            "rolled the transaction back for it; begin it again");
    return code;
}

int outbox_put(outbox *box, const outbox_event *event, int64_t *id)
{
    enum ob_media media = OB_MEDIA_OTHER;
    int64_t new_id = 0;
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    sqlite3 *db = box->wakeup.db;
    if (!db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    int code = check_event(box, event, &media);
    if (code == OUTBOX_OK)
        code = end_left_over(box);
    bool alone = is_alone(db);
    if (code == OUTBOX_OK)
        code = get_ready(box, alone);
    if (code != OUTBOX_OK)
        return code;
    sqlite3_int64 rowid = sqlite3_last_insert_rowid(db);
    code = alone ? insert_alone(box, event, media, &new_id) : insert(box, event, media, &new_id);
    sqlite3_set_last_insert_rowid(db, rowid);
    if (code == OUTBOX_OK && id)
        *id = new_id;
    return code;
}

/* ---- The service behind the handle ------------------------------------------------------------- */

int outbox_bind(outbox *box, const outbox_service *service, void *context)
{
    if (!box || !service || service->version != 1)
        return OUTBOX_MISUSE;
    if (box->service)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "a forwarder runs on this handle already");
    box->service = service;
    box->service_context = context;
    return OUTBOX_OK;
}

int outbox_stop(outbox *box)
{
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!box->service)
        return ob_error_set(&box->error, OUTBOX_NOT_STARTED, "no forwarder runs on this handle");
    const outbox_service *service = box->service;
    box->service = NULL; /* a commit during the stop is nobody's to hear */
    service->stop(box->service_context);
    box->service_context = NULL;
    return OUTBOX_OK;
}

int outbox_gate(outbox *box, outbox_gate_state gate)
{
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (gate != OUTBOX_GATE_OPEN && gate != OUTBOX_GATE_CLOSED && gate != OUTBOX_GATE_URGENT_ONLY)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "there is no state %d of the gate",
                            (int)gate);
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    if (!box->service)
        return ob_error_set(&box->error, OUTBOX_NOT_STARTED, "no forwarder runs on this handle");
    box->service->gate(box->service_context, gate);
    return OUTBOX_OK;
}

/* The last pending event of each lane, 0 where there is none. */
static int find_last(outbox *box, int64_t last[OUTBOX_LANES])
{
    int code = OUTBOX_OK;
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = ob_sql_number(box->wakeup.db, ob_lane_sql((outbox_lane)i, OB_SQL_LAST_PENDING),
                             OUTBOX_ID_MAX, 0, 0, &last[i], &box->error);
    return code;
}

int outbox_flush(outbox *box, unsigned timeout_ms)
{
    int64_t last[OUTBOX_LANES] = {0};
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    if (!box->service)
        return ob_error_set(&box->error, OUTBOX_NOT_STARTED, "no forwarder runs on this handle");
    if (!sqlite3_get_autocommit(box->wakeup.db))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a transaction is open on this connection; its events cannot be sent "
                            "before it ends, so flush after it");
    int code = find_last(box, last);
    if (code != OUTBOX_OK || (last[OUTBOX_NORMAL] == 0 && last[OUTBOX_URGENT] == 0))
        return code;
    code = box->service->flush(box->service_context, last, timeout_ms);
    if (code != OUTBOX_OK)
        ob_error_set(&box->error, code, "events that were put before are not settled yet: %s",
                     outbox_strerror(code));
    return code;
}

sqlite3 *outbox_connection(const outbox *box)
{
    return box ? box->wakeup.db : NULL;
}

size_t outbox_payload_max(const outbox *box)
{
    return box ? box->payload_max : 0;
}

int outbox_fail(outbox *box, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(&box->error, code, format, arguments);
    va_end(arguments);
    return code;
}
