/* SPDX-License-Identifier: MIT
 *
 * lock.h - one forwarder per database: a lock that the operating system drops when its holder dies.
 */
#ifndef OUTBOX_LINUX_LOCK_H
#define OUTBOX_LINUX_LOCK_H

#include <stddef.h>

/* Takes the forwarder's lock of the database in the file `database` and puts a descriptor into
 * `lock`, which outbox_linux_lock_release() takes back. Does not wait.
 *
 * Returns OUTBOX_OK, OUTBOX_LOCKED (another forwarder has it, in this process or another one),
 * OUTBOX_NO_FILE (no such database file), OUTBOX_NO_MEMORY or OUTBOX_SYSTEM; `sentence` then has
 * the particulars and `lock` is -1. */
int outbox_linux_lock_take(const char *database, int *lock, char *sentence, size_t size);

/* Gives the lock back. -1 is allowed. */
void outbox_linux_lock_release(int lock);

#endif
