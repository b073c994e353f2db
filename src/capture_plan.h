/* SPDX-License-Identifier: MIT
 *
 * capture_plan.h - what is to be captured of a table, and the schema objects that do it.
 *
 *   capture_plan.c   looks at the table as it is, and chooses columns and keys
 *   capture_sql.c    writes the triggers of the three operations
 *   capture_clash.c  how rows can clash, so that a REPLACE removes them
 *   capture_replace.c  writes the triggers that tell of those
 *   capture_store.c  outbox_capture and outbox_shape; makes the objects and takes them away
 *   capture_check.c  are they still there? list, doctor
 *   capture.c        add, remove, suspend, resume
 *   snapshot.c       the rows that are there
 */
#ifndef OB_CAPTURE_PLAN_H
#define OB_CAPTURE_PLAN_H

#include "error.h"

#include <outbox/capture.h>

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* A row of outbox_capture. Texts are sqlite3_malloc()ed; lists hold one name on each line. */
struct ob_definition {
    int64_t number, shape;
    char *table, *topic, *columns, *key_columns, *json_columns, *condition;
    unsigned operations;
    outbox_lane lane;
    bool integers_as_text, is_suspended;
    int64_t has_gap; /* 0: nothing was missed; else how often something may have been */
};

struct ob_column {
    char *name, *type;
    char *fallback; /* the default of a column that is NOT NULL, as SQL; else NULL */
    bool is_not_null;
    int key; /* place in the primary key, from 1; 0: none */
};

/* A value that is captured, by its place among v1, v2 ... */
struct ob_captured {
    int column;
    bool is_hidden, is_json; /* hidden: only for a key or the topic */
};

enum { OB_OBJECTS = 16 };

struct ob_object {
    bool is_trigger;
    char *name, *text; /* text: what is behind CREATE TABLE or CREATE TRIGGER */
};

struct ob_plan {
    sqlite3 *db;
    struct ob_error *error;
    const struct ob_definition *definition;
    char *table; /* as the schema spells it */
    struct ob_column *columns;
    int column_count;
    struct ob_captured *values;
    int value_count;
    char *rowid;       /* a name under which the rowid can be read; NULL: WITHOUT ROWID */
    bool has_identity; /* a primary key tells the rows apart */
    bool has_triggers; /* of the application */
    bool has_children; /* a REPLACE of its rows may change other rows, by foreign keys */
    bool has_cascades; /* so may an update, and the same row too */
    char *shape;       /* the text of outbox_shape */
    struct ob_object objects[OB_OBJECTS];
    int object_count;
};

/* Each gives an outbox_code; OUTBOX_MISUSE: it cannot be captured like this. */
int ob_plan_make(struct ob_plan *plan, sqlite3 *db, const struct ob_definition *definition,
                 struct ob_error *error);
void ob_plan_free(struct ob_plan *plan);

/* Writes the objects, which name the shape by its number in the definition. */
int ob_plan_write(struct ob_plan *plan);

/* Lists: how many names; calls for each, until one is false. */
int ob_list_count(const char *list);
const char *ob_list_next(const char **list, size_t *len);

/* The column of this name, or -1. */
int ob_plan_find(const struct ob_plan *plan, const char *name, size_t len);

/* The values that the lane's table must hold. */
int ob_plan_width(const struct ob_plan *plan);

/* Appends the captured values of a row: NEW."a",NEW."b"; v1,v2 from `first`; the names by which
 * SQLite finds the row: the rowid or the primary key; the condition with its names exchanged, in
 * brackets. */
void ob_plan_put_values(const struct ob_plan *plan, sqlite3_str *sql, const char *row);
void ob_plan_put_places(const struct ob_plan *plan, sqlite3_str *sql, int first);
int ob_plan_row_key(const struct ob_plan *plan, int place, const char **name);
void ob_plan_put_condition(const struct ob_plan *plan, sqlite3_str *sql, const char *new_row,
                           const char *old_row);

/* Whether it captures this operation. */
bool ob_plan_captures(const struct ob_plan *plan, unsigned operation);

/* Runs a query with up to two texts bound to it; calls `take` with each row until it gives another
 * code than OUTBOX_OK. */
int ob_plan_query(sqlite3 *db, struct ob_error *error, const char *sql, const char *a,
                  const char *b, int (*take)(void *context, sqlite3_stmt *row), void *context);

/* A copy of a column's text; NULL where it is NULL. */
int ob_plan_copy(sqlite3_stmt *row, int column, char **copy, struct ob_error *error);
int ob_plan_no_memory(struct ob_error *error);

#endif
