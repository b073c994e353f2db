/* SPDX-License-Identifier: MIT
 *
 * stats.c - the durable counts, read in constant time through any connection.
 *
 * pending = largest id - tombstone's id: ids have no gaps but those that other writers made. The
 * ledger has the rest. Ids over the limit are not counted: the forwarder will move them away. A
 * few look-ups at the ends of one b-tree for each lane, whatever the backlog, and of the limits.
 */
#include "ledger.h"
#include "limit.h"
#include "schema.h"
#include "sql.h"
#include "writer.h"

#include <string.h>

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Somebody else may have written anything into the totals; the difference must not overflow. */
static int64_t between(int64_t first, int64_t last)
{
    return first >= 0 && last >= first ? last - first : -1;
}

/* Fills what the tombstone does not know; `is_ledger`: the lowest row is one. */
static int take_ends(sqlite3_stmt *statement, outbox_lane_counts *counts, struct ob_ledger *ledger,
                     bool *is_ledger, struct ob_error *error)
{
    int64_t id = sqlite3_column_int64(statement, 0);
    const char *text;
    size_t len;
    int code = ob_sql_text(statement, 1, &text, &len, error);
    *is_ledger = text && ob_ledger_parse(ledger, id, text, len);
    counts->last_id = sqlite3_column_int64(statement, 2);
    if (*is_ledger) /* else `id` may be anything, and a difference may overflow */
        counts->pending = smaller(counts->last_id, OUTBOX_ID_MAX) - id;
    counts->oldest_created = sqlite3_column_int64(statement, 3);
    counts->pending_bytes = -1;
    if (counts->pending == 0)
        counts->pending_bytes = 0;
    else if (sqlite3_column_type(statement, 4) == SQLITE_INTEGER &&
             sqlite3_column_type(statement, 5) == SQLITE_INTEGER)
        counts->pending_bytes =
            between(sqlite3_column_int64(statement, 4), sqlite3_column_int64(statement, 5));
    return code;
}

static int read_ends(sqlite3 *db, outbox_lane lane, outbox_lane_counts *counts,
                     struct ob_ledger *ledger, struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool row = false, is_ledger = false;
    int code = ob_lane_prepare(db, lane, ob_lane_sql(OB_SQL_ENDS), &statement, error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(statement, &row, error, "reading the tombstone");
    if (row)
        code = take_ends(statement, counts, ledger, &is_ledger, error);
    (void)sqlite3_finalize(statement); /* repeats what step said */
    if (code == OUTBOX_OK && !is_ledger)
        code = ob_error_set(error, OUTBOX_CORRUPT,
                            "the lowest row of %s is not the tombstone; the forwarder mends that "
                            "at its next start",
                            ob_lane_table(lane));
    return code;
}

static int read_limit(sqlite3 *db, outbox_lane lane, outbox_lane_counts *counts,
                      struct ob_error *error)
{
    struct ob_limit limit;
    int code = ob_limit_load(db, lane, &limit, error);
    counts->max_events = limit.max_events;
    counts->max_bytes = limit.max_bytes;
    counts->evicts = limit.evicts;
    if (limit.max_bytes == 0)
        counts->pending_bytes = 0; /* nobody keeps the totals up */
    return code;
}

static int inspect_lane(sqlite3 *db, outbox_lane lane, outbox_lane_counts *counts,
                        struct ob_error *error)
{
    struct ob_ledger ledger = {0};
    int code = read_ends(db, lane, counts, &ledger, error);
    if (code == OUTBOX_OK)
        code = read_limit(db, lane, counts, error);
    if (code != OUTBOX_OK)
        return code;
    counts->delivered = ledger.count[OB_DELIVERED];
    counts->expired = ledger.count[OB_EXPIRED];
    counts->evicted = ledger.count[OB_EVICTED];
    counts->superseded = ledger.count[OB_SUPERSEDED];
    counts->dead_lettered = ledger.count[OB_DEAD];
    counts->holes = ledger.holes;
    counts->accepted = ob_ledger_total(&ledger) + counts->pending;
    return OUTBOX_OK;
}

static void add_counts(outbox_statistics *sum, const outbox_lane_counts *counts)
{
    sum->pending += counts->pending;
    sum->delivered += counts->delivered;
    sum->expired += counts->expired;
    sum->evicted += counts->evicted;
    sum->superseded += counts->superseded;
    sum->dead_lettered += counts->dead_lettered;
    sum->accepted += counts->accepted;
    sum->holes += counts->holes;
    if (counts->oldest_created != 0 &&
        (sum->oldest_created == 0 || counts->oldest_created < sum->oldest_created))
        sum->oldest_created = counts->oldest_created;
}

static int inspect(sqlite3 *db, outbox_statistics *statistics, struct ob_error *error)
{
    enum ob_schema_found found;
    int code = ob_schema_find(db, &found, error);
    if (code == OUTBOX_OK && found == OB_SCHEMA_MISSING)
        code = ob_error_set(error, OUTBOX_CORRUPT,
                            "there is no outbox in this file; attach to it or run outbox init");
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++) {
        code = inspect_lane(db, (outbox_lane)i, &statistics->lanes[i], error);
        if (code == OUTBOX_OK)
            add_counts(statistics, &statistics->lanes[i]);
    }
    return code;
}

int outbox_inspect(sqlite3 *db, outbox_statistics *statistics, char *sentence, size_t size)
{
    struct ob_error error = {OUTBOX_MISUSE, "the connection or the statistics are NULL"};
    int code = OUTBOX_MISUSE;
    if (db && statistics) {
        memset(statistics, 0, sizeof *statistics);
        code = inspect(db, statistics, &error);
    }
    if (code != OUTBOX_OK && sentence && size > 0)
        sqlite3_snprintf((int)size, sentence, "%s", error.sentence);
    return code;
}

int outbox_stats(outbox *box, outbox_statistics *statistics)
{
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!statistics)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "the statistics are NULL");
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    memset(statistics, 0, sizeof *statistics);
    int code = inspect(box->wakeup.db, statistics, &box->error);
    if (code == OUTBOX_OK && box->service)
        box->service->stats(box->service_context, statistics);
    statistics->fire_dropped += box->stage.dropped;
    return code;
}
