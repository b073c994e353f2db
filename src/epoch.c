/* SPDX-License-Identifier: MIT
 *
 * epoch.c - starts a new epoch in each lane, for an application whose file is an older one again.
 *
 * Who was told that there is a new epoch gives out ids that were used before, and counts on the
 * epoch to tell them apart. So it must not be undone: after a crash in this call there is a new
 * epoch or none, after its return there is one for good. The events put later prove nothing, for
 * those put after a power cut would carry the old epoch again.
 */
#include "schema.h"
#include "scope.h"
#include "sql.h"
#include "wal.h"
#include "writer.h"

/* Behind the last event; behind the tombstone, where there is none. What has an id over the limit
 * will be moved away. */
static int find_first(outbox *box, outbox_lane lane, int64_t *first)
{
    sqlite3 *db = box->wakeup.db;
    int64_t lowest, last;
    int code =
        ob_lane_number(db, lane, ob_lane_sql(OB_SQL_LOWEST_ID), 0, 0, 0, &lowest, &box->error);
    if (lowest < 0 || lowest > OUTBOX_ID_MAX)
        lowest = 0;
    if (code == OUTBOX_OK)
        code = ob_lane_number(db, lane, ob_lane_sql(OB_SQL_LAST_PENDING), OUTBOX_ID_MAX, 0, lowest,
                              &last, &box->error);
    *first = code == OUTBOX_OK ? last + 1 : 0;
    return code;
}

static int start_epochs(outbox *box)
{
    struct ob_scope scope;
    int code = ob_scope_open(&scope, box->wakeup.db, &box->error);
    if (code != OUTBOX_OK)
        return code;
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++) {
        int64_t first;
        code = find_first(box, (outbox_lane)i, &first);
        if (code == OUTBOX_OK)
            code = ob_schema_new_epoch(box->wakeup.db, (outbox_lane)i, first, &box->error);
    }
    return ob_scope_close(&scope, code);
}

static int check_durable(outbox *box, enum ob_journal journal)
{
    int level;
    struct ob_error ignored; /* what cannot be read is not durable */
    (void)ob_sql_synchronous(box->wakeup.db, &level, &ignored);
    if (journal == OB_JOURNAL_WAL || ob_sql_is_durable(journal, level))
        return OUTBOX_OK;
    return ob_error_set(&box->error, OUTBOX_NOT_DURABLE,
                        "a power cut could undo the new epoch: set synchronous to FULL, in "
                        "journal_mode DELETE to EXTRA, and call again");
}

/* Not a sync alone: where an earlier one has failed, this one would succeed without the pages.
 * Other connections' syncs count no more than our own commit's, nobody knows here how they went. */
static int make_epoch_durable(outbox *box)
{
    sqlite3 *db = box->wakeup.db;
    int code = ob_sql_run(db, "BEGIN IMMEDIATE", &box->error, "locking the WAL");
    if (code != OUTBOX_OK)
        return code;
    int result = ob_wal_renew(db);
    if (result != SQLITE_OK)
        code = ob_error_sqlite(&box->error, db, result, "syncing the new epoch");
    if (ob_sql_rollback(db))
        return code;
    return ob_error_set(&box->error, OUTBOX_SQLITE,
                        "the WAL's lock cannot be given back (%s): run ROLLBACK",
                        sqlite3_errmsg(db));
}

int outbox_new_epoch(outbox *box)
{
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    if (!sqlite3_get_autocommit(box->wakeup.db))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a transaction is open; start the new epoch before it or after it");
    enum ob_journal journal = ob_sql_journal(box->wakeup.db);
    int code = check_durable(box, journal);
    if (code == OUTBOX_OK)
        code = start_epochs(box);
    if (code == OUTBOX_OK && journal == OB_JOURNAL_WAL)
        code = make_epoch_durable(box);
    return code;
}
