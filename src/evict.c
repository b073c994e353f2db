/* SPDX-License-Identifier: MIT
 *
 * evict.c - while forwarding: keeps a lane within its limit for writers that do not.
 *
 * One transaction lets the oldest events leave and counts them; after a crash both happened or
 * neither. A power cut may undo it, so what is sent behind it waits for the barrier.
 */
#include "head.h"
#include "store.h"

/* Reads the tombstone that was written by other hands than the settle's. */
static int adopt_moved(struct ob_table *table)
{
    struct ob_lowest lowest;
    int code = ob_table_lowest(table, &lowest);
    if (code == OUTBOX_OK && lowest.is_tombstone)
        ob_table_adopt(table, &lowest.ledger);
    return code;
}

static int keep_limit_inside(struct ob_store *store, struct ob_table *table, int64_t acked,
                             enum ob_head *head, bool *moved)
{
    bool broken = false;
    int64_t last;
    int code = ob_head_check(table, head, &broken);
    if (code != OUTBOX_OK || broken || *head != OB_HEAD_SAME)
        return code; /* the next fetch looks into it */
    code = ob_table_number(table, OB_SQL_LAST_PENDING, OUTBOX_ID_MAX, 0, &last);
    if (code == OUTBOX_OK && last > 0)
        code = ob_limit_keep(table, &store->limit[table->lane], last, acked,
                             &store->fill[table->lane], moved);
    if (code == OUTBOX_OK)
        code = ob_store_commit(store, "committing an eviction");
    return code;
}

/* Without a lock, where the ids alone tell. */
static int look_whether_within(struct ob_store *store, struct ob_table *table, bool *within)
{
    const struct ob_limit *limit = &store->limit[table->lane];
    int64_t last;
    if (limit->max_bytes > 0 || !table->head_is_known)
        return OUTBOX_OK;
    int code = ob_table_number(table, OB_SQL_LAST_PENDING, OUTBOX_ID_MAX, 0, &last);
    *within = code == OUTBOX_OK && last - table->head->id <= limit->max_events;
    return code;
}

int ob_store_keep_limit(struct ob_store *store, outbox_lane lane, int64_t acked, enum ob_head *head)
{
    struct ob_table *table = &store->table[lane];
    bool moved = false, within = false;
    *head = OB_HEAD_SAME;
    int code = ob_store_end_left_over(store);
    if (code == OUTBOX_OK)
        code = look_whether_within(store, table, &within);
    if (code == OUTBOX_OK && within)
        return OUTBOX_OK;
    if (code == OUTBOX_OK)
        code = ob_store_begin_write(store, "opening an eviction");
    if (code != OUTBOX_OK)
        return code;
    code = keep_limit_inside(store, table, acked, head, &moved);
    bool committed = code == OUTBOX_OK && sqlite3_get_autocommit(store->db);
    ob_store_rollback(store);
    /* Undone by a power cut, the rows would be sent behind later ones. A commit that failed may
     * have happened all the same. */
    store->wrote_unsynced = store->wrote_unsynced || moved;
    if (committed && moved) {
        *head = OB_HEAD_ADVANCED;
        return adopt_moved(table);
    }
    if (code != OUTBOX_OK)
        store->fill[lane].is_known = false;
    return code;
}
