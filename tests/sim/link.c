/* SPDX-License-Identifier: MIT
 *
 * link.c - one MQTT connection as the core sees it, and the broker at its other end.
 *
 * Two queues with delays: what was published, and what the core will be told. When a connection
 * ends, some of the front of what is on its way still arrives: so the broker may have an event
 * whose PUBACK is lost. A token belongs to one connection.
 */
#include "sim.h"

#include <assert.h>
#include <string.h>

enum { STALL_NOTICED_US = 45 * 1000000, UNKNOWN_TOKEN = 0x7fffff00 };
#define NO_TOKEN UINT32_MAX

static bool is_now(const struct sim *sim, uint64_t until)
{
    return sim->device.now_us < until;
}

unsigned link_unacked(const struct link *link)
{
    unsigned count = 0;
    for (int i = 0; i < OUTBOX_LANES; i++)
        count += link->unacked[i];
    return count;
}

static void forget_unacked(struct link *link)
{
    memset(link->unacked, 0, sizeof link->unacked);
    turns_connected(link->sim);
}

static uint64_t delay(struct sim *sim)
{
    return 500 + sim_choose(&sim->choices, TAG_LINK, sim->settings.latency_us);
}

/* ---- What the core is told ------------------------------------------------------------------- */

static void push_down(struct link *link, outbox_link_event event, uint64_t due, uint32_t answers)
{
    assert(link->down_end - link->down_first < QUEUE);
    uint32_t last = link->down_end - 1;
    if (link->down_end != link->down_first && due < link->down[last % QUEUE].due)
        due = link->down[last % QUEUE].due; /* one stream of bytes: nothing overtakes */
    link->down[link->down_end++ % QUEUE] =
        (struct down){.event = event, .due = due, .answers = answers};
    node_wake(link->sim, due);
}

static void push_ack(struct sim *sim, uint32_t token, int reason, uint64_t due, uint32_t event)
{
    outbox_link_event ack = {.kind = OUTBOX_LINK_ACKED, .token = token, .reason = reason};
    push_down(&sim->link, ack, due, event);
}

static void push_closed(struct sim *sim, int reason, bool by_peer, const char *why, uint64_t due)
{
    outbox_link_event closed = {.kind = OUTBOX_LINK_CLOSED, .reason = reason, .by_peer = by_peer};
    sqlite3_snprintf(sizeof closed.sentence, closed.sentence, "%s", why);
    push_down(&sim->link, closed, due, 0);
}

/* ---- The broker ------------------------------------------------------------------------------ */

static int refusal(struct sim *sim)
{
    static const int reasons[] = {0x80, 0x83, 0x87, 0x90, 0x97, 0x99, 0x95};
    return reasons[sim_choose(&sim->choices, TAG_BROKER, sizeof reasons / sizeof reasons[0])];
}

static void answer_probe(struct sim *sim, uint64_t at)
{
    trace_event(sim, "probe", 0, 0);
    push_down(&sim->link, (outbox_link_event){.kind = OUTBOX_LINK_ALIVE}, at + delay(sim), 0);
}

/* There are events that it takes from nobody. Announcements come when all else is sent, and nobody
 * waits for them then. */
static bool is_poison(const struct sim *sim, uint32_t event)
{
    const struct poison *poison = &sim->settings.poison;
    bool outlasts = poison->outlasts && sim->model.events[event - 1].body != BODY_ANNOUNCEMENT;
    return (sim->phase == PHASE_CHAOS || outlasts) && event % 16 < poison->of_16;
}

/* Some brokers answer what they do not want with nothing. */
static bool loses_ack(struct sim *sim, bool is_poisoned)
{
    bool is_muted = is_poisoned && sim->phase == PHASE_CHAOS && sim->settings.poison.is_mute &&
                    sim_choose(&sim->choices, TAG_FEATURE, 2) == 1;
    return is_muted ||
           (is_now(sim, sim->link.drop_until) && sim_chance(&sim->choices, TAG_BROKER, 100));
}

static void hang_up_on(struct sim *sim, struct model_event *e)
{
    tell(sim, "the broker hangs up on " EVENT, EVENT_OF(e));
    e->hangups++;
    sim->link.talk.lanes[e->lane].refused_one = true;
    sim->link.hangs_up = true;
}

/* A PUBLISH or a probe arrives. */
static void receive(struct sim *sim, const struct up *publish, uint64_t at)
{
    struct link *link = &sim->link;
    if (link->hangs_up)
        return; /* nothing is read any more */
    if (publish->event == 0) {
        answer_probe(sim, at);
        return;
    }
    struct model_event *e = model_event(&sim->model, publish->event);
    bool is_poisoned = is_poison(sim, publish->event);
    if (is_poisoned && sim->settings.poison.reason == 0) {
        hang_up_on(sim, e);
        return;
    }
    bool refuses = is_poisoned ||
                   (is_now(sim, link->refuse_until) && sim_chance(&sim->choices, TAG_BROKER, 150));
    int reason = is_poisoned ? sim->settings.poison.reason : refuses ? refusal(sim) : 0;
    if (refuses) {
        link->talk.lanes[e->lane].refused_one = true;
        tell(sim, "the broker refuses " EVENT " with 0x%02x", EVENT_OF(e), (unsigned)reason);
    } else {
        oracle_accepted(sim, &link->talk, publish->event);
        link->acceptances++;
        link->fruitless = 0;
        if (is_now(sim, link->stray_until) && sim_chance(&sim->choices, TAG_BROKER, 200))
            reason = 0x10; /* success, nobody listens */
    }
    trace_event(sim, "receive", publish->event, (uint64_t)reason);
    if (loses_ack(sim, is_poisoned)) {
        link->lost_acks = true;
        tell(sim, "the PUBACK of " EVENT " is lost", EVENT_OF(e));
        return;
    }
    uint64_t due = at + delay(sim);
    if (is_now(sim, link->hold_until))
        due += sim_choose(&sim->choices, TAG_BROKER, 5000000);
    push_ack(sim, publish->token, reason, due, publish->event);
    if (!is_now(sim, link->stray_until))
        return;
    if (sim_chance(&sim->choices, TAG_BROKER, 200))
        push_ack(sim, publish->token, reason, due + 100, publish->event);
    if (sim_chance(&sim->choices, TAG_BROKER, 200))
        push_ack(sim, UNKNOWN_TOKEN, 0, due + 200, 0);
    if (link->acked_token != NO_TOKEN && sim_chance(&sim->choices, TAG_BROKER, 200))
        push_ack(sim, link->acked_token, 0, due + 300, 0);
}

static void answer_connect(struct sim *sim)
{
    struct link *link = &sim->link;
    outbox_link_event opened = {.kind = OUTBOX_LINK_OPENED,
                                .receive_maximum = is_now(sim, link->window_until) ? 1 : 65535,
                                .maximum_packet = is_now(sim, link->small_until) ? 442 : 0,
                                .maximum_qos = is_now(sim, link->qos_until) ? 0 : 1,
                                .protocol = 5};
    uint64_t due = sim->device.now_us + 2 * delay(sim);
    static const int reasons[] = {0x88, 0x89, 0x97, 0x9f, 0x86, 0x87};
    if (is_now(sim, link->hang_until))
        return;
    if (is_now(sim, link->down_until))
        push_closed(sim, reasons[sim_choose(&sim->choices, TAG_BROKER, 6)], false, "refused", due);
    else
        push_down(link, opened, due, 0);
}

/* ---- The ends of a connection ---------------------------------------------------------------- */

/* Some of the front of what is on its way up still arrives. */
static void flush_up(struct sim *sim)
{
    struct link *link = &sim->link;
    uint32_t waiting = link->up_end - link->up_first;
    uint32_t lost = sim_choose(&sim->choices, TAG_LINK, waiting + 1);
    for (uint32_t i = 0; i < waiting - lost; i++)
        receive(sim, &link->up[link->up_first++ % QUEUE], sim->device.now_us);
    if (waiting > 0)
        trace_event(sim, "flush", waiting, lost);
    link->up_first = link->up_end = 0;
}

static void lose(struct sim *sim, int reason, bool by_peer, const char *why)
{
    struct link *link = &sim->link;
    if (!link->is_open)
        return;
    tell(sim, "the connection ends: %s", why);
    by_peer = by_peer && link->is_up;
    if (link->is_up)
        flush_up(sim);
    link->is_up = false;
    /* Of the answers the front arrives as well, then the end. */
    uint32_t waiting = link->down_end - link->down_first;
    link->down_end -= sim_choose(&sim->choices, TAG_LINK, waiting + 1);
    push_closed(sim, reason, by_peer, why, sim->device.now_us);
    link->is_stalled = false;
}

void link_hang_up(struct sim *sim, int reason, const char *why)
{
    /* Over a silent line it cannot be heard: for the device that ends as a time-out. */
    lose(sim, reason, !sim->link.is_stalled, why);
}

void link_lose(struct sim *sim, const char *why)
{
    lose(sim, 0, false, why);
}

static void end(struct sim *sim)
{
    struct link *link = &sim->link;
    if (link->is_up)
        flush_up(sim);
    link->is_open = link->is_up = link->is_stalled = link->is_probed = link->hangs_up = false;
    link->down_first = link->down_end = 0;
    forget_unacked(link);
}

void link_reset(struct sim *sim)
{
    end(sim);
}

/* ---- Calls of the core ----------------------------------------------------------------------- */

/* I10: the pauses are random between 0 and a bound that doubles. Twelve attempts without any
 * progress behind the doublings take, but once in a hundred million runs, more than one such
 * bound. */
static void check_calm(struct sim *sim)
{
    struct link *link = &sim->link;
    uint64_t bound_us = (uint64_t)sim->settings.forwarder.backoff_max_ms * 1000;
    uint64_t *oldest = &link->opened_at[link->opens % 16];
    if (link->fruitless >= 26 && sim->device.now_us - *oldest < bound_us)
        breaks(sim, CALM, "16 attempts to connect in %u ms",
               (unsigned)((sim->device.now_us - *oldest) / 1000));
    *oldest = sim->device.now_us;
    link->opens++;
    link->fruitless++;
}

static outbox_link_result on_open(outbox_link *base)
{
    struct link *link = (struct link *)base;
    struct sim *sim = link->sim;
    if (link->is_open)
        breaks(sim, CONTRACT, "the link is opened twice");
    end(sim);
    check_calm(sim);
    rest_check_open(sim);
    link->talk = (struct talk){.connection = ++sim->connections, .db = sim->node.db};
    link->acked_token = NO_TOKEN;
    trace_event(sim, "open", link->talk.connection, 0);
    if (is_now(sim, link->down_until) && sim_chance(&sim->choices, TAG_LINK, 300))
        return OUTBOX_LINK_DOWN;
    link->is_open = true;
    answer_connect(sim);
    return OUTBOX_LINK_OK;
}

/* Which event the core wants to send is of no matter before it can. */
static void too_large(struct sim *sim, const outbox_message *message)
{
    struct link *link = &sim->link;
    struct wire wire = {0};
    outbox_lane lane;
    if (!wire_read(sim, message, NULL, &wire) || !wire_lane(&wire, &lane)) {
        breaks(sim, NO_INVENTION, "a message cannot be read");
        return;
    }
    link->talk.lanes[lane].refused_one = true;
    uint32_t event = model_owner(&sim->model, lane, wire.id);
    if (event && link_unacked(link) == 0) /* else it is tried again once these are acknowledged */
        turns_refused(sim, event, 0x95);
    (void)sqlite3_reset(sim->reads_document);
}

static void push_up(struct link *link, uint32_t token, uint32_t event)
{
    assert(link->up_end - link->up_first < QUEUE);
    uint64_t due = link->sim->device.now_us + delay(link->sim);
    uint32_t last = link->up_end - 1;
    if (link->up_end != link->up_first && due < link->up[last % QUEUE].due)
        due = link->up[last % QUEUE].due;
    link->up[link->up_end++ % QUEUE] = (struct up){.token = token, .event = event, .due = due};
}

static outbox_link_result on_publish(outbox_link *base, uint32_t token,
                                     const outbox_message *message)
{
    struct link *link = (struct link *)base;
    struct sim *sim = link->sim;
    if (!link->is_open || !sim->device.powered || !sim->device.is_alive[PROCESS_FORWARDER])
        return OUTBOX_LINK_DOWN;
    if (is_now(sim, link->room_until) && sim_chance(&sim->choices, TAG_LINK, 700))
        return OUTBOX_LINK_AGAIN;
    if (link->maximum_packet && message->payload_len + 60 > link->maximum_packet) {
        too_large(sim, message);
        return OUTBOX_LINK_TOO_LARGE;
    }
    uint32_t event = oracle_published(sim, &link->talk, message);
    if (event == 0)
        return OUTBOX_LINK_DOWN;
    const struct model_event *e = model_event(&sim->model, event);
    tell(sim, EVENT " is sent", EVENT_OF(e));
    turns_published(sim, event);
    rest_check_publish(sim, e, message);
    link->publishes++;
    link->unacked[e->lane]++;
    oracle_sent(sim, event);
    trace_event(sim, "publish", event, token);
    if (link_unacked(link) > link->receive_maximum)
        breaks(sim, CALM, "%u events are in flight, the server takes %u", link_unacked(link),
               link->receive_maximum);
    if (link->is_up) /* else the network is gone, and nobody has noticed yet */
        push_up(link, token, event);
    return OUTBOX_LINK_OK;
}

/* Repeated answers do not count. */
static void told_of_ack(struct sim *sim, const struct down *down)
{
    struct link *link = &sim->link;
    const struct model_event *e = model_event(&sim->model, down->answers);
    link->acked_token = down->event.token;
    link->unacked[e->lane] -= link->unacked[e->lane] > 0;
    if (down->event.reason >= 0x80) {
        turns_refused(sim, down->answers, down->event.reason);
    } else {
        turns_acked(sim, down->answers);
        oracle_heard(sim, down->answers);
    }
    tell(sim, "PUBACK of " EVENT ", reason 0x%02x", EVENT_OF(e), (unsigned)down->event.reason);
}

static outbox_link_result on_poll(outbox_link *base, outbox_link_event *event)
{
    struct link *link = (struct link *)base;
    struct sim *sim = link->sim;
    if (link->down_first == link->down_end || link->is_stalled ||
        link->down[link->down_first % QUEUE].due > sim->device.now_us)
        return OUTBOX_LINK_AGAIN;
    const struct down *down = &link->down[link->down_first++ % QUEUE];
    *event = down->event;
    trace_event(sim, "poll", (uint64_t)event->kind, event->token);
    if (event->kind == OUTBOX_LINK_OPENED) {
        link->is_up = true;
        unsigned mean_ms = sim->phase == PHASE_CHAOS ? sim->settings.poison.hangs_up_ms : 0;
        link->ends_at = NEVER;
        if (mean_ms > 0)
            link->ends_at =
                sim->device.now_us + sim_choose(&sim->choices, TAG_FEATURE, 2000 * mean_ms);
        forget_unacked(link);
        link->receive_maximum = event->receive_maximum;
        link->maximum_packet = event->maximum_packet;
        tell(sim, "connection %u is up", link->talk.connection);
    } else if (event->kind == OUTBOX_LINK_CLOSED) {
        link->is_open = link->is_up = false;
        forget_unacked(link);
    } else if (event->kind == OUTBOX_LINK_ALIVE) {
        link->is_probed = false;
        tell(sim, "the broker shows that it is alive");
    } else if (down->answers && event->token != link->acked_token) {
        told_of_ack(sim, down);
    }
    return OUTBOX_LINK_OK;
}

static void on_close(outbox_link *base)
{
    struct link *link = (struct link *)base;
    if (link->is_open)
        trace_event(link->sim, "close", link->talk.connection, 0);
    link->was_left = link->is_up;
    end(link->sim);
}

static outbox_link_result on_probe(outbox_link *base)
{
    struct link *link = (struct link *)base;
    struct sim *sim = link->sim;
    if (!link->is_open || !sim->device.powered || !sim->device.is_alive[PROCESS_FORWARDER])
        return OUTBOX_LINK_DOWN;
    if (!link->is_up || link->is_probed)
        return OUTBOX_LINK_AGAIN;
    if (is_now(sim, link->room_until) && sim_chance(&sim->choices, TAG_LINK, 700))
        return OUTBOX_LINK_AGAIN;
    tell(sim, "the broker is asked for a sign of life");
    link->is_probed = true;
    push_up(link, 0, 0);
    return OUTBOX_LINK_OK;
}

void link_init(struct sim *sim)
{
    static const outbox_link_methods methods = {.version = 1,
                                                .open = on_open,
                                                .publish = on_publish,
                                                .poll = on_poll,
                                                .close = on_close,
                                                .probe = on_probe};
    sim->link.base.methods = &methods;
    sim->link.sim = sim;
}

/* ---- Time ------------------------------------------------------------------------------------ */

uint64_t link_due(const struct sim *sim)
{
    const struct link *link = &sim->link;
    if (link->is_stalled)
        return link->stall_noticed;
    uint64_t due = link->up_first == link->up_end ? NEVER : link->up[link->up_first % QUEUE].due;
    return link->is_up && link->ends_at < due ? link->ends_at : due;
}

void link_stall(struct sim *sim)
{
    struct link *link = &sim->link;
    if (!link->is_up || link->is_stalled)
        return;
    tell(sim, "the connection goes silent");
    link->is_stalled = true;
    link->stall_noticed = sim->device.now_us + STALL_NOTICED_US;
}

void link_step(struct sim *sim)
{
    struct link *link = &sim->link;
    if (link->is_stalled) {
        if (sim->device.now_us >= link->stall_noticed)
            link_lose(sim, "no answer to a ping");
        return;
    }
    while (link->up_first != link->up_end &&
           link->up[link->up_first % QUEUE].due <= sim->device.now_us) {
        struct up publish = link->up[link->up_first++ % QUEUE];
        receive(sim, &publish, sim->device.now_us);
    }
    if (link->is_up && sim->device.now_us >= link->ends_at)
        link_hang_up(sim, 0, "the other side ends it");
    if (link->hangs_up && link->is_up)
        link_hang_up(sim, 0, "the broker does not like what it got");
}

void link_heal(struct sim *sim)
{
    struct link *link = &sim->link;
    link->down_until = link->hang_until = link->refuse_until = link->hold_until = 0;
    link->drop_until = link->small_until = link->window_until = link->qos_until = 0;
    link->room_until = link->stray_until = 0;
    if (link->is_stalled || link->maximum_packet)
        link_lose(sim, "the network is repaired");
}
