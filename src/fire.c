/* SPDX-License-Identifier: MIT
 *
 * fire.c - sends fire-and-forget events while the forwarder is online, and drops them else.
 *
 * They are at nobody's expense: they wait for the link and the pace, and never for anything to come
 * back. None of them is sent while the forwarder finds out which stored event the broker hangs up
 * on, as it would be one that nobody suspects. Nothing of this outlives a crash.
 */
#include "fire.h"

#include "expiry.h"
#include "machine.h"
#include "record.h"

#include <string.h>

enum { FIRE_MAX = 256 /* of one step */, RETRY_MS = 5 };

static void drop_all(struct ob_fire *fire)
{
    if (fire->used > fire->done)
        fire->dropped += ob_record_count(fire->bytes + fire->done, fire->used - fire->done);
    fire->used = fire->done = 0;
}

void ob_fire_drop(outbox_forwarder *f)
{
    drop_all(&f->fire);
    f->fire.is_identified = false;
}

static bool can_send(const outbox_forwarder *f)
{
    return f->state == OB_ONLINE && !f->is_moved && ob_rest_allows(f, &f->lane[OUTBOX_NORMAL]) &&
           !f->lane[OUTBOX_NORMAL].refusal.alone_id && !f->lane[OUTBOX_URGENT].refusal.alone_id &&
           !ob_refusal_is_careful(f);
}

void outbox_forwarder_fire(outbox_forwarder *f, const void *events, size_t size)
{
    struct ob_fire *fire = &f->fire;
    if (fire->done > 0) {
        memmove(fire->bytes, fire->bytes + fire->done, fire->used - fire->done);
        fire->used -= fire->done;
        fire->done = 0;
    }
    if (!can_send(f) || size > f->config.fire_bytes - fire->used) {
        fire->dropped += ob_record_count(events, size);
        return;
    }
    memcpy(fire->bytes + fire->used, events, size);
    fire->used += size;
}

/* A stream of their own, which begins anew with the forwarder; the device may get another name. */
static bool identify_unstored(outbox_forwarder *f)
{
    static const char hex[] = "0123456789abcdef";
    struct ob_identity *identity = &f->fire.identity;
    unsigned char dice[OB_EPOCH_DIGITS / 2];
    if (f->fire.is_identified)
        return true;
    if (ob_schema_device(f->store.db, identity->device, &f->store.error) != OUTBOX_OK)
        return false;
    if (identity->epoch.digits[0] == '\0') {
        sqlite3_randomness((int)sizeof dice, dice);
        for (size_t i = 0; i < OB_EPOCH_DIGITS; i++)
            identity->epoch.digits[i] = hex[dice[i / 2] >> (i % 2 * 4) & 15];
    }
    identity->lane = "unstored";
    return f->fire.is_identified = true;
}

/* The message behind what a lane's buffer holds; the caller gives the room back. NULL: no room
 * now. */
static const outbox_message *build_unstored(outbox_forwarder *f, const struct ob_row *row,
                                            struct ob_buffer **buffer, size_t *used)
{
    for (int i = 0; i < OUTBOX_LANES; i++) {
        *buffer = &f->lane[i].buffer;
        if (ob_window_count(&f->lane[i].window) == 0)
            (*buffer)->used = 0; /* its messages have left, and the next fetch may be far */
        *used = (*buffer)->used;
        const outbox_message *message =
            ob_message_build(*buffer, row, &f->fire.identity, OB_NO_PREVIOUS, &f->form);
        if (message)
            return message;
    }
    return NULL;
}

static bool buffers_are_empty(const outbox_forwarder *f)
{
    return f->lane[OUTBOX_NORMAL].buffer.used == 0 && f->lane[OUTBOX_URGENT].buffer.used == 0;
}

/* OUTBOX_LINK_AGAIN: later. TOO_LARGE: never. */
static outbox_link_result send_one(outbox_forwarder *f, struct ob_row *row)
{
    struct ob_buffer *buffer;
    size_t used;
    int64_t now = row->expires ? ob_sql_now(f->store.vfs) : 0;
    if (ob_expiry_has_come(row->expires, now))
        return OUTBOX_LINK_TOO_LARGE;
    row->id = f->fire.number + 1;
    const outbox_message *message = build_unstored(f, row, &buffer, &used);
    if (!message)
        return buffers_are_empty(f) ? OUTBOX_LINK_TOO_LARGE : OUTBOX_LINK_AGAIN;
    outbox_message wire = *message;
    wire.fire_and_forget = 1;
    wire.expiry_seconds = ob_expiry_left(row->expires, now);
    outbox_link_result result = f->link->methods->publish(f->link, 0, &wire);
    buffer->used = used;
    if (result == OUTBOX_LINK_OK)
        ob_pace_spend(&f->pace, row->topic.len + wire.payload_len);
    return result;
}

static uint64_t send_at(outbox_forwarder *f)
{
    uint64_t at = ob_pace_next(&f->pace, &f->config.pace, f->now);
    at = f->link_not_before > at ? f->link_not_before : at;
    return f->fire.not_before > at ? f->fire.not_before : at;
}

void ob_fire_send(outbox_forwarder *f)
{
    struct ob_fire *fire = &f->fire;
    for (int i = 0; i < FIRE_MAX && fire->done < fire->used; i++) {
        struct ob_row row;
        if (!can_send(f) || !identify_unstored(f)) {
            ob_fire_drop(f);
            return;
        }
        if (!ob_machine_has_come(f, send_at(f)))
            return;
        size_t size = ob_record_read(fire->bytes + fire->done, fire->used - fire->done, &row);
        if (size == 0) { /* nobody but outbox_put() makes them */
            ob_fire_drop(f);
            return;
        }
        outbox_link_result result = send_one(f, &row);
        if (result != OUTBOX_LINK_OK && result != OUTBOX_LINK_TOO_LARGE) {
            fire->not_before = f->now + RETRY_MS;
            return;
        }
        fire->done += size;
        fire->number += result == OUTBOX_LINK_OK;
        fire->dropped += result != OUTBOX_LINK_OK;
    }
    f->full_step = f->full_step || fire->done < fire->used;
}

void ob_fire_next(outbox_forwarder *f, uint32_t *next_ms)
{
    if (f->state == OB_ONLINE && f->fire.done < f->fire.used)
        ob_machine_sooner(f, send_at(f), next_ms);
}
