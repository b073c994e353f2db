/* SPDX-License-Identifier: MIT
 *
 * received.c - stores what arrives, each event once and in order.
 *
 * One message is one transaction: the inbox's verdict, the row that is made of the event, and those
 * rows that waited for it. After a crash at any moment the message was either never taken, and the
 * broker sends it again, or it was, and the inbox knows it when it comes again. An event behind a
 * gap is stored too, as waiting, because the broker forgets what it has seen acknowledged.
 */
#include "received.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLUMNS                                                                                    \
    "stream, sequence, previous, source, id, type, topic, content_type, time, key, data, "         \
    "attributes"

#define WAITING "w, source, id, sequence, previous, drop_count, drop_from, drop_to"

static const char tables[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS received(n INTEGER PRIMARY KEY, stream TEXT, sequence INTEGER,"
    " previous INTEGER, source TEXT, id TEXT, type TEXT, topic TEXT, content_type TEXT, time TEXT,"
    " key TEXT, data, attributes TEXT, verdict TEXT, received INTEGER);"
    "CREATE TABLE IF NOT EXISTS received_waiting(w INTEGER PRIMARY KEY, stream TEXT,"
    " sequence INTEGER, previous INTEGER, source TEXT, id TEXT, type TEXT, topic TEXT,"
    " content_type TEXT, time TEXT, key TEXT, data, attributes TEXT, drop_count INTEGER,"
    " drop_from INTEGER, drop_to INTEGER, since INTEGER, UNIQUE(stream, source, sequence));"
    "INSERT INTO inbox_meta(name, value) VALUES('client_id', 'outbox-' || "
    "lower(hex(randomblob(8))))"
    " ON CONFLICT DO NOTHING;"
    "COMMIT";

static const char *const sql[RECEIVED_STATEMENTS] = {
    [RECEIVED_BEGIN] = "BEGIN IMMEDIATE",
    [RECEIVED_COMMIT] = "COMMIT",
    [RECEIVED_ROLLBACK] = "ROLLBACK",
    [RECEIVED_INSERT] = "INSERT INTO received(" COLUMNS ", verdict, received)"
                        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    [RECEIVED_WAIT] =
        "INSERT INTO received_waiting(" COLUMNS ", since, drop_count, drop_from, drop_to)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?14, ?15, ?16,"
        " ?17) ON CONFLICT DO UPDATE SET previous = excluded.previous",
    [RECEIVED_NEXT] = "SELECT " WAITING " FROM received_waiting WHERE stream = ?1 AND source = ?2"
                      " ORDER BY sequence LIMIT 1",
    [RECEIVED_NEXT_OTHER] =
        "SELECT " WAITING " FROM received_waiting WHERE stream = ?1 AND source <> ?2"
        " ORDER BY w LIMIT 1",
    [RECEIVED_MOVE] = "INSERT INTO received(" COLUMNS ", verdict, received)"
                      " SELECT " COLUMNS ", ?2, ?3 FROM received_waiting WHERE w = ?1",
    [RECEIVED_FORGET] = "DELETE FROM received_waiting WHERE w = ?1",
    [RECEIVED_OLDEST] =
        "SELECT stream, source FROM received_waiting WHERE since <= ?1 ORDER BY since, w LIMIT 1",
    [RECEIVED_PRINT] = "SELECT n, " COLUMNS ", verdict, received FROM received WHERE n > ?1",
};

int64_t received_now(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &now); /* exists on every Linux */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Open and close -------------------------------------------------------------------------- */

static bool failed(const struct received *received)
{
    (void)cli_fail("%s: %s", received->path, sqlite3_errmsg(received->db));
    return false;
}

static int open_tables(struct received *received, char client_id[24])
{
    char sentence[256] = "";
    int status =
        cli_open(received->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &received->db);
    if (status != CLI_OK)
        return status;
    if (inbox_open(received->db, &(inbox_config){sentence, sizeof sentence}, &received->in) !=
        OUTBOX_OK)
        return cli_fail("%s: %s", received->path, sentence);
    if (cli_execute(received->db, received->path, tables) != CLI_OK)
        return CLI_FAILED;
    for (int i = 0; i < RECEIVED_STATEMENTS; i++)
        if (sqlite3_prepare_v3(received->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &received->statement[i], NULL) != SQLITE_OK)
            return failed(received), CLI_FAILED;
    char *id = cli_text(received->db, "SELECT value FROM inbox_meta WHERE name = 'client_id'");
    char *count = cli_text(received->db, "SELECT count(*) FROM received_waiting");
    char *last = cli_text(received->db, "SELECT ifnull(max(n), 0) FROM received");
    (void)snprintf(client_id, 24, "%s", id ? id : "");
    received->waiting = count ? strtoll(count, NULL, 10) : 0;
    received->printed = last ? strtoll(last, NULL, 10) : 0;
    sqlite3_free(id);
    sqlite3_free(count);
    sqlite3_free(last);
    return CLI_OK;
}

int received_open(struct received *received, const char *path, char client_id[24])
{
    received->path = path;
    int status = open_tables(received, client_id);
    if (status != CLI_OK)
        received_close(received);
    return status;
}

void received_close(struct received *received)
{
    for (int i = 0; i < RECEIVED_STATEMENTS; i++) {
        (void)sqlite3_finalize(received->statement[i]); /* repeats what the last step said */
        received->statement[i] = NULL;
    }
    inbox_close(received->in);
    received->in = NULL;
    cli_close(received->db, NULL);
    received->db = NULL;
    free(received->room);
    received->room = NULL;
    received->room_size = 0;
}

/* ---- Statements ------------------------------------------------------------------------------ */

static bool run(struct received *received, enum received_statement which)
{
    sqlite3_stmt *statement = received->statement[which];
    int result = sqlite3_step(statement);
    int reset = sqlite3_reset(statement); /* a commit may fail only here */
    if (result != SQLITE_DONE || reset != SQLITE_OK)
        return failed(received);
    return true;
}

static bool bind_text(sqlite3_stmt *statement, int index, const inbox_text *text)
{
    return sqlite3_bind_text(statement, index, text->bytes, (int)text->len, SQLITE_STATIC) ==
           SQLITE_OK;
}

static bool bind_word(sqlite3_stmt *statement, int index, const char *word)
{
    return sqlite3_bind_text(statement, index, word, -1, SQLITE_STATIC) == SQLITE_OK;
}

static bool bind_number(sqlite3_stmt *statement, int index, int64_t number)
{
    return sqlite3_bind_int64(statement, index, number) == SQLITE_OK;
}

static bool bind_data(sqlite3_stmt *statement, int index, const inbox_event *event)
{
    const inbox_text *data = &event->data;
    switch (event->data_kind) {
    case INBOX_NO_DATA:
        return sqlite3_bind_null(statement, index) == SQLITE_OK;
    case INBOX_BYTES:
        return sqlite3_bind_blob(statement, index, data->len > 0 ? data->bytes : "", (int)data->len,
                                 SQLITE_STATIC) == SQLITE_OK;
    default:
        return sqlite3_bind_text(statement, index, data->len > 0 ? data->bytes : "", (int)data->len,
                                 SQLITE_STATIC) == SQLITE_OK;
    }
}

static bool has_column(const inbox_text *name)
{
    static const char *const columns[] = {
        "id",           "source",   "specversion",     "type",    "time",
        "partitionkey", "sequence", "datacontenttype", "previous"};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        if (name->len == strlen(columns[i]) && memcmp(name->bytes, columns[i], name->len) == 0)
            return true;
    return false;
}

/* Values hold no control characters, inbox_read() has seen to that. sqlite3_malloc()ed; NULL where
 * there are no others. */
static char *print_attributes(const inbox_event *event)
{
    sqlite3_str *text = sqlite3_str_new(NULL);
    for (size_t i = 0; i < event->attribute_count; i++) {
        const inbox_property *attribute = &event->attributes[i];
        if (has_column(&attribute->name))
            continue;
        sqlite3_str_appendf(text, "%s\"%.*s\":\"", sqlite3_str_length(text) > 0 ? "," : "{",
                            (int)attribute->name.len, attribute->name.bytes);
        for (size_t j = 0; j < attribute->value.len; j++) {
            char c = attribute->value.bytes[j];
            if (c == '"' || c == '\\')
                sqlite3_str_appendchar(text, 1, '\\');
            sqlite3_str_appendchar(text, 1, c);
        }
        sqlite3_str_appendchar(text, 1, '"');
    }
    if (sqlite3_str_length(text) > 0)
        sqlite3_str_appendchar(text, 1, '}');
    return sqlite3_str_finish(text);
}

/* ?1 to ?12: COLUMNS. */
static bool bind_event(sqlite3_stmt *statement, const inbox_text *stream, const inbox_text *topic,
                       const inbox_event *event)
{
    char *attributes = print_attributes(event);
    bool bound = bind_text(statement, 1, stream) && bind_text(statement, 4, &event->source) &&
                 bind_text(statement, 5, &event->id) && bind_text(statement, 6, &event->type) &&
                 bind_text(statement, 7, topic) && bind_text(statement, 8, &event->content_type) &&
                 bind_text(statement, 9, &event->time) && bind_text(statement, 10, &event->key) &&
                 bind_data(statement, 11, event) &&
                 sqlite3_bind_text(statement, 12, attributes, -1, sqlite3_free) == SQLITE_OK;
    if (bound && event->has_sequence)
        bound = bind_number(statement, 2, event->sequence);
    if (bound && event->has_previous)
        bound = bind_number(statement, 3, event->previous);
    return bound;
}

/* ---- One event ------------------------------------------------------------------------------- */

static const char *verdict_word(const inbox_result *result)
{
    if (result->missing_to > 0)
        return "skipped";
    return result->verdict == INBOX_NEW_EPOCH ? "new epoch" : "new";
}

static bool store(struct received *received, const inbox_text *topic, const inbox_event *event,
                  const inbox_result *result)
{
    sqlite3_stmt *statement = received->statement[RECEIVED_INSERT];
    const inbox_text none = {NULL, 0};
    bool done = bind_event(statement, result ? &result->stream : &none, topic, event) &&
                bind_word(statement, 13, result ? verdict_word(result) : NULL) &&
                bind_number(statement, 14, received_now()) && run(received, RECEIVED_INSERT);
    (void)sqlite3_clear_bindings(statement); /* cannot fail */
    return done;
}

static bool keep_waiting(struct received *received, const inbox_text *topic,
                         const inbox_event *event, const inbox_result *result)
{
    sqlite3_stmt *statement = received->statement[RECEIVED_WAIT];
    sqlite3_set_last_insert_rowid(received->db, 0); /* it stays so where the event waits already */
    bool done = bind_event(statement, &result->stream, topic, event) &&
                bind_number(statement, 14, received_now()) &&
                bind_number(statement, 15, event->drops.count) &&
                bind_number(statement, 16, event->drops.from) &&
                bind_number(statement, 17, event->drops.to) && run(received, RECEIVED_WAIT);
    (void)sqlite3_clear_bindings(statement);
    if (done && sqlite3_last_insert_rowid(received->db) != 0)
        received->waiting++;
    return done;
}

/* ---- Those that wait ------------------------------------------------------------------------- */

static inbox_text column_text(sqlite3_stmt *row, int column)
{
    const char *bytes = (const char *)sqlite3_column_text(row, column);
    return (inbox_text){bytes, bytes ? (size_t)sqlite3_column_bytes(row, column) : 0};
}

static inbox_event waiting_event(sqlite3_stmt *row)
{
    return (inbox_event){.source = column_text(row, 1),
                         .id = column_text(row, 2),
                         .has_sequence = 1,
                         .has_previous = 1,
                         .sequence = sqlite3_column_int64(row, 3),
                         .previous = sqlite3_column_int64(row, 4),
                         .drops = {{NULL, 0},
                                   sqlite3_column_int64(row, 5),
                                   sqlite3_column_int64(row, 6),
                                   sqlite3_column_int64(row, 7)}};
}

/* To `received`, or away: it was applied since, or its epoch is over. */
static bool release_one(struct received *received, int64_t w, const inbox_result *result)
{
    sqlite3_stmt *move = received->statement[RECEIVED_MOVE];
    bool done = true;
    if (result->apply) {
        done = bind_number(move, 1, w) && bind_word(move, 2, verdict_word(result)) &&
               bind_number(move, 3, received_now()) && run(received, RECEIVED_MOVE);
        received->applied++;
        received->skipped += result->missing_to > 0;
    }
    done = done && bind_number(received->statement[RECEIVED_FORGET], 1, w) &&
           run(received, RECEIVED_FORGET);
    received->waiting--;
    return done;
}

/* The names of a stream and of a source in it. */
struct origin {
    inbox_text stream, source;
};

/* Judges the first one that waits there. `more`: it waits no longer, look at the next one. */
static bool judge_first(struct received *received, enum received_statement which,
                        const struct origin *origin, bool skip, bool *more)
{
    sqlite3_stmt *next = received->statement[which];
    inbox_result result = {.verdict = INBOX_GAP};
    int64_t w = 0;
    *more = false;
    if (!bind_text(next, 1, &origin->stream) || !bind_text(next, 2, &origin->source))
        return failed(received);
    int step = sqlite3_step(next), code = OUTBOX_OK;
    if (step == SQLITE_ROW) {
        inbox_event event = waiting_event(next);
        w = sqlite3_column_int64(next, 0);
        code = skip ? inbox_skip(received->in, &event, &result)
                    : inbox_accept(received->in, &event, &result);
    }
    (void)sqlite3_reset(next); /* repeats what step said */
    if (step != SQLITE_ROW && step != SQLITE_DONE)
        return failed(received);
    if (code != OUTBOX_OK) {
        (void)cli_fail("%s: %s", received->path, inbox_errmsg(received->in));
        return false;
    }
    *more = step == SQLITE_ROW && result.verdict != INBOX_GAP;
    return !*more || release_one(received, w, &result);
}

static bool release_waiting(struct received *received, const struct origin *origin)
{
    bool more = received->waiting > 0, done = true;
    while (done && more)
        done = judge_first(received, RECEIVED_NEXT, origin, false, &more);
    return done;
}

/* The sender begins an epoch only when all of the one before is acknowledged: what is missing of
 * that one does not come any more. */
static bool end_other_epochs(struct received *received, const struct origin *origin)
{
    bool more = true, done = true;
    while (done && more)
        done = judge_first(received, RECEIVED_NEXT_OTHER, origin, true, &more);
    return done;
}

/* ---- One message ----------------------------------------------------------------------------- */

static bool judge(struct received *received, const inbox_event *event, inbox_result *result,
                  int *code)
{
    *code = inbox_accept(received->in, event, result);
    if (*code == OUTBOX_OK || *code == OUTBOX_BAD_ATTRIBUTE || *code == OUTBOX_BAD_ID)
        return true;
    (void)cli_fail("%s: %s", received->path, inbox_errmsg(received->in));
    return false;
}

/* Where an epoch begins while events of the one before wait, they come first. Nothing but the
 * verdict was written until then. */
static bool judge_in_turn(struct received *received, const inbox_event *event, inbox_result *result,
                          int *code)
{
    if (!judge(received, event, result, code))
        return false;
    if (*code != OUTBOX_OK || result->verdict != INBOX_NEW_EPOCH || result->first_contact ||
        received->waiting == 0)
        return true;
    const struct origin origin = {result->stream, event->source};
    return run(received, RECEIVED_ROLLBACK) && run(received, RECEIVED_BEGIN) &&
           end_other_epochs(received, &origin) && judge(received, event, result, code);
}

static bool take_event(struct received *received, const inbox_text *topic, const inbox_event *event)
{
    inbox_result result;
    int code;
    if (!judge_in_turn(received, event, &result, &code))
        return false;
    /* What cannot be judged is kept like what is no event: better twice than never. */
    if (code != OUTBOX_OK) {
        received->no_events++;
        return store(received, topic, event, NULL);
    }
    received->duplicates += result.verdict == INBOX_DUPLICATE;
    received->stale += result.verdict == INBOX_STALE;
    received->gaps += result.verdict == INBOX_GAP;
    received->applied += result.apply;
    if (result.verdict == INBOX_GAP)
        return keep_waiting(received, topic, event, &result);
    const struct origin origin = {result.stream, event->source};
    return !result.apply ||
           (store(received, topic, event, &result) && release_waiting(received, &origin));
}

static bool make_room(struct received *received, size_t size)
{
    if (size <= received->room_size)
        return true;
    char *room = realloc(received->room, size);
    if (!room) {
        (void)cli_fail("no memory for a message of %zu bytes", size);
        return false;
    }
    received->room = room;
    received->room_size = size;
    return true;
}

static bool take_inside(struct received *received, const inbox_text *topic,
                        const inbox_event *event)
{
    if (event->form != INBOX_NO_EVENT)
        return take_event(received, topic, event);
    received->no_events++;
    return store(received, topic, event, NULL);
}

static bool print_new(struct received *received)
{
    static const char *const names[] = {"n",   "stream", "sequence",   "previous",     "source",
                                        "id",  "type",   "topic",      "content_type", "time",
                                        "key", "data",   "attributes", "verdict",      "received"};
    sqlite3_stmt *statement = received->statement[RECEIVED_PRINT];
    int result = SQLITE_DONE;
    if (!bind_number(statement, 1, received->printed))
        return failed(received);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
            (void)putchar(i == 0 ? '{' : ',');
            cli_json_column(names[i], statement, i);
        }
        (void)puts("}");
        received->printed = sqlite3_column_int64(statement, 0);
    }
    (void)sqlite3_reset(statement); /* repeats what step said */
    (void)fflush(stdout);
    return result == SQLITE_DONE || failed(received);
}

/* What was begun is undone by the end of the process, which is near where this fails. */
static bool commit(struct received *received)
{
    return run(received, RECEIVED_COMMIT) && (!received->json || print_new(received));
}

bool received_take(struct received *received, inbox_text topic, const inbox_message *message)
{
    char sentence[200] = "";
    inbox_event event = {.form = INBOX_NO_EVENT};
    if (!make_room(received, message->payload_len))
        return false;
    int code = inbox_read(message, received->room, &event, sentence, sizeof sentence);
    if (code != OUTBOX_OK) {
        (void)fprintf(stderr, "outbox: a message to %.*s is no event: %s\n", (int)topic.len,
                      topic.bytes, sentence);
        event.content_type = message->content_type;
        event.data = (inbox_text){message->payload, message->payload_len};
        event.data_kind = message->payload_len > 0 ? INBOX_BYTES : INBOX_NO_DATA;
    }
    return run(received, RECEIVED_BEGIN) && take_inside(received, &topic, &event) &&
           commit(received);
}

/* ---- Giving up ------------------------------------------------------------------------------- */

static bool give_up_one(struct received *received, int64_t since, bool *found)
{
    char stream[INBOX_NAME_MAX + 1], source[INBOX_NAME_MAX + 1];
    bool more;
    sqlite3_stmt *oldest = received->statement[RECEIVED_OLDEST];
    if (!bind_number(oldest, 1, since))
        return failed(received);
    *found = sqlite3_step(oldest) == SQLITE_ROW;
    if (*found) {
        (void)snprintf(stream, sizeof stream, "%s", (const char *)sqlite3_column_text(oldest, 0));
        (void)snprintf(source, sizeof source, "%s", (const char *)sqlite3_column_text(oldest, 1));
    }
    (void)sqlite3_reset(oldest); /* what failed here fails again at the next statement */
    if (!*found)
        return true;
    const struct origin origin = {{stream, strlen(stream)}, {source, strlen(source)}};
    (void)fprintf(stderr, "outbox: %s: the gap does not close; going on behind it\n", stream);
    return judge_first(received, RECEIVED_NEXT, &origin, true, &more) &&
           release_waiting(received, &origin);
}

bool received_give_up(struct received *received, int64_t since)
{
    bool found = true, done = true;
    if (received->waiting == 0)
        return true;
    done = run(received, RECEIVED_BEGIN);
    while (done && found)
        done = give_up_one(received, since, &found);
    return done && commit(received);
}
