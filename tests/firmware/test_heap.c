/* SPDX-License-Identifier: MIT
 *
 * test_heap.c - the allocator of the board: random calls against a model that knows every block,
 * and what is promised of a heap that is full or in pieces.
 */
#include "device.h"

#include "cortex_m/heap.h"
#include "unit/support.h"

#include <string.h>

enum { SIZE = 4096, PLACES = SIZE - 8, BLOCKS = 64, CALLS = 200000, HEAD = 4 };

static uint64_t memory[SIZE / 8];
static sqlite3_mem_methods methods;

struct block {
    unsigned char *at;
    int bytes;
    unsigned char fill;
};

static struct block blocks[BLOCKS];
static uint32_t dice = 1;

static uint32_t roll(uint32_t sides)
{
    dice = dice * 1664525u + 1013904223u;
    return (dice >> 8) % sides;
}

static int begin(void **state)
{
    (void)state;
    memset(blocks, 0, sizeof blocks);
    return methods.xInit(methods.pAppData) != SQLITE_OK;
}

static outbox_heap_use used(void)
{
    outbox_heap_use use;
    outbox_heap_used(&use);
    return use;
}

/* What a block takes: its head, and up to a multiple of eight. */
static size_t taken(int bytes)
{
    return ((size_t)bytes + HEAD + 7) / 8 * 8;
}

/* ---- The model ------------------------------------------------------------------------------- */

static size_t place(const struct block *block)
{
    return (size_t)(block->at - (unsigned char *)memory) - HEAD - HEAD;
}

/* Where each block is, by what has to be there; `largest` and `smallest` (that has `need`) of the
 * gaps. */
static void look(size_t need, size_t *largest, size_t *smallest)
{
    static bool is_taken[PLACES];
    memset(is_taken, 0, sizeof is_taken);
    size_t sum = 0, gap = 0;
    for (int i = 0; i < BLOCKS; i++) {
        if (!blocks[i].at)
            continue;
        const size_t from = place(&blocks[i]), size = taken(blocks[i].bytes);
        assert_int_equal((uintptr_t)blocks[i].at % 8, 0);
        assert_true(from + size <= PLACES);
        for (size_t j = 0; j < size; j++) {
            assert_false(is_taken[from + j]);
            is_taken[from + j] = true;
        }
        for (int j = 0; j < blocks[i].bytes; j++)
            assert_int_equal(blocks[i].at[j], blocks[i].fill);
        sum += size;
    }
    assert_int_equal(used().now, sum);
    *largest = 0;
    *smallest = SIZE;
    for (size_t i = 0; i <= PLACES; i++) {
        if (i < PLACES && !is_taken[i]) {
            gap++;
            continue;
        }
        if (gap > *largest)
            *largest = gap;
        if (gap >= need && gap < *smallest)
            *smallest = gap;
        gap = 0;
    }
}

static void fill(struct block *block, void *at, int bytes)
{
    *block = (struct block){at, bytes, (unsigned char)roll(256)};
    memset(at, block->fill, (size_t)bytes);
    assert_true(methods.xSize(at) >= bytes);
    assert_int_equal(methods.xSize(at), methods.xRoundup(bytes));
}

/* The free bytes behind the block, up to the next one. */
static size_t gap_behind(const struct block *block)
{
    const size_t end = place(block) + taken(block->bytes);
    size_t next = PLACES;
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].at && place(&blocks[i]) >= end && place(&blocks[i]) < next)
            next = place(&blocks[i]);
    return next - end;
}

static void allocate(struct block *block, int bytes)
{
    size_t largest, smallest;
    look(taken(bytes), &largest, &smallest);
    const unsigned refused = used().refused;
    void *at = methods.xMalloc(bytes);
    assert_int_equal(at != NULL, taken(bytes) <= largest);
    assert_int_equal(used().refused, refused + (at == NULL));
    if (!at)
        return;
    fill(block, at, bytes);
    assert_int_equal(gap_behind(block),
                     smallest - taken(bytes)); /* the front of the tightest gap */
}

static void resize(struct block *block, int bytes)
{
    const struct block before = *block;
    size_t largest, smallest;
    look(0, &largest, &smallest);
    const bool fits = taken(bytes) <= taken(block->bytes) + gap_behind(block);
    unsigned char *at = methods.xRealloc(block->at, bytes);
    assert_int_equal(at != NULL, fits || taken(bytes) <= largest);
    if (fits)
        assert_ptr_equal(at, before.at); /* without a copy */
    if (!at)
        return; /* look() will find what it held as it was */
    for (int i = 0; i < (bytes < before.bytes ? bytes : before.bytes); i++)
        assert_int_equal(at[i], before.fill);
    fill(block, at, bytes);
}

static int some_size(void)
{
    return 1 + (int)roll(roll(8) == 0 ? 1500 : 120);
}

static void random_calls_do_what_the_model_says(void **state)
{
    (void)state;
    size_t largest, smallest;
    for (int i = 0; i < CALLS; i++) {
        struct block *block = &blocks[roll(BLOCKS)];
        if (!block->at) {
            allocate(block, some_size());
        } else if (roll(3) == 0) {
            resize(block, some_size());
        } else {
            methods.xFree(block->at);
            block->at = NULL;
        }
    }
    assert_true(used().refused > 100);
    for (int i = 0; i < BLOCKS; i++) {
        methods.xFree(blocks[i].at);
        blocks[i].at = NULL;
        look(0, &largest, &smallest);
    }
    assert_int_equal(largest, PLACES); /* all pieces have grown together */
    allocate(&blocks[0], PLACES - HEAD);
    assert_non_null(blocks[0].at);
}

/* ---- What it says of itself ------------------------------------------------------------------ */

static void the_most_stays_when_all_is_given_back(void **state)
{
    (void)state;
    void *first = methods.xMalloc(100), *second = methods.xMalloc(200),
         *third = methods.xMalloc(28);
    methods.xFree(second);
    methods.xFree(first);
    assert_int_equal(used().now, 32);
    assert_int_equal(used().most, 104 + 208 + 32);
    assert_int_equal(used().size, PLACES);
    methods.xFree(third);
    methods.xFree(NULL);
    assert_int_equal(used().now, 0);
    assert_int_equal(used().most, 104 + 208 + 32);
    assert_int_equal(used().refused, 0);
    assert_int_equal(methods.xSize(NULL), 0);
}

static void memory_that_is_not_as_it_has_to_be_is_refused(void **state)
{
    (void)state;
    assert_int_equal(outbox_heap_give(NULL, SIZE), SQLITE_MISUSE);
    assert_int_equal(outbox_heap_give((char *)memory + 4, SIZE - 8), SQLITE_MISUSE);
    assert_int_equal(outbox_heap_give(memory, 8), SQLITE_MISUSE);
    assert_int_equal(outbox_heap_give(memory, SIZE), SQLITE_OK);
    assert_int_equal(sqlite3_initialize(), SQLITE_OK);
    assert_int_equal(outbox_heap_give(memory, SIZE), SQLITE_MISUSE); /* too late */
    assert_int_equal(sqlite3_shutdown(), SQLITE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(random_calls_do_what_the_model_says, begin),
        cmocka_unit_test_setup(the_most_stays_when_all_is_given_back, begin),
        cmocka_unit_test_setup(memory_that_is_not_as_it_has_to_be_is_refused, begin),
    };
    if (outbox_heap_give(memory, sizeof memory) != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_GETMALLOC, &methods) != SQLITE_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
