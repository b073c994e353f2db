/* SPDX-License-Identifier: MIT
 *
 * stage.h - the fire-and-forget events of the open transaction, in memory, until it commits.
 *
 * SQLite numbers the savepoints of a transaction from the outside in, those of its own statements
 * included. The level of an event is how many were open when it was put: to roll back to the
 * savepoint n takes all events of a level over n.
 */
#ifndef OB_STAGE_H
#define OB_STAGE_H

#include "record.h"

struct ob_stage {
    char *bytes; /* NULL: nothing was ever put; sqlite3_free() it */
    size_t size, used;
    int level;
    uint64_t dropped; /* for want of room, or of a forwarder */
};

/* Adds an event; where there is no room it is dropped and counted. False: no memory. */
bool ob_stage_add(struct ob_stage *stage, const struct ob_row *row);

/* What the transaction does; `n` is the number of the savepoint. */
void ob_stage_begin(struct ob_stage *stage);
void ob_stage_open(struct ob_stage *stage, int n);
void ob_stage_release(struct ob_stage *stage, int n);
void ob_stage_undo(struct ob_stage *stage, int n);

/* Forgets all of them: they were handed on, or are dropped and counted. */
void ob_stage_clear(struct ob_stage *stage);
void ob_stage_drop(struct ob_stage *stage);

#endif
