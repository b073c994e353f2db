/* SPDX-License-Identifier: MIT
 *
 * shim_vfs.h - a VFS over the default one that plays a disk behind a page cache: it knows which
 * bytes of the WAL a power cut would lose, and its syncs fail on demand.
 *
 * A sync that fails behaves as Linux does: the pages count as clean from then on, so the next sync
 * succeeds without having written them. What is read is what was written all the time. Nobody
 * sleeps in it: a busy handler that wants to is counted, and the test may act meanwhile.
 */
#ifndef SHIM_VFS_H
#define SHIM_VFS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

struct shim_vfs {
    bool is_read_only;                    /* the WAL takes no write */
    sqlite3_int64 wal_room, journal_room; /* SQLITE_FULL beyond so many bytes; 0: no bound */
    int fail_syncs;                       /* of the WAL: so many fail */
    int syncs;                            /* of the WAL: so many were tried */
    int writes;                           /* to the WAL */
    int all_writes, all_syncs;            /* of every file */
    int fail_reads;                       /* of the WAL: the n-th from now on fails; 0: none */
    int fail_writes;                      /* to the WAL: the same */
    int fail_sizes;                       /* of the WAL: so many questions fail */
    int busy_checkpoints;                 /* so many find another one that runs */
    int persist_answer;                   /* to SQLITE_FCNTL_PERSIST_WAL, if it is not 0 */
    int slept_ms;
    void (*on_sleep)(void *context); /* may be NULL */
    void *on_sleep_context;
};
extern struct shim_vfs shim_vfs;

/* Registers it under the name "shim", and forgets what it knew. */
void shim_vfs_start(void);
void shim_vfs_stop(void);

/* Another connection to a file, through it. */
sqlite3 *shim_vfs_connect(const char *path);

/* Bytes of the WAL that were written since the start and would not survive a power cut. */
size_t shim_vfs_at_risk(void);

#endif
