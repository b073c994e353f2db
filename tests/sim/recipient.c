/* SPDX-License-Identifier: MIT
 *
 * recipient.c - the other end: an inbox judges each event that the broker has taken.
 *
 * It reads nothing but what was published: source, id and previous. What it applies must be each
 * event once and in commit order, and in the end nothing that counts as delivered may be missing.
 * Now and then it connects anew, and the broker repeats what it holds for not acknowledged.
 */
#include "sim.h"

#include <inttypes.h>
#include <string.h>

bool recipient_open(struct sim *sim)
{
    return inbox_open(sim->judge, NULL, &sim->recipient.in) == OUTBOX_OK;
}

void recipient_close(struct sim *sim)
{
    inbox_close(sim->recipient.in);
    sim->recipient.in = NULL;
}

/* A resend may name another one before it; what arrives is what was published last. */
void recipient_told(struct sim *sim, uint32_t event, const struct wire *wire)
{
    struct model_event *e = model_event(&sim->model, event);
    e->told_previous = wire->previous;
    e->told_source = sim->model.lanes[e->lane].retired_count + 1;
}

static const char *source_of(const struct model_lane *lane, unsigned number)
{
    return number <= lane->retired_count ? lane->retired[number - 1] : lane->source;
}

static inbox_result judge(struct sim *sim, const struct delivery *delivery)
{
    const struct model_event *e = model_event(&sim->model, delivery->event);
    char id[24];
    inbox_result result;
    const char *source = source_of(&sim->model.lanes[e->lane], delivery->source);
    sqlite3_snprintf(sizeof id, id, "%" PRId64, e->id);
    inbox_event event = {.source = {source, strlen(source)},
                         .id = {id, strlen(id)},
                         .has_sequence = 1,
                         .has_previous = 1,
                         .sequence = e->id,
                         .previous = delivery->previous};
    event.drops.count = e->tells.count;
    event.drops.from = e->tells.from;
    event.drops.to = e->tells.to;
    int code = inbox_accept(sim->recipient.in, &event, &result);
    if (code != OUTBOX_OK)
        breaks(sim, CONTRACT, "the inbox answered %d: %s", code, inbox_errmsg(sim->recipient.in));
    return result;
}

static void apply(struct sim *sim, struct model_event *e, const inbox_result *result)
{
    uint32_t *last = &sim->recipient.last_order[e->lane];
    if (result->first_contact && sim->recipient.first_order[e->lane] == 0)
        sim->recipient.first_order[e->lane] = e->order;
    if (e->applied_in == e->told_source)
        breaks(sim, DUPLICATES, "the recipient applies " EVENT " twice", EVENT_OF(e));
    if (result->verdict == INBOX_NEW && e->order <= *last)
        breaks(sim, ORDER, "the recipient applies " EVENT " behind a later one", EVENT_OF(e));
    *last = e->order;
    if (e->body == BODY_CHANGE)
        change_applied(sim, e);
    e->applied_in = e->told_source;
}

/* What the recipient was told to pass over may come later, see oracle.c. Where the very first event
 * is refused, and another one is the first that arrives, the stream begins there: nobody can tell
 * it from one that went elsewhere. */
static bool may_miss(const struct sim *sim, const struct model_event *e)
{
    bool was_passed = e->order < sim->recipient.last_order[e->lane] && oracle_may_come_late(e);
    return e->came_late || was_passed || e->order < sim->recipient.first_order[e->lane];
}

static void take(struct sim *sim, const struct talk *talk, struct delivery *delivery)
{
    struct model_event *e = model_event(&sim->model, delivery->event);
    inbox_result result = judge(sim, delivery);
    delivery->was_applied = result.apply;
    if (result.apply)
        apply(sim, e, &result);
    else if (result.verdict == INBOX_GAP && !talk->lanes[e->lane].refused_one)
        breaks(sim, ORDER,
               "the recipient misses what comes before " EVENT ", and nothing was refused",
               EVENT_OF(e));
    else if (result.verdict == INBOX_DUPLICATE && e->applied_in == 0)
        breaks(sim, NO_LOSS, "the recipient takes " EVENT " for a duplicate, and never had it",
               EVENT_OF(e));
    else if (result.verdict == INBOX_STALE && e->applied_in == 0 && !may_miss(sim, e))
        breaks(sim, NO_LOSS, "the recipient takes " EVENT " for stale, and never had it",
               EVENT_OF(e));
}

/* In the order in which it has sent them, from one of the last on. What was behind a gap is left to
 * the sender, who sends it again. */
static void repeat(struct sim *sim)
{
    uint64_t end = sim->recipient.delivery_count, room = end < DELIVERIES ? end : DELIVERIES;
    uint64_t at = end - 1 - sim_choose(&sim->choices, TAG_CHANGE, (uint32_t)room);
    trace_event(sim, "repeat", at, end);
    for (; at < end; at++) {
        const struct delivery *delivery = &sim->recipient.deliveries[at % DELIVERIES];
        const struct model_event *e = model_event(&sim->model, delivery->event);
        if (!delivery->was_applied)
            continue;
        inbox_result result = judge(sim, delivery);
        if (result.apply || (result.verdict != INBOX_DUPLICATE && result.verdict != INBOX_STALE))
            breaks(sim, DUPLICATES,
                   EVENT " was applied, and is taken for something else (%d) when"
                         " it is repeated",
                   EVENT_OF(e), (int)result.verdict);
    }
}

void recipient_takes(struct sim *sim, const struct talk *talk, uint32_t event)
{
    const struct model_event *e = model_event(&sim->model, event);
    struct delivery *delivery =
        &sim->recipient.deliveries[sim->recipient.delivery_count++ % DELIVERIES];
    *delivery =
        (struct delivery){.event = event, .source = e->told_source, .previous = e->told_previous};
    take(sim, talk, delivery);
    if (!sim->profile->is_calm && sim_chance(&sim->choices, TAG_CHANGE, 30))
        repeat(sim);
}

void recipient_at_end(struct sim *sim)
{
    for (int i = 0; i < OUTBOX_LANES; i++) {
        const struct model_lane *lane = &sim->model.lanes[i];
        for (uint32_t order = 1; order <= lane->order_count; order++) {
            const struct model_event *e = model_at(&sim->model, lane, order);
            if (e->outcome == DELIVERED && e->applied_in == 0 && !may_miss(sim, e))
                breaks(sim, NO_LOSS, "the recipient never applied " EVENT, EVENT_OF(e));
        }
    }
}
