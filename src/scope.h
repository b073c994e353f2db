/* SPDX-License-Identifier: MIT
 *
 * scope.h - work of ours on the application's connection that happens as a whole or not at all.
 */
#ifndef OB_SCOPE_H
#define OB_SCOPE_H

#include "error.h"

#include <sqlite3.h>
#include <stdbool.h>

struct ob_scope {
    sqlite3 *db;
    struct ob_error *error;
    bool is_own; /* a transaction, not a savepoint in the application's */
    sqlite3_int64 rowid;
};

/* Opens a savepoint in the open transaction, or a transaction that holds the write lock. */
int ob_scope_open(struct ob_scope *scope, sqlite3 *db, struct ob_error *error);

/* Keeps what was done if `code` is OUTBOX_OK, else undoes it; gives that code, or why that failed.
 * The particulars of an earlier failure stay, and sqlite3_last_insert_rowid() is what it was. */
int ob_scope_close(struct ob_scope *scope, int code);

#endif
