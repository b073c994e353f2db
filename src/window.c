/* SPDX-License-Identifier: MIT
 *
 * window.c - the ring behind window.h.
 *
 * What must hold after every call: kept <= first <= next <= end in the circular order of numbers;
 * every entry before `next` is in flight, acked or dropped; every one from `next` on awaits or is
 * dropped; `in_flight` counts the entries in flight from `kept` on; where `kept` is not `first`, it
 * is in flight. Nothing of it is stored: a crash forgets it, and the table has all that matters.
 */
#include "window.h"

#include <assert.h>
#include <string.h>

static struct ob_entry *slot(const struct ob_window *window, uint32_t number)
{
    return &window->entries[number & (window->capacity - 1)];
}

void ob_window_init(struct ob_window *window, struct ob_entry *entries, uint32_t capacity)
{
    assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
    memset(window, 0, sizeof *window);
    window->entries = entries;
    window->capacity = capacity;
}

void ob_window_keep(struct ob_window *window, uint32_t count)
{
    assert(count <= ob_window_settleable(window));
    window->kept = window->first;
    window->end = window->first + count;
    window->next = window->end;
    window->in_flight = 0;
    window->token_offset += 2 * window->capacity; /* beyond every token that is out */
}

uint32_t ob_window_count(const struct ob_window *window)
{
    return window->end - window->first;
}

uint32_t ob_window_room(const struct ob_window *window)
{
    return window->capacity - (window->end - window->kept);
}

bool ob_window_is_full(const struct ob_window *window)
{
    return ob_window_room(window) == 0;
}

struct ob_entry *ob_window_at(const struct ob_window *window, uint32_t index)
{
    assert(index < ob_window_count(window));
    return slot(window, window->first + index);
}

void ob_window_add(struct ob_window *window, int64_t id, const outbox_message *message, int unfit)
{
    assert(!ob_window_is_full(window));
    assert(ob_window_count(window) == 0 || slot(window, window->end - 1)->id < id);
    *slot(window, window->end) = (struct ob_entry){
        .id = id,
        .message = message,
        .verdict = unfit ? OB_DROPPED : OB_AWAITING,
        .outcome = OB_DEAD,
        .unfit = (uint8_t)unfit,
    };
    window->end++;
}

void ob_window_drop(struct ob_entry *entry, enum ob_outcome outcome)
{
    assert(entry->verdict == OB_AWAITING);
    entry->verdict = OB_DROPPED;
    entry->outcome = (uint8_t)outcome;
}

void ob_window_take_back(struct ob_window *window, uint32_t count)
{
    assert(count <= ob_window_count(window));
    window->end = window->first + count;
    /* It may have stepped over unfit entries that are taken back, but over no other. */
    if (window->next - window->first > count)
        window->next = window->end;
}

struct ob_entry *ob_window_next(struct ob_window *window, uint32_t *token)
{
    while (window->next != window->end && slot(window, window->next)->verdict == OB_DROPPED)
        window->next++;
    if (window->next == window->end)
        return NULL;
    *token = (window->next + window->token_offset) & OB_TOKEN_MASK;
    assert(slot(window, window->next)->verdict == OB_AWAITING);
    return slot(window, window->next);
}

const struct ob_entry *ob_window_ahead(const struct ob_window *window)
{
    for (uint32_t number = window->next; number != window->first; number--)
        if (slot(window, number - 1)->verdict != OB_DROPPED)
            return slot(window, number - 1);
    return NULL;
}

void ob_window_sent(struct ob_window *window, struct ob_entry *entry, uint64_t now_ms)
{
    assert(entry == slot(window, window->next) && entry->verdict == OB_AWAITING);
    entry->verdict = OB_IN_FLIGHT;
    entry->sent_ms = now_ms;
    entry->message = NULL;
    window->next++;
    window->in_flight++;
}

struct ob_entry *ob_window_find(const struct ob_window *window, uint32_t token)
{
    uint32_t index = (token - window->token_offset - window->first) & OB_TOKEN_MASK;
    if (index >= window->next - window->first)
        return NULL;
    struct ob_entry *entry = slot(window, window->first + index);
    return entry->verdict == OB_IN_FLIGHT ? entry : NULL;
}

void ob_window_acked(struct ob_window *window, struct ob_entry *entry)
{
    assert(entry->verdict == OB_IN_FLIGHT && window->in_flight > 0);
    entry->verdict = OB_ACKED;
    window->in_flight--;
}

/* Frees the places of entries that have left, up to the first of them that is in flight. */
static void free_places(struct ob_window *window)
{
    while (window->kept != window->first && slot(window, window->kept)->verdict != OB_IN_FLIGHT)
        window->kept++;
}

/* One that has left while it was in flight may be refused yet: then the recipient does not have it,
 * and those behind it that name it as the one before must be sent again. */
uint32_t ob_window_settleable(const struct ob_window *window)
{
    uint32_t count = 0;
    if (window->kept != window->first)
        return 0;
    while (window->first + count != window->end) {
        uint8_t verdict = slot(window, window->first + count)->verdict;
        if (verdict != OB_ACKED && verdict != OB_DROPPED)
            break;
        count++;
    }
    return count;
}

void ob_window_settled(struct ob_window *window, uint32_t count)
{
    assert(count <= ob_window_settleable(window));
    /* An unfit entry may be settled before the sender has stepped over it. */
    if (window->next - window->first < count)
        window->next = window->first + count;
    window->first += count;
    free_places(window);
}

void ob_window_passed(struct ob_window *window, int64_t id)
{
    while (window->first != window->end && slot(window, window->first)->id <= id) {
        if (window->next == window->first)
            window->next++;
        window->first++;
    }
    free_places(window);
}

bool ob_window_let_go(struct ob_window *window, uint32_t token)
{
    uint32_t index = (token - window->token_offset - window->kept) & OB_TOKEN_MASK;
    if (index >= window->first - window->kept)
        return false;
    struct ob_entry *entry = slot(window, window->kept + index);
    if (entry->verdict != OB_IN_FLIGHT)
        return false;
    ob_window_acked(window, entry);
    free_places(window);
    return true;
}

const struct ob_entry *ob_window_oldest_in_flight(const struct ob_window *window)
{
    for (uint32_t number = window->kept; number != window->next; number++)
        if (slot(window, number)->verdict == OB_IN_FLIGHT)
            return slot(window, number);
    return NULL;
}
