/* SPDX-License-Identifier: MIT
 *
 * capture_store.c - keeps the definitions, and makes the triggers and their tables.
 *
 * All of it happens inside the caller's transaction: after a crash there are the old triggers or
 * the new ones, never none and never half of them.
 */
#include "capture_store.h"

#include "lane.h"
#include "schema.h"
#include "sql.h"

#include <string.h>

static const char capture_tables[] =
    "CREATE TABLE IF NOT EXISTS main.outbox_capture(number INTEGER PRIMARY KEY, name TEXT,"
    " topic TEXT, columns TEXT, key_columns TEXT, json_columns TEXT, operations INTEGER,"
    " condition TEXT, lane INTEGER, integers_as_text INTEGER, shape INTEGER,"
    " is_suspended INTEGER, has_gap INTEGER);"
    "CREATE TABLE IF NOT EXISTS main.outbox_shape(shape INTEGER PRIMARY KEY, text TEXT);";

static int take_exists(void *context, sqlite3_stmt *row)
{
    (void)row;
    *(bool *)context = true;
    return OUTBOX_OK;
}

int ob_captures_exist(sqlite3 *db, bool *exist, struct ob_error *error)
{
    *exist = false;
    return ob_plan_query(db, error,
                         "SELECT 1 FROM main.sqlite_master WHERE type = 'table'"
                         " AND name = 'outbox_capture'",
                         NULL, NULL, take_exists, exist);
}

/* An earlier release would make dead letters of captured changes, without their values. */
int ob_captures_make(sqlite3 *db, struct ob_error *error)
{
    int64_t ignored;
    int code = ob_sql_run(db, capture_tables, error, "making the tables of captures");
    return code == OUTBOX_OK ? ob_sql_number(db,
                                             "UPDATE main.outbox_meta SET value = ?1"
                                             " WHERE name = 'minimum_reader' AND value < ?1",
                                             OB_SCHEMA_READS_CHANGES, 0, 0, &ignored, error)
                             : code;
}

/* ---- Definitions ----------------------------------------------------------------------------- */

/* All of them are read first: no table can be dropped while a statement runs. */
struct definitions {
    struct ob_error *error;
    struct ob_definition *all;
    int count;
};

void ob_definition_free(struct ob_definition *definition)
{
    sqlite3_free(definition->table);
    sqlite3_free(definition->topic);
    sqlite3_free(definition->columns);
    sqlite3_free(definition->key_columns);
    sqlite3_free(definition->json_columns);
    sqlite3_free(definition->condition);
}

static int take_definition(void *context, sqlite3_stmt *row)
{
    struct definitions *definitions = context;
    struct ob_definition *all =
        sqlite3_realloc(definitions->all, (definitions->count + 1) * (int)sizeof *definitions->all);
    if (!all)
        return ob_plan_no_memory(definitions->error);
    definitions->all = all;
    struct ob_definition *definition = &all[definitions->count++];
    *definition = (struct ob_definition){
        .number = sqlite3_column_int64(row, 0),
        .operations = (unsigned)sqlite3_column_int(row, 6),
        .lane = sqlite3_column_int(row, 8) == OUTBOX_URGENT ? OUTBOX_URGENT : OUTBOX_NORMAL,
        .integers_as_text = sqlite3_column_int(row, 9) != 0,
        .shape = sqlite3_column_int64(row, 10),
        .is_suspended = sqlite3_column_int(row, 11) != 0,
        .has_gap = sqlite3_column_int64(row, 12),
    };
    char **const texts[] = {&definition->table,        &definition->topic,
                            &definition->columns,      &definition->key_columns,
                            &definition->json_columns, &definition->condition};
    static const int places[] = {1, 2, 3, 4, 5, 7};
    int code = OUTBOX_OK;
    for (int i = 0; i < 6 && code == OUTBOX_OK; i++)
        code = ob_plan_copy(row, places[i], texts[i], definitions->error);
    if (code == OUTBOX_OK && (!definition->table || !definition->topic))
        code = ob_error_set(definitions->error, OUTBOX_CORRUPT,
                            "a row of outbox_capture has no name or no topic; delete it");
    return code;
}

int ob_captures_each(sqlite3 *db, const char *table, struct ob_error *error,
                     int (*take)(void *context, struct ob_definition *definition), void *context)
{
    struct definitions definitions = {.error = error};
    bool exist;
    int code = ob_captures_exist(db, &exist, error);
    if (code != OUTBOX_OK || !exist)
        return code;
    code = ob_plan_query(db, error,
                         "SELECT number, name, topic, columns, key_columns, json_columns,"
                         " operations, condition, lane, integers_as_text, shape, is_suspended,"
                         " has_gap FROM main.outbox_capture"
                         " WHERE ?1 IS NULL OR name = ?1 COLLATE NOCASE ORDER BY number",
                         table, NULL, take_definition, &definitions);
    for (int i = 0; i < definitions.count && code == OUTBOX_OK; i++)
        code = take(context, &definitions.all[i]);
    for (int i = 0; i < definitions.count; i++)
        ob_definition_free(&definitions.all[i]);
    sqlite3_free(definitions.all);
    return code;
}

static int bind_definition(sqlite3_stmt *statement, const struct ob_definition *definition)
{
    const char *const texts[] = {definition->table,        definition->topic,
                                 definition->columns,      definition->key_columns,
                                 definition->json_columns, definition->condition};
    static const int places[] = {2, 3, 4, 5, 6, 8};
    int bound = SQLITE_OK;
    if (definition->number > 0)
        ob_sql_bind_number(statement, 1, definition->number);
    for (int i = 0; i < 6 && bound == SQLITE_OK; i++)
        bound = sqlite3_bind_text(statement, places[i], texts[i], -1, SQLITE_STATIC);
    ob_sql_bind_number(statement, 7, definition->operations);
    ob_sql_bind_number(statement, 9, definition->lane);
    ob_sql_bind_number(statement, 10, definition->integers_as_text);
    ob_sql_bind_number(statement, 11, definition->shape);
    ob_sql_bind_number(statement, 12, definition->is_suspended);
    ob_sql_bind_number(statement, 13, definition->has_gap);
    return bound;
}

int ob_capture_save(sqlite3 *db, struct ob_definition *definition, struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = ob_sql_prepare(db,
                              "INSERT OR REPLACE INTO main.outbox_capture(number, name, topic,"
                              " columns, key_columns, json_columns, operations, condition, lane,"
                              " integers_as_text, shape, is_suspended, has_gap)"
                              " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                              &statement, error);
    if (code != OUTBOX_OK)
        return code;
    int bound = bind_definition(statement, definition);
    code = bound == SQLITE_OK ? ob_sql_step(statement, NULL, error, "storing a capture")
                              : ob_error_sqlite(error, db, bound, "binding a capture");
    (void)sqlite3_finalize(statement); /* repeats what step said */
    if (code == OUTBOX_OK && definition->number == 0)
        definition->number = sqlite3_last_insert_rowid(db);
    return code;
}

int ob_capture_forget(sqlite3 *db, int64_t number, struct ob_error *error)
{
    int64_t ignored;
    return ob_sql_number(db, "DELETE FROM main.outbox_capture WHERE number = ?1", number, 0, 0,
                         &ignored, error);
}

/* ---- Objects --------------------------------------------------------------------------------- */

struct drops {
    struct ob_error *error;
    sqlite3_str *sql;
};

static int take_drop(void *context, sqlite3_stmt *row)
{
    struct drops *drops = context;
    const char *type, *name = NULL;
    size_t len;
    int code = ob_sql_text(row, 0, &type, &len, drops->error);
    if (code == OUTBOX_OK)
        code = ob_sql_text(row, 1, &name, &len, drops->error);
    if (code == OUTBOX_OK)
        sqlite3_str_appendf(drops->sql, "DROP %s main.\"%w\";", type, name);
    return code;
}

/* Nothing is run after an error, `code`: SQLite may have rolled the transaction back. */
static int run_and_free(sqlite3 *db, int code, sqlite3_str *text, struct ob_error *error,
                        const char *doing)
{
    /* One that memory ran out for has no length either. */
    bool is_empty = sqlite3_str_length(text) == 0 && sqlite3_str_errcode(text) == SQLITE_OK;
    char *sql = sqlite3_str_finish(text);
    if (code == OUTBOX_OK && !is_empty)
        code = sql ? ob_sql_run(db, sql, error, doing) : ob_plan_no_memory(error);
    sqlite3_free(sql);
    return code;
}

int ob_capture_drop(sqlite3 *db, int64_t number, struct ob_error *error)
{
    char digits[24];
    struct drops drops = {error, sqlite3_str_new(db)};
    sqlite3_snprintf((int)sizeof digits, digits, "%lld", (long long)number);
    int code = ob_plan_query(db, error,
                             "SELECT type, name FROM main.sqlite_master WHERE"
                             " (type = 'trigger' AND name GLOB 'outbox_capture_' || ?1 || '_*') OR"
                             " (type = 'table' AND name IN ('outbox_replaced_' || ?1,"
                             " 'outbox_gone_' || ?1))"
                             " ORDER BY type DESC", /* a trigger goes before its table */
                             digits, NULL, take_drop, &drops);
    return run_and_free(db, code, drops.sql, error, "dropping the triggers of a capture");
}

/* The lane's table gets columns for the values of its widest capture. */
static int widen(struct ob_plan *plan)
{
    int64_t have = 0;
    const char *table = ob_lane_table(plan->definition->lane);
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql,
                        "SELECT count(*) FROM pragma_table_info('%s', 'main')"
                        " WHERE name GLOB 'v[0-9]*'",
                        table);
    char *text = sqlite3_str_finish(sql);
    int code = text ? ob_sql_number(plan->db, text, 0, 0, 0, &have, plan->error)
                    : ob_plan_no_memory(plan->error);
    sqlite3_free(text);
    if (code != OUTBOX_OK)
        return code;
    sql = sqlite3_str_new(plan->db);
    for (int i = (int)have + 1; i <= ob_plan_width(plan); i++)
        sqlite3_str_appendf(sql, "ALTER TABLE main.%s ADD COLUMN v%d;", table, i);
    return run_and_free(plan->db, OUTBOX_OK, sql, plan->error,
                        "adding columns for captured values");
}

static int take_shape(void *context, sqlite3_stmt *row)
{
    *(int64_t *)context = sqlite3_column_int64(row, 0);
    return OUTBOX_OK;
}

/* A shape that is there is never changed, and one that says the same is used again. Nor is the
 * number given out again of one that somebody has deleted: rows that wait may name it. */
static int number_shape(struct ob_plan *plan, int64_t *shape)
{
    static const char find[] = "SELECT shape FROM main.outbox_shape WHERE text = ?1";
    *shape = 0;
    int code = ob_plan_query(plan->db, plan->error, find, plan->shape, NULL, take_shape, shape);
    if (code == OUTBOX_OK && *shape == 0)
        code = ob_plan_query(plan->db, plan->error,
                             "INSERT INTO main.outbox_shape(shape, text)"
                             " SELECT max(coalesce(max(shape), 0), coalesce((SELECT max(shape)"
                             " FROM main.outbox_capture), 0)) + 1, ?1 FROM main.outbox_shape",
                             plan->shape, NULL, take_shape, shape);
    if (code == OUTBOX_OK && *shape == 0)
        code = ob_plan_query(plan->db, plan->error, find, plan->shape, NULL, take_shape, shape);
    return code;
}

int ob_capture_install(struct ob_plan *plan, struct ob_definition *definition)
{
    int code = ob_capture_drop(plan->db, definition->number, plan->error);
    if (code == OUTBOX_OK)
        code = widen(plan);
    if (code == OUTBOX_OK)
        code = number_shape(plan, &definition->shape);
    if (code == OUTBOX_OK)
        code = ob_plan_write(plan);
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    for (int i = 0; i < plan->object_count && code == OUTBOX_OK; i++)
        sqlite3_str_appendf(sql, "CREATE %s main.%s;",
                            plan->objects[i].is_trigger ? "TRIGGER" : "TABLE",
                            plan->objects[i].text);
    return run_and_free(plan->db, code, sql, plan->error, "making the triggers of a capture");
}
