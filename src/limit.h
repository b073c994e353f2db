/* SPDX-License-Identifier: MIT
 *
 * limit.h - how much a lane may hold, and how room is made in it.
 *
 * A limit is stored in outbox_meta. Whether it is reached is seen from the ends of the table: the
 * ids tell how many events there are, and a running total in each row how many bytes. Rows that
 * have no total, because they came when there was no limit or from another writer, are added up
 * once, by the next one that asks.
 */
#ifndef OB_LIMIT_H
#define OB_LIMIT_H

#include "table.h"

struct ob_limit {
    int64_t max_events, max_bytes; /* 0: none */
    bool evicts;                   /* else it rejects */
};

/* Reads what is stored for a lane. */
int ob_limit_load(sqlite3 *db, outbox_lane lane, struct ob_limit *limit, struct ob_error *error);

/* What the stored limit is once `wanted` is applied to it, and whether that is another one. */
bool ob_limit_apply(const outbox_limit *wanted, struct ob_limit *limit);

/* Stores it. Inside a transaction. */
int ob_limit_store(sqlite3 *db, outbox_lane lane, const struct ob_limit *limit,
                   struct ob_error *error);

/* What an event counts, with headers that are so long as they are stored. */
int64_t ob_limit_bytes(const outbox_event *event, size_t headers_len);

/* How far the lane has come, as it was seen last. */
struct ob_fill {
    bool is_known;
    int64_t floor;       /* id of the tombstone */
    int64_t floor_total; /* bytes that were put up to it */
};

/* Inside a transaction that has written the row `last`: sees to it that the lane is within its
 * limit, with what `fill` knows if that is enough, which it never is for a limit in bytes. Events
 * up to `acked`, which the broker has, leave as delivered; then the oldest leave as evicted, or, if
 * the limit rejects, OUTBOX_FULL is returned. The same if `last` alone is over the limit. `*moved`:
 * the tombstone was written anew. */
int ob_limit_keep(struct ob_table *table, const struct ob_limit *limit, int64_t last, int64_t acked,
                  struct ob_fill *fill, bool *moved);

#endif
