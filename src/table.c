/* SPDX-License-Identifier: MIT
 *
 * table.c - reads the tombstone of a lane, and writes it.
 *
 * Removing rows and writing the tombstone that has counted them are two statements of one
 * transaction, the caller's: after a crash either both are there or none.
 */
#include "table.h"

#include "sql.h"

#include <assert.h>
#include <string.h>

void ob_table_open(struct ob_table *table, sqlite3 *db, outbox_lane lane, bool small_heap,
                   struct ob_error *error)
{
    memset(table, 0, sizeof *table);
    table->db = db;
    table->lane = lane;
    table->small_heap = small_heap;
    table->error = error;
}

void ob_table_close(struct ob_table *table)
{
    for (int i = 0; i < OB_TABLE_STATEMENTS; i++) {
        (void)sqlite3_finalize(table->kept[i]); /* repeats what the last step said */
        table->kept[i] = NULL;
    }
    table->db = NULL;
}

int ob_table_statement(struct ob_table *table, enum ob_table_sql which, sqlite3_stmt **statement)
{
    assert(which < OB_TABLE_STATEMENTS);
    int code = ob_lane_prepare(table->db, table->lane, ob_lane_sql(which), &table->kept[which],
                               table->error);
    *statement = table->kept[which];
    return code;
}

void ob_table_done(struct ob_table *table, enum ob_table_sql which)
{
    ob_sql_done(&table->kept[which], table->small_heap);
}

int ob_table_run(struct ob_table *table, enum ob_table_sql which, int64_t a, int64_t b)
{
    int64_t ignored;
    return ob_lane_number(table->db, table->lane, ob_lane_sql(which), a, b, 0, &ignored,
                          table->error);
}

int ob_table_number(struct ob_table *table, enum ob_table_sql which, int64_t a, int64_t none,
                    int64_t *number)
{
    return ob_lane_number(table->db, table->lane, ob_lane_sql(which), a, 0, none, number,
                          table->error);
}

int ob_table_probe(struct ob_table *table)
{
    int code = OUTBOX_OK;
    for (int i = 0; i < OB_TABLE_STATEMENTS && code == OUTBOX_OK; i++) {
        sqlite3_stmt *statement = NULL;
        code = ob_lane_prepare(table->db, table->lane, ob_lane_sql((enum ob_table_sql)i),
                               &statement, table->error);
        (void)sqlite3_finalize(statement); /* it was not run */
    }
    return code;
}

int ob_table_largest(struct ob_table *table, int64_t *id)
{
    sqlite3_stmt *statement;
    bool row = false;
    *id = 0;
    int code = ob_table_statement(table, OB_SQL_LARGEST, &statement);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(statement, &row, table->error, "reading the largest id");
    if (row)
        *id = sqlite3_column_int64(statement, 0);
    ob_table_done(table, OB_SQL_LARGEST);
    return code;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* The lane's table has columns v1, v2 ... where something is captured, change.h. */
static int put_values(struct ob_table *table, sqlite3_str *sql)
{
    int64_t count = 0;
    int code = ob_lane_number(
        table->db, table->lane,
        "SELECT count(*) FROM pragma_table_info('{table}', 'main') WHERE name GLOB 'v[0-9]*'", 0, 0,
        0, &count, table->error);
    /* Few at a time, for SQLite bounds the depth of an expression. */
    for (int i = 1; code == OUTBOX_OK && i <= count; i++)
        sqlite3_str_appendf(sql, "%scoalesce(length(CAST(v%d AS BLOB)), 0)%s",
                            i % 50 == 1 ? " + (" : " + ", i, i % 50 == 0 || i == count ? ")" : "");
    return code;
}

int ob_table_prepare_measuring(struct ob_table *table, enum ob_table_sql which,
                               sqlite3_stmt **statement)
{
    char *filled = ob_lane_fill(table->lane, ob_lane_sql(which));
    if (!filled)
        return ob_error_set(table->error, OUTBOX_NO_MEMORY, "memory ran out while measuring");
    const char *at = filled, *mark = strstr(at, OB_SQL_VALUES);
    sqlite3_str *sql = sqlite3_str_new(table->db);
    int code = OUTBOX_OK;
    for (; mark && code == OUTBOX_OK; mark = strstr(at, OB_SQL_VALUES)) {
        sqlite3_str_append(sql, at, (int)(mark - at));
        code = put_values(table, sql);
        at = mark + strlen(OB_SQL_VALUES);
    }
    sqlite3_str_appendall(sql, at);
    sqlite3_free(filled);
    char *text = sqlite3_str_finish(sql);
    if (code == OUTBOX_OK)
        code = text
                   ? ob_sql_prepare(table->db, text, statement, table->error)
                   : ob_error_set(table->error, OUTBOX_NO_MEMORY, "memory ran out while measuring");
    sqlite3_free(text);
    return code;
}

/* ---- The tombstone --------------------------------------------------------------------------- */

/* A mark for which memory ran out is not a mark that is damaged. */
int ob_table_take_lowest(struct ob_table *table, sqlite3_stmt *statement, struct ob_lowest *lowest)
{
    const char *text;
    size_t len;
    lowest->exists = true;
    lowest->id = sqlite3_column_int64(statement, 0);
    lowest->has_total = sqlite3_column_type(statement, 2) == SQLITE_INTEGER;
    lowest->total = sqlite3_column_int64(statement, 2);
    int code = ob_sql_text(statement, 1, &text, &len, table->error);
    if (code != OUTBOX_OK || !text || len >= OB_LEDGER_TEXT)
        return code;
    lowest->is_tombstone = ob_ledger_parse(&lowest->ledger, lowest->id, text, len);
    lowest->is_known = lowest->is_tombstone && table->head_is_known &&
                       ob_ledger_equals(&lowest->ledger, table->head);
    return OUTBOX_OK;
}

int ob_table_lowest(struct ob_table *table, struct ob_lowest *lowest)
{
    sqlite3_stmt *statement;
    bool row = false;
    memset(lowest, 0, sizeof *lowest);
    int code = ob_table_statement(table, OB_SQL_HEAD, &statement);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(statement, &row, table->error, "reading the tombstone");
    if (row)
        code = ob_table_take_lowest(table, statement, lowest);
    ob_table_done(table, OB_SQL_HEAD);
    return code;
}

void ob_table_adopt(struct ob_table *table, const struct ob_ledger *ledger)
{
    assert(ob_ledger_holds(ledger));
    *table->head = *ledger;
    table->head_is_known = true;
}

/* There may be fewer rows than were counted where somebody has deleted events by hand; what was
 * delivered was delivered all the same. */
int ob_table_delete_passed(struct ob_table *table, int64_t id)
{
    sqlite3_stmt *statement;
    int code = ob_table_statement(table, OB_SQL_DELETE, &statement);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, id);
    code = ob_sql_step(statement, NULL, table->error, "settling events");
    ob_table_done(table, OB_SQL_DELETE);
    return code;
}

static int write_ledger(struct ob_table *table, const struct ob_ledger *ledger)
{
    sqlite3_stmt *statement;
    int code = ob_table_statement(table, OB_SQL_ENTOMB, &statement);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, ledger->id);
    int bound = ob_ledger_bind(ledger, statement, 2);
    code = bound == SQLITE_OK
               ? ob_sql_step(statement, NULL, table->error, "writing the tombstone")
               : ob_error_sqlite(table->error, table->db, bound, "binding the tombstone");
    (void)sqlite3_clear_bindings(statement); /* gives the text's memory back; cannot fail */
    ob_table_done(table, OB_SQL_ENTOMB);
    return code;
}

int ob_table_entomb(struct ob_table *table, const struct ob_ledger *ledger)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        int code = write_ledger(table, ledger);
        if (code != OUTBOX_OK || sqlite3_changes(table->db) == 1)
            return code;
        /* The row is gone, by hand: make it, then fill it. */
        code = ob_table_run(table, OB_SQL_MAKE_ROW, ledger->id, 0);
        if (code != OUTBOX_OK)
            return code;
    }
    return ob_error_set(table->error, OUTBOX_CORRUPT, "the tombstone %lld cannot be written",
                        (long long)ledger->id);
}
