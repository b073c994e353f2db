/* SPDX-License-Identifier: MIT
 *
 * capture_replace.c - writes the triggers that tell of rows which a REPLACE removes, of which
 * SQLite fires no trigger where recursive_triggers is off. How they work is said in capture_sql.c.
 */
#include "capture_sql.h"

#include "lane.h"

#include <string.h>

/* Whether something else may write the table in the midst of a REPLACE: a trigger behind a foreign
 * key's action, or one of the application's own. Then SQL must know which copies are needed yet; it
 * cannot know whether the statement that made them has ended. So the copies of one row's insert or
 * update are a turn, and one that is told stays as long as another of its turn is not: it shows
 * that rows are being removed. A row may be in several turns; the newest copy is told, for all of
 * them. A turn of which no row is gone is left over from an UPSERT or an OR IGNORE, and so are
 * those that are far behind: no statement nests as deep. */
static bool has_turns(const struct ob_plan *plan)
{
    return plan->has_children || plan->has_cascades || plan->has_triggers;
}

enum { TURNS = 100 };

static void put_untold(const struct ob_plan *plan, sqlite3_str *sql, const char *word)
{
    if (has_turns(plan))
        sqlite3_str_appendf(sql, "%s is_told = 0", word);
}

/* The row's key is in the copy's. Both names in full: the table may have a column k0 itself. */
static void put_is_copied(const struct ob_plan *plan, sqlite3_str *sql)
{
    const char *name = NULL;
    long long number = (long long)plan->definition->number;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendall(sql, i > 0 ? " AND " : "");
        ob_put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendf(sql, " = outbox_replaced_%lld.k%d", number, i);
        if (plan->rowid)
            continue;
        /* The key's own collation may take another text for the same; the first one finds it. */
        sqlite3_str_appendall(sql, " AND ");
        ob_put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendf(sql, " = outbox_replaced_%lld.k%d COLLATE BINARY", number, i);
    }
}

static int write_tables(struct ob_plan *plan)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql, "outbox_replaced_%lld(", number);
    ob_put_places(plan, sql, "k");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_places(plan, sql, 1);
    sqlite3_str_appendall(sql, has_turns(plan) ? ", turn, is_told)" : ")");
    int code = ob_trigger_object(plan, false, sql);
    if (code != OUTBOX_OK)
        return code;
    sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql, "outbox_gone_%lld(", number);
    ob_put_places(plan, sql, "k");
    sqlite3_str_appendchar(sql, 1, ')');
    return ob_trigger_object(plan, false, sql);
}

/* Whether an update may make the row clash. Of what an index of the application's own is made is
 * not looked at, it may be an expression. */
static void put_compared_changed(const struct ob_clashes *clashes, sqlite3_str *sql)
{
    const struct ob_plan *plan = clashes->plan;
    const char *between = "(";
    if (clashes->has_expressions)
        return;
    if (plan->rowid) {
        sqlite3_str_appendall(sql, between);
        ob_put_name(plan, sql, "NEW", plan->rowid);
        sqlite3_str_appendall(sql, " IS NOT ");
        ob_put_name(plan, sql, "OLD", plan->rowid);
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
        ob_put_name(plan, sql, "outbox_row", name);
        sqlite3_str_appendall(sql, " IS ");
        ob_put_name(plan, sql, "OLD", name);
    }
    sqlite3_str_appendchar(sql, 1, ')');
}

static void put_clashing(const struct ob_plan *plan, sqlite3_str *sql,
                         const struct ob_clashes *clashes, bool is_update)
{
    sqlite3_str_appendf(sql, " FROM \"%w\" AS outbox_row WHERE (", plan->table);
    for (int i = 0; i < clashes->count; i++)
        sqlite3_str_appendf(sql, "%s(%s)", i > 0 ? " OR " : "", clashes->terms[i]);
    sqlite3_str_appendchar(sql, 1, ')');
    if (is_update)
        put_is_other(plan, sql);
}

/* Takes away what is left over of earlier turns. */
static void put_end_turns(const struct ob_plan *plan, sqlite3_str *sql)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str_appendf(sql, "DELETE FROM outbox_replaced_%lld", number);
    if (!has_turns(plan)) {
        sqlite3_str_appendall(sql, "; ");
        return;
    }
    sqlite3_str_appendf(sql,
                        " WHERE turn NOT IN (SELECT turn FROM outbox_replaced_%lld WHERE is_told OR"
                        " NOT EXISTS(SELECT 1 FROM \"%w\" AS outbox_row WHERE ",
                        number, plan->table);
    put_is_copied(plan, sql);
    sqlite3_str_appendf(sql, ")) OR turn <= (SELECT max(turn) FROM outbox_replaced_%lld) - %d; ",
                        number, TURNS);
}

/* Copies the rows that clash. */
static int write_before(struct ob_plan *plan, const struct ob_clashes *clashes, bool is_update)
{
    sqlite3_str *sql = is_update ? ob_trigger_begin(plan, "bu", "BEFORE UPDATE")
                                 : ob_trigger_begin(plan, "bi", "BEFORE INSERT");
    sqlite3_str_appendall(sql, " WHEN ");
    if (is_update)
        put_compared_changed(clashes, sql);
    ob_clashes_put_exists(clashes, sql);
    sqlite3_str_appendall(sql, " BEGIN ");
    put_end_turns(plan, sql);
    sqlite3_str_appendf(sql, "INSERT INTO outbox_replaced_%lld SELECT ",
                        (long long)plan->definition->number);
    ob_put_row_key(plan, sql, "outbox_row");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_values(plan, sql, "outbox_row");
    if (has_turns(plan))
        sqlite3_str_appendf(sql,
                            ", (SELECT coalesce(max(turn), 0) + 1 FROM outbox_replaced_%lld), 0",
                            (long long)plan->definition->number);
    put_clashing(plan, sql, clashes, is_update);
    ob_put_if(plan, sql, " AND ", "outbox_row", "outbox_row");
    sqlite3_str_appendall(sql, "; ");
    return ob_trigger_end(plan, sql);
}

/* row.a IS k0 AND row.b IS k1, of a copy that is not told yet */
static void put_key_is(const struct ob_plan *plan, sqlite3_str *sql, const char *row)
{
    const char *name = NULL;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++) {
        sqlite3_str_appendf(sql, "%sk%d IS ", i > 0 ? " AND " : "", i);
        ob_put_name(plan, sql, row, name);
        sqlite3_str_appendall(sql, " COLLATE BINARY");
    }
    put_untold(plan, sql, " AND");
}

/* The copy of the row that was updated becomes one of what it is now. */
static void put_follow(const struct ob_plan *plan, sqlite3_str *sql)
{
    sqlite3_str_appendf(sql, "UPDATE outbox_replaced_%lld SET (",
                        (long long)plan->definition->number);
    ob_put_places(plan, sql, "k");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_places(plan, sql, 1);
    sqlite3_str_appendall(sql, ") = (");
    ob_put_row_key(plan, sql, "NEW");
    sqlite3_str_appendall(sql, ", ");
    ob_plan_put_values(plan, sql, "NEW");
    sqlite3_str_appendall(sql, ") WHERE ");
    put_key_is(plan, sql, "OLD");
    sqlite3_str_appendall(sql, "; ");
}

/* Names those of the copies that are gone: nobody has their key any more, or the new row has it,
 * which then was another's or nobody's. It comes behind the trigger that logs the change, so it
 * runs before that. A copy of the row that is updated is left over from an UPSERT; or a foreign
 * key's action updates a row that a REPLACE is about to remove, and so the copy follows it where
 * there are turns. */
static int write_after(struct ob_plan *plan, bool is_update)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql = is_update ? ob_trigger_begin(plan, "ub", "AFTER UPDATE")
                                 : ob_trigger_begin(plan, "ib", "AFTER INSERT");
    sqlite3_str_appendf(sql, " WHEN EXISTS(SELECT 1 FROM outbox_replaced_%lld", number);
    put_untold(plan, sql, " WHERE");
    sqlite3_str_appendall(sql, ") BEGIN ");
    bool follows = is_update && has_turns(plan);
    if (is_update && !follows) {
        sqlite3_str_appendf(sql, "DELETE FROM outbox_replaced_%lld WHERE ", number);
        put_key_is(plan, sql, "OLD");
        sqlite3_str_appendall(sql, "; ");
    }
    sqlite3_str_appendf(sql, "INSERT INTO outbox_gone_%lld SELECT ", number);
    ob_put_places(plan, sql, "k");
    sqlite3_str_appendf(sql, " FROM outbox_replaced_%lld WHERE ", number);
    if (follows) {
        sqlite3_str_appendall(sql, "NOT (");
        put_key_is(plan, sql, "OLD");
        sqlite3_str_appendall(sql, ") AND ");
    }
    sqlite3_str_appendall(sql, "((");
    put_key_is(plan, sql, "NEW");
    sqlite3_str_appendf(sql, ") OR NOT EXISTS(SELECT 1 FROM \"%w\" AS outbox_row WHERE ",
                        plan->table);
    put_is_copied(plan, sql);
    sqlite3_str_appendall(sql, "))");
    put_untold(plan, sql, " AND");
    sqlite3_str_appendall(sql, "; ");
    if (follows)
        put_follow(plan, sql);
    else if (!has_turns(plan))
        sqlite3_str_appendf(sql, "DELETE FROM outbox_replaced_%lld; ", number);
    return ob_trigger_end(plan, sql);
}

/* The copy is not needed any more. */
static void put_told(const struct ob_plan *plan, sqlite3_str *sql, const char *key)
{
    long long number = (long long)plan->definition->number;
    if (!has_turns(plan)) {
        sqlite3_str_appendf(sql, "DELETE FROM outbox_replaced_%lld WHERE %s; ", number, key);
        return;
    }
    sqlite3_str_appendf(sql,
                        "UPDATE outbox_replaced_%lld SET is_told = 1 WHERE %s;"
                        " DELETE FROM outbox_replaced_%lld WHERE turn NOT IN"
                        " (SELECT turn FROM outbox_replaced_%lld WHERE is_told = 0); ",
                        number, key, number, number);
}

/* Logs a row that is gone. This trigger must not name the table: it would be there still when that
 * is dropped, and SQLite would then refuse to rename another one to its name. */
static int write_gone(struct ob_plan *plan)
{
    const char *name = NULL;
    long long number = (long long)plan->definition->number;
    sqlite3_str *where = sqlite3_str_new(plan->db);
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++)
        sqlite3_str_appendf(where, "%sk%d IS NEW.k%d", i > 0 ? " AND " : "", i, i);
    put_untold(plan, where, " AND");
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
    sqlite3_str_appendf(sql, " FROM outbox_replaced_%lld WHERE %s%s; ", number, key,
                        has_turns(plan) ? " ORDER BY turn DESC LIMIT 1" : "");
    put_told(plan, sql, key);
    sqlite3_str_appendf(sql, "DELETE FROM outbox_gone_%lld; ", number);
    sqlite3_free(key);
    return ob_trigger_end(plan, sql);
}

/* Where a delete is told, a copy of its row must not be told once more. It may be a cascade of the
 * delete of a row that is replaced; that is told now, for the update which does it may find its own
 * row gone, and then nothing runs behind it. */
static int write_forget(struct ob_plan *plan)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *where = sqlite3_str_new(plan->db);
    put_key_is(plan, where, "OLD");
    char *key = sqlite3_str_finish(where);
    if (!key)
        return ob_plan_no_memory(plan->error);
    sqlite3_str *sql = ob_trigger_begin(plan, "db", "AFTER DELETE");
    sqlite3_str_appendf(sql, " WHEN EXISTS(SELECT 1 FROM outbox_replaced_%lld", number);
    put_untold(plan, sql, " WHERE");
    sqlite3_str_appendall(sql, ") BEGIN ");
    put_told(plan, sql, key);
    sqlite3_free(key);
    if (plan->has_children) {
        sqlite3_str_appendf(sql, "INSERT INTO outbox_gone_%lld SELECT ", number);
        ob_put_places(plan, sql, "k");
        sqlite3_str_appendf(
            sql,
            " FROM outbox_replaced_%lld WHERE NOT EXISTS(SELECT 1 FROM \"%w\" AS outbox_row WHERE ",
            number, plan->table);
        put_is_copied(plan, sql);
        sqlite3_str_appendall(sql, ")");
        put_untold(plan, sql, " AND");
        sqlite3_str_appendall(sql, "; ");
    }
    return ob_trigger_end(plan, sql);
}

/* The same for an insert where rows can clash by their key alone: a copy of it is the row that is
 * gone. This program is shorter. */
static int write_after_insert(struct ob_plan *plan)
{
    long long number = (long long)plan->definition->number;
    sqlite3_str *sql = ob_trigger_begin(plan, "ib", "AFTER INSERT");
    sqlite3_str_appendf(sql, " WHEN EXISTS(SELECT 1 FROM outbox_replaced_%lld WHERE ", number);
    put_key_is(plan, sql, "NEW");
    sqlite3_str_appendf(sql, ") BEGIN INSERT INTO outbox_gone_%lld VALUES(", number);
    ob_put_row_key(plan, sql, "NEW");
    sqlite3_str_appendall(sql, "); ");
    return ob_trigger_end(plan, sql);
}

int ob_trigger_write_replaced(struct ob_plan *plan, const struct ob_clashes *clashes)
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
