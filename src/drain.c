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
    FETCH_MAX = 256,     /* rows of one fetch */
    PUBLISH_MAX = 256,   /* publishes of one step */
    LINK_RETRY_MS = 5,   /* the link had no room */
    SETTLE_PAUSE_MS = 2, /* least pause behind a settle: the application's turn */
    CHECKPOINT_MS = 1000 /* no writer for so long: the application is idle */
};

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- Fetching ------------------------------------------------------------------------------------------------- */

/* The last event ahead that was delivered or is on its way. */
static int64_t last_ahead(const outbox_forwarder *f)
{
    for (uint32_t i = ob_window_count(&f->window); i > 0; i--)
        if (ob_window_at(&f->window, i - 1)->verdict != OB_UNFIT)
            return ob_window_at(&f->window, i - 1)->id;
    return f->store.head.last;
}

struct taking {
    outbox_forwarder *f;
    bool identified;   /* store.identity was read in this fetch */
    int64_t misplaced; /* this event came behind one of a larger id; 0: none did */
    int code;
};

/* Another name or epoch than before may have been written by somebody who does not sync, an attach for
 * instance; what is sent under it must not come back under a third one. */
static bool identify(struct taking *taking, int64_t id)
{
    struct ob_store *store = &taking->f->store;
    if (taking->identified && id < store->identity.until)
        return true;
    struct ob_identity before = store->identity;
    taking->code = ob_schema_identity(store->db, &store->identity_statement, id, &store->identity,
                                      &store->error);
    taking->identified = taking->code == OUTBOX_OK;
    if (taking->identified && before.device[0] &&
        (strcmp(before.device, store->identity.device) != 0 ||
         strcmp(before.epoch.digits, store->identity.epoch.digits) != 0))
        store->wrote_unsynced = true;
    return taking->identified;
}

/* SQLite reads a table in the order of its pages and does not look whether the ids go up. */
static bool is_misplaced(struct taking *taking, int64_t id)
{
    outbox_forwarder *f = taking->f;
    if (id > f->cursor && id > f->store.head.id)
        return false;
    taking->misplaced = id;
    taking->code = ob_error_set(&f->store.error, OUTBOX_CORRUPT,
                                "event %lld lies behind larger ids in outbox_event; the file is "
                                "damaged, restore it from a backup",
                                (long long)id);
    return true;
}

/* One row into the window, its message into the buffer. False ends the fetch. */
static bool take_row(void *context, const struct ob_row *row)
{
    struct taking *taking = context;
    outbox_forwarder *f = taking->f;
    if (is_misplaced(taking, row->id))
        return false;
    const outbox_message *message = NULL;
    enum ob_unfit unfit = row->is_too_large ? OB_FIT : ob_message_check(row);

    f->oversize = row->is_too_large                          ? OB_UNREAD
                  : row->payload.len > f->config.payload_max ? row->payload.len
                                                             : 0;
    if (unfit == OB_FIT && f->oversize == 0) {
        if (!identify(taking, row->id))
            return false;
        int64_t ahead = last_ahead(f);
        message =
            ob_message_build(&f->buffer, row, &f->store.identity,
                             ahead >= f->store.identity.epoch.first ? ahead : 0, f->config.mode);
        if (!message && f->buffer.used > 0)
            return false; /* it is the first one of the next fetch */
    }
    if (row->id <= f->flushed_id)
        f->flushed_id = 0; /* the id was given out again */
    ob_window_add(&f->window, row->id, message, (int)unfit);
    f->cursor = row->id;
    return unfit != OB_FIT || message;
}

static void follow_head(outbox_forwarder *f, enum ob_head head)
{
    if (head == OB_HEAD_ADVANCED) {
        ob_machine_advance(f);
        return;
    }
    ob_machine_say(f, OUTBOX_LOG_WARNING, OUTBOX_OK,
                   "the outbox was changed by hand or restored; a new epoch begins");
    ob_machine_start_over(f);
}

/* What somebody asked for may be deleted by hand while it waits: the refused event; the one up to
 * which a flush was asked for. All that is left up to the cursor is in the window. */
static void miss_deleted(outbox_forwarder *f, bool at_end)
{
    uint32_t count = ob_window_count(&f->window);
    if (count == 0 && at_end && f->flush_id) {
        f->flushed_id = f->flush_id;
        f->flush_id = 0;
    }
    if (!f->alone_id || (!at_end && f->cursor < f->alone_id))
        return;
    for (uint32_t i = 0; i < count; i++)
        if (ob_window_at(&f->window, i)->id == f->alone_id)
            return;
    ob_machine_passed_refusal(f);
}

/* Takes back what was read, but for the first `count` entries. */
static void take_back(outbox_forwarder *f, uint32_t count, int64_t cursor)
{
    ob_window_take_back(&f->window, count);
    f->cursor = cursor;
}

/* Which of two neighbours has the wrong id nobody knows. Those below both of them are in order. */
static void take_back_misplaced(outbox_forwarder *f, const struct taking *taking, uint32_t had,
                                int64_t cursor)
{
    uint32_t count = ob_window_count(&f->window);
    while (count > had && ob_window_at(&f->window, count - 1)->id >= taking->misplaced)
        count--;
    take_back(f, count, count > had ? ob_window_at(&f->window, count - 1)->id : cursor);
}

/* Reads events behind the cursor. Only once all that was read is sent: the buffer is used anew. */
static bool fetch(outbox_forwarder *f)
{
    uint32_t had = ob_window_count(&f->window), room = ob_window_room(&f->window);
    struct taking taking = {.f = f, .code = OUTBOX_OK};
    struct ob_fetch request = {.take = take_row,
                               .context = &taking,
                               .after = f->cursor,
                               .limit = room < FETCH_MAX ? room : FETCH_MAX};
    if (room == 0 || ob_store_is_blocked(&f->store) || !ob_machine_has_come(f, f->store_not_before))
        return false;
    f->buffer.used = 0;
    int code = ob_store_fetch(&f->store, &request);
    if (code == OUTBOX_OK)
        code = taking.code;
    if (!request.has_ended)
        take_back(f, had, request.after);
    else if (taking.misplaced)
        take_back_misplaced(f, &taking, had, request.after);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        return false;
    }
    if (request.head != OB_HEAD_SAME) {
        follow_head(f, request.head);
        return false;
    }
    f->more = !request.at_end;
    miss_deleted(f, request.at_end);
    if (ob_drain_due(f) == 0)
        ob_machine_store_works(f); /* else the next settle will tell */
    return true;
}

/* ---- Sending ---------------------------------------------------------------------------------------------------- */

static unsigned window_size(const outbox_forwarder *f)
{
    if (f->alone_id)
        return 1;
    return f->receive_maximum < f->config.window ? f->receive_maximum : f->config.window;
}

static bool make_durable(outbox_forwarder *f, int64_t id)
{
    if (!ob_store_needs_barrier(&f->store, id))
        return true;
    if (ob_store_is_blocked(&f->store) || !ob_machine_has_come(f, f->store_not_before))
        return false;
    int code = ob_store_barrier(&f->store, f->cursor);
    if (code != OUTBOX_OK)
        ob_machine_store_failed(f, code);
    else if (ob_drain_due(f) == 0)
        ob_machine_store_works(f); /* else the next settle will tell */
    return code == OUTBOX_OK;
}

/* Sends one event. False: nothing more now. */
static bool publish(outbox_forwarder *f, struct ob_entry *entry, uint32_t token)
{
    outbox_link_result result = OUTBOX_LINK_TOO_LARGE;
    const outbox_message *message = entry->message;
    if (!make_durable(f, entry->id))
        return false;
    if (message)
        result = f->link->methods->publish(f->link, token, message);
    switch (result) {
    case OUTBOX_LINK_OK:
        if (f->window.in_flight == 0)
            f->watch_at = f->now + f->config.ack_timeout_ms;
        ob_window_sent(&f->window, entry, f->now);
        f->stats.published++;
        return true;
    case OUTBOX_LINK_TOO_LARGE:
        /* The refusal ends the connection, so those ahead of it are acked first. */
        f->waits_for_acks = f->window.in_flight > 0;
        if (!f->waits_for_acks && message)
            ob_machine_refuse(f, entry->id, OB_REASON_TOO_LARGE);
        else if (!f->waits_for_acks)
            ob_machine_hold_oversized(f, entry->id);
        return false;
    case OUTBOX_LINK_AGAIN:
    case OUTBOX_LINK_DOWN: /* CLOSED follows */
    default:
        f->link_not_before = f->now + LINK_RETRY_MS;
        return false;
    }
}

void ob_drain_send(outbox_forwarder *f)
{
    for (int i = 0; i < PUBLISH_MAX; i++) {
        uint32_t token;
        if (f->state != OB_ONLINE || f->window.in_flight >= window_size(f))
            return;
        struct ob_entry *entry = ob_window_next(&f->window, &token);
        if (!entry) {
            if (!f->more || !fetch(f))
                return;
            continue;
        }
        if (!ob_machine_has_come(f, f->link_not_before) || !publish(f, entry, token))
            return;
    }
    f->full_step = true;
}

/* ---- Settling ----------------------------------------------------------------------------------------------------- */

/* When what is acked should be settled; `f->now` or earlier means now. */
static uint64_t settle_at(const outbox_forwarder *f, uint32_t count)
{
    if (count >= f->config.settle_batch || ob_window_is_full(&f->window))
        return f->now;
    int64_t reaches = ob_window_at(&f->window, count - 1)->id;
    if (f->flush_id && (reaches >= f->flush_id || f->window.in_flight == 0))
        return f->now;
    uint64_t quiet = f->acked_at + f->config.settle_quiet_ms;
    uint64_t oldest = f->unsettled_since + UINT64_C(10) * f->config.settle_quiet_ms;
    return oldest < quiet ? oldest : quiet;
}

static void settle(outbox_forwarder *f, uint32_t count)
{
    enum ob_head head;
    uint64_t began = ob_machine_clock(f);
    int code = ob_store_settle(&f->store, &f->window, count, &head);
    uint64_t ended = ob_machine_clock(f);
    /* Ten times what the lock was held: SQLite's locks are not fair, so leave it to others. */
    f->settle_not_before = ended + SETTLE_PAUSE_MS + 10 * (ended - began);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        return;
    }
    if (head != OB_HEAD_SAME) {
        follow_head(f, head);
        return;
    }
    ob_window_settled(&f->window, count);
    ob_machine_store_works(f);
    f->unsettled_since = f->now;
    if (f->flush_id && f->store.head.id >= f->flush_id)
        f->flush_id = 0;
    if (f->flush_id && ob_window_count(&f->window) == 0)
        f->more = true; /* or nothing is left up to there */
    if (f->alone_id && f->store.head.id >= f->alone_id)
        ob_machine_passed_refusal(f);
}

uint32_t ob_drain_due(const outbox_forwarder *f)
{
    uint32_t count = ob_window_settleable(&f->window);
    return count < f->config.settle_batch ? count : f->config.settle_batch;
}

void ob_drain_settle(outbox_forwarder *f)
{
    uint32_t count = ob_drain_due(f);
    if (count == 0 || ob_store_is_blocked(&f->store))
        return;
    if (ob_machine_has_come(f, f->settle_not_before) &&
        ob_machine_has_come(f, f->store_not_before) && ob_machine_has_come(f, settle_at(f, count)))
        settle(f, count);
}

/* ---- Other writers, checkpoint ---------------------------------------------------------------------------------------- */

static bool looks_for_others(const outbox_forwarder *f)
{
    return f->config.foreign_check_ms != OUTBOX_NEVER;
}

static void look_for_others(outbox_forwarder *f)
{
    bool changed = false;
    if (ob_store_is_blocked(&f->store))
        return;
    f->looked_at = f->now;
    int code = ob_store_has_changed(&f->store, &changed);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        return;
    }
    if (changed) {
        f->more = true;
        f->active_at = f->now;
    }
}

static bool wants_checkpoint(const outbox_forwarder *f)
{
    return !f->config.shared_connection && f->store.journal == OB_JOURNAL_WAL &&
           f->store.wal_frames > f->config.checkpoint_frames;
}

/* Not while the database fails: what it did meanwhile is not known then. */
static uint64_t checkpoint_at(const outbox_forwarder *f)
{
    return later(f->active_at + CHECKPOINT_MS, f->store_not_before);
}

/* The application checkpoints; we do only where it is idle and the WAL has outgrown its limit by
 * far, or a long drain without an application would never stop growing it. */
static void checkpoint(outbox_forwarder *f)
{
    look_for_others(f);
    if (!ob_machine_has_come(f, checkpoint_at(f)))
        return;
    int code = ob_store_checkpoint(&f->store);
    if (code != OUTBOX_OK)
        ob_machine_store_failed(f, code);
    f->active_at = f->now; /* not again before a second */
}

void ob_drain_keep_house(outbox_forwarder *f)
{
    bool every_step = f->config.shared_connection != 0;
    if (f->state == OB_ONLINE && looks_for_others(f) &&
        (every_step || ob_machine_has_come(f, f->looked_at + f->config.foreign_check_ms)))
        look_for_others(f);
    if (wants_checkpoint(f) && ob_machine_has_come(f, checkpoint_at(f)))
        checkpoint(f);
}

/* ---- The next turn ------------------------------------------------------------------------------ */

/* Whether the sender was held up by something that passes with time alone. */
static bool is_held_up(outbox_forwarder *f)
{
    uint32_t token;
    if (f->state != OB_ONLINE || f->window.in_flight >= window_size(f))
        return false;
    if (f->waits_for_acks && f->window.in_flight > 0)
        return false;
    return ob_window_next(&f->window, &token) ? true : f->more && !ob_window_is_full(&f->window);
}

void ob_drain_next(outbox_forwarder *f, uint32_t *next_ms)
{
    uint32_t count = ob_drain_due(f);
    if (f->state == OB_ONLINE && looks_for_others(f))
        ob_machine_sooner(f, f->looked_at + f->config.foreign_check_ms, next_ms);
    if (wants_checkpoint(f))
        ob_machine_sooner(f, checkpoint_at(f), next_ms);
    if (is_held_up(f))
        ob_machine_sooner(f, later(f->store_not_before, f->link_not_before), next_ms);
    if (count > 0)
        ob_machine_sooner(
            f, later(settle_at(f, count), later(f->settle_not_before, f->store_not_before)),
            next_ms);
}
