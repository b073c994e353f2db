/* SPDX-License-Identifier: MIT
 *
 * machine.h - the forwarder's state, and what its files call of each other.
 *
 *   forwarder.c  what the link says, the step
 *   drain.c      while online: fetch, publish, settle, look for other writers, checkpoint
 *   machine.c    states, times, troubles and refusals, for both
 *   setup.c      configuration, memory, begin and end, statistics
 *
 * All of it is memory. Whatever a crash takes of it is read again from the table.
 */
#ifndef OB_MACHINE_H
#define OB_MACHINE_H

#include "store.h"

#include <outbox/forwarder.h>

enum ob_state { OB_IDLE, OB_CONNECTING, OB_ONLINE, OB_BACKOFF, OB_STATES };

/* So many looks after a hint that somebody has written, and the last place is for a single one. */
#define OB_LOOKS 5

#define OB_REASON_TOO_LARGE 0x95 /* MQTT 5, 2.4: Packet too large */
#define OB_UNREAD ((size_t)-1)   /* so large that SQLite was not asked for it */

/* One lane as the forwarder works on it; its table is in the store. */
struct ob_lane {
    outbox_lane number;
    struct ob_window window;
    struct ob_buffer buffer;
    int64_t cursor;      /* last event that was read into the window */
    bool more;           /* the table may hold events behind the cursor */
    bool waits_for_acks; /* the next event is too large: first let those ahead be acked */
    uint64_t acked_at, unsettled_since; /* last PUBACK; first one that is not settled */
    int64_t flush_id;                   /* settle at once up to here, 0: nothing asked */
    int64_t flushed_id;                 /* a flush ended here, behind the last event there was */
    size_t oversize; /* payload of the event read last, if it is over payload_max, or OB_UNREAD */

    /* An event that was refused is sent alone, and those ahead of it too. */
    int64_t alone_id; /* 0: none */
    int refused_reason;
    unsigned refusals; /* how often in a row */
    uint64_t alone_not_before;
    struct ob_error refusal; /* why it is alone */
};

struct outbox_forwarder {
    outbox_forwarder_config config; /* with the defaults filled in */
    outbox_link *link;
    const outbox_port *port;
    struct ob_store store;
    struct ob_lane lane[OUTBOX_LANES];
    struct ob_identity identity; /* of the events that are being read */

    enum ob_state state;
    uint64_t now, since;      /* the clock as it was read last; when the state was entered */
    uint32_t backoff_ms;      /* length of this pause */
    unsigned attempts;        /* pauses since the last progress */
    unsigned receive_maximum; /* the server's */
    unsigned urgent_run;      /* urgent events sent since the last normal one */
    bool full_step;           /* this step ended at one of its bounds */
    bool store_is_in_trouble; /* `error` is the database's */
    bool store_is_busy;       /* since `busy_since`, and at every attempt */

    uint32_t settle_limit; /* rows of one settle; less than configured after a full disk */
    bool disk_was_full;    /* and the WAL has not been checkpointed whole since */
    uint64_t full_at;      /* when it was last */
    uint64_t checkpoint_not_before;
    bool is_moved;     /* the database's file is not where it was opened */
    uint64_t place_at; /* when to look there again */
    uint64_t watch_at; /* when to look at the oldest event in flight */
    uint64_t settle_not_before, store_not_before, link_not_before;
    uint64_t busy_since;
    unsigned looks;                /* made since somebody was said to have written */
    uint64_t look_from;            /* when that was said */
    uint64_t looked_at, active_at; /* for other writers; when one was seen */

    outbox_statistics stats;
    struct ob_error error, logged;
};

/* ---- machine.c ----------------------------------------------------------------------------- */

/* Reads the port's clock, takes what has passed into `now`, and gives that. The only place that
 * reads it: the port's 32 bits wrap after 49 days, the time in here never does. Right as long as
 * two readings are less than 49 days apart. */
uint64_t ob_machine_clock(outbox_forwarder *f);

/* Whether the time `at` is now or has been. */
bool ob_machine_has_come(const outbox_forwarder *f, uint64_t at);

/* Lowers `next_ms` to the time until `at`. */
void ob_machine_sooner(const outbox_forwarder *f, uint64_t at, uint32_t *next_ms);

void ob_machine_say(const outbox_forwarder *f, outbox_level level, int code, const char *sentence);
void ob_machine_trouble(outbox_forwarder *f, int code, const char *format, ...);
void ob_machine_clear_trouble(outbox_forwarder *f); /* but for a refusal that lasts */

/* Notes that the database failed, or that it works again. */
void ob_machine_store_failed(outbox_forwarder *f, int code);
void ob_machine_store_works(outbox_forwarder *f);

/* Goes to a state that may follow; checks what must hold in it. */
void ob_machine_enter(outbox_forwarder *f, enum ob_state state);
void ob_machine_check(const outbox_forwarder *f);
void ob_machine_connect(outbox_forwarder *f);

/* Ends the connection: and waits for a jittered while; because of one event that the broker refuses
 * or that is over a limit of our own; for good. What is acked in an unbroken run stays to be
 * settled; the rest is void. */
void ob_machine_back_off(outbox_forwarder *f);
void ob_machine_refuse(outbox_forwarder *f, struct ob_lane *lane, int64_t id, int reason);
void ob_machine_hold_oversized(outbox_forwarder *f, struct ob_lane *lane, int64_t id);
void ob_machine_drop_link(outbox_forwarder *f);

/* The refused event was taken after all, or is gone. */
void ob_machine_passed_refusal(outbox_forwarder *f, struct ob_lane *lane);

/* The events up to the tombstone have left by a removal that was not the settle's: forgets these
 * and goes on with the others. */
void ob_machine_advance(outbox_forwarder *f, struct ob_lane *lane);

/* The events behind the tombstone are not those that were read: begins again. */
void ob_machine_start_over(outbox_forwarder *f, struct ob_lane *lane);

/* All that is in flight, in both lanes. */
unsigned ob_machine_in_flight(const outbox_forwarder *f);

/* The tombstone of the lane as it was seen last. */
const struct ob_ledger *ob_machine_head(const outbox_forwarder *f, const struct ob_lane *lane);

/* ---- drain.c ------------------------------------------------------------------------------- */

void ob_drain_send(outbox_forwarder *f);
void ob_drain_settle(outbox_forwarder *f);
void ob_drain_keep_house(outbox_forwarder *f);

/* How many entries of a lane the next settle takes, and when any of the three wants its turn. */
uint32_t ob_drain_due(const outbox_forwarder *f, const struct ob_lane *lane);
void ob_drain_next(outbox_forwarder *f, uint32_t *next_ms);

#endif
