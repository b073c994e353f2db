/* SPDX-License-Identifier: MIT
 *
 * machine.h - the forwarder's state, and what its files call of each other.
 *
 *   forwarder.c  what the link says, the step
 *   damage.c     rows that cannot be read
 *   drift.c      captured tables that are not what they were
 *   rest.c       whether to be connected at all: gate, batches
 *   refusal.c    events that the broker does not want
 *   fetch.c      while online: reads events into the windows
 *   fire.c       while online: fire-and-forget events
 *   drain.c      while online: publish, settle, look for other writers, checkpoint
 *   machine.c    states, times and troubles, for all
 *   setup.c      configuration, memory, begin and end, statistics
 *
 * All of it is memory. Whatever a crash takes of it is read again from the table.
 */
#ifndef OB_MACHINE_H
#define OB_MACHINE_H

#include "fire.h"
#include "pace.h"
#include "store.h"

#include <outbox/forwarder.h>

enum ob_state { OB_IDLE, OB_CONNECTING, OB_ONLINE, OB_BACKOFF, OB_STATES };

/* So many looks after a hint that somebody has written, and the last place is for a single one. */
#define OB_LOOKS 7

#define OB_REASON_TOO_LARGE 0x95 /* MQTT 5, 2.4: Packet too large */

/* What is known of an event that the broker does not want, refusal.c. */
struct ob_refusal {
    int64_t alone_id; /* it is sent alone, and those ahead of it too; 0: there is none */
    int reason;       /* with which it was refused last; 0: the broker hung up */
    unsigned times;   /* refused in a row, or hung up on */
    uint64_t not_before;
    bool is_suspect;       /* nobody has refused it, see forwarder.h */
    int64_t careful_id;    /* up to this one there is one in flight at a time; 0: none */
    struct ob_error error; /* why it is alone */

    int64_t dead_id; /* it becomes a dead letter when it is read again; 0: none */
    enum ob_unfit dead_why;
    int dead_reason;
    unsigned dead_run; /* so many dead letters in a row, all for `run_reason` */
    int run_reason;
    unsigned large_run; /* the same for those over our own limits; the last of them */
    int64_t large_id;
};

/* Rows that cannot be read, damage.c. */
struct ob_damage {
    int64_t from, to; /* nothing from here on is settled; 0: there is no hole */
    int64_t hole;     /* the first of them, on this connection or an earlier one; 0: none */
    int64_t sent;     /* all up to here, but for those in the hole, were sent and acknowledged */
    struct ob_error error;
};

/* One lane as the forwarder works on it; its table is in the store. */
struct ob_lane {
    outbox_lane number;
    struct ob_window window;
    struct ob_buffer buffer;
    struct ob_identity identity; /* of the event that was read last */
    int64_t waiting;             /* events in the table, counted at rest */
    bool must_be_measured;       /* other writers may have brought it over its limit */
    uint64_t measure_not_before;
    bool is_full;        /* it was over a limit that rejects when it was measured last */
    int64_t cursor;      /* last event that was read into the window */
    bool more;           /* the table may hold events behind the cursor */
    bool waits_for_acks; /* the next event is too large: first let those ahead be acked */
    uint64_t acked_at, unsettled_since; /* last PUBACK; first one that is not settled */
    int64_t flush_id;                   /* settle at once up to here, 0: nothing asked */
    int64_t flushed_id;                 /* a flush ended here, behind the last event there was */

    char *announce_topic; /* where drops are announced; NULL or empty: nowhere (yet) */
    uint64_t announce_not_before;

    /* All transactions up to `last` were whole when that was looked at; `first` is the first event
     * behind the point before. For changes, change.h. */
    struct ob_group group;

    struct ob_refusal refusal;
    struct ob_damage damage;
};

struct outbox_forwarder {
    outbox_forwarder_config config; /* with the defaults filled in */
    outbox_link *link;
    const outbox_port *port;
    struct ob_store store;
    struct ob_lane lane[OUTBOX_LANES];
    struct ob_form form; /* of every message */
    struct ob_fire fire;

    enum ob_state state;
    uint64_t now, since;      /* the clock as it was read last; when the state was entered */
    uint32_t backoff_ms;      /* length of this pause */
    unsigned attempts;        /* pauses since the last progress */
    unsigned receive_maximum; /* the server's */
    outbox_gate_state gate;
    uint64_t waits_since; /* when the first normal event of a batch was seen */
    bool batch_runs;      /* it was due, and not all of it is sent yet */
    struct ob_pace pace;
    int hangups;    /* connections in a row that the other side ended, see refusal.c */
    bool acked_one; /* on this connection */
    uint64_t probed_at, round_trip; /* the last probe, 0: none on this connection; what it took */
    unsigned signs_of_life;
    bool is_hushed;           /* while a suspect is tried the other lane waits too */
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

    bool must_look_for_drift;
    uint64_t drift_not_before;
    int64_t schema_version; /* when it was looked for drift last, -1: never */
    struct ob_error drift;  /* what was found; its code is OUTBOX_OK: nothing */

    struct {
        uint64_t published, acknowledged, refusals, connects, disconnects;
    } stats;
    struct ob_error error, logged;
};

/* ---- machine.c ------------------------------------------------------------------------------- */

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

/* Ends the connection: and waits for a jittered while; for good. What is acked in an unbroken run
 * stays to be settled; the rest is void. */
void ob_machine_back_off(outbox_forwarder *f);
void ob_machine_drop_link(outbox_forwarder *f);
void ob_machine_flush_link(outbox_forwarder *f);                   /* sends what it has kept back */
void ob_machine_next_link(outbox_forwarder *f, uint32_t *next_ms); /* when it has to be polled */

/* A pause after so many attempts before it. */
uint32_t ob_machine_pause_length(const outbox_forwarder *f, unsigned attempts);

/* The events up to the tombstone have left by a removal that was not the settle's: forgets these
 * and goes on with the others. */
void ob_machine_advance(outbox_forwarder *f, struct ob_lane *lane);

/* The events behind the tombstone are not those that were read: begins again. */
void ob_machine_start_over(outbox_forwarder *f, struct ob_lane *lane);

/* Goes on from a head that is not the one that was known. */
void ob_machine_follow_head(outbox_forwarder *f, struct ob_lane *lane, enum ob_head head);

/* All that is in flight, in both lanes. */
unsigned ob_machine_in_flight(const outbox_forwarder *f);

/* The tombstone of the lane as it was seen last. */
const struct ob_ledger *ob_machine_head(const outbox_forwarder *f, const struct ob_lane *lane);

/* How many entries of a lane the next settle takes; whether no lane has any. */
uint32_t ob_machine_due(const outbox_forwarder *f, const struct ob_lane *lane);
bool ob_machine_is_settled(const outbox_forwarder *f);

/* ---- refusal.c ------------------------------------------------------------------------------- */

/* The broker refuses an event that is in flight, or the link cannot send it. Ends the
 * connection. */
void ob_refusal_of(outbox_forwarder *f, struct ob_lane *lane, int64_t id, int reason);

/* An event is over a limit of our own: true if it is to be a dead letter, false if it must wait. */
bool ob_refusal_of_large(outbox_forwarder *f, struct ob_lane *lane, int64_t id);
void ob_refusal_hold_large(outbox_forwarder *f, struct ob_lane *lane, int64_t id);

/* The connection is over, before its windows are voided; whether the other side has ended it. */
void ob_refusal_after_loss(outbox_forwarder *f, bool by_peer);

/* A connection is up. The server gave a sign of life. An event was taken. */
void ob_refusal_opened(outbox_forwarder *f);
void ob_refusal_alive(outbox_forwarder *f);
void ob_refusal_acked(outbox_forwarder *f, struct ob_lane *lane, int64_t id);

/* The refused event was taken after all, or is gone. */
void ob_refusal_passed(outbox_forwarder *f, struct ob_lane *lane);

/* Whether the event that goes next in the lane must go alone and has its turn, so that nothing else
 * may begin; whether it may be sent as soon as nothing is in flight. */
bool ob_refusal_has_turn(outbox_forwarder *f, struct ob_lane *lane);
bool ob_refusal_may_go(const outbox_forwarder *f, const struct ob_lane *lane, int64_t id);

/* Whether events go one at a time, because one of some is suspect. */
bool ob_refusal_is_careful(const outbox_forwarder *f);

/* Asks for the signs of life that a suspect needs, and when it wants to be called again. */
void ob_refusal_probe(outbox_forwarder *f);
void ob_refusal_next(const outbox_forwarder *f, uint32_t *next_ms);

/* ---- rest.c ---------------------------------------------------------------------------------- */

/* Whether there is a gate or a batch that may keep the forwarder from being connected; whether the
 * lane may send; whether there is a reason to connect now, for one that is not; whether there is
 * none any more to stay; goes to rest. */
bool ob_rest_is_possible(const outbox_forwarder *f);
bool ob_rest_allows(const outbox_forwarder *f, const struct ob_lane *lane);
bool ob_rest_is_over(outbox_forwarder *f);
bool ob_rest_begins(const outbox_forwarder *f);
void ob_rest(outbox_forwarder *f);
void ob_rest_next(const outbox_forwarder *f, uint32_t *next_ms);

/* ---- damage.c -------------------------------------------------------------------------------- */

/* Moves the cursor behind rows that cannot be read; false: nothing behind can be read either.
 * SQLite cannot delete next to them; how many of the first entries may be settled; lets entries go
 * that cannot be. */
bool ob_damage_skip(outbox_forwarder *f, struct ob_lane *lane);
void ob_damage_stops_settling(outbox_forwarder *f, struct ob_lane *lane);
uint32_t ob_damage_before(const struct ob_lane *lane, uint32_t count);
void ob_damage_release(struct ob_lane *lane);

/* Whether the event was let go by ob_damage_release() and has to wait for nothing but its settle.
 * The rows up to `id` have left. The connection is lost. */
bool ob_damage_was_sent(const struct ob_lane *lane, int64_t id);
void ob_damage_passed(outbox_forwarder *f, struct ob_lane *lane, int64_t id);
void ob_damage_forget(struct ob_lane *lane);

/* ---- drift.c --------------------------------------------------------------------------------- */

/* Looks whether captured tables and their triggers are what they were, if somebody may have changed
 * the schema. */
void ob_drift_look(outbox_forwarder *f);

/* ---- fetch.c --------------------------------------------------------------------------------- */

/* Reads events behind the lane's cursor. Only once all that was read is sent: the buffer is used
 * anew. False: nothing could be read now. */
bool ob_fetch_events(outbox_forwarder *f, struct ob_lane *lane);

/* ---- drain.c --------------------------------------------------------------------------------- */

void ob_drain_send(outbox_forwarder *f);
void ob_drain_settle(outbox_forwarder *f);
void ob_drain_keep_house(outbox_forwarder *f);

/* When any of the three wants its turn. */
void ob_drain_next(outbox_forwarder *f, uint32_t *next_ms);

#endif
