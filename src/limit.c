/* SPDX-License-Identifier: MIT
 *
 * limit.c - measures a lane, and lets its oldest events leave.
 *
 * What leaves is counted in the tombstone in the same transaction, which is the application's where
 * a put makes room: if that rolls back, the events are there again and nothing was counted. An
 * event that is in flight may be evicted; if its PUBACK comes later, the recipient has it and is
 * told all the same that it was evicted.
 */
#include "limit.h"

#include "sql.h"

#include <assert.h>
#include <string.h>

/* ---- What is stored -------------------------------------------------------------------------- */

enum { MAX_EVENTS, MAX_BYTES, EVICTS, SETTINGS };

static const char *const load_sql[SETTINGS] = {
#define LOAD(name) "SELECT value FROM main.outbox_meta WHERE name = '{lane}_" name "'"
    LOAD("max_events"), LOAD("max_bytes"), LOAD("evicts")
#undef LOAD
};

static const char *const store_sql[SETTINGS] = {
#define STORE(name)                                                                                \
    "INSERT INTO main.outbox_meta(name, value) VALUES('{lane}_" name "', ?1)"                      \
    " ON CONFLICT(name) DO UPDATE SET value = excluded.value"
    STORE("max_events"), STORE("max_bytes"), STORE("evicts")
#undef STORE
};

int ob_limit_load(sqlite3 *db, outbox_lane lane, struct ob_limit *limit, struct ob_error *error)
{
    int64_t member[SETTINGS] = {0};
    int code = OUTBOX_OK;
    for (int i = 0; i < SETTINGS && code == OUTBOX_OK; i++)
        code = ob_lane_number(db, lane, load_sql[i], 0, 0, 0, &member[i], error);
    *limit = (struct ob_limit){.max_events = member[MAX_EVENTS] > 0 ? member[MAX_EVENTS] : 0,
                               .max_bytes = member[MAX_BYTES] > 0 ? member[MAX_BYTES] : 0,
                               .evicts = member[EVICTS] != 0};
    return code;
}

int ob_limit_store(sqlite3 *db, outbox_lane lane, const struct ob_limit *limit,
                   struct ob_error *error)
{
    const int64_t member[SETTINGS] = {limit->max_events, limit->max_bytes, limit->evicts};
    int code = OUTBOX_OK;
    for (int i = 0; i < SETTINGS && code == OUTBOX_OK; i++) {
        int64_t ignored;
        code = ob_lane_number(db, lane, store_sql[i], member[i], 0, 0, &ignored, error);
    }
    return code;
}

static int64_t apply_wanted(int64_t wanted, int64_t stored)
{
    return wanted == 0 ? stored : wanted < 0 ? 0 : wanted;
}

bool ob_limit_apply(const outbox_limit *wanted, struct ob_limit *limit)
{
    struct ob_limit before = *limit;
    if (wanted->max_events == 0 && wanted->max_bytes == 0)
        return false;
    limit->max_events = apply_wanted(wanted->max_events, limit->max_events);
    limit->max_bytes = apply_wanted(wanted->max_bytes, limit->max_bytes);
    limit->evicts = wanted->when_full == OUTBOX_EVICT_OLDEST;
    return limit->max_events != before.max_events || limit->max_bytes != before.max_bytes ||
           limit->evicts != before.evicts;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static int64_t length_of(const char *text)
{
    return text ? (int64_t)strlen(text) : 0;
}

int64_t ob_limit_bytes(const outbox_event *event, size_t headers_len)
{
    return OUTBOX_EVENT_BYTES + length_of(event->topic) + (int64_t)event->payload_len +
           length_of(event->type) + length_of(event->content_type) + length_of(event->key) +
           (int64_t)headers_len;
}

/* Adds up from the row `last` back to one that has a total, or to the tombstone. */
static int add_up(struct ob_table *table, int64_t last, int64_t *total)
{
    sqlite3_stmt *statement = NULL;
    bool row = false, is_base = false;
    int code = ob_table_prepare_measuring(table, OB_SQL_BACKWARDS, &statement);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, last);
    *total = 0;
    while (code == OUTBOX_OK && !is_base) {
        code = ob_sql_step(statement, &row, table->error, "measuring events");
        if (code != OUTBOX_OK || !row)
            break;
        is_base = sqlite3_column_type(statement, 1) == SQLITE_INTEGER ||
                  sqlite3_column_int(statement, 3) != 0;
        *total += sqlite3_column_int64(statement, is_base ? 1 : 2);
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* The running total of the newest row, which gets one if it has none. */
static int measure_lane(struct ob_table *table, int64_t last, int64_t *total)
{
    int code = ob_table_number(table, OB_SQL_TOTAL, last, -1, total);
    if (code != OUTBOX_OK || *total >= 0)
        return code;
    code = add_up(table, last, total);
    return code == OUTBOX_OK ? ob_table_run(table, OB_SQL_SET_TOTAL, last, *total) : code;
}

/* ---- Room ------------------------------------------------------------------------------------ */

/* The bytes that were put up to the tombstone. It has no total where there was no limit when it was
 * an event, or where it was made anew; then it gets one. */
static int find_floor(struct ob_table *table, const struct ob_lowest *lowest, int64_t *total)
{
    *total = lowest->total;
    if (lowest->has_total)
        return OUTBOX_OK;
    sqlite3_stmt *statement = NULL;
    bool row = false;
    int code = ob_table_prepare_measuring(table, OB_SQL_FIRST_TOTAL, &statement);
    if (code == OUTBOX_OK) {
        ob_sql_bind_number(statement, 1, lowest->id);
        code = ob_sql_step(statement, &row, table->error, "measuring the first events");
    }
    *total = row ? sqlite3_column_int64(statement, 0) : 0;
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code == OUTBOX_OK ? ob_table_run(table, OB_SQL_SET_TOTAL, lowest->id, *total) : code;
}

/* What has to be compared. */
struct measured {
    int64_t last, total; /* the newest row, and the bytes put up to it */
    int64_t on_top;      /* announcements, which take no event's place; as far as that is known */
};

/* Looks at the tombstone. Where it is none, the forwarder will mend that; until then nobody can
 * tell how full the lane is. */
static int look_at_front(struct ob_table *table, const struct ob_limit *limit,
                         struct ob_lowest *lowest, struct ob_fill *fill, struct measured *newest)
{
    int code = ob_table_lowest(table, lowest);
    fill->is_known = false;
    if (code != OUTBOX_OK || !lowest->is_tombstone)
        return code;
    newest->on_top = ob_ledger_announcements(&lowest->ledger, 0);
    fill->floor = lowest->id;
    if (limit->max_bytes > 0)
        code = find_floor(table, lowest, &fill->floor_total);
    fill->is_known = code == OUTBOX_OK;
    return code;
}

static bool is_within(const struct ob_limit *limit, const struct ob_fill *fill,
                      const struct measured *newest)
{
    return (limit->max_events == 0 ||
            newest->last - fill->floor - newest->on_top <= limit->max_events) &&
           (limit->max_bytes == 0 || newest->total - fill->floor_total <= limit->max_bytes);
}

/* The last row that must leave so that the rest is within max_bytes; `last` if nothing else
 * helps. */
static int find_cut(struct ob_table *table, const struct ob_limit *limit,
                    const struct measured *newest, const struct ob_fill *fill, int64_t *cut)
{
    sqlite3_stmt *statement = NULL;
    int64_t total = fill->floor_total;
    bool row = false;
    int code = ob_table_prepare_measuring(table, OB_SQL_TOTALS, &statement);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, fill->floor);
    *cut = newest->last;
    while (code == OUTBOX_OK) {
        code = ob_sql_step(statement, &row, table->error, "looking for the oldest events");
        if (code != OUTBOX_OK || !row)
            break;
        if (sqlite3_column_type(statement, 1) == SQLITE_INTEGER)
            total = sqlite3_column_int64(statement, 1);
        else
            total += sqlite3_column_int64(statement, 2);
        if (newest->total - total > limit->max_bytes)
            continue;
        *cut = sqlite3_column_int64(statement, 0);
        break;
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

/* Counts the rows up to `cut` as gone: delivered as far as they are acked, evicted the others. */
static int count_leaving(struct ob_table *table, int64_t cut, int64_t acked,
                         struct ob_ledger *ledger)
{
    sqlite3_stmt *statement;
    bool row = true;
    int64_t rows = 0;
    int code = ob_table_statement(table, OB_SQL_IDS, &statement);
    if (code != OUTBOX_OK)
        return code;
    ob_sql_bind_number(statement, 1, ledger->id);
    ob_sql_bind_number(statement, 2, cut);
    while (code == OUTBOX_OK && row) {
        code = ob_sql_step(statement, &row, table->error, "counting the oldest events");
        if (code != OUTBOX_OK || !row)
            break;
        int64_t id = sqlite3_column_int64(statement, 0);
        ob_ledger_leave(ledger, id, id <= acked ? OB_DELIVERED : OB_EVICTED);
        rows++;
    }
    ob_table_done(table, OB_SQL_IDS);
    if (code != OUTBOX_OK)
        return code;
    ledger->holes += cut - ledger->id - rows;
    ledger->id = cut;
    return OUTBOX_OK;
}

/* Undoes what was done behind the savepoint, or all of the transaction where there is none or not
 * even that works. */
static void undo_eviction(struct ob_table *table, bool guarded)
{
    struct ob_error ignored; /* what has failed before is to be told */
    if (!guarded || ob_sql_run(table->db, "ROLLBACK TO outbox_room; RELEASE outbox_room", &ignored,
                               "undoing an eviction") != OUTBOX_OK)
        (void)ob_sql_rollback(table->db);
}

/* The rows leave by one statement and are counted by the next. The transaction is the
 * application's, which may commit it although the put has failed in between: so both or none.
 * Inside a statement that writes there are no savepoints, and SQLite says BUSY. */
static int leave(struct ob_table *table, int64_t cut, int64_t acked, struct ob_lowest *lowest,
                 bool *moved)
{
    if (cut <= lowest->id)
        return OUTBOX_OK;
    int code = ob_sql_run(table->db, "SAVEPOINT outbox_room", table->error, "opening a savepoint");
    bool guarded = code == OUTBOX_OK;
    if (!guarded && code != OUTBOX_BUSY)
        return code;
    ob_error_clear(table->error);
    *moved = true;
    code = count_leaving(table, cut, acked, &lowest->ledger);
    if (code == OUTBOX_OK)
        code = ob_table_delete_passed(table, cut);
    if (code == OUTBOX_OK)
        code = ob_table_entomb(table, &lowest->ledger);
    if (code == OUTBOX_OK && guarded)
        code = ob_sql_run(table->db, "RELEASE outbox_room", table->error, "making room");
    if (code != OUTBOX_OK)
        undo_eviction(table, guarded);
    return code;
}

static int is_full(struct ob_table *table, const struct ob_limit *limit)
{
    return ob_error_set(
        table->error, OUTBOX_FULL,
        "the %s lane holds all that its limit allows (%lld events, %lld bytes; 0 is "
        "no limit); wait until events are sent, or raise the limit",
        ob_lane_name(table->lane), (long long)limit->max_events, (long long)limit->max_bytes);
}

/* The last row that must leave so that the rest is within max_events. Where an announcement leaves
 * as well, there is one less on top. */
static int64_t cut_by_events(const struct ob_limit *limit, const struct measured *newest,
                             const struct ob_ledger *ledger)
{
    int64_t cut = newest->last - limit->max_events - newest->on_top, before;
    do {
        before = cut;
        cut = newest->last - limit->max_events - ob_ledger_announcements(ledger, cut);
    } while (cut != before);
    return cut;
}

static int evict(struct ob_table *table, const struct ob_limit *limit, const struct ob_fill *fill,
                 const struct measured *newest, int64_t acked, struct ob_lowest *lowest,
                 bool *moved)
{
    int64_t cut = limit->max_events > 0 ? cut_by_events(limit, newest, &lowest->ledger) : 0;
    int64_t by_bytes = 0;
    int code = OUTBOX_OK;
    if (limit->max_bytes > 0 && newest->total - fill->floor_total > limit->max_bytes)
        code = find_cut(table, limit, newest, fill, &by_bytes);
    if (by_bytes > cut)
        cut = by_bytes;
    if (code == OUTBOX_OK && cut >= newest->last)
        return is_full(table, limit);
    return code == OUTBOX_OK ? leave(table, cut, acked, lowest, moved) : code;
}

int ob_limit_keep(struct ob_table *table, const struct ob_limit *limit, int64_t last, int64_t acked,
                  struct ob_fill *fill, bool *moved)
{
    struct measured newest = {.last = last};
    struct ob_lowest lowest;
    *moved = false;
    int code = limit->max_bytes > 0 ? measure_lane(table, last, &newest.total) : OUTBOX_OK;
    /* Behind a tombstone without a total the totals begin anew, and no older one compares with
     * them. */
    bool may_trust = fill->is_known && limit->max_bytes == 0;
    if (code != OUTBOX_OK || (may_trust && is_within(limit, fill, &newest)))
        return code;
    code = look_at_front(table, limit, &lowest, fill, &newest);
    if (code != OUTBOX_OK || !fill->is_known || is_within(limit, fill, &newest))
        return code;
    /* What the broker has is not pending: it must not be why an event is rejected. */
    if (acked > lowest.id && acked < last) {
        code = leave(table, acked, acked, &lowest, moved);
        if (code == OUTBOX_OK)
            code = look_at_front(table, limit, &lowest, fill, &newest);
        if (code != OUTBOX_OK || !fill->is_known || is_within(limit, fill, &newest))
            return code;
    }
    if (!limit->evicts)
        return is_full(table, limit);
    code = evict(table, limit, fill, &newest, acked, &lowest, moved);
    fill->is_known = false; /* looked at again by the next one */
    return code;
}
