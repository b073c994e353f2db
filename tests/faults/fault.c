/* SPDX-License-Identifier: MIT
 *
 * fault.c - the counter of the one fault that is armed, under SQLite's memory, its files and the
 * link.
 */
#include "faults/fault.h"

#include <assert.h>

static struct {
    bool is_armed, persists;
    enum fault fault;
    unsigned countdown, fired;
} armed;

static sqlite3_mem_methods memory;

const char *fault_name(enum fault fault)
{
    static const char *const names[FAULTS] = {
        [FAULT_ALLOC] = "alloc",   [FAULT_READ] = "read",         [FAULT_WRITE] = "write",
        [FAULT_SYNC] = "sync",     [FAULT_TRUNCATE] = "truncate", [FAULT_OPEN] = "open",
        [FAULT_DELETE] = "delete", [FAULT_FULL] = "full",         [FAULT_BUSY] = "busy",
        [FAULT_LINK] = "link",     [FAULT_ROOM] = "room"};
    return names[fault];
}

void fault_arm(enum fault fault, unsigned n, bool persists)
{
    assert(n > 0 && !armed.is_armed);
    armed.is_armed = true;
    armed.fault = fault;
    armed.persists = persists;
    armed.countdown = n;
    armed.fired = 0;
}

unsigned fault_disarm(void)
{
    armed.is_armed = false;
    return armed.fired;
}

unsigned fault_count(void)
{
    return FAULT_NEVER - armed.countdown;
}

bool fault_strikes(enum fault fault)
{
    if (!armed.is_armed || armed.fault != fault || armed.countdown == 0)
        return false;
    if (armed.countdown > 1) {
        armed.countdown--;
        return false;
    }
    if (!armed.persists)
        armed.countdown = 0;
    armed.fired++;
    return true;
}

int fault_before_call(void *context, enum vfs_call call, const char *file)
{
    static const struct {
        enum fault fault;
        enum vfs_call call;
        int code;
    } failures[] = {
        {FAULT_READ, CALL_READ, SQLITE_IOERR_READ},
        {FAULT_WRITE, CALL_WRITE, SQLITE_IOERR_WRITE},
        {FAULT_SYNC, CALL_SYNC, SQLITE_IOERR_FSYNC},
        {FAULT_TRUNCATE, CALL_TRUNCATE, SQLITE_IOERR_TRUNCATE},
        {FAULT_OPEN, CALL_OPEN, SQLITE_CANTOPEN},
        {FAULT_DELETE, CALL_DELETE, SQLITE_IOERR_DELETE},
        {FAULT_FULL, CALL_WRITE, SQLITE_FULL},
        {FAULT_BUSY, CALL_LOCK, SQLITE_BUSY},
    };
    (void)context, (void)file;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (failures[i].call == call && fault_strikes(failures[i].fault))
            return failures[i].code;
    return SQLITE_OK;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void *allocate(int size)
{
    return fault_strikes(FAULT_ALLOC) ? NULL : memory.xMalloc(size);
}

static void *allocate_again(void *old, int size)
{
    return fault_strikes(FAULT_ALLOC) ? NULL : memory.xRealloc(old, size);
}

bool fault_set_up(void)
{
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory) != SQLITE_OK)
        return false;
    sqlite3_mem_methods failing = memory;
    failing.xMalloc = allocate;
    failing.xRealloc = allocate_again;
    /* Without lookaside, which would serve the small ones from memory that cannot fail. */
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) == SQLITE_OK &&
           sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK;
}
