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
#include "machine.h"

#include <assert.h>
#include <string.h>

enum {
    EVENTS_MAX = 2048,        /* link events of one step */
    BUSY_RETRY_MS = 5,        /* the database was held by somebody else */
    TROUBLE_RETRY_MS = 1000,  /* the database failed */
    LONGEST_SLEEP = 1u << 29, /* 6 days: times must not grow too old for the clock that wraps */
    OLDEST_TIME = 1u << 30
};

/* Which states may follow which. */
static const unsigned allowed[OB_STATES] = {
    [OB_IDLE] = 1u << OB_CONNECTING | 1u << OB_BACKOFF,
    [OB_CONNECTING] = 1u << OB_ONLINE | 1u << OB_BACKOFF | 1u << OB_IDLE,
    [OB_ONLINE] = 1u << OB_BACKOFF | 1u << OB_IDLE,
    [OB_BACKOFF] = 1u << OB_CONNECTING | 1u << OB_BACKOFF | 1u << OB_IDLE,
};

/* ---- Time ------------------------------------------------------------------------------------------ */

/* The clock wraps after 49 days; times that are compared are never half that apart. */
bool ob_machine_has_come(const outbox_forwarder *f, uint32_t at)
{
    return (int32_t)(f->now - at) >= 0;
}

uint32_t ob_machine_clock(const outbox_forwarder *f)
{
    return f->port->now_ms(f->port->context);
}

/* ---- Saying what is wrong ---------------------------------------------------------------------------- */

void ob_machine_say(const outbox_forwarder *f, outbox_level level, int code, const char *sentence)
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
        ob_machine_say(f, OUTBOX_LOG_WARNING, code, f->error.sentence);
    f->logged = f->error;
}

/* A failing database is tried again later; a busy one soon, and is no trouble. */
void ob_machine_store_failed(outbox_forwarder *f, int code)
{
    bool busy = code == OUTBOX_BUSY;
    f->store_not_before = ob_machine_clock(f) + (busy ? BUSY_RETRY_MS : TROUBLE_RETRY_MS);
    if (busy)
        return;
    trouble(f, code, "%s", f->store.error.sentence);
    f->store_is_in_trouble = true;
}

static void clear_trouble(outbox_forwarder *f)
{
    ob_error_clear(&f->error);
    ob_error_clear(&f->logged);
    f->store_is_in_trouble = false;
}

void ob_machine_store_works(outbox_forwarder *f)
{
    if (!f->store_is_in_trouble)
        return;
    clear_trouble(f);
    ob_machine_say(f, OUTBOX_LOG_INFO, OUTBOX_OK, "the database works again");
}

/* ---- States ------------------------------------------------------------------------------------------- */

static void check_state(const outbox_forwarder *f)
{
    assert(f->state < OB_STATES);
    assert(f->state == OB_ONLINE || f->window.in_flight == 0);
    assert(f->window.in_flight <= f->config.window);
    (void)f;
}

static void enter(outbox_forwarder *f, enum ob_state state)
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
void ob_machine_drop_link(outbox_forwarder *f)
{
    f->link->methods->close(f->link);
    ob_window_keep(&f->window, ob_window_settleable(&f->window));
    f->buffer.used = 0;
    uint32_t kept = ob_window_count(&f->window);
    f->cursor = kept > 0 ? ob_window_at(&f->window, kept - 1)->id : f->store.head.id;
    f->waits_for_acks = false;
}

void ob_machine_back_off(outbox_forwarder *f)
{
    if (f->state == OB_ONLINE) {
        f->stats.disconnects++;
        if (f->now - f->since >= f->config.backoff_max_ms)
            f->attempts = 0; /* it was a good connection */
    }
    ob_machine_drop_link(f);
    f->backoff_ms = pause_length(f);
    enter(f, OB_BACKOFF);
}

static void connect_now(outbox_forwarder *f)
{
    outbox_link_event event = {.kind = OUTBOX_LINK_CLOSED};
    if (f->link->methods->open(f->link) == OUTBOX_LINK_OK) {
        enter(f, OB_CONNECTING);
        return;
    }
    bool told = f->link->methods->poll(f->link, &event) == OUTBOX_LINK_OK && event.sentence[0];
    trouble(f, OUTBOX_LINK, "%s", told ? event.sentence : "the connection could not be opened");
    ob_machine_back_off(f);
}

static void passed_refusal(outbox_forwarder *f)
{
    f->alone_id = 0;
    f->stats.refused_id = 0;
    f->stats.refused_reason = 0;
    clear_trouble(f);
}

/* The events behind the tombstone are not those that were read: begin again. Where something is in
 * flight its PUBACK must not be taken for another event's, so the connection ends too. */
void ob_machine_start_over(outbox_forwarder *f)
{
    bool in_flight = f->window.in_flight > 0;
    ob_window_keep(&f->window, 0);
    f->buffer.used = 0;
    f->more = true;
    f->waits_for_acks = false;
    if (f->alone_id)
        passed_refusal(f); /* if it is still there, it will be refused again */
    if (in_flight)
        ob_machine_back_off(f);
    f->cursor = f->store.head.id;
}

/* ---- Refusals -------------------------------------------------------------------------------------------- */

void ob_machine_refuse(outbox_forwarder *f, int64_t id, int reason)
{
    f->alone_id = id;
    f->stats.refusals++;
    f->stats.refused_id = id;
    f->stats.refused_reason = reason;
    trouble(f, OUTBOX_REFUSED,
            "the broker refuses event %lld (reason 0x%02x%s); the events behind it wait",
            (long long)id, (unsigned)reason,
            reason == OB_REASON_TOO_LARGE ? ": beyond what it accepts" : "");
    ob_machine_back_off(f);
}

/* ---- What the link says ------------------------------------------------------------------------------------ */

static void on_opened(outbox_forwarder *f, const outbox_link_event *event)
{
    char sentence[80];
    if (f->state != OB_CONNECTING)
        return;
    f->receive_maximum = event->receive_maximum ? event->receive_maximum : 1;
    f->stats.connects++;
    f->more = true;
    f->looked_at = f->now;
    if (!f->alone_id && !f->store_is_in_trouble)
        clear_trouble(f);
    enter(f, OB_ONLINE);
    if (event->maximum_qos < 1) {
        trouble(f, OUTBOX_LINK, "the broker does not take QoS 1 (Maximum QoS 0)");
        ob_machine_back_off(f);
        return;
    }
    sqlite3_snprintf((int)sizeof sentence, sentence, "connected with MQTT %s, window %u",
                     event->protocol == 5 ? "5" : "3.1.1",
                     f->receive_maximum < f->config.window ? f->receive_maximum : f->config.window);
    ob_machine_say(f, OUTBOX_LOG_INFO, OUTBOX_OK, sentence);
}

static void on_acked(outbox_forwarder *f, const outbox_link_event *event)
{
    struct ob_entry *entry = ob_window_find(&f->window, event->token);
    if (!entry)
        return; /* unknown, old or repeated: it says nothing about an event */
    if (event->reason >= 0x80) {
        ob_machine_refuse(f, entry->id, event->reason);
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
    if (f->state != OB_CONNECTING && f->state != OB_ONLINE)
        return;
    /* While an event is refused, that is what the operator must see. */
    if (!f->alone_id || f->state == OB_CONNECTING)
        trouble(f, OUTBOX_LINK, "%s", event->sentence);
    ob_machine_back_off(f);
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

/* ---- The step ------------------------------------------------------------------------------------------------------------ */

static void watch_acks(outbox_forwarder *f)
{
    if (f->window.in_flight == 0 || !ob_machine_has_come(f, f->watch_at))
        return;
    const struct ob_entry *oldest = ob_window_oldest_in_flight(&f->window);
    f->watch_at = oldest->sent_ms + f->config.ack_timeout_ms;
    if (!ob_machine_has_come(f, f->watch_at))
        return;
    trouble(f, OUTBOX_LINK, "no PUBACK for event %lld in %u ms; connecting anew",
            (long long)oldest->id, f->config.ack_timeout_ms);
    ob_machine_back_off(f);
}

static void act(outbox_forwarder *f)
{
    switch (f->state) {
    case OB_IDLE:
        connect_now(f);
        break;
    case OB_CONNECTING:
        if (ob_machine_has_come(f, f->since + f->config.connect_timeout_ms)) {
            trouble(f, OUTBOX_LINK, "the broker did not answer in %u ms",
                    f->config.connect_timeout_ms);
            ob_machine_back_off(f);
        }
        break;
    case OB_ONLINE:
        watch_acks(f);
        ob_drain_send(f);
        break;
    case OB_BACKOFF:
        if (ob_machine_has_come(f, f->since + f->backoff_ms))
            connect_now(f);
        break;
    case OB_STATES:
        assert(false);
    }
}

void ob_machine_sooner(const outbox_forwarder *f, uint32_t at, uint32_t *next_ms)
{
    uint32_t in = ob_machine_has_come(f, at) ? 0 : at - f->now;
    if (in < *next_ms)
        *next_ms = in;
}

static uint32_t next_step(outbox_forwarder *f)
{
    uint32_t next = LONGEST_SLEEP;
    f->now = ob_machine_clock(f);
    if (f->full_step)
        return 0;
    if (f->state == OB_CONNECTING)
        ob_machine_sooner(f, f->since + f->config.connect_timeout_ms, &next);
    if (f->state == OB_BACKOFF)
        ob_machine_sooner(f, f->since + f->backoff_ms, &next);
    if (f->window.in_flight > 0)
        ob_machine_sooner(f, f->watch_at, &next);
    /* Inside a transaction of a shared connection there is nothing to do with the table; the
     * application calls again when that is over. */
    if (!ob_store_is_blocked(&f->store))
        ob_drain_next(f, &next);
    return next;
}

/* A time long past would look like one to come once the clock has gone half round. */
static void age_times(outbox_forwarder *f)
{
    uint32_t *times[] = {&f->since,           &f->watch_at,          &f->acked_at,
                         &f->unsettled_since, &f->settle_not_before, &f->store_not_before,
                         &f->link_not_before, &f->looked_at,         &f->active_at};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (ob_machine_has_come(f, *times[i]) && f->now - *times[i] > OLDEST_TIME)
            *times[i] = f->now - OLDEST_TIME;
}

int outbox_forwarder_step(outbox_forwarder *f, uint32_t *next_ms)
{
    f->now = ob_machine_clock(f);
    f->full_step = false;
    age_times(f);
    take_events(f);
    ob_drain_keep_house(f);
    act(f);
    ob_drain_settle(f);
    check_state(f);
    *next_ms = next_step(f);
    return f->error.code;
}

void outbox_forwarder_committed(outbox_forwarder *f, int64_t durable_id)
{
    f->more = true;
    f->active_at = ob_machine_clock(f);
    if (durable_id > f->store.durable_id)
        f->store.durable_id = durable_id;
}

void outbox_forwarder_flush(outbox_forwarder *f, int64_t id)
{
    f->more = true;
    if (id > f->flush_id && (!f->store.head_is_known || id > f->store.head.id))
        f->flush_id = id;
}
