/* SPDX-License-Identifier: MIT
 *
 * forwarder.c - the state machine: connect, fill the window, take acks, settle, back off.
 *
 * It owns no thread, clock or socket and nothing durable of its own: the table is the session.
 * After a crash, a loss or a refusal it forgets what it has sent and reads again behind the
 * tombstone; the window and the acks that were not settled are what may then be sent twice.
 *
 * The rules that keep the promises:
 *   - an event is published only once a power cut can no longer undo it (store.c, the barrier);
 *   - an event leaves the table only in an unbroken run of verdicts from the front;
 *   - a refusal ends the connection, so that nothing behind the refused event is settled and the
 *     recipient meets the events in order again;
 *   - no transaction is open while the link is called.
 */
#include "store.h"

#include <outbox/forwarder.h>

#include <assert.h>
#include <string.h>

enum {
    FETCH_MAX = 256,         /* rows of one fetch */
    PUBLISH_MAX = 256,       /* publishes of one step */
    EVENTS_MAX = 2048,       /* link events of one step */
    SETTLE_PAUSE_MS = 2,     /* least pause behind a settle: the application's turn */
    BUSY_RETRY_MS = 5,       /* the database was held by somebody else */
    TROUBLE_RETRY_MS = 1000, /* the database failed */
    CHECKPOINT_MS = 1000,    /* no writer for so long: the application is idle */
    REASON_TOO_LARGE = 0x95  /* MQTT 5, 2.4: Packet too large */
};

enum state { IDLE, CONNECTING, ONLINE, BACKOFF, STATES };

/* Which states may follow which. */
static const unsigned allowed[STATES] = {
    [IDLE] = 1u << CONNECTING | 1u << BACKOFF,
    [CONNECTING] = 1u << ONLINE | 1u << BACKOFF | 1u << IDLE,
    [ONLINE] = 1u << BACKOFF | 1u << IDLE,
    [BACKOFF] = 1u << CONNECTING | 1u << BACKOFF | 1u << IDLE,
};

struct outbox_forwarder {
    outbox_forwarder_config config; /* with the defaults filled in */
    outbox_link *link;
    const outbox_port *port;
    struct ob_store store;
    struct ob_window window;
    struct ob_buffer buffer;

    enum state state;
    uint32_t now, since;      /* of this step; when the state was entered */
    uint32_t backoff_ms;      /* length of this pause */
    unsigned attempts;        /* pauses since the last progress */
    unsigned receive_maximum; /* the server's */
    int64_t cursor;           /* last event that was read into the window */
    bool more;                /* the table may hold events behind the cursor */
    bool full_step;           /* this step ended at one of its bounds */

    uint32_t watch_at;                  /* when to look at the oldest event in flight */
    uint32_t acked_at, unsettled_since; /* last PUBACK; first one that is not settled */
    uint32_t settle_not_before, store_not_before, link_not_before;
    uint32_t looked_at, active_at; /* for other writers; when one was seen */
    int64_t flush_id;              /* settle at once up to here, 0: nothing asked */
    int64_t alone_id;              /* sent with a window of 1 up to here: it was refused */

    outbox_statistics stats;
    struct ob_error error, logged;
};

/* ---- Time ------------------------------------------------------------------------------------------ */

/* The clock wraps after 49 days; times that are compared are never half that apart. */
static bool has_come(const outbox_forwarder *f, uint32_t at)
{
    return (int32_t)(f->now - at) >= 0;
}

static uint32_t clock_now(const outbox_forwarder *f)
{
    return f->port->now_ms(f->port->context);
}

/* ---- Saying what is wrong ---------------------------------------------------------------------------- */

static void say(const outbox_forwarder *f, outbox_level level, int code, const char *sentence)
{
    if (f->port->log)
        f->port->log(f->port->log_context, level, code, sentence);
}

/* Keeps the trouble for the statistics and logs it, unless the same was logged last. */
static void trouble(outbox_forwarder *f, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(&f->error, code, format, arguments);
    va_end(arguments);
    if (f->logged.code != code || strcmp(f->logged.sentence, f->error.sentence) != 0)
        say(f, OUTBOX_LOG_WARNING, code, f->error.sentence);
    f->logged = f->error;
}

/* A failing database is tried again later; a busy one soon, and is no trouble. */
static void store_failed(outbox_forwarder *f, int code)
{
    bool busy = code == OUTBOX_BUSY;
    f->store_not_before = clock_now(f) + (busy ? BUSY_RETRY_MS : TROUBLE_RETRY_MS);
    if (!busy)
        trouble(f, code, "%s", f->store.error.sentence);
}

/* ---- States ------------------------------------------------------------------------------------------- */

static void check_state(const outbox_forwarder *f)
{
    assert(f->state < STATES);
    assert(f->state == ONLINE || f->window.in_flight == 0);
    assert(f->window.in_flight <= f->config.window);
    (void)f;
}

static void enter(outbox_forwarder *f, enum state state)
{
    assert(allowed[f->state] >> state & 1);
    f->state = state;
    f->since = f->now;
    check_state(f);
}

/* Full jitter: anything from 0 to a bound that doubles, so that a fleet does not come back at
 * once. The bound falls back only after progress, not at a CONNACK alone: a server that accepts
 * and then throws us out must not be hammered. */
static uint32_t pause_length(outbox_forwarder *f)
{
    uint32_t bound = f->config.backoff_min_ms;
    for (unsigned i = 0; i < f->attempts && bound < f->config.backoff_max_ms; i++)
        bound *= 2;
    if (bound > f->config.backoff_max_ms)
        bound = f->config.backoff_max_ms;
    f->attempts++;
    return f->port->random(f->port->context) % (bound + 1);
}

/* Ends the connection. What is acked in an unbroken run stays to be settled; the rest is void. */
static void drop_link(outbox_forwarder *f)
{
    f->link->methods->close(f->link);
    ob_window_keep(&f->window, ob_window_settleable(&f->window));
    f->buffer.used = 0;
    uint32_t kept = ob_window_count(&f->window);
    f->cursor = kept > 0 ? ob_window_at(&f->window, kept - 1)->id : f->store.head.id;
    f->stats.in_flight = 0;
}

static void back_off(outbox_forwarder *f)
{
    if (f->state == ONLINE) {
        f->stats.disconnects++;
        if (f->now - f->since >= f->config.backoff_max_ms)
            f->attempts = 0; /* it was a good connection */
    }
    drop_link(f);
    f->backoff_ms = pause_length(f);
    enter(f, BACKOFF);
}

static void connect_now(outbox_forwarder *f)
{
    outbox_link_event event = {.kind = OUTBOX_LINK_CLOSED};
    if (f->link->methods->open(f->link) == OUTBOX_LINK_OK) {
        enter(f, CONNECTING);
        return;
    }
    bool told = f->link->methods->poll(f->link, &event) == OUTBOX_LINK_OK && event.sentence[0];
    trouble(f, OUTBOX_LINK, "%s", told ? event.sentence : "the connection could not be opened");
    back_off(f);
}

/* The events behind the tombstone are not those that were read: begin again. Where something is in
 * flight its PUBACK must not be taken for another event's, so the connection ends too. */
static void start_over(outbox_forwarder *f)
{
    bool in_flight = f->window.in_flight > 0;
    ob_window_keep(&f->window, 0);
    f->buffer.used = 0;
    f->more = true;
    if (in_flight)
        back_off(f);
    f->cursor = f->store.head.id;
}

/* ---- Refusals -------------------------------------------------------------------------------------------- */

static void refuse(outbox_forwarder *f, int64_t id, int reason)
{
    f->alone_id = id;
    f->stats.refusals++;
    f->stats.refused_id = id;
    f->stats.refused_reason = reason;
    trouble(f, OUTBOX_REFUSED,
            "the broker refuses event %lld (reason 0x%02x%s); the events behind it wait",
            (long long)id, (unsigned)reason,
            reason == REASON_TOO_LARGE ? ": beyond what it accepts" : "");
    back_off(f);
}

static void passed_refusal(outbox_forwarder *f)
{
    f->alone_id = 0;
    f->stats.refused_id = 0;
    f->stats.refused_reason = 0;
    ob_error_clear(&f->error);
    ob_error_clear(&f->logged);
}

/* ---- What the link says ------------------------------------------------------------------------------------ */

static void on_opened(outbox_forwarder *f, const outbox_link_event *event)
{
    char sentence[80];
    if (f->state != CONNECTING)
        return;
    f->receive_maximum = event->receive_maximum ? event->receive_maximum : 1;
    f->stats.connects++;
    f->more = true;
    f->looked_at = f->now;
    if (!f->alone_id) {
        ob_error_clear(&f->error);
        ob_error_clear(&f->logged);
    }
    enter(f, ONLINE);
    if (event->maximum_qos < 1) {
        trouble(f, OUTBOX_LINK, "the broker does not take QoS 1 (Maximum QoS 0)");
        back_off(f);
        return;
    }
    sqlite3_snprintf((int)sizeof sentence, sentence, "connected with MQTT %s, window %u",
                     event->protocol == 5 ? "5" : "3.1.1",
                     f->receive_maximum < f->config.window ? f->receive_maximum : f->config.window);
    say(f, OUTBOX_LOG_INFO, OUTBOX_OK, sentence);
}

static void on_acked(outbox_forwarder *f, const outbox_link_event *event)
{
    struct ob_entry *entry = ob_window_find(&f->window, event->token);
    if (!entry)
        return; /* unknown, old or repeated: it says nothing about an event */
    if (event->reason >= 0x80) {
        refuse(f, entry->id, event->reason);
        return;
    }
    if (ob_window_settleable(&f->window) == 0)
        f->unsettled_since = f->now;
    ob_window_acked(&f->window, entry);
    f->stats.acknowledged++;
    f->acked_at = f->now;
    f->attempts = 0;
    if (f->alone_id && entry->id >= f->alone_id)
        passed_refusal(f);
}

static void on_closed(outbox_forwarder *f, const outbox_link_event *event)
{
    if (f->state != CONNECTING && f->state != ONLINE)
        return;
    /* While an event is refused, that is what the operator must see. */
    if (!f->alone_id || f->state == CONNECTING)
        trouble(f, OUTBOX_LINK, "%s", event->sentence);
    back_off(f);
}

static void take_events(outbox_forwarder *f)
{
    outbox_link_event event;
    for (int i = 0; i < EVENTS_MAX; i++) {
        if (f->link->methods->poll(f->link, &event) != OUTBOX_LINK_OK)
            return;
        switch (event.kind) {
        case OUTBOX_LINK_OPENED:
            on_opened(f, &event);
            break;
        case OUTBOX_LINK_ACKED:
            on_acked(f, &event);
            break;
        case OUTBOX_LINK_CLOSED:
            on_closed(f, &event);
            break;
        }
    }
    f->full_step = true;
}

/* ---- Fetching ------------------------------------------------------------------------------------------------- */

/* The last event ahead that was delivered or is on its way. */
static int64_t last_ahead(const outbox_forwarder *f)
{
    for (uint32_t i = ob_window_count(&f->window); i > 0; i--)
        if (ob_window_at(&f->window, i - 1)->verdict != OB_UNFIT)
            return ob_window_at(&f->window, i - 1)->id;
    return f->store.head.last;
}

struct taking {
    outbox_forwarder *f;
    bool identified; /* store.identity was read in this fetch */
    int code;
};

static bool identify(struct taking *taking, int64_t id)
{
    struct ob_store *store = &taking->f->store;
    if (taking->identified && id < store->identity.until)
        return true;
    taking->code = ob_schema_identity(store->db, &store->identity_statement, id, &store->identity,
                                      &store->error);
    taking->identified = taking->code == OUTBOX_OK;
    return taking->identified;
}

/* One row into the window, its message into the buffer. False ends the fetch. */
static bool take_row(void *context, const struct ob_row *row)
{
    struct taking *taking = context;
    outbox_forwarder *f = taking->f;
    const outbox_message *message = NULL;
    enum ob_unfit unfit = ob_message_check(row);

    if (unfit == OB_FIT && row->payload.len <= f->config.payload_max) {
        if (!identify(taking, row->id))
            return false;
        int64_t ahead = last_ahead(f);
        message =
            ob_message_build(&f->buffer, row, &f->store.identity,
                             ahead >= f->store.identity.epoch.first ? ahead : 0, f->config.mode);
        if (!message && f->buffer.used > 0)
            return false; /* it is the first one of the next fetch */
    }
    ob_window_add(&f->window, row->id, message, (int)unfit);
    f->cursor = row->id;
    return unfit != OB_FIT || message;
}

/* Reads events behind the cursor. Only once all that was read is sent: the buffer is used anew. */
static bool fetch(outbox_forwarder *f)
{
    uint32_t room = f->window.capacity - ob_window_count(&f->window);
    struct taking taking = {f, false, OUTBOX_OK};
    struct ob_fetch request = {.take = take_row,
                               .context = &taking,
                               .after = f->cursor,
                               .limit = room < FETCH_MAX ? room : FETCH_MAX};
    if (room == 0 || ob_store_is_blocked(&f->store) || !has_come(f, f->store_not_before))
        return false;
    f->buffer.used = 0;
    int code = ob_store_fetch(&f->store, &request);
    if (code == OUTBOX_OK)
        code = taking.code;
    if (code != OUTBOX_OK) {
        store_failed(f, code);
        return false;
    }
    if (request.head != OB_HEAD_SAME) {
        if (request.head == OB_HEAD_REMADE)
            say(f, OUTBOX_LOG_WARNING, OUTBOX_OK,
                "the outbox was changed by hand or restored; a new epoch begins");
        start_over(f);
        return false;
    }
    f->more = !request.at_end;
    return true;
}

/* ---- Sending ---------------------------------------------------------------------------------------------------- */

static unsigned window_size(const outbox_forwarder *f)
{
    if (f->alone_id)
        return 1;
    return f->receive_maximum < f->config.window ? f->receive_maximum : f->config.window;
}

static bool make_durable(outbox_forwarder *f, int64_t id)
{
    if (id <= f->store.durable_id)
        return true;
    if (ob_store_is_blocked(&f->store) || !has_come(f, f->store_not_before))
        return false;
    int code = ob_store_barrier(&f->store, f->cursor);
    if (code != OUTBOX_OK)
        store_failed(f, code);
    return code == OUTBOX_OK;
}

/* Sends one event. False: nothing more now. */
static bool publish(outbox_forwarder *f, struct ob_entry *entry, uint32_t token)
{
    outbox_link_result result = OUTBOX_LINK_TOO_LARGE;
    if (!make_durable(f, entry->id))
        return false;
    if (entry->message)
        result = f->link->methods->publish(f->link, token, entry->message);
    switch (result) {
    case OUTBOX_LINK_OK:
        if (f->window.in_flight == 0)
            f->watch_at = f->now + f->config.ack_timeout_ms;
        ob_window_sent(&f->window, entry, f->now);
        f->stats.published++;
        return true;
    case OUTBOX_LINK_TOO_LARGE:
        /* First let those ahead of it be acked: the refusal ends the connection. */
        if (f->window.in_flight == 0)
            refuse(f, entry->id, REASON_TOO_LARGE);
        return false;
    case OUTBOX_LINK_AGAIN:
        f->link_not_before = f->now + BUSY_RETRY_MS;
        return false;
    case OUTBOX_LINK_DOWN:
        return false; /* CLOSED follows */
    }
    return false;
}

static void send_events(outbox_forwarder *f)
{
    for (int i = 0; i < PUBLISH_MAX; i++) {
        uint32_t token;
        if (f->state != ONLINE || f->window.in_flight >= window_size(f))
            return;
        struct ob_entry *entry = ob_window_next(&f->window, &token);
        if (!entry) {
            if (!f->more || !fetch(f))
                return;
            continue;
        }
        if (!has_come(f, f->link_not_before) || !publish(f, entry, token))
            return;
    }
    f->full_step = true;
}

/* ---- Settling ----------------------------------------------------------------------------------------------------- */

/* When what is acked should be settled; `f->now` or earlier means now. */
static uint32_t settle_at(const outbox_forwarder *f, uint32_t count)
{
    if (count >= f->config.settle_batch || ob_window_is_full(&f->window))
        return f->now;
    int64_t reaches = ob_window_at(&f->window, count - 1)->id;
    if (f->flush_id && (reaches >= f->flush_id || f->window.in_flight == 0))
        return f->now;
    uint32_t quiet = f->acked_at + f->config.settle_quiet_ms;
    uint32_t oldest = f->unsettled_since + 10 * f->config.settle_quiet_ms;
    return (int32_t)(oldest - quiet) < 0 ? oldest : quiet;
}

static void settle(outbox_forwarder *f, uint32_t count)
{
    enum ob_head head;
    uint32_t began = clock_now(f);
    int code = ob_store_settle(&f->store, &f->window, count, &head);
    uint32_t ended = clock_now(f);
    /* Ten times what the lock was held: SQLite's locks are not fair, so leave it to others. */
    f->settle_not_before = ended + SETTLE_PAUSE_MS + 10 * (ended - began);
    if (code != OUTBOX_OK) {
        store_failed(f, code);
        return;
    }
    if (head != OB_HEAD_SAME) {
        start_over(f);
        return;
    }
    ob_window_settled(&f->window, count);
    f->unsettled_since = f->now;
    f->stats.settled_id = f->store.head.id;
    if (f->flush_id && f->store.head.id >= f->flush_id)
        f->flush_id = 0;
}

static uint32_t due(const outbox_forwarder *f)
{
    uint32_t count = ob_window_settleable(&f->window);
    return count < f->config.settle_batch ? count : f->config.settle_batch;
}

static void settle_events(outbox_forwarder *f)
{
    uint32_t count = due(f);
    if (count == 0 || ob_store_is_blocked(&f->store))
        return;
    if (has_come(f, f->settle_not_before) && has_come(f, f->store_not_before) &&
        has_come(f, settle_at(f, count)))
        settle(f, count);
}

/* ---- Other writers, checkpoint ---------------------------------------------------------------------------------------- */

static bool looks_for_others(const outbox_forwarder *f)
{
    return f->config.foreign_check_ms != OUTBOX_NEVER;
}

static void look_for_others(outbox_forwarder *f)
{
    bool changed = false;
    if (ob_store_is_blocked(&f->store))
        return;
    f->looked_at = f->now;
    int code = ob_store_has_changed(&f->store, &changed);
    if (code != OUTBOX_OK) {
        store_failed(f, code);
        return;
    }
    if (changed) {
        f->more = true;
        f->active_at = f->now;
    }
}

static bool wants_checkpoint(const outbox_forwarder *f)
{
    return !f->config.shared_connection && f->store.journal == OB_JOURNAL_WAL &&
           f->store.wal_frames > f->config.checkpoint_frames;
}

/* The application checkpoints; we do only where it is idle and the WAL has outgrown its limit by
 * far, or a long drain without an application would never stop growing it. */
static void checkpoint(outbox_forwarder *f)
{
    look_for_others(f);
    if (!has_come(f, f->active_at + CHECKPOINT_MS) || !has_come(f, f->store_not_before))
        return;
    int code = ob_store_checkpoint(&f->store);
    if (code != OUTBOX_OK)
        store_failed(f, code);
    f->active_at = f->now; /* not again before a second */
}

static void keep_house(outbox_forwarder *f)
{
    bool every_step = f->config.shared_connection != 0;
    if (f->state == ONLINE && looks_for_others(f) &&
        (every_step || has_come(f, f->looked_at + f->config.foreign_check_ms)))
        look_for_others(f);
    if (wants_checkpoint(f) && has_come(f, f->active_at + CHECKPOINT_MS))
        checkpoint(f);
}

/* ---- The step ------------------------------------------------------------------------------------------------------------ */

static void watch_acks(outbox_forwarder *f)
{
    if (f->window.in_flight == 0 || !has_come(f, f->watch_at))
        return;
    const struct ob_entry *oldest = ob_window_oldest_in_flight(&f->window);
    f->watch_at = oldest->sent_ms + f->config.ack_timeout_ms;
    if (!has_come(f, f->watch_at))
        return;
    trouble(f, OUTBOX_LINK, "no PUBACK for event %lld in %u ms; connecting anew",
            (long long)oldest->id, f->config.ack_timeout_ms);
    back_off(f);
}

static void act(outbox_forwarder *f)
{
    switch (f->state) {
    case IDLE:
        connect_now(f);
        break;
    case CONNECTING:
        if (has_come(f, f->since + f->config.connect_timeout_ms)) {
            trouble(f, OUTBOX_LINK, "the broker did not answer in %u ms",
                    f->config.connect_timeout_ms);
            back_off(f);
        }
        break;
    case ONLINE:
        watch_acks(f);
        send_events(f);
        break;
    case BACKOFF:
        if (has_come(f, f->since + f->backoff_ms))
            connect_now(f);
        break;
    case STATES:
        assert(false);
    }
}

static void sooner(const outbox_forwarder *f, uint32_t at, uint32_t *next_ms)
{
    uint32_t in = has_come(f, at) ? 0 : at - f->now;
    if (in < *next_ms)
        *next_ms = in;
}

static uint32_t later(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0 ? a : b;
}

/* Whether the sender was held up by something that passes with time alone. */
static bool is_held_up(outbox_forwarder *f)
{
    uint32_t token;
    if (f->state != ONLINE || f->window.in_flight >= window_size(f))
        return false;
    return ob_window_next(&f->window, &token) ? true : f->more && !ob_window_is_full(&f->window);
}

static uint32_t next_step(outbox_forwarder *f)
{
    uint32_t next = OUTBOX_NEVER;
    uint32_t count = due(f);
    f->now = clock_now(f);
    if (f->full_step)
        return 0;
    if (f->state == CONNECTING)
        sooner(f, f->since + f->config.connect_timeout_ms, &next);
    if (f->state == BACKOFF)
        sooner(f, f->since + f->backoff_ms, &next);
    if (f->window.in_flight > 0)
        sooner(f, f->watch_at, &next);
    if (ob_store_is_blocked(&f->store))
        return next; /* the application calls again when its transaction is over */
    if (f->state == ONLINE && looks_for_others(f))
        sooner(f, f->looked_at + f->config.foreign_check_ms, &next);
    if (wants_checkpoint(f))
        sooner(f, f->active_at + CHECKPOINT_MS, &next);
    if (is_held_up(f))
        sooner(f, later(f->store_not_before, f->link_not_before), &next);
    if (count > 0)
        sooner(f, later(settle_at(f, count), later(f->settle_not_before, f->store_not_before)),
               &next);
    return next;
}

int outbox_forwarder_step(outbox_forwarder *f, uint32_t *next_ms)
{
    f->now = clock_now(f);
    f->full_step = false;
    take_events(f);
    keep_house(f);
    act(f);
    settle_events(f);
    f->stats.in_flight = f->window.in_flight;
    check_state(f);
    *next_ms = next_step(f);
    return f->error.code;
}

void outbox_forwarder_committed(outbox_forwarder *f, int64_t durable_id)
{
    f->more = true;
    f->active_at = clock_now(f);
    if (durable_id > f->store.durable_id)
        f->store.durable_id = durable_id;
}

void outbox_forwarder_flush(outbox_forwarder *f, int64_t id)
{
    f->more = true;
    if (id > f->flush_id && (!f->store.head_is_known || id > f->store.head.id))
        f->flush_id = id;
}

void outbox_forwarder_stats(const outbox_forwarder *f, outbox_statistics *statistics)
{
    static const outbox_state states[STATES] = {
        [IDLE] = OUTBOX_STATE_CONNECTING,
        [CONNECTING] = OUTBOX_STATE_CONNECTING,
        [ONLINE] = OUTBOX_STATE_ONLINE,
        [BACKOFF] = OUTBOX_STATE_BACKOFF,
    };
    statistics->state = states[f->state];
    statistics->in_flight = f->window.in_flight;
    statistics->published = f->stats.published;
    statistics->acknowledged = f->stats.acknowledged;
    statistics->refusals = f->stats.refusals;
    statistics->connects = f->stats.connects;
    statistics->disconnects = f->stats.disconnects;
    statistics->settles = f->store.settles;
    statistics->barriers = f->store.barriers;
    statistics->settled_id = f->store.head_is_known ? f->store.head.id : 0;
    statistics->refused_id = f->stats.refused_id;
    statistics->refused_reason = f->stats.refused_reason;
    statistics->backoff_ms = f->state == BACKOFF ? f->backoff_ms : 0;
    statistics->last_error = f->error.code;
    sqlite3_snprintf((int)sizeof statistics->last_error_text, statistics->last_error_text, "%s",
                     f->error.sentence);
}

/* ---- Init and close -------------------------------------------------------------------------------------------------------- */

static bool fill_defaults(const outbox_forwarder_config *given, outbox_forwarder_config *config)
{
    static const outbox_forwarder_config defaults;
    *config = given ? *given : defaults;
    struct {
        unsigned *field, value;
    } fields[] = {
        {&config->window, 100},
        {&config->settle_batch, 256},
        {&config->settle_quiet_ms, 1000},
        {&config->ack_timeout_ms, 30000},
        {&config->connect_timeout_ms, 15000},
        {&config->foreign_check_ms, 1000},
        {&config->backoff_min_ms, 1000},
        {&config->backoff_max_ms, 60000},
        {&config->checkpoint_frames, 4000},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (*fields[i].field == 0)
            *fields[i].field = fields[i].value;
    if (config->payload_max == 0)
        config->payload_max = OUTBOX_PAYLOAD_MAX;
    if (config->buffer_size == 0 && config->payload_max <= OUTBOX_PAYLOAD_CAP)
        config->buffer_size = ob_message_room(config->payload_max);
    const unsigned longest_ms = 1u << 28; /* far from half the clock's range */
    return config->window <= 1000 && config->settle_batch <= 1024 &&
           config->payload_max <= OUTBOX_PAYLOAD_CAP &&
           config->settle_quiet_ms <= longest_ms / 16 && config->ack_timeout_ms <= longest_ms &&
           config->connect_timeout_ms <= longest_ms &&
           (config->foreign_check_ms <= longest_ms || config->foreign_check_ms == OUTBOX_NEVER) &&
           config->backoff_min_ms <= config->backoff_max_ms &&
           config->backoff_max_ms <= longest_ms &&
           (config->mode == OUTBOX_STRUCTURED || config->mode == OUTBOX_PLAIN);
}

static size_t align(size_t size)
{
    const size_t unit = 2 * sizeof(void *);
    return (size + unit - 1) / unit * unit;
}

static uint32_t ring_capacity(const outbox_forwarder_config *config)
{
    uint32_t capacity = 16;
    while (capacity < 2 * config->window + config->settle_batch)
        capacity *= 2;
    return capacity;
}

size_t outbox_forwarder_size(const outbox_forwarder_config *config)
{
    outbox_forwarder_config full;
    if (!fill_defaults(config, &full))
        return 0;
    return align(sizeof(outbox_forwarder)) + align(ring_capacity(&full) * sizeof(struct ob_entry)) +
           align(full.buffer_size);
}

static int check_init(size_t size, const outbox_forwarder_config *config, struct ob_error *error)
{
    size_t need = outbox_forwarder_size(config);
    if (need == 0)
        return ob_error_set(error, OUTBOX_MISUSE,
                            "a value of the forwarder's configuration is out of range");
    if (size < need)
        return ob_error_set(error, OUTBOX_NO_MEMORY, "the forwarder needs %lld bytes, it got %lld",
                            (long long)need, (long long)size);
    return OUTBOX_OK;
}

static outbox_forwarder *lay_out(void *memory, const outbox_forwarder_config *given)
{
    char *at = memory;
    outbox_forwarder *f = memory;
    memset(f, 0, sizeof *f);
    (void)fill_defaults(given, &f->config); /* checked before */
    at += align(sizeof *f);
    uint32_t capacity = ring_capacity(&f->config);
    ob_window_init(&f->window, (struct ob_entry *)(void *)at, capacity);
    at += align(capacity * sizeof(struct ob_entry));
    f->buffer = (struct ob_buffer){at, f->config.buffer_size, 0};
    return f;
}

int outbox_forwarder_init(void *memory, size_t size, sqlite3 *db, outbox_link *link,
                          const outbox_port *port, const outbox_forwarder_config *config,
                          outbox_forwarder **forwarder, char *sentence, size_t sentence_size)
{
    struct ob_error error = {OUTBOX_MISUSE, "an argument is NULL or of another version"};
    int code = OUTBOX_MISUSE;
    if (forwarder)
        *forwarder = NULL;
    if (memory && db && link && link->methods && link->methods->version == 1 && port &&
        port->version == 1 && forwarder)
        code = check_init(size, config, &error);
    if (code == OUTBOX_OK) {
        outbox_forwarder *f = lay_out(memory, config);
        f->link = link;
        f->port = port;
        f->now = f->since = f->looked_at = f->active_at = clock_now(f);
        f->settle_not_before = f->store_not_before = f->link_not_before = f->now;
        code = ob_store_open(&f->store, db, f->config.shared_connection != 0);
        error = f->store.error;
        if (code == OUTBOX_OK)
            *forwarder = f;
    }
    if (code != OUTBOX_OK && sentence && sentence_size > 0)
        sqlite3_snprintf((int)sentence_size, sentence, "%s", error.sentence);
    return code;
}

void outbox_forwarder_close(outbox_forwarder *f)
{
    enum ob_head head;
    if (!f)
        return;
    f->now = clock_now(f);
    drop_link(f);
    uint32_t count = due(f);
    while (count > 0 && !ob_store_is_blocked(&f->store) &&
           ob_store_settle(&f->store, &f->window, count, &head) == OUTBOX_OK &&
           head == OB_HEAD_SAME) {
        ob_window_settled(&f->window, count);
        count = due(f);
    }
    ob_store_close(&f->store);
    f->state = IDLE;
}
