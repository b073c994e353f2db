/* SPDX-License-Identifier: MIT
 *
 * announce.c - turns what the tombstone notes of drops into events at the end of the lane.
 *
 * The event appears and the note is taken off in one transaction. After a crash the drops are
 * either noted still, or there is an event that tells of them; a power cut may undo that event, so
 * a barrier is asked for before it is sent. An announcement that is evicted goes back into the note
 * (ledger.c). At most one of each reason is on its way, so what is dropped while it waits is added
 * up.
 */
#include "announce.h"

#include "head.h"

#include <string.h>

bool ob_announce_is_due(const struct ob_table *table)
{
    for (int i = 0; i < OB_OUTCOMES; i++)
        if (ob_ledger_can_announce(table->head, (enum ob_outcome)i))
            return true;
    return false;
}

static int bind(struct ob_store *store, sqlite3_stmt *statement, const char *topic,
                const char *data)
{
    int bound = sqlite3_bind_text(statement, 1, topic, -1, SQLITE_STATIC);
    if (bound == SQLITE_OK)
        bound = sqlite3_bind_text(statement, 2, data, -1, SQLITE_STATIC);
    if (bound == SQLITE_OK)
        bound = sqlite3_bind_int64(statement, 3, ob_sql_now(store->vfs));
    if (bound == SQLITE_OK)
        bound = sqlite3_bind_text(statement, 5, OB_ANNOUNCE_TYPE, -1, SQLITE_STATIC);
    if (bound == SQLITE_OK)
        bound = sqlite3_bind_text(statement, 6, "application/json", -1, SQLITE_STATIC);
    return bound == SQLITE_OK
               ? OUTBOX_OK
               : ob_error_sqlite(&store->error, store->db, bound, "binding an announcement");
}

/* Stores one announcement, and notes in the ledger that it is on its way. */
static int put(struct ob_store *store, outbox_lane lane, const char *topic,
               struct ob_ledger *ledger, enum ob_outcome outcome)
{
    const struct ob_drops *drops = &ledger->drops[outcome];
    sqlite3_stmt *statement = NULL;
    char data[160];
    sqlite3_snprintf((int)sizeof data, data,
                     "{\"reason\":\"%s\",\"count\":%lld,\"from\":%lld,\"to\":%lld}",
                     ob_outcome_name(outcome), (long long)drops->count, (long long)drops->from,
                     (long long)drops->to);
    int code = ob_lane_prepare(store->db, lane, ob_lane_sql(OB_SQL_PUT), &statement, &store->error);
    if (code == OUTBOX_OK)
        code = bind(store, statement, topic, data);
    if (code == OUTBOX_OK)
        code = ob_sql_step(statement, NULL, &store->error, "storing an announcement");
    (void)sqlite3_finalize(statement); /* repeats what step said */
    int64_t id = sqlite3_last_insert_rowid(store->db);
    if (code == OUTBOX_OK &&
        (sqlite3_changes(store->db) != 1 || id > OUTBOX_ID_MAX || id <= ledger->id))
        return ob_error_set(&store->error, OUTBOX_BAD_ID,
                            "an announcement cannot be stored behind the other events of %s",
                            ob_lane_table(lane));
    if (code == OUTBOX_OK)
        ob_ledger_announced(ledger, outcome, id);
    return code;
}

static int announce_inside(struct ob_store *store, outbox_lane lane, const char *topic,
                           struct ob_ledger *ledger)
{
    struct ob_table *table = &store->table[lane];
    int code = OUTBOX_OK;
    *ledger = *table->head;
    for (int i = 0; i < OB_OUTCOMES && code == OUTBOX_OK; i++)
        if (ob_ledger_can_announce(ledger, (enum ob_outcome)i))
            code = put(store, lane, topic, ledger, (enum ob_outcome)i);
    if (code == OUTBOX_OK)
        code = ob_table_entomb(table, ledger);
    return code == OUTBOX_OK ? ob_store_commit(store, "committing an announcement") : code;
}

int ob_announce(struct ob_store *store, outbox_lane lane, const char *topic, enum ob_head *head)
{
    struct ob_table *table = &store->table[lane];
    struct ob_ledger ledger;
    bool broken = false, wrote = false;
    *head = OB_HEAD_SAME;
    int code = ob_store_begin_write(store, "opening an announcement");
    if (code != OUTBOX_OK)
        return code;
    code = ob_head_check(table, head, &broken);
    if (code == OUTBOX_OK && !broken && *head == OB_HEAD_SAME) {
        wrote = true;
        code = announce_inside(store, lane, topic, &ledger);
    }
    bool committed = wrote && code == OUTBOX_OK && sqlite3_get_autocommit(store->db);
    ob_store_rollback(store);
    if (wrote)
        store->wrote_unsynced = true; /* also where the commit failed: it may have happened */
    if (committed)
        ob_table_adopt(table, &ledger);
    return code; /* a broken head is looked into by the next fetch */
}
