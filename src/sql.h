/* SPDX-License-Identifier: MIT
 *
 * sql.h - the few ways in which the core calls SQLite, each with its result looked at.
 *
 * All return an outbox_code and leave the particulars in `error`.
 */
#ifndef OB_SQL_H
#define OB_SQL_H

#include "error.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define OB_OLDEST_SQLITE 3034000 /* sqlite3_txn_state() */

/* Prepares a statement that is kept (SQLITE_PREPARE_PERSISTENT), if *statement is still NULL. */
int ob_sql_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **statement, struct ob_error *error);

/* Steps once. `row` (may be NULL where no row can come) says whether a row stands ready; without
 * one, or on an error, the statement has been reset. */
int ob_sql_step(sqlite3_stmt *statement, bool *row, struct ob_error *error, const char *doing);

/* Ends a use of such a statement, wherever it stands: resets it, or frees it where none is kept. */
void ob_sql_done(sqlite3_stmt **statement, bool small_heap);

/* Binds a number to a statement that is not running. */
void ob_sql_bind_number(sqlite3_stmt *statement, int index, int64_t number);

/* Runs SQL that gives no rows. */
int ob_sql_run(sqlite3 *db, const char *sql, struct ob_error *error, const char *doing);

/* Prepares, binds up to two integers, steps once, and gives the first column, or `none`, also on an
 * error. */
int ob_sql_number(sqlite3 *db, const char *sql, int64_t a, int64_t b, int64_t none, int64_t *number,
                  struct ob_error *error);

/* A column of the row as text; NULL where it is NULL. In a database in UTF-16 it has to be
 * converted, and where memory runs out in that, the statement's next reset may roll the transaction
 * back. */
int ob_sql_text(sqlite3_stmt *statement, int column, const char **text, size_t *len,
                struct ob_error *error);

/* Undoes the open transaction, if SQLite has not done so already. False: it is open still, since an
 * authorizer or an interrupt may stop a ROLLBACK too. */
bool ob_sql_rollback(sqlite3 *db);

/* The same for a transaction that failed with `code` on the application's connection. Gives that
 * code, or OUTBOX_SQLITE and what to do where the transaction stays open. */
int ob_sql_give_up(sqlite3 *db, int code, struct ob_error *error);

/* The synchronous level of the main database, 0 OFF .. 3 EXTRA; -1 where it cannot be read. */
int ob_sql_synchronous(sqlite3 *db, int *level, struct ob_error *error);

/* The journal mode, and what the pair of both promises of a commit. */
enum ob_journal {
    OB_JOURNAL_UNKNOWN,
    OB_JOURNAL_DELETE,
    OB_JOURNAL_TRUNCATE,
    OB_JOURNAL_PERSIST,
    OB_JOURNAL_MEMORY,
    OB_JOURNAL_OFF,
    OB_JOURNAL_WAL
};
enum ob_journal ob_sql_journal(sqlite3 *db);
bool ob_sql_is_durable(enum ob_journal journal, int synchronous);

/* Milliseconds since 1970 by the clock of the database's VFS, 0 where it has none. */
int64_t ob_sql_now(sqlite3_vfs *vfs);
sqlite3_vfs *ob_sql_vfs(sqlite3 *db);

/* Does the work inside a read transaction, of its own if none is open, so that all of it sees the
 * same state. */
int ob_sql_read_at_once(sqlite3 *db, int (*work)(void *context), void *context,
                        struct ob_error *error);

#endif
