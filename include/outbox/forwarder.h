/* SPDX-License-Identifier: MIT
 *
 * forwarder.h - for those who drive the forwarder by hand: firmware loops, simulators, ports.
 *
 * The forwarder is a state machine without thread, clock or socket. One call,
 * outbox_forwarder_step, takes what the link has to say, sends what the window allows, settles what
 * is acknowledged, and says when it wants to be called again. Between two calls it holds no lock
 * and no transaction. [step-1] Applications on Linux use outbox_start() instead, which does this in
 * a thread.
 *
 *              start                OPENED
 *     IDLE ------------> CONNECTING ------> ONLINE
 *      ^                  |     ^             | lost, refused, no PUBACK
 *      | close,  refused, |     | pause over  v
 *      | rest    time-out +-> BACKOFF <-------+
 *
 * In flight at most `window` events, or the server's Receive Maximum if that is less. [step-2]
 * After a loss every token is void: what was not settled is read again from the table and sent
 * again, in order. [step-3] A refusal by the broker ends the connection, so that nothing behind the
 * refused event is settled. [step-4] What happens to the event then depends on the reason code
 * (MQTT 5, 3.4.2.1):
 *
 *   0x80, 0x83, 0x97 and others   it is tried again, alone, with a growing pause, for ever
 *   0x87 not authorized           the same, eight times; then it is a dead letter [poison-1]
 *   0x90, 0x95, 0x99              a dead letter at once: no broker will take it [poison-1]
 *   0x91 identifier in use        it is not the event's fault: connects anew
 *   none: the broker hangs up     see below [poison-3]
 *
 * The dead letter is in outbox_dead with its reason, the events behind it go on, and after
 * `dead_letters_max` in a row for one reason the lane stops at the next such event and tries that
 * again and again. [poison-2] An event over this forwarder's own payload_max or buffer_size, which
 * another writer or a handle with a larger limit has stored, is a dead letter too, and not sent.
 *
 * The pauses behind the eight attempts at 0x87 hold the lane up. By default they add up to at most
 * 183 s (up to 1, 2, 4, 8, 16, 32, 60 and 60 s); where connections had failed just before, to eight
 * times backoff_max_ms. [poison-4]
 *
 * A broker may refuse an event by hanging up, on MQTT 3.1.1 it can do nothing else. After two
 * connections in a row that the other side ended while events were in flight, without a PUBACK, the
 * oldest of these is sent alone: on a connection that has been up for a second, or for twenty round
 * trips if that is longer, and that has answered a probe just before. Where the other side ends
 * five such connections in a row within a tenth of the time that they had been up, the event is a
 * dead letter. One that ends otherwise in between, as for want of a PUBACK, begins the row anew.
 * The other lane goes on meanwhile, unless connections end on its events too: then it waits as
 * well. All that was in flight with the suspect goes one at a time until it is acknowledged. A bad
 * network ends connections at any time, so it buries nothing. [poison-3] By default this delays the
 * others by less than half a minute, or by less than a whole one where their PUBACKs were lost with
 * the connection.
 *
 * Every two seconds in which it has something to do, and inside each settle, it looks whether the
 * database's name still leads to the file that is open. Where it does not, the code is
 * OUTBOX_MOVED; nothing is sent or settled until the file is back. [moved-1] A database that cannot
 * be written any more is OUTBOX_READONLY, or OUTBOX_SQLITE where the system names another reason;
 * what was acknowledged waits, and is settled when it can be written again. [readonly-1]
 *
 * On a full disk (OUTBOX_DISK_FULL) it goes on with what is possible without new room. In WAL it
 * moves the WAL into the database, PASSIVE, as soon as no other connection has written since the
 * last look, so that the next writer begins the WAL anew. In the other modes it settles fewer rows
 * at once, down to one. [full-1]
 */
#ifndef OUTBOX_FORWARDER_H
#define OUTBOX_FORWARDER_H

#include <outbox/port.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct outbox_forwarder outbox_forwarder;

/* Times are at most 2^28 ms, three days; settle_quiet_ms at most 2^24. */
typedef struct outbox_forwarder_config {
    outbox_mode mode; /* OUTBOX_BINARY wants a link of MQTT 5: on others nothing is sent [mode-5] */
    int ce_prefix;    /* as in outbox_forwarding */
    unsigned window;  /* 0: 100; 1..1000 */
    unsigned settle_batch;       /* rows of one settling transaction; 0: 256; 1..1024 */
    unsigned settle_quiet_ms;    /* settles earlier when no PUBACK came for so long; 0: 1,000 */
    unsigned ack_timeout_ms;     /* 0: 30,000 */
    unsigned connect_timeout_ms; /* 0: 15,000 */
    unsigned foreign_check_ms;   /* 0: 1,000; OUTBOX_NEVER: off */
    unsigned backoff_min_ms;     /* first pause is random in 0..this; 0: 1,000 */
    unsigned backoff_max_ms;     /* 0: 60,000 */
    size_t payload_max;          /* events over it are dead letters; 0: OUTBOX_PAYLOAD_MAX */
    /* Bytes for messages read ahead: from 2,048 to what a payload of OUTBOX_PAYLOAD_CAP needs in
     * the worst encoding, some 96 MiB. 0: what one of payload_max needs. */
    size_t buffer_size;
    size_t fire_bytes; /* for fire-and-forget events that wait; 0: none are sent; at most 2^24 */
    /* As in outbox_forwarding; copied. Where it is NULL in mode OUTBOX_STRUCTURED, each lane keeps
     * the topic that was read last. [announce-1] */
    const char *announce_topic;
    unsigned dead_letters_max; /* 0: 3; OUTBOX_NEVER: without a bound. See above. [poison-2] */
    outbox_pace pace;          /* [pace-1] */
    unsigned batch_events, batch_seconds; /* as in outbox_forwarding [batch-1]; at most 3 days */
    /* WAL frames over which the forwarder checkpoints by itself, PASSIVE, when no other connection
     * wrote for a second. 0: 4,000, four times SQLite's own limit. */
    unsigned checkpoint_frames;
    /* Non-zero: `db` is the application's own and only connection. No pragma of it is changed, and
     * a step inside an open transaction neither reads nor settles, and asks to be called again
     * within 100 ms. sqlite3_last_insert_rowid() stays as it was. [step-5] An event that nobody has
     * proved durable, as one of another writer, is sent in WAL, or where this connection's own
     * commits are durable: at synchronous=FULL, in journal_mode DELETE at EXTRA. Below that it
     * waits for ever, and the code of the step is OUTBOX_NOT_DURABLE. [step-8] */
    int shared_connection;
    /* Non-zero: as outbox_config.small_heap, for the forwarder's statements: each is prepared when
     * a step comes to need it, and freed again before that ends. [heap-2] */
    int small_heap;
} outbox_forwarder_config;

/* Bytes that outbox_forwarder_init() needs for this configuration; 0 when a value is out of range.
 * It is all the memory a forwarder ever uses beside SQLite's own. [P7] [init-1] */
size_t outbox_forwarder_size(const outbox_forwarder_config *config);

/* Makes a forwarder in `memory`, which the caller keeps until outbox_forwarder_close(), aligned as
 * for any object. `db` must hold an outbox already (outbox_attach or the command made it); one of
 * an earlier release gets the columns that it lacks. Unless `shared_connection` is set, `db` is the
 * forwarder's own: it sets synchronous, wal_autocheckpoint, secure_delete and the busy handler on
 * it, but never the journal mode. `link` and `port` must stay valid; they are used by
 * outbox_forwarder_step() and _close() only.
 *
 * The caller sees to it that one forwarder at a time serves a database.
 *
 * Call it outside a transaction of `db`: OUTBOX_MISUSE else. [init-3]
 *
 * Returns OUTBOX_MISUSE (an argument is NULL, of another version or out of range; or a function of
 * `link` or `port` is NULL, of which only `log` may be), OUTBOX_NO_MEMORY (size),
 * OUTBOX_NEWER_SCHEMA, OUTBOX_UNSAFE_JOURNAL, OUTBOX_CORRUPT (no outbox in this file) or an error
 * of the database; nothing was changed (but for settings of `db` where it was a setting that
 * failed), and `sentence` (may be NULL) has the particulars. [init-2] Where a newer release makes
 * the tables new while the forwarder runs, it sends and settles nothing more from when it has
 * looked, at most a second later, and outbox_statistics has OUTBOX_NEWER_SCHEMA. [init-5] */
int outbox_forwarder_init(void *memory, size_t size, sqlite3 *db, outbox_link *link,
                          const outbox_port *port, const outbox_forwarder_config *config,
                          outbox_forwarder **forwarder, char *sentence, size_t sentence_size);

/* For a forwarder that is stepped by the thread that uses `box`: from then on the handle tells it
 * of commits, of fire-and-forget events and of the gate, and outbox_stats() has its part.
 * outbox_flush() asks it to settle and returns OUTBOX_TIMEOUT at once where something is pending:
 * step on, and ask again. outbox_stop() and outbox_detach() close it. [bind-1] Returns
 * OUTBOX_MISUSE where an argument is NULL or the handle has a forwarder already; nothing was
 * changed. [bind-2] */
int outbox_forwarder_bind(outbox_forwarder *forwarder, outbox *box);

/* Does a bounded amount of work. `next_ms` gets how long the caller may wait before the next call
 * if nothing happens before: from 0 to 2^29 ms, some six days. A step may come later than that, as
 * after a sleep of the device; what has passed is counted right up to 49 days, where the port's
 * clock wraps. [step-7] Call earlier when the link has an event or outbox_forwarder_committed() was
 * called. Waits for the database at most some 20 ms, for the network never. Returns OUTBOX_OK or
 * the code of what is wrong now; it goes on by itself, so the code is for display. [step-6] */
int outbox_forwarder_step(outbox_forwarder *forwarder, uint32_t *next_ms);

/* Says that a transaction with events committed. All events of a lane up to `durable[lane]` survive
 * a power cut; 0 there, or NULL for both, claims nothing. Same thread as step. */
void outbox_forwarder_committed(outbox_forwarder *forwarder, const int64_t durable[OUTBOX_LANES]);

/* Takes fire-and-forget events as outbox_service.fired() got them, for the next step to send. Those
 * for which there is no room, or no connection now or by then, are dropped and counted. [fire-3]
 * Only copies: touches neither the database nor the link. Same thread as step, or under a lock that
 * keeps it away. */
void outbox_forwarder_fire(outbox_forwarder *forwarder, const void *events, size_t size);

/* Says that another connection may have committed. The next step looks for its rows. `again`
 * non-zero: it may be about to; where nobody has committed yet, further steps look after 1, 5, 20,
 * 100 and 500 ms, as the sync of a commit may take long. Nothing where foreign_check_ms is
 * OUTBOX_NEVER. Same thread as step. [look-1] */
void outbox_forwarder_look(outbox_forwarder *forwarder, int again);

/* Says that what is wrong with the database may be over, as when the caller has made room on a full
 * disk: the next step tries again, instead of a second later. Same thread as step. */
void outbox_forwarder_retry(outbox_forwarder *forwarder);

/* Asks that what is acknowledged be settled at once, until everything up to `last[lane]` is settled
 * in each lane. */
void outbox_forwarder_flush(outbox_forwarder *forwarder, const int64_t last[OUTBOX_LANES]);

/* Sets the gate, which is open at first. Same thread as step; the next step heeds it. [gate-1] */
void outbox_forwarder_gate(outbox_forwarder *forwarder, outbox_gate_state gate);

/* The last event of the lane up to which all ids behind the tombstone are acknowledged, 0 if none
 * is. They leave the table with the next settle, or with a put that finds the lane full. */
int64_t outbox_forwarder_acked(const outbox_forwarder *forwarder, outbox_lane lane);

/* Fills the forwarder's part of the statistics; the database's part is left as it is. */
void outbox_forwarder_stats(const outbox_forwarder *forwarder, outbox_statistics *statistics);

/* Closes the link, settles what has been acknowledged, and leaves `db` to the caller without
 * statements of ours. The memory is the caller's again. Waits for the write lock up to a second,
 * on a shared connection three times as long as its own busy handler does; what could not be
 * settled then is sent again by the next forwarder. [close-1] */
void outbox_forwarder_close(outbox_forwarder *forwarder);

#ifdef __cplusplus
}
#endif
#endif
