/* SPDX-License-Identifier: MIT
 *
 * announce.h - tells the recipient what was dropped, by events of our own.
 */
#ifndef OB_ANNOUNCE_H
#define OB_ANNOUNCE_H

#include "store.h"

#define OB_ANNOUNCE_TYPE "outbox.dropped"

/* Whether the tombstone, as it was seen last, notes drops that can be announced now. */
bool ob_announce_is_due(const struct ob_table *table);

/* Puts an event for each reason of which that is so at the end of the lane, in a transaction of its
 * own. If `head` is not SAME, nothing was done. */
int ob_announce(struct ob_store *store, outbox_lane lane, const char *topic, enum ob_head *head);

#endif
