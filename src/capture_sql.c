/* SPDX-License-Identifier: MIT
 *
 * capture_sql.c - writes the triggers that capture a table, in built-in SQL.
 *
 * What they must get right, on any connection, with recursive_triggers on and off:
 *
 *   - The lane's table has no constraint, so no conflict clause of the application's statement can make
 *     an event vanish: where the change stays, its event stays. (outbox_event must stay like that.)
 *   - A REPLACE removes rows that clash with the new one, on whatever UNIQUE index, and with
 *     recursive_triggers off no trigger tells. So before an insert, and before an update of a unique
 *     column, rows that clash are copied to outbox_replaced_N. Whether they are really replaced SQL
 *     cannot know: an UPSERT and an OR IGNORE begin alike. Behind it those that are gone are logged, in
 *     front of the new row, and a delete that fires takes its row out of there.
 *   - Where the application has triggers on the table, they may change the row before ours run; then the
 *     row is read back, so that the newest image is the last one that is logged.
 *
 * A trigger's frame costs by the size of its program, also where its WHEN is false. So what happens
 * seldom is moved into a trigger on a table of one row, outbox_gone_N, which is called by an INSERT and
 * is empty again behind it. Of two triggers of one kind SQLite runs the newer one first.
 */
#include "capture_plan.h"

#include "lane.h"
#include "token.h"

#include <assert.h>
#include <string.h>

enum { CLASHES = 64 };

/* How rows can clash: texts over outbox_row and NEW. */
struct clashes {
    struct ob_plan *plan;
    char *terms[CLASHES];
    int count;
    bool *uses; /* by column: it is compared */
    bool has_expressions;
    char *sql; /* of the index that is taken apart; NULL: SQLite made it */
    sqlite3_str *text;
};

/* ---- Names ----------------------------------------------------------------------------------- */

/* A rowid has no quotes, for in them it may be taken for a string. */
static void put_name(const struct ob_plan *plan, sqlite3_str *sql, const char *row,
                     const char *name)
{
    bool is_column = ob_plan_find(plan, name, strlen(name)) >= 0;
    sqlite3_str_appendf(sql, is_column ? "%s.\"%w\"" : "%s.%s", row, name);
}

static void put_row_key(const struct ob_plan *plan, sqlite3_str *sql, const char *row)
{
    const char *name = NULL;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendall(sql, i > 0 ? ", " : "");
        put_name(plan, sql, row, name);
    }
}

/* k0, k1 ... as many as the row's key has. */
static void put_places(const struct ob_plan *plan, sqlite3_str *sql, const char *prefix)
{
    const char *name = NULL;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++)
        sqlite3_str_appendf(sql, "%s%s%d", i > 0 ? ", " : "", prefix, i);
}

/* The row's key is in the copy's. Both names in full: the table may have a column k0 itself. */
static void put_is_copied(const struct ob_plan *plan, sqlite3_str *sql)
{
    const char *name = NULL;
    long long number = (long long)plan->definition->number;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendall(sql, i > 0 ? " AND " : "");
        put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendf(sql, " = outbox_replaced_%lld.k%d", number, i);
        if (plan->rowid)
            continue;
        /* The key's own collation may take another text for the same; the first one finds it. */
        sqlite3_str_appendall(sql, " AND ");
        put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendf(sql, " = outbox_replaced_%lld.k%d COLLATE BINARY", number, i);
    }
}

/* The row of the table whose key is NEW's. */
static void put_read_back(const struct ob_plan *plan, sqlite3_str *sql)
{
    const char *name = NULL;
    sqlite3_str_appendf(sql, " FROM \"%w\" AS outbox_row WHERE ", plan->table);
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendall(sql, i > 0 ? " AND " : "");
        put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendall(sql, " = ");
        put_name(plan, sql, "NEW", name);
    }
}

/* ---- The condition --------------------------------------------------------------------------- */

static bool is_dot(const char *sql)
{
    size_t len;
    while (ob_token_next(sql, &len) == OB_TOKEN_SPACE)
        sql += len;
    return *sql == '.';
}

void ob_plan_put_condition(const struct ob_plan *plan, sqlite3_str *sql, const char *new_row,
                           const char *old_row)
{
    const char *at = plan->definition->condition;
    size_t len;
    enum ob_token token;
    sqlite3_str_appendchar(sql, 1, '(');
    for (; (token = ob_token_next(at, &len)) != OB_TOKEN_END; at += len) {
        bool is_row = token == OB_TOKEN_NAME && is_dot(at + len);
        if (is_row && ob_token_names(at, len, "NEW"))
            sqlite3_str_appendall(sql, new_row);
        else if (is_row && ob_token_names(at, len, "OLD"))
            sqlite3_str_appendall(sql, old_row);
        else
            sqlite3_str_append(sql, at, (int)len);
    }
    sqlite3_str_appendchar(sql, 1, ')');
}

/* " WHEN (...)" or " AND (...)", if there is a condition. */
static void put_if(const struct ob_plan *plan, sqlite3_str *sql, const char *word,
                   const char *new_row, const char *old_row)
{
    if (!plan->definition->condition)
        return;
    sqlite3_str_appendall(sql, word);
    ob_plan_put_condition(plan, sql, new_row, old_row);
}

/* ---- Clashes --------------------------------------------------------------------------------- */

/* A REPLACE stores the default for a NULL that must not be, and NEW has the NULL yet. */
static void put_new(const struct ob_plan *plan, sqlite3_str *sql, int column)
{
    const struct ob_column *what = &plan->columns[column];
    sqlite3_str_appendf(sql, what->fallback ? "coalesce(NEW.\"%w\", (%s))" : "NEW.\"%w\"",
                        what->name, what->fallback);
}

/* One term of an index as it reads for NEW: names of columns are exchanged. */
static void put_for_new(struct clashes *clashes, const char *at, const char *end)
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

static void put_term(struct clashes *clashes, const char *at, const char *end)
{
    sqlite3_str_appendf(clashes->text, "%s(%.*s) = (",
                        sqlite3_str_length(clashes->text) > 0 ? " AND " : "", (int)(end - at), at);
    put_for_new(clashes, at, end);
    sqlite3_str_appendchar(clashes->text, 1, ')');
}

/* Where the term that begins here ends: at a comma or the bracket; `stop` is before ASC or DESC. */
static const char *end_of_term(const char *at, const char **stop)
{
    int depth = 0;
    enum ob_token token;
    *stop = NULL;
    for (size_t len; (token = ob_token_next(at, &len)) != OB_TOKEN_END; at += len) {
        if (depth == 0 && token == OB_TOKEN_SIGN && (*at == ',' || *at == ')'))
            break;
        depth += token == OB_TOKEN_SIGN && *at == '(';
        depth -= token == OB_TOKEN_SIGN && *at == ')';
        if (depth == 0 && token == OB_TOKEN_NAME &&
            (ob_token_is(at, len, "ASC") || ob_token_is(at, len, "DESC")))
            *stop = at;
    }
    *stop = *stop ? *stop : at;
    return at;
}

/* CREATE UNIQUE INDEX name ON table(term, term DESC ...) WHERE predicate */
static void take_apart(struct clashes *clashes)
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
    struct clashes *clashes = context;
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

static int add_clash(struct clashes *clashes)
{
    char *term = sqlite3_str_finish(clashes->text);
    clashes->text = NULL;
    if (!term)
        return ob_plan_no_memory(clashes->plan->error);
    if (clashes->count == CLASHES) {
        sqlite3_free(term);
        return ob_error_set(clashes->plan->error, OUTBOX_MISUSE,
                            "%s has more than %d UNIQUE indexes", clashes->plan->table,
                            CLASHES - 1);
    }
    clashes->terms[clashes->count++] = term;
    return OUTBOX_OK;
}

static int take_index(void *context, sqlite3_stmt *row)
{
    struct clashes *clashes = context;
    struct ob_plan *plan = clashes->plan;
    const char *name = (const char *)sqlite3_column_text(row, 0);
    int code = ob_plan_copy(row, 1, &clashes->sql, plan->error);
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

static int find_clashes(struct ob_plan *plan, struct clashes *clashes)
{
    *clashes = (struct clashes){.plan = plan};
    clashes->uses = sqlite3_malloc(plan->column_count * (int)sizeof *clashes->uses);
    if (!clashes->uses)
        return ob_plan_no_memory(plan->error);
    memset(clashes->uses, 0, (size_t)plan->column_count * sizeof *clashes->uses);
    if (plan->rowid) {
        clashes->text = sqlite3_str_new(plan->db);
        put_name(plan, clashes->text, "outbox_row", plan->rowid);
        sqlite3_str_appendall(clashes->text, " = ");
        put_name(plan, clashes->text, "NEW", plan->rowid);
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

static void free_clashes(struct clashes *clashes)
{
    for (int i = 0; i < clashes->count; i++)
        sqlite3_free(clashes->terms[i]);
    sqlite3_free(clashes->uses);
}

static void put_exists(const struct clashes *clashes, sqlite3_str *sql)
{
    sqlite3_str_appendchar(sql, 1, '(');
    for (int i = 0; i < clashes->count; i++)
        sqlite3_str_appendf(sql, "%sEXISTS(SELECT 1 FROM \"%w\" AS outbox_row WHERE %s)",
                            i > 0 ? " OR " : "", clashes->plan->table, clashes->terms[i]);
    sqlite3_str_appendchar(sql, 1, ')');
}

/* ---- Objects --------------------------------------------------------------------------------- */

/* Ends the text of an object; its name is what it begins with. */
static int add_object(struct ob_plan *plan, bool is_trigger, sqlite3_str *sql)
{
    char *text = sqlite3_str_finish(sql);
    if (!text)
        return ob_plan_no_memory(plan->error);
    assert(plan->object_count < OB_OBJECTS);
    struct ob_object *object = &plan->objects[plan->object_count++];
    *object = (struct ob_object){is_trigger, NULL, text};
    object->name = sqlite3_mprintf("%.*s", (int)strcspn(text, " ("), text);
    return object->name ? OUTBOX_OK : ob_plan_no_memory(plan->error);
}

static sqlite3_str *begin(const struct ob_plan *plan, const char *kind, const char *when)
{
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql, "outbox_capture_%lld_%s %s ON \"%w\"",
                        (long long)plan->definition->number, kind, when, plan->table);
    return sql;
}

/* The row as NEW, or as it is read back. */
static const char *new_row(const struct ob_plan *plan)
{
    return plan->has_triggers ? "outbox_row" : "NEW";
}

/* The same behind an update, which a foreign key's action may have gone on with. */
static const char *updated_row(const struct ob_plan *plan)
{
    return plan->has_cascades ? "outbox_row" : new_row(plan);
}

/* The INSERT of an event with the values of a row, and of another one behind it. */
static void put_event(const struct ob_plan *plan, sqlite3_str *sql, char letter, const char *row,
                      const char *other)
{
    bool reads_back = strcmp(row, "outbox_row") == 0 || (other && strcmp(other, "outbox_row") == 0);
    sqlite3_str_appendf(sql, "INSERT INTO %s(payload, type, ",
                        ob_lane_table(plan->definition->lane));
    ob_plan_put_places(plan, sql, 1);
    if (other) {
        sqlite3_str_appendall(sql, ", ");
        ob_plan_put_places(plan, sql, plan->value_count + 1);
    }
    sqlite3_str_appendf(sql, ") %s%lld, '%c', ", reads_back ? "SELECT " : "VALUES(",
                        (long long)plan->definition->shape, letter);
    ob_plan_put_values(plan, sql, row);
    if (other) {
        sqlite3_str_appendall(sql, ", ");
        ob_plan_put_values(plan, sql, other);
    }
    if (reads_back)
        put_read_back(plan, sql);
    sqlite3_str_appendall(sql, reads_back ? "; " : "); ");
}

static int end(struct ob_plan *plan, sqlite3_str *sql)
{
    sqlite3_str_appendall(sql, "END");
    return add_object(plan, true, sql);
}

/* ---- The three operations -------------------------------------------------------------------- */

/* Which columns an update is compared by. */
enum compared { OF_KEY, NOT_OF_KEY };

static bool is_compared(const struct ob_plan *plan, int value, enum compared which)
{
    bool is_key = plan->columns[plan->values[value].column].key > 0;
    return is_key == (which == OF_KEY);
}

static int count_compared(const struct ob_plan *plan, int from, int to, enum compared which)
{
    int count = 0;
    for (int i = from; i < to; i++)
        count += is_compared(plan, i, which);
    return count;
}

/* In brackets that nest little, for SQLite bounds the depth of an expression. Equal is only what has the
 * same bytes and the same type: 1 is not 1.0. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as the columns can be halved, ten times */
static void put_changed(const struct ob_plan *plan, sqlite3_str *sql, int from, int to,
                        enum compared which)
{
    int middle = from + (to - from) / 2;
    int left = count_compared(plan, from, middle, which);
    int right = count_compared(plan, middle, to, which);
    if (left > 0 && right > 0) {
        sqlite3_str_appendchar(sql, 1, '(');
        put_changed(plan, sql, from, middle, which);
        sqlite3_str_appendall(sql, " OR ");
        put_changed(plan, sql, middle, to, which);
        sqlite3_str_appendchar(sql, 1, ')');
    } else if (to - from > 1) {
        put_changed(plan, sql, left > 0 ? from : middle, left > 0 ? middle : to, which);
    } else {
        const char *name = plan->columns[plan->values[from].column].name;
        sqlite3_str_appendf(sql,
                            "(OLD.\"%w\" IS NOT NEW.\"%w\" COLLATE BINARY OR"
                            " typeof(OLD.\"%w\") <> typeof(NEW.\"%w\"))",
                            name, name, name, name);
    }
}

static int write_insert(struct ob_plan *plan)
{
    if (!ob_plan_captures(plan, OUTBOX_CAPTURE_INSERT))
        return OUTBOX_OK;
    sqlite3_str *sql = begin(plan, "ai", "AFTER INSERT");
    put_if(plan, sql, " WHEN ", "NEW", "NEW");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'c', new_row(plan), NULL);
    return end(plan, sql);
}

static int write_same_key(struct ob_plan *plan)
{
    int count = plan->value_count;
    if (count_compared(plan, 0, count, NOT_OF_KEY) == 0)
        return OUTBOX_OK;
    sqlite3_str *sql = begin(plan, "au", "AFTER UPDATE");
    sqlite3_str_appendall(sql, " WHEN ");
    put_changed(plan, sql, 0, count, NOT_OF_KEY);
    sqlite3_str_appendall(sql, " AND NOT ");
    put_changed(plan, sql, 0, count, OF_KEY);
    put_if(plan, sql, " AND ", "NEW", "OLD");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'u', updated_row(plan), "OLD");
    return end(plan, sql);
}

static int write_other_key(struct ob_plan *plan)
{
    sqlite3_str *sql = begin(plan, "ak", "AFTER UPDATE");
    sqlite3_str_appendall(sql, " WHEN ");
    put_changed(plan, sql, 0, plan->value_count, OF_KEY);
    put_if(plan, sql, " AND ", "NEW", "OLD");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'D', "OLD", updated_row(plan));
    put_event(plan, sql, 'C', updated_row(plan), "OLD");
    return end(plan, sql);
}

static int write_delete(struct ob_plan *plan)
{
    if (!ob_plan_captures(plan, OUTBOX_CAPTURE_DELETE))
        return OUTBOX_OK;
    sqlite3_str *sql = begin(plan, "ad", "AFTER DELETE");
    put_if(plan, sql, " WHEN ", "OLD", "OLD");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'd', "OLD", NULL);
    return end(plan, sql);
}

/* ---- Replaced rows --------------------------------------------------------------------------- */

static int write_tables(struct ob_plan *plan)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql, "outbox_replaced_%lld(", number);
    put_places(plan, sql, "k");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_places(plan, sql, 1);
    sqlite3_str_appendchar(sql, 1, ')');
    int code = add_object(plan, false, sql);
    if (code != OUTBOX_OK)
        return code;
    sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql, "outbox_gone_%lld(", number);
    put_places(plan, sql, "k");
    sqlite3_str_appendchar(sql, 1, ')');
    return add_object(plan, false, sql);
}

/* Whether an update may make the row clash. Of what an index of the application's own is made is not
 * looked at, it may be an expression. */
static void put_compared_changed(const struct clashes *clashes, sqlite3_str *sql)
{
    const struct ob_plan *plan = clashes->plan;
    const char *between = "(";
    if (clashes->has_expressions)
        return;
    if (plan->rowid) {
        sqlite3_str_appendall(sql, between);
        put_name(plan, sql, "NEW", plan->rowid);
        sqlite3_str_appendall(sql, " IS NOT ");
        put_name(plan, sql, "OLD", plan->rowid);
        between = " OR ";
    }
    for (int i = 0; i < plan->column_count; i++) {
        if (!clashes->uses[i])
            continue;
        sqlite3_str_appendf(sql, "%sNEW.\"%w\" IS NOT OLD.\"%w\" COLLATE BINARY", between,
                            plan->columns[i].name, plan->columns[i].name);
        between = " OR ";
    }
    sqlite3_str_appendall(sql, ") AND ");
}

/* The row is not the one that is updated. */
static void put_is_other(const struct ob_plan *plan, sqlite3_str *sql)
{
    const char *name = NULL;
    sqlite3_str_appendall(sql, " AND NOT (");
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendall(sql, i > 0 ? " AND " : "");
        put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendall(sql, " IS ");
        put_name(plan, sql, "OLD", name);
    }
    sqlite3_str_appendchar(sql, 1, ')');
}

static void put_clashing(const struct ob_plan *plan, sqlite3_str *sql,
                         const struct clashes *clashes, bool is_update)
{
    sqlite3_str_appendf(sql, " FROM \"%w\" AS outbox_row WHERE (", plan->table);
    for (int i = 0; i < clashes->count; i++)
        sqlite3_str_appendf(sql, "%s(%s)", i > 0 ? " OR " : "", clashes->terms[i]);
    sqlite3_str_appendchar(sql, 1, ')');
    if (is_update)
        put_is_other(plan, sql);
}

/* Copies the rows that clash. An update may be a foreign key's action, in the midst of a REPLACE whose
 * copies are needed yet; else those that are there are left over. */
static int write_before(struct ob_plan *plan, const struct clashes *clashes, bool is_update)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql =
        is_update ? begin(plan, "bu", "BEFORE UPDATE") : begin(plan, "bi", "BEFORE INSERT");
    sqlite3_str_appendall(sql, " WHEN ");
    if (is_update)
        put_compared_changed(clashes, sql);
    put_exists(clashes, sql);
    sqlite3_str_appendf(sql, " BEGIN DELETE FROM outbox_replaced_%lld", number);
    if (is_update && plan->has_children) {
        sqlite3_str_appendall(sql, " WHERE (");
        put_places(plan, sql, "k");
        sqlite3_str_appendall(sql, ") IN (SELECT ");
        put_row_key(plan, sql, "outbox_row");
        put_clashing(plan, sql, clashes, is_update);
        sqlite3_str_appendchar(sql, 1, ')');
    }
    sqlite3_str_appendf(sql, "; INSERT INTO outbox_replaced_%lld SELECT ", number);
    put_row_key(plan, sql, "outbox_row");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_values(plan, sql, "outbox_row");
    put_clashing(plan, sql, clashes, is_update);
    put_if(plan, sql, " AND ", "outbox_row", "outbox_row");
    sqlite3_str_appendall(sql, "; ");
    return end(plan, sql);
}

/* row.a IS k0 AND row.b IS k1 */
static void put_key_is(const struct ob_plan *plan, sqlite3_str *sql, const char *row)
{
    const char *name = NULL;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendf(sql, "%sk%d IS ", i > 0 ? " AND " : "", i);
        put_name(plan, sql, row, name);
        sqlite3_str_appendall(sql, " COLLATE BINARY");
    }
}

/* The copy of the row that was updated becomes one of what it is now. */
static void put_follow(const struct ob_plan *plan, sqlite3_str *sql)
{
    sqlite3_str_appendf(sql, "UPDATE outbox_replaced_%lld SET (",
                        (long long)plan->definition->number);
    put_places(plan, sql, "k");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_places(plan, sql, 1);
    sqlite3_str_appendall(sql, ") = (");
    put_row_key(plan, sql, "NEW");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_values(plan, sql, "NEW");
    sqlite3_str_appendall(sql, ") WHERE ");
    put_key_is(plan, sql, "OLD");
    sqlite3_str_appendall(sql, "; ");
}

/* Names those of the copies that are gone: nobody has their key any more, or the new row has it, which
 * then was another's or nobody's. It comes behind the trigger that logs the change, so it runs before
 * that. A copy of the row that is updated is left over from an UPSERT; or a foreign key's action updates a
 * row that a REPLACE is about to remove, and then the copy follows it. Where the application has triggers
 * or foreign keys, copies of rows that are there stay, for it may be another statement's turn. */
static int write_after(struct ob_plan *plan, bool is_update)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql =
        is_update ? begin(plan, "ub", "AFTER UPDATE") : begin(plan, "ib", "AFTER INSERT");
    sqlite3_str_appendf(sql, " WHEN EXISTS(SELECT 1 FROM outbox_replaced_%lld) BEGIN ", number);
    bool follows = is_update && plan->has_children;
    if (is_update && !follows) {
        sqlite3_str_appendf(sql, "DELETE FROM outbox_replaced_%lld WHERE ", number);
        put_key_is(plan, sql, "OLD");
        sqlite3_str_appendall(sql, "; ");
    }
    sqlite3_str_appendf(sql, "INSERT INTO outbox_gone_%lld SELECT ", number);
    put_places(plan, sql, "k");
    sqlite3_str_appendf(sql, " FROM outbox_replaced_%lld WHERE ", number);
    if (follows) {
        sqlite3_str_appendall(sql, "NOT (");
        put_key_is(plan, sql, "OLD");
        sqlite3_str_appendall(sql, ") AND (");
    }
    sqlite3_str_appendchar(sql, 1, '(');
    put_key_is(plan, sql, "NEW");
    sqlite3_str_appendf(sql, ") OR NOT EXISTS(SELECT 1 FROM \"%w\" AS outbox_row WHERE ",
                        plan->table);
    put_is_copied(plan, sql);
    sqlite3_str_appendall(sql, follows ? ")); " : "); ");
    if (follows)
        put_follow(plan, sql);
    else if (!plan->has_triggers)
        sqlite3_str_appendf(sql, "DELETE FROM outbox_replaced_%lld; ", number);
    return end(plan, sql);
}

/* Logs a row that is gone. This trigger must not name the table: it would be there still when that is
 * dropped, and SQLite would then refuse to rename another one to its name. */
static int write_gone(struct ob_plan *plan)
{
    const char *name = NULL;
    long long number = (long long)plan->definition->number;
    sqlite3_str *where = sqlite3_str_new(plan->db);
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++)
        sqlite3_str_appendf(where, "%sk%d IS NEW.k%d", i > 0 ? " AND " : "", i, i);
    char *key = sqlite3_str_finish(where);
    if (!key)
        return ob_plan_no_memory(plan->error);
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql,
                        "outbox_capture_%lld_gone AFTER INSERT ON outbox_gone_%lld BEGIN"
                        " INSERT INTO %s(payload, type, ",
                        number, number, ob_lane_table(plan->definition->lane));
    ob_plan_put_places(plan, sql, 1);
    sqlite3_str_appendf(sql, ") SELECT %lld, 'd', ", (long long)plan->definition->shape);
    ob_plan_put_places(plan, sql, 1);
    sqlite3_str_appendf(
        sql,
        " FROM outbox_replaced_%lld WHERE %s;"
        " DELETE FROM outbox_replaced_%lld WHERE %s; DELETE FROM outbox_gone_%lld; ",
        number, key, number, key, number);
    sqlite3_free(key);
    return end(plan, sql);
}

/* Where a delete is told, a copy of its row must not be told once more. It may be a cascade of the delete
 * of a row that is replaced; that is told now, for the update which does it may find its own row gone, and
 * then nothing runs behind it. */
static int write_forget(struct ob_plan *plan)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql = begin(plan, "db", "AFTER DELETE");
    sqlite3_str_appendf(sql,
                        " WHEN EXISTS(SELECT 1 FROM outbox_replaced_%lld)"
                        " BEGIN DELETE FROM outbox_replaced_%lld WHERE ",
                        number, number);
    put_key_is(plan, sql, "OLD");
    sqlite3_str_appendall(sql, "; ");
    if (plan->has_children) {
        sqlite3_str_appendf(sql, "INSERT INTO outbox_gone_%lld SELECT ", number);
        put_places(plan, sql, "k");
        sqlite3_str_appendf(
            sql,
            " FROM outbox_replaced_%lld WHERE NOT EXISTS(SELECT 1 FROM \"%w\" AS outbox_row WHERE ",
            number, plan->table);
        put_is_copied(plan, sql);
        sqlite3_str_appendall(sql, "); ");
    }
    return end(plan, sql);
}

/* The same for an insert where rows can clash by their key alone: a copy of it is the row that is gone.
 * This program is shorter. */
static int write_after_insert(struct ob_plan *plan)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql = begin(plan, "ib", "AFTER INSERT");
    sqlite3_str_appendf(sql, " WHEN EXISTS(SELECT 1 FROM outbox_replaced_%lld WHERE ", number);
    put_key_is(plan, sql, "NEW");
    sqlite3_str_appendf(sql, ") BEGIN INSERT INTO outbox_gone_%lld VALUES(", number);
    put_row_key(plan, sql, "NEW");
    sqlite3_str_appendall(sql, "); ");
    return end(plan, sql);
}

static int write_replaced(struct ob_plan *plan, const struct clashes *clashes)
{
    /* The primary key of a table WITHOUT ROWID may take another text for the same. */
    bool by_rowid = plan->rowid && clashes->count == 1;
    int code = write_tables(plan);
    if (code == OUTBOX_OK)
        code = write_gone(plan);
    for (int i = 0; i < 2 && code == OUTBOX_OK; i++)
        code = write_before(plan, clashes, i == 1);
    if (code == OUTBOX_OK)
        code = by_rowid ? write_after_insert(plan) : write_after(plan, false);
    if (code == OUTBOX_OK)
        code = write_after(plan, true);
    return code == OUTBOX_OK ? write_forget(plan) : code;
}

int ob_plan_write(struct ob_plan *plan)
{
    struct clashes clashes;
    int code = write_insert(plan);
    if (code == OUTBOX_OK && ob_plan_captures(plan, OUTBOX_CAPTURE_UPDATE))
        code = write_same_key(plan);
    if (code == OUTBOX_OK && ob_plan_captures(plan, OUTBOX_CAPTURE_UPDATE))
        code = write_other_key(plan);
    if (code == OUTBOX_OK)
        code = write_delete(plan);
    if (code != OUTBOX_OK || !ob_plan_captures(plan, OUTBOX_CAPTURE_DELETE))
        return code;
    code = find_clashes(plan, &clashes);
    if (code == OUTBOX_OK)
        code = write_replaced(plan, &clashes);
    free_clashes(&clashes);
    return code;
}
