/* SPDX-License-Identifier: MIT
 *
 * wakeup.c - the eponymous virtual tables behind a writer or an inbox.
 *
 * They hold no data: nothing of them is in the file, so a crash leaves nothing. The order of
 * events that SQLite gives, and that the writer relies on: xBegin when a transaction first touches
 * the table, then xCommit or xRollback, once; xRollbackTo when a savepoint or a failed statement
 * inside it is undone. During sqlite3_close(): xDisconnect, then the check for statements that are
 * still there, then the destructor. A close that fails at that check has disconnected the tables
 * already; that is why the writer connects them again before it caches anything.
 */
#include "wakeup.h"

#include "always.h"

#include <assert.h>
#include <string.h>

/* SQLite may keep a table and its module beyond their removal, until its next statement or the end
 * of the transaction. So they point to this and not to the handle, which may be gone by then. */
struct ob_anchor {
    struct ob_wakeup *wakeup; /* NULL once unregistered */
    int users;                /* modules and tables that SQLite has yet to let go, in any order */
};

struct table {
    sqlite3_vtab base;
    struct ob_anchor *anchor;
};

static struct ob_wakeup *wakeup_of(sqlite3_vtab *base)
{
    return ((struct table *)base)->anchor->wakeup;
}

static void release(void *context)
{
    struct ob_anchor *anchor = context;
    assert(anchor->users > 0);
    if (--anchor->users == 0)
        sqlite3_free(anchor);
}

static int connect_table(sqlite3 *db, struct ob_anchor *anchor, const char *declaration,
                         sqlite3_vtab **out)
{
    int result = sqlite3_declare_vtab(db, declaration);
    if (result != SQLITE_OK)
        return result;
    struct table *table = sqlite3_malloc((int)sizeof *table);
    if (!table)
        return SQLITE_NOMEM;
    memset(table, 0, sizeof *table);
    table->anchor = anchor;
    anchor->users++;
    *out = &table->base;
    return SQLITE_OK;
}

static int disconnect_table(sqlite3_vtab *base)
{
    release(((struct table *)base)->anchor);
    sqlite3_free(base);
    return SQLITE_OK;
}

/* ---- The one that tells of the commit -------------------------------------------------------- */

static int commit_connect(sqlite3 *db, void *context, int argc, const char *const *argv,
                          sqlite3_vtab **out, char **message)
{
    (void)argc, (void)argv, (void)message;
    return connect_table(db, context, "CREATE TABLE x(touch)", out);
}

static int commit_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid)
{
    (void)base, (void)argc, (void)argv;
    *rowid = 0;
    return SQLITE_OK;
}

/* `wakeup` is NULL when the handle was detached inside the transaction. */
#define OB_TELL(base, moment, ...)                                                                 \
    do {                                                                                           \
        const struct ob_wakeup *wakeup_ = wakeup_of(base);                                         \
        if (wakeup_)                                                                               \
            wakeup_->methods->moment(__VA_ARGS__);                                                 \
    } while (0)

static int commit_begin(sqlite3_vtab *base)
{
    OB_TELL(base, began, wakeup_->context);
    return SQLITE_OK;
}

static int commit_commit(sqlite3_vtab *base)
{
    OB_TELL(base, committed, wakeup_->context);
    return SQLITE_OK;
}

static int commit_rollback(sqlite3_vtab *base)
{
    OB_TELL(base, undone, wakeup_->context);
    return SQLITE_OK;
}

static int commit_rollback_to(sqlite3_vtab *base, int savepoint)
{
    OB_TELL(base, partly_undone, wakeup_->context, savepoint);
    return SQLITE_OK;
}

static int commit_savepoint(sqlite3_vtab *base, int savepoint)
{
    OB_TELL(base, saved, wakeup_->context, savepoint);
    return SQLITE_OK;
}

static int commit_release(sqlite3_vtab *base, int savepoint)
{
    OB_TELL(base, released, wakeup_->context, savepoint);
    return SQLITE_OK;
}

/* ---- The one that owns the statements -------------------------------------------------------- */

static int statements_connect(sqlite3 *db, void *context, int argc, const char *const *argv,
                              sqlite3_vtab **out, char **message)
{
    (void)argc, (void)argv, (void)message;
    struct ob_anchor *anchor = context;
    int result = connect_table(db, anchor, "CREATE TABLE x(unused)", out);
    /* The module is gone before the handle is, and without it nothing is connected. */
    if (result == SQLITE_OK && OB_ALWAYS(anchor->wakeup != NULL))
        anchor->wakeup->owns_statements = true;
    return result;
}

static int statements_disconnect(sqlite3_vtab *base)
{
    struct ob_wakeup *wakeup = wakeup_of(base);
    if (wakeup) {
        wakeup->owns_statements = false;
        wakeup->methods->release_statements(wakeup->context);
    }
    return disconnect_table(base);
}

/* Runs with a handle only when the connection closes: unregistering takes the handle off first. */
static void statements_destroy(void *context)
{
    struct ob_anchor *anchor = context;
    struct ob_wakeup *wakeup = anchor->wakeup;
    if (wakeup) {
        anchor->wakeup = NULL;
        wakeup->anchor = NULL;
        wakeup->db = NULL;
        wakeup->methods->closed(wakeup->context);
    }
    release(anchor);
}

/* ---- What both share: a table without rows --------------------------------------------------- */

static int best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    (void)base;
    info->estimatedCost = 1;
    return SQLITE_OK;
}

static int cursor_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    (void)base;
    *out = sqlite3_malloc((int)sizeof **out);
    if (!*out)
        return SQLITE_NOMEM;
    memset(*out, 0, sizeof **out);
    return SQLITE_OK;
}

static int cursor_close(sqlite3_vtab_cursor *cursor)
{
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static int cursor_filter(sqlite3_vtab_cursor *cursor, int number, const char *text, int argc,
                         sqlite3_value **argv)
{
    (void)cursor, (void)number, (void)text, (void)argc, (void)argv;
    return SQLITE_OK;
}

static int cursor_next(sqlite3_vtab_cursor *cursor)
{
    (void)cursor;
    return SQLITE_OK;
}

static int cursor_eof(sqlite3_vtab_cursor *cursor)
{
    (void)cursor;
    return 1;
}

static int cursor_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
    (void)cursor, (void)column;
    sqlite3_result_null(context);
    return SQLITE_OK;
}

static int cursor_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    (void)cursor;
    *rowid = 0;
    return SQLITE_OK;
}

/* xCreate NULL makes a table eponymous only: it exists without CREATE VIRTUAL TABLE. */
static const sqlite3_module commit_module = {
    .iVersion = 2,
    .xConnect = commit_connect,
    .xBestIndex = best_index,
    .xDisconnect = disconnect_table,
    .xOpen = cursor_open,
    .xClose = cursor_close,
    .xFilter = cursor_filter,
    .xNext = cursor_next,
    .xEof = cursor_eof,
    .xColumn = cursor_column,
    .xRowid = cursor_rowid,
    .xUpdate = commit_update,
    .xBegin = commit_begin,
    .xCommit = commit_commit,
    .xRollback = commit_rollback,
    .xSavepoint = commit_savepoint,
    .xRelease = commit_release,
    .xRollbackTo = commit_rollback_to,
};

static const sqlite3_module statements_module = {
    .iVersion = 1,
    .xConnect = statements_connect,
    .xBestIndex = best_index,
    .xDisconnect = statements_disconnect,
    .xOpen = cursor_open,
    .xClose = cursor_close,
    .xFilter = cursor_filter,
    .xNext = cursor_next,
    .xEof = cursor_eof,
    .xColumn = cursor_column,
    .xRowid = cursor_rowid,
};

/* ---- Register, connect, unregister ----------------------------------------------------------- */

static int probe(sqlite3 *db, const struct ob_wakeup_methods *methods, bool step)
{
    sqlite3_stmt *statement = NULL;
    char sql[64];
    sqlite3_snprintf((int)sizeof sql, sql, "SELECT 1 FROM %s", methods->statements_table);
    int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK && step && sqlite3_step(statement) != SQLITE_DONE)
        result = SQLITE_ERROR; /* the finalize below says which */
    int finalized = sqlite3_finalize(statement);
    return finalized != SQLITE_OK ? finalized : result;
}

/* sqlite3_create_module_v2() calls the destructor also where it fails. */
static int register_modules(sqlite3 *db, const struct ob_wakeup_methods *methods,
                            struct ob_anchor *anchor)
{
    int result = SQLITE_OK;
    anchor->users = methods->commit_table ? 2 : 1;
    if (methods->commit_table)
        result =
            sqlite3_create_module_v2(db, methods->commit_table, &commit_module, anchor, release);
    if (result != SQLITE_OK) {
        release(anchor);
        return result;
    }
    result = sqlite3_create_module_v2(db, methods->statements_table, &statements_module, anchor,
                                      statements_destroy);
    if (result != SQLITE_OK && methods->commit_table)
        (void)sqlite3_create_module_v2(db, methods->commit_table, NULL, NULL, NULL);
    return result;
}

int ob_wakeup_register(struct ob_wakeup *wakeup, sqlite3 *db,
                       const struct ob_wakeup_methods *methods, void *context,
                       struct ob_error *error)
{
    *wakeup = (struct ob_wakeup){.db = NULL, .methods = methods, .context = context};
    /* To register a module again would tear the first handle's tables down. */
    if (probe(db, methods, false) == SQLITE_OK)
        return ob_error_set(error, OUTBOX_MISUSE,
                            "this connection is attached already; use its handle");
    struct ob_anchor *anchor = sqlite3_malloc((int)sizeof *anchor);
    if (!anchor)
        return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out");
    anchor->wakeup = NULL;
    int result = register_modules(db, methods, anchor);
    if (result != SQLITE_OK)
        return ob_error_sqlite(error, db, result, "registering the virtual tables");
    anchor->wakeup = wakeup;
    wakeup->anchor = anchor;
    wakeup->db = db;
    return ob_wakeup_connect(wakeup, error);
}

int ob_wakeup_connect(struct ob_wakeup *wakeup, struct ob_error *error)
{
    assert(wakeup->db);
    if (wakeup->owns_statements)
        return OUTBOX_OK;
    int result = probe(wakeup->db, wakeup->methods, true);
    if (result != SQLITE_OK)
        return ob_error_sqlite(error, wakeup->db, result, "connecting the virtual tables");
    assert(wakeup->owns_statements);
    return OUTBOX_OK;
}

void ob_wakeup_unregister(struct ob_wakeup *wakeup)
{
    sqlite3 *db = wakeup->db;
    if (!db)
        return;
    wakeup->methods->release_statements(wakeup->context);
    wakeup->anchor->wakeup = NULL;
    wakeup->anchor = NULL;
    wakeup->db = NULL;
    wakeup->owns_statements = false;
    /* Removing a module cannot fail: it only frees. */
    (void)sqlite3_create_module_v2(db, wakeup->methods->statements_table, NULL, NULL, NULL);
    if (wakeup->methods->commit_table)
        (void)sqlite3_create_module_v2(db, wakeup->methods->commit_table, NULL, NULL, NULL);
}
