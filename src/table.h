/* SPDX-License-Identifier: MIT
 *
 * table.h - one lane's table through one connection: its lowest row, which is the tombstone, and
 * how rows leave at its front.
 *
 * Every call runs inside the caller's transaction. The forwarder has one of these for each lane,
 * and a writer has one for a lane that it must make room in.
 */
#ifndef OB_TABLE_H
#define OB_TABLE_H

#include "error.h"
#include "lane.h"
#include "ledger.h"

#include <sqlite3.h>
#include <stdbool.h>

struct ob_table {
    sqlite3 *db; /* NULL: not open */
    outbox_lane lane;
    struct ob_error *error; /* the owner's */
    bool small_heap;        /* nothing is kept, see outbox_config.small_heap */
    sqlite3_stmt *kept[OB_TABLE_STATEMENTS];

    struct ob_ledger *head; /* the tombstone as it was seen last; NULL: the owner forgets it */
    bool head_is_known;
};

/* Prepares nothing yet. `error` gets the particulars of every call that fails. */
void ob_table_open(struct ob_table *table, sqlite3 *db, outbox_lane lane, bool small_heap,
                   struct ob_error *error);
void ob_table_close(struct ob_table *table);

/* One of the texts that are kept prepared, from the first call on; every call that succeeds is
 * followed by one of ob_table_done(), which resets it; or frees it where nothing is kept. */
int ob_table_statement(struct ob_table *table, enum ob_table_sql which, sqlite3_stmt **statement);
void ob_table_done(struct ob_table *table, enum ob_table_sql which);

/* Runs one of the SQL texts that are not kept prepared, with up to two numbers bound to it. */
int ob_table_run(struct ob_table *table, enum ob_table_sql which, int64_t a, int64_t b);
/* The same; gives the first column of its first row, or `none` where that is missing or NULL. */
int ob_table_number(struct ob_table *table, enum ob_table_sql which, int64_t a, int64_t none,
                    int64_t *number);

/* Prepares one of the texts that add up bytes, so that it counts captured values as well. */
int ob_table_prepare_measuring(struct ob_table *table, enum ob_table_sql which,
                               sqlite3_stmt **statement);

/* Whether each of those can be prepared: an authorizer may deny one, or a column be missing. */
int ob_table_probe(struct ob_table *table);

/* The largest id of all; 0 where the table is empty. */
int ob_table_largest(struct ob_table *table, int64_t *id);

/* The lowest row, or the first that carries a mark. */
struct ob_lowest {
    bool exists, is_tombstone, is_known, has_total; /* is_known: it is the tombstone seen last */
    int64_t id, total;
    struct ob_ledger ledger; /* if it is a tombstone */
};
int ob_table_lowest(struct ob_table *table, struct ob_lowest *lowest);
int ob_table_take_lowest(struct ob_table *table, sqlite3_stmt *statement, struct ob_lowest *lowest);

/* Remembers the tombstone that was written or seen. */
void ob_table_adopt(struct ob_table *table, const struct ob_ledger *ledger);

/* Deletes what a new tombstone `id` has passed. */
int ob_table_delete_passed(struct ob_table *table, int64_t id);

/* Turns the row `ledger->id` into the tombstone, and makes the row where it is gone. */
int ob_table_entomb(struct ob_table *table, const struct ob_ledger *ledger);

#endif
