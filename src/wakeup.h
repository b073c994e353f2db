/* SPDX-License-Identifier: MIT
 *
 * wakeup.h - learns that the application's transaction committed, and lets its connection close.
 *
 * Two eponymous virtual tables do it, so that none of the application's hooks is taken:
 *
 *   outbox_commit      a put touches it; SQLite then calls its xCommit once per transaction, after
 *                      the rows are visible to other connections, and never after a rollback
 *   outbox_statements  owns the cached statements: sqlite3_close() disconnects virtual tables
 *                      before it looks for statements that were not finalized
 *
 * An inbox has the second one alone, under a name of its own.
 */
#ifndef OB_WAKEUP_H
#define OB_WAKEUP_H

#include "error.h"

#include <sqlite3.h>
#include <stdbool.h>

struct ob_wakeup_methods {
    const char *statements_table; /* its name */
    const char *commit_table;     /* NULL: there is none, and its four methods are never called */
    void (*began)(void *context); /* the table was touched for the first time */
    void (*committed)(void *context); /* visible to others now */
    void (*undone)(void *context);    /* rolled back, the touch with it */
    /* The savepoints of that transaction, numbered from the outside in: opened, released, rolled
     * back; the touch stays. One that was open at the touch may be told of by its number alone. */
    void (*saved)(void *context, int savepoint);
    void (*released)(void *context, int savepoint);
    void (*partly_undone)(void *context, int savepoint);
    void (*release_statements)(void *context); /* finalize them all: the connection may close */
    void (*closed)(void *context);             /* the connection is gone */
};

struct ob_wakeup {
    sqlite3 *db;
    const struct ob_wakeup_methods *methods;
    void *context;
    struct ob_anchor *anchor; /* what the tables hold on to; may outlive this */
    bool owns_statements;     /* that table is connected: statements may be cached */
};

/* Registers the tables. OUTBOX_MISUSE if the connection has them already. */
int ob_wakeup_register(struct ob_wakeup *wakeup, sqlite3 *db,
                       const struct ob_wakeup_methods *methods, void *context,
                       struct ob_error *error);

/* Connects the table of statements, if it is not: a close that failed has disconnected it. */
int ob_wakeup_connect(struct ob_wakeup *wakeup, struct ob_error *error);

/* Takes the tables away again. No method is called after it, also for a transaction that is
 * still open. Nothing happens if the connection is closed already. */
void ob_wakeup_unregister(struct ob_wakeup *wakeup);

#endif
