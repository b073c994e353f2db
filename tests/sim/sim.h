/* SPDX-License-Identifier: MIT
 *
 * sim.h - one simulated run: the unchanged core between an application, a disk, a link and a
 * broker, none of which is real, and an oracle that knows what may be true.
 *
 *   choose, tape   what happens: the only source of chance
 *   disk, vfs      the device: what a power cut leaves, SQLite's files, time
 *   app            writers, each an SQL statement at a time, and long readers
 *   node           the forwarder: opens, steps, closes
 *   link           the MQTT connection and the broker behind it
 *   nemesis        everything that goes wrong
 *   model          what was written, by lane, transaction and event
 *   wire           what a message says of itself
 *   oracle, turns  judge what is sent: each lane by itself, and the lanes among each other
 *   ledger         follows the tombstones: how each event has left
 *   age            which events are too old, and of which there is a newer one
 *   drops          what the recipient is told of them
 *   change         a captured table
 *   rest           when the forwarder may be connected, and how fast it may send
 *   limits         judges what a put lets leave
 *   audit          judges what is in the database: after a restart, and at the end
 *   run            a run from the first start of the device to the last check
 *   profile        what can go wrong in this run, and how often
 *   trace          the hash of all that happened, and its story in words
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "vfs.h"

#include <outbox/forwarder.h>
#include <outbox/inbox.h>

enum { WRITERS = 3, STREAMS = 4, KEYS = 8, DELIVERIES = 8, STORY_LINES = 48, STORY_LENGTH = 160 };
#define NEVER UINT64_MAX

/* ---- Invariants ------------------------------------------------------------------------------ */

#define INVARIANT_MAP(X)                                                                           \
    X(NO_INVARIANT, "none", "nothing is broken")                                                   \
    X(NO_LOSS, "I1", "an event was committed and did not arrive in order")                         \
    X(NO_PHANTOM, "I2", "an event was sent whose transaction is not there")                        \
    X(NO_INVENTION, "I3", "something was sent that nobody stored so")                              \
    X(ORDER, "I4", "events were sent out of order")                                                \
    X(DUPLICATES, "I5", "an event was sent again that had to be known as done")                    \
    X(ATOMICITY, "I6", "a transaction is there in part")                                           \
    X(BOUNDED_DISK, "I7", "the files grow without bound")                                          \
    X(BOUNDED_MEMORY, "I8", "memory leaks or grows")                                               \
    X(DRAIN, "I9", "the outbox does not empty although nothing is wrong")                          \
    X(CALM, "I10", "the broker is called or written to too often")                                 \
    X(RECOVERY, "I11", "the database does not come back after a cut")                              \
    X(ISOLATION, "I12", "the forwarder holds a lock between two steps")                            \
    X(CONTRACT, "I13", "a call answered what the header does not list")                            \
    X(LEDGER, "I14", "the ledger is off")

enum invariant {
#define INVARIANT_ENUM(name, id, sentence) name,
    INVARIANT_MAP(INVARIANT_ENUM)
#undef INVARIANT_ENUM
        INVARIANTS
};
const char *invariant_id(enum invariant invariant);
const char *invariant_sentence(enum invariant invariant);

/* ---- Profiles -------------------------------------------------------------------------------- */

/* What the nemesis can do. */
enum act {
    ACT_CUT_POWER,
    ACT_KILL_ALL, /* both processes; the disk stays as it is */
    ACT_KILL_APP,
    ACT_KILL_FORWARDER,
    ACT_CUT_LINK,
    ACT_STALL_LINK, /* half open: nothing moves, nobody says so */
    ACT_BROKER_DOWN,
    ACT_BROKER_HANGS, /* connections get no answer */
    ACT_BROKER_RESTARTS,
    ACT_REFUSE_EVENTS,
    ACT_HOLD_ACKS,
    ACT_DROP_ACKS,
    ACT_STRAY_ACKS, /* repeated ones, and for tokens nobody knows */
    ACT_SMALL_PACKETS,
    ACT_SMALL_WINDOW, /* Receive Maximum 1 */
    ACT_NO_QOS,       /* Maximum QoS 0 */
    ACT_NO_ROOM,      /* the client takes nothing more for a while */
    ACT_IO_ERROR,
    ACT_DISK_FULL,
    ACT_BUSY,
    ACT_WALL_JUMP,
    ACT_LONG_READER,
    ACT_LATE_STEPS,
    ACT_MEDDLE, /* somebody else works on the outbox */
    ACT_GATE,   /* the application opens or closes it */
    ACTS
};

struct profile {
    const char *name, *summary;
    uint32_t operations;   /* statements of the application, unless told */
    uint32_t act_every_ms; /* mean time between two acts; 0: none */
    unsigned acts[ACTS];   /* how often each is chosen among the others */
    bool draws_acts;       /* swarm: some of them only, by choice */
    bool one_connection;   /* no shared memory, rollback journals, forwarder on the app's own */
    bool wraps;            /* the port's clock starts shortly before it wraps */
    bool is_calm;          /* lite: every event exactly once */
    bool is_small_scope;   /* enumerate: two transactions, everything else fixed */
};
extern const struct profile profiles[];
const struct profile *profile_find(const char *name); /* NULL if there is none */

/* Events that the broker takes from nobody, until the troubles end or for ever. */
struct poison {
    unsigned of_16;       /* the first so many of each sixteen events; 0: none */
    int reason;           /* with which it refuses them; 0: it hangs up */
    bool is_mute;         /* and every other time its answer gets lost */
    bool outlasts;        /* the end of the troubles: the outbox must come by them all the same */
    unsigned hangs_up_ms; /* and so long it keeps a connection on the average; 0: for ever */
};

/* Drawn at the start of a run. */
struct settings {
    const char *journal;
    const char *synchronous[WRITERS];
    bool is_wal, may_sector_damage;
    unsigned writers, autocheckpoint, long_transaction;
    bool is_foreign[WRITERS];                /* writes with a plain INSERT */
    bool is_meddled_with, deletes_tombstone; /* by the meddler; else it forwards */
    bool kills_forwarder;                    /* before that */
    size_t payload_max;
    unsigned rollback_per_mille, autocommit_per_mille, odd_per_mille;
    unsigned urgent_per_mille; /* of the events; 0: the urgent lane stays empty */
    uint32_t clock_start;      /* of the port's 32 bits */
    uint32_t think_ms;         /* mean pause between two statements */
    uint32_t latency_us;       /* of a packet, at most */
    unsigned acts[ACTS];
    struct poison poison;
    outbox_limit limits[OUTBOX_LANES];
    unsigned ttl_per_mille, keep_last_per_mille; /* of the events */
    bool starts_in_1970;
    unsigned changes_per_mille; /* of the statements in a transaction; 0: nothing is captured */
    outbox_lane changes_lane;
    unsigned lies; /* enum teeth */
    outbox_forwarder_config forwarder;
};
void settings_draw(struct settings *settings, const struct profile *profile,
                   struct choices *choices);

/* Faults that no promise covers; the tests of the simulator itself turn them on. */
enum teeth { TEETH_NONE, TEETH_SYNC_LIES = 1, TEETH_NO_LEDGER = 2 /* I14 is not judged */ };

/* ---- The model ------------------------------------------------------------------------------- */

enum fate {
    ATTEMPTED, /* in an open transaction */
    COMMITTED, /* COMMIT said so, or the forwarder has seen it */
    IN_DOUBT,  /* COMMIT failed or nobody lived to hear its answer */
    ABORTED
};

/* What a body is, and whether the event is fit to be sent. */
enum body {
    BODY_BYTES,
    BODY_TEXT,
    BODY_JSON,
    BODIES,
    BODY_UNFIT = BODIES,
    BODY_ANNOUNCEMENT,
    BODY_CHANGE
};

/* How an event left, or will: as the ledger counts it. An announcement that is evicted is a
 * hole. */
enum outcome { STAYS, DELIVERED, EXPIRED, EVICTED, SUPERSEDED, DEAD, OUTCOMES };

/* Of a row of the captured table: c created, u updated, d deleted, D and C of a changed key. */
struct change {
    char letter;
    uint32_t key, other; /* the other key of D and C, else 0 */
    int64_t value, was;
};

struct model_event {
    uint32_t transaction, next_in_transaction; /* index + 1, 0: none */
    outbox_lane lane;
    int64_t id;
    uint32_t size, stream;
    enum body body;
    int64_t ttl_ms;   /* 0: for ever */
    int64_t expires;  /* as it is stored */
    bool was_too_old; /* at some moment, by a clock that was set */
    bool keep_last;
    struct {
        enum outcome reason;
        int64_t count, from, to;
    } tells; /* an announcement */
    struct change change;
    uint32_t number; /* its own */
    enum fate fate;
    uint32_t displaces;   /* one in doubt that had its id; 0: none */
    uint32_t order;       /* in which it was committed to its lane; from 1 */
    uint64_t since;       /* when that was known */
    uint32_t connection;  /* in which it was sent last; 0: never */
    bool is_accepted;     /* by the broker, in order */
    int64_t names;        /* the one before it, as it was sent last */
    int64_t told;         /* the same, as the broker took it last */
    uint64_t passed_by;   /* start of the forwarder in which a later one was accepted first */
    enum outcome outcome; /* as the ledger has counted it */
    enum outcome leaves;  /* as a transaction wants that is not seen to be committed yet */
    unsigned may_leave;   /* bits: as one in doubt wanted */
    unsigned could_leave; /* bits: when it left; `outcome` is one of these, by which the counts come
                             out */
    uint32_t acked;       /* connection in which its PUBACK was heard; 0: never */
    unsigned hangups;     /* of the broker, on it */
    bool may_die;         /* the broker has refused it so that it must become a dead letter ... */
    uint64_t dies_in;     /* ... as that start of the forwarder knows ... */
    int reason;           /* ... with this reason; 0: it has hung up */
    int64_t told_previous; /* as it was published last ... */
    unsigned told_source;  /* ... under the lane's source of this number, from 1 */
    unsigned applied_in;   /* by the recipient, under that source; 0: never */
    bool came_late;        /* accepted by the broker behind later ones */
};

struct model_transaction {
    enum fate fate;
    unsigned writer;
    bool has_ledger; /* a row in the application's own table tells whether it is there */
    uint64_t
        written;    /* the disk's last operation behind its COMMIT; 0: that failed or is unknown */
    uint32_t first; /* event, index + 1 */
};

enum { SOURCES = 32 };

/* Events that were dropped: not announced yet, and by the announcement that is on its way. */
struct drops {
    int64_t count, from, to, row, row_count, row_from, row_to;
};

/* A tombstone as it was read. */
struct tombstone {
    bool is_known;
    int64_t id, largest, holes;
    int64_t last; /* that was delivered */
    int64_t count[OUTCOMES];
    struct drops drops[OUTCOMES];
};

/* One lane: ids, order and source are its own. */
struct model_lane {
    uint32_t *owner; /* by id: event, index + 1 */
    size_t owner_capacity;
    uint32_t *order; /* events by order of commit, from 1 */
    uint32_t order_count, order_capacity;
    uint32_t durable;      /* up to this order nothing may be lost any more */
    uint32_t next;         /* order of the next event that must be accepted first */
    uint32_t settled;      /* all up to this order have left the table, rightly */
    uint32_t heard;        /* of all up to this order the forwarder knows that they are done ... */
    uint64_t heard_by;     /* ... in this start of it ... */
    unsigned heard_in;     /* ... after so many changes of the source */
    struct tombstone seen; /* all up to it have left, and how is known */
    int64_t leaving;       /* events up to it may have `leaves` set */
    int64_t passed;        /* the tombstone as it was read last */
    int64_t floor;         /* ids up to it had left the table at the last start of the device */
    char source[128];
    char retired[SOURCES][128]; /* sources that must not come back */
    unsigned retired_count;
    unsigned epochs_to_come; /* how often the source may still change */
    bool epoch_changes;      /* a hand was in the table: counts may begin anew */
    int64_t epoch_first;     /* the first id that was sent with this source */
    char newest_epoch[32];   /* in the table ... */
    uint64_t epoch_written;  /* ... the disk's last operation when it was seen first */
};

struct model {
    struct model_event *events;
    uint32_t event_count, event_capacity;
    struct model_transaction *transactions;
    uint32_t transaction_count, transaction_capacity;
    struct model_lane lanes[OUTBOX_LANES];
    uint64_t fit, unfit; /* committed so far, in both lanes */
};

/* ---- The parts ------------------------------------------------------------------------------- */

struct sim;

struct writer {
    unsigned index;
    sqlite3 *db;
    outbox *box;
    uint32_t transaction; /* number + 1; 0: none open */
    unsigned left;        /* statements until it ends */
    unsigned attempts;    /* of the same statement, while others are in the way */
    bool has_ledger, in_savepoint;
    int64_t jump;             /* from the largest id to that of the next event */
    uint32_t savepoint_event; /* events from here on are inside it */
    uint64_t due;
};

struct node {
    void *memory;
    size_t size;
    sqlite3 *db;
    outbox_forwarder *forwarder;
    uint64_t due;
    int64_t durable[OUTBOX_LANES]; /* told with the next step */
    bool is_told;
    uint64_t starts;
    int64_t changes; /* of its connection, when the ledgers were looked at last */
    outbox_gate_state gate;
    bool batch_runs;                /* it may connect until all of a batch is sent */
    outbox_state state;             /* behind its last step */
    double events_left, bytes_left; /* of the pace */
    uint64_t filled_at, step_at;    /* the step that is under way */
};

enum { QUEUE = 4096 };

struct up { /* a PUBLISH on its way, or a probe: event 0 */
    uint32_t token, event;
    uint64_t due;
};
struct down { /* what the forwarder will be told */
    outbox_link_event event;
    uint64_t due;
    uint32_t answers; /* event, index + 1, for the story */
};

/* What the oracle must know of one connection. */
struct talk {
    uint32_t connection; /* number */
    sqlite3 *db;         /* the forwarder's */
    int64_t changes;     /* of it, when the ledgers were looked at last */
    struct {
        int64_t last_id; /* sent in it */
        bool refused_one;
        unsigned duplicates;
    } lanes[OUTBOX_LANES];
};

/* What turns.c must know of the forwarder that runs. */
struct turns {
    unsigned urgent_run;           /* urgent events sent since the last normal one */
    unsigned over_waiting;         /* of these while a normal one waited */
    int64_t refused[OUTBOX_LANES]; /* that it was told of, 0: none */
    uint64_t refused_at[OUTBOX_LANES];
    unsigned times[OUTBOX_LANES];    /* that event, in a row */
    bool is_suspect[OUTBOX_LANES];   /* the broker has hung up, nobody has refused it */
    unsigned dead_run[OUTBOX_LANES]; /* so many dead letters in a row for one reason */
    int run_reason[OUTBOX_LANES];
    unsigned
        over_refused[OUTBOX_LANES]; /* events of the other lane sent although its pause is over */
    bool has_refused;               /* ever */
    bool one_is_alone;              /* in flight */
};

struct link {
    outbox_link base;
    struct sim *sim;
    bool is_open, is_up; /* between open and close; CONNACK was given */
    bool is_stalled, is_probed;
    bool was_left;    /* the core has ended the last connection, which still held */
    bool hangs_up;    /* the broker, as soon as it can */
    uint64_t ends_at; /* the other side ends it for no reason; NEVER: it does not */
    struct talk talk;
    struct turns turns;
    unsigned receive_maximum;
    unsigned unacked[OUTBOX_LANES];
    uint32_t maximum_packet;
    bool lost_acks; /* ever */
    struct up up[QUEUE];
    uint32_t up_first, up_end;
    struct down down[QUEUE];
    uint32_t down_first, down_end;
    uint32_t acked_token; /* one that was acknowledged before, for repeats */
    /* What the nemesis wants, until when. */
    uint64_t down_until, hang_until, refuse_until, hold_until, drop_until, small_until,
        window_until, qos_until, room_until, stray_until, stall_noticed;
    /* For I10. */
    uint64_t opens, opened_at[16];
    uint64_t fruitless; /* opens since an event was accepted first */
    uint64_t publishes, acceptances;
};

struct nemesis {
    uint64_t due;
    /* The next failing call. */
    int64_t countdown; /* calls of that kind until it fails; 0: nothing is armed */
    enum vfs_call call;
    enum process process;
    int failure;
    bool persists, sync_failed;
    uint64_t until; /* a persistent one ends */
    /* The next end of a process or of the power, counted in changes of the disk. */
    int64_t fatal_countdown;
    enum act fatal;
    bool fatal_after; /* the call still takes effect */
    /* Others. */
    sqlite3 *reader;
    sqlite3_stmt *reading;
    uint64_t reader_until, full_until, late_until;
    uint64_t injected; /* failures of calls */
};

struct trace {
    uint64_t hash, events;
    bool prints;
    char story[STORY_LINES][STORY_LENGTH];
    uint64_t story_count;
};

/* What must be looked into before the application goes on. */
enum recovery { RECOVERED, AFTER_KILL, AFTER_CUT };

enum phase { PHASE_START, PHASE_CHAOS, PHASE_HEAL, PHASE_DRAIN, PHASE_END };

struct sim {
    const struct profile *profile;
    struct settings settings;
    struct choices choices;
    struct device device;
    struct model model;
    struct writer writers[WRITERS];
    struct node node;
    struct link link;
    uint32_t connections; /* of both forwarders */
    bool was_meddled_with;
    struct nemesis nemesis;
    struct trace trace;
    sqlite3 *judge; /* in memory: reads JSON for the oracle, and has the recipient's inbox */
    struct {
        inbox *in;
        uint32_t first_order[OUTBOX_LANES]; /* of the event with which the stream begins here */
        uint32_t last_order[OUTBOX_LANES];  /* of the one that was applied last */
        int64_t things[KEYS + 1];           /* its copy of the captured table */
        struct delivery {
            uint32_t event;
            unsigned source; /* as it was told */
            int64_t previous;
            bool was_applied;
        } deliveries[DELIVERIES]; /* the last ones, which may be repeated */
        uint64_t delivery_count;
    } recipient;
    sqlite3_stmt *reads_document;
    int64_t changes; /* statements on the captured table */
    enum phase phase;
    uint64_t seed;
    uint32_t operations, operations_done;
    uint64_t cuts, kills;
    enum recovery recovery;
    uint64_t recover_at;
    int recovery_attempts;
    int cuts_left; /* small scope only: cuts that may still come */
    bool recovers; /* the device was started and is not open yet */

    enum invariant broken;
    char particulars[512];
};

/* ---- trace.c --------------------------------------------------------------------------------- */

/* Something happened: into the hash. */
void trace_event(struct sim *sim, const char *kind, uint64_t a, uint64_t b);
/* Something worth telling: into the story (and the hash). */
void tell(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void trace_print_story(const struct sim *sim, FILE *to);

/* Notes the first invariant that breaks; later ones are its children. */
void breaks(struct sim *sim, enum invariant invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- app.c ----------------------------------------------------------------------------------- */

bool app_make_database(struct sim *sim); /* on a sound device, without the outbox's tables */
void app_step(struct sim *sim, struct writer *writer);
void app_close(struct sim *sim, struct writer *writer); /* on a dead device as well */
bool app_open(struct sim *sim, struct writer *writer);
void app_finish(struct sim *sim);   /* ends what is open; begins nothing new */
bool app_put_last(struct sim *sim); /* an event behind all others */
void app_stored(struct sim *sim, uint32_t event, int64_t id); /* in an open transaction */

/* ---- node.c ---------------------------------------------------------------------------------- */

void node_step(struct sim *sim);
void node_close(struct sim *sim);
void node_committed(struct sim *sim, const int64_t durable[OUTBOX_LANES]); /* outbox_service */
void node_wake(struct sim *sim, uint64_t at);
outbox_port node_port(struct sim *sim);

/* ---- link.c ---------------------------------------------------------------------------------- */

void link_init(struct sim *sim);
void link_reset(struct sim *sim); /* the device died: what is on its way may still arrive */
void link_step(struct sim *sim);  /* moves what is due */
uint64_t link_due(const struct sim *sim);
void link_stall(struct sim *sim);
/* The network ends the connection, or the broker with this reason. */
void link_hang_up(struct sim *sim, int reason, const char *why); /* the broker does */
void link_lose(struct sim *sim, const char *why);                /* the network does */
void link_heal(struct sim *sim);
unsigned link_unacked(const struct link *link); /* in both lanes */

/* ---- nemesis.c ------------------------------------------------------------------------------- */

int nemesis_before_call(void *context, enum vfs_call call, const char *file);
void nemesis_step(struct sim *sim);
void nemesis_stop_reader(struct sim *sim);
void nemesis_heal(struct sim *sim); /* no more faults */

/* ---- meddler.c ------------------------------------------------------------------------------- */

void meddle(struct sim *sim); /* now, and in no time */

/* ---- model.c --------------------------------------------------------------------------------- */

void model_init(struct model *model);
void model_free(struct model *model);
uint32_t model_begin(struct model *model, unsigned writer, bool has_ledger); /* number + 1 */
/* A new event of it, with lane, size, stream and body as in `like`; gives the event's index + 1. */
uint32_t model_add(struct model *model, uint32_t transaction, const struct model_event *like);
struct model_event *model_event(struct model *model, uint32_t event);
struct model_transaction *model_transaction(struct model *model, uint32_t transaction);
struct model_lane *model_lane_of(struct model *model, uint32_t event);
/* The event of that order in a lane. */
struct model_event *model_at(struct model *model, const struct model_lane *lane, uint32_t order);
void model_named(struct model *model, uint32_t event, int64_t id);             /* its id is known */
uint32_t model_owner(const struct model *model, outbox_lane lane, int64_t id); /* event or 0 */
void model_commit(struct model *model, uint32_t transaction, uint64_t now_us);
void model_abort(struct model *model, uint32_t transaction);
void model_doubt(struct model *model, uint32_t transaction);
void model_abort_event(struct model *model, uint32_t event);
/* Whether it is in doubt, and another one with the same id is too. */
bool model_is_ambiguous(struct model *model, uint32_t event);
/* All events of the lane from that order on are lost, and were allowed to be. */
void model_forget_order(struct model *model, struct model_lane *lane, uint32_t from);
void model_all_durable(struct model *model); /* what is committed, nothing can undo */
uint32_t model_unsettled(const struct model *model);
/* The events of the lane up to `id`, by how they left; gives how many there are. */
uint32_t model_count(struct model *model, const struct model_lane *lane, int64_t id,
                     uint64_t count[OUTCOMES]);
/* The body of an event; `to` has room for its size. */
void model_body(const struct model *model, uint32_t event, uint8_t *to);
const char *model_content_type(enum body body);
/* What else is stored with it; NULL: nothing. */
bool model_is_retained(const struct model_event *e);
const char *model_type(const struct model_event *e);
const char *model_key(const struct model_event *e);
#define MODEL_HEADER "correlationid="
const char *model_correlation(const struct model_event *e);
void model_topic(const struct sim *sim, const struct model_event *e, char topic[16]);
/* The text of an announcement; gives its length. */
uint32_t model_announce(const struct model_event *e, char *text, int size);

const char *lane_name(outbox_lane lane);
const char *lane_table(outbox_lane lane);
/* For formats: "urgent event 7". */
#define EVENT "%s event %lld"
#define EVENT_OF(e) lane_name((e)->lane), (long long)(e)->id

/* ---- wire.c ---------------------------------------------------------------------------------- */

/* What an event says of itself on the wire. */
struct wire {
    int64_t id, previous;
    const char *source, *sequence;
    const char *type, *key, *correlation, *content_type; /* NULL: none */
    bool has_data;
    const void *data;
    size_t size;
    bool is_base64;
};

bool wire_open(struct sim *sim);
void wire_close(struct sim *sim);
/* `content_type` is that of the event, NULL if it has none or that is not known yet. What `wire`
 * points to is valid until the next call. */
bool wire_read(struct sim *sim, const outbox_message *message, const char *content_type,
               struct wire *wire);
/* The lane in its source. False: it names none. */
bool wire_lane(const struct wire *wire, outbox_lane *lane);
bool wire_has_body(const struct sim *sim, uint32_t event, const struct wire *wire);
/* What travels beside the body. */
bool wire_has_attributes(const struct sim *sim, const outbox_message *message,
                         const struct wire *wire, uint32_t event);
bool is_same_text(const char *a, const char *b); /* both may be NULL */

/* ---- oracle.c, turns.c ----------------------------------------------------------------------- */

/* The core hands an event to the link. Gives the model's event, 0 if there is none. */
uint32_t oracle_published(struct sim *sim, struct talk *talk, const outbox_message *message);
/* It was the first forwarder that sent it. */
void oracle_sent(struct sim *sim, uint32_t event);
/* The first forwarder has heard that the broker has it. */
void oracle_heard(struct sim *sim, uint32_t event);
/* By the broker. */
/* Whether it may be passed over once and sent later, by another start. */
bool oracle_may_come_late(const struct model_event *e);
void oracle_accepted(struct sim *sim, const struct talk *talk, uint32_t event);
/* All events of the lane `number` up to `id` have left the table. */
void oracle_left(struct sim *sim, outbox_lane number, int64_t id);
/* How many events a forwarder may know of that have not left the table: its ring, whose size is a
 * power of two. */
unsigned oracle_ring(const struct sim *sim);
void oracle_after_step(struct sim *sim, int code, uint32_t next_ms);
void oracle_code(struct sim *sim, const char *call, int code); /* I13 */

void turns_begin(struct sim *sim);                     /* a forwarder starts */
void turns_connected(struct sim *sim);                 /* or not any more: nothing is in flight */
void turns_published(struct sim *sim, uint32_t event); /* over the link, before it counts there */
void turns_refused(struct sim *sim, uint32_t event, int reason); /* the core was told */
void turns_acked(struct sim *sim, uint32_t event);               /* the core was told */
void turns_after_step(struct sim *sim, const outbox_statistics *now);

/* ---- ledger.c -------------------------------------------------------------------------------- */

/* What the simulator itself looks up must not meet a fault that is meant for others, and takes no
 * time. */
struct hush {
    int (*before)(void *context, enum vfs_call call, const char *file);
    uint64_t now_us;
};
struct hush ledger_hush(struct sim *sim);
void ledger_unhush(struct sim *sim, const struct hush *hush);
/* As this connection sees it, without any fault. */
bool ledger_read(struct sim *sim, sqlite3 *db, outbox_lane lane, struct tombstone *tombstone);
/* Reads both, outside a transaction, and judges what has left since the last look. */
void ledger_look(struct sim *sim, sqlite3 *db);
/* The same where this connection has written since. */
void ledger_follow(struct sim *sim, sqlite3 *db, int64_t *changes);
/* What has left beyond `id` is there again: a power cut has undone it. */
void ledger_rewind(struct sim *sim, outbox_lane number, int64_t id);
/* Whether the event may be skipped, now or for good. */
bool ledger_may_drop(struct sim *sim, const struct model_event *e);
const char *outcome_name(enum outcome outcome);

/* ---- limits.c -------------------------------------------------------------------------------- */

struct put_look {
    struct tombstone before;
    int64_t acked; /* what the put may count as delivered */
};

const outbox_limit *limit_of(const struct sim *sim, outbox_lane lane);
bool limits_hold(const struct sim *sim, outbox_lane lane); /* whether it has any */
int64_t limits_bytes(const struct sim *sim, uint32_t event);
/* Whether these are more than the lane may hold; `t` knows the announcements among them, which come
 * on top, if it is not NULL; `perhaps`: if all are there that are in doubt. */
bool limits_exceeded(const struct sim *sim, outbox_lane lane, const struct tombstone *t,
                     int64_t from, int64_t to, bool perhaps);
void limits_before_put(struct sim *sim, struct writer *writer, outbox_lane lane,
                       struct put_look *look);
void limits_after_put(struct sim *sim, struct writer *writer, uint32_t event,
                      const struct put_look *look, int code);
/* The transaction that was open is rolled back, or its savepoint is. */
void limits_in_doubt(struct sim *sim);
void limits_undone(struct sim *sim, struct writer *writer, bool to_savepoint);

/* ---- age.c ----------------------------------------------------------------------------------- */

int64_t age_expires(const struct sim *sim, int64_t ttl_ms); /* of a put now */
/* An event was put, which may have taken a while: when it expires is in its row. */
void age_read_back(struct sim *sim, sqlite3 *db, struct model_event *e);
bool age_is_over(const struct sim *sim, const struct model_event *e, int64_t slack_ms);
bool age_was_over(const struct sim *sim, const struct model_event *e);
void age_clock_jumps(struct sim *sim); /* will do so */
/* What goes to the broker as the Message Expiry Interval. */
bool age_is_told(const struct sim *sim, const struct model_event *e, uint32_t seconds);
bool age_is_stored(const struct model_event *e, int64_t expires);
/* Whether a newer event of its key takes its place. */
bool age_is_superseded(struct sim *sim, const struct model_event *e);

/* ---- drops.c --------------------------------------------------------------------------------- */

/* Looks for announcements that are new, false: it could not; whether all that was dropped is
 * announced or noted; the same when all is quiet. */
bool drops_discover(struct sim *sim, sqlite3 *db, outbox_lane lane);
void drops_check(struct sim *sim, outbox_lane number, const struct tombstone *now);
void drops_at_end(struct sim *sim);

/* ---- rest.c ---------------------------------------------------------------------------------- */

void rest_begin(struct sim *sim); /* a forwarder starts */
void rest_set_gate(struct sim *sim, outbox_gate_state gate);
void rest_check_open(struct sim *sim); /* it connects */
void rest_after_step(struct sim *sim, outbox_state state);
void rest_check_publish(struct sim *sim, const struct model_event *e,
                        const outbox_message *message);

/* ---- audit.c --------------------------------------------------------------------------------- */

/* After a start of the device or the application: which transactions are there? */
bool audit_resolve(struct sim *sim, sqlite3 *db, bool power_was_cut);
void audit_at_end(struct sim *sim, sqlite3 *db);

/* ---- change.c -------------------------------------------------------------------------------- */

void change_begin(struct sim *sim, struct writer *writer); /* to capture, if nobody has yet */
void change_write(struct sim *sim, struct writer *writer, uint32_t transaction);
int64_t change_bytes(const struct change *change); /* stored, without OUTBOX_EVENT_BYTES */
/* Whether the event's row has the values of its change; whether this is its document. */
bool change_is_stored(const struct model_event *e, sqlite3 *db);
bool change_has_body(const struct model *model, const struct model_event *e, const void *data,
                     size_t size);
void change_applied(struct sim *sim, const struct model_event *e); /* by the recipient */
void change_at_end(struct sim *sim, sqlite3 *db);

/* ---- run.c ----------------------------------------------------------------------------------- */

struct run_options {
    const struct profile *profile;
    uint64_t seed;
    uint32_t operations; /* 0: the profile's */
    bool trace;
    unsigned teeth;
    const struct tape *tape;   /* NULL: random */
    struct choices *enumerate; /* in and out; NULL: not enumerating */
};

struct run_result {
    enum invariant broken;
    char particulars[512];
    char *story; /* to be freed; NULL unless an invariant broke */
    uint64_t hash, events, cuts, kills, sends, committed, accepted, injected;
    uint64_t simulated_ms;
    struct tape tape; /* to be freed */
};

/* ---- recipient.c ----------------------------------------------------------------------------- */

bool recipient_open(struct sim *sim);
void recipient_close(struct sim *sim);
void recipient_told(struct sim *sim, uint32_t event, const struct wire *wire);
void recipient_takes(struct sim *sim, const struct talk *talk, uint32_t event);
void recipient_at_end(struct sim *sim);

void run_once(const struct run_options *options, struct run_result *result);
void run_result_free(struct run_result *result);

#endif
