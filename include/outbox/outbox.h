/* SPDX-License-Identifier: MIT
 *
 * outbox.h - what an application needs: attach, put, start, flush, stats, stop, detach.
 *
 * This file is the specification. A sentence that ends in an id such as [put-3] is tested by a
 * test that names the id; `make promises` lists ids that no test names. What is not written here
 * is not promised. The wide promises P1 to P9 that the small ones serve:
 *
 *   P1 atomic      an event is in the outbox if and only if the transaction that put it committed
 *   P2 durable     what was published can no longer vanish; what was committed survives a power cut
 *   P3 delivered   a row leaves only after its PUBACK, or with a recorded reason
 *   P4 conserved   accepted = pending + delivered + expired + evicted + superseded + dead letters
 *   P5 ordered     events are sent in the order in which their transactions committed
 *   P6 identified  the pair (source, id) names one event for ever
 *   P7 bounded     memory and start-up time do not depend on the backlog
 *   P8 polite      the application's connection stays its own: no hook, pragma or handler is taken
 *   P9 honest      every failure reaches the caller as a code of this file and a sentence
 *
 * Conventions. Every function that can fail returns OUTBOX_OK (0) or a negative code of
 * `outbox_code`; outbox_errmsg() then has the particulars. In a config struct zero means the
 * default. Strings are UTF-8 and NUL-terminated; they are copied unless a comment says otherwise.
 * Times are milliseconds since 1970-01-01 UTC unless a name says otherwise.
 *
 * Threads. A handle belongs to its connection: call put and attach on the thread that uses the
 * connection at that moment, under the same rule as SQLite's own calls on it. Only
 * outbox_forwarding.log is called from another thread.
 */
#ifndef OUTBOX_OUTBOX_H
#define OUTBOX_OUTBOX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OUTBOX_VERSION "0.1.0"

typedef struct sqlite3 sqlite3;
typedef struct outbox outbox;

/* ---- Codes ----------------------------------------------------------------------------------- */

/* One row per code: name, value, the sentence that outbox_strerror() returns. Values never change
 * their meaning. [error-1] */
#define OUTBOX_CODE_MAP(X)                                                                         \
    X(OUTBOX_OK, 0, "no error")                                                                    \
    X(OUTBOX_MISUSE, -1, "the call is not allowed here; the particulars say which rule it breaks") \
    X(OUTBOX_NO_MEMORY, -2, "memory ran out; free some and call again")                            \
    X(OUTBOX_BUSY, -3, "another connection holds the database; try the transaction again")         \
    X(OUTBOX_DISK_FULL, -4, "the disk is full; free space and try the transaction again")          \
    X(OUTBOX_READONLY, -5, "the database cannot be written; open it for writing")                  \
    X(OUTBOX_CORRUPT, -6, "the file is damaged or no database; restore it from a backup")          \
    X(OUTBOX_SQLITE, -7, "SQLite failed; the particulars carry its message")                       \
    X(OUTBOX_CLOSED, -8, "the connection was closed; attach to a new one")                         \
    X(OUTBOX_NEWER_SCHEMA, -9, "a newer release made these tables; update this program")           \
    X(OUTBOX_UNSAFE_JOURNAL, -10, "journal_mode OFF cannot roll back; choose another mode")        \
    X(OUTBOX_OLD_SQLITE, -11, "this SQLite is too old; link 3.34.0 or newer")                      \
    X(OUTBOX_BAD_TOPIC, -12, "the topic is empty, too long, not UTF-8 or holds +, # or a control") \
    X(OUTBOX_TOO_LARGE, -13, "the payload is over the limit; send less or raise payload_max")      \
    X(OUTBOX_BAD_PAYLOAD, -14, "the payload is not what its content type says")                    \
    X(OUTBOX_BAD_ATTRIBUTE, -15,                                                                   \
      "an attribute or a header is empty, too long, not clean UTF-8 or of a reserved name")        \
    X(OUTBOX_BAD_ID, -16, "the table holds an id out of range; the forwarder will move it away")   \
    X(OUTBOX_NO_FILE, -17, "a database in memory has no file that a second connection could open") \
    X(OUTBOX_LOCKED, -18, "another forwarder serves this database; stop it first")                 \
    X(OUTBOX_BAD_URL, -19,                                                                         \
      "the broker URL cannot be used; write mqtt://host:port or mqtts://host")                     \
    X(OUTBOX_NOT_STARTED, -20, "no forwarder runs on this handle; call outbox_start first")        \
    X(OUTBOX_TIMEOUT, -21, "the time ran out; what was asked goes on in the background")           \
    X(OUTBOX_LINK, -22, "the broker cannot be reached or ended the connection")                    \
    X(OUTBOX_REFUSED, -23, "the broker refuses an event; the events behind it wait")               \
    X(OUTBOX_SYSTEM, -24, "the operating system failed; the particulars carry its message")        \
    X(OUTBOX_NOT_DURABLE, -25, "the connection's synchronous setting cannot make events durable")  \
    X(OUTBOX_FULL, -26,                                                                            \
      "the lane is at its limit; wait until events are sent, or raise the limit")                  \
    X(OUTBOX_MOVED, -27,                                                                           \
      "the database file was moved, replaced or deleted while it was open; open it anew")          \
    X(OUTBOX_DRIFT, -40,                                                                           \
      "a captured table is not what it was; `outbox capture doctor` tells, resume mends")

typedef enum outbox_code {
#define OUTBOX_CODE_ENUM(name, value, sentence) name = (value),
    OUTBOX_CODE_MAP(OUTBOX_CODE_ENUM)
#undef OUTBOX_CODE_ENUM
} outbox_code;

/* The sentence of a code. Never NULL; static memory; any thread. An unknown code has a sentence
 * of its own. [error-1] */
const char *outbox_strerror(int code);

/* The particulars of the last call that failed on this handle: a sentence, never NULL, "no error"
 * when none failed or `box` is NULL. Valid until the next call on the handle. [error-2] */
const char *outbox_errmsg(const outbox *box);

/* ---- Lanes ----------------------------------------------------------------------------------- */

/* Each lane is a stream of its own, with a table, an order and a source of its own. While both have
 * events, of any eight that are sent at least one is a normal one, and the others are urgent.
 * [lane-1] */
typedef enum outbox_lane { OUTBOX_NORMAL, OUTBOX_URGENT } outbox_lane;
#define OUTBOX_LANES 2

/* ---- Limits ---------------------------------------------------------------------------------- */

#define OUTBOX_TOPIC_MAX 1024       /* bytes of a topic (MQTT allows 65,535) */
#define OUTBOX_ATTRIBUTE_MAX 256    /* bytes of type, content type, key, device */
#define OUTBOX_HEADERS_MAX 32       /* headers of one event, correlation and trace among them */
#define OUTBOX_HEADERS_BYTES 1024   /* of these: names, values, and 2 for each */
#define OUTBOX_HEADER_NAME 20       /* bytes of a header's name */
#define OUTBOX_PAYLOAD_MAX 65536    /* default of payload_max: what CloudEvents receivers accept */
#define OUTBOX_PAYLOAD_CAP 16777216 /* payload_max can be raised up to this */
#define OUTBOX_FIRE_BYTES 16384     /* default of fire_bytes */
#define OUTBOX_ID_MAX ((int64_t)1 << 48)
#define OUTBOX_DEAD_MAX 1000 /* dead letters that are kept in outbox_dead */

/* What happens to a put that would make its lane hold more than its limit. */
typedef enum outbox_when_full {
    OUTBOX_REJECT,      /* it returns OUTBOX_FULL, and nothing is stored [limit-2] */
    OUTBOX_EVICT_OLDEST /* as many of the oldest leave as must, in its transaction [limit-3] */
} outbox_when_full;

/* How much one lane may hold. 0: as it is stored in the file, OUTBOX_UNLIMITED in a new one. The
 * limits are stored by the attach that gives them, and hold for every handle that attaches
 * later. */
typedef struct outbox_limit {
    int64_t max_events;
    /* Bytes of topics, payloads, attributes and headers, and OUTBOX_EVENT_BYTES for each event. */
    int64_t max_bytes;
    outbox_when_full when_full; /* taken when one of the two above is given */
} outbox_limit;

#define OUTBOX_UNLIMITED ((int64_t)-1)
#define OUTBOX_EVENT_BYTES 32

/* ---- Attach ---------------------------------------------------------------------------------- */

typedef struct outbox_config {
    /* Name of this device in the `source` of every event, 1..OUTBOX_ATTRIBUTE_MAX bytes of
     * A-Z a-z 0-9 . _ ~ -. NULL keeps the stored name; a new database gets a random one, never the
     * host's name. A name that differs from the stored one starts a new epoch for all events, the
     * pending ones included: it marks a cloned file. [attach-5] */
    const char *device;
    /* Largest payload that outbox_put() takes, in bytes. 0: OUTBOX_PAYLOAD_MAX. */
    size_t payload_max;
    /* How much each lane may hold. A limit costs a put nothing while the lane is far from it; a
     * limit in bytes costs every put a look at the newest row and at the oldest. The cap binds
     * puts: rows of other writers are let in, and the forwarder then evicts the oldest, or reports
     * OUTBOX_FULL where the lane rejects. An event that alone is over max_bytes is rejected under
     * both policies. Announcements of drops (see outbox_forwarding.announce_topic) come on top of
     * max_events: at most one for each reason; in bytes they count as every event. [limit-1] Ids
     * that other writers have skipped count as events until the forwarder has passed them. The
     * column `total` is the library's own, others leave it NULL: what cannot be a sum counts as
     * missing, and a sum that is wrong makes the limit in bytes wrong until its row has left. Where
     * the file is damaged near the front, a put that must evict returns OUTBOX_CORRUPT. */
    outbox_limit limits[OUTBOX_LANES];
    /* Memory for fire-and-forget events: of one transaction, and of those that committed and were
     * not sent yet, each. Taken at the first such put, and at outbox_start(). From 256 to 2^24; 0:
     * OUTBOX_FIRE_BYTES. What does not fit is dropped and counted. [fire-3] */
    size_t fire_bytes;
    /* Non-zero: for a device with little memory. No statement stays prepared behind the call that
     * needs it. That saves 1 to 3 KB of SQLite's memory for each of up to ten, and costs time: a
     * put prepares anew what it runs, the same SQL, and takes some six times as long. In a new file
     * the view outbox_pending, which is for people, is left out: it takes 3 KB as long as the
     * connection is open. What runs out of memory in the midst of a put is undone with that put, or
     * with the whole transaction where no memory is left for that either. From a trigger or a
     * function that a put of this handle runs, no event can be put through the handle:
     * OUTBOX_MISUSE. [heap-1] */
    int small_heap;
    /* A buffer for the particulars when attach fails, as there is no handle then. May be NULL. */
    char *sentence;
    size_t sentence_size;
} outbox_config;

/* Makes the outbox of `db`'s main database usable on this connection.
 *
 * Makes the tables when they are missing, in one transaction of its own. [attach-1] Those of an
 * earlier release get the columns that they lack, alike; that release can go on writing the file,
 * and sends what it knows of an event. [attach-7] It registers two virtual tables named
 * outbox_statements and outbox_commit on the connection, and takes no hook, changes no pragma and
 * leaves the busy handler alone. [P8] [attach-2] Call it outside a transaction, once per
 * connection.
 *
 * config   May be NULL. Copied.
 * box      Out. Freed by outbox_detach() only; sqlite3_close() succeeds before or after that and
 *          leaves a handle whose calls return OUTBOX_CLOSED. [attach-3]
 *
 * Blocks as long as the connection's own busy handler allows. With journal_mode MEMORY or
 * synchronous OFF it succeeds, but P1 and P2 do not hold across a power cut. With synchronous below
 * FULL, in journal_mode DELETE below EXTRA, a power cut may undo the newest commits, though none
 * whose events were sent. outbox_warning() says so. [attach-4]
 *
 * After a backup was restored, call outbox_new_epoch(): the same ids may have been sent with other
 * contents, and nothing in the file can tell. A running forwarder tells by the tombstone, which is
 * the same where nothing was settled since the backup was made; so stop it before you restore one.
 * Never delete the newest rows of outbox_event by hand while a forwarder runs: their ids would be
 * given out again.
 *
 * Returns OUTBOX_MISUSE (a NULL argument, an open transaction, attached already, or a bad device
 * name), OUTBOX_READONLY, OUTBOX_UNSAFE_JOURNAL, OUTBOX_NEWER_SCHEMA, OUTBOX_OLD_SQLITE,
 * OUTBOX_BUSY, OUTBOX_DISK_FULL, OUTBOX_CORRUPT, OUTBOX_NO_MEMORY or OUTBOX_SQLITE. On any error
 * nothing changed, and *box is NULL. Only where SQLite refuses to roll attach's own transaction
 * back, it is still open, OUTBOX_SQLITE is returned and `sentence` says so: run ROLLBACK.
 * [attach-6] */
int outbox_attach(sqlite3 *db, const outbox_config *config, outbox **box);

/* A sentence when this connection's settings weaken P1 or P2 (see attach), else NULL. Of the
 * settings that attach or, since then, the last put has found. Static memory. [warning-1] */
const char *outbox_warning(const outbox *box);

/* Stops the forwarder if one runs and frees the handle. Events that an open transaction has put
 * stay part of it. NULL is allowed. Blocks like outbox_stop(). [detach-1] */
void outbox_detach(outbox *box);

/* ---- Put ------------------------------------------------------------------------------------- */

/* An extension attribute of the application's own. */
typedef struct outbox_header {
    const char *name;  /* 1..OUTBOX_HEADER_NAME of a-z 0-9; see outbox_event.headers */
    const char *value; /* 1..OUTBOX_ATTRIBUTE_MAX bytes of UTF-8 without control characters */
} outbox_header;

typedef struct outbox_event {
    const char *topic; /* 1..OUTBOX_TOPIC_MAX bytes of UTF-8, no '+', '#', control (MQTT 5, 4.7) */
    const void *payload;
    size_t payload_len; /* 0..payload_max bytes */
    /* Media type of the payload, or NULL for bytes of no stated kind. application/json, or a type
     * that ends in +json: the payload must be one JSON value in UTF-8 and travels as that value.
     * text/...: it must be UTF-8 and travels as a string. Others travel as base64 in structured
     * mode and as they are in the others. [put-6] */
    const char *content_type;
    const char *type; /* CloudEvents type; NULL: "outbox.event" */
    const char *key;  /* CloudEvents partitionkey; NULL: none */
    int retain;       /* non-zero: the broker keeps it as the topic's retained message */
    outbox_lane lane; /* OUTBOX_URGENT: ahead of the normal ones; ordered among the urgent ones */
    /* For so long after the put it is worth sending; 0: for ever. What is older when its turn comes
     * is not sent but counted as expired. [expiry-1] On MQTT 5 the broker gets what remains as the
     * Message Expiry Interval (3.3.2.3.3), in seconds, rounded up. [expiry-2] It never expires here
     * if the clock was not set when it was put, nor while the clock is not set, which is before the
     * year 2025. [expiry-3] At most OUTBOX_TTL_MAX. */
    int64_t ttl_ms;
    /* Non-zero: only the newest event of this key matters. Older ones of the same lane and key that
     * are marked so too, and that were not sent yet, are not sent but counted as superseded, if the
     * newer one is among the OUTBOX_LOOK_AHEAD rows behind the batch that is read. [latest-1] Needs
     * a key. */
    int keep_last;
    const char *correlation_id; /* CloudEvents correlationid: what belongs together; NULL: none */
    const char
        *causation_id;       /* CloudEvents causationid: the id of the event that caused this one */
    const char *traceparent; /* W3C trace context, as it was when the event was put */
    /* More attributes, for instance subject, dataschema, tracestate or extensions of one's own.
     * They travel in this order, as members of the CloudEvents document or as user properties of
     * MQTT 5. [headers-1] Not allowed: a name twice, those of the three above while they are set,
     * and the names of what outbox itself says: specversion, id, source, type, time,
     * datacontenttype, data, sequence, previous, partitionkey, expirytime, recordedtime.
     * [headers-2] At most OUTBOX_HEADERS_MAX of them and OUTBOX_HEADERS_BYTES bytes, the three
     * above among them. Copied. */
    const outbox_header *headers;
    size_t header_count;
    /* Non-zero: fire and forget. The event is never stored: it waits in memory for the transaction
     * to commit, is dropped if that rolls back, or the savepoint in which it was put, and is then
     * sent once, at QoS 0, by the forwarder that outbox_start() runs on this handle. [fire-1] It
     * costs no write and no sync. [fire-2] Where there is no such forwarder, where it is not ONLINE
     * (or rests, or is finding out which event the broker hangs up on), or where there is no room,
     * it is dropped, put returns OUTBOX_OK all the same, and the statistics count it. [fire-3] Its
     * stream is unstored: `source` is outbox://DEVICE/unstored/ and 16 digits that are new at each
     * start, id and sequence count what was sent under it, there is no previous, and put gives the
     * id 0. [fire-4] It has no order against stored events. Not with OUTBOX_URGENT and keep_last:
     * OUTBOX_MISUSE. Inside a transaction it takes the write lock, as other puts do.
     * OUTBOX_TOO_LARGE where it is larger than fire_bytes; OUTBOX_SQLITE where an authorizer denies
     * INSERT into outbox_commit, as nobody could tell of the commit then. [fire-5] (It is no member
     * `qos`, as zero, the default everywhere, would then be the one that loses.) */
    int fire_and_forget;
} outbox_event;

#define OUTBOX_TTL_MAX ((int64_t)1 << 46) /* ms, some two thousand years */
#define OUTBOX_LOOK_AHEAD 1024

/* Adds an event to the transaction that is open on the handle's connection.
 *
 * It becomes visible to the forwarder when that transaction commits, and is gone without trace
 * when it, or a savepoint around it, rolls back. [P1] [put-1] [put-2] Without an open transaction
 * it is a transaction of its own. [put-3] The topic, payload and attributes are copied.
 *
 * id       Out, may be NULL: the event's number, larger than any before it. It stays the same on
 *          every resend, and no other event ever gets it with the same source. [P6] [put-4]
 *
 * Never touches the network. Leaves sqlite3_last_insert_rowid() as it was; the connection's
 * update hook, authorizer and sqlite3_changes() do see the row. [put-5]
 *
 * Returns OUTBOX_MISUSE, OUTBOX_CLOSED, OUTBOX_BAD_TOPIC, OUTBOX_TOO_LARGE, OUTBOX_BAD_PAYLOAD,
 * OUTBOX_BAD_ATTRIBUTE, OUTBOX_UNSAFE_JOURNAL, OUTBOX_BAD_ID or OUTBOX_FULL: nothing was written
 * and the transaction is as it was. [put-7] Returns OUTBOX_BUSY, OUTBOX_DISK_FULL, OUTBOX_READONLY,
 * OUTBOX_CORRUPT, OUTBOX_NO_MEMORY, OUTBOX_MOVED (in the rollback modes; in WAL, SQLite goes on
 * writing to the file that was moved) or OUTBOX_SQLITE: the event was not written; SQLite itself
 * may have rolled the whole transaction back, as after a failing INSERT of your own, or the put
 * has, where what it had begun could not be undone alone (sqlite3_get_autocommit() tells). Only
 * where a put is a transaction of its own, or at your own COMMIT, an I/O error can leave open
 * whether it is there, as with every COMMIT of SQLite. If SQLite refuses also to roll a put's own
 * transaction back, that put returns OUTBOX_SQLITE and the transaction is still open: run ROLLBACK.
 * If you do not, the next put does it, with all that was written since, stores nothing, and returns
 * OUTBOX_SQLITE to say so. [put-8]
 *
 * Called by a SQL function inside a statement that writes, it belongs to that statement. If it
 * fails there let the function fail too: outside of BEGIN nothing else undoes what it had begun.
 * [put-9] */
int outbox_put(outbox *box, const outbox_event *event, int64_t *id);

/* ---- Dead letters ---------------------------------------------------------------------------- */

/* An event that can never be sent leaves its lane for the table outbox_dead, with the reason and
 * the time. The newest OUTBOX_DEAD_MAX are kept there, all are counted in the statistics. [dead-3]
 * Each has a `number`; the newest one's is given again once that is removed. */

/* Puts the dead letter `number` back into its lane as a new event, and takes it out of outbox_dead:
 * in the transaction that is open, or in one of its own. It goes to the end of the lane, under a
 * new id, and counts as accepted once more. Topic, payload, its time, type, content type, key,
 * headers and the retain and keep-last marks are what they were. It expires when it would have; one
 * that has expired meanwhile never does, for you ask for it now. Where its life had not begun,
 * because the clock was not set, it begins now. [dead-1]
 *
 * id       Out, may be NULL: the new event's number.
 *
 * Returns OUTBOX_MISUSE (NULL, there is no such dead letter, or the call came from inside a
 * statement that writes outside of BEGIN), OUTBOX_CLOSED, or what outbox_put() returns, with its
 * meaning; so one that is still unfit stays where it is. On any error nothing changed, unless
 * SQLite has rolled the whole transaction back (see outbox_put). [dead-4] */
int outbox_requeue(outbox *box, int64_t number, int64_t *id);

/* Deletes the dead letter `number`, or all of them if that is 0: in the transaction that is open,
 * or in one of its own. They stay counted. [dead-2]
 * Returns OUTBOX_MISUSE (NULL, or there is no such dead letter), OUTBOX_CLOSED or an error of the
 * database; then nothing was deleted. [dead-5] */
int outbox_purge(outbox *box, int64_t number);

/* ---- Epochs ---------------------------------------------------------------------------------- */

/* Starts a new epoch in each lane behind its last event, in a transaction of its own. Call it, or
 * `outbox new-epoch`, when a backup was restored: without it the ids that were given out since the
 * backup would be given out again, to other events with the same source.
 *
 * Events that are put later carry the new epoch in their source; pending ones keep theirs. A
 * forwarder that runs, on whatever connection, follows; if events that it has read already are not
 * there any more, it forgets them and begins again at the tombstone. [P6] [epoch-1]
 *
 * When it returns OUTBOX_OK no power cut can undo the new epoch: in WAL it writes and syncs the WAL
 * file itself, whatever the connection's synchronous; in the other modes it is refused with
 * OUTBOX_NOT_DURABLE, and nothing changes, unless synchronous is FULL, in DELETE EXTRA. [epoch-2]
 *
 * Returns OUTBOX_MISUSE (NULL, or inside a transaction), OUTBOX_CLOSED, OUTBOX_NOT_DURABLE or an
 * error of the database, after which no new epoch began; only where the commit or the sync itself
 * failed it may have begun all the same: call again. [epoch-3] */
int outbox_new_epoch(outbox *box);

/* ---- Start, flush, stop (ports that have threads) -------------------------------------------- */

typedef enum outbox_level { OUTBOX_LOG_ERROR, OUTBOX_LOG_WARNING, OUTBOX_LOG_INFO } outbox_level;

/* What may be sent. [gate-1] */
typedef enum outbox_gate_state {
    OUTBOX_GATE_OPEN,
    OUTBOX_GATE_CLOSED,     /* nothing; what is in flight is still acked, then the link is closed */
    OUTBOX_GATE_URGENT_ONLY /* the normal lane waits; connected only while an urgent event waits */
} outbox_gate_state;

/* How fast to send. 0: without a bound. Each is a token bucket that holds one second's worth, so no
 * second carries more than twice the rate and no minute more than 1/60 over it. Bytes are those of
 * topic and payload. [pace-1] */
typedef struct outbox_pace {
    unsigned events_per_s; /* at most 1,000,000 */
    unsigned bytes_per_s;  /* at most 2^30; one event may always go */
} outbox_pace;

/* Published limits of cloud brokers, per connection, as of 2026; check them for your own account.
 *   AWS IoT Core: 100 publishes/s and 512 KiB/s per connection (AWS general reference, "AWS IoT
 *   Core endpoints and quotas"; its Receive Maximum is 100).
 *   Azure IoT Hub, S1: 100 device-to-cloud sends/s for the whole hub, or more with units ("IoT Hub
 *   quotas and throttling"). */
#define OUTBOX_PACE_AWS_IOT ((outbox_pace){.events_per_s = 100, .bytes_per_s = 512 * 1024})
#define OUTBOX_PACE_AZURE_S1 ((outbox_pace){.events_per_s = 100})

/* A line for people. Called on the forwarder's thread: return soon, and call no function of this
 * library in it. `sentence` is valid during the call only. */
typedef void (*outbox_log)(void *context, outbox_level level, int code, const char *sentence);

/* How an event becomes a message. The attributes of CloudEvents 1.0 are specversion, id, source,
 * type, time (when it was put), sequence (the id in 19 digits), previous (the id, in 19 digits, of
 * the event that went before it in its stream; 0: none), partitionkey (its key), expirytime (where
 * it expires), recordedtime (when it was put), its headers, and datacontenttype. [mode-1] */
typedef enum outbox_mode {
    /* A CloudEvents 1.0 JSON document (MQTT binding 1.0.2, section 3.2). */
    OUTBOX_STRUCTURED,
    /* The payload untouched. On MQTT 5 its content type and, as user properties, id, source,
     * sequence, previous and what the event itself has of key, expiry and headers go beside it.
     * [mode-2] */
    OUTBOX_PLAIN,
    /* The payload untouched, its content type as the Content Type of MQTT 5, and every other
     * attribute as a user property (MQTT binding 1.0.2, section 3.1). [mode-3] An event whose own
     * content type begins with application/cloudevents goes structured: beside attributes it would
     * be taken for the event itself. [mode-4] MQTT 3.1.1 has no properties, so in this mode the
     * protocol is 5: a start with protocol 4 is refused, and a broker that knows 3.1.1 only is not
     * sent to. [mode-5] */
    OUTBOX_BINARY
} outbox_mode;

/* Which MQTT client carries the events. */
typedef enum outbox_link_kind {
    OUTBOX_LINK_PAHO,  /* Eclipse Paho (MQTTAsync) */
    OUTBOX_LINK_STREAM /* the outbox's own, over a socket or OpenSSL: faster, and never blocks */
} outbox_link_kind;

typedef struct outbox_forwarding {
    /* mqtt://[user[:password]@]host[:port] or mqtts://...; port 1883 or 8883; an IPv6 address in
     * brackets. Required. */
    const char *broker;
    const char *username, *password;  /* instead of those in the URL */
    const char *client_id;            /* NULL: "outbox-" and a name made of device and file */
    int protocol;                     /* 5, 4 (MQTT 3.1.1), or 0: 5 and 4 where 5 is refused */
    const char *ca_file;              /* PEM; NULL: the system's trusted authorities */
    const char *cert_file, *key_file; /* PEM; the client certificate and its key */
    int insecure_no_server_check;     /* non-zero: neither chain nor host name is checked (mqtts) */
    outbox_link_kind link; /* 0: OUTBOX_LINK_PAHO. Both keep what is said here. [link-3] */
    outbox_mode mode;
    /* Non-zero, with OUTBOX_BINARY: the names of the user properties begin with "ce-", as some
     * readers want it (the Go SDK), against the letter of the binding. [mode-6] */
    int ce_prefix;
    unsigned window;             /* events in flight; 0: 100; 1..1000 */
    unsigned keep_alive_seconds; /* 0: 30 */
    unsigned ack_timeout_ms;     /* no PUBACK for so long: reconnect; 0: 30,000 */
    unsigned connect_timeout_ms; /* 0: 15,000 */
    /* Rows of other processes are found when the kernel says that the database's files changed,
     * some 50 ms behind the sync of their commit, [watch-1] and for where that does not work at
     * this interval, in ms. 0: 1,000. OUTBOX_NEVER: neither; then they go out with this process's
     * next commit. */
    unsigned foreign_check_ms;
    size_t payload_max;      /* 0: that of the handle */
    unsigned backoff_max_ms; /* longest pause between two attempts to connect; 0: 60,000 */
    /* Where drops are announced (expired, evicted, superseded, dead letters): for each lane and
     * reason one event of type outbox.dropped, sent in order with the others, whose JSON data has
     * reason, count, and from and to, the first and last id; an id out of range is told as 0 or
     * OUTBOX_ID_MAX. While one is unsent, further drops are added to the next. Those that wait to
     * be announced where the front of a lane was changed by hand, or a backup restored, are not.
     * [announce-1] NULL: the topic of the event of that lane that was read last, and in mode
     * OUTBOX_PLAIN nothing. "": nothing. The counts are kept in every case. */
    const char *announce_topic;
    /* An event that the broker refuses for good (reason 0x90, 0x99, 0x95, or larger than
     * payload_max, or 0x87 several times; on MQTT 3.1.1 an event on which the broker hangs up again
     * and again) goes to outbox_dead. After so many in a row for one reason the lane stops: the
     * next one waits and is tried again and again with a pause of up to backoff_max_ms. 0: 3;
     * OUTBOX_NEVER: without a bound. [poison-1] [poison-2] */
    unsigned dead_letters_max;
    outbox_pace pace;
    /* To wake the radio seldom: when either is given the link is opened only once so many events
     * wait, or so many seconds after the first one came, or for an urgent one; it is closed when
     * all that waits is sent and settled. Rows of other writers are then counted every
     * foreign_check_ms. [batch-1] */
    unsigned batch_events, batch_seconds;
    /* Non-zero: where another forwarder serves the database, outbox_start() does not fail with
     * OUTBOX_LOCKED but waits in state STAND_BY, and takes over within a second when the lock falls
     * free. [standby-1] */
    int stand_by;
    /* A file DATABASE-outbox-ballast of so many bytes is kept beside the database, and given up
     * when the disk is full, so that what is delivered can be settled and space comes back; it is
     * made anew once there is room. 0: 262,144. OUTBOX_NEVER: none. [ballast-1] */
    unsigned ballast_bytes;
    /* Called on the forwarder's thread with its new connection before anything else is done on
     * it: for keys (SQLCipher) and pragmas. Return non-zero to refuse; the start then fails. */
    int (*on_open)(void *context, sqlite3 *db);
    void *on_open_context;
    outbox_log log;
    void *log_context;
} outbox_forwarding;

#define OUTBOX_NEVER 0xffffffffu

/* Starts the forwarder: a thread with a connection of its own to the same file and VFS.
 *
 * Returns when that connection is open and the forwarder's lock is held; the broker need not be
 * reachable, it is tried for ever with a growing, jittered pause of at most 60 s. [start-1] The
 * strings of `forwarding` are copied. The process's signal handlers and its disposition of
 * SIGPIPE stay as they are. [start-2] Do not use the handle in a forked child.
 *
 * Returns OUTBOX_MISUSE (NULL, started already, a value out of range, an open transaction),
 * OUTBOX_CLOSED, OUTBOX_NO_FILE, OUTBOX_BAD_URL, OUTBOX_LOCKED (one forwarder per database, the
 * operating system drops the lock when its process dies), OUTBOX_READONLY (the file or its file
 * system cannot be written), OUTBOX_SYSTEM, OUTBOX_NO_MEMORY or an error of the database. On any
 * error nothing runs. [start-3] */
int outbox_start(outbox *box, const outbox_forwarding *forwarding);

/* Waits until every event that was committed before the call has been acknowledged and settled.
 * timeout_ms: 0 asks without waiting; OUTBOX_NEVER waits for ever.
 * Returns OUTBOX_TIMEOUT, OUTBOX_MISUSE (inside a transaction of the handle's own connection: it
 * would wait for itself), OUTBOX_NOT_STARTED, OUTBOX_CLOSED, or an error of the database.
 * [flush-1] [flush-2] */
int outbox_flush(outbox *box, unsigned timeout_ms);

/* Opens and closes the gate of the forwarder that runs on this handle; it is open after a start.
 * Returns at once; what is under way at that moment is still sent. Any thread may not: the rule for
 * the handle holds. [gate-1] Returns OUTBOX_MISUSE, OUTBOX_NOT_STARTED or OUTBOX_CLOSED. */
int outbox_gate(outbox *box, outbox_gate_state gate);

/* Stops the forwarder: settles what has been acknowledged, closes the link and the connection.
 * Nothing is lost; what was in flight is sent again by the next start. With OUTBOX_LINK_PAHO it may
 * block for the length of one call of that client, commonly under a second. [stop-1]
 * Returns OUTBOX_NOT_STARTED or OUTBOX_CLOSED. */
int outbox_stop(outbox *box);

/* ---- Statistics ------------------------------------------------------------------------------ */

typedef enum outbox_state {
    OUTBOX_STATE_STOPPED,    /* no forwarder on this handle */
    OUTBOX_STATE_CONNECTING, /* the link is being opened */
    OUTBOX_STATE_ONLINE,     /* events are sent as they come */
    OUTBOX_STATE_BACKOFF,    /* waiting before the next attempt; last_error says why */
    OUTBOX_STATE_RESTING,    /* not connected on purpose: the gate, or the batch */
    OUTBOX_STATE_STAND_BY    /* another forwarder serves the database */
} outbox_state;

/* One lane, from the database: durable, and exact but for ids that other writers skipped, which
 * count as pending until the forwarder has passed them. */
typedef struct outbox_lane_counts {
    int64_t pending, delivered, expired, evicted, superseded, dead_lettered;
    int64_t accepted;       /* the sum of the six: P4 */
    int64_t holes;          /* ids that never held an event */
    int64_t last_id;        /* largest id in the table, 0 when there was none */
    int64_t oldest_created; /* of the oldest pending event; 0 when there is none */
    /* The stored limit, 0 where there is none; and the bytes of the pending events as a limit in
     * bytes counts them: 0 without such a limit, -1 while rows of other writers are not measured
     * yet. [stats-3] */
    int64_t max_events, max_bytes, pending_bytes;
    int evicts; /* OUTBOX_EVICT_OLDEST applies to the limit, else OUTBOX_REJECT */
} outbox_lane_counts;

/* One lane, from the forwarder of this handle. */
typedef struct outbox_lane_sending {
    unsigned in_flight;
    int64_t settled_id; /* all events up to it have left the table */
    int64_t refused_id; /* the event that the broker refuses now, or 0 */
    int refused_reason; /* its MQTT 5 reason code */
} outbox_lane_sending;

typedef struct outbox_statistics {
    /* The sums over both lanes, and the age of the older one. */
    int64_t pending, delivered, expired, evicted, superseded, dead_lettered, accepted, holes;
    int64_t oldest_created;
    outbox_lane_counts lanes[OUTBOX_LANES];
    /* From the forwarder of this handle, since its start. */
    outbox_state state;
    unsigned in_flight;
    uint64_t published, acknowledged, refusals;
    uint64_t connects, disconnects, settles, barriers;
    outbox_lane_sending sending[OUTBOX_LANES];
    unsigned backoff_ms; /* length of the pause in state BACKOFF */
    int last_error;      /* outbox_code of the last trouble, OUTBOX_OK while online */
    char last_error_text[160];
    uint64_t fire_sent;    /* fire-and-forget events that were handed to the MQTT client */
    uint64_t fire_dropped; /* those that were not, also by this handle before a start */
} outbox_statistics;

/* Fills `statistics`. Reads through the handle's own connection, so inside an open transaction it
 * counts that transaction's events too. Takes constant time. [stats-1] [P7]
 * Returns OUTBOX_MISUSE, OUTBOX_CLOSED or an error of the database. */
int outbox_stats(outbox *box, outbox_statistics *statistics);

/* The database's part of it through any connection, without attaching and without writing: for
 * tools. Returns OUTBOX_MISUSE, OUTBOX_NEWER_SCHEMA, or OUTBOX_CORRUPT when there is no outbox in
 * this file, or an error of the database; `sentence` (may be NULL) gets the particulars.
 * [stats-2] */
int outbox_inspect(sqlite3 *db, outbox_statistics *statistics, char *sentence, size_t size);

/* ---- Verify ---------------------------------------------------------------------------------- */

/* One thing that is wrong: a sentence, and the lane or NULL where it is no lane's. Both are valid
 * during the call only. Call no function of this library in it. */
typedef void (*outbox_finding)(void *context, const char *lane, const char *sentence);

/* Recomputes what must hold of the tables, through any connection, without attaching and without
 * writing, in one read transaction (in the open one, if there is one): each lane's tombstone, its
 * counts and marks; ids, running totals and announcements; epochs, device, dead letters and schema.
 * Reads every row. Ids that other writers have skipped are not wrong. `found` may be NULL.
 *
 * Returns OUTBOX_OK when nothing was found, OUTBOX_CORRUPT when something was; a forwarder mends,
 * or moves away, what is wrong with the order of a lane. [verify-1] OUTBOX_MISUSE (NULL),
 * OUTBOX_NEWER_SCHEMA or an error of the database: then it was not read to its end. [verify-2] */
int outbox_verify(sqlite3 *db, outbox_finding found, void *context);

#ifdef __cplusplus
}
#endif
#endif
