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
    EVENTS_MAX = 2048,       /* link events of one step */
    BLOCKED_MS = 100,        /* until a look whether the application's transaction has ended */
    LONGEST_SLEEP = 1u << 29 /* 6 days: far below the 49 after which the port's clock wraps */
};

/* ---- What the link says ---------------------------------------------------------------------- */

static void expect_more(outbox_forwarder *f)
{
    f->must_look_for_drift = true;
    for (int i = 0; i < OUTBOX_LANES; i++)
        f->lane[i].more = true;
}

/* What no event could be sent over, or only as something else than was asked for. */
static bool is_useless(outbox_forwarder *f, const outbox_link_event *event)
{
    if (event->maximum_qos < 1)
        ob_machine_trouble(f, OUTBOX_LINK, "the broker does not take QoS 1 (Maximum QoS 0)");
    else if (event->protocol < 5 && f->config.mode == OUTBOX_BINARY)
        ob_machine_trouble(
            f, OUTBOX_LINK,
            "the broker speaks MQTT 3.1.1, which has no user properties, so no binary "
            "mode; forward in structured mode");
    else
        return false;
    return true;
}

static void on_opened(outbox_forwarder *f, const outbox_link_event *event)
{
    char sentence[80];
    if (f->state != OB_CONNECTING)
        return;
    f->receive_maximum = event->receive_maximum ? event->receive_maximum : 1;
    f->stats.connects++;
    ob_refusal_opened(f);
    expect_more(f);
    f->looked_at = f->now;
    /* The claim of a commit is about the rows that were there then. A connection reads from the
     * front again, and a writer that does not sync may have filled a hole or begun an epoch
     * meanwhile. */
    memset(f->store.durable_id, 0, sizeof f->store.durable_id);
    if (!f->store_is_in_trouble)
        ob_machine_clear_trouble(f);
    ob_machine_enter(f, OB_ONLINE);
    if (is_useless(f, event)) {
        ob_machine_back_off(f);
        return;
    }
    sqlite3_snprintf((int)sizeof sentence, sentence, "connected with MQTT %s, window %u",
                     event->protocol == 5 ? "5" : "3.1.1",
                     f->receive_maximum < f->config.window ? f->receive_maximum : f->config.window);
    ob_machine_say(f, OUTBOX_LOG_INFO, OUTBOX_OK, sentence);
}

static void broker_takes_events(outbox_forwarder *f)
{
    f->attempts = 0;
    f->acked_one = true;
    f->hangups = 0;
}

/* Its row left the table in the meantime: whatever was said of it, it is done. But those behind it
 * name it as the one before, and a recipient that has not got it waits for it: they are sent
 * again. */
static void on_late_answer(outbox_forwarder *f, struct ob_lane *lane, int reason)
{
    if (reason < 0x80) {
        broker_takes_events(f);
        return;
    }
    f->stats.refusals++;
    ob_machine_trouble(f, OUTBOX_LINK,
                       "the broker refuses an event (reason 0x%02x) that has left the outbox "
                       "meanwhile; those behind it are sent again",
                       (unsigned)reason);
    ob_window_keep(&lane->window, 0);
    ob_machine_back_off(f);
}

/* The link's token holds the lane in its lowest bit. */
static void on_acked(outbox_forwarder *f, const outbox_link_event *event)
{
    struct ob_lane *lane = &f->lane[event->token % OUTBOX_LANES];
    uint32_t token = event->token / OUTBOX_LANES;
    if (ob_window_let_go(&lane->window, token)) {
        on_late_answer(f, lane, event->reason);
        return;
    }
    struct ob_entry *entry = ob_window_find(&lane->window, token);
    if (!entry)
        return; /* unknown, old or repeated: it says nothing about an event */
    if (event->reason >= 0x80) {
        ob_refusal_of(f, lane, entry->id, event->reason);
        return;
    }
    if (ob_window_settleable(&lane->window) == 0)
        lane->unsettled_since = f->now;
    ob_window_acked(&lane->window, entry);
    f->stats.acknowledged++;
    lane->acked_at = f->now;
    broker_takes_events(f);
    ob_refusal_acked(f, lane, entry->id);
}

static bool holds_one(const outbox_forwarder *f)
{
    return f->lane[OUTBOX_NORMAL].refusal.alone_id || f->lane[OUTBOX_URGENT].refusal.alone_id;
}

static void on_closed(outbox_forwarder *f, const outbox_link_event *event)
{
    if (f->state != OB_CONNECTING && f->state != OB_ONLINE)
        return;
    /* While an event is refused, that is what the operator must see. */
    if (!holds_one(f) || f->state == OB_CONNECTING)
        ob_machine_trouble(f, OUTBOX_LINK, "%s", event->sentence);
    if (f->state == OB_ONLINE)
        ob_refusal_after_loss(f, event->by_peer != 0);
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
        case OUTBOX_LINK_ALIVE:
            ob_refusal_alive(f);
            break;
        }
    }
    f->full_step = true;
}

/* ---- The step -------------------------------------------------------------------------------- */

static const struct ob_entry *oldest_in_flight(const outbox_forwarder *f)
{
    const struct ob_entry *a = ob_window_oldest_in_flight(&f->lane[OUTBOX_NORMAL].window);
    const struct ob_entry *b = ob_window_oldest_in_flight(&f->lane[OUTBOX_URGENT].window);
    return !b || (a && a->sent_ms <= b->sent_ms) ? a : b;
}

static void watch_acks(outbox_forwarder *f)
{
    if (ob_machine_in_flight(f) == 0 || !ob_machine_has_come(f, f->watch_at))
        return;
    const struct ob_entry *oldest = oldest_in_flight(f);
    f->watch_at = oldest->sent_ms + f->config.ack_timeout_ms;
    if (!ob_machine_has_come(f, f->watch_at))
        return;
    ob_machine_trouble(f, OUTBOX_LINK, "no PUBACK for event %lld in %u ms; connecting anew",
                       (long long)oldest->id, f->config.ack_timeout_ms);
    ob_refusal_after_loss(f, false);
    ob_machine_back_off(f);
}

static void await_reason(outbox_forwarder *f)
{
    if (ob_rest_is_over(f))
        ob_machine_connect(f);
}

static void await_answer(outbox_forwarder *f)
{
    if (!ob_machine_has_come(f, f->since + f->config.connect_timeout_ms))
        return;
    ob_machine_trouble(f, OUTBOX_LINK, "the broker did not answer in %u ms",
                       f->config.connect_timeout_ms);
    ob_machine_back_off(f);
}

static void work_online(outbox_forwarder *f)
{
    watch_acks(f);
    ob_refusal_probe(f);
    ob_fire_send(f);
    ob_drain_send(f);
    if (f->state == OB_ONLINE && ob_rest_begins(f))
        ob_rest(f);
}

static void await_next_attempt(outbox_forwarder *f)
{
    if (!ob_machine_has_come(f, f->since + f->backoff_ms))
        return;
    if (ob_rest_is_possible(f))
        ob_rest(f); /* there may be no reason any more */
    else
        ob_machine_connect(f);
}

static void (*const act[OB_STATES])(outbox_forwarder *f) = {
    [OB_IDLE] = await_reason,
    [OB_CONNECTING] = await_answer,
    [OB_ONLINE] = work_online,
    [OB_BACKOFF] = await_next_attempt,
};

static uint32_t next_step(outbox_forwarder *f)
{
    uint32_t next = LONGEST_SLEEP;
    (void)ob_machine_clock(f);
    if (f->full_step)
        return 0;
    if (f->state == OB_CONNECTING)
        ob_machine_sooner(f, f->since + f->config.connect_timeout_ms, &next);
    if (f->state == OB_BACKOFF)
        ob_machine_sooner(f, f->since + f->backoff_ms, &next);
    ob_machine_next_link(f, &next);
    if (ob_machine_in_flight(f) > 0)
        ob_machine_sooner(f, f->watch_at, &next);
    if (f->state == OB_ONLINE)
        ob_refusal_next(f, &next);
    ob_fire_next(f, &next);
    ob_rest_next(f, &next);
    /* Inside a transaction of a shared connection there is nothing to do with the table. Its end
     * need not be told: it may be a ROLLBACK, or a COMMIT without any put. */
    if (ob_store_is_blocked(&f->store))
        ob_machine_sooner(f, f->now + BLOCKED_MS, &next);
    else
        ob_drain_next(f, &next);
    return next;
}

int outbox_forwarder_step(outbox_forwarder *f, uint32_t *next_ms)
{
    sqlite3_int64 rowid = sqlite3_last_insert_rowid(f->store.db); /* it may be the application's */
    (void)ob_machine_clock(f);
    f->full_step = false;
    take_events(f);
    ob_drain_keep_house(f);
    act[f->state](f);
    ob_machine_flush_link(f);
    ob_drain_settle(f);
    ob_machine_check(f);
    sqlite3_set_last_insert_rowid(f->store.db, rowid);
    *next_ms = next_step(f);
    return f->error.code;
}

void outbox_forwarder_committed(outbox_forwarder *f, const int64_t durable[OUTBOX_LANES])
{
    expect_more(f);
    f->active_at = ob_machine_clock(f);
    for (int i = 0; i < OUTBOX_LANES && durable; i++)
        if (durable[i] > f->store.durable_id[i])
            f->store.durable_id[i] = durable[i];
}

void outbox_forwarder_look(outbox_forwarder *f, int again)
{
    f->looks = again ? 0 : OB_LOOKS - 1;
    f->look_from = ob_machine_clock(f);
}

void outbox_forwarder_retry(outbox_forwarder *f)
{
    if (!f->store_is_in_trouble)
        return;
    f->store_not_before = f->settle_not_before = ob_machine_clock(f);
    f->checkpoint_not_before = f->now;
}

void outbox_forwarder_flush(outbox_forwarder *f, const int64_t last[OUTBOX_LANES])
{
    expect_more(f);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        struct ob_lane *lane = &f->lane[i];
        const struct ob_table *table = &f->store.table[i];
        if (last[i] > lane->flush_id && (!table->head_is_known || last[i] > table->head->id))
            lane->flush_id = last[i];
    }
}
