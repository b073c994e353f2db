/* SPDX-License-Identifier: MIT
 *
 * fetch.c - reads events of a lane into its window, and builds their messages.
 *
 * A batch is read, copied and let go in one short transaction. What can be known of an event then
 * is decided here: unfit, expired, too large. Nothing is written; after a crash all of it is read
 * again.
 */
#include "expiry.h"
#include "machine.h"

#include <string.h>

enum { FETCH_MAX = 256 /* rows of one fetch */ };

struct taking {
    outbox_forwarder *f;
    struct ob_lane *lane;
    struct ob_fetch *fetch;
    bool identified;   /* taking->lane->identity was read in this fetch */
    bool keeps_last;   /* an event was read that supersedes others */
    int64_t misplaced; /* this event came behind one of a larger id; 0: none did */
    unsigned looked;   /* rows behind the batch, up to this id */
    int64_t looked_to;
    bool ends_short; /* at a row that SQLite does not read */
    int code;
};

/* Another name or epoch than before may have been written by somebody who does not sync, an attach
 * for instance; what is sent under it must not come back under a third one. */
static bool identify(struct taking *taking, int64_t id)
{
    struct ob_store *store = &taking->f->store;
    struct ob_identity *identity = &taking->lane->identity, before = *identity;
    if (taking->identified && id < identity->until)
        return true;
    taking->code = ob_schema_identity(store->db, &store->identity_statement, taking->lane->number,
                                      id, identity, &store->error);
    ob_sql_done(&store->identity_statement, store->small_heap);
    taking->identified = taking->code == OUTBOX_OK;
    if (taking->identified && before.device[0] &&
        (strcmp(before.device, identity->device) != 0 ||
         strcmp(before.epoch.digits, identity->epoch.digits) != 0))
        store->wrote_unsynced = true;
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
static const outbox_message *build_stored(struct taking *taking, const struct ob_row *row)
{
    outbox_forwarder *f = taking->f;
    return ob_message_build(&taking->lane->buffer, row, &taking->lane->identity, 0, &f->form);
}

static bool has_expired(const outbox_forwarder *f, const struct ob_row *row)
{
    return row->expires > 0 && ob_expiry_has_come(row->expires, ob_sql_now(f->store.vfs));
}

static struct ob_entry *add_entry(struct ob_lane *lane, int64_t id, const outbox_message *message,
                                  enum ob_unfit unfit)
{
    if (id <= lane->flushed_id)
        lane->flushed_id = 0; /* the id was given out again */
    ob_window_add(&lane->window, id, message, (int)unfit);
    lane->cursor = id;
    return ob_window_at(&lane->window, ob_window_count(&lane->window) - 1);
}

/* ---- Only the last one counts ---------------------------------------------------------------- */

/* Older events of the same key that were read and not sent will not be sent. */
static void supersede(struct taking *taking, const struct ob_row *newer)
{
    const struct ob_window *window = &taking->lane->window;
    taking->keeps_last = true;
    for (uint32_t i = ob_window_count(window); i > 0; i--) {
        struct ob_entry *entry = ob_window_at(window, i - 1);
        if (entry->verdict != OB_AWAITING && entry->verdict != OB_DROPPED)
            return; /* sent, as are all before it */
        const char *key = entry->verdict == OB_AWAITING && entry->message
                              ? ob_message_of(entry->message)->key
                              : NULL;
        if (key && strlen(key) == newer->key.len &&
            memcmp(key, newer->key.bytes, newer->key.len) == 0)
            ob_window_drop(entry, OB_SUPERSEDED);
    }
}

/* A row behind the batch. One that will not be sent itself takes no other's place. */
static bool look_at_row(void *context, const struct ob_row *row)
{
    struct taking *taking = context;
    const struct ob_lane *lane = taking->lane;
    taking->looked++;
    taking->looked_to = row->id;
    taking->ends_short = row->is_too_large;
    if (row->keep_last && !row->is_too_large && row->payload.len <= taking->f->config.payload_max &&
        row->key.storage == SQLITE_TEXT && row->id != lane->refusal.dead_id &&
        ob_message_check(row) == OB_FIT && !has_expired(taking->f, row))
        supersede(taking, row);
    return true;
}

/* Rows behind those that were read may make some of them old. One that SQLite does not read ends
 * what is read at once. */
static void look_ahead(struct taking *taking)
{
    struct ob_lane *lane = taking->lane;
    struct ob_fetch request = {.take = look_at_row, .context = taking, .after = lane->cursor};
    int code = OUTBOX_OK;
    do {
        taking->ends_short = false;
        request.limit = OUTBOX_LOOK_AHEAD - taking->looked;
        code = ob_store_fetch(&taking->f->store, lane->number, &request);
        request.after = taking->looked_to;
    } while (code == OUTBOX_OK && request.head == OB_HEAD_SAME && taking->ends_short &&
             taking->looked < OUTBOX_LOOK_AHEAD);
    if (code != OUTBOX_OK)
        ob_machine_store_failed(taking->f, code);
    else if (request.head != OB_HEAD_SAME)
        ob_machine_follow_head(taking->f, lane, request.head);
}

/* ---- The rows -------------------------------------------------------------------------------- */

/* Why it cannot be sent, as far as that is known before its message is built. */
static enum ob_unfit find_unfit(const struct ob_lane *lane, const struct ob_row *row)
{
    if (row->id == lane->refusal.dead_id)
        return lane->refusal.dead_why;
    return row->is_too_large ? OB_FIT : ob_message_check(row);
}

static bool is_over_the_limit(const outbox_forwarder *f, const struct ob_row *row)
{
    return row->is_too_large || row->payload.len > f->config.payload_max;
}

/* Its message into the buffer. False: not in this fetch. */
static bool make_message(struct taking *taking, const struct ob_row *row,
                         const outbox_message **message)
{
    if (is_over_the_limit(taking->f, row))
        return true;
    if (!identify(taking, row->id))
        return false;
    *message = build_stored(taking, row);
    return *message || taking->lane->buffer.used == 0; /* else it is the first one of the next */
}

static void take_message(struct taking *taking, const struct ob_row *row,
                         const outbox_message *message)
{
    struct ob_lane *lane = taking->lane;
    if (ob_message_of(message)->key)
        supersede(taking, row);
    add_entry(lane, row->id, message, OB_FIT);
    lane->refusal.large_run = 0;
    if (!taking->f->config.announce_topic && lane->announce_topic)
        memcpy(lane->announce_topic, message->topic, row->topic.len + 1);
}

/* What is read in one transaction was committed as a whole, so all transactions are whole at the
 * largest id. A point that is known already parts them finer. */
static int find_group(struct taking *taking, int64_t id)
{
    struct ob_lane *lane = taking->lane;
    struct ob_table *table = &taking->f->store.table[lane->number];
    int64_t last;
    if (id >= lane->group.first && id <= lane->group.last)
        return OUTBOX_OK;
    int code = ob_table_largest(table, &last);
    if (code != OUTBOX_OK)
        return code;
    if (last > OUTBOX_ID_MAX) /* it is moved away, and all to come would be of this group */
        code = ob_table_number(table, OB_SQL_LAST_PENDING, OUTBOX_ID_MAX, id, &last);
    if (code == OUTBOX_OK)
        lane->group = (struct ob_group){id, last};
    return code;
}

/* Makes the event of a captured change. False: not in this fetch. */
static bool render(struct taking *taking, const struct ob_row *row, struct ob_row *event)
{
    outbox_forwarder *f = taking->f;
    struct ob_lane *lane = taking->lane;
    *event = *row;
    if (!ob_change_is(row))
        return true;
    if (!identify(taking, row->id))
        return false;
    taking->code = find_group(taking, row->id);
    if (taking->code != OUTBOX_OK)
        return false;
    int code = ob_change_render(&f->store.change[lane->number], f->store.db, lane->number, row,
                                lane->identity.device, &lane->group, event, &f->store.error);
    event->is_too_large = code == OUTBOX_TOO_LARGE;
    if (code == OUTBOX_TOO_LARGE || code == OUTBOX_BAD_PAYLOAD)
        return true; /* who looks at it next finds that it is unfit */
    taking->fetch->is_hole = code == OUTBOX_CORRUPT; /* its values lie on another page */
    taking->code = code;
    return code == OUTBOX_OK;
}

/* One row into the window. False ends the fetch. */
static bool take_stored(void *context, const struct ob_row *stored)
{
    struct taking *taking = context;
    struct ob_lane *lane = taking->lane;
    const outbox_message *message = NULL;
    struct ob_row event, *row = &event;
    if (is_misplaced(taking, stored->id) || !render(taking, stored, &event))
        return false;
    enum ob_unfit unfit = find_unfit(lane, row);
    if (unfit == OB_FIT && has_expired(taking->f, row)) {
        ob_window_drop(add_entry(lane, row->id, NULL, OB_FIT), OB_EXPIRED);
        return true;
    }
    if (unfit == OB_FIT && !make_message(taking, row, &message))
        return false;
    if (message) {
        take_message(taking, row, message);
        return true;
    }
    if (unfit == OB_FIT && ob_refusal_of_large(taking->f, lane, row->id))
        unfit = OB_UNFIT_LARGE;
    add_entry(lane, row->id, NULL, unfit)->reason = (uint8_t)lane->refusal.dead_reason;
    return unfit != OB_FIT; /* else it blocks the lane */
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
    int64_t alone_id = lane->refusal.alone_id;
    if (!alone_id || (!at_end && lane->cursor < alone_id))
        return;
    for (uint32_t i = 0; i < count; i++)
        if (ob_window_at(&lane->window, i)->id == alone_id)
            return;
    ob_refusal_passed(f, lane);
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

static bool fail_fetch(outbox_forwarder *f, int code)
{
    ob_machine_store_failed(f, code);
    return false;
}

bool ob_fetch_events(outbox_forwarder *f, struct ob_lane *lane)
{
    uint32_t had = ob_window_count(&lane->window), room = ob_window_room(&lane->window);
    struct taking taking = {.f = f, .lane = lane, .code = OUTBOX_OK};
    struct ob_fetch request = {.take = take_stored,
                               .context = &taking,
                               .after = lane->cursor,
                               .limit = room < FETCH_MAX ? room : FETCH_MAX};
    taking.fetch = &request;
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
    if (code == OUTBOX_CORRUPT && request.is_hole && !taking.misplaced)
        return ob_damage_skip(f, lane) || fail_fetch(f, code);
    if (code != OUTBOX_OK)
        return fail_fetch(f, code);
    if (request.head != OB_HEAD_SAME) {
        ob_machine_follow_head(f, lane, request.head);
        return false;
    }
    lane->more = !request.at_end;
    if (taking.keeps_last && lane->more)
        look_ahead(&taking);
    miss_deleted(f, lane, request.at_end);
    if (ob_machine_is_settled(f))
        ob_machine_store_works(f); /* else the next settle will tell */
    return true;
}
