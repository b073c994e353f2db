/* SPDX-License-Identifier: MIT
 *
 * scope.c - savepoints in the application's transaction, or transactions of our own.
 *
 * A crash before the end leaves nothing of a transaction of our own; what a savepoint holds stays
 * or goes with the application's transaction. SQLite may have undone all of that by itself after an
 * error, so the connection's state is looked at, not what was asked of it.
 */
#include "scope.h"

#include "sql.h"

int ob_scope_open(struct ob_scope *scope, sqlite3 *db, struct ob_error *error)
{
    *scope = (struct ob_scope){.db = db,
                               .error = error,
                               .is_own = sqlite3_get_autocommit(db) != 0,
                               .rowid = sqlite3_last_insert_rowid(db)};
    /* Inside a statement that writes there is a transaction, but no savepoint can be opened in it,
     * and SQLite calls that busy: who then waits, waits for himself. */
    if (scope->is_own && sqlite3_txn_state(db, NULL) == SQLITE_TXN_WRITE)
        return ob_error_set(error, OUTBOX_MISUSE,
                            "a statement that writes runs on this connection; call after it, or "
                            "inside BEGIN and COMMIT");
    return ob_sql_run(db, scope->is_own ? "BEGIN IMMEDIATE" : "SAVEPOINT outbox_scope", error,
                      "opening a transaction");
}

static int undo(struct ob_scope *scope, int code)
{
    if (scope->is_own)
        return ob_sql_give_up(scope->db, code, scope->error);
    if (sqlite3_get_autocommit(scope->db))
        return code; /* SQLite has undone the whole transaction, the savepoint with it */
    if (sqlite3_exec(scope->db, "ROLLBACK TO outbox_scope; RELEASE outbox_scope", NULL, NULL,
                     NULL) == SQLITE_OK)
        return code;
    return ob_error_set(scope->error, OUTBOX_SQLITE,
                        "what failed cannot be undone alone (%s): run ROLLBACK",
                        sqlite3_errmsg(scope->db));
}

int ob_scope_close(struct ob_scope *scope, int code)
{
    if (code == OUTBOX_OK)
        code = ob_sql_run(scope->db, scope->is_own ? "COMMIT" : "RELEASE outbox_scope",
                          scope->error, "committing");
    if (code != OUTBOX_OK)
        code = undo(scope, code);
    sqlite3_set_last_insert_rowid(scope->db, scope->rowid);
    return code;
}
