/* SPDX-License-Identifier: MIT
 *
 * turns.c - the lanes among each other: who may go now, who must, and who goes alone.
 *
 * Who must go depends on what the core can know: a foreign writer's event is found in a while, and
 * a database that fails or is held by others gives nothing. So that is judged in a calm only.
 */
#include "sim.h"

enum { RUN_MAX = 7, SLACK_MS = 50 };

void turns_begin(struct sim *sim)
{
    sim->link.turns = (struct turns){0};
}

/* In the rollback modes a writer that commits keeps the forwarder from reading. */
static bool is_calm(const struct sim *sim)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (limit_of(sim, (outbox_lane)i)->when_full == OUTBOX_EVICT_OLDEST)
            return false; /* what was read may have left, and is looked for again first */
    if (sim->node.gate != OUTBOX_GATE_OPEN)
        return false;
    return sim->settings.is_wal && !sim->was_meddled_with &&
           sim->device.now_us > sim->device.denied_until[PROCESS_FORWARDER];
}

/* Whether an event of the lane could be sent now, and the core must know. */
static bool waits(struct sim *sim, outbox_lane number)
{
    struct model *model = &sim->model;
    const struct model_lane *lane = &model->lanes[number];
    uint64_t until_known = 1000 * (uint64_t)(sim->settings.forwarder.foreign_check_ms + SLACK_MS);
    for (uint32_t order = lane->next; order <= lane->order_count; order++) {
        const struct model_event *e = model_at(model, lane, order);
        if (e->since + until_known > sim->device.now_us)
            return false;
        if (!e->is_accepted && !ledger_may_drop(sim, e) &&
            e->id > sim->link.talk.lanes[number].last_id)
            return order - 1 - lane->settled < oracle_ring(sim);
    }
    return false;
}

/* [lane-1]: of any eight sent while both lanes wait one is normal, and the others are urgent. */
static void check_turn(struct sim *sim, const struct model_event *e)
{
    struct turns *turns = &sim->link.turns;
    bool is_urgent = e->lane == OUTBOX_URGENT;
    bool keeps_waiting = is_calm(sim) && !turns->has_refused &&
                         waits(sim, is_urgent ? OUTBOX_NORMAL : OUTBOX_URGENT);
    if (!is_urgent && keeps_waiting && turns->urgent_run < RUN_MAX)
        breaks(sim, ORDER, EVENT " is sent behind %u urgent ones, and another one waits",
               EVENT_OF(e), turns->urgent_run);
    turns->urgent_run = is_urgent ? turns->urgent_run + 1 : 0;
    turns->over_waiting = is_urgent && keeps_waiting ? turns->over_waiting + 1 : 0;
    if (turns->over_waiting > RUN_MAX)
        breaks(sim, DRAIN, "%u urgent events are sent in a row, and a normal one waits",
               turns->over_waiting);
}

static bool knows_that_it_left(const struct sim *sim, outbox_lane lane, int64_t id)
{
    outbox_statistics now = {0};
    outbox_forwarder_stats(sim->node.forwarder, &now);
    return id <= now.sending[lane].settled_id;
}

/* [step-4]: what was refused goes alone, those ahead of it in its lane too. */
static void check_alone(struct sim *sim, const struct model_event *e)
{
    struct turns *turns = &sim->link.turns;
    for (int i = 0; i < OUTBOX_LANES; i++) {
        if (!turns->refused[i] || !knows_that_it_left(sim, (outbox_lane)i, turns->refused[i]))
            continue;
        turns->refused[i] = 0;
        turns->one_is_alone = false;
    }
    bool goes_alone = turns->refused[e->lane] != 0;
    if (sim->was_meddled_with)
        return; /* it may have left by another hand */
    if (turns->one_is_alone || (goes_alone && link_unacked(&sim->link) > 0))
        breaks(sim, CALM, EVENT " is sent beside others, and one of them was refused", EVENT_OF(e));
    turns->one_is_alone = goes_alone;
}

/* The pause behind a refusal has a bound; then the other lane makes room, once it is read again. */
static void check_retry(struct sim *sim, const struct model_event *e)
{
    struct turns *turns = &sim->link.turns;
    outbox_lane other = e->lane == OUTBOX_URGENT ? OUTBOX_NORMAL : OUTBOX_URGENT;
    uint64_t pause_us = 1000 * (uint64_t)(sim->settings.forwarder.backoff_max_ms + SLACK_MS);
    bool is_due = turns->refused[other] && !turns->is_suspect[other] &&
                  sim->device.now_us > turns->refused_at[other] + pause_us;
    turns->over_refused[e->lane] = 0;
    turns->over_refused[other] = is_due && is_calm(sim) ? turns->over_refused[other] + 1 : 0;
    if (turns->over_refused[other] > 2 * RUN_MAX)
        breaks(sim, DRAIN, "%s event %lld was refused and is not tried again", lane_name(other),
               (long long)turns->refused[other]);
}

void turns_connected(struct sim *sim)
{
    struct turns *turns = &sim->link.turns;
    turns->one_is_alone = false;
    turns->over_refused[OUTBOX_NORMAL] = turns->over_refused[OUTBOX_URGENT] = 0;
}

void turns_published(struct sim *sim, uint32_t event)
{
    const struct model_event *e = model_event(&sim->model, event);
    check_turn(sim, e);
    check_alone(sim, e);
    check_retry(sim, e);
}

/* ---- What the forwarder makes of refusals ---------------------------------------------------- */

enum { PATIENCE = 8, HANGUPS_DEADLY = 5 };

static bool has_stopped(const struct sim *sim, outbox_lane lane, int reason)
{
    const struct turns *turns = &sim->link.turns;
    unsigned most = sim->settings.forwarder.dead_letters_max;
    return most != OUTBOX_NEVER && turns->run_reason[lane] == reason &&
           turns->dead_run[lane] >= (most ? most : 3);
}

static void must_die(struct sim *sim, struct model_event *e, int reason)
{
    struct turns *turns = &sim->link.turns;
    turns->dead_run[e->lane] =
        turns->run_reason[e->lane] == reason ? turns->dead_run[e->lane] + 1 : 1;
    turns->run_reason[e->lane] = reason;
    turns->refused[e->lane] = 0;
    turns->is_suspect[e->lane] = false;
    e->may_die = true;
    e->dies_in = sim->node.starts;
    e->reason = reason;
    tell(sim, EVENT " must become a dead letter", EVENT_OF(e));
}

void turns_refused(struct sim *sim, uint32_t event, int reason)
{
    struct model_event *e = model_event(&sim->model, event);
    struct turns *turns = &sim->link.turns;
    turns->has_refused = true;
    if (knows_that_it_left(sim, e->lane, e->id))
        return;
    bool again = turns->refused[e->lane] == e->id && !turns->is_suspect[e->lane];
    turns->times[e->lane] = again ? turns->times[e->lane] + 1 : 1;
    bool is_deadly = reason == 0x90 || reason == 0x95 || reason == 0x99 ||
                     (reason == 0x87 && turns->times[e->lane] >= PATIENCE);
    if (is_deadly && !has_stopped(sim, e->lane, reason)) {
        must_die(sim, e, reason);
        return;
    }
    turns->refused[e->lane] = e->id;
    turns->refused_at[e->lane] = sim->device.now_us;
    turns->is_suspect[e->lane] = false;
}

void turns_acked(struct sim *sim, uint32_t event)
{
    const struct model_event *e = model_event(&sim->model, event);
    struct turns *turns = &sim->link.turns;
    turns->one_is_alone = false;
    if (knows_that_it_left(sim, e->lane, e->id))
        return;
    turns->dead_run[e->lane] = 0;
    if (e->id >= turns->refused[e->lane])
        turns->refused[e->lane] = 0;
}

/* Whom it suspects when the broker hangs up is its own affair; but it must have sent it. */
static void follow_suspicion(struct sim *sim, const outbox_lane_sending *lane, outbox_lane number)
{
    struct turns *turns = &sim->link.turns;
    uint32_t event = model_owner(&sim->model, number, turns->refused[number]);
    struct model_event *e = event ? model_event(&sim->model, event) : NULL;
    bool has_passed = turns->refused[number] && lane->refused_id == 0;
    if (has_passed && turns->is_suspect[number] && e->hangups >= HANGUPS_DEADLY &&
        !has_stopped(sim, number, 0) && (!e->is_accepted || sim->was_meddled_with) &&
        e->id > lane->settled_id)
        must_die(sim, e, 0);
    if (turns->is_suspect[number] && lane->refused_id && lane->refused_reason == 0 &&
        lane->refused_id != turns->refused[number])
        turns->refused[number] = 0; /* another one, from now on */
    if (has_passed && (turns->is_suspect[number] || e->id <= lane->settled_id)) {
        turns->refused[number] = 0;
        turns->one_is_alone = false;
    }
    if (turns->refused[number] || lane->refused_id == 0 || lane->refused_reason != 0)
        return;
    event = model_owner(&sim->model, number, lane->refused_id);
    if (!event || model_event(&sim->model, event)->connection == 0)
        return;
    turns->refused[number] = lane->refused_id;
    turns->is_suspect[number] = turns->has_refused = true;
}

/* What the statistics say of each lane. */
void turns_after_step(struct sim *sim, const outbox_statistics *now)
{
    unsigned sum = 0;
    for (int i = 0; i < OUTBOX_LANES; i++) {
        const outbox_lane_sending *lane = &now->sending[i];
        sum += lane->in_flight;
        follow_suspicion(sim, lane, (outbox_lane)i);
        if (lane->in_flight != sim->link.unacked[i])
            breaks(sim, CONTRACT, "%u %s events are said to be in flight, not %u", lane->in_flight,
                   lane_name((outbox_lane)i), sim->link.unacked[i]);
        if (lane->refused_id != sim->link.turns.refused[i] && !sim->was_meddled_with)
            breaks(sim, CONTRACT, "%s event %lld is said to be refused, not %lld",
                   lane_name((outbox_lane)i), (long long)lane->refused_id,
                   (long long)sim->link.turns.refused[i]);
    }
    if (sum != now->in_flight)
        breaks(sim, CONTRACT, "%u events in flight are not the sum of both lanes", now->in_flight);
}
