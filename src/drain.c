/* SPDX-License-Identifier: MIT
 *
 * drain.c - what the forwarder does with the table while it is online.
 *
 * A batch is fetched, copied and let go; its events are published as the window allows; what is
 * acknowledged leaves the table in batches, with a pause behind each so that the application gets
 * its turn. After a crash at any point the table has every event that no settle has counted.
 */
#include "machine.h"

#include <assert.h>
#include <string.h>

enum {
    FETCH_MAX = 256,      /* rows of one fetch */
    PUBLISH_MAX = 256,    /* publishes of one step */
    LINK_RETRY_MS = 5,    /* the link had no room */
    SETTLE_PAUSE_MS = 2,  /* least pause behind a settle: the application's turn */
    PLACE_MS = 2000,      /* between two looks where the database's file is */
    FULL_CALM_MS = 10000, /* the disk was not full for so long: settle more rows at once */
    CHECKPOINT_LOOK_MS = 20,
    CHECKPOINT_MS = 1000, /* no writer for so long: the application is idle */
    URGENT_RUN_MAX = 7    /* urgent events in a row while normal ones wait */
};

/* ---- Fetching ------------------------------------------------------------------------------------------------- */

/* The last event ahead that was delivered or is on its way. */
static int64_t last_ahead(const outbox_forwarder *f, const struct ob_lane *lane)
{
    for (uint32_t i = ob_window_count(&lane->window); i > 0; i--)
        if (ob_window_at(&lane->window, i - 1)->verdict != OB_DROPPED)
            return ob_window_at(&lane->window, i - 1)->id;
    return ob_machine_head(f, lane)->last;
}

struct taking {
    outbox_forwarder *f;
    struct ob_lane *lane;
    bool identified;   /* f->identity was read in this fetch */
    int64_t misplaced; /* this event came behind one of a larger id; 0: none did */
    int code;
};

static bool identify(struct taking *taking, int64_t id)
{
    outbox_forwarder *f = taking->f;
    if (taking->identified && id < f->identity.until)
        return true;
    taking->code = ob_schema_identity(f->store.db, &f->store.identity_statement,
                                      taking->lane->number, id, &f->identity, &f->store.error);
    taking->identified = taking->code == OUTBOX_OK;
    return taking->identified;
}

/* SQLite reads a table in the order of its pages and does not look whether the ids go up. */
static bool is_misplaced(struct taking *taking, int64_t id)
{
    outbox_forwarder *f = taking->f;
    if (id > taking->lane->cursor && id > ob_machine_head(f, taking->lane)->id)
        return false;
    taking->misplaced = id;
    taking->code = ob_error_set(&f->store.error, OUTBOX_CORRUPT,
                                "event %lld lies behind larger ids in %s; the file is damaged, "
                                "restore it from a backup",
                                (long long)id, ob_lane_table(taking->lane->number));
    return true;
}

/* Builds the message into the lane's buffer. NULL: it does not fit. */
static const outbox_message *build(struct taking *taking, const struct ob_row *row)
{
    outbox_forwarder *f = taking->f;
    int64_t ahead = last_ahead(f, taking->lane);
    return ob_message_build(&taking->lane->buffer, row, &f->identity,
                            ahead >= f->identity.epoch.first ? ahead : 0, f->config.mode);
}

/* One row into the window, its message into the buffer. False ends the fetch. */
static bool take_row(void *context, const struct ob_row *row)
{
    struct taking *taking = context;
    struct ob_lane *lane = taking->lane;
    size_t payload_max = taking->f->config.payload_max;
    if (is_misplaced(taking, row->id))
        return false;
    const outbox_message *message = NULL;
    enum ob_unfit unfit = row->is_too_large ? OB_FIT : ob_message_check(row);

    lane->oversize = row->is_too_large                ? OB_UNREAD
                     : row->payload.len > payload_max ? row->payload.len
                                                      : 0;
    if (unfit == OB_FIT && lane->oversize == 0) {
        if (!identify(taking, row->id))
            return false;
        message = build(taking, row);
        if (!message && lane->buffer.used > 0)
            return false; /* it is the first one of the next fetch */
    }
    if (row->id <= lane->flushed_id)
        lane->flushed_id = 0; /* the id was given out again */
    ob_window_add(&lane->window, row->id, message, (int)unfit);
    lane->cursor = row->id;
    return unfit != OB_FIT || message;
}

static void follow_head(outbox_forwarder *f, struct ob_lane *lane, enum ob_head head)
{
    if (head == OB_HEAD_ADVANCED) {
        ob_machine_advance(f, lane);
        return;
    }
    ob_machine_say(f, OUTBOX_LOG_WARNING, OUTBOX_OK,
                   "the outbox was changed by hand or restored; a new epoch begins");
    ob_machine_start_over(f, lane);
}

/* What somebody asked for may be deleted by hand while it waits: the refused event; the one up to
 * which a flush was asked for. All that is left up to the cursor is in the window. */
static void miss_deleted(outbox_forwarder *f, struct ob_lane *lane, bool at_end)
{
    uint32_t count = ob_window_count(&lane->window);
    if (count == 0 && at_end && lane->flush_id) {
        lane->flushed_id = lane->flush_id;
        lane->flush_id = 0;
    }
    if (!lane->alone_id || (!at_end && lane->cursor < lane->alone_id))
        return;
    for (uint32_t i = 0; i < count; i++)
        if (ob_window_at(&lane->window, i)->id == lane->alone_id)
            return;
    ob_machine_passed_refusal(f, lane);
}

/* Takes back what was read, but for the first `count` entries. */
static void take_back(struct ob_lane *lane, uint32_t count, int64_t cursor)
{
    ob_window_take_back(&lane->window, count);
    lane->cursor = cursor;
}

/* Which of two neighbours has the wrong id nobody knows. Those below both of them are in order. */
static void take_back_misplaced(const struct taking *taking, uint32_t had, int64_t cursor)
{
    struct ob_lane *lane = taking->lane;
    uint32_t count = ob_window_count(&lane->window);
    while (count > had && ob_window_at(&lane->window, count - 1)->id >= taking->misplaced)
        count--;
    take_back(lane, count, count > had ? ob_window_at(&lane->window, count - 1)->id : cursor);
}

static bool nothing_is_due(const outbox_forwarder *f)
{
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (ob_drain_due(f, &f->lane[i]) > 0)
            return false;
    return true;
}

/* Reads events behind the cursor. Only once all that was read is sent: the buffer is used anew. */
static bool fetch(outbox_forwarder *f, struct ob_lane *lane)
{
    uint32_t had = ob_window_count(&lane->window), room = ob_window_room(&lane->window);
    struct taking taking = {.f = f, .lane = lane, .code = OUTBOX_OK};
    struct ob_fetch request = {.take = take_row,
                               .context = &taking,
                               .after = lane->cursor,
                               .limit = room < FETCH_MAX ? room : FETCH_MAX};
    if (room == 0 || ob_store_is_blocked(&f->store) || !ob_machine_has_come(f, f->store_not_before))
        return false;
    lane->buffer.used = 0;
    int code = ob_store_fetch(&f->store, lane->number, &request);
    if (code == OUTBOX_OK)
        code = taking.code;
    if (!request.has_ended)
        take_back(lane, had, request.after);
    else if (taking.misplaced)
        take_back_misplaced(&taking, had, request.after);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        return false;
    }
    if (request.head != OB_HEAD_SAME) {
        follow_head(f, lane, request.head);
        return false;
    }
    lane->more = !request.at_end;
    miss_deleted(f, lane, request.at_end);
    if (nothing_is_due(f))
        ob_machine_store_works(f); /* else the next settle will tell */
    return true;
}

/* ---- Sending ---------------------------------------------------------------------------------------------------- */

static unsigned window_size(const outbox_forwarder *f)
{
    return f->receive_maximum < f->config.window ? f->receive_maximum : f->config.window;
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
    else if (nothing_is_due(f))
        ob_machine_store_works(f); /* else the next settle will tell */
    return code == OUTBOX_OK;
}

/* Whether the lane has something to send that must go alone, and whose time has come. */
static bool wants_to_go_alone(outbox_forwarder *f, struct ob_lane *lane)
{
    uint32_t token;
    if (!lane->alone_id)
        return false;
    const struct ob_entry *entry = ob_window_next(&lane->window, &token);
    return entry && (entry->id != lane->alone_id || ob_machine_has_come(f, lane->alone_not_before));
}

static struct ob_lane *other_lane(outbox_forwarder *f, const struct ob_lane *lane)
{
    return &f->lane[lane->number == OUTBOX_URGENT ? OUTBOX_NORMAL : OUTBOX_URGENT];
}

/* What was refused must be the only one in flight; nothing else begins while it waits for that. */
static bool may_go(outbox_forwarder *f, struct ob_lane *lane)
{
    struct ob_lane *other = other_lane(f, lane);
    if ((other->alone_id && other->window.in_flight > 0) || other->waits_for_acks)
        return false;
    if (lane->alone_id)
        return ob_machine_in_flight(f) == 0 && wants_to_go_alone(f, lane);
    return !wants_to_go_alone(f, other);
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
        ob_machine_refuse(f, lane, entry->id, OB_REASON_TOO_LARGE);
    else
        ob_machine_hold_oversized(f, lane, entry->id);
    return TURN_OVER;
}

static enum turn publish(outbox_forwarder *f, struct ob_lane *lane, struct ob_entry *entry,
                         uint32_t token)
{
    outbox_link_result result = OUTBOX_LINK_TOO_LARGE;
    if (!make_durable(f, lane, entry->id))
        return TURN_OVER;
    if (entry->message)
        result =
            f->link->methods->publish(f->link, token * OUTBOX_LANES + lane->number, entry->message);
    switch (result) {
    case OUTBOX_LINK_OK:
        if (ob_machine_in_flight(f) == 0)
            f->watch_at = f->now + f->config.ack_timeout_ms;
        ob_window_sent(&lane->window, entry, f->now);
        f->stats.published++;
        f->urgent_run = lane->number == OUTBOX_URGENT ? f->urgent_run + 1 : 0;
        return TURN_TAKEN;
    case OUTBOX_LINK_TOO_LARGE:
        return too_large(f, lane, entry);
    case OUTBOX_LINK_AGAIN:
    case OUTBOX_LINK_DOWN: /* CLOSED follows */
        f->link_not_before = f->now + LINK_RETRY_MS;
        return TURN_OVER;
    }
    return TURN_OVER;
}

static enum turn take_turn(outbox_forwarder *f, struct ob_lane *lane)
{
    uint32_t token;
    struct ob_entry *entry = ob_window_next(&lane->window, &token);
    if (!entry)
        return lane->more && fetch(f, lane) ? TURN_TAKEN : TURN_PASSED;
    if (!ob_machine_has_come(f, f->link_not_before))
        return TURN_OVER;
    return may_go(f, lane) ? publish(f, lane, entry, token) : TURN_PASSED;
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

/* ---- Settling ----------------------------------------------------------------------------------------------------- */

/* When what is acked should be settled; `f->now` or earlier means now. */
static uint64_t settle_at(const outbox_forwarder *f, const struct ob_lane *lane, uint32_t count)
{
    if (count >= f->settle_limit || ob_window_is_full(&lane->window))
        return f->now;
    int64_t reaches = ob_window_at(&lane->window, count - 1)->id;
    if (lane->flush_id && (reaches >= lane->flush_id || lane->window.in_flight == 0))
        return f->now;
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
    if (lane->flush_id && ob_window_count(&lane->window) == 0)
        lane->more = true; /* or nothing is left up to there */
    if (lane->alone_id && settled_id >= lane->alone_id)
        ob_machine_passed_refusal(f, lane);
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
    if (code != OUTBOX_OK)
        ob_machine_store_failed(f, code);
    if (code == OUTBOX_DISK_FULL)
        settle_fewer(f);
    if (code != OUTBOX_OK)
        return;
    settle_more(f);
    if (head != OB_HEAD_SAME)
        follow_head(f, lane, head);
    else
        after_settle(f, lane, count);
}

uint32_t ob_drain_due(const outbox_forwarder *f, const struct ob_lane *lane)
{
    uint32_t count = ob_window_settleable(&lane->window);
    return count < f->settle_limit ? count : f->settle_limit;
}

void ob_drain_settle(outbox_forwarder *f)
{
    for (int i = OUTBOX_LANES - 1; i >= 0; i--) {
        struct ob_lane *lane = &f->lane[i];
        uint32_t count = ob_drain_due(f, lane);
        if (count > 0 && !f->is_moved && !ob_store_is_blocked(&f->store) &&
            ob_machine_has_come(f, f->settle_not_before) &&
            ob_machine_has_come(f, f->store_not_before) &&
            ob_machine_has_come(f, settle_at(f, lane, count)))
            settle(f, lane, count);
    }
}

/* ---- Other writers, checkpoint ---------------------------------------------------------------------------------------- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool looks_for_others(const outbox_forwarder *f)
{
    return f->config.foreign_check_ms != OUTBOX_NEVER;
}

/* A hint comes at the write, and the commit is visible some time later, or never. */
static uint64_t look_at(const outbox_forwarder *f)
{
    static const unsigned after_ms[OB_LOOKS] = {0, 1, 5, 20, 0};
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
    for (int i = 0; i < OUTBOX_LANES && changed; i++)
        f->lane[i].more = true;
    if (changed) {
        f->active_at = f->now;
        f->looks = OB_LOOKS;
    }
}

static bool wants_checkpoint(const outbox_forwarder *f)
{
    return !f->config.shared_connection && f->store.journal == OB_JOURNAL_WAL &&
           (f->disk_was_full || f->store.wal_frames > f->config.checkpoint_frames);
}

/* On a full disk it is not waited for an idle second: nobody commits there, but whoever finds the room
 * first that somebody made would write into it, and then not even the checkpoint has any. */
static uint64_t checkpoint_at(const outbox_forwarder *f)
{
    uint64_t idle = f->disk_was_full ? f->now : f->active_at + CHECKPOINT_MS;
    return later(idle, later(f->checkpoint_not_before, f->store_not_before));
}

/* The application checkpoints; we do only where it is idle and the WAL has outgrown its limit by
 * far, or a long drain without an application would never stop growing it; or where the disk was full:
 * the WAL has no room to grow, its application cannot commit, so it would never checkpoint. */
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

void ob_drain_keep_house(outbox_forwarder *f)
{
    bool every_step = f->config.shared_connection != 0;
    if (ob_machine_has_come(f, f->place_at))
        look_for_file(f);
    if (f->is_moved)
        return;
    if (f->state == OB_ONLINE && looks_for_others(f) &&
        (every_step || ob_machine_has_come(f, look_at(f))))
        look_for_others(f);
    if (wants_checkpoint(f) && ob_machine_has_come(f, checkpoint_at(f)))
        checkpoint(f);
}

/* ---- The next turn ------------------------------------------------------------------------------ */

/* When the lane can go on sending, where it is held up by something that passes with time alone. */
static void next_send(outbox_forwarder *f, struct ob_lane *lane, uint32_t *next_ms)
{
    uint32_t token;
    uint64_t at = later(f->store_not_before, f->link_not_before);
    const struct ob_entry *entry = ob_window_next(&lane->window, &token);
    bool others_in_flight = ob_machine_in_flight(f) > 0;
    if (others_in_flight && (lane->waits_for_acks || (entry && !may_go(f, lane))))
        return;
    if (entry && entry->id == lane->alone_id)
        at = later(at, lane->alone_not_before);
    if (entry || (lane->more && !ob_window_is_full(&lane->window)))
        ob_machine_sooner(f, at, next_ms);
}

static void next_settle(outbox_forwarder *f, const struct ob_lane *lane, uint32_t *next_ms)
{
    uint32_t count = ob_drain_due(f, lane);
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
    if (f->state == OB_ONLINE && looks_for_others(f))
        ob_machine_sooner(f, look_at(f), next_ms);
    if (wants_checkpoint(f))
        ob_machine_sooner(f, checkpoint_at(f), next_ms);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        if (f->state == OB_ONLINE && ob_machine_in_flight(f) < window_size(f))
            next_send(f, &f->lane[i], next_ms);
        next_settle(f, &f->lane[i], next_ms);
    }
}
