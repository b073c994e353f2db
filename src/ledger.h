/* SPDX-License-Identifier: MIT
 *
 * ledger.h - the tombstone: the row of lowest id, which carries what must outlive every event.
 *
 *       id:   41           42      43      44   ...
 *           +-----------+-------+-------+------
 *           | tombstone | event | event | event     everything up to 41 has left the table
 *           +-----------+-------+-------+------
 *               ledger: base, last delivered id, a counter per way to leave, holes
 *
 * Its `ledger` column, NULL in every event, is the mark and the counters at once; so it says too
 * what was dropped and is not announced to the recipient yet. The law, true at every commit: id =
 * base + delivered + expired + evicted + superseded + dead + holes.
 */
#ifndef OB_LEDGER_H
#define OB_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

/* How an event left the table. Also the index of its counter. */
enum ob_outcome { OB_DELIVERED, OB_EXPIRED, OB_EVICTED, OB_SUPERSEDED, OB_DEAD, OB_OUTCOMES };

#define OB_LEDGER_EXTRA 256
#define OB_LEDGER_TEXT (OB_LEDGER_EXTRA + 320 + 640)

/* Events that left without being delivered, and what of that the recipient was told: those that no
 * announcement has yet, and the announcement that is on its way, an event of the table. Only one of
 * a kind is on its way at a time, so this is of constant size, whatever is dropped. */
struct ob_drops {
    int64_t count, from, to; /* not announced: how many, first and last id */
    int64_t row;             /* the announcement's id; it is on its way while that is over `id` */
    int64_t row_count, row_from, row_to; /* what it says */
};

struct ob_ledger {
    int64_t id;   /* of the tombstone's row; not part of the text */
    int64_t base; /* id of the first tombstone, moved by rows that came or went beside the order */
    int64_t last; /* id of the last event that was delivered, 0 before the first */
    int64_t count[OB_OUTCOMES];
    int64_t holes; /* ids up to `id` that never held an event */
    struct ob_drops drops[OB_OUTCOMES];
    /* Members that a newer release wrote behind ours; kept as they are. */
    char extra[OB_LEDGER_EXTRA];
};

/* A ledger that starts at `id` with nothing counted. */
void ob_ledger_start(struct ob_ledger *ledger, int64_t id);

/* An event leaves. What is dropped waits to be announced; an announcement that is evicted goes back
 * to what it was made of, and its id is a hole. `id` of the ledger stays as it is. */
void ob_ledger_leave(struct ob_ledger *ledger, int64_t id, enum ob_outcome outcome);

/* So many rows that lie beside the order leave as dead letters: their ids, which may be out of
 * range, are not among those that the law adds up. */
void ob_ledger_leave_beside(struct ob_ledger *ledger, int64_t count, int64_t from, int64_t to);

/* Whether drops of this kind can be announced now; and that the row `id` does it. */
bool ob_ledger_can_announce(const struct ob_ledger *ledger, enum ob_outcome outcome);
void ob_ledger_announced(struct ob_ledger *ledger, enum ob_outcome outcome, int64_t id);

/* How many announcements behind the id `above` are on their way. */
int ob_ledger_announcements(const struct ob_ledger *ledger, int64_t above);

const char *ob_outcome_name(enum ob_outcome outcome);

/* Writes the text of the ledger column; returns its length. */
size_t ob_ledger_print(const struct ob_ledger *ledger, char text[OB_LEDGER_TEXT]);

/* Binds that text to a parameter; gives SQLite's code. */
int ob_ledger_bind(const struct ob_ledger *ledger, sqlite3_stmt *statement, int index);

/* Reads it back. False if the text is none of ours or the law does not hold for `id`. */
bool ob_ledger_parse(struct ob_ledger *ledger, int64_t id, const char *text, size_t len);

/* All events that have left, and the law. */
int64_t ob_ledger_total(const struct ob_ledger *ledger);
bool ob_ledger_holds(const struct ob_ledger *ledger);

/* Whether both are of the same row and have the same text. */
bool ob_ledger_equals(const struct ob_ledger *a, const struct ob_ledger *b);

/* Whether `later` can have come out of `earlier` by counted removals alone. */
bool ob_ledger_follows(const struct ob_ledger *later, const struct ob_ledger *earlier);

#endif
