/* SPDX-License-Identifier: MIT
 *
 * ledger.c - follows the tombstones: reads each ledger as any tool could, and says of every event
 * that has left how it left.
 *
 * A ledger counts, it does not name. So what was counted since the last look is laid upon the
 * events that left since: each may leave in some ways only, as the world outside knows, and there
 * must be one way for each so that all counts come out. If there is none, the ledger is off.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BIT_OF(outcome) (1u << (outcome))

static const char *const outcome_names[OUTCOMES] = {"hole",    "delivered",  "expired",
                                                    "evicted", "superseded", "dead"};

const char *outcome_name(enum outcome outcome)
{
    return outcome_names[outcome];
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool parse(const char *text, struct tombstone *t)
{
    int at = 0;
    long long n[8];
    if (sscanf(text,
               "{\"base\":%lld,\"last\":%lld,\"delivered\":%lld,\"expired\":%lld,\"evicted\":%lld,"
               "\"superseded\":%lld,\"dead\":%lld,\"holes\":%lld%n",
               &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7], &at) != 8)
        return false;
    for (int outcome = DELIVERED; outcome < OUTCOMES; outcome++)
        t->count[outcome] = n[1 + outcome];
    t->last = n[1];
    t->holes = n[7];
    text += at;
    const char *drops = strstr(text, "\"drops\":[");
    for (text = drops ? drops + 9 : ""; *text == '[' || *text == ','; text += at) {
        int kind;
        text += *text == ',';
        if (sscanf(text, "[%d,%lld,%lld,%lld,%lld,%lld,%lld,%lld]%n", &kind, &n[0], &n[1], &n[2],
                   &n[3], &n[4], &n[5], &n[6], &at) != 8 ||
            kind < 1 || kind + 1 >= OUTCOMES)
            return false;
        t->drops[kind + 1] = (struct drops){n[0], n[1], n[2], n[3], n[4], n[5], n[6]};
    }
    return true;
}

static bool read_tombstone(sqlite3 *db, outbox_lane lane, struct tombstone *t)
{
    sqlite3_stmt *s = NULL;
    char sql[128];
    memset(t, 0, sizeof *t);
    sqlite3_snprintf(sizeof sql, sql,
                     "SELECT id, ledger, (SELECT max(id) FROM %s) FROM %s ORDER BY id LIMIT 1",
                     lane_table(lane), lane_table(lane));
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW &&
        sqlite3_column_type(s, 1) == SQLITE_TEXT) {
        t->id = sqlite3_column_int64(s, 0);
        t->largest = sqlite3_column_int64(s, 2);
        t->is_known = parse((const char *)sqlite3_column_text(s, 1), t);
    }
    (void)sqlite3_finalize(s);
    return t->is_known;
}

struct hush ledger_hush(struct sim *sim)
{
    struct hush hush = {sim->device.before, sim->device.now_us};
    sim->device.before = NULL;
    return hush;
}

void ledger_unhush(struct sim *sim, const struct hush *hush)
{
    sim->device.before = hush->before;
    sim->device.now_us = hush->now_us;
}

bool ledger_read(struct sim *sim, sqlite3 *db, outbox_lane lane, struct tombstone *t)
{
    struct hush hush = ledger_hush(sim);
    bool is_known = read_tombstone(db, lane, t);
    ledger_unhush(sim, &hush);
    return is_known;
}

/* Whether it lies among the dead letters, as the forwarder of `db` sees them. */
static bool is_dead(sqlite3 *db, const struct model_event *e)
{
    sqlite3_stmt *s = NULL;
    bool found = false;
    if (sqlite3_prepare_v2(db, "SELECT 1 FROM outbox_dead WHERE lane = ?1 AND id = ?2", -1, &s,
                           NULL) == SQLITE_OK) {
        (void)sqlite3_bind_text(s, 1, lane_name(e->lane), -1, SQLITE_STATIC);
        (void)sqlite3_bind_int64(s, 2, e->id);
        found = sqlite3_step(s) == SQLITE_ROW;
    }
    (void)sqlite3_finalize(s);
    return found;
}

/* ---- How an event may leave ------------------------------------------------------------------ */

bool ledger_may_drop(struct sim *sim, const struct model_event *e)
{
    const struct model_lane *lane = &sim->model.lanes[e->lane];
    if (e->outcome != STAYS)
        return e->outcome != DELIVERED;
    if (lane->epoch_changes && limits_hold(sim, e->lane) &&
        limit_of(sim, e->lane)->when_full == OUTBOX_EVICT_OLDEST)
        return true;
    bool is_to_die =
        e->dies_in == sim->node.starts || lane->epoch_changes; /* not followed any more */
    return e->body == BODY_UNFIT || (e->may_die && is_to_die) || e->id <= lane->passed ||
           age_was_over(sim, e) || age_is_superseded(sim, e);
}

/* The forwarder evicts for writers that do not; no more than it must. */
static bool may_be_evicted(const struct sim *sim, const struct model_event *e,
                           const struct tombstone *now)
{
    return limits_hold(sim, e->lane) && limit_of(sim, e->lane)->when_full == OUTBOX_EVICT_OLDEST &&
           limits_exceeded(sim, e->lane, NULL, e->id, now->largest, true);
}

/* What the tombstone itself says: the last that was delivered, and among which ids drops are. */
static bool is_told_otherwise(const struct tombstone *now, const struct model_event *e,
                              enum outcome as)
{
    const struct drops *d = &now->drops[as];
    int64_t id = e->id;
    if (as == DELIVERED)
        return id > now->last;
    if (id == now->last || e->body == BODY_ANNOUNCEMENT)
        return id == now->last;
    bool is_noted = d->count > 0 && id >= d->from && id <= d->to;
    return as != STAYS && !is_noted && !(d->row > 0 && id >= d->row_from && id <= d->row_to);
}

static unsigned ways(struct sim *sim, sqlite3 *db, const struct model_event *e,
                     const struct tombstone *now, bool any_died)
{
    unsigned may = e->may_leave;
    /* An application that was killed in the midst of the forwarder's step keeps no promise any
     * more. */
    if (e->leaves && sim->device.is_alive[PROCESS_APP])
        return BIT_OF(e->leaves);
    if (any_died && (e->body == BODY_UNFIT || e->may_die) && is_dead(db, e))
        return BIT_OF(DEAD);
    if (e->fate == IN_DOUBT)
        may |= BIT_OF(STAYS); /* it may not be there */
    if (e->is_accepted)
        may |= BIT_OF(DELIVERED);
    if (age_was_over(sim, e))
        may |= BIT_OF(EXPIRED);
    if (age_is_superseded(sim, e))
        may |= BIT_OF(SUPERSEDED);
    if (may_be_evicted(sim, e, now))
        may |= BIT_OF(EVICTED);
    return may;
}

/* ---- Laying the counts upon the events ------------------------------------------------------- */

struct leaving {
    uint32_t *events;
    unsigned *may;
    enum outcome *as;
    bool *is_placed;
    uint32_t count;
    int64_t room[OUTCOMES];
    uint32_t lost; /* one that may leave in no way, whatever is counted */
};

/* Finds a way for one event; those that were placed before may have to move. */
// NOLINTNEXTLINE(misc-no-recursion): as deep as there are ways
static bool place(struct leaving *l, uint32_t which, unsigned *tried)
{
    for (int i = DELIVERED; i <= OUTCOMES; i++) {
        enum outcome as = (enum outcome)(i % OUTCOMES); /* a hole last */
        if (!(l->may[which] & BIT_OF(as)) || *tried & BIT_OF(as))
            continue;
        *tried |= BIT_OF(as);
        for (uint32_t other = 0; other < l->count && l->room[as] <= 0; other++)
            if (l->is_placed[other] && l->as[other] == as && place(l, other, tried))
                l->room[as]++;
        if (l->room[as] <= 0)
            continue;
        l->room[as]--;
        l->as[which] = as;
        l->is_placed[which] = true;
        return true;
    }
    return false;
}

static void collect(struct sim *sim, sqlite3 *db, outbox_lane number, const struct tombstone *now,
                    struct leaving *l)
{
    struct model *model = &sim->model;
    const struct tombstone *seen = &model->lanes[number].seen;
    for (int64_t id = seen->id + 1; id <= now->id; id++) {
        uint32_t event = model_owner(model, number, id);
        if (!event)
            continue;
        struct model_event *e = model_event(model, event);
        l->may[l->count] = ways(sim, db, e, now, now->count[DEAD] > seen->count[DEAD]);
        if (l->may[l->count] == 0)
            l->lost = event;
        if (e->body == BODY_ANNOUNCEMENT && l->may[l->count] & BIT_OF(EVICTED))
            l->may[l->count] ^= BIT_OF(EVICTED) | BIT_OF(STAYS); /* a hole */
        for (int outcome = STAYS; outcome < OUTCOMES; outcome++)
            if (is_told_otherwise(now, e, (enum outcome)outcome))
                l->may[l->count] &= ~BIT_OF(outcome);
        l->events[l->count++] = event;
    }
    for (int outcome = DELIVERED; outcome < OUTCOMES; outcome++)
        l->room[outcome] = now->count[outcome] - seen->count[outcome];
    l->room[STAYS] = now->holes - seen->holes - (now->id - seen->id - l->count);
}

static void say_off(struct sim *sim, outbox_lane number, const struct tombstone *now,
                    const struct leaving *l)
{
    const struct tombstone *seen = &sim->model.lanes[number].seen;
    char text[160] = "";
    if (l->lost)
        breaks(sim, NO_LOSS, EVENT " has left the table and no broker has it",
               EVENT_OF(model_event(&sim->model, l->lost)));
    for (uint32_t i = 0; i < l->count && i < 12; i++) {
        size_t used = strlen(text);
        sqlite3_snprintf((int)(sizeof text - used), text + used, " %lld:%x",
                         (long long)model_event(&sim->model, l->events[i])->id, l->may[i]);
    }
    breaks(sim, LEDGER,
           "of the %s events %lld to %lld (%lld delivered, %lld expired, %lld evicted, %lld"
           " superseded, %lld dead, %lld holes) some cannot have left so:%s",
           lane_name(number), (long long)seen->id + 1, (long long)now->id,
           (long long)(now->count[DELIVERED] - seen->count[DELIVERED]),
           (long long)(now->count[EXPIRED] - seen->count[EXPIRED]),
           (long long)(now->count[EVICTED] - seen->count[EVICTED]),
           (long long)(now->count[SUPERSEDED] - seen->count[SUPERSEDED]),
           (long long)(now->count[DEAD] - seen->count[DEAD]), (long long)(now->holes - seen->holes),
           text);
}

/* Whoever has got it waits for the one before it. */
static void check_chain(struct sim *sim, const struct model_event *e)
{
    uint32_t before = model_owner(&sim->model, e->lane, e->told);
    if (before && e->is_accepted && !sim->was_meddled_with &&
        !model_event(&sim->model, before)->is_accepted)
        breaks(sim, ORDER, EVENT " is done and names %lld as the one before, which no broker has",
               EVENT_OF(e), (long long)e->told);
}

static void take_leave(struct sim *sim, struct model_event *e, enum outcome as)
{
    if (as == STAYS && e->fate == IN_DOUBT)
        return;              /* its transaction did not happen */
    if (e->fate == IN_DOUBT) /* it has left, so it is committed */
        model_commit(&sim->model, e->transaction, sim->device.now_us);
    as = as == STAYS ? EVICTED : as; /* an announcement */
    e->outcome = as;
    e->leaves = STAYS;
    trace_event(sim, "left", (uint64_t)e->id, (uint64_t)as);
    if (as == DELIVERED)
        check_chain(sim, e);
    if (as > DELIVERED)
        tell(sim, EVENT " leaves, %s", EVENT_OF(e), outcome_name(as));
}

static void lay(struct sim *sim, outbox_lane number, const struct tombstone *now, struct leaving *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        unsigned tried = 0;
        if (!place(l, i, &tried)) {
            say_off(sim, number, now, l);
            return;
        }
    }
    for (int outcome = STAYS; outcome < OUTCOMES; outcome++)
        if (l->room[outcome] != 0) {
            say_off(sim, number, now, l);
            return;
        }
    for (uint32_t i = 0; i < l->count; i++)
        if (l->as[i] != STAYS && model_is_ambiguous(&sim->model, l->events[i]))
            return; /* which one it was is known after the next start */
    for (uint32_t i = 0; i < l->count; i++) {
        model_event(&sim->model, l->events[i])->could_leave = l->may[i];
        take_leave(sim, model_event(&sim->model, l->events[i]), l->as[i]);
    }
    sim->model.lanes[number].seen = *now;
    drops_check(sim, number, now);
}

static void follow(struct sim *sim, sqlite3 *db, outbox_lane number, const struct tombstone *now)
{
    size_t most = (size_t)(now->id - sim->model.lanes[number].seen.id) + 1;
    struct leaving l = {.events = calloc(most, sizeof *l.events),
                        .may = calloc(most, sizeof *l.may),
                        .as = calloc(most, sizeof *l.as),
                        .is_placed = calloc(most, sizeof *l.is_placed)};
    if (!l.events || !l.may || !l.as || !l.is_placed)
        abort();
    collect(sim, db, number, now, &l);
    lay(sim, number, now, &l);
    free(l.events);
    free(l.may);
    free(l.as);
    free(l.is_placed);
}

/* ---- The looks ------------------------------------------------------------------------------- */

/* What has left beyond `id` is there again. */
void ledger_rewind(struct sim *sim, outbox_lane number, int64_t id)
{
    struct model_lane *lane = &sim->model.lanes[number];
    struct tombstone *seen = &lane->seen;
    uint32_t order = lane->order_count;
    for (; order > 0; order--) {
        struct model_event *e = model_at(&sim->model, lane, order);
        if (e->id <= id)
            break;
        e->outcome = STAYS;
    }
    uint64_t left[OUTCOMES];
    uint32_t sum = model_count(&sim->model, lane, id, left);
    for (int outcome = DELIVERED; outcome < OUTCOMES; outcome++)
        seen->count[outcome] = (int64_t)left[outcome];
    seen->holes = id - sum;
    seen->id = id;
}

/* Where its row was written is known by the operations that the disk has seen since. */
static void look_at_epoch(struct sim *sim, sqlite3 *db, outbox_lane number)
{
    struct model_lane *lane = &sim->model.lanes[number];
    sqlite3_stmt *s = NULL;
    if (!sim->settings.is_wal || (lane->newest_epoch[0] && !lane->epoch_changes))
        return; /* else nothing of the forwarder's is unsynced, or there is no other one */
    if (sqlite3_prepare_v2(db,
                           "SELECT epoch FROM outbox_epoch WHERE lane = ?1 ORDER BY first DESC"
                           " LIMIT 1",
                           -1, &s, NULL) == SQLITE_OK &&
        sqlite3_bind_text(s, 1, lane_name(number), -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW &&
        !is_same_text((const char *)sqlite3_column_text(s, 0), lane->newest_epoch)) {
        sqlite3_snprintf(sizeof lane->newest_epoch, lane->newest_epoch, "%s",
                         sqlite3_column_text(s, 0));
        lane->epoch_written = sim->device.disk.number;
    }
    (void)sqlite3_finalize(s);
}

void ledger_look(struct sim *sim, sqlite3 *db)
{
    struct hush hush = ledger_hush(sim);
    for (int i = 0; i < OUTBOX_LANES && db && sqlite3_get_autocommit(db); i++) {
        struct model_lane *lane = &sim->model.lanes[i];
        struct tombstone now;
        look_at_epoch(sim, db, (outbox_lane)i);
        (void)drops_discover(sim, db, (outbox_lane)i); /* a call failed: at the next look */
        if (lane->epoch_changes || !read_tombstone(db, (outbox_lane)i, &now))
            continue;
        if (now.id < lane->seen.id)
            ledger_rewind(sim, (outbox_lane)i, now.id);
        lane->passed = now.id;
        if (now.id >= lane->seen.id)
            follow(sim, db, (outbox_lane)i, &now);
    }
    ledger_unhush(sim, &hush);
}

void ledger_follow(struct sim *sim, sqlite3 *db, int64_t *changes)
{
    if (*changes != sqlite3_total_changes(db))
        ledger_look(sim, db);
    *changes = sqlite3_total_changes(db);
}
