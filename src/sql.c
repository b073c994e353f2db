/* SPDX-License-Identifier: MIT
 *
 * sql.c - prepare, step, run: SQLite's calls with every result looked at.
 *
 * Nothing is cached here. A transaction whose ROLLBACK fails stays open, and the caller is told: a
 * crash undoes it, and until then nothing may be reported as stored that was put into it.
 */
#include "sql.h"

#include "always.h"

#include <assert.h>
#include <string.h>

int ob_sql_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **statement, struct ob_error *error)
{
    if (*statement)
        return OUTBOX_OK;
    int result = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
    if (result != SQLITE_OK) {
        *statement = NULL;
        return ob_error_sqlite(error, db, result, "preparing a statement");
    }
    return OUTBOX_OK;
}

/* Both repeat what the last step said, whose result was looked at. */
void ob_sql_done(sqlite3_stmt **statement, bool small_heap)
{
    if (!small_heap) {
        (void)sqlite3_reset(*statement);
        return;
    }
    (void)sqlite3_finalize(*statement);
    *statement = NULL;
}

int ob_sql_step(sqlite3_stmt *statement, bool *row, struct ob_error *error, const char *doing)
{
    int result = sqlite3_step(statement);
    bool is_row = result == SQLITE_ROW;
    if (row)
        *row = is_row;
    if (is_row)
        return OUTBOX_OK;
    sqlite3 *db = sqlite3_db_handle(statement);
    /* The reset repeats the result of the step that failed; a commit can fail only here. */
    int reset = sqlite3_reset(statement);
    if (result == SQLITE_DONE)
        result = reset;
    if (result != SQLITE_OK)
        return ob_error_sqlite(error, db, result, doing);
    return OUTBOX_OK;
}

/* A number needs no memory: SQLite refuses it only for a statement that runs, or without such a
 * parameter. Ours are reset after each use, and none runs a function that could call us. */
void ob_sql_bind_number(sqlite3_stmt *statement, int index, int64_t number)
{
    int result = sqlite3_bind_int64(statement, index, number);
    assert(result == SQLITE_OK);
    (void)result;
}

int ob_sql_run(sqlite3 *db, const char *sql, struct ob_error *error, const char *doing)
{
    int result = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return result == SQLITE_OK ? OUTBOX_OK : ob_error_sqlite(error, db, result, doing);
}

int ob_sql_number(sqlite3 *db, const char *sql, int64_t a, int64_t b, int64_t none, int64_t *number,
                  struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool row = false;
    *number = none;
    int code = ob_sql_prepare(db, sql, &statement, error);
    if (code != OUTBOX_OK)
        return code;
    int parameters = sqlite3_bind_parameter_count(statement);
    if (parameters > 0)
        ob_sql_bind_number(statement, 1, a);
    if (parameters > 1)
        ob_sql_bind_number(statement, 2, b);
    code = ob_sql_step(statement, &row, error, "reading a number");
    if (row && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        *number = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

int ob_sql_text(sqlite3_stmt *statement, int column, const char **text, size_t *len,
                struct ob_error *error)
{
    bool is_null = sqlite3_column_type(statement, column) == SQLITE_NULL;
    *text = (const char *)sqlite3_column_text(statement, column);
    *len = *text ? (size_t)sqlite3_column_bytes(statement, column) : 0;
    if (*text || is_null)
        return OUTBOX_OK;
    return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while reading a row's text");
}

bool ob_sql_rollback(sqlite3 *db)
{
    /* Its result does not tell: it fails also where there is nothing left to undo. */
    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return sqlite3_get_autocommit(db) != 0;
}

int ob_sql_give_up(sqlite3 *db, int code, struct ob_error *error)
{
    assert(code != OUTBOX_OK);
    if (ob_sql_rollback(db))
        return code;
    return ob_error_set(error, OUTBOX_SQLITE,
                        "the outbox's own transaction failed and its ROLLBACK too (%s), so it is "
                        "still open: run ROLLBACK before anything else",
                        sqlite3_errmsg(db));
}

/* Prepared anew each time: SQLite fixes the answer when it prepares this pragma. */
int ob_sql_synchronous(sqlite3 *db, int *level, struct ob_error *error)
{
    int64_t number = -1;
    int code = ob_sql_number(db, "PRAGMA main.synchronous", 0, 0, -1, &number, error);
    *level = code == OUTBOX_OK ? (int)number : -1;
    return code;
}

enum ob_journal ob_sql_journal(sqlite3 *db)
{
    static const char *const modes[] = {"",       "delete", "truncate", "persist",
                                        "memory", "off",    "wal"};
    enum ob_journal journal = OB_JOURNAL_UNKNOWN;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db, "PRAGMA main.journal_mode", -1, &statement, NULL) != SQLITE_OK)
        return OB_JOURNAL_UNKNOWN;
    if (sqlite3_step(statement) == SQLITE_ROW) {
        const char *mode = (const char *)sqlite3_column_text(statement, 0);
        for (int i = OB_JOURNAL_DELETE; mode && i <= OB_JOURNAL_WAL; i++)
            if (strcmp(mode, modes[i]) == 0)
                journal = (enum ob_journal)i;
    }
    (void)sqlite3_finalize(statement);
    return journal;
}

/* Measured with simulated power cuts: in DELETE mode the removal of the journal can be undone
 * unless synchronous is EXTRA (SQLite, pragma synchronous). */
bool ob_sql_is_durable(enum ob_journal journal, int synchronous)
{
    switch (journal) {
    case OB_JOURNAL_WAL:
    case OB_JOURNAL_TRUNCATE:
    case OB_JOURNAL_PERSIST:
        return synchronous >= 2;
    case OB_JOURNAL_DELETE:
        return synchronous >= 3;
    default:
        return false;
    }
}

sqlite3_vfs *ob_sql_vfs(sqlite3 *db)
{
    sqlite3_vfs *vfs = NULL;
    (void)sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &vfs); /* NULL tells as well */
    return vfs;
}

int64_t ob_sql_now(sqlite3_vfs *vfs)
{
    const int64_t julian_1970 = 210866760000000; /* ms from the Julian day's origin */
    sqlite3_int64 now = 0;
    double days = 0;
    if (vfs && vfs->iVersion >= 2 && vfs->xCurrentTimeInt64) {
        if (vfs->xCurrentTimeInt64(vfs, &now) != SQLITE_OK)
            return 0;
    } else if (vfs && vfs->xCurrentTime && vfs->xCurrentTime(vfs, &days) == SQLITE_OK) {
        now = (sqlite3_int64)(days * 86400000.0);
    }
    return now > julian_1970 ? now - julian_1970 : 0;
}

int ob_sql_read_at_once(sqlite3 *db, int (*work)(void *context), void *context,
                        struct ob_error *error)
{
    if (!sqlite3_get_autocommit(db))
        return work(context);
    /* A COMMIT: it has nothing to write, and a ROLLBACK would call the application's hook. Prepared
     * before, for without memory it could not be then, and the transaction would stay open. */
    sqlite3_stmt *end = NULL;
    int code = ob_sql_prepare(db, "COMMIT", &end, error);
    if (code == OUTBOX_OK)
        code = ob_sql_run(db, "BEGIN", error, "opening a read transaction");
    if (code != OUTBOX_OK) {
        (void)sqlite3_finalize(end); /* it never ran */
        return code;
    }
    code = work(context);
    struct ob_error at_end = {0};
    int ended = ob_sql_step(end, NULL, &at_end, "ending a read transaction");
    (void)sqlite3_finalize(end); /* repeats what step said */
    if (ended != OUTBOX_OK)
        ended = ob_sql_give_up(db, ended, &at_end);
    if (code != OUTBOX_OK || ended == OUTBOX_OK)
        return code;
    *error = at_end;
    return ended;
}
