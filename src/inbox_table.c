/* SPDX-License-Identifier: MIT
 *
 * inbox_table.c - makes the inbox's tables, reads a stream from its row and writes it back.
 *
 * The tables appear in one transaction, and a stream is one row that is written by one statement;
 * so a crash leaves an inbox or none, and a stream as it was or as it is to be. Anybody may write
 * into the file: a row is believed only if an inbox could have written it.
 */
#include "inbox_table.h"

#include "sql.h"
#include "text.h"

#include <assert.h>
#include <string.h>

/* WITHOUT ROWID: one b-tree, so an event costs one page. */
static const char inbox_tables[] =
    "CREATE TABLE main.inbox_stream(stream TEXT PRIMARY KEY, epoch TEXT, mark INTEGER,"
    " applied INTEGER, passed_over INTEGER, forgone INTEGER, announced INTEGER, lost INTEGER,"
    " epochs INTEGER, retired TEXT, late TEXT, last_id TEXT) WITHOUT ROWID;"
    "CREATE TABLE main.inbox_meta(name TEXT PRIMARY KEY, value);"
    "INSERT INTO main.inbox_meta(name, value) VALUES('version', 1), ('minimum_reader', 1);";

const char *const ob_inbox_read_sql =
    "SELECT " OB_INBOX_COLUMNS " FROM main.inbox_stream WHERE stream = ?1";

const char *const ob_inbox_write_sql =
    "INSERT INTO main.inbox_stream(stream, " OB_INBOX_COLUMNS ")"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT(stream) DO UPDATE SET"
    " epoch = ?2, mark = ?3, applied = ?4, passed_over = ?5, forgone = ?6, announced = ?7, lost = "
    "?8,"
    " epochs = ?9, retired = ?10, late = ?11, last_id = ifnull(?12, last_id)";

enum { INBOX_TABLES = 2 };

/* ---- The tables ------------------------------------------------------------------------------ */

int ob_inbox_find(sqlite3 *db, bool *found, struct ob_error *error)
{
    int64_t count, minimum = 0;
    *found = false;
    int code = ob_sql_number(db,
                             "SELECT count(*) FROM main.sqlite_master WHERE type = 'table' AND"
                             " name IN ('inbox_stream', 'inbox_meta')",
                             0, 0, 0, &count, error);
    if (code != OUTBOX_OK || count == 0)
        return code;
    if (count != INBOX_TABLES)
        return ob_error_set(error, OUTBOX_CORRUPT,
                            "of the tables inbox_stream and inbox_meta one is missing; restore the "
                            "file from a backup or drop the other");
    code = ob_sql_number(db, "SELECT value FROM main.inbox_meta WHERE name = 'minimum_reader'", 0,
                         0, 0, &minimum, error);
    if (code != OUTBOX_OK)
        return code;
    if (minimum > OB_INBOX_VERSION)
        return ob_error_set(error, OUTBOX_NEWER_SCHEMA,
                            "the inbox in this file needs schema version %lld, this program knows "
                            "%d; update the program",
                            (long long)minimum, OB_INBOX_VERSION);
    *found = true;
    return OUTBOX_OK;
}

int ob_inbox_make(sqlite3 *db, struct ob_error *error)
{
    bool found;
    assert(sqlite3_get_autocommit(db));
    int code = ob_sql_run(db, "BEGIN IMMEDIATE", error, "opening a transaction");
    if (code != OUTBOX_OK)
        return code;
    /* Looked for again under the lock: another process may have been quicker. */
    code = ob_inbox_find(db, &found, error);
    if (code == OUTBOX_OK && !found)
        code = ob_sql_run(db, inbox_tables, error, "making the inbox's tables");
    if (code == OUTBOX_OK)
        code = ob_sql_run(db, "COMMIT", error, "committing the inbox's tables");
    return code == OUTBOX_OK ? code : ob_sql_give_up(db, code, error);
}

/* ---- Texts of a row -------------------------------------------------------------------------- */

/* Takes a number of at most 19 digits off the front. */
static bool cut_number(const char **at, int64_t *number)
{
    int64_t value = 0;
    const char *first = *at;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        int digit = **at - '0';
        if (value > (INT64_MAX - digit) / 10)
            return false;
        value = 10 * value + digit;
    }
    *number = value;
    return *at > first;
}

static bool take_letter(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool parse_late(struct ob_stream *stream, const char *text)
{
    int64_t behind = 0;
    stream->late_count = 0;
    while (*text != '\0') {
        struct ob_range range;
        if (stream->late_count == INBOX_LATE ||
            (stream->late_count > 0 && !take_letter(&text, ' ')) ||
            !cut_number(&text, &range.from) || !take_letter(&text, '-') ||
            !cut_number(&text, &range.to) || range.from <= behind || range.to < range.from ||
            range.to >= stream->mark)
            return false;
        stream->late[stream->late_count++] = range;
        behind = range.to;
    }
    return true;
}

static bool copy_epoch(char epoch[OB_STREAM_EPOCH_MAX + 1], const char *text, size_t len)
{
    if (len > OB_STREAM_EPOCH_MAX || !ob_text_is_device(text, len))
        return false;
    memcpy(epoch, text, len);
    epoch[len] = '\0';
    return true;
}

static bool parse_retired(struct ob_stream *stream, const char *text)
{
    stream->retired_count = 0;
    while (*text != '\0') {
        if (stream->retired_count > 0 && !take_letter(&text, ' '))
            return false;
        size_t len = strcspn(text, " ");
        if (stream->retired_count == INBOX_RETIRED ||
            !copy_epoch(stream->retired[stream->retired_count], text, len))
            return false;
        stream->retired_count++;
        text += len;
    }
    return true;
}

static size_t print_late(const struct ob_stream *stream, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < stream->late_count; i++) {
        sqlite3_snprintf((int)(size - used), text + used, "%s%lld-%lld", i > 0 ? " " : "",
                         (long long)stream->late[i].from, (long long)stream->late[i].to);
        used += strlen(text + used);
    }
    return used;
}

static size_t print_retired(const struct ob_stream *stream, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < stream->retired_count; i++) {
        sqlite3_snprintf((int)(size - used), text + used, "%s%s", i > 0 ? " " : "",
                         stream->retired[i]);
        used += strlen(text + used);
    }
    return used;
}

/* ---- A row ----------------------------------------------------------------------------------- */

enum column {
    EPOCH,
    MARK,
    APPLIED,
    PASSED_OVER,
    FORGONE,
    ANNOUNCED,
    LOST,
    EPOCHS,
    RETIRED,
    LATE,
    LAST_ID
};

/* NULL for anything but text without NUL. */
static const char *text_of(sqlite3_stmt *row, int column)
{
    if (sqlite3_column_type(row, column) != SQLITE_TEXT)
        return NULL;
    const char *text = (const char *)sqlite3_column_text(row, column);
    return text && strlen(text) == (size_t)sqlite3_column_bytes(row, column) ? text : NULL;
}

static bool load(sqlite3_stmt *row, struct ob_stream *stream)
{
    int64_t *const numbers[] = {[MARK] = &stream->mark,
                                [APPLIED] = &stream->applied,
                                [PASSED_OVER] = &stream->passed_over,
                                [FORGONE] = &stream->forgone,
                                [ANNOUNCED] = &stream->announced,
                                [LOST] = &stream->lost,
                                [EPOCHS] = &stream->epochs};
    for (int i = MARK; i <= EPOCHS; i++) {
        *numbers[i] = sqlite3_column_int64(row, i);
        if (sqlite3_column_type(row, i) != SQLITE_INTEGER || *numbers[i] < 0)
            return false;
    }
    const char *epoch = text_of(row, EPOCH);
    if (!epoch || (epoch[0] != '\0' && !copy_epoch(stream->epoch, epoch, strlen(epoch))))
        return false;
    const char *retired = text_of(row, RETIRED);
    if (!retired || !parse_retired(stream, retired))
        return false;
    const char *late = text_of(row, LATE);
    return late && parse_late(stream, late) && stream->lost <= stream->announced;
}

int ob_inbox_load(sqlite3_stmt *row, const char *name, int len, struct ob_stream *stream,
                  struct ob_error *error)
{
    memset(stream, 0, sizeof *stream);
    bool is_sound = load(row, stream);
    /* In a database in UTF-16 its texts are converted. */
    if (!is_sound && sqlite3_errcode(sqlite3_db_handle(row)) == SQLITE_NOMEM)
        return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while reading a stream");
    if (!is_sound)
        return ob_error_set(error, OUTBOX_CORRUPT,
                            "the row of %.*s in inbox_stream is damaged; restore the file from a "
                            "backup, or delete the row and begin the stream anew",
                            len < 80 ? len : 80, name);
    stream->exists = true;
    return OUTBOX_OK;
}

static int bind_bytes(sqlite3_stmt *write, int index, const char *text, size_t len)
{
    return sqlite3_bind_text(write, index, text, (int)len, SQLITE_STATIC);
}

int ob_inbox_store(sqlite3_stmt *write, const inbox_text *name, const inbox_text *id,
                   const struct ob_stream *stream, struct ob_error *error)
{
    char retired[INBOX_RETIRED * (OB_STREAM_EPOCH_MAX + 1) + 1], late[INBOX_LATE * 42 + 1];
    size_t retired_len = print_retired(stream, retired, sizeof retired);
    size_t late_len = print_late(stream, late, sizeof late);
    const int64_t numbers[] = {stream->mark,    stream->applied,   stream->passed_over,
                               stream->forgone, stream->announced, stream->lost,
                               stream->epochs};
    int bound = bind_bytes(write, 1, name->bytes, name->len);
    if (bound == SQLITE_OK)
        bound = bind_bytes(write, 2, stream->epoch, strlen(stream->epoch));
    for (int i = 0; i < (int)(sizeof numbers / sizeof numbers[0]); i++)
        ob_sql_bind_number(write, 3 + i, numbers[i]);
    if (bound == SQLITE_OK)
        bound = bind_bytes(write, 10, retired, retired_len);
    if (bound == SQLITE_OK)
        bound = bind_bytes(write, 11, late, late_len);
    if (bound == SQLITE_OK)
        bound = bind_bytes(write, 12, id ? id->bytes : NULL, id ? id->len : 0);
    int code = bound == SQLITE_OK
                   ? ob_sql_step(write, NULL, error, "storing the stream's mark")
                   : ob_error_sqlite(error, sqlite3_db_handle(write), bound, "binding a stream");
    (void)sqlite3_clear_bindings(write); /* they point into this function; it cannot fail */
    return code;
}
