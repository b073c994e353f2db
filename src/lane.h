/* SPDX-License-Identifier: MIT
 *
 * lane.h - the two lanes, their tables, and the SQL that works on one of them.
 *
 * Both tables are alike, and all code works on one at a time. What differs is the name in the SQL.
 * So a text exists once, with {table} and {lane} in the places of the names. Nothing is kept here.
 */
#ifndef OB_LANE_H
#define OB_LANE_H

#include "error.h"

#include <sqlite3.h>
#include <stdint.h>

/* Those up to OB_TABLE_STATEMENTS are prepared once and kept, the others when they are needed. */
enum ob_table_sql {
    OB_SQL_HEAD,    /* the lowest row: id, ledger, total */
    OB_SQL_FETCH,   /* the events of ?1 < id <= ?2, at most ?3 */
    OB_SQL_LARGEST, /* max(id) */
    OB_SQL_IDS,     /* the ids of ?1 < id <= ?2 */
    OB_SQL_DELETE,  /* id < ?1 */
    OB_SQL_ENTOMB,  /* turns the row ?1 into the tombstone with the ledger ?2 */
    OB_SQL_BURY,    /* copies ?1 <= id <= ?2 into outbox_dead; reason ?3, time ?4 */
    OB_TABLE_STATEMENTS,

    OB_SQL_NEXT_ID = OB_TABLE_STATEMENTS, /* the smallest id > ?1 */
    OB_SQL_FIRST_ID,                      /* the smallest id > 0 */
    OB_SQL_LOWEST_ID,                     /* min(id) */
    OB_SQL_MAKE_ROW,                      /* an empty row ?1 */
    OB_SQL_MAKE_HEAD,                     /* the first tombstone: ledger ?1, id ?2 */
    OB_SQL_DELETE_RANGE,                  /* ?1 <= id <= ?2 */
    OB_SQL_FIRST_MARK,                    /* the lowest row with a ledger: the same */
    OB_SQL_UNMARK,                        /* takes the ledger off row ?1 */
    OB_SQL_OWNERS,                        /* of the table's first page: one, or it is damaged */
    OB_SQL_PUT,                           /* the writer's INSERT */
    OB_SQL_PUT_MEASURED,                  /* the same, with a running total of bytes */
    OB_SQL_TOTAL,                         /* the running total of row ?1 */
    OB_SQL_SET_TOTAL,                     /* makes it ?2 */
    OB_SQL_BACKWARDS,                     /* id, total, bytes of the rows up to ?1, newest first */
    OB_SQL_FIRST_TOTAL,                   /* the total before all rows behind ?1 */
    OB_SQL_TOTALS,                        /* id, total, bytes of the rows behind ?1, oldest first */
    OB_SQL_TAKE_BACK,                     /* deletes the event ?1 that was just put */
    OB_SQL_LAST_PENDING,                  /* the largest id of an event up to ?1, or NULL */
    OB_SQL_SPAN,                          /* from the tombstone to the largest id */
    OB_SQL_ENDS,                          /* of the table, for the statistics */
    OB_TABLE_SQL
};

/* Stands in the SQL that adds up bytes for those of captured values, table.h. To SQLite a
 * comment. */
#define OB_SQL_VALUES "/*values*/"

const char *ob_lane_sql(enum ob_table_sql which);

/* The text with the lane's names in it, which the caller frees with sqlite3_free(). NULL: memory
 * ran out. */
char *ob_lane_fill(outbox_lane lane, const char *text);

/* ob_sql_prepare() and ob_sql_number() of such a text. */
int ob_lane_prepare(sqlite3 *db, outbox_lane lane, const char *text, sqlite3_stmt **statement,
                    struct ob_error *error);
int ob_lane_number(sqlite3 *db, outbox_lane lane, const char *text, int64_t a, int64_t b,
                   int64_t none, int64_t *number, struct ob_error *error);

const char *ob_lane_name(outbox_lane lane);  /* as in `source` and in outbox_epoch */
const char *ob_lane_table(outbox_lane lane); /* outbox_event, outbox_urgent */

#endif
