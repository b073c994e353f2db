/* SPDX-License-Identifier: MIT
 *
 * error.c - codes to sentences, and SQLite's result codes to ours.
 *
 * Nothing here has state that a crash could harm. Formatting goes through SQLite's own printf,
 * so that the core needs no stdio.
 */
#include "error.h"

#include <assert.h>
#include <sqlite3.h>

const char *outbox_strerror(int code)
{
    switch (code) {
#define OB_CASE(name, value, sentence)                                                             \
    case name:                                                                                     \
        return sentence;
        OUTBOX_CODE_MAP(OB_CASE)
#undef OB_CASE
    default:
        return "no code of this library";
    }
}

int ob_error_vset(struct ob_error *error, int code, const char *format, va_list arguments)
{
    assert(code < 0);
    error->code = code;
    sqlite3_vsnprintf((int)sizeof error->sentence, error->sentence, format, arguments);
    return code;
}

int ob_error_set(struct ob_error *error, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(error, code, format, arguments);
    va_end(arguments);
    return code;
}

static int code_of_sqlite(int result)
{
    static const struct {
        int result, code;
    } map[] = {
        {SQLITE_BUSY, OUTBOX_BUSY},        {SQLITE_LOCKED, OUTBOX_BUSY},
        {SQLITE_FULL, OUTBOX_DISK_FULL},   {SQLITE_READONLY, OUTBOX_READONLY},
        {SQLITE_CORRUPT, OUTBOX_CORRUPT},  {SQLITE_NOTADB, OUTBOX_CORRUPT},
        {SQLITE_NOMEM, OUTBOX_NO_MEMORY},  {SQLITE_MISUSE, OUTBOX_MISUSE},
        {SQLITE_TOOBIG, OUTBOX_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        if ((result & 0xff) == map[i].result)
            return map[i].code;
    return OUTBOX_SQLITE;
}

int ob_error_sqlite(struct ob_error *error, sqlite3 *db, int result, const char *doing)
{
    assert(result != SQLITE_OK && result != SQLITE_ROW && result != SQLITE_DONE);
    int code = code_of_sqlite(result);
    /* A connection gives the short result code, unless the application has asked for long ones. */
    if (result == SQLITE_READONLY_DBMOVED ||
        (result == SQLITE_READONLY && db &&
         sqlite3_extended_errcode(db) == SQLITE_READONLY_DBMOVED))
        code = OUTBOX_MOVED;
    /* The message belongs to the last call on the connection; quote it only if that is ours. */
    const char *message =
        db && sqlite3_errcode(db) == result ? sqlite3_errmsg(db) : sqlite3_errstr(result);
    return ob_error_set(error, code, "%s failed: %s (SQLite %d). %s", doing, message, result,
                        outbox_strerror(code));
}

void ob_error_clear(struct ob_error *error)
{
    error->code = OUTBOX_OK;
    error->sentence[0] = '\0';
}
