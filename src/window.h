/* SPDX-License-Identifier: MIT
 *
 * window.h - the events between the tombstone and what was read last, in id order.
 *
 *      first        next to send        end
 *        | delivered | in flight | awaiting |
 *
 * Memory only. Entries leave from the front, once settled or when somebody else has removed their
 * rows; after a loss all of them are forgotten and read again. Entries are numbered; the number and
 * an offset that each loss moves make the token of a publish, so that a token of an earlier
 * connection names no entry and its ack is ignored.
 *
 * An entry that leaves while in flight is no event of ours any more, but the server still counts
 * it until its PUBACK. Its place is kept so long, before `first`, and it stays in `in_flight`; and
 * nothing behind it is settled, for it may be refused.
 */
#ifndef OB_WINDOW_H
#define OB_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"

#include <outbox/port.h>

enum ob_verdict {
    OB_AWAITING,  /* read, not sent */
    OB_IN_FLIGHT, /* sent, no PUBACK yet */
    OB_ACKED,     /* PUBACK with success */
    OB_DROPPED    /* will not be sent: leaves with the outcome that is noted */
};

struct ob_entry {
    int64_t id;
    const outbox_message *message; /* while AWAITING; NULL: larger than the buffer */
    uint64_t sent_ms;
    uint8_t verdict;
    uint8_t outcome; /* enum ob_outcome, if DROPPED */
    uint8_t unfit;   /* enum ob_unfit, why it is a dead letter */
    uint8_t reason;  /* with which the broker refused it */
};

/* A token has so many bits; where it wraps, nothing of the last round is in use any more. */
#define OB_TOKEN_MASK 0x7fffffffu

struct ob_window {
    struct ob_entry *entries;
    uint32_t capacity; /* a power of two */
    uint32_t kept;     /* number of the first place in use: before `first`, only left in flight */
    uint32_t first;    /* number of the front entry */
    uint32_t next;     /* number of the next one to be sent: all before it have a verdict */
    uint32_t end;      /* number that the next entry will get */
    uint32_t in_flight;
    uint32_t token_offset;
};

void ob_window_init(struct ob_window *window, struct ob_entry *entries, uint32_t capacity);

/* Keeps the first `count` entries, which must be settleable, and forgets the others. No token that
 * was given out before names an entry any more. */
void ob_window_keep(struct ob_window *window, uint32_t count);

uint32_t ob_window_count(const struct ob_window *window);
uint32_t ob_window_room(const struct ob_window *window); /* how many more entries it can take */
bool ob_window_is_full(const struct ob_window *window);
struct ob_entry *ob_window_at(const struct ob_window *window, uint32_t index);

/* Adds an entry at the end: AWAITING, or DROPPED as a dead letter if `unfit` is not 0. */
void ob_window_add(struct ob_window *window, int64_t id, const outbox_message *message, int unfit);

/* An entry that is AWAITING will not be sent. */
void ob_window_drop(struct ob_entry *entry, enum ob_outcome outcome);

/* Takes back the entries from index `count` on, none of which was sent. */
void ob_window_take_back(struct ob_window *window, uint32_t count);

/* The entry that is to be sent next and its token, or NULL. Steps over those that are DROPPED. */
struct ob_entry *ob_window_next(struct ob_window *window, uint32_t *token);
/* The last one ahead of it that was sent, or NULL if the window has none. */
const struct ob_entry *ob_window_ahead(const struct ob_window *window);
void ob_window_sent(struct ob_window *window, struct ob_entry *entry, uint64_t now_ms);

/* The entry in flight under this token, or NULL if there is none: an unknown, old or repeated
 * ack. ob_window_acked() gives it its verdict. */
struct ob_entry *ob_window_find(const struct ob_window *window, uint32_t token);
void ob_window_acked(struct ob_window *window, struct ob_entry *entry);

/* How many entries at the front can be settled, and their removal once they are. */
uint32_t ob_window_settleable(const struct ob_window *window);
void ob_window_settled(struct ob_window *window, uint32_t count);

/* The rows up to `id` have left the table otherwise: their entries leave, whatever their verdict,
 * and those behind them stay as they are. The token of one that left in flight names no entry any
 * more; ob_window_let_go() takes its ack, and says whether it was one. */
void ob_window_passed(struct ob_window *window, int64_t id);
bool ob_window_let_go(struct ob_window *window, uint32_t token);

/* The oldest entry in flight, also if its row has left, or NULL. */
const struct ob_entry *ob_window_oldest_in_flight(const struct ob_window *window);

#endif
