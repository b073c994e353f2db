/* SPDX-License-Identifier: MIT
 *
 * capture_sql.c - writes the triggers that capture a table, in built-in SQL.
 *
 * What they must get right, on any connection, with recursive_triggers on and off:
 *
 *   - The lane's table has no constraint, so no conflict clause of the application's statement can
 * make an event vanish: where the change stays, its event stays. (outbox_event must stay like
 * that.)
 *   - A REPLACE removes rows that clash with the new one, on whatever UNIQUE index, and with
 *     recursive_triggers off no trigger tells. So before an insert, and before an update of a
 * unique column, rows that clash are copied to outbox_replaced_N. Whether they are really replaced
 * SQL cannot know: an UPSERT and an OR IGNORE begin alike. Behind it those that are gone are
 * logged, in front of the new row, and a delete that fires takes its row out of there.
 *   - Where the application has triggers on the table, they may change the row before ours run;
 * then the row is read back, so that the newest image is the last one that is logged.
 *
 * A trigger's frame costs by the size of its program, also where its WHEN is false. So what happens
 * seldom is moved into a trigger on a table of one row, outbox_gone_N, which is called by an INSERT
 * and is empty again behind it. Of two triggers of one kind SQLite runs the newer one first.
 */
#include "capture_sql.h"

#include "lane.h"
#include "token.h"

#include <assert.h>
#include <string.h>

/* ---- Names ----------------------------------------------------------------------------------- */

/* A rowid has no quotes, for in them it may be taken for a string. */
void ob_put_name(const struct ob_plan *plan, sqlite3_str *sql, const char *row, const char *name)
{
    bool is_column = ob_plan_find(plan, name, strlen(name)) >= 0;
    sqlite3_str_appendf(sql, is_column ? "%s.\"%w\"" : "%s.%s", row, name);
}

void ob_put_row_key(const struct ob_plan *plan, sqlite3_str *sql, const char *row)
{
    const char *name = NULL;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendall(sql, i > 0 ? ", " : "");
        ob_put_name(plan, sql, row, name);
    }
}

/* k0, k1 ... as many as the row's key has. */
void ob_put_places(const struct ob_plan *plan, sqlite3_str *sql, const char *prefix)
{
    const char *name = NULL;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++)
        sqlite3_str_appendf(sql, "%s%s%d", i > 0 ? ", " : "", prefix, i);
}

/* The row of the table whose key is NEW's. */
static void put_read_back(const struct ob_plan *plan, sqlite3_str *sql)
{
    const char *name = NULL;
    sqlite3_str_appendf(sql, " FROM \"%w\" AS outbox_row WHERE ", plan->table);
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendall(sql, i > 0 ? " AND " : "");
        ob_put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendall(sql, " = ");
        ob_put_name(plan, sql, "NEW", name);
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
void ob_put_if(const struct ob_plan *plan, sqlite3_str *sql, const char *word, const char *new_row,
               const char *old_row)
{
    if (!plan->definition->condition)
        return;
    sqlite3_str_appendall(sql, word);
    ob_plan_put_condition(plan, sql, new_row, old_row);
}

/* ---- Objects --------------------------------------------------------------------------------- */

/* Ends the text of an object; its name is what it begins with. */
int ob_trigger_object(struct ob_plan *plan, bool is_trigger, sqlite3_str *sql)
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

sqlite3_str *ob_trigger_begin(const struct ob_plan *plan, const char *kind, const char *when)
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

int ob_trigger_end(struct ob_plan *plan, sqlite3_str *sql)
{
    sqlite3_str_appendall(sql, "END");
    return ob_trigger_object(plan, true, sql);
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

/* In brackets that nest little, for SQLite bounds the depth of an expression. Equal is only what
 * has the same bytes and the same type: 1 is not 1.0. */
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
    sqlite3_str *sql = ob_trigger_begin(plan, "ai", "AFTER INSERT");
    ob_put_if(plan, sql, " WHEN ", "NEW", "NEW");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'c', new_row(plan), NULL);
    return ob_trigger_end(plan, sql);
}

static int write_same_key(struct ob_plan *plan)
{
    int count = plan->value_count;
    if (count_compared(plan, 0, count, NOT_OF_KEY) == 0)
        return OUTBOX_OK;
    sqlite3_str *sql = ob_trigger_begin(plan, "au", "AFTER UPDATE");
    sqlite3_str_appendall(sql, " WHEN ");
    put_changed(plan, sql, 0, count, NOT_OF_KEY);
    sqlite3_str_appendall(sql, " AND NOT ");
    put_changed(plan, sql, 0, count, OF_KEY);
    ob_put_if(plan, sql, " AND ", "NEW", "OLD");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'u', updated_row(plan), "OLD");
    return ob_trigger_end(plan, sql);
}

static int write_other_key(struct ob_plan *plan)
{
    sqlite3_str *sql = ob_trigger_begin(plan, "ak", "AFTER UPDATE");
    sqlite3_str_appendall(sql, " WHEN ");
    put_changed(plan, sql, 0, plan->value_count, OF_KEY);
    ob_put_if(plan, sql, " AND ", "NEW", "OLD");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'D', "OLD", updated_row(plan));
    put_event(plan, sql, 'C', updated_row(plan), "OLD");
    return ob_trigger_end(plan, sql);
}

static int write_delete(struct ob_plan *plan)
{
    if (!ob_plan_captures(plan, OUTBOX_CAPTURE_DELETE))
        return OUTBOX_OK;
    sqlite3_str *sql = ob_trigger_begin(plan, "ad", "AFTER DELETE");
    ob_put_if(plan, sql, " WHEN ", "OLD", "OLD");
    sqlite3_str_appendall(sql, " BEGIN ");
    put_event(plan, sql, 'd', "OLD", NULL);
    return ob_trigger_end(plan, sql);
}

int ob_plan_write(struct ob_plan *plan)
{
    struct ob_clashes clashes;
    int code = write_insert(plan);
    if (code == OUTBOX_OK && ob_plan_captures(plan, OUTBOX_CAPTURE_UPDATE))
        code = write_same_key(plan);
    if (code == OUTBOX_OK && ob_plan_captures(plan, OUTBOX_CAPTURE_UPDATE))
        code = write_other_key(plan);
    if (code == OUTBOX_OK)
        code = write_delete(plan);
    if (code != OUTBOX_OK || !ob_plan_captures(plan, OUTBOX_CAPTURE_DELETE))
        return code;
    code = ob_clashes_find(plan, &clashes);
    if (code == OUTBOX_OK)
        code = ob_trigger_write_replaced(plan, &clashes);
    ob_clashes_free(&clashes);
    return code;
}
