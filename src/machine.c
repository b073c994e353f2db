/* SPDX-License-Identifier: MIT
 *
 * machine.c - the forwarder's states, times and troubles, for the files that act.
 *
 *              start                OPENED
 *     IDLE ------------> CONNECTING ------> ONLINE
 *                         |     ^             | lost, refused, no PUBACK
 *                refused, |     | pause over  v
 *                time-out +-> BACKOFF <-------+
 *
 * What must hold: an event is in flight only while ONLINE. Leaving that state makes every token
 * void and keeps of the window just the unbroken run of acks at its front; the rest is in the
 * table.
 */
#include "machine.h"

#include <assert.h>
#include <string.h>

enum {
    BUSY_RETRY_MS = 5,        /* the database is held by somebody else */
    BUSY_REPORT_MS = 10000,   /* held for so long, it is a trouble */
    LONG_BUSY_RETRY_MS = 250, /* and worth an attempt now and then only */
    TROUBLE_RETRY_MS = 1000   /* the database failed */
};

/* Which states may follow which: IDLE any of them, at the close. */
static const unsigned may_follow[OB_STATES] = {
    [OB_IDLE] = 1u << OB_CONNECTING | 1u << OB_BACKOFF | 1u << OB_IDLE,
    [OB_CONNECTING] = 1u << OB_ONLINE | 1u << OB_BACKOFF | 1u << OB_IDLE,
    [OB_ONLINE] = 1u << OB_BACKOFF | 1u << OB_IDLE,
    [OB_BACKOFF] = 1u << OB_CONNECTING | 1u << OB_BACKOFF | 1u << OB_IDLE,
};

/* ---- Time ------------------------------------------------------------------------------------ */

/* The low half of `now` is the port's clock as it was read last, so the difference is what has
 * passed since, over the wrap too. */
uint64_t ob_machine_clock(outbox_forwarder *f)
{
    f->now += (uint32_t)(f->port->now_ms(f->port->context) - (uint32_t)f->now);
    return f->now;
}

bool ob_machine_has_come(const outbox_forwarder *f, uint64_t at)
{
    return f->now >= at;
}

void ob_machine_sooner(const outbox_forwarder *f, uint64_t at, uint32_t *next_ms)
{
    uint64_t in = ob_machine_has_come(f, at) ? 0 : at - f->now;
    if (in < *next_ms)
        *next_ms = (uint32_t)in;
}

/* ---- Saying what is wrong -------------------------------------------------------------------- */

void ob_machine_say(const outbox_forwarder *f, outbox_level level, int code, const char *sentence)
{
    if (f->port->log)
        f->port->log(f->port->log_context, level, code, sentence);
}

/* Keeps the trouble for the statistics and logs it, unless the same was logged last. */
void ob_machine_trouble(outbox_forwarder *f, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(&f->error, code, format, arguments);
    va_end(arguments);
    if (f->logged.code != code || strcmp(f->logged.sentence, f->error.sentence) != 0)
        ob_machine_say(f, OUTBOX_LOG_WARNING, code, f->error.sentence);
    f->logged = f->error;
}

/* Everybody has to wait for the write lock now and then; who waits for ten seconds on end waits for
 * a transaction that somebody has forgotten. */
static void store_was_busy(outbox_forwarder *f)
{
    uint64_t now = ob_machine_clock(f);
    /* Nothing was asked of the database for as long: what it did meanwhile nobody knows. */
    bool anew = !f->store_is_busy || now > f->store_not_before + BUSY_REPORT_MS;
    if (anew)
        f->busy_since = now;
    f->store_is_busy = true;
    bool is_long = now - f->busy_since >= BUSY_REPORT_MS;
    f->store_not_before = now + (is_long ? LONG_BUSY_RETRY_MS : BUSY_RETRY_MS);
    if (!is_long)
        return;
    ob_machine_trouble(f, OUTBOX_BUSY,
                       "another connection has held the write lock of the database for over %d s; "
                       "what is delivered cannot be settled before it commits",
                       BUSY_REPORT_MS / 1000);
    f->store_is_in_trouble = true;
}

/* A failing database is tried again later; a busy one soon, and is no trouble at first. */
void ob_machine_store_failed(outbox_forwarder *f, int code)
{
    if (code == OUTBOX_BUSY) {
        store_was_busy(f);
        return;
    }
    f->store_not_before = ob_machine_clock(f) + TROUBLE_RETRY_MS;
    f->store_is_busy = false;
    if (code == OUTBOX_DISK_FULL) {
        f->disk_was_full = true;
        f->full_at = f->now;
    }
    f->is_moved = f->is_moved || code == OUTBOX_MOVED;
    ob_machine_trouble(f, code, "%s", f->store.error.sentence);
    f->store_is_in_trouble = true;
}

/* A refused event that still waits is what the operator must see then. */
void ob_machine_clear_trouble(outbox_forwarder *f)
{
    f->store_is_in_trouble = false;
    for (int i = OUTBOX_LANES - 1; i >= 0; i--) {
        if (!f->lane[i].refusal.alone_id)
            continue;
        ob_machine_trouble(f, OUTBOX_REFUSED, "%s", f->lane[i].refusal.error.sentence);
        return;
    }
    for (int i = OUTBOX_LANES - 1; i >= 0; i--) {
        if (!f->lane[i].damage.from)
            continue;
        ob_machine_trouble(f, OUTBOX_CORRUPT, "%s", f->lane[i].damage.error.sentence);
        return;
    }
    if (f->drift.code != OUTBOX_OK) {
        ob_machine_trouble(f, f->drift.code, "%s", f->drift.sentence);
        return;
    }
    ob_error_clear(&f->error);
    ob_error_clear(&f->logged);
}

void ob_machine_store_works(outbox_forwarder *f)
{
    f->store_is_busy = false;
    if (!f->store_is_in_trouble)
        return;
    ob_machine_say(f, OUTBOX_LOG_INFO, OUTBOX_OK, "the database works again");
    ob_machine_clear_trouble(f);
}

/* ---- Lanes ----------------------------------------------------------------------------------- */

unsigned ob_machine_in_flight(const outbox_forwarder *f)
{
    return f->lane[OUTBOX_NORMAL].window.in_flight + f->lane[OUTBOX_URGENT].window.in_flight;
}

const struct ob_ledger *ob_machine_head(const outbox_forwarder *f, const struct ob_lane *lane)
{
    return f->store.table[lane->number].head;
}

/* ---- States ---------------------------------------------------------------------------------- */

uint32_t ob_machine_due(const outbox_forwarder *f, const struct ob_lane *lane)
{
    uint32_t count = ob_damage_before(lane, ob_window_settleable(&lane->window));
    return count < f->settle_limit ? count : f->settle_limit;
}

bool ob_machine_is_settled(const outbox_forwarder *f)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (ob_machine_due(f, &f->lane[i]) > 0)
            return false;
    return true;
}

void ob_machine_check(const outbox_forwarder *f)
{
    assert(f->state < OB_STATES);
    assert(f->state == OB_ONLINE || ob_machine_in_flight(f) == 0);
    assert(ob_machine_in_flight(f) <= f->config.window);
    (void)f;
}

void ob_machine_enter(outbox_forwarder *f, enum ob_state state)
{
    assert(may_follow[f->state] >> state & 1);
    (void)may_follow; /* without assertions */
    f->state = state;
    f->since = f->now;
    ob_machine_check(f);
}

/* Full jitter: anything from 0 to a bound that doubles with the attempts, so that a fleet does not
 * come back at once. */
uint32_t ob_machine_pause_length(const outbox_forwarder *f, unsigned attempts)
{
    uint32_t bound = f->config.backoff_min_ms;
    for (unsigned i = 0; i < attempts && bound < f->config.backoff_max_ms; i++)
        bound *= 2;
    if (bound > f->config.backoff_max_ms)
        bound = f->config.backoff_max_ms;
    return f->port->random(f->port->context) % (bound + 1);
}

/* What is acked in an unbroken run stays to be settled; the rest is void. */
static void void_lane(outbox_forwarder *f, struct ob_lane *lane)
{
    ob_damage_release(lane);
    ob_window_keep(&lane->window, ob_damage_before(lane, ob_window_settleable(&lane->window)));
    ob_damage_forget(lane);
    lane->buffer.used = 0;
    uint32_t kept = ob_window_count(&lane->window);
    lane->cursor =
        kept > 0 ? ob_window_at(&lane->window, kept - 1)->id : ob_machine_head(f, lane)->id;
    lane->waits_for_acks = false;
}

void ob_machine_drop_link(outbox_forwarder *f)
{
    f->link->methods->close(f->link);
    ob_fire_drop(f);
    for (int i = 0; i < OUTBOX_LANES; i++)
        void_lane(f, &f->lane[i]);
}

static bool has_link(const outbox_forwarder *f)
{
    return (f->state == OB_CONNECTING || f->state == OB_ONLINE) && f->link->methods->version >= 2;
}

/* Before the database is written to, which takes its time. */
void ob_machine_flush_link(outbox_forwarder *f)
{
    if (has_link(f) && f->link->methods->flush)
        f->link->methods->flush(f->link);
}

void ob_machine_next_link(outbox_forwarder *f, uint32_t *next_ms)
{
    if (!has_link(f) || !f->link->methods->next_ms)
        return;
    uint32_t ms = f->link->methods->next_ms(f->link);
    if (ms != OUTBOX_NEVER)
        ob_machine_sooner(f, f->now + ms, next_ms);
}

/* The pauses grow shorter only after progress, not at a CONNACK alone: a server that accepts and
 * then throws us out must not be hammered. */
void ob_machine_back_off(outbox_forwarder *f)
{
    if (f->state == OB_ONLINE) {
        f->stats.disconnects++;
        if (f->now - f->since >= f->config.backoff_max_ms)
            f->attempts = 0; /* it was a good connection */
    }
    ob_machine_drop_link(f);
    f->backoff_ms = ob_machine_pause_length(f, f->attempts);
    f->attempts++;
    ob_machine_enter(f, OB_BACKOFF);
}

void ob_machine_connect(outbox_forwarder *f)
{
    outbox_link_event event = {.kind = OUTBOX_LINK_CLOSED};
    if (f->link->methods->open(f->link) == OUTBOX_LINK_OK) {
        ob_machine_enter(f, OB_CONNECTING);
        return;
    }
    bool told = f->link->methods->poll(f->link, &event) == OUTBOX_LINK_OK && event.sentence[0];
    ob_machine_trouble(f, OUTBOX_LINK, "%s",
                       told ? event.sentence : "the connection could not be opened");
    ob_machine_back_off(f);
}

/* Some of the events that left may be our own: a COMMIT can fail and have happened all the same. In
 * every case they are counted, and must be neither settled nor sent again. */
void ob_machine_advance(outbox_forwarder *f, struct ob_lane *lane)
{
    int64_t id = ob_machine_head(f, lane)->id;
    ob_window_passed(&lane->window, id);
    ob_damage_passed(f, lane, id);
    if (lane->cursor < id)
        lane->cursor = id;
    lane->more = true;
    lane->waits_for_acks = false; /* what waited may be gone */
    if (lane->refusal.alone_id && lane->refusal.alone_id <= id)
        ob_refusal_passed(f, lane);
    if (lane->refusal.dead_id <= id)
        lane->refusal.dead_id = 0;
    if (lane->flush_id <= id)
        lane->flush_id = 0;
}

/* The events behind the tombstone are not those that were read: begin again. Where something is in
 * flight its PUBACK must not be taken for another event's, so the connection ends too. */
void ob_machine_start_over(outbox_forwarder *f, struct ob_lane *lane)
{
    bool in_flight = lane->window.in_flight > 0;
    ob_window_keep(&lane->window, 0);
    lane->buffer.used = 0;
    lane->more = lane->must_be_measured = true;
    lane->waits_for_acks = false;
    memset(&lane->damage, 0, sizeof lane->damage);
    lane->refusal.dead_id = 0;
    if (lane->refusal.alone_id)
        ob_refusal_passed(f, lane); /* if it is still there, it will be refused again */
    lane->flushed_id = 0;
    lane->group = (struct ob_group){0, 0};
    if (in_flight)
        ob_machine_back_off(f);
    lane->cursor = ob_machine_head(f, lane)->id;
}

void ob_machine_follow_head(outbox_forwarder *f, struct ob_lane *lane, enum ob_head head)
{
    if (head == OB_HEAD_ADVANCED) {
        ob_machine_advance(f, lane);
        return;
    }
    ob_machine_say(f, OUTBOX_LOG_WARNING, OUTBOX_OK,
                   "the outbox was changed by hand or restored; a new epoch begins");
    ob_machine_start_over(f, lane);
}
