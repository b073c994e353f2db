/* SPDX-License-Identifier: MIT
 *
 * rest.c - when the forwarder may be connected, and how fast it may send: the gate, batches, the
 * pace (I10).
 */
#include "sim.h"

#include <string.h>

enum { COMMIT_US = 500000 /* between the moment others see it and its end */ };

static const outbox_forwarder_config *config_of(const struct sim *sim)
{
    return &sim->settings.forwarder;
}

void rest_begin(struct sim *sim)
{
    const outbox_pace *pace = &config_of(sim)->pace;
    sim->node.gate = OUTBOX_GATE_OPEN;
    sim->node.batch_runs = false;
    sim->node.state = OUTBOX_STATE_RESTING;
    sim->node.events_left = pace->events_per_s;
    sim->node.bytes_left = pace->bytes_per_s;
    sim->node.filled_at = sim->device.now_us;
}

void rest_set_gate(struct sim *sim, outbox_gate_state gate)
{
    static const char *const words[] = {"opened", "closed", "open for urgent events only"};
    if (!sim->node.forwarder)
        return;
    tell(sim, "the gate is %s", words[gate]);
    outbox_forwarder_gate(sim->node.forwarder, gate);
    sim->node.gate = gate;
    node_wake(sim, sim->device.now_us + 50);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

/* The most that may wait in the lane, as far as the world outside knows: ids may be holes. */
static int64_t count_waiting(struct sim *sim, outbox_lane number)
{
    const struct model_lane *lane = &sim->model.lanes[number];
    int64_t last = lane->passed;
    for (int64_t id = last + 1; (uint64_t)id < lane->owner_capacity; id++)
        if (lane->owner[id] && model_event(&sim->model, lane->owner[id])->fate != ABORTED)
            last = id;
    return last - lane->passed;
}

/* Whether no batch is under way, and what waits is neither old enough nor as many as a batch must
 * be. Of what is in doubt nobody knows how old it is. */
static bool is_too_early(struct sim *sim)
{
    int64_t waiting = count_waiting(sim, OUTBOX_NORMAL);
    const outbox_forwarder_config *config = config_of(sim);
    const struct model_lane *lane = &sim->model.lanes[OUTBOX_NORMAL];
    uint64_t batch_us = 1000000 * (uint64_t)config->batch_seconds, now_us = sim->device.now_us;
    if (sim->node.batch_runs || (config->batch_events > 0 && waiting >= config->batch_events) ||
        limit_of(sim, OUTBOX_NORMAL)->when_full == OUTBOX_EVICT_OLDEST)
        return false; /* those that it began to wait for may have left */
    for (int64_t id = lane->passed + 1; (uint64_t)id < lane->owner_capacity; id++) {
        const struct model_event *e =
            lane->owner[id] ? model_event(&sim->model, lane->owner[id]) : NULL;
        if (!e || e->fate == ABORTED || e->fate == ATTEMPTED)
            continue;
        if (e->fate == IN_DOUBT || now_us - e->since + COMMIT_US >= batch_us)
            return false;
    }
    return true;
}

void rest_check_open(struct sim *sim)
{
    const outbox_forwarder_config *config = config_of(sim);
    bool batches = config->batch_events > 0 || config->batch_seconds > 0;
    bool too_early = is_too_early(sim);
    sim->node.batch_runs = true; /* whatever it connects for */
    outbox_gate_state gate = sim->node.gate;
    if (gate == OUTBOX_GATE_CLOSED)
        breaks(sim, CALM, "the forwarder connects, and the gate is closed");
    if ((gate == OUTBOX_GATE_OPEN && !batches) || sim->was_meddled_with ||
        count_waiting(sim, OUTBOX_URGENT) > 0)
        return;
    int64_t waiting = count_waiting(sim, OUTBOX_NORMAL);
    if (gate == OUTBOX_GATE_URGENT_ONLY)
        breaks(sim, CALM, "the forwarder connects, and no urgent event waits");
    else if (waiting == 0 || too_early)
        breaks(sim, CALM, "the forwarder connects for %lld events", (long long)waiting);
}

/* Where the connection was lost the batch goes on: it is connected again without another wait, also
 * for what is put before that. */
void rest_after_step(struct sim *sim, outbox_state state)
{
    bool was_online = sim->node.state == OUTBOX_STATE_ONLINE;
    if (was_online && state == OUTBOX_STATE_RESTING && sim->node.gate == OUTBOX_GATE_OPEN &&
        sim->link.was_left && count_waiting(sim, OUTBOX_NORMAL) == 0)
        sim->node.batch_runs = false;
    sim->node.state = state;
}

/* ---- Sending --------------------------------------------------------------------------------- */

/* The forwarder reads its clock in whole milliseconds: somewhen in the step, which may take a
 * while. */
static double slack_of(unsigned rate)
{
    return rate * 0.003 + 0.01;
}

static double fill(double left, unsigned rate, uint64_t from, uint64_t to)
{
    left += to > from ? rate * ((double)(to - from) / 1e6) : 0;
    return left < rate ? left : rate;
}

static void check_pace(struct sim *sim, const outbox_message *message)
{
    const outbox_pace *pace = &config_of(sim)->pace;
    struct node *node = &sim->node;
    uint64_t from = node->filled_at, at = node->step_at > from ? node->step_at : from;
    double events = fill(node->events_left, pace->events_per_s, from, sim->device.now_us);
    double bytes = fill(node->bytes_left, pace->bytes_per_s, from, sim->device.now_us);
    if ((pace->events_per_s && events < 1 - slack_of(pace->events_per_s)) ||
        (pace->bytes_per_s && bytes < -slack_of(pace->bytes_per_s)))
        breaks(sim, CALM, "events are sent faster than the pace");
    node->filled_at = at;
    node->events_left = fill(node->events_left, pace->events_per_s, from, at) - 1;
    node->bytes_left = fill(node->bytes_left, pace->bytes_per_s, from, at) -
                       (double)(strlen(message->topic) + message->payload_len);
}

void rest_check_publish(struct sim *sim, const struct model_event *e, const outbox_message *message)
{
    outbox_gate_state gate = sim->node.gate;
    if (gate == OUTBOX_GATE_CLOSED || (gate == OUTBOX_GATE_URGENT_ONLY && e->lane != OUTBOX_URGENT))
        breaks(sim, CALM, EVENT " is sent through a gate that is closed for it", EVENT_OF(e));
    check_pace(sim, message);
}
