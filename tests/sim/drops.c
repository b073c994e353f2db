/* SPDX-License-Identifier: MIT
 *
 * drops.c - what the recipient is told of events that were dropped.
 *
 * The tombstone notes them until an announcement takes the note over. So of each lane and reason,
 * at every commit: what was dropped is what was announced and what is noted, each once.
 */
#include "sim.h"

#include <inttypes.h>
#include <string.h>

static bool is_announcement(const struct model_event *e)
{
    return e->body == BODY_ANNOUNCEMENT;
}

/* Without a topic of its own it goes where the last event went: the model must know that too. */
static bool take_topic(const struct sim *sim, const char *topic, struct model_event *like)
{
    const char *fixed = sim->settings.forwarder.announce_topic;
    if (fixed)
        return strcmp(topic, fixed) == 0;
    uint32_t digit = (uint32_t)(topic[2] - '0');
    like->stream = topic[0] == 'c' ? STREAMS + digit : digit;
    return topic[1] == '/' && topic[3] == '\0' &&
           (topic[0] == 'c' ? digit <= KEYS : topic[0] == 's' && digit < STREAMS);
}

static bool take_text(const char *text, struct model_event *like)
{
    char reason[16] = "";
    long long count = 0, from = 0, to = 0;
    int fields = sscanf(text, "{\"reason\":\"%15[a-z]\",\"count\":%lld,\"from\":%lld,\"to\":%lld}",
                        reason, &count, &from, &to);
    for (int outcome = EXPIRED; outcome < OUTCOMES; outcome++)
        if (strcmp(reason, outcome_name((enum outcome)outcome)) == 0)
            like->tells.reason = (enum outcome)outcome;
    like->tells.count = count;
    like->tells.from = from;
    like->tells.to = to;
    return fields == 4 && like->tells.reason != STAYS;
}

/* The forwarder has put an event of its own: from now on it is one as any other. */
static void take_row(struct sim *sim, outbox_lane lane, sqlite3_stmt *s)
{
    struct model *model = &sim->model;
    int64_t id = sqlite3_column_int64(s, 0);
    const char *topic = (const char *)sqlite3_column_text(s, 1);
    const char *text = (const char *)sqlite3_column_text(s, 2);
    struct model_event like = {.lane = lane, .body = BODY_ANNOUNCEMENT};
    uint32_t event = model_owner(model, lane, id);
    if (event && is_announcement(model_event(model, event)))
        return; /* known */
    if (!topic || !text || !take_topic(sim, topic, &like) || !take_text(text, &like)) {
        breaks(sim, NO_INVENTION, "%s row %" PRId64 " is no announcement", lane_name(lane), id);
        return;
    }
    like.size = model_announce(&like, NULL, 0);
    uint32_t transaction = model_begin(model, WRITERS, false);
    event = model_add(model, transaction, &like);
    model_named(model, event, id);
    model_commit(model, transaction, sim->device.now_us);
    tell(sim, EVENT " announces that %lld are %s, %lld to %lld",
         EVENT_OF(model_event(model, event)), (long long)like.tells.count,
         outcome_name(like.tells.reason), (long long)like.tells.from, (long long)like.tells.to);
}

bool drops_discover(struct sim *sim, sqlite3 *db, outbox_lane lane)
{
    const char *topic = sim->settings.forwarder.announce_topic;
    sqlite3_stmt *s = NULL;
    char sql[128];
    int result = SQLITE_ERROR;
    if (topic && !*topic)
        return true;
    sqlite3_snprintf(sizeof sql, sql,
                     "SELECT id, topic, payload FROM %s WHERE type = 'outbox.dropped' ORDER BY id",
                     lane_table(lane));
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK)
        while ((result = sqlite3_step(s)) == SQLITE_ROW)
            take_row(sim, lane, s);
    (void)sqlite3_finalize(s);
    return result == SQLITE_DONE;
}

/* The first and the last that it tells of were dropped so. */
static void check_ends(struct sim *sim, const struct model_event *a)
{
    const int64_t ends[] = {a->tells.from, a->tells.to};
    for (int i = 0; i < 2; i++) {
        uint32_t event = model_owner(&sim->model, a->lane, ends[i]);
        const struct model_event *e = event ? model_event(&sim->model, event) : NULL;
        if (!e || e->outcome == STAYS || !(e->could_leave & 1u << a->tells.reason))
            breaks(sim, LEDGER, EVENT " announces that %" PRId64 " was %s, and it was not",
                   EVENT_OF(a), ends[i], outcome_name(a->tells.reason));
    }
}

struct told {
    int64_t events;        /* that were announced, or will be by what is on its way */
    int64_t announcements; /* that were dropped themselves; nobody tells of these */
};

static struct told count_told(struct sim *sim, const struct model_lane *lane, enum outcome reason)
{
    struct told told = {0};
    const char *topic = sim->settings.forwarder.announce_topic;
    if (topic && !*topic)
        return told;
    for (uint32_t order = 1; order <= lane->order_count; order++) {
        const struct model_event *a = model_at(&sim->model, lane, order);
        if (!is_announcement(a) || a->outcome == EVICTED)
            continue; /* evicted, it is no event any more: what it told is noted again */
        told.events += a->tells.reason == reason ? a->tells.count : 0;
        told.announcements += a->outcome == reason;
    }
    return told;
}

void drops_check(struct sim *sim, outbox_lane number, const struct tombstone *now)
{
    const struct model_lane *lane = &sim->model.lanes[number];
    for (int reason = EXPIRED; reason < OUTCOMES; reason++) {
        const struct drops *d = &now->drops[reason];
        struct told told = count_told(sim, lane, (enum outcome)reason);
        if (now->count[reason] != told.events + told.announcements + d->count)
            breaks(sim, LEDGER,
                   "%" PRId64 " %s events count as %s, %" PRId64 " are announced, %" PRId64
                   " are noted",
                   now->count[reason], lane_name(number), outcome_name((enum outcome)reason),
                   told.events + told.announcements, d->count);
        uint32_t row = model_owner(&sim->model, number, d->row);
        if (d->row <= now->id)
            continue;
        if (!row || model_event(&sim->model, row)->tells.count != d->row_count)
            breaks(sim, LEDGER,
                   "%s row %" PRId64 " is to announce %" PRId64 " events, and does not",
                   lane_name(number), d->row, d->row_count);
        else
            check_ends(sim, model_event(&sim->model, row));
    }
}

/* Where there is a topic nothing stays noted. */
void drops_at_end(struct sim *sim)
{
    const char *topic = sim->settings.forwarder.announce_topic;
    if (sim->settings.forwarder.batch_seconds > 0)
        return; /* the next connection tells */
    for (int i = 0; i < OUTBOX_LANES && topic && *topic; i++) {
        const struct model_lane *lane = &sim->model.lanes[i];
        for (int reason = EXPIRED; reason < OUTCOMES && !lane->epoch_changes; reason++)
            if (lane->seen.drops[reason].count > 0)
                breaks(sim, NO_LOSS, "%" PRId64 " %s events are %s, and nobody is told",
                       lane->seen.drops[reason].count, lane_name((outbox_lane)i),
                       outcome_name((enum outcome)reason));
    }
}
