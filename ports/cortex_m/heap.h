/* SPDX-License-Identifier: MIT
 *
 * heap.h - SQLite's memory out of one array, for a board that has little of it.
 *
 * SQLite's own allocator for an array (MEMSYS5) rounds each size up to a power of two, which wastes
 * a third of the heap and more. This one rounds up to eight bytes, and needs four for each block.
 * The smallest free block that is large enough is taken, and what is given back grows together with
 * its free neighbours. The time of a call grows with the number of free blocks, of which there are
 * some dozens: it is for heaps of some kilobytes. One thread.
 */
#ifndef OUTBOX_CORTEX_M_HEAP_H
#define OUTBOX_CORTEX_M_HEAP_H

#include <stddef.h>

/* Makes SQLite take its memory from here, which stays its own for ever. Before anything else is
 * done with SQLite. `memory` is aligned to eight bytes and has at most 2^30. Returns SQLite's code:
 * SQLITE_MISUSE where it is too late, or the memory is not as it has to be. */
int outbox_heap_give(void *memory, size_t size);

typedef struct outbox_heap_use {
    size_t size;      /* that blocks can take, their four bytes each included */
    size_t now, most; /* what they take; the most that they ever took */
    unsigned refused; /* so often there was none large enough */
} outbox_heap_use;

void outbox_heap_used(outbox_heap_use *use);

#endif
