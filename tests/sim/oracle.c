/* SPDX-License-Identifier: MIT
 *
 * oracle.c - what may be true: judges what is sent, what is accepted and what has left the table,
 * each lane by itself. It reads what the core writes and never what the core thinks.
 */
#include "sim.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* ---- Codes: I13 ------------------------------------------------------------------------------ */

#define BIT(code) (1u << -(code))
#define DATABASE                                                                                   \
    (BIT(OUTBOX_OK) | BIT(OUTBOX_BUSY) | BIT(OUTBOX_DISK_FULL) | BIT(OUTBOX_READONLY) |            \
     BIT(OUTBOX_CORRUPT) | BIT(OUTBOX_NO_MEMORY) | BIT(OUTBOX_SQLITE))

void oracle_code(struct sim *sim, const char *call, int code)
{
    static const struct {
        const char *call;
        unsigned codes;
    } lists[] = {
        {"attach", DATABASE},
        {"capture", DATABASE},
        {"put", DATABASE | BIT(OUTBOX_TOO_LARGE) | BIT(OUTBOX_BAD_PAYLOAD) | BIT(OUTBOX_FULL)},
        {"init", DATABASE},
        {"step", DATABASE | BIT(OUTBOX_LINK) | BIT(OUTBOX_REFUSED) | BIT(OUTBOX_NOT_DURABLE) |
                     BIT(OUTBOX_FULL)},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (strcmp(lists[i].call, call) == 0 &&
            (code > 0 || code < -31 || !(lists[i].codes & BIT(code))))
            breaks(sim, CONTRACT, "%s answered %d", call, code);
}

/* ---- What is sent: I2, I3, I4, I5 ------------------------------------------------------------ */

/* 64 random bits: no two epochs are alike, of whatever lane. */
static bool is_epoch_of(const struct model_lane *lane, const char *source)
{
    const char *epoch = strrchr(source, '/');
    bool same = lane->source[0] && strcmp(strrchr(lane->source, '/'), epoch) == 0;
    for (unsigned i = 0; i < lane->retired_count; i++)
        same = same || strcmp(strrchr(lane->retired[i], '/'), epoch) == 0;
    return same;
}

/* A new epoch begins for good: what was sent with its source must not be followed by another
 * one's. */
static void check_identity(struct sim *sim, struct talk *talk, outbox_lane number,
                           const struct wire *wire)
{
    struct model_lane *lane = &sim->model.lanes[number];
    bool is_old = false;
    if (strcmp(lane->source, wire->source) == 0) {
        if (wire->id < lane->epoch_first)
            lane->epoch_first = wire->id; /* those before were to leave otherwise, and come now */
        return;
    }
    for (int i = 0; i < OUTBOX_LANES; i++)
        is_old = is_old || is_epoch_of(&sim->model.lanes[i], wire->source);
    if (is_old || (lane->source[0] && lane->epochs_to_come == 0)) {
        breaks(sim, NO_INVENTION, "the source changed from %s to %s", lane->source, wire->source);
        return;
    }
    if (lane->source[0]) {
        assert(lane->retired_count < SOURCES);
        memcpy(lane->retired[lane->retired_count++], lane->source, sizeof lane->source);
        lane->epochs_to_come--;
        lane->epoch_first = wire->id;
        talk->lanes[number].last_id = 0;
        talk->lanes[number].duplicates = 0;
    }
    sqlite3_snprintf(sizeof lane->source, lane->source, "%s", wire->source);
}

enum { STEP_MS = 500 /* may pass between the look at the clock and the send */ };

/* Whether the WAL was not synced since that operation of the disk; 0: that is not known. */
static bool is_only_written(struct sim *sim, uint64_t written)
{
    struct disk *disk = &sim->device.disk;
    const struct inode *wal = sim->settings.is_wal ? disk_find(disk, "app.db-wal") : NULL;
    return wal && written > 0 && !disk->syncs_lie && disk_waits(disk, wal, written);
}

/* Undone, it would be followed by another one, and the event would come again under that. */
static void check_epoch(struct sim *sim, outbox_lane number, const struct wire *wire)
{
    const struct model_lane *lane = &sim->model.lanes[number];
    if (strcmp(strrchr(wire->source, '/') + 1, lane->newest_epoch) == 0 &&
        is_only_written(sim, lane->epoch_written))
        breaks(sim, NO_PHANTOM, "%s event %" PRId64 " is sent and a power cut may undo its epoch",
               lane_name(number), wire->id);
}

static void check_fate(struct sim *sim, uint32_t event)
{
    struct model *model = &sim->model;
    struct model_event *e = model_event(model, event);
    if (e->fate == IN_DOUBT) /* it was seen, so it is committed; if that is false, it shows later */
        model_commit(model, e->transaction, sim->device.now_us);
    if (e->fate != COMMITTED)
        breaks(sim, NO_PHANTOM, EVENT " is sent and its transaction %u did not commit", EVENT_OF(e),
               e->transaction);
    else if (e->order > model->lanes[e->lane].durable)
        model->lanes[e->lane].durable = e->order; /* from now on it must not vanish */
    if (e->fate == COMMITTED &&
        is_only_written(sim, model_transaction(model, e->transaction)->written))
        breaks(sim, NO_PHANTOM, EVENT " is sent and a power cut may undo its transaction %u",
               EVENT_OF(e), e->transaction);
    if (e->body == BODY_UNFIT)
        breaks(sim, NO_INVENTION, EVENT " is not fit to be sent", EVENT_OF(e));
    if (age_is_over(sim, e, STEP_MS))
        breaks(sim, NO_INVENTION, EVENT " is sent and has expired", EVENT_OF(e));
}

unsigned oracle_ring(const struct sim *sim)
{
    const outbox_forwarder_config *config = &sim->settings.forwarder;
    unsigned capacity = 16;
    while (capacity < 2 * config->window + config->settle_batch)
        capacity *= 2;
    return capacity;
}

/* Each lane has a ring of its own, and of the window both have a part. Where PUBACKs are late but
 * in order, all of a lane that is not known as done is in flight. */
static void check_duplicates(struct sim *sim, const struct talk *talk, outbox_lane lane)
{
    bool in_order = !sim->link.lost_acks && !sim->profile->one_connection;
    unsigned most = in_order ? sim->settings.forwarder.window : oracle_ring(sim);
    if (sim->cuts + sim->kills == 0 && !sim->was_meddled_with &&
        talk->lanes[lane].duplicates > most)
        breaks(sim, DUPLICATES, "%u %s events were sent again after one reconnect",
               talk->lanes[lane].duplicates, lane_name(lane));
}

static void check_order(struct sim *sim, struct talk *talk, uint32_t event)
{
    struct model_event *e = model_event(&sim->model, event);
    int64_t *last_id = &talk->lanes[e->lane].last_id, floor = sim->model.lanes[e->lane].floor;
    if (e->id <= *last_id)
        breaks(sim, e->connection == talk->connection ? DUPLICATES : ORDER,
               EVENT " is sent behind %" PRId64 " in one connection", EVENT_OF(e), *last_id);
    if (e->id <= floor)
        breaks(sim, DUPLICATES, EVENT " is sent again, and %" PRId64 " had left", EVENT_OF(e),
               floor);
    if (e->is_accepted)
        talk->lanes[e->lane].duplicates++;
    check_duplicates(sim, talk, e->lane);
    *last_id = e->id;
    e->connection = talk->connection;
}

/* Whether the forwarder has it ahead: in flight, acked or delivered. */
static bool is_ahead(const struct talk *talk, const struct model_event *e)
{
    return e->is_accepted || e->connection == talk->connection;
}

/* `previous` names the last event before it that was delivered or is on its way. What may leave
 * otherwise, or has, is passed over; nothing else may be, or the recipient could not tell a gap. */
static void check_previous(struct sim *sim, const struct talk *talk, uint32_t event,
                           int64_t previous)
{
    struct model *model = &sim->model;
    const struct model_event *e = model_event(model, event);
    const struct model_lane *lane = &model->lanes[e->lane];
    for (uint32_t order = e->order; order > 1; order--) {
        const struct model_event *before = model_at(model, lane, order - 1);
        if (before->id < lane->epoch_first)
            break; /* of another epoch */
        if (before->id == previous && is_ahead(talk, before))
            return;
        if (ledger_may_drop(sim, before))
            continue;
        if (sim->was_meddled_with && before->may_die)
            continue; /* refused here, and delivered by the other forwarder */
        breaks(sim, ORDER, EVENT " names %" PRId64 " as the one before, not %" PRId64, EVENT_OF(e),
               previous, before->id);
        return;
    }
    if (e->order > 0 && previous != 0)
        breaks(sim, ORDER, EVENT " names %" PRId64 " as the one before, and there is none",
               EVENT_OF(e), previous);
}

static bool is_that(struct sim *sim, const outbox_message *message, uint32_t event)
{
    const struct model_event *e = model_event(&sim->model, event);
    struct wire wire = {0};
    char topic[16];
    model_topic(sim, e, topic);
    return strcmp(topic, message->topic) == 0 &&
           wire_read(sim, message, model_content_type(e->body), &wire) &&
           wire_has_body(sim, event, &wire) && wire_has_attributes(sim, message, &wire, event) &&
           age_is_told(sim, e, message->expiry_seconds);
}

/* The event of that id; where several transactions in doubt gave it out, the one it really is. */
static uint32_t identify(struct sim *sim, const outbox_message *message, outbox_lane lane,
                         int64_t id)
{
    struct model *model = &sim->model;
    uint32_t owner = model_owner(model, lane, id);
    if (owner && is_that(sim, message, owner))
        return owner;
    for (uint32_t event = model->event_count; event > 0; event--) {
        const struct model_event *e = model_event(model, event);
        if (e->lane != lane || e->id != id || e->fate != IN_DOUBT || !is_that(sim, message, event))
            continue;
        model_named(model, event, id);
        return event;
    }
    breaks(sim, NO_INVENTION, "%s id %" PRId64 " is sent to %s as %.*s, which nobody stored so",
           lane_name(lane), id, message->topic, (int)message->payload_len,
           (const char *)message->payload);
    return 0;
}

/* Who let events leave may have been killed before anybody could look. */
static void follow_others(struct sim *sim)
{
    outbox_statistics now = {0};
    outbox_forwarder_stats(sim->node.forwarder, &now);
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (now.sending[i].settled_id > sim->model.lanes[i].seen.id)
            ledger_look(sim, sim->node.db);
}

/* A forwarder that was killed behind its commit has told nobody of its announcement. */
static void discover(struct sim *sim, sqlite3 *db, outbox_lane lane, int64_t id)
{
    if (model_owner(&sim->model, lane, id) != 0)
        return;
    struct hush hush = ledger_hush(sim);
    (void)drops_discover(sim, db, lane);
    ledger_unhush(sim, &hush);
}

uint32_t oracle_published(struct sim *sim, struct talk *talk, const outbox_message *message)
{
    struct wire wire = {0};
    outbox_lane lane;
    if (!wire_read(sim, message, NULL, &wire) || !wire_lane(&wire, &lane)) {
        breaks(sim, NO_INVENTION, "a message cannot be read: %.*s", (int)message->payload_len,
               (const char *)message->payload);
        return 0;
    }
    ledger_follow(sim, talk->db, &talk->changes);
    if (talk == &sim->link.talk)
        follow_others(sim);
    check_identity(sim, talk, lane, &wire);
    check_epoch(sim, lane, &wire);
    discover(sim, talk->db, lane, wire.id);
    uint32_t event = identify(sim, message, lane, wire.id);
    if (event) {
        check_fate(sim, event);
        check_order(sim, talk, event);
        check_previous(sim, talk, event, wire.previous);
        recipient_told(sim, event, &wire);
        model_event(&sim->model, event)->names = wire.previous;
    }
    (void)sqlite3_reset(sim->reads_document);
    return event;
}

/* ---- What the forwarder has heard: I5 -------------------------------------------------------- */

/* Forgets what a former start of the forwarder knew, or what it knew under another source. */
static void update_heard(struct sim *sim, struct model_lane *lane)
{
    if (lane->heard_by != sim->node.starts || lane->heard_in != lane->retired_count) {
        /* After a cut nobody knows what has left the table before it was read once more. */
        lane->heard = sim->recovery == AFTER_CUT ? 0 : lane->settled;
        for (uint32_t order = 1; order <= lane->order_count; order++)
            model_at(&sim->model, lane, order)->acked = 0;
    }
    lane->heard_by = sim->node.starts;
    lane->heard_in = lane->retired_count;
}

/* An unbroken run of PUBACKs from the front, all in one connection, outlives it: what was heard of
 * must not be sent again, not even behind a reconnect. */
void oracle_heard(struct sim *sim, uint32_t event)
{
    struct model *model = &sim->model;
    struct model_lane *lane = model_lane_of(model, event);
    update_heard(sim, lane);
    model_event(model, event)->acked = sim->link.talk.connection;
    while (lane->heard < lane->order_count) {
        const struct model_event *e = model_at(model, lane, lane->heard + 1);
        bool is_gone = e->body == BODY_UNFIT || e->outcome > DELIVERED;
        bool is_in_flight = e->connection == sim->link.talk.connection;
        if ((!is_gone || is_in_flight) && e->acked != sim->link.talk.connection)
            return;
        lane->heard++;
    }
}

void oracle_sent(struct sim *sim, uint32_t event)
{
    const struct model_event *e = model_event(&sim->model, event);
    struct model_lane *lane = model_lane_of(&sim->model, event);
    update_heard(sim, lane);
    if (e->order == 0 || e->order > lane->heard)
        return;
    if (e->acked)
        breaks(sim, DUPLICATES, EVENT " is sent again behind its PUBACK", EVENT_OF(e));
    else /* it has left, and was read before that: the run waits for it as well */
        lane->heard = e->order - 1;
}

/* ---- What the broker takes ------------------------------------------------------------------- */

/* Passes what leaves otherwise, up to `order`. */
static void pass_others(struct sim *sim, struct model_lane *lane, uint32_t order)
{
    for (; lane->next < order; lane->next++) {
        struct model_event *e = model_at(&sim->model, lane, lane->next);
        if (!e->is_accepted && !ledger_may_drop(sim, e))
            return;
        if (!e->is_accepted)
            e->passed_by = sim->node.starts;
    }
}

/* The clock may be set back, the newer one may be gone; and of each lane the forwarder remembers
 * only the last that must die. */
bool oracle_may_come_late(const struct model_event *e)
{
    return e->was_too_old || e->keep_last || e->may_die;
}

/* It was passed, and comes all the same: that it was to leave otherwise is memory until it is
 * settled. So another start of the forwarder may send it, and the recipient takes it for stale. */
static void accept_late(struct sim *sim, struct model_event *e)
{
    bool may_change = oracle_may_come_late(e);
    if (e->passed_by == sim->node.starts && !sim->was_meddled_with && !may_change &&
        !sim->model.lanes[e->lane].epoch_changes)
        breaks(sim, ORDER, EVENT " is accepted behind later ones", EVENT_OF(e));
    e->is_accepted = true;
    e->came_late = true;
}

void oracle_accepted(struct sim *sim, const struct talk *talk, uint32_t event)
{
    struct model *model = &sim->model;
    struct model_event *e = model_event(model, event);
    struct model_lane *lane = &model->lanes[e->lane];
    if (e->fate != COMMITTED)
        return; /* said already */
    e->told = e->names;
    pass_others(sim, lane, e->order);
    if (e->order == lane->next) {
        e->is_accepted = true;
        lane->next++;
    } else if (e->order < lane->next && !e->is_accepted) {
        accept_late(sim, e);
    } else if (e->order > lane->next && !talk->lanes[e->lane].refused_one) {
        breaks(sim, ORDER, EVENT " is accepted, and %lld before it was not", EVENT_OF(e),
               (long long)model_at(model, lane, lane->next)->id);
    }
    recipient_takes(sim, talk, event);
}

/* ---- What has left: I1 ----------------------------------------------------------------------- */

void oracle_left(struct sim *sim, outbox_lane number, int64_t id)
{
    struct model_lane *lane = &sim->model.lanes[number];
    while (lane->settled < lane->order_count) {
        const struct model_event *e = model_at(&sim->model, lane, lane->settled + 1);
        if (e->id > id)
            return;
        if (e->outcome == STAYS && !e->is_accepted && !ledger_may_drop(sim, e)) {
            breaks(sim, NO_LOSS, EVENT " has left the table and no broker has it", EVENT_OF(e));
            return;
        }
        lane->settled++;
    }
}

/* ---- After each step: I10, I12 --------------------------------------------------------------- */

void oracle_after_step(struct sim *sim, int code, uint32_t next_ms)
{
    outbox_statistics now = {0};
    oracle_code(sim, "step", code);
    outbox_forwarder_stats(sim->node.forwarder, &now);
    ledger_follow(sim, sim->node.db, &sim->node.changes);
    follow_others(sim);
    for (int i = 0; i < OUTBOX_LANES; i++)
        oracle_left(sim, (outbox_lane)i,
                    now.sending[i].settled_id > sim->model.lanes[i].passed
                        ? now.sending[i].settled_id
                        : sim->model.lanes[i].passed); /* one at rest need not have looked */
    turns_after_step(sim, &now);
    rest_after_step(sim, now.state);
    if (next_ms > 1u << 29)
        breaks(sim, CONTRACT, "the step wants to be called in %u ms", next_ms);
    if (now.in_flight > sim->settings.forwarder.window ||
        now.in_flight > (sim->link.is_open ? sim->link.receive_maximum : 0))
        breaks(sim, CALM, "%u events are in flight", now.in_flight);
    if (device_locks(&sim->device, sim->profile->one_connection ? PROCESS_APP : PROCESS_FORWARDER,
                     sim->settings.is_wal) > 0 &&
        sim->device.is_alive[PROCESS_FORWARDER] && sim->device.powered &&
        (!sim->profile->one_connection || sqlite3_get_autocommit(sim->node.db)))
        breaks(sim, ISOLATION, "the forwarder holds a lock after its step");
}
