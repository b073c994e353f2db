/* SPDX-License-Identifier: MIT
 *
 * lane.c - the SQL of each lane, and the lane's names in it.
 *
 * What must hold after a crash is said where it is run: table.c, head.c, store.c and writer.c.
 */
#include "lane.h"

#include "sql.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name, *table;
} lanes[OUTBOX_LANES] = {
    [OUTBOX_NORMAL] = {"normal", "outbox_event"},
    [OUTBOX_URGENT] = {"urgent", "outbox_urgent"},
};

/* ---- The texts ------------------------------------------------------------------------------- */

/* What an event counts for a limit in bytes. The 32 is OUTBOX_EVENT_BYTES. */
#define BYTES_OF(column) " + coalesce(length(CAST(" column " AS BLOB)), 0)"

/* What stands in many of them. `total`: somebody else may have written anything into it; what
 * cannot be a sum is taken for missing. */
static const struct {
    const char *name, *text;
} sql_parts[] = {
    {"columns",
     "topic, payload, created, retain, type, content_type, key, expires, keep_last, headers"},
    {"total", "iif(typeof(total) = 'integer' AND total BETWEEN 0 AND (1 << 56), total, NULL)"},
    {"bytes", "32" BYTES_OF("topic") BYTES_OF("payload") BYTES_OF("type") BYTES_OF("content_type")
                  BYTES_OF("key") BYTES_OF("headers") OB_SQL_VALUES},
};

/* ENTOMB: no two tombstones may be alike. A settle that a power cut undoes is repeated; were its
 * page the same again, its frame of the WAL would be too, and what lay behind it, a commit that was
 * undone with it, would be valid again at the next recovery. LAST_PENDING: the lowest row is the
 * tombstone; where it is the largest too, nothing is pending. */
static const char *const sql_templates[OB_TABLE_SQL] = {
    /* NOLINTBEGIN(bugprone-suspicious-missing-comma): SQL in pieces, each text one member */
    [OB_SQL_HEAD] = "SELECT id, ledger, {total} FROM main.{table} ORDER BY id LIMIT 1",
    [OB_SQL_FETCH] = "SELECT id, {columns}, ledger IS NOT NULL FROM main.{table}"
                     " WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
    [OB_SQL_LARGEST] = "SELECT max(id) FROM main.{table}",
    [OB_SQL_IDS] = "SELECT id FROM main.{table} WHERE id > ?1 AND id <= ?2 ORDER BY id",
    [OB_SQL_DELETE] = "DELETE FROM main.{table} WHERE id < ?1",
    [OB_SQL_ENTOMB] =
        "UPDATE main.{table} SET topic = NULL, payload = NULL, created = NULL,"
        " retain = NULL, type = NULL, content_type = NULL, key = NULL,"
        " expires = random(), keep_last = NULL, headers = NULL, ledger = ?2 WHERE id = ?1",
    [OB_SQL_BURY] =
        "INSERT INTO main.outbox_dead(lane, id, epoch, {columns}, reason, died)"
        " SELECT '{lane}', id, (SELECT epoch FROM main.outbox_epoch WHERE lane = '{lane}'"
        " AND first <= e.id ORDER BY first DESC LIMIT 1), {columns}, ?3, ?4"
        " FROM main.{table} AS e WHERE id BETWEEN ?1 AND ?2",
    [OB_SQL_NEXT_ID] = "SELECT min(id) FROM main.{table} WHERE id > ?1",
    [OB_SQL_FIRST_ID] = "SELECT min(id) FROM main.{table} WHERE id > 0",
    [OB_SQL_LOWEST_ID] = "SELECT min(id) FROM main.{table}",
    [OB_SQL_MAKE_ROW] = "INSERT INTO main.{table}(id) VALUES(?1)",
    [OB_SQL_MAKE_HEAD] = "INSERT INTO main.{table}(id, created, ledger)"
                         " VALUES(?2, NULL, ?1)",
    [OB_SQL_DELETE_RANGE] = "DELETE FROM main.{table} WHERE id BETWEEN ?1 AND ?2",
    [OB_SQL_FIRST_MARK] = "SELECT id, ledger, {total} FROM main.{table} WHERE ledger IS NOT NULL"
                          " ORDER BY id LIMIT 1",
    [OB_SQL_UNMARK] = "UPDATE main.{table} SET ledger = NULL WHERE id = ?1",
    [OB_SQL_OWNERS] = "SELECT count(*) FROM main.sqlite_master WHERE rootpage ="
                      " (SELECT rootpage FROM main.sqlite_master"
                      " WHERE type = 'table' AND name = '{table}')",
    [OB_SQL_PUT] = "INSERT INTO main.{table}({columns})"
                   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    [OB_SQL_PUT_MEASURED] = "INSERT INTO main.{table}({columns}, total)"
                            " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,"
                            " (SELECT {total} FROM main.{table} ORDER BY id DESC LIMIT 1)"
                            " + ?11)",
    [OB_SQL_TOTAL] = "SELECT {total} FROM main.{table} WHERE id = ?1",
    [OB_SQL_SET_TOTAL] = "UPDATE main.{table} SET total = ?2 WHERE id = ?1",
    [OB_SQL_BACKWARDS] = "SELECT id, {total}, {bytes}, ledger IS NOT NULL FROM main.{table}"
                         " WHERE id <= ?1 ORDER BY id DESC",
    [OB_SQL_FIRST_TOTAL] = "SELECT max(0, total - (SELECT sum({bytes}) FROM main.{table}"
                           " WHERE id > ?1 AND id <= f.id)) FROM main.{table} AS f"
                           " WHERE {total} IS NOT NULL AND id > ?1 ORDER BY id LIMIT 1",
    [OB_SQL_TOTALS] = "SELECT id, {total}, {bytes} FROM main.{table} WHERE id > ?1 ORDER BY id",
    [OB_SQL_TAKE_BACK] = "DELETE FROM main.{table} WHERE id = ?1 AND ledger IS NULL",
    [OB_SQL_LAST_PENDING] = "SELECT max(id) FROM main.{table} WHERE id <= ?1"
                            " AND id > (SELECT min(id) FROM main.{table})",
    [OB_SQL_SPAN] = "SELECT (SELECT max(id) FROM main.{table}"
                    ") - (SELECT id - (ledger IS NULL) FROM main.{table} ORDER BY id LIMIT 1)",
    [OB_SQL_ENDS] = "SELECT id, ledger, (SELECT max(id) FROM main.{table}),"
                    " (SELECT created FROM main.{table} WHERE id > e.id ORDER BY id LIMIT 1),"
                    " {total}, (SELECT {total} FROM main.{table} ORDER BY id DESC LIMIT 1)"
                    " FROM main.{table} AS e ORDER BY id LIMIT 1",
    /* NOLINTEND(bugprone-suspicious-missing-comma) */
};

const char *ob_lane_sql(enum ob_table_sql which)
{
    assert(which < OB_TABLE_SQL);
    return sql_templates[which];
}

const char *ob_lane_name(outbox_lane lane)
{
    assert(lane < OUTBOX_LANES);
    return lanes[lane].name;
}

const char *ob_lane_table(outbox_lane lane)
{
    assert(lane < OUTBOX_LANES);
    return lanes[lane].table;
}

/* ---- Filling them in ------------------------------------------------------------------------- */

static const char *find_part(outbox_lane lane, const char *name, size_t len)
{
    if (strncmp(name, "table", len) == 0)
        return ob_lane_table(lane);
    for (size_t i = 0; i < sizeof sql_parts / sizeof sql_parts[0]; i++)
        if (strncmp(name, sql_parts[i].name, len) == 0)
            return sql_parts[i].text;
    assert(strncmp(name, "lane", len) == 0);
    return ob_lane_name(lane);
}

char *ob_lane_fill(outbox_lane lane, const char *text)
{
    sqlite3_str *filled = sqlite3_str_new(NULL);
    for (;;) {
        size_t len = strcspn(text, "{");
        sqlite3_str_append(filled, text, (int)len);
        if (text[len] == '\0')
            return sqlite3_str_finish(filled);
        text += len + 1;
        len = strcspn(text, "}");
        sqlite3_str_appendall(filled, find_part(lane, text, len));
        text += len + 1;
    }
}

static int fill_failed(struct ob_error *error)
{
    return ob_error_set(error, OUTBOX_NO_MEMORY, "memory ran out while preparing a statement");
}

int ob_lane_prepare(sqlite3 *db, outbox_lane lane, const char *text, sqlite3_stmt **statement,
                    struct ob_error *error)
{
    if (*statement)
        return OUTBOX_OK;
    char *sql = ob_lane_fill(lane, text);
    int code = sql ? ob_sql_prepare(db, sql, statement, error) : fill_failed(error);
    sqlite3_free(sql);
    return code;
}

int ob_lane_number(sqlite3 *db, outbox_lane lane, const char *text, int64_t a, int64_t b,
                   int64_t none, int64_t *number, struct ob_error *error)
{
    char *sql = ob_lane_fill(lane, text);
    *number = none;
    int code = sql ? ob_sql_number(db, sql, a, b, none, number, error) : fill_failed(error);
    sqlite3_free(sql);
    return code;
}
