/* SPDX-License-Identifier: MIT
 *
 * capture_sql.h - pieces of the triggers' SQL, for the files that write them.
 */
#ifndef OB_CAPTURE_SQL_H
#define OB_CAPTURE_SQL_H

#include "capture_plan.h"

/* ---- capture_sql.c --------------------------------------------------------------------------- */

/* row.name; the names of the row's key, of `row`; prefix0, prefix1 ... as many as that has. */
void ob_put_name(const struct ob_plan *plan, sqlite3_str *sql, const char *row, const char *name);
void ob_put_row_key(const struct ob_plan *plan, sqlite3_str *sql, const char *row);
void ob_put_places(const struct ob_plan *plan, sqlite3_str *sql, const char *prefix);
/* `word` and the condition, if there is one. */
void ob_put_if(const struct ob_plan *plan, sqlite3_str *sql, const char *word, const char *new_row,
               const char *old_row);

/* A trigger of the table, from its name on; what it does, and its END. */
sqlite3_str *ob_trigger_begin(const struct ob_plan *plan, const char *kind, const char *when);
int ob_trigger_end(struct ob_plan *plan, sqlite3_str *sql);
/* Ends the text of a trigger or a table; its name is what it begins with. */
int ob_trigger_object(struct ob_plan *plan, bool is_trigger, sqlite3_str *sql);

/* ---- capture_clash.c ------------------------------------------------------------------------- */

enum { OB_CLASHES = 64 };

/* How rows can clash: texts over outbox_row and NEW. */
struct ob_clashes {
    struct ob_plan *plan;
    char *terms[OB_CLASHES];
    int count;
    bool *uses; /* by column: it is compared */
    bool has_expressions;
    char *sql; /* of the index that is taken apart; NULL: SQLite made it */
    sqlite3_str *text;
};

int ob_clashes_find(struct ob_plan *plan, struct ob_clashes *clashes);
void ob_clashes_free(struct ob_clashes *clashes);
/* Whether there is a row with which NEW clashes. */
void ob_clashes_put_exists(const struct ob_clashes *clashes, sqlite3_str *sql);

/* ---- capture_replace.c ----------------------------------------------------------------------- */

int ob_trigger_write_replaced(struct ob_plan *plan, const struct ob_clashes *clashes);

#endif
