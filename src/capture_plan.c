/* SPDX-License-Identifier: MIT
 *
 * capture_plan.c - looks at a table, and finds out how its changes can be captured.
 *
 * It only reads. What it finds is true for the transaction in which it looked.
 */
#include "capture_plan.h"

#include "sql.h"
#include "text.h"
#include "token.h"

#include <assert.h>
#include <string.h>

int ob_plan_no_memory(struct ob_error *error)
{
    return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while reading a table's schema");
}

int ob_plan_copy(sqlite3_stmt *row, int column, char **copy, struct ob_error *error)
{
    const char *text;
    size_t len;
    int code = ob_sql_text(row, column, &text, &len, error);
    *copy = text ? sqlite3_mprintf("%s", text) : NULL;
    return code == OUTBOX_OK && text && !*copy ? ob_plan_no_memory(error) : code;
}

int ob_plan_query(sqlite3 *db, struct ob_error *error, const char *sql, const char *a,
                  const char *b, int (*take)(void *context, sqlite3_stmt *row), void *context)
{
    sqlite3_stmt *statement = NULL;
    const char *const texts[] = {a, b};
    bool row = true;
    int bound = SQLITE_OK, code = ob_sql_prepare(db, sql, &statement, error);
    if (code != OUTBOX_OK)
        return code;
    for (int i = 0; i < 2 && i < sqlite3_bind_parameter_count(statement) && bound == SQLITE_OK; i++)
        bound = sqlite3_bind_text(statement, i + 1, texts[i], -1, SQLITE_STATIC);
    if (bound != SQLITE_OK)
        code = ob_error_sqlite(error, db, bound, "binding a name");
    while (code == OUTBOX_OK && row) {
        code = ob_sql_step(statement, &row, error, "reading the schema");
        if (code == OUTBOX_OK && row)
            code = take(context, statement);
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

const char *ob_list_next(const char **list, size_t *len)
{
    const char *at = *list;
    if (!at)
        return NULL;
    const char *end = strchr(at, '\n');
    *len = end ? (size_t)(end - at) : strlen(at);
    *list = end ? end + 1 : NULL;
    return at;
}

int ob_list_count(const char *list)
{
    int count = 0;
    for (size_t len; ob_list_next(&list, &len);)
        count++;
    return count;
}

static bool is_listed(const char *list, const char *name)
{
    size_t len;
    for (const char *at; (at = ob_list_next(&list, &len));)
        if (ob_token_is(at, len, name))
            return true;
    return false;
}

/* ---- The table ------------------------------------------------------------------------------- */

/* What is in the schema under the table's name. */
struct found {
    struct ob_plan *plan;
    bool is_view, is_virtual, has_index_of_key;
};

static int take_table(void *context, sqlite3_stmt *row)
{
    struct found *found = context;
    const char *type = (const char *)sqlite3_column_text(row, 0);
    if (!type)
        return ob_plan_no_memory(found->plan->error);
    found->is_view = strcmp(type, "view") == 0;
    found->is_virtual = sqlite3_column_int64(row, 2) == 0 && !found->is_view;
    return ob_plan_copy(row, 1, &found->plan->table, found->plan->error);
}

static int take_column(void *context, sqlite3_stmt *row)
{
    struct ob_plan *plan = context;
    struct ob_column *column;
    column = sqlite3_realloc(plan->columns, (plan->column_count + 1) * (int)sizeof *column);
    if (!column)
        return ob_plan_no_memory(plan->error);
    plan->columns = column;
    column += plan->column_count++;
    *column = (struct ob_column){.is_not_null = sqlite3_column_int(row, 2) != 0,
                                 .key = sqlite3_column_int(row, 3)};
    int code = ob_plan_copy(row, 0, &column->name, plan->error);
    if (code == OUTBOX_OK)
        code = ob_plan_copy(row, 1, &column->type, plan->error);
    return code == OUTBOX_OK && column->is_not_null
               ? ob_plan_copy(row, 4, &column->fallback, plan->error)
               : code;
}

static int take_flag(void *context, sqlite3_stmt *row)
{
    (void)row;
    *(bool *)context = true;
    return OUTBOX_OK;
}

int ob_plan_find(const struct ob_plan *plan, const char *name, size_t len)
{
    for (int i = 0; i < plan->column_count; i++)
        if (ob_token_is(name, len, plan->columns[i].name))
            return i;
    return -1;
}

static int key_size(const struct ob_plan *plan)
{
    int size = 0;
    for (int i = 0; i < plan->column_count; i++)
        size += plan->columns[i].key > 0;
    return size;
}

/* The column at a place of the primary key, from 0; -1: it is shorter. */
static int key_column(const struct ob_plan *plan, int place)
{
    for (int i = 0; i < plan->column_count; i++)
        if (plan->columns[i].key == place + 1)
            return i;
    return -1;
}

/* The primary key of a table WITHOUT ROWID has an entry among its indexes and none in the schema;
 * that of a table with an INTEGER PRIMARY KEY has none at all. */
static int find_rowid(struct ob_plan *plan)
{
    static const char *const names[] = {"rowid", "_rowid_", "oid"};
    bool has_index = false, has_tree = false;
    int code = ob_plan_query(plan->db, plan->error,
                             "SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'",
                             plan->table, NULL, take_flag, &has_index);
    if (code == OUTBOX_OK)
        code = ob_plan_query(plan->db, plan->error,
                             "SELECT 1 FROM pragma_index_list(?1, 'main') AS i"
                             " JOIN main.sqlite_master AS s ON s.name = i.name"
                             " WHERE i.origin = 'pk'",
                             plan->table, NULL, take_flag, &has_tree);
    if (code != OUTBOX_OK)
        return code;
    const char *name = NULL;
    bool is_rowid_key = key_size(plan) == 1 && !has_index;
    if (is_rowid_key)
        name = plan->columns[key_column(plan, 0)].name;
    for (int i = 0; i < 3 && !name && (!has_index || has_tree); i++)
        if (ob_plan_find(plan, names[i], strlen(names[i])) < 0)
            name = names[i];
    plan->has_identity = key_size(plan) > 0;
    for (int i = 0; i < plan->column_count; i++)
        if (plan->columns[i].key > 0 && !plan->columns[i].is_not_null && !is_rowid_key)
            plan->has_identity = false;
    if (!name && (!has_index || has_tree))
        return ob_error_set(plan->error, OUTBOX_MISUSE,
                            "columns of %s hide its rowid under all its names; rename one",
                            plan->table);
    plan->rowid = name ? sqlite3_mprintf("%s", name) : NULL;
    return name && !plan->rowid ? ob_plan_no_memory(plan->error) : OUTBOX_OK;
}

/* What else may change rows while a statement on the table runs. */
static int look_around(struct ob_plan *plan)
{
    int code = ob_plan_query(plan->db, plan->error,
                             "SELECT 1 FROM main.sqlite_master WHERE type = 'trigger'"
                             " AND tbl_name = ?1 COLLATE NOCASE"
                             " AND name NOT GLOB 'outbox_capture_*'",
                             plan->table, NULL, take_flag, &plan->has_triggers);
#define CHILDREN_WITH(what)                                                                        \
    "SELECT 1 FROM main.sqlite_master AS s JOIN pragma_foreign_key_list(s.name, 'main') AS f"      \
    " WHERE s.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE AND f." what                      \
    " NOT IN ('NO ACTION', 'RESTRICT')"
    if (code == OUTBOX_OK)
        code = ob_plan_query(plan->db, plan->error, CHILDREN_WITH("on_delete"), plan->table, NULL,
                             take_flag, &plan->has_children);
    if (code == OUTBOX_OK)
        code = ob_plan_query(plan->db, plan->error, CHILDREN_WITH("on_update"), plan->table, NULL,
                             take_flag, &plan->has_cascades);
#undef CHILDREN_WITH
    return code;
}

static int look_at_table(struct ob_plan *plan)
{
    struct found found = {.plan = plan};
    const char *name = plan->definition->table;
    int code = ob_plan_query(plan->db, plan->error,
                             "SELECT type, name, rootpage FROM main.sqlite_master WHERE"
                             " name = ?1 COLLATE NOCASE AND type IN ('table', 'view')",
                             name, NULL, take_table, &found);
    if (code != OUTBOX_OK)
        return code;
    if (!plan->table)
        return ob_error_set(plan->error, OUTBOX_MISUSE, "there is no table %s in this file", name);
    if (found.is_view || found.is_virtual)
        return ob_error_set(plan->error, OUTBOX_MISUSE,
                            "%s is a %s, on which SQLite runs no trigger", name,
                            found.is_view ? "view" : "virtual table");
    if (sqlite3_strnicmp(name, "outbox_", 7) == 0 || sqlite3_strnicmp(name, "sqlite_", 7) == 0)
        return ob_error_set(plan->error, OUTBOX_MISUSE, "%s is an internal table", name);
    code = ob_plan_query(plan->db, plan->error,
                         "SELECT name, type, \"notnull\", pk, dflt_value"
                         " FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1 ORDER BY cid",
                         plan->table, NULL, take_column, plan);
    if (code == OUTBOX_OK)
        code = find_rowid(plan);
    return code == OUTBOX_OK ? look_around(plan) : code;
}

/* ---- What is captured ------------------------------------------------------------------------ */

static int place_of(const struct ob_plan *plan, int column)
{
    for (int i = 0; i < plan->value_count; i++)
        if (plan->values[i].column == column)
            return i;
    return -1;
}

static int add_value(struct ob_plan *plan, int column, bool is_hidden)
{
    if (place_of(plan, column) >= 0)
        return OUTBOX_OK;
    if (plan->value_count == OUTBOX_CAPTURE_COLUMNS_MAX)
        return ob_error_set(plan->error, OUTBOX_MISUSE, "%s has more than %d columns; choose some",
                            plan->table, OUTBOX_CAPTURE_COLUMNS_MAX);
    struct ob_captured *values =
        sqlite3_realloc(plan->values, (plan->value_count + 1) * (int)sizeof *values);
    if (!values)
        return ob_plan_no_memory(plan->error);
    plan->values = values;
    const char *name = plan->columns[column].name;
    if (strpbrk(name, "\n\r"))
        return ob_error_set(plan->error, OUTBOX_MISUSE,
                            "a column of %s has a line break in its name", plan->table);
    values[plan->value_count++] =
        (struct ob_captured){column, is_hidden, is_listed(plan->definition->json_columns, name)};
    return OUTBOX_OK;
}

static int add_name(struct ob_plan *plan, const char *name, size_t len, bool is_hidden)
{
    int column = ob_plan_find(plan, name, len);
    if (column >= 0)
        return add_value(plan, column, is_hidden);
    return ob_error_set(plan->error, OUTBOX_MISUSE, "%s has no column %.*s", plan->table, (int)len,
                        name);
}

static int add_list(struct ob_plan *plan, const char *list, bool is_hidden)
{
    size_t len;
    int code = OUTBOX_OK;
    for (const char *at; code == OUTBOX_OK && (at = ob_list_next(&list, &len));)
        code = add_name(plan, at, len, is_hidden);
    return code;
}

/* The topic with a letter in place of each {column} must be one. */
static int add_topic(struct ob_plan *plan)
{
    const char *at = plan->definition->topic;
    char sample[OUTBOX_TOPIC_MAX + 1];
    size_t used = 0;
    int code = OUTBOX_OK;
    while (*at && code == OUTBOX_OK && used < sizeof sample) {
        size_t len = *at == '{' ? strcspn(at, "}") : 0;
        if (*at == '}' || (len > 0 && at[len] == '\0'))
            return ob_error_set(plan->error, OUTBOX_MISUSE, "a bracket of the topic %s is alone",
                                plan->definition->topic);
        if (len > 0)
            code = add_name(plan, at + 1, len - 1, true);
        sample[used++] = len > 0 ? 'x' : *at;
        at += len + 1;
    }
    if (code == OUTBOX_OK && (*at || !ob_text_is_topic(sample, used)))
        return ob_error_set(plan->error, OUTBOX_MISUSE,
                            "the topic is empty, too long, not UTF-8 or holds +, # or a control");
    return code;
}

static int choose_values(struct ob_plan *plan)
{
    const struct ob_definition *definition = plan->definition;
    int code = OUTBOX_OK;
    if (definition->columns)
        code = add_list(plan, definition->columns, false);
    for (int i = 0; i < plan->column_count && !definition->columns && code == OUTBOX_OK; i++)
        code = add_value(plan, i, false);
    int visible = plan->value_count;
    if (code == OUTBOX_OK)
        code = add_list(plan, definition->json_columns, true);
    if (code == OUTBOX_OK && plan->value_count > visible)
        return ob_error_set(plan->error, OUTBOX_MISUSE, "a JSON column is not among the columns");
    for (int i = 0; i < key_size(plan) && code == OUTBOX_OK; i++)
        code = add_value(plan, key_column(plan, i), true);
    if (code == OUTBOX_OK)
        code = add_list(plan, definition->key_columns, true);
    return code == OUTBOX_OK ? add_topic(plan) : code;
}

bool ob_plan_captures(const struct ob_plan *plan, unsigned operation)
{
    return (plan->definition->operations & operation) != 0;
}

static int check_identity(const struct ob_plan *plan)
{
    if (plan->has_identity || plan->definition->operations == OUTBOX_CAPTURE_INSERT)
        return OUTBOX_OK;
    return ob_error_set(plan->error, OUTBOX_MISUSE,
                        "no primary key without NULL tells the rows of %s apart: make an INTEGER "
                        "PRIMARY KEY, or declare it NOT NULL, or capture inserts alone",
                        plan->table);
}

/* ---- The shape ------------------------------------------------------------------------------- */

static void hash_text(uint64_t *hash, const char *text)
{
    for (; text && *text; text++)
        *hash = (*hash ^ (unsigned char)*text) * UINT64_C(1099511628211); /* FNV-1a */
    *hash = (*hash ^ 0xff) * UINT64_C(1099511628211);
}

static uint64_t fingerprint(const struct ob_plan *plan)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (int i = 0; i < plan->column_count; i++) {
        const struct ob_column *column = &plan->columns[i];
        char facts[16];
        sqlite3_snprintf((int)sizeof facts, facts, "%d %d", column->is_not_null, column->key);
        hash_text(&hash, column->name);
        hash_text(&hash, column->type);
        hash_text(&hash, facts);
    }
    return hash;
}

static void put_identity(const struct ob_plan *plan, sqlite3_str *text)
{
    for (int i = 0; i < key_size(plan); i++)
        sqlite3_str_appendf(text, "%s%d", i > 0 ? "," : "", place_of(plan, key_column(plan, i)));
    sqlite3_str_appendchar(text, 1, '\n');
}

static void put_key(const struct ob_plan *plan, sqlite3_str *text)
{
    const char *list = plan->definition->key_columns;
    size_t len;
    bool is_first = true;
    if (!list) {
        put_identity(plan, text);
        return;
    }
    for (const char *at; (at = ob_list_next(&list, &len)); is_first = false)
        sqlite3_str_appendf(text, "%s%d", is_first ? "" : ",",
                            place_of(plan, ob_plan_find(plan, at, len)));
    sqlite3_str_appendchar(text, 1, '\n');
}

static int write_shape(struct ob_plan *plan)
{
    const struct ob_definition *definition = plan->definition;
    sqlite3_str *text = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(text, "1 %d %d\n%s\n%016llx\n%s\n", plan->value_count,
                        definition->integers_as_text, plan->table,
                        (unsigned long long)fingerprint(plan), definition->topic);
    put_key(plan, text);
    put_identity(plan, text);
    for (int i = 0; i < plan->value_count; i++)
        sqlite3_str_appendf(text, "%c%c%s\n", plan->values[i].is_hidden ? 'h' : 'v',
                            plan->values[i].is_json ? 'j' : '-',
                            plan->columns[plan->values[i].column].name);
    plan->shape = sqlite3_str_finish(text);
    return plan->shape ? OUTBOX_OK : ob_plan_no_memory(plan->error);
}

/* ---- All of it ------------------------------------------------------------------------------- */

int ob_plan_make(struct ob_plan *plan, sqlite3 *db, const struct ob_definition *definition,
                 struct ob_error *error)
{
    *plan = (struct ob_plan){.db = db, .error = error, .definition = definition};
    int code = look_at_table(plan);
    if (code == OUTBOX_OK)
        code = check_identity(plan);
    if (code == OUTBOX_OK)
        code = choose_values(plan);
    return code == OUTBOX_OK ? write_shape(plan) : code;
}

void ob_plan_free(struct ob_plan *plan)
{
    for (int i = 0; i < plan->column_count; i++) {
        sqlite3_free(plan->columns[i].name);
        sqlite3_free(plan->columns[i].type);
        sqlite3_free(plan->columns[i].fallback);
    }
    for (int i = 0; i < plan->object_count; i++) {
        sqlite3_free(plan->objects[i].name);
        sqlite3_free(plan->objects[i].text);
    }
    sqlite3_free(plan->columns);
    sqlite3_free(plan->values);
    sqlite3_free(plan->table);
    sqlite3_free(plan->rowid);
    sqlite3_free(plan->shape);
    memset(plan, 0, sizeof *plan);
}

int ob_plan_width(const struct ob_plan *plan)
{
    return plan->value_count * (ob_plan_captures(plan, OUTBOX_CAPTURE_UPDATE) ? 2 : 1);
}

int ob_plan_row_key(const struct ob_plan *plan, int place, const char **name)
{
    if (plan->rowid) {
        *name = plan->rowid;
        return 1;
    }
    if (place < key_size(plan))
        *name = plan->columns[key_column(plan, place)].name;
    return key_size(plan);
}

void ob_plan_put_values(const struct ob_plan *plan, sqlite3_str *sql, const char *row)
{
    for (int i = 0; i < plan->value_count; i++)
        sqlite3_str_appendf(sql, "%s%s.\"%w\"", i > 0 ? ", " : "", row,
                            plan->columns[plan->values[i].column].name);
}

void ob_plan_put_places(const struct ob_plan *plan, sqlite3_str *sql, int first)
{
    for (int i = 0; i < plan->value_count; i++)
        sqlite3_str_appendf(sql, "%sv%d", i > 0 ? ", " : "", first + i);
}
