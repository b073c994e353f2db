/* SPDX-License-Identifier: MIT
 *
 * drain.c - what the forwarder does with the table while it is online.
 *
 * Events that were fetched are published as the window allows, urgent ones first; what is
 * acknowledged leaves the table in batches, with a pause behind each so that the application gets
 * its turn. After a crash at any point the table has every event that no settle has counted.
 */
#include "announce.h"
#include "expiry.h"
#include "machine.h"

#include <assert.h>
#include <string.h>

enum {
    PUBLISH_MAX = 256,    /* publishes of one step */
    LINK_RETRY_MS = 5,    /* the link had no room */
    SETTLE_PAUSE_MS = 2,  /* least pause behind a settle: the application's turn */
    PLACE_MS = 2000,      /* between two looks where the database's file is */
    FULL_CALM_MS = 10000, /* the disk was not full for so long: settle more rows at once */
    CHECKPOINT_LOOK_MS = 20,
    CHECKPOINT_MS = 1000, /* no writer for so long: the application is idle */
    ANNOUNCE_PAUSE_MS = 1000,
    HOUSE_PAUSE_MS = 10000, /* behind a failure of what is not urgent */
    URGENT_RUN_MAX = 7      /* urgent events in a row while normal ones wait */
};

/* ---- Sending --------------------------------------------------------------------------------- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static int64_t wall_now(const outbox_forwarder *f)
{
    return ob_sql_now(f->store.vfs);
}

static unsigned window_size(const outbox_forwarder *f)
{
    return f->receive_maximum < f->config.window ? f->receive_maximum : f->config.window;
}

/* The last event of the same epoch that was delivered or is on its way, 0 if there is none. Behind
 * a hole that was mended, events follow others of larger ids that were sent before. */
static int64_t last_ahead(const outbox_forwarder *f, const struct ob_lane *lane,
                          const struct ob_entry *entry)
{
    const struct ob_entry *before = ob_window_ahead(&lane->window);
    int64_t ahead = before ? before->id : ob_machine_head(f, lane)->last;
    if (lane->damage.sent > ahead && lane->damage.sent < entry->id)
        ahead = lane->damage.sent;
    return ahead >= ob_message_of(entry->message)->epoch_first ? ahead : 0;
}

static bool make_durable(outbox_forwarder *f, const struct ob_lane *lane, int64_t id)
{
    const int64_t ids[OUTBOX_LANES] = {f->lane[OUTBOX_NORMAL].cursor,
                                       f->lane[OUTBOX_URGENT].cursor};
    if (!ob_store_needs_barrier(&f->store, lane->number, id))
        return true;
    if (ob_store_is_blocked(&f->store) || !ob_machine_has_come(f, f->store_not_before))
        return false;
    int code = ob_store_barrier(&f->store, ids);
    if (code != OUTBOX_OK)
        ob_machine_store_failed(f, code);
    else if (ob_machine_is_settled(f))
        ob_machine_store_works(f); /* else the next settle will tell */
    return code == OUTBOX_OK;
}

static struct ob_lane *other_lane(outbox_forwarder *f, const struct ob_lane *lane)
{
    return &f->lane[lane->number == OUTBOX_URGENT ? OUTBOX_NORMAL : OUTBOX_URGENT];
}

/* The first event of an epoch names none before it. So where one of the epoch before is refused
 * yet, a recipient would take the new epoch for begun, and what is sent again for stale. */
static bool must_wait_for_epoch(const struct ob_lane *lane, const struct ob_entry *entry)
{
    const struct ob_entry *before = ob_window_ahead(&lane->window);
    return lane->window.in_flight > 0 && before && entry->message &&
           before->id < ob_message_of(entry->message)->epoch_first;
}

/* What was refused must be the only one in flight; nothing else begins while it waits for that. */
static bool may_go(outbox_forwarder *f, struct ob_lane *lane, const struct ob_entry *entry)
{
    struct ob_lane *other = other_lane(f, lane);
    if ((other->refusal.alone_id && other->window.in_flight > 0) ||
        (other->waits_for_acks && ob_rest_allows(f, other)))
        return false;
    if (ob_machine_in_flight(f) > 0 && ob_refusal_is_careful(f))
        return false;
    if (must_wait_for_epoch(lane, entry))
        return false;
    if (lane->refusal.alone_id)
        return ob_machine_in_flight(f) == 0 && ob_refusal_may_go(f, lane, entry->id);
    return !ob_refusal_has_turn(f, other);
}

enum turn {
    TURN_TAKEN,  /* something was sent or read: go on */
    TURN_PASSED, /* this lane has nothing to send now */
    TURN_OVER    /* nothing can be sent now */
};

/* The refusal ends the connection, so those ahead of it are acked first. */
static enum turn too_large(outbox_forwarder *f, struct ob_lane *lane, const struct ob_entry *entry)
{
    lane->waits_for_acks = ob_machine_in_flight(f) > 0;
    if (lane->waits_for_acks)
        return TURN_OVER;
    if (entry->message)
        ob_refusal_of(f, lane, entry->id, OB_REASON_TOO_LARGE);
    else
        ob_refusal_hold_large(f, lane, entry->id);
    return TURN_OVER;
}

/* What was not known when the message was built: what went ahead of it, and how long it is still
 * worth something. It may have become too old since it had its turn, as the barrier takes its time;
 * it must not live for ever at the broker then, which is what 0 says. */
static outbox_link_result hand_over(outbox_forwarder *f, const struct ob_lane *lane,
                                    const struct ob_entry *entry, uint32_t token)
{
    int64_t expires = ob_message_of(entry->message)->expires, now = expires ? wall_now(f) : 0;
    ob_message_set_previous(entry->message, last_ahead(f, lane, entry));
    outbox_message wire = *entry->message;
    wire.expiry_seconds = ob_expiry_has_come(expires, now) ? 1 : ob_expiry_left(expires, now);
    return f->link->methods->publish(f->link, token * OUTBOX_LANES + lane->number, &wire);
}

static enum turn publish(outbox_forwarder *f, struct ob_lane *lane, struct ob_entry *entry,
                         uint32_t token)
{
    outbox_link_result result = OUTBOX_LINK_TOO_LARGE;
    if (!make_durable(f, lane, entry->id))
        return TURN_OVER;
    if (entry->message)
        result = hand_over(f, lane, entry, token);
    switch (result) {
    case OUTBOX_LINK_OK:
        if (ob_machine_in_flight(f) == 0)
            f->watch_at = f->now + f->config.ack_timeout_ms;
        ob_pace_spend(&f->pace, strlen(entry->message->topic) + entry->message->payload_len);
        ob_window_sent(&lane->window, entry, f->now);
        f->stats.published++;
        f->urgent_run = lane->number == OUTBOX_URGENT ? f->urgent_run + 1 : 0;
        return TURN_TAKEN;
    case OUTBOX_LINK_TOO_LARGE:
        return too_large(f, lane, entry);
    case OUTBOX_LINK_AGAIN:
    case OUTBOX_LINK_DOWN: /* CLOSED follows */
    default:
        f->link_not_before = f->now + LINK_RETRY_MS;
        return TURN_OVER;
    }
}

static uint64_t pace_at(outbox_forwarder *f)
{
    return ob_pace_next(&f->pace, &f->config.pace, f->now);
}

/* Between the fetch and its turn. */
static bool has_expired_since(const outbox_forwarder *f, const struct ob_entry *entry)
{
    int64_t expires = entry->message ? ob_message_of(entry->message)->expires : 0;
    return expires > 0 && ob_expiry_has_come(expires, wall_now(f));
}

static enum turn take_turn(outbox_forwarder *f, struct ob_lane *lane)
{
    uint32_t token;
    if (!ob_rest_allows(f, lane))
        return TURN_PASSED;
    struct ob_entry *entry = ob_window_next(&lane->window, &token);
    if (!entry)
        return lane->more && ob_fetch_events(f, lane) ? TURN_TAKEN : TURN_PASSED;
    bool was_sent = ob_damage_was_sent(lane, entry->id);
    if (was_sent || has_expired_since(f, entry)) {
        ob_window_drop(entry, was_sent ? OB_DELIVERED : OB_EXPIRED);
        return TURN_TAKEN;
    }
    if (!ob_machine_has_come(f, f->link_not_before) || !ob_machine_has_come(f, pace_at(f)))
        return TURN_OVER;
    return may_go(f, lane, entry) ? publish(f, lane, entry, token) : TURN_PASSED;
}

void ob_drain_send(outbox_forwarder *f)
{
    for (int i = 0; i < PUBLISH_MAX; i++) {
        if (f->state != OB_ONLINE || f->is_moved || ob_machine_in_flight(f) >= window_size(f))
            return;
        struct ob_lane *lane =
            &f->lane[f->urgent_run < URGENT_RUN_MAX ? OUTBOX_URGENT : OUTBOX_NORMAL];
        enum turn turn = take_turn(f, lane);
        if (turn == TURN_PASSED && f->state == OB_ONLINE)
            turn = take_turn(f, other_lane(f, lane));
        if (turn != TURN_TAKEN)
            return;
    }
    f->full_step = true;
}

/* ---- Settling -------------------------------------------------------------------------------- */

/* When what is acked should be settled; `f->now` or earlier means now. */
static uint64_t settle_at(const outbox_forwarder *f, const struct ob_lane *lane, uint32_t count)
{
    if (count >= f->settle_limit || ob_window_is_full(&lane->window))
        return f->now;
    int64_t reaches = ob_window_at(&lane->window, count - 1)->id;
    if (lane->flush_id && (reaches >= lane->flush_id || lane->window.in_flight == 0))
        return f->now;
    if (ob_rest_is_possible(f) && lane->window.in_flight == 0)
        return f->now; /* to go to rest */
    uint64_t quiet = lane->acked_at + f->config.settle_quiet_ms;
    uint64_t oldest = lane->unsettled_since + UINT64_C(10) * f->config.settle_quiet_ms;
    return oldest < quiet ? oldest : quiet;
}

static void after_settle(outbox_forwarder *f, struct ob_lane *lane, uint32_t count)
{
    ob_window_settled(&lane->window, count);
    int64_t settled_id = ob_machine_head(f, lane)->id;
    ob_machine_store_works(f);
    lane->unsettled_since = f->now;
    if (lane->flush_id && settled_id >= lane->flush_id)
        lane->flush_id = 0;
    if (lane->is_full)
        lane->must_be_measured = true; /* it may be so no more */
    if (lane->flush_id && ob_window_count(&lane->window) == 0)
        lane->more = true; /* or nothing is left up to there */
    if (lane->refusal.alone_id && settled_id >= lane->refusal.alone_id)
        ob_refusal_passed(f, lane);
    if (lane->refusal.dead_id <= settled_id)
        lane->refusal.dead_id = 0;
}

/* A rollback journal takes the pages of all the rows that one transaction deletes, and it is gone
 * behind it: where there is no room for that of many rows, there may be for that of one. */
static void settle_fewer(outbox_forwarder *f)
{
    if (f->store.journal == OB_JOURNAL_WAL || f->settle_limit == 1)
        return;
    f->settle_limit /= 2;
    f->store_not_before = f->now;
}

static void settle_more(outbox_forwarder *f)
{
    if (f->settle_limit == f->config.settle_batch ||
        !ob_machine_has_come(f, f->full_at + FULL_CALM_MS))
        return;
    f->settle_limit *= 2;
    if (f->settle_limit > f->config.settle_batch)
        f->settle_limit = f->config.settle_batch;
}

static void settle(outbox_forwarder *f, struct ob_lane *lane, uint32_t count)
{
    enum ob_head head;
    uint64_t began = ob_machine_clock(f);
    int code = ob_store_settle(&f->store, lane->number, &lane->window, count, &head);
    uint64_t ended = ob_machine_clock(f);
    /* Ten times what the lock was held: SQLite's locks are not fair, so leave it to others. */
    f->settle_not_before = ended + SETTLE_PAUSE_MS + 10 * (ended - began);
    if (code == OUTBOX_CORRUPT)
        ob_damage_stops_settling(f, lane);
    if (code != OUTBOX_OK)
        ob_machine_store_failed(f, code);
    if (code == OUTBOX_DISK_FULL)
        settle_fewer(f);
    if (code != OUTBOX_OK)
        return;
    settle_more(f);
    if (head != OB_HEAD_SAME)
        ob_machine_follow_head(f, lane, head);
    else
        after_settle(f, lane, count);
}

void ob_drain_settle(outbox_forwarder *f)
{
    for (int i = OUTBOX_LANES - 1; i >= 0; i--) {
        struct ob_lane *lane = &f->lane[i];
        ob_damage_release(lane);
        uint32_t count = ob_machine_due(f, lane);
        if (count > 0 && !f->is_moved && !ob_store_is_blocked(&f->store) &&
            ob_machine_has_come(f, f->settle_not_before) &&
            ob_machine_has_come(f, f->store_not_before) &&
            ob_machine_has_come(f, settle_at(f, lane, count)))
            settle(f, lane, count);
    }
}

/* All that fails keeps everybody from the database for a second. What comes first in a step and is
 * not urgent must then stand back for longer, or the settles, which may be what helps, never had a
 * turn. */
static uint64_t after_failure(const outbox_forwarder *f, int code)
{
    return code == OUTBOX_BUSY ? f->now : f->now + HOUSE_PAUSE_MS;
}

/* ---- Announcing ------------------------------------------------------------------------------ */

static bool wants_to_announce(const outbox_forwarder *f, const struct ob_lane *lane)
{
    return f->state == OB_ONLINE && lane->announce_topic && lane->announce_topic[0] != '\0' &&
           ob_announce_is_due(&f->store.table[lane->number]);
}

static uint64_t announce_at(const outbox_forwarder *f, const struct ob_lane *lane)
{
    return later(lane->announce_not_before, later(f->settle_not_before, f->store_not_before));
}

static void announce(outbox_forwarder *f, struct ob_lane *lane)
{
    enum ob_head head;
    if (!wants_to_announce(f, lane) || ob_store_is_blocked(&f->store) ||
        !ob_machine_has_come(f, announce_at(f, lane)))
        return;
    int code = ob_announce(&f->store, lane->number, lane->announce_topic, &head);
    lane->announce_not_before = f->now + ANNOUNCE_PAUSE_MS;
    lane->more = true;
    if (code != OUTBOX_OK) {
        lane->announce_not_before = later(lane->announce_not_before, after_failure(f, code));
        ob_machine_store_failed(f, code);
    } else if (head != OB_HEAD_SAME) {
        ob_machine_follow_head(f, lane, head);
    }
}

/* ---- Other writers, checkpoint --------------------------------------------------------------- */

static bool looks_for_others(const outbox_forwarder *f)
{
    return f->config.foreign_check_ms != OUTBOX_NEVER;
}

/* A hint comes at the write, and the commit is visible some time later, or never: behind the sync
 * of the WAL, of which nobody tells. */
static uint64_t look_at(const outbox_forwarder *f)
{
    static const unsigned after_ms[OB_LOOKS] = {0, 1, 5, 20, 100, 500, 0};
    uint64_t regular = f->looked_at + f->config.foreign_check_ms;
    if (f->looks == OB_LOOKS || f->look_from + after_ms[f->looks] > regular)
        return regular;
    return f->look_from + after_ms[f->looks];
}

static void look_for_others(outbox_forwarder *f)
{
    bool changed = false;
    f->looks = f->looks < OB_LOOKS - 2 ? f->looks + 1 : OB_LOOKS;
    if (ob_store_is_blocked(&f->store))
        return;
    f->looked_at = f->now;
    int code = ob_store_has_changed(&f->store, &changed);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        return;
    }
    for (int i = 0; i < OUTBOX_LANES && changed; i++) {
        f->lane[i].more = true;
        f->lane[i].must_be_measured = true;
    }
    if (changed) {
        f->active_at = f->now;
        f->looks = OB_LOOKS;
        f->must_look_for_drift = true;
    }
}

static bool wants_checkpoint(const outbox_forwarder *f)
{
    return !f->config.shared_connection && f->store.journal == OB_JOURNAL_WAL &&
           (f->disk_was_full || f->store.wal_frames > f->config.checkpoint_frames);
}

/* On a full disk it is not waited for an idle second: nobody commits there, but whoever finds the
 * room first that somebody made would write into it, and then not even the checkpoint has any. */
static uint64_t checkpoint_at(const outbox_forwarder *f)
{
    uint64_t idle = f->disk_was_full ? f->now : f->active_at + CHECKPOINT_MS;
    return later(idle, later(f->checkpoint_not_before, f->store_not_before));
}

/* The application checkpoints; we do only where it is idle and the WAL has outgrown its limit by
 * far, or a long drain without an application would never stop growing it; or where the disk was
 * full: the WAL has no room to grow, its application cannot commit, so it would never
 * checkpoint. */
static void checkpoint(outbox_forwarder *f)
{
    bool whole;
    int64_t version = f->store.version;
    look_for_others(f);
    if (f->store.version != version)
        f->checkpoint_not_before = f->now + CHECKPOINT_LOOK_MS;
    if (!ob_machine_has_come(f, checkpoint_at(f)))
        return;
    int code = ob_store_checkpoint(&f->store, &whole);
    f->checkpoint_not_before = f->now + CHECKPOINT_MS;
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        f->checkpoint_not_before += CHECKPOINT_MS; /* a settle has its turn first */
    }
    f->disk_was_full = f->disk_was_full && !whole;
}

/* What is sent and settled from a file that nobody can open again was neither sent nor settled. */
static void look_for_file(outbox_forwarder *f)
{
    f->place_at = f->now + PLACE_MS;
    int code = ob_store_check_place(&f->store);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
    } else if (f->is_moved) {
        f->is_moved = false;
        f->store_not_before = f->now;
        ob_machine_store_works(f);
    }
}

static bool has_limit(const outbox_forwarder *f, const struct ob_lane *lane)
{
    const struct ob_limit *limit = &f->store.limit[lane->number];
    return limit->max_events > 0 || limit->max_bytes > 0;
}

/* Rows of other writers are let in; then the lane may hold too much. */
static void keep_limit(outbox_forwarder *f, struct ob_lane *lane)
{
    enum ob_head head;
    if (!lane->must_be_measured || !has_limit(f, lane) || ob_store_is_blocked(&f->store) ||
        !ob_machine_has_come(f, later(f->store_not_before, lane->measure_not_before)))
        return;
    int code = ob_store_keep_limit(&f->store, lane->number, outbox_forwarder_acked(f, lane->number),
                                   &head);
    bool failed = code != OUTBOX_OK && code != OUTBOX_FULL;
    if (failed)
        lane->measure_not_before = after_failure(f, code);
    else
        lane->is_full = code == OUTBOX_FULL;
    /* Where the tombstone has moved, it may have been all that was looked at. */
    lane->must_be_measured = failed || (code == OUTBOX_OK && head != OB_HEAD_SAME);
    if (code == OUTBOX_FULL)
        ob_machine_trouble(f, code, "%s", f->store.error.sentence);
    else if (code != OUTBOX_OK)
        ob_machine_store_failed(f, code);
    else if (head != OB_HEAD_SAME)
        ob_machine_follow_head(f, lane, head);
    else if (f->error.code == OUTBOX_FULL && !other_lane(f, lane)->is_full)
        ob_machine_clear_trouble(f);
}

static bool must_look_for_others(const outbox_forwarder *f)
{
    bool rests = f->state == OB_IDLE && f->gate != OUTBOX_GATE_CLOSED;
    return looks_for_others(f) &&
           (f->state == OB_ONLINE || rests || has_limit(f, &f->lane[OUTBOX_NORMAL]) ||
            has_limit(f, &f->lane[OUTBOX_URGENT]));
}

void ob_drain_keep_house(outbox_forwarder *f)
{
    bool every_step = f->config.shared_connection != 0;
    if (ob_machine_has_come(f, f->place_at))
        look_for_file(f);
    if (f->is_moved)
        return;
    if (must_look_for_others(f) && (every_step || ob_machine_has_come(f, look_at(f))))
        look_for_others(f);
    ob_drift_look(f);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        keep_limit(f, &f->lane[i]);
        announce(f, &f->lane[i]);
    }
    if (wants_checkpoint(f) && ob_machine_has_come(f, checkpoint_at(f)))
        checkpoint(f);
}

/* ---- The next turn --------------------------------------------------------------------------- */

/* When the lane can go on sending, where it is held up by something that passes with time alone. */
static void next_send(outbox_forwarder *f, struct ob_lane *lane, uint32_t *next_ms)
{
    uint32_t token;
    uint64_t at = later(later(f->store_not_before, f->link_not_before), pace_at(f));
    if (!ob_rest_allows(f, lane))
        return;
    if (ob_refusal_has_turn(f, other_lane(f, lane)))
        return; /* what that waits for is awaited there */
    const struct ob_entry *entry = ob_window_next(&lane->window, &token);
    bool must_wait = entry && !may_go(f, lane, entry);
    if (ob_machine_in_flight(f) > 0 && (lane->waits_for_acks || must_wait))
        return;
    if (must_wait && !lane->refusal.alone_id)
        return; /* it is the other lane's turn, which knows what it waits for */
    if (entry && entry->id == lane->refusal.alone_id) {
        if (lane->refusal.is_suspect && !ob_refusal_may_go(f, lane, entry->id))
            return; /* it waits for signs of life */
        at = later(at, lane->refusal.not_before);
    }
    if (entry || (lane->more && !ob_window_is_full(&lane->window)))
        ob_machine_sooner(f, at, next_ms);
}

static void next_settle(outbox_forwarder *f, const struct ob_lane *lane, uint32_t *next_ms)
{
    uint32_t count = ob_machine_due(f, lane);
    if (count > 0)
        ob_machine_sooner(
            f, later(settle_at(f, lane, count), later(f->settle_not_before, f->store_not_before)),
            next_ms);
}

/* Where nothing else is to be done, nobody is woken up to look for the file. */
void ob_drain_next(outbox_forwarder *f, uint32_t *next_ms)
{
    if (f->is_moved) {
        ob_machine_sooner(f, f->place_at, next_ms);
        return;
    }
    if (must_look_for_others(f))
        ob_machine_sooner(f, look_at(f), next_ms);
    if (wants_checkpoint(f))
        ob_machine_sooner(f, checkpoint_at(f), next_ms);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        if (f->state == OB_ONLINE && ob_machine_in_flight(f) < window_size(f))
            next_send(f, &f->lane[i], next_ms);
        next_settle(f, &f->lane[i], next_ms);
        if (wants_to_announce(f, &f->lane[i]))
            ob_machine_sooner(f, announce_at(f, &f->lane[i]), next_ms);
        if (f->lane[i].must_be_measured && has_limit(f, &f->lane[i]))
            ob_machine_sooner(f, later(f->store_not_before, f->lane[i].measure_not_before),
                              next_ms);
    }
}
