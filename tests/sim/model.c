/* SPDX-License-Identifier: MIT
 *
 * model.c - what was written, by transaction and by event, as the world outside the device knows
 * it.
 *
 * Numbers of events and transactions begin at 1; 0 is none. A body is made from the number of its
 * event, so that nothing need be kept to compare it.
 */
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *grow(void *array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? *capacity * 2 : 256;
    array = realloc(array, *capacity * size);
    if (!array)
        abort();
    return array;
}

void model_init(struct model *model)
{
    memset(model, 0, sizeof *model);
    for (int i = 0; i < OUTBOX_LANES; i++)
        model->lanes[i].next = 1;
}

void model_free(struct model *model)
{
    free(model->events);
    free(model->transactions);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        free(model->lanes[i].owner);
        free(model->lanes[i].order);
    }
    memset(model, 0, sizeof *model);
}

struct model_event *model_event(struct model *model, uint32_t event)
{
    assert(event > 0 && event <= model->event_count);
    return &model->events[event - 1];
}

struct model_transaction *model_transaction(struct model *model, uint32_t transaction)
{
    assert(transaction > 0 && transaction <= model->transaction_count);
    return &model->transactions[transaction - 1];
}

struct model_lane *model_lane_of(struct model *model, uint32_t event)
{
    return &model->lanes[model_event(model, event)->lane];
}

struct model_event *model_at(struct model *model, const struct model_lane *lane, uint32_t order)
{
    assert(order >= 1 && order <= lane->order_count);
    return model_event(model, lane->order[order - 1]);
}

const char *lane_name(outbox_lane lane)
{
    return lane == OUTBOX_URGENT ? "urgent" : "normal";
}

const char *lane_table(outbox_lane lane)
{
    return lane == OUTBOX_URGENT ? "outbox_urgent" : "outbox_event";
}

/* ---- Transactions ---------------------------------------------------------------------------- */

uint32_t model_begin(struct model *model, unsigned writer, bool has_ledger)
{
    model->transactions = grow(model->transactions, model->transaction_count,
                               &model->transaction_capacity, sizeof *model->transactions);
    model->transactions[model->transaction_count++] =
        (struct model_transaction){.fate = ATTEMPTED, .writer = writer, .has_ledger = has_ledger};
    return model->transaction_count;
}

uint32_t model_add(struct model *model, uint32_t transaction, const struct model_event *like)
{
    struct model_transaction *t = model_transaction(model, transaction);
    model->events =
        grow(model->events, model->event_count, &model->event_capacity, sizeof *model->events);
    uint32_t event = ++model->event_count;
    *model_event(model, event) = (struct model_event){.transaction = transaction,
                                                      .lane = like->lane,
                                                      .size = like->size,
                                                      .stream = like->stream,
                                                      .body = like->body,
                                                      .ttl_ms = like->ttl_ms,
                                                      .expires = like->expires,
                                                      .keep_last = like->keep_last,
                                                      .tells = like->tells,
                                                      .change = like->change,
                                                      .number = event,
                                                      .fate = ATTEMPTED};
    uint32_t *link = &t->first; /* in the order of their puts */
    while (*link)
        link = &model_event(model, *link)->next_in_transaction;
    *link = event;
    return event;
}

void model_named(struct model *model, uint32_t event, int64_t id)
{
    struct model_lane *lane = model_lane_of(model, event);
    size_t at = (size_t)id;
    assert(id > 0 && id < 1 << 28);
    if (at >= lane->owner_capacity) {
        size_t capacity = lane->owner_capacity ? lane->owner_capacity : 256;
        while (capacity <= at)
            capacity *= 2;
        lane->owner = realloc(lane->owner, capacity * sizeof *lane->owner);
        if (!lane->owner)
            abort();
        memset(lane->owner + lane->owner_capacity, 0,
               (capacity - lane->owner_capacity) * sizeof *lane->owner);
        lane->owner_capacity = capacity;
    }
    model_event(model, event)->id = id;
    lane->owner[at] = event;
}

uint32_t model_owner(const struct model *model, outbox_lane lane, int64_t id)
{
    const struct model_lane *l = &model->lanes[lane];
    return id > 0 && (uint64_t)id < l->owner_capacity ? l->owner[id] : 0;
}

void model_abort_event(struct model *model, uint32_t event)
{
    struct model_event *e = model_event(model, event);
    e->fate = ABORTED;
    if (e->id > 0 && model_owner(model, e->lane, e->id) == event)
        model_lane_of(model, event)->owner[e->id] = 0;
}

static bool is_open(enum fate fate)
{
    return fate == ATTEMPTED || fate == IN_DOUBT;
}

/* Ids ascend in the order of the commits. One that was in doubt may be known late. */
static void insert_in_order(struct model *model, uint32_t event)
{
    struct model_lane *lane = model_lane_of(model, event);
    lane->order = grow(lane->order, lane->order_count, &lane->order_capacity, sizeof *lane->order);
    uint32_t at = lane->order_count++;
    for (; at > 0; at--) {
        struct model_event *before = model_event(model, lane->order[at - 1]);
        if (before->id < model_event(model, event)->id)
            break;
        before->order++;
        lane->order[at] = lane->order[at - 1];
    }
    lane->order[at] = event;
    model_event(model, event)->order = at + 1;
    if (at < lane->durable)
        lane->durable++;
    if (at < lane->settled)
        lane->settled = at;
    if (at < lane->heard)
        lane->heard = at;
}

void model_commit(struct model *model, uint32_t transaction, uint64_t now_us)
{
    struct model_transaction *t = model_transaction(model, transaction);
    t->fate = COMMITTED;
    for (uint32_t event = t->first; event; event = model_event(model, event)->next_in_transaction) {
        struct model_event *e = model_event(model, event);
        if (!is_open(e->fate))
            continue;
        e->fate = COMMITTED;
        e->since = now_us;
        if (e->body == BODY_UNFIT)
            model->unfit++;
        else
            model->fit++;
        insert_in_order(model, event);
    }
}

void model_abort(struct model *model, uint32_t transaction)
{
    struct model_transaction *t = model_transaction(model, transaction);
    t->fate = ABORTED;
    for (uint32_t event = t->first; event; event = model_event(model, event)->next_in_transaction)
        if (model_event(model, event)->fate != ABORTED)
            model_abort_event(model, event);
}

void model_doubt(struct model *model, uint32_t transaction)
{
    struct model_transaction *t = model_transaction(model, transaction);
    t->fate = IN_DOUBT;
    for (uint32_t event = t->first; event; event = model_event(model, event)->next_in_transaction)
        if (model_event(model, event)->fate == ATTEMPTED)
            model_event(model, event)->fate = IN_DOUBT;
}

bool model_is_ambiguous(struct model *model, uint32_t event)
{
    const struct model_event *e = model_event(model, event);
    for (uint32_t other = model->event_count; other > 0 && e->fate == IN_DOUBT; other--) {
        const struct model_event *o = model_event(model, other);
        if (other != event && o->fate == IN_DOUBT && o->lane == e->lane && o->id == e->id)
            return true;
    }
    return false;
}

void model_forget_order(struct model *model, struct model_lane *lane, uint32_t from)
{
    assert(from >= 1 && from > lane->durable);
    for (uint32_t order = from; order <= lane->order_count; order++) {
        struct model_event *e = model_at(model, lane, order);
        if (e->body == BODY_UNFIT)
            model->unfit--;
        else
            model->fit--;
        e->order = 0;
    }
    if (lane->order_count >= from)
        lane->order_count = from - 1;
    if (lane->settled > lane->order_count)
        lane->settled = lane->order_count;
    if (lane->heard > lane->order_count)
        lane->heard = lane->order_count;
    if (lane->next > lane->order_count + 1)
        lane->next = lane->order_count + 1;
}

void model_all_durable(struct model *model)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        model->lanes[i].durable = model->lanes[i].order_count;
}

uint32_t model_unsettled(const struct model *model)
{
    uint32_t count = 0;
    for (int i = 0; i < OUTBOX_LANES; i++)
        count += model->lanes[i].order_count - model->lanes[i].settled;
    return count;
}

uint32_t model_count(struct model *model, const struct model_lane *lane, int64_t id,
                     uint64_t count[OUTCOMES])
{
    uint32_t sum = 0;
    memset(count, 0, OUTCOMES * sizeof *count);
    for (uint32_t order = 1; order <= lane->order_count; order++) {
        const struct model_event *e = model_at(model, lane, order);
        if (e->id > id)
            break;
        if (e->body == BODY_ANNOUNCEMENT && e->outcome == EVICTED)
            continue;
        count[e->outcome]++;
        sum++;
    }
    return sum;
}

/* ---- Bodies ---------------------------------------------------------------------------------- */

const char *model_content_type(enum body body)
{
    static const char *const types[] = {
        [BODY_ANNOUNCEMENT] = "application/json",
        [BODY_CHANGE] = "application/json",
        [BODY_BYTES] = NULL,
        [BODY_TEXT] = "text/plain",
        [BODY_JSON] = "application/json",
        [BODY_UNFIT] = "application/json", /* and its body is none */
    };
    return types[body];
}

/* Whether the application has put it, with all that it may have. */
static bool is_put(const struct model_event *e)
{
    return e->body <= BODY_UNFIT;
}

bool model_is_retained(const struct model_event *e)
{
    return is_put(e) && e->number % 7 == 3;
}

const char *model_type(const struct model_event *e)
{
    if (e->body == BODY_ANNOUNCEMENT)
        return "outbox.dropped";
    if (e->body == BODY_CHANGE)
        return "outbox.change";
    return e->number % 5 == 1 ? "sim.reading" : NULL;
}

const char *model_key(const struct model_event *e)
{
    /* Some are rare: of them an old event may be the last that is fit for long. */
    static const char *const keys[] = {"a \"key\"", "another", "a \"key\"", "another", "r", "s"};
    static const char *const changed[KEYS + 1] = {"", "1", "2", "3", "4", "5", "6", "7", "8"};
    if (e->body == BODY_CHANGE)
        return changed[e->change.key];
    return is_put(e) && e->number % 3 == 2 ? keys[e->number / 3 % 6] : NULL;
}

const char *model_correlation(const struct model_event *e)
{
    return is_put(e) && e->number % 4 == 1 ? "order \"9\"" : NULL;
}

void model_topic(const struct sim *sim, const struct model_event *e, char topic[16])
{
    const char *fixed = sim->settings.forwarder.announce_topic;
    if (e->body == BODY_ANNOUNCEMENT && fixed)
        sqlite3_snprintf(16, topic, "%s", fixed);
    else
        sqlite3_snprintf(16, topic, e->stream < STREAMS ? "s/%u" : "c/%u",
                         e->stream < STREAMS ? e->stream : e->stream - STREAMS);
}

uint32_t model_announce(const struct model_event *e, char *text, int size)
{
    return (uint32_t)snprintf(text, (size_t)size,
                              "{\"reason\":\"%s\",\"count\":%lld,\"from\":%lld,\"to\":%lld}",
                              outcome_name(e->tells.reason), (long long)e->tells.count,
                              (long long)e->tells.from, (long long)e->tells.to);
}

void model_body(const struct model *model, uint32_t event, uint8_t *to)
{
    const struct model_event *e = &model->events[event - 1];
    uint64_t dice = event;
    char text[160];
    if (e->body == BODY_ANNOUNCEMENT) {
        (void)model_announce(e, text, sizeof text);
        memcpy(to, text, e->size);
        return;
    }
    uint8_t *end = to + e->size;
    if (e->body == BODY_JSON) {
        *to++ = '"';
        *--end = '"';
    }
    while (to < end)
        *to++ =
            e->body == BODY_BYTES ? (uint8_t)sim_mix(&dice) : (uint8_t)('a' + sim_mix(&dice) % 26);
}
