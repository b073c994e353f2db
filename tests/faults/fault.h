/* SPDX-License-Identifier: MIT
 *
 * fault.h - makes the n-th call of one kind fail, and counts that it did.
 *
 * One fault is armed at a time, for the whole program: allocations know no device.
 */
#ifndef FAULT_H
#define FAULT_H

#include "sim/vfs.h"

enum fault {
    FAULT_ALLOC,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_TRUNCATE,
    FAULT_OPEN,
    FAULT_DELETE,
    FAULT_FULL,
    FAULT_BUSY,
    FAULT_LINK, /* the link goes down at an open or a publish */
    FAULT_ROOM, /* the link takes nothing more */
    FAULTS
};

const char *fault_name(enum fault fault);

/* Before sqlite3_initialize(): allocations go through here from then on. */
bool fault_set_up(void);

/* The n-th call from now on fails, from 1; with `persists` all behind it fail as well. */
void fault_arm(enum fault fault, unsigned n, bool persists);
/* Gives how many calls failed since it was armed. */
unsigned fault_disarm(void);
/* How many calls of the kind came since it was armed, where none was to fail: with FAULT_NEVER. */
#define FAULT_NEVER 0x7fffffffu
unsigned fault_count(void);

/* Asked by the link before an open (FAULT_LINK) and a publish (both). */
bool fault_strikes(enum fault fault);
/* For device.before. */
int fault_before_call(void *context, enum vfs_call call, const char *file);

#endif
