/* SPDX-License-Identifier: MIT
 *
 * stats.c - the durable counts, read in constant time through any connection.
 *
 * pending = largest id - tombstone's id: ids have no gaps but those that other writers made. The
 * ledger has the rest. Ids over the limit are not counted: the forwarder will move them away. Three
 * look-ups at the ends of one b-tree, whatever the backlog.
 */
#include "ledger.h"
#include "schema.h"
#include "sql.h"
#include "writer.h"

#include <string.h>

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int read_ends(sqlite3 *db, outbox_statistics *statistics, struct ob_ledger *ledger,
                     struct ob_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool row = false, is_ledger = false;
    int code = ob_sql_prepare(db,
                              "SELECT id, ledger, (SELECT max(id) FROM main.outbox_event),"
                              " (SELECT created FROM main.outbox_event WHERE id > e.id ORDER BY id"
                              " LIMIT 1) FROM main.outbox_event AS e ORDER BY id LIMIT 1",
                              &statement, error);
    if (code != OUTBOX_OK)
        return code;
    code = ob_sql_step(statement, &row, error, "reading the tombstone");
    if (row) {
        int64_t id = sqlite3_column_int64(statement, 0);
        const char *text;
        size_t len;
        code = ob_sql_text(statement, 1, &text, &len, error);
        is_ledger = text && ob_ledger_parse(ledger, id, text, len);
        statistics->last_id = sqlite3_column_int64(statement, 2);
        if (is_ledger) /* else `id` may be anything, and a difference may overflow */
            statistics->pending = smaller(statistics->last_id, OUTBOX_ID_MAX) - id;
        statistics->oldest_created = sqlite3_column_int64(statement, 3);
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    if (code == OUTBOX_OK && !is_ledger)
        code = ob_error_set(error, OUTBOX_CORRUPT,
                            "the lowest row of outbox_event is not the tombstone; the forwarder "
                            "mends that at its next start");
    return code;
}

static int inspect(sqlite3 *db, outbox_statistics *statistics, struct ob_error *error)
{
    enum ob_schema_found found;
    struct ob_ledger ledger = {0};
    int code = ob_schema_find(db, &found, error);
    if (code == OUTBOX_OK && found == OB_SCHEMA_MISSING)
        code = ob_error_set(error, OUTBOX_CORRUPT,
                            "there is no outbox in this file; attach to it or run outbox init");
    if (code == OUTBOX_OK)
        code = read_ends(db, statistics, &ledger, error);
    if (code != OUTBOX_OK)
        return code;
    statistics->delivered = ledger.count[OB_DELIVERED];
    statistics->expired = ledger.count[OB_EXPIRED];
    statistics->evicted = ledger.count[OB_EVICTED];
    statistics->superseded = ledger.count[OB_SUPERSEDED];
    statistics->dead_lettered = ledger.count[OB_DEAD];
    statistics->holes = ledger.holes;
    statistics->accepted = ob_ledger_total(&ledger) + statistics->pending;
    return OUTBOX_OK;
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
    return code;
}
