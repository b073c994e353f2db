/* SPDX-License-Identifier: MIT
 *
 * heap.c - blocks of exact sizes in one array, as SQLite's allocator.
 *
 * The array is one row of blocks without a gap. A block begins with a word that holds its size in
 * words, an even number, and in the lowest bit whether it is in use; what SQLite gets is behind
 * that word, at a multiple of eight bytes. Free blocks are a list in the order of their places, and
 * no two of them are neighbours. Nothing outlives a reset.
 */
#include "heap.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { WORD = sizeof(uint32_t), UNIT = 2 * WORD, LARGEST = 1 << 30, IN_USE = 1 };

/* Places are numbers of words; 0 is none, for the first block begins at word 1. */
static struct {
    uint32_t *word;
    uint32_t end; /* behind the last block */
    uint32_t free;
    size_t now, most;
    unsigned refused;
} heap;

static uint32_t size_of(uint32_t at)
{
    return heap.word[at] & ~(uint32_t)IN_USE;
}

/* The word that leads to the free block behind `before`, which is 0 or free itself. */
static uint32_t *link_behind(uint32_t before)
{
    return before ? &heap.word[before + 1] : &heap.free;
}

static uint32_t place_of(const void *block)
{
    const uint32_t place = (uint32_t)((const uint32_t *)block - heap.word) - 1;
    assert(place < heap.end && (heap.word[place] & IN_USE));
    return place;
}

/* The words of a block for so many bytes. */
static uint32_t words_for(int bytes)
{
    return ((uint32_t)bytes + WORD + UNIT - 1) / UNIT * 2;
}

/* ---- Free blocks ----------------------------------------------------------------------------- */

/* The last free block before the place, 0 if there is none. */
static uint32_t free_before(uint32_t at)
{
    uint32_t before = 0;
    for (uint32_t next = heap.free; next && next < at; next = heap.word[next + 1])
        before = next;
    return before;
}

/* Makes a free block of these words, and one of it and its free neighbours. */
static void set_free(uint32_t at, uint32_t words)
{
    const uint32_t before = free_before(at), next = *link_behind(before);
    heap.word[at] = words;
    heap.word[at + 1] = next;
    *link_behind(before) = at;
    if (next && at + words == next) {
        heap.word[at] += heap.word[next];
        heap.word[at + 1] = heap.word[next + 1];
    }
    if (before && before + heap.word[before] == at) {
        heap.word[before] += heap.word[at];
        heap.word[before + 1] = heap.word[at + 1];
    }
}

/* Takes so many words from the front of the free block behind `before`. */
static void take_front(uint32_t before, uint32_t words)
{
    uint32_t *link = link_behind(before);
    const uint32_t at = *link, rest = heap.word[at] - words, next = heap.word[at + 1];
    *link = next;
    if (rest > 0) {
        heap.word[at + words] = rest;
        heap.word[at + words + 1] = next;
        *link = at + words;
    }
}

static void note_use(uint32_t at, uint32_t words, size_t before)
{
    heap.word[at] = words | IN_USE;
    heap.now += (size_t)words * WORD - before;
    if (heap.now > heap.most)
        heap.most = heap.now;
}

/* ---- What SQLite calls ----------------------------------------------------------------------- */

static void *allocate(int bytes)
{
    const uint32_t words = words_for(bytes);
    uint32_t best = 0, before_best = 0, before = 0;
    assert(bytes > 0);
    for (uint32_t at = heap.free; at; before = at, at = heap.word[at + 1])
        if (heap.word[at] >= words && (!best || heap.word[at] < heap.word[best])) {
            best = at;
            before_best = before;
        }
    if (!best) {
        heap.refused++;
        return NULL;
    }
    take_front(before_best, words);
    note_use(best, words, 0);
    return &heap.word[best + 1];
}

static void release(void *block)
{
    if (!block)
        return;
    const uint32_t at = place_of(block), words = size_of(at);
    heap.now -= (size_t)words * WORD;
    set_free(at, words);
}

static int size_of_block(void *block)
{
    return block ? (int)((size_of(place_of(block)) - 1) * WORD) : 0;
}

/* Whether the block could be made to have so many words where it is. */
static bool resize(uint32_t at, uint32_t words)
{
    const uint32_t old = size_of(at), before = free_before(at), next = *link_behind(before);
    if (words > old) {
        if (next != at + old || heap.word[next] < words - old)
            return false;
        take_front(before, words - old);
    }
    note_use(at, words, (size_t)old * WORD);
    if (words < old)
        set_free(at + words, old - words);
    return true;
}

static void *reallocate(void *block, int bytes)
{
    if (resize(place_of(block), words_for(bytes)))
        return block;
    void *moved = allocate(bytes);
    if (!moved)
        return NULL; /* the old one stays */
    memcpy(moved, block, (size_t)size_of_block(block));
    release(block);
    return moved;
}

static int round_up(int bytes)
{
    return (int)((words_for(bytes) - 1) * WORD);
}

static int begin(void *context)
{
    (void)context;
    heap.now = heap.most = 0;
    heap.refused = 0;
    heap.free = 0;
    set_free(1, heap.end - 1);
    return SQLITE_OK;
}

static void end(void *context)
{
    (void)context;
}

int outbox_heap_give(void *memory, size_t size)
{
    static const sqlite3_mem_methods methods = {.xMalloc = allocate,
                                                .xFree = release,
                                                .xRealloc = reallocate,
                                                .xSize = size_of_block,
                                                .xRoundup = round_up,
                                                .xInit = begin,
                                                .xShutdown = end};
    if (!memory || (uintptr_t)memory % UNIT != 0 || size < (size_t)4 * UNIT || size > LARGEST)
        return SQLITE_MISUSE;
    const int result = sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
    if (result != SQLITE_OK)
        return result;
    heap.word = memory;
    heap.end = (uint32_t)(size / UNIT * 2) - 1; /* a block's size is even, and word 0 is none's */
    return SQLITE_OK;
}

void outbox_heap_used(outbox_heap_use *use)
{
    *use = (outbox_heap_use){.size = heap.end > 0 ? (size_t)(heap.end - 1) * WORD : 0,
                             .now = heap.now,
                             .most = heap.most,
                             .refused = heap.refused};
}
