/* SPDX-License-Identifier: MIT
 *
 * capture_clash.c - finds out how a new row can clash with those that are there, so that a REPLACE
 * would remove them: by its key and by each UNIQUE index, as conditions of SQL.
 *
 * An index of SQLite's own is known by its columns; one that the application has made is taken
 * apart, as it may have expressions and a WHERE. It only reads the schema.
 */
#include "capture_sql.h"

#include "sql.h"
#include "token.h"

#include <string.h>

/* A REPLACE stores the default for a NULL that must not be, and NEW has the NULL yet. */
static void put_new(const struct ob_plan *plan, sqlite3_str *sql, int column)
{
    const struct ob_column *what = &plan->columns[column];
    sqlite3_str_appendf(sql, what->fallback ? "coalesce(NEW.\"%w\", (%s))" : "NEW.\"%w\"",
                        what->name, what->fallback);
}

/* One term of an index as it reads for NEW: names of columns are exchanged. */
static void put_for_new(struct ob_clashes *clashes, const char *at, const char *end)
{
    const struct ob_plan *plan = clashes->plan;
    for (size_t len; at < end; at += len) {
        enum ob_token token = ob_token_next(at, &len);
        int column = -1;
        for (int i = 0; i < plan->column_count && token == OB_TOKEN_NAME && at[len] != '('; i++)
            if (ob_token_names(at, len, plan->columns[i].name))
                column = i;
        if (column < 0) {
            sqlite3_str_append(clashes->text, at, (int)len);
            continue;
        }
        clashes->uses[column] = true;
        put_new(plan, clashes->text, column);
    }
}

static void put_term(struct ob_clashes *clashes, const char *at, const char *end)
{
    sqlite3_str_appendf(clashes->text, "%s(%.*s) = (",
                        sqlite3_str_length(clashes->text) > 0 ? " AND " : "", (int)(end - at), at);
    put_for_new(clashes, at, end);
    sqlite3_str_appendchar(clashes->text, 1, ')');
}

/* Where the term that begins here ends: at a comma or the bracket; `stop` is before ASC or DESC.
 * Where no value stands before them, and where something comes behind, SQLite takes these for
 * names. */
static const char *end_of_term(const char *at, const char **stop)
{
    int depth = 0;
    bool is_behind_value = false;
    enum ob_token token;
    *stop = NULL;
    for (size_t len; (token = ob_token_next(at, &len)) != OB_TOKEN_END; at += len) {
        if (depth == 0 && token == OB_TOKEN_SIGN && (*at == ',' || *at == ')'))
            break;
        depth += token == OB_TOKEN_SIGN && *at == '(';
        depth -= token == OB_TOKEN_SIGN && *at == ')';
        if (token == OB_TOKEN_SPACE)
            continue;
        bool is_order = depth == 0 && is_behind_value &&
                        (ob_token_is(at, len, "ASC") || ob_token_is(at, len, "DESC"));
        *stop = is_order ? at : NULL;
        is_behind_value = token != OB_TOKEN_SIGN || *at == ')';
    }
    *stop = *stop ? *stop : at;
    return at;
}

/* CREATE UNIQUE INDEX name ON table(term, term DESC ...) WHERE predicate */
static void take_apart(struct ob_clashes *clashes)
{
    const char *at = clashes->sql, *stop;
    size_t len;
    bool is_behind_on = false;
    for (enum ob_token token; (token = ob_token_next(at, &len)) != OB_TOKEN_END; at += len) {
        is_behind_on = is_behind_on || (token == OB_TOKEN_NAME && ob_token_is(at, len, "ON"));
        if (is_behind_on && *at == '(')
            break;
    }
    while (*at == '(' || *at == ',') {
        const char *term = at + 1;
        at = end_of_term(term, &stop);
        put_term(clashes, term, stop);
    }
    for (; *at; at += len)
        if (ob_token_next(at, &len) == OB_TOKEN_NAME && ob_token_is(at, len, "WHERE"))
            break;
    if (*at)
        sqlite3_str_appendf(clashes->text, " AND (%s)", at + len);
}

static int take_index_column(void *context, sqlite3_stmt *row)
{
    struct ob_clashes *clashes = context;
    const struct ob_plan *plan = clashes->plan;
    const char *name = (const char *)sqlite3_column_text(row, 0);
    const char *collation = (const char *)sqlite3_column_text(row, 1);
    int column = name ? ob_plan_find(plan, name, strlen(name)) : -1;
    if (column < 0 || !collation)
        return ob_plan_no_memory(plan->error);
    clashes->uses[column] = true;
    sqlite3_str_appendf(clashes->text, "%soutbox_row.\"%w\" = ",
                        sqlite3_str_length(clashes->text) > 0 ? " AND " : "", name);
    put_new(plan, clashes->text, column);
    sqlite3_str_appendf(clashes->text, " COLLATE \"%w\"", collation);
    return OUTBOX_OK;
}

static int add_clash(struct ob_clashes *clashes)
{
    char *term = sqlite3_str_finish(clashes->text);
    clashes->text = NULL;
    if (!term)
        return ob_plan_no_memory(clashes->plan->error);
    if (clashes->count == OB_CLASHES) {
        sqlite3_free(term);
        return ob_error_set(clashes->plan->error, OUTBOX_MISUSE,
                            "%s has more than %d UNIQUE indexes", clashes->plan->table,
                            OB_CLASHES - 1);
    }
    clashes->terms[clashes->count++] = term;
    return OUTBOX_OK;
}

static int take_index(void *context, sqlite3_stmt *row)
{
    struct ob_clashes *clashes = context;
    struct ob_plan *plan = clashes->plan;
    const char *name;
    size_t len;
    int code = ob_sql_text(row, 0, &name, &len, plan->error);
    if (code == OUTBOX_OK)
        code = ob_plan_copy(row, 1, &clashes->sql, plan->error);
    if (code != OUTBOX_OK)
        return code;
    clashes->text = sqlite3_str_new(plan->db);
    if (clashes->sql) {
        clashes->has_expressions = true; /* perhaps; then an update is looked at more often */
        take_apart(clashes);
    } else {
        code = ob_plan_query(plan->db, plan->error,
                             "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key",
                             name, NULL, take_index_column, clashes);
    }
    sqlite3_free(clashes->sql);
    clashes->sql = NULL;
    int added = add_clash(clashes);
    return code == OUTBOX_OK ? added : code;
}

int ob_clashes_find(struct ob_plan *plan, struct ob_clashes *clashes)
{
    *clashes = (struct ob_clashes){.plan = plan};
    clashes->uses = sqlite3_malloc(plan->column_count * (int)sizeof *clashes->uses);
    if (!clashes->uses)
        return ob_plan_no_memory(plan->error);
    memset(clashes->uses, 0, (size_t)plan->column_count * sizeof *clashes->uses);
    if (plan->rowid) {
        clashes->text = sqlite3_str_new(plan->db);
        ob_put_name(plan, clashes->text, "outbox_row", plan->rowid);
        sqlite3_str_appendall(clashes->text, " = ");
        ob_put_name(plan, clashes->text, "NEW", plan->rowid);
        int column = ob_plan_find(plan, plan->rowid, strlen(plan->rowid));
        if (column >= 0)
            clashes->uses[column] = true;
        int code = add_clash(clashes);
        if (code != OUTBOX_OK)
            return code;
    }
    return ob_plan_query(
        plan->db, plan->error,
        "SELECT i.name, s.sql FROM pragma_index_list(?1, 'main') AS i"
        " LEFT JOIN main.sqlite_master AS s ON s.type = 'index' AND s.name = i.name"
        " WHERE i.\"unique\" ORDER BY i.name",
        plan->table, NULL, take_index, clashes);
}

void ob_clashes_free(struct ob_clashes *clashes)
{
    for (int i = 0; i < clashes->count; i++)
        sqlite3_free(clashes->terms[i]);
    sqlite3_free(clashes->uses);
}

void ob_clashes_put_exists(const struct ob_clashes *clashes, sqlite3_str *sql)
{
    sqlite3_str_appendchar(sql, 1, '(');
    for (int i = 0; i < clashes->count; i++)
        sqlite3_str_appendf(sql, "%sEXISTS(SELECT 1 FROM \"%w\" AS outbox_row WHERE %s)",
                            i > 0 ? " OR " : "", clashes->plan->table, clashes->terms[i]);
    sqlite3_str_appendchar(sql, 1, ')');
}
