/* SPDX-License-Identifier: MIT
 *
 * snapshot.c - puts an event for each row that a captured table holds, some in each transaction.
 *
 * A batch is read and stored under the write lock, so it is what the table held at that point of
 * the order of events: what was changed before is in it, what is changed later comes behind it.
 * Killed between two batches it has put those before; nothing else is kept, and it begins anew.
 */
#include "capture_check.h"
#include "capture_store.h"
#include "scope.h"
#include "sql.h"
#include "writer.h"

#include <string.h>

enum { KEYS_MAX = 64, ROWS = 256, ROWS_MAX = 1000000 };

struct snapshot {
    outbox *box;
    const char *table;
    unsigned rows;
    int64_t count, gap;                           /* gap: the definition's, when it began */
    sqlite3_value *from[KEYS_MAX], *to[KEYS_MAX]; /* the key behind which to go on; up to which */
    int keys;
    bool has_from, has_to, is_first, found;
};

static void free_values(sqlite3_value **values)
{
    for (int i = 0; i < KEYS_MAX; i++) {
        sqlite3_value_free(values[i]);
        values[i] = NULL;
    }
}

/* (a, b) > (?1, ?2) */
static void put_bound(const struct ob_plan *plan, sqlite3_str *sql, const char *sign, int first)
{
    const char *name = NULL;
    sqlite3_str_appendall(sql, " AND (");
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++)
        sqlite3_str_appendf(sql, "%soutbox_row.\"%w\"", i > 0 ? ", " : "", name);
    sqlite3_str_appendf(sql, ") %s (", sign);
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++)
        sqlite3_str_appendf(sql, "%s?%d", i > 0 ? ", " : "", first + i);
    sqlite3_str_appendchar(sql, 1, ')');
}

static void put_keys(const struct ob_plan *plan, sqlite3_str *sql)
{
    const char *name = NULL;
    for (int i = 0; i < ob_plan_row_key(plan, i, &name); i++)
        sqlite3_str_appendf(sql, "%soutbox_row.\"%w\"", i > 0 ? ", " : "", name);
}

static void put_rows(const struct snapshot *snapshot, const struct ob_plan *plan, sqlite3_str *sql)
{
    sqlite3_str_appendf(sql, " FROM main.\"%w\" AS outbox_row WHERE 1", plan->table);
    if (snapshot->has_from)
        put_bound(plan, sql, ">", 1);
    if (snapshot->has_to)
        put_bound(plan, sql, "<=", 1 + snapshot->keys);
    if (plan->definition->condition) {
        sqlite3_str_appendall(sql, " AND ");
        ob_plan_put_condition(plan, sql, "outbox_row", "outbox_row");
    }
    sqlite3_str_appendall(sql, " ORDER BY ");
    put_keys(plan, sql);
}

static int prepare_text(const struct snapshot *snapshot, const struct ob_plan *plan,
                        sqlite3_str *text, sqlite3_stmt **statement)
{
    char *sql = sqlite3_str_finish(text);
    if (!sql)
        return ob_plan_no_memory(plan->error);
    *statement = NULL;
    int bound = SQLITE_OK, code = ob_sql_prepare(plan->db, sql, statement, plan->error);
    sqlite3_free(sql);
    for (int i = 0; i < snapshot->keys && code == OUTBOX_OK && bound == SQLITE_OK; i++) {
        if (snapshot->has_from)
            bound = sqlite3_bind_value(*statement, 1 + i, snapshot->from[i]);
        if (bound == SQLITE_OK && snapshot->has_to)
            bound = sqlite3_bind_value(*statement, 1 + snapshot->keys + i, snapshot->to[i]);
    }
    if (bound != SQLITE_OK)
        code = ob_error_sqlite(plan->error, plan->db, bound, "binding a key");
    return code;
}

/* The key of the batch's last row, if there are rows behind it. */
static int find_end(struct snapshot *snapshot, struct ob_plan *plan)
{
    sqlite3_stmt *statement = NULL;
    bool row = false;
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    snapshot->has_to = false;
    sqlite3_str_appendall(sql, "SELECT ");
    put_keys(plan, sql);
    put_rows(snapshot, plan, sql);
    sqlite3_str_appendf(sql, " LIMIT 2 OFFSET %u", snapshot->rows - 1);
    int code = prepare_text(snapshot, plan, sql, &statement);
    if (code == OUTBOX_OK)
        code = ob_sql_step(statement, &row, plan->error, "reading a table");
    for (int i = 0; i < snapshot->keys && code == OUTBOX_OK && row; i++) {
        snapshot->to[i] = sqlite3_value_dup(sqlite3_column_value(statement, i));
        if (!snapshot->to[i])
            code = ob_plan_no_memory(plan->error);
    }
    if (code == OUTBOX_OK && row)
        code = ob_sql_step(statement, &row, plan->error, "reading a table");
    snapshot->has_to = row;
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* The first and the last event say so. They have the ids that were given out last, one by one. */
static int mark(struct snapshot *snapshot, const struct ob_plan *plan, int64_t count)
{
    int64_t last = sqlite3_last_insert_rowid(plan->db);
    bool is_last = !snapshot->has_to;
    const struct {
        bool is_due;
        int64_t id;
        const char *letter;
    } marks[] = {{snapshot->is_first, last - count + 1, is_last && count == 1 ? "o" : "f"},
                 {is_last && !(snapshot->is_first && count == 1), last, "l"}};
    int code = OUTBOX_OK;
    for (int i = 0; i < 2 && count > 0 && code == OUTBOX_OK; i++) {
        sqlite3_stmt *statement = NULL;
        if (!marks[i].is_due)
            continue;
        code = ob_lane_prepare(plan->db, plan->definition->lane,
                               "UPDATE main.{table} SET type = ?2 WHERE id = ?1", &statement,
                               plan->error);
        if (code != OUTBOX_OK)
            return code;
        ob_sql_bind_number(statement, 1, marks[i].id);
        int bound = sqlite3_bind_text(statement, 2, marks[i].letter, 1, SQLITE_STATIC);
        code = bound == SQLITE_OK ? ob_sql_step(statement, NULL, plan->error, "marking a snapshot")
                                  : ob_error_sqlite(plan->error, plan->db, bound, "binding a mark");
        (void)sqlite3_finalize(statement); /* repeats what step said */
    }
    return code;
}

static int copy_rows(struct snapshot *snapshot, struct ob_plan *plan)
{
    sqlite3_stmt *statement = NULL;
    sqlite3_str *sql = sqlite3_str_new(plan->db);
    sqlite3_str_appendf(sql, "INSERT INTO main.%s(payload, type, ",
                        ob_lane_table(plan->definition->lane));
    ob_plan_put_places(plan, sql, 1);
    sqlite3_str_appendf(sql, ") SELECT %lld, 'r', ", (long long)plan->definition->shape);
    ob_plan_put_values(plan, sql, "outbox_row");
    put_rows(snapshot, plan, sql);
    int code = prepare_text(snapshot, plan, sql, &statement);
    if (code == OUTBOX_OK)
        code = ob_sql_step(statement, NULL, plan->error, "storing a snapshot");
    (void)sqlite3_finalize(statement); /* repeats what step said */
    if (code != OUTBOX_OK)
        return code;
    int64_t count = sqlite3_changes(plan->db);
    snapshot->count += count;
    return mark(snapshot, plan, count);
}

static int take_batch(void *context, struct ob_definition *definition)
{
    struct snapshot *snapshot = context;
    outbox *box = snapshot->box;
    struct ob_error drift;
    struct ob_plan plan;
    snapshot->found = true;
    if (definition->is_suspended)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "%s is suspended; resume it first",
                            definition->table);
    int code = ob_capture_drifted(box->wakeup.db, definition, &drift, &box->error);
    if (code == OUTBOX_OK && drift.code != OUTBOX_OK) {
        box->error = drift;
        code = drift.code;
    }
    if (code != OUTBOX_OK)
        return code;
    code = ob_plan_make(&plan, box->wakeup.db, definition, &box->error);
    const char *name = NULL;
    snapshot->keys = code == OUTBOX_OK ? ob_plan_row_key(&plan, 0, &name) : 0;
    if (snapshot->keys > KEYS_MAX)
        code = ob_error_set(&box->error, OUTBOX_MISUSE, "its primary key has over %d columns",
                            KEYS_MAX);
    if (code == OUTBOX_OK)
        code = find_end(snapshot, &plan);
    if (code == OUTBOX_OK)
        code = copy_rows(snapshot, &plan);
    if (snapshot->is_first)
        snapshot->gap = definition->has_gap;
    /* What was missed since then may be of rows that were read before it. */
    if (code == OUTBOX_OK && !snapshot->has_to && definition->has_gap == snapshot->gap) {
        definition->has_gap = 0;
        code = ob_capture_save(box->wakeup.db, definition, &box->error);
    }
    ob_plan_free(&plan);
    return code;
}

/* One transaction. */
static int copy_batch(struct snapshot *snapshot)
{
    outbox *box = snapshot->box;
    struct ob_scope scope;
    int64_t before = snapshot->count;
    const int64_t none[OUTBOX_LANES] = {0};
    int code = ob_scope_open(&scope, box->wakeup.db, &box->error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_captures_each(box->wakeup.db, snapshot->table, &box->error, take_batch, snapshot);
    if (code == OUTBOX_OK && !snapshot->found)
        code = ob_error_set(&box->error, OUTBOX_MISUSE, "%s is not captured", snapshot->table);
    code = ob_scope_close(&scope, code);
    if (code != OUTBOX_OK)
        snapshot->count = before;
    else if (box->service)
        box->service->committed(box->service_context, none);
    return code;
}

int outbox_capture_snapshot(outbox *box, const char *table, unsigned rows, int64_t *count)
{
    if (count)
        *count = 0;
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    if (!table || rows > ROWS_MAX)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "the table is NULL, or rows over %d",
                            ROWS_MAX);
    if (!sqlite3_get_autocommit(box->wakeup.db))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a transaction is open, and a snapshot makes its own; end it first");
    struct snapshot snapshot = {
        .box = box, .table = table, .rows = rows ? rows : ROWS, .is_first = true, .has_to = true};
    int code = OUTBOX_OK;
    while (code == OUTBOX_OK && snapshot.has_to) {
        code = copy_batch(&snapshot);
        snapshot.is_first = false;
        free_values(snapshot.from);
        memcpy(snapshot.from, snapshot.to, sizeof snapshot.from);
        memset(snapshot.to, 0, sizeof snapshot.to);
        snapshot.has_from = true;
    }
    free_values(snapshot.from);
    if (count)
        *count = snapshot.count;
    return code;
}
