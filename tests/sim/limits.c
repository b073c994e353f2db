/* SPDX-License-Identifier: MIT
 *
 * limits.c - how much a lane may hold: looks at the table before each put and behind it, through
 * the writer's own connection, and judges what the put has let leave.
 *
 * What an open transaction evicts is a promise only: it is kept in the events until the commit is
 * seen, and forgotten with the transaction or the savepoint.
 */
#include "sim.h"

#include <inttypes.h>
#include <string.h>

const outbox_limit *limit_of(const struct sim *sim, outbox_lane lane)
{
    return &sim->settings.limits[lane];
}

bool limits_hold(const struct sim *sim, outbox_lane lane)
{
    return limit_of(sim, lane)->max_events > 0 || limit_of(sim, lane)->max_bytes > 0;
}

static int64_t length(const char *text)
{
    return text ? (int64_t)strlen(text) : 0;
}

/* As outbox.h counts it. */
int64_t limits_bytes(const struct sim *sim, uint32_t event)
{
    const struct model_event *e = &sim->model.events[event - 1];
    char topic[16];
    if (e->body == BODY_CHANGE)
        return OUTBOX_EVENT_BYTES + change_bytes(&e->change);
    model_topic(sim, e, topic);
    return OUTBOX_EVENT_BYTES + length(topic) + (int64_t)e->size + length(model_type(e)) +
           length(model_content_type(e->body)) + length(model_key(e)) +
           (model_correlation(e) ? length(MODEL_HEADER) + length(model_correlation(e)) + 1 : 0);
}

/* Several in doubt may have been given the same id: the largest of them. */
static int64_t most_bytes(const struct sim *sim, const struct model_event *owner)
{
    int64_t most = 0;
    for (uint32_t event = sim->model.event_count; event > 0; event--) {
        const struct model_event *e = &sim->model.events[event - 1];
        bool may_be_it = e->lane == owner->lane && e->id == owner->id && e->fate == IN_DOUBT;
        if (may_be_it && limits_bytes(sim, event) > most)
            most = limits_bytes(sim, event);
    }
    return most;
}

/* `perhaps`: with those that may not be there. */
static int64_t bytes_from(const struct sim *sim, outbox_lane lane, int64_t from, int64_t to,
                          bool perhaps)
{
    int64_t sum = 0;
    for (int64_t id = from; id <= to; id++) {
        uint32_t event = model_owner(&sim->model, lane, id);
        if (event && sim->model.events[event - 1].fate != IN_DOUBT)
            sum += limits_bytes(sim, event);
        else if (event && perhaps)
            sum += most_bytes(sim, &sim->model.events[event - 1]);
    }
    return sum;
}

static int64_t on_top(const struct tombstone *t, int64_t from, int64_t to)
{
    int64_t count = 0;
    for (int outcome = EXPIRED; t && outcome < OUTCOMES; outcome++)
        count += t->drops[outcome].row >= from && t->drops[outcome].row <= to;
    return count;
}

bool limits_exceeded(const struct sim *sim, outbox_lane lane, const struct tombstone *t,
                     int64_t from, int64_t to, bool perhaps)
{
    const outbox_limit *limit = limit_of(sim, lane);
    return (limit->max_events > 0 && to - from + 1 - on_top(t, from, to) > limit->max_events) ||
           (limit->max_bytes > 0 && bytes_from(sim, lane, from, to, perhaps) > limit->max_bytes);
}

/* ---- A put ----------------------------------------------------------------------------------- */

void limits_before_put(struct sim *sim, struct writer *writer, outbox_lane lane,
                       struct put_look *look)
{
    memset(look, 0, sizeof *look);
    if (!writer->box || !limits_hold(sim, lane) || sim->model.lanes[lane].epoch_changes)
        return;
    if (sim->profile->one_connection && sim->node.forwarder)
        look->acked = outbox_forwarder_acked(sim->node.forwarder, lane);
    struct hush hush = ledger_hush(sim);
    /* A forwarder that was killed behind its commit told nobody. */
    (void)drops_discover(sim, writer->db, lane);
    ledger_unhush(sim, &hush);
    (void)ledger_read(sim, writer->db, lane, &look->before);
}

/* `is_doubtful`: the put itself failed in its COMMIT, and may be undone yet. */
static void note_leaving(struct sim *sim, outbox_lane lane, const struct put_look *look,
                         const struct tombstone *after, bool is_doubtful)
{
    for (int64_t id = look->before.id + 1; id <= after->id; id++) {
        uint32_t event = model_owner(&sim->model, lane, id);
        if (!event)
            continue;
        struct model_event *e = model_event(&sim->model, event);
        enum outcome as = id <= look->acked ? DELIVERED : EVICTED;
        if (is_doubtful || e->fate == IN_DOUBT) /* or it may not be there */
            e->may_leave |= 1u << as;
        else
            e->leaves = as;
    }
    if (!is_doubtful && after->id > sim->model.lanes[lane].leaving)
        sim->model.lanes[lane].leaving = after->id;
}

/* What left was the oldest, no more than had to, and is counted. */
static void check_leaving(struct sim *sim, outbox_lane lane, const struct put_look *look,
                          const struct tombstone *after, int64_t id)
{
    const struct tombstone *before = &look->before;
    int64_t evicted = after->count[EVICTED] - before->count[EVICTED];
    int64_t delivered = after->count[DELIVERED] - before->count[DELIVERED];
    int64_t holes = after->holes - before->holes;
    if (after->id == before->id && evicted == 0 && delivered == 0 && holes == 0)
        return;
    if (evicted + delivered + holes != after->id - before->id || evicted < 0 || delivered < 0 ||
        holes < 0)
        breaks(sim, LEDGER,
               "a put of the %s lane lets %" PRId64 " to %" PRId64 " leave and counts "
               "%" PRId64 " as evicted, %" PRId64 " as delivered, %" PRId64 " as holes",
               lane_name(lane), before->id + 1, after->id, evicted, delivered, holes);
    else if (!limits_exceeded(sim, lane, before, before->id + 1, id, true))
        breaks(sim, BOUNDED_DISK, "a put lets %s events leave, and there is room", lane_name(lane));
    else if (after->id > look->acked && limit_of(sim, lane)->when_full == OUTBOX_REJECT)
        breaks(sim, BOUNDED_DISK, "a %s event is evicted, and the lane rejects", lane_name(lane));
    else if (after->id > look->acked && !limits_exceeded(sim, lane, before, after->id, id, true))
        breaks(sim, BOUNDED_DISK, "%s event %" PRId64 " is evicted, and there was room for it",
               lane_name(lane), after->id);
}

static void check_stored(struct sim *sim, outbox_lane lane, const struct put_look *look,
                         const struct tombstone *after, int64_t id)
{
    if (limits_exceeded(sim, lane, after, after->id + 1, id, false))
        breaks(sim, BOUNDED_DISK,
               "the %s lane holds %" PRId64 " to %" PRId64 ", over its limit of %lld, %lld bytes",
               lane_name(lane), after->id + 1, id, (long long)limit_of(sim, lane)->max_events,
               (long long)limit_of(sim, lane)->max_bytes);
    check_leaving(sim, lane, look, after, id);
}

/* Only where there is no room; and nothing is stored. */
static void check_rejected(struct sim *sim, uint32_t event, const struct put_look *look,
                           const struct tombstone *after)
{
    const struct model_event *e = model_event(&sim->model, event);
    const outbox_limit *limit = limit_of(sim, e->lane);
    int64_t from = (look->acked > look->before.id ? look->acked : look->before.id) + 1;
    int64_t to = look->before.largest, own = limits_bytes(sim, event);
    bool alone = limit->max_bytes > 0 && own > limit->max_bytes;
    bool full =
        (limit->max_events > 0 &&
         to + 1 - from + 1 - on_top(&look->before, from, to) > limit->max_events) ||
        (limit->max_bytes > 0 && bytes_from(sim, e->lane, from, to, true) + own > limit->max_bytes);
    if (!alone && (limit->when_full == OUTBOX_EVICT_OLDEST || !full))
        breaks(sim, CONTRACT, "a %s event is rejected, and there is room", lane_name(e->lane));
    if (after->largest != to)
        breaks(sim, ATOMICITY, "a %s event was rejected and is there", lane_name(e->lane));
}

void limits_after_put(struct sim *sim, struct writer *writer, uint32_t event,
                      const struct put_look *look, int code)
{
    const struct model_event *e = model_event(&sim->model, event);
    struct tombstone after;
    if (!look->before.is_known || !ledger_read(sim, writer->db, e->lane, &after))
        return;
    if (code == OUTBOX_OK)
        check_stored(sim, e->lane, look, &after, e->id);
    else if (code == OUTBOX_FULL)
        check_rejected(sim, event, look, &after);
    note_leaving(sim, e->lane, look, &after, code != OUTBOX_OK && code != OUTBOX_FULL);
    if (code == OUTBOX_OK && after.id > look->before.id)
        tell(sim, "the put lets %s events leave up to %lld", lane_name(e->lane),
             (long long)after.id);
}

/* It may have happened, and may yet be undone. */
void limits_in_doubt(struct sim *sim)
{
    for (int i = 0; i < OUTBOX_LANES; i++) {
        struct model_lane *lane = &sim->model.lanes[i];
        for (int64_t id = lane->seen.id + 1; id <= lane->leaving; id++) {
            uint32_t event = model_owner(&sim->model, (outbox_lane)i, id);
            struct model_event *e = event ? model_event(&sim->model, event) : NULL;
            if (!e || e->leaves == STAYS)
                continue;
            e->may_leave |= 1u << e->leaves;
            e->leaves = STAYS;
        }
        lane->leaving = 0;
    }
}

/* What was to leave beyond the tombstone stays: its transaction, or the savepoint, is undone. */
static void forget_leaving(struct sim *sim, outbox_lane number, int64_t tombstone)
{
    struct model_lane *lane = &sim->model.lanes[number];
    for (int64_t id = tombstone + 1; id <= lane->leaving; id++) {
        uint32_t event = model_owner(&sim->model, number, id);
        if (event)
            model_event(&sim->model, event)->leaves = STAYS;
    }
    if (lane->leaving > tombstone)
        lane->leaving = tombstone;
}

void limits_undone(struct sim *sim, struct writer *writer, bool to_savepoint)
{
    for (int i = 0; i < OUTBOX_LANES; i++) {
        struct tombstone now;
        if (to_savepoint && ledger_read(sim, writer->db, (outbox_lane)i, &now))
            forget_leaving(sim, (outbox_lane)i, now.id);
        else
            forget_leaving(sim, (outbox_lane)i, sim->model.lanes[i].seen.id);
    }
}
