/* SPDX-License-Identifier: MIT
 *
 * inbox.c - open, accept, skip, close: the recipient's side, on the recipient's connection.
 *
 * An accept reads one row and writes it back, inside the recipient's transaction, so after a crash
 * or a ROLLBACK the verdict stands if and only if what was done upon it does. No mark is kept in
 * memory: other connections may judge events of the same stream.
 */
#include "inbox_table.h"
#include "scope.h"
#include "sql.h"
#include "text.h"
#include "wakeup.h"

#include <assert.h>
#include <string.h>

struct inbox {
    struct ob_wakeup wakeup; /* .db is the connection, NULL after it was closed */
    sqlite3_stmt *read, *write;
    struct ob_error error;
};

/* ---- Open and close -------------------------------------------------------------------------- */

static void on_release_inbox(void *context)
{
    inbox *in = context;
    (void)sqlite3_finalize(in->read); /* repeats what the last step said */
    (void)sqlite3_finalize(in->write);
    in->read = in->write = NULL;
}

static void on_inbox_closed(void *context)
{
    inbox *in = context;
    assert(!in->wakeup.db);
    (void)in;
}

static const struct ob_wakeup_methods on_wakeup = {
    .statements_table = "inbox_statements",
    .release_statements = on_release_inbox,
    .closed = on_inbox_closed,
};

static int prepare(inbox *in)
{
    sqlite3 *db = in->wakeup.db;
    int code = ob_wakeup_connect(&in->wakeup, &in->error);
    if (code == OUTBOX_OK)
        code = ob_sql_prepare(db, ob_inbox_read_sql, &in->read, &in->error);
    if (code == OUTBOX_OK)
        code = ob_sql_prepare(db, ob_inbox_write_sql, &in->write, &in->error);
    return code;
}

static int check_database(sqlite3 *db, struct ob_error *error)
{
    if (sqlite3_libversion_number() < OB_OLDEST_SQLITE)
        return ob_error_set(error, OUTBOX_OLD_SQLITE, "this is SQLite %s; link 3.34.0 or newer",
                            sqlite3_libversion());
    if (!sqlite3_get_autocommit(db))
        return ob_error_set(error, OUTBOX_MISUSE,
                            "a transaction is open; open the inbox before it or after it");
    if (sqlite3_db_readonly(db, "main") == 1)
        return ob_error_set(error, OUTBOX_READONLY,
                            "the database was opened read-only; open it for writing");
    return OUTBOX_OK;
}

static int open_inbox(inbox *in, sqlite3 *db)
{
    bool found = false;
    int code = check_database(db, &in->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_wakeup_register(&in->wakeup, db, &on_wakeup, in, &in->error);
    if (code == OUTBOX_OK)
        code = ob_inbox_find(db, &found, &in->error);
    if (code == OUTBOX_OK && !found)
        code = ob_inbox_make(db, &in->error);
    if (code == OUTBOX_OK)
        code = prepare(in);
    if (code != OUTBOX_OK)
        ob_wakeup_unregister(&in->wakeup);
    return code;
}

static void say_at_open(const inbox_config *config, const char *sentence)
{
    if (config && config->sentence && config->sentence_size > 0)
        sqlite3_snprintf((int)config->sentence_size, config->sentence, "%s", sentence);
}

int inbox_open(sqlite3 *db, const inbox_config *config, inbox **in)
{
    if (!in)
        return OUTBOX_MISUSE;
    *in = NULL;
    if (!db)
        return OUTBOX_MISUSE;
    inbox *made = sqlite3_malloc((int)sizeof *made);
    if (!made) {
        say_at_open(config, outbox_strerror(OUTBOX_NO_MEMORY));
        return OUTBOX_NO_MEMORY;
    }
    memset(made, 0, sizeof *made);
    int code = open_inbox(made, db);
    if (code != OUTBOX_OK) {
        say_at_open(config, made->error.sentence);
        sqlite3_free(made);
        return code;
    }
    *in = made;
    return OUTBOX_OK;
}

void inbox_close(inbox *in)
{
    if (!in)
        return;
    ob_wakeup_unregister(&in->wakeup);
    sqlite3_free(in);
}

const char *inbox_errmsg(const inbox *in)
{
    if (!in || in->error.code == OUTBOX_OK)
        return outbox_strerror(OUTBOX_OK);
    return in->error.sentence;
}

/* ---- The stream's name ----------------------------------------------------------------------- */

/* outbox://DEVICE/LANE/EPOCH; gives the length of the name, 0 where it has another form. */
static size_t split_source(const inbox_text *source, size_t start,
                           char epoch[OB_STREAM_EPOCH_MAX + 1])
{
    const char *at = source->bytes + start, *end = source->bytes + source->len;
    const char *device_end = memchr(at, '/', (size_t)(end - at));
    if (!device_end || !ob_text_is_device(at, (size_t)(device_end - at)))
        return 0;
    const char *lane = device_end + 1;
    const char *lane_end = memchr(lane, '/', (size_t)(end - lane));
    if (!lane_end || !ob_text_is_device(lane, (size_t)(lane_end - lane)))
        return 0;
    size_t len = (size_t)(end - (lane_end + 1));
    if (len > OB_STREAM_EPOCH_MAX || !ob_text_is_device(lane_end + 1, len))
        return 0;
    memcpy(epoch, lane_end + 1, len);
    epoch[len] = '\0';
    return (size_t)(lane_end - source->bytes);
}

/* Fire-and-forget events: the sender keeps none of them, so it names none as the one before. */
static bool is_unstored(const inbox_text *name)
{
    static const char lane[] = "/unstored";
    const size_t len = sizeof lane - 1;
    return name->len > len && memcmp(name->bytes + name->len - len, lane, len) == 0;
}

static bool is_number(const inbox_text *text, int64_t number)
{
    char digits[24];
    sqlite3_snprintf((int)sizeof digits, digits, "%lld", (long long)number);
    return strlen(digits) == text->len && memcmp(digits, text->bytes, text->len) == 0;
}

static bool is_name(const inbox_text *text)
{
    return text->bytes && ob_text_is_clean(text->bytes, text->len, INBOX_NAME_MAX);
}

static int check_numbers(inbox *in, const inbox_event *event, bool is_ours)
{
    int64_t least = is_ours ? 1 : 0, most = is_ours ? OUTBOX_ID_MAX : INT64_MAX;
    if (event->has_sequence && (event->sequence < least || event->sequence > most))
        return ob_error_set(&in->error, OUTBOX_BAD_ID, "the sequence %lld is out of range",
                            (long long)event->sequence);
    if (event->has_previous && (event->previous < 0 || !event->has_sequence ||
                                (event->previous > 0 && event->previous >= event->sequence)))
        return ob_error_set(&in->error, OUTBOX_BAD_ID,
                            "previous is %lld, which is not below the sequence",
                            (long long)event->previous);
    return OUTBOX_OK;
}

/* From an event to what the rule wants to know, and the stream's name. */
static int read_arrival(inbox *in, const inbox_event *event, struct ob_arrival *arrival,
                        inbox_text *name)
{
    static const char scheme[] = "outbox://";
    const size_t len = sizeof scheme - 1;
    memset(arrival, 0, sizeof *arrival);
    if (!is_name(&event->source) || !is_name(&event->id))
        return ob_error_set(&in->error, OUTBOX_BAD_ATTRIBUTE,
                            "source or id is missing, over %d bytes, or not clean UTF-8",
                            INBOX_NAME_MAX);
    bool is_ours = event->source.len >= len && memcmp(event->source.bytes, scheme, len) == 0;
    *name = event->source;
    if (is_ours) {
        name->len = split_source(&event->source, len, arrival->epoch);
        if (name->len == 0)
            return ob_error_set(&in->error, OUTBOX_BAD_ATTRIBUTE,
                                "the source is not of the form outbox://DEVICE/LANE/EPOCH");
        if (!event->has_sequence || (!event->has_previous && !is_unstored(name)) ||
            !is_number(&event->id, event->sequence))
            return ob_error_set(&in->error, OUTBOX_BAD_ATTRIBUTE,
                                "an event of an outbox has previous and sequence, which is its id");
    }
    arrival->has_sequence = event->has_sequence != 0;
    arrival->has_previous = event->has_previous != 0;
    arrival->sequence = event->has_sequence ? event->sequence : 0;
    arrival->previous = event->has_previous ? event->previous : 0;
    arrival->drops = event->drops;
    return check_numbers(in, event, is_ours);
}

/* ---- Accept ---------------------------------------------------------------------------------- */

/* Whether the row that stands ready has this last id. */
static bool has_last_id(sqlite3_stmt *row, const inbox_text *id)
{
    int column = sqlite3_column_count(row) - 1;
    const void *bytes = sqlite3_column_text(row, column);
    return bytes && (size_t)sqlite3_column_bytes(row, column) == id->len &&
           memcmp(bytes, id->bytes, id->len) == 0;
}

static int load_stream(inbox *in, const inbox_text *name, const inbox_text *id,
                       struct ob_arrival *arrival, struct ob_stream *stream)
{
    bool row = false;
    memset(stream, 0, sizeof *stream);
    int bound = sqlite3_bind_text(in->read, 1, name->bytes, (int)name->len, SQLITE_STATIC);
    int code = bound == SQLITE_OK
                   ? ob_sql_step(in->read, &row, &in->error, "reading the stream")
                   : ob_error_sqlite(&in->error, in->wakeup.db, bound, "binding the stream's name");
    if (row) {
        code = ob_inbox_load(in->read, name->bytes, (int)name->len, stream, &in->error);
        arrival->is_last_id = !arrival->has_sequence && has_last_id(in->read, id);
    }
    /* Repeats what step said; or, in UTF-16, that there was no memory for a text of the row. */
    int reset = sqlite3_reset(in->read);
    if (code == OUTBOX_OK && reset != SQLITE_OK)
        code = ob_error_sqlite(&in->error, in->wakeup.db, reset, "reading the stream");
    (void)sqlite3_clear_bindings(in->read);
    return code;
}

static int judge(inbox *in, const inbox_event *event, bool skip, inbox_result *result)
{
    struct ob_arrival arrival;
    struct ob_stream stream;
    inbox_text name = {NULL, 0};
    int code = read_arrival(in, event, &arrival, &name);
    if (code == OUTBOX_OK)
        code = prepare(in);
    if (code == OUTBOX_OK)
        code = load_stream(in, &name, &event->id, &arrival, &stream);
    if (code != OUTBOX_OK)
        return code;
    ob_inbox_judge(&stream, &arrival, skip, result);
    result->stream = name;
    if (result->apply)
        code = ob_inbox_store(in->write, &name, event->has_sequence ? NULL : &event->id, &stream,
                              &in->error);
    return code;
}

/* The recipient's transaction needs no savepoint: the one statement that writes is undone as a
 * whole by SQLite itself. */
static int accept_event(inbox *in, const inbox_event *event, bool skip, inbox_result *result)
{
    struct ob_scope scope;
    if (!in)
        return OUTBOX_MISUSE;
    ob_error_clear(&in->error);
    if (!event || !result)
        return ob_error_set(&in->error, OUTBOX_MISUSE, "the event or the result is NULL");
    memset(result, 0, sizeof *result);
    if (!in->wakeup.db)
        return ob_error_set(&in->error, OUTBOX_CLOSED, "the connection was closed");
    if (!sqlite3_get_autocommit(in->wakeup.db)) {
        int code = judge(in, event, skip, result);
        if (code != OUTBOX_OK)
            memset(result, 0, sizeof *result);
        return code;
    }
    int code = ob_scope_open(&scope, in->wakeup.db, &in->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_scope_close(&scope, judge(in, event, skip, result));
    if (code != OUTBOX_OK)
        memset(result, 0, sizeof *result);
    return code;
}

int inbox_accept(inbox *in, const inbox_event *event, inbox_result *result)
{
    return accept_event(in, event, false, result);
}

int inbox_skip(inbox *in, const inbox_event *event, inbox_result *result)
{
    return accept_event(in, event, true, result);
}
