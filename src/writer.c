/* SPDX-License-Identifier: MIT
 *
 * writer.c - puts events into the application's transaction, and hears how that ends.
 *
 * A put is one INSERT into outbox_event inside the application's transaction, so a crash leaves
 * the event if and only if it leaves that transaction. All else here is memory: when the commit is
 * visible the forwarder is woken and told which events the commit has made durable. That claim is
 * made only for events whose commit this handle has seen, with the synchronous level that it read
 * before; whatever is in doubt (a savepoint undone, another writer) is claimed to nobody, and the
 * forwarder then syncs before it sends.
 */
#include "writer.h"

#include "expiry.h"
#include "sql.h"
#include "text.h"

#include <assert.h>
#include <string.h>

/* ---- The transaction as SQLite tells it ------------------------------------------------------ */

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
    ob_stage_begin(&box->stage);
}

/* What waited for the commit goes to the forwarder, if one runs that takes it. */
static void fire(outbox *box)
{
    struct ob_stage *stage = &box->stage;
    if (stage->used == 0)
        return;
    if (box->service && box->service->fired) {
        box->service->fired(box->service_context, stage->bytes, stage->used,
                            ob_record_count(stage->bytes, stage->used));
        ob_stage_clear(stage);
    } else {
        ob_stage_drop(stage);
    }
}

static void on_committed(void *context)
{
    outbox *box = context;
    int64_t durable[OUTBOX_LANES] = {0};
    if (box->is_durable)
        memcpy(durable, box->last_put, sizeof durable);
    box->touched = box->is_judged = false;
    forget_puts(box);
    fire(box);
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
    ob_stage_clear(&box->stage);
}

static void on_saved(void *context, int savepoint)
{
    outbox *box = context;
    ob_stage_open(&box->stage, savepoint);
}

static void on_released(void *context, int savepoint)
{
    outbox *box = context;
    ob_stage_release(&box->stage, savepoint);
}

/* Which events the savepoint took with it is not known here, so none is claimed to be durable:
 * an id that was given back may be taken next by a writer that does not sync. */
static void on_partly_undone(void *context, int savepoint)
{
    outbox *box = context;
    forget_puts(box);
    forget_fill(box);
    ob_stage_undo(&box->stage, savepoint);
}

static void release_statements(outbox *box)
{
    for (int i = 0; i < OB_PUT_STATEMENTS; i++) {
        (void)sqlite3_finalize(box->statement[i]); /* repeats what the last step said */
        box->statement[i] = NULL;
    }
    for (int i = 0; i < OUTBOX_LANES; i++)
        ob_table_close(&box->table[i]);
}

static void on_release_statements(void *context)
{
    release_statements(context);
}

static void on_outbox_closed(void *context)
{
    outbox *box = context;
    assert(!box->wakeup.db);
    box->touched = false;
    ob_stage_drop(&box->stage);
    if (box->is_orphan)
        ob_writer_free(box);
}

void ob_writer_free(outbox *box)
{
    sqlite3_free(box->stage.bytes);
    sqlite3_free(box->headers_room);
    sqlite3_free(box);
}

const struct ob_wakeup_methods ob_writer_wakeup = {
    .statements_table = "outbox_statements",
    .commit_table = "outbox_commit",
    .began = on_began,
    .committed = on_committed,
    .undone = on_undone,
    .saved = on_saved,
    .released = on_released,
    .partly_undone = on_partly_undone,
    .release_statements = on_release_statements,
    .closed = on_outbox_closed,
};

/* ---- What its commit can promise ------------------------------------------------------------- */

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

int ob_writer_judge(sqlite3 *db, outbox *box)
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

/* ---- Put ------------------------------------------------------------------------------------- */

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

/* Checks the headers and joins them for the column; `joined` has been through that before. */
static int take_headers(outbox *box, const outbox_event *event, const char *joined, size_t len)
{
    const char *culprit = NULL, *fault = NULL;
    box->headers = joined;
    box->headers_len = len;
    if (event->header_count > 0 && !event->headers)
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "headers is NULL and header_count is not 0");
    if (event->header_count > 0 || event->correlation_id || event->causation_id ||
        event->traceparent) {
        if (!box->headers_room)
            box->headers_room = sqlite3_malloc(OB_HEADERS_TEXT);
        if (!box->headers_room)
            return ob_error_set(&box->error, OUTBOX_NO_MEMORY, "memory ran out");
        box->headers = box->headers_room;
        fault = ob_headers_join(event, box->headers_room, &box->headers_len, &culprit);
    }
    return fault ? ob_error_set(&box->error, OUTBOX_BAD_ATTRIBUTE, "the header '%.40s' %s", culprit,
                                fault)
                 : OUTBOX_OK;
}

static bool is_limited(const outbox *box, outbox_lane lane)
{
    return box->limit[lane].max_events > 0 || box->limit[lane].max_bytes > 0;
}

/* All that making room runs, of what is kept. */
static int prepare_limit(outbox *box, outbox_lane lane)
{
    static const enum ob_table_sql needed[] = {OB_SQL_HEAD, OB_SQL_IDS, OB_SQL_DELETE,
                                               OB_SQL_ENTOMB};
    struct ob_table *table = &box->table[lane];
    sqlite3_stmt *ignored;
    int code = OUTBOX_OK;
    if (!table->db)
        ob_table_open(table, box->wakeup.db, lane, box->small_heap, &box->error);
    if (box->small_heap)
        return OUTBOX_OK; /* it would be freed again by the first that uses it */
    for (size_t i = 0; i < sizeof needed / sizeof needed[0] && code == OUTBOX_OK; i++)
        code = ob_table_statement(table, needed[i], &ignored);
    return code;
}

static int prepare_lane(outbox *box, outbox_lane lane)
{
    sqlite3 *db = box->wakeup.db;
    bool is_measured = box->limit[lane].max_bytes > 0;
    enum ob_table_sql which = is_measured ? OB_SQL_PUT_MEASURED : OB_SQL_PUT;
    int place = (is_measured ? OB_PUT_MEASURED : OB_PUT_INSERT) + (int)lane;
    int code = ob_lane_prepare(db, lane, ob_lane_sql(which), &box->statement[place], &box->error);
    if (code == OUTBOX_OK && is_limited(box, lane))
        code = prepare_limit(box, lane);
    return code;
}

static sqlite3_stmt **insert_statement(outbox *box, outbox_lane lane)
{
    return &box->statement[(box->limit[lane].max_bytes > 0 ? OB_PUT_MEASURED : OB_PUT_INSERT) +
                           (int)lane];
}

static int prepare_touch(outbox *box)
{
    int code = ob_sql_prepare(box->wakeup.db, "INSERT INTO outbox_commit(touch) VALUES(1)",
                              &box->statement[OB_PUT_TOUCH], &box->error);
    if (code == OUTBOX_SQLITE) { /* denied, see touch() */
        ob_error_clear(&box->error);
        code = OUTBOX_OK;
    }
    return code;
}

/* What a put into this lane runs; `alone` in a transaction of its own. */
static int prepare_put(outbox *box, outbox_lane lane, bool alone)
{
    sqlite3 *db = box->wakeup.db;
    int code = prepare_lane(box, lane);
    if (code == OUTBOX_OK && !box->touched)
        code = prepare_touch(box);
    if (code == OUTBOX_OK && alone)
        code = ob_sql_prepare(db, "SAVEPOINT outbox_put", &box->statement[OB_PUT_SAVEPOINT],
                              &box->error);
    if (code == OUTBOX_OK && alone)
        code =
            ob_sql_prepare(db, "RELEASE outbox_put", &box->statement[OB_PUT_RELEASE], &box->error);
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
    sqlite3_stmt *statement = *insert_statement(box, event->lane);
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
    if (result == SQLITE_OK && box->headers_len > 0) /* a put inside this one joins its own there */
        result =
            sqlite3_bind_text(statement, 10, box->headers, (int)box->headers_len, SQLITE_TRANSIENT);
    if (result == SQLITE_OK && box->limit[event->lane].max_bytes > 0)
        result = sqlite3_bind_int64(statement, 11, ob_limit_bytes(event, box->headers_len));
    if (result != SQLITE_OK)
        return ob_error_sqlite(&box->error, box->wakeup.db, result, "binding the event");
    return OUTBOX_OK;
}

/* Takes the event out again; where that fails too, with all of the transaction, which must not
 * commit with it. */
static int take_out(outbox *box, outbox_lane lane, int64_t id)
{
    struct ob_error why = box->error;
    int64_t ignored;
    /* Our own row has no ledger: whatever happens, the tombstone is not deleted here. */
    int code = ob_lane_number(box->wakeup.db, lane, ob_lane_sql(OB_SQL_TAKE_BACK), id, 0, 0,
                              &ignored, &box->error);
    if (code == OUTBOX_OK)
        box->error = why;
    else
        (void)ob_sql_rollback(
            box->wakeup.db); /* inside a statement in autocommit it does nothing */
    return code;
}

/* The id behind the largest one is what SQLite gives out, unless some other writer has stored one
 * near 2^63: then it gives out random ones, and neither order nor identity would hold. */
static int refuse_id(outbox *box, outbox_lane lane, int64_t id)
{
    int code = take_out(box, lane, id);
    if (code != OUTBOX_OK)
        return code;
    return ob_error_set(&box->error, OUTBOX_BAD_ID,
                        "another writer has stored an event with an id out of range (0 to 2^48); "
                        "put again once the forwarder has moved it to outbox_dead");
}

/* Makes room for the event that was just stored, or takes it out again. */
static int keep_within_limit(outbox *box, outbox_lane lane, int64_t id)
{
    int64_t acked = 0;
    bool moved = false;
    if (!is_limited(box, lane))
        return OUTBOX_OK;
    if (!box->touched) /* nobody tells what is undone, see touch() */
        box->fill[lane].is_known = false;
    if (box->service)
        acked = box->service->acked(box->service_context, lane);
    int code =
        ob_limit_keep(&box->table[lane], &box->limit[lane], id, acked, &box->fill[lane], &moved);
    /* Where SQLite has rolled all of it back, the id may be another writer's by now. */
    if (code == OUTBOX_OK || sqlite3_txn_state(box->wakeup.db, "main") != SQLITE_TXN_WRITE)
        return code;
    int taken = take_out(box, lane, id);
    return taken == OUTBOX_OK ? code : taken;
}

/* An authorizer may deny the touch, when it is prepared or when a new authorizer makes SQLite
 * prepare it again. The event is stored all the same; the forwarder then finds it by its check for
 * other writers. */
static int touch(outbox *box)
{
    int code = ob_sql_step(box->statement[OB_PUT_TOUCH], NULL, &box->error, "touching");
    if (code == OUTBOX_SQLITE && sqlite3_errcode(box->wakeup.db) == SQLITE_AUTH) {
        ob_error_clear(&box->error);
        code = OUTBOX_OK;
    }
    if (box->small_heap)
        ob_sql_done(&box->statement[OB_PUT_TOUCH], true);
    return code;
}

/* Inserts the event into whatever transaction is open, and sees to it that its commit is heard. */
static int insert(outbox *box, const outbox_event *event, enum ob_media media, int64_t *id)
{
    sqlite3 *db = box->wakeup.db;
    sqlite3_stmt **statement = insert_statement(box, event->lane);
    int code = OUTBOX_OK;
    if (!box->touched && box->statement[OB_PUT_TOUCH])
        code = touch(box);
    if (code == OUTBOX_OK)
        code = bind_event(box, event, media);
    if (code == OUTBOX_OK)
        code = ob_sql_step(*statement, NULL, &box->error, "storing the event");
    /* The payload is the caller's; leave no pointer to it behind. Cannot fail. */
    (void)sqlite3_clear_bindings(*statement);
    if (box->small_heap) /* else it is reset, unless it is that of a put around this one */
        ob_sql_done(statement, true);
    if (code != OUTBOX_OK)
        return code;
    if (sqlite3_changes(db) != 1)
        return ob_error_set(&box->error, OUTBOX_SQLITE,
                            "a trigger on %s has ignored the event; drop the trigger",
                            ob_lane_table(event->lane));
    *id = sqlite3_last_insert_rowid(db);
    if (*id > OUTBOX_ID_MAX || *id <= 0)
        return refuse_id(box, event->lane, *id);
    code = keep_within_limit(box, event->lane, *id);
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

/* What a put needs to know and to have before it writes. When memory runs out in any statement,
 * SQLite may roll the open transaction back; an event must not be stored without what it is
 * about. */
static int get_ready(outbox *box, outbox_lane lane, bool alone)
{
    int code = ob_wakeup_connect(&box->wakeup, &box->error);
    if (code == OUTBOX_OK)
        code = prepare_put(box, lane, alone);
    if (code == OUTBOX_OK && !box->is_judged)
        code = ob_writer_judge(box->wakeup.db, box);
    if (code == OUTBOX_OK && !alone && is_alone(box->wakeup.db))
        code = ob_error_set(&box->error, OUTBOX_SQLITE,
                            "the journal mode and synchronous could not be read, and SQLite has "
                            "rolled the transaction back for it; begin it again");
    return code;
}

/* ---- Fire and forget ------------------------------------------------------------------------- */

static struct ob_value value_of(const char *text)
{
    return (struct ob_value){text ? SQLITE_TEXT : SQLITE_NULL, text, text ? strlen(text) : 0};
}

/* What the row would be. */
static struct ob_row row_of(const outbox *box, const outbox_event *event, enum ob_media media)
{
    int64_t now = ob_sql_now(box->vfs);
    struct ob_row row = {.created = now,
                         .has_created = 1,
                         .expires = event->ttl_ms > 0 ? ob_expiry_at_put(event->ttl_ms, now) : 0,
                         .retain = event->retain != 0,
                         .topic = value_of(event->topic),
                         .type = value_of(event->type),
                         .content_type = value_of(event->content_type),
                         .key = value_of(event->key)};
    row.payload = (struct ob_value){media == OB_MEDIA_OTHER ? SQLITE_BLOB : SQLITE_TEXT,
                                    event->payload, event->payload_len};
    if (box->headers_len > 0)
        row.headers = (struct ob_value){SQLITE_TEXT, box->headers, box->headers_len};
    else
        row.headers = value_of(NULL);
    return row;
}

static int check_fire(outbox *box, const outbox_event *event, const struct ob_row *row)
{
    if (event->lane != OUTBOX_NORMAL || event->keep_last)
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "fire_and_forget goes with neither OUTBOX_URGENT nor keep_last");
    if (ob_record_size(row) > box->stage.size)
        return ob_error_set(&box->error, OUTBOX_TOO_LARGE,
                            "the event has %lld bytes with all that belongs to it, fire_bytes is "
                            "%lld",
                            (long long)ob_record_size(row), (long long)box->stage.size);
    return OUTBOX_OK;
}

/* To touch outbox_commit writes no page, but SQLite calls xCommit for it all the same. It takes the
 * write lock, though: a virtual table cannot be part of a transaction that does not write. */
static int join_transaction(outbox *box)
{
    int code = ob_wakeup_connect(&box->wakeup, &box->error);
    if (code == OUTBOX_OK && !box->touched)
        code = prepare_touch(box);
    if (code == OUTBOX_OK && !box->touched && box->statement[OB_PUT_TOUCH])
        code = touch(box);
    if (code == OUTBOX_OK && !box->touched)
        code = ob_error_set(&box->error, OUTBOX_SQLITE,
                            "an authorizer denies INSERT into outbox_commit, so nobody could tell "
                            "when the transaction commits; allow it");
    return code;
}

static int put_fire(outbox *box, const outbox_event *event, enum ob_media media)
{
    const struct ob_row row = row_of(box, event, media);
    bool alone = is_alone(box->wakeup.db);
    int code = check_fire(box, event, &row);
    if (code == OUTBOX_OK && alone)
        ob_stage_begin(&box->stage);
    else if (code == OUTBOX_OK)
        code = join_transaction(box);
    if (code != OUTBOX_OK)
        return code;
    if (!ob_stage_add(&box->stage, &row))
        return ob_error_set(&box->error, OUTBOX_NO_MEMORY, "memory ran out");
    if (alone)
        fire(box);
    return OUTBOX_OK;
}

static int put_stored(outbox *box, const outbox_event *event, enum ob_media media, int64_t *id)
{
    sqlite3 *db = box->wakeup.db;
    bool alone = is_alone(db);
    int code = get_ready(box, event->lane, alone);
    if (code != OUTBOX_OK)
        return code;
    sqlite3_int64 rowid = sqlite3_last_insert_rowid(db);
    code = alone ? insert_alone(box, event, media, id) : insert(box, event, media, id);
    sqlite3_set_last_insert_rowid(db, rowid);
    return code;
}

/* Without statements of its own that outlive it. Inside of another put they would be that one's. */
static int put_leanly(outbox *box, const outbox_event *event, enum ob_media media, int64_t *id)
{
    if (box->is_putting)
        return ob_error_set(
            &box->error, OUTBOX_MISUSE,
            "a put of this handle runs, and with small_heap none can run inside it");
    box->is_putting = true;
    int code =
        event->fire_and_forget ? put_fire(box, event, media) : put_stored(box, event, media, id);
    box->is_putting = false;
    release_statements(box);
    return code;
}

int ob_writer_put(outbox *box, const outbox_event *event, const char *headers, size_t headers_len,
                  int64_t *id)
{
    enum ob_media media = OB_MEDIA_OTHER;
    int64_t new_id = 0;
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    int code = check_event(box, event, &media);
    if (code == OUTBOX_OK)
        code = take_headers(box, event, headers, headers_len);
    if (code == OUTBOX_OK)
        code = end_left_over(box);
    if (code != OUTBOX_OK)
        return code;
    code = box->small_heap          ? put_leanly(box, event, media, &new_id)
           : event->fire_and_forget ? put_fire(box, event, media)
                                    : put_stored(box, event, media, &new_id);
    if (code == OUTBOX_OK && id)
        *id = new_id;
    return code;
}

int outbox_put(outbox *box, const outbox_event *event, int64_t *id)
{
    return ob_writer_put(box, event, NULL, 0, id);
}
