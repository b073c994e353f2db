/* SPDX-License-Identifier: MIT
 *
 * head.h - mends the front of a lane's table when the lowest row is not the tombstone it should be.
 *
 * What can have happened, and what is done about it:
 *
 *   rows with ids below the tombstone (an INSERT with an explicit id)   to outbox_dead, counted
 *   rows with ids that the sender has passed already                    to outbox_dead, counted
 *   rows with ids over OUTBOX_ID_MAX                                    to outbox_dead, counted
 *   the tombstone is gone (DELETE by hand)                              a new one, a new epoch
 *   the tombstone is an older one (a backup was restored)               it stays, a new epoch
 *
 * A new epoch gives every pending event a new identity. Recipients may then see some twice, but
 * never take a new event for an old one.
 */
#ifndef OB_HEAD_H
#define OB_HEAD_H

#include "store.h"

/* Reads the lowest row and compares it with what is known. `*broken`: it needs ob_head_mend(). */
int ob_head_check(struct ob_table *table, enum ob_head *head, bool *broken);

/* Mends it, in a transaction of its own. */
int ob_head_mend(struct ob_store *store, struct ob_table *table, enum ob_head *head);

/* Inside a transaction: moves all events with from <= id <= to into outbox_dead; `moved` of
 * them. */
int ob_head_bury(struct ob_store *store, struct ob_table *table, int64_t from, int64_t to,
                 const char *reason, int64_t *moved);

/* Inside a transaction in which some were buried: keeps the newest OUTBOX_DEAD_MAX. */
int ob_head_bound_dead(struct ob_store *store);

/* In a transaction of its own: moves the rows behind OUTBOX_ID_MAX. */
int ob_head_bury_beyond(struct ob_store *store, struct ob_table *table);

/* In a transaction of its own: moves those rows up to the window's entry `count` - 1 that are no
 * entries of it: they came with explicit ids behind the sender's back. */
int ob_head_bury_late(struct ob_store *store, struct ob_table *table,
                      const struct ob_window *window, uint32_t count);

#endif
