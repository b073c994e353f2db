/* SPDX-License-Identifier: MIT
 *
 * flash_vfs.h - SQLite on a flash log: one database, no file beside it, no journal.
 *
 * SQLite hands over all pages of a transaction as one atomic batch (SQLITE_IOCAP_BATCH_ATOMIC),
 * which the log commits with one record. SQLite does so only if it was compiled with
 * SQLITE_ENABLE_BATCH_ATOMIC_WRITE, and with these settings on the connection:
 *
 *   PRAGMA locking_mode = EXCLUSIVE    there is one connection; saves a rewrite of page 1 per
 * commit PRAGMA synchronous = EXTRA         OFF disables the batch; below EXTRA outbox_put() takes
 * commits in DELETE mode for not durable, and nothing is sent PRAGMA cache_spill = OFF           a
 * spill would write pages outside of the batch journal_mode stays DELETE          SQLite's default;
 * no journal is ever made
 *
 * What would not be atomic is refused: a page that comes outside of a batch, under synchronous =
 * OFF or from a spill, is SQLITE_IOERR_WRITE, and opening a journal is SQLITE_CANTOPEN. The
 * transaction fails then, and rolls back; what is on the flash stays whole. A flash that has no
 * room is SQLITE_FULL, one that fails SQLITE_IOERR.
 */
#ifndef OUTBOX_CORTEX_M_FLASH_VFS_H
#define OUTBOX_CORTEX_M_FLASH_VFS_H

#include "flash_log.h"

#include <sqlite3.h>

typedef struct outbox_flash_vfs_config {
    outbox_flash_log *log; /* mounted; for this VFS alone */
    const char *name;      /* of the VFS and of its database file; stays valid */
    /* Milliseconds since 1970-01-01 UTC, or anything before 2025 while the clock is not set; NULL:
     * never set. It makes the time in events. */
    int64_t (*wall_ms)(void *context);
    /* Fills in bytes that differ between devices and between starts, from a source that cannot be
     * guessed: they make the device's name and the epoch, by which recipients tell streams
     * apart. */
    void (*random)(void *context, void *data, size_t size);
    void *context;
    /* Non-zero: pages that come outside of a batch are taken, each as a batch of its own. A power
     * cut between two of them leaves a damaged database. Only for tests that show just that. */
    int take_lone_pages;
} outbox_flash_vfs_config;

typedef struct outbox_flash_vfs {
    sqlite3_vfs base;
    outbox_flash_vfs_config config;
    int is_open;
    int has_failed; /* the last batch did, and by the flash */
} outbox_flash_vfs;

/* Registers the VFS with SQLite as its default. `vfs` is the caller's, until it is unregistered.
 * Open the database under the name of the VFS; a second connection at a time is SQLITE_CANTOPEN.
 * Returns a code of SQLite. On a log without pages it shows a database of one empty page, as
 * SQLite's first transaction on a file of no page would want a journal. */
int outbox_flash_vfs_register(outbox_flash_vfs *vfs, const outbox_flash_vfs_config *config);

#endif
