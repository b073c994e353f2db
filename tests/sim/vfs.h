/* SPDX-License-Identifier: MIT
 *
 * vfs.h - the device: SQLite's file system over a disk that forgets, and its power switch.
 *
 * Two names are registered with SQLite, one per process of the device: the application's and the
 * forwarder's. A process can be killed alone: its calls fail from then on and its locks are gone,
 * while the files stay as they are. When the power is cut, the calls of both fail, and nothing
 * reaches the disk any more; whoever drives the run then closes everything, which must work on a
 * dead device too, and calls device_restart().
 *
 * Before each call that matters, `before` is asked; it may fail the call, or cut the power.
 */
#ifndef SIM_VFS_H
#define SIM_VFS_H

#include "disk.h"

#include <sqlite3.h>

enum process { PROCESS_APP, PROCESS_FORWARDER, PROCESSES };

enum vfs_call {
    CALL_OPEN,
    CALL_READ,
    CALL_WRITE,
    CALL_TRUNCATE,
    CALL_SYNC,
    CALL_DELETE,
    CALL_LOCK,
    CALLS
};

struct vfs_file;

struct device {
    struct disk disk;
    bool powered;
    bool is_alive[PROCESSES];
    bool has_shared_memory;
    int characteristics;    /* SQLITE_IOCAP_... */
    uint64_t capacity;      /* bytes of all files; 0: no end */
    uint64_t now_us;        /* since the first start of the device; never goes back */
    int64_t wall_offset_ms; /* what somebody set the wall clock to */
    uint64_t dice;          /* for SQLite's random bytes; no decision hangs on them */

    /* SQLITE_OK, or the code with which the call fails without effect. */
    int (*before)(void *context, enum vfs_call call, const char *file);
    void *context;
    bool cuts_after; /* set by `before`: the call takes effect, but nobody lives to see it */

    uint64_t logged[PROCESSES];       /* bytes that were written to WAL or journal */
    uint64_t changes;                 /* calls so far that a power cut could come in between */
    uint64_t full;                    /* writes that found the disk full */
    uint64_t denied_until[PROCESSES]; /* a call failed or met a lock, and may still have effect */
    uint64_t last_wal_end;            /* where the last write to a WAL ended */
    struct vfs_file *files;           /* open */
};

/* Registers both names; SQLite's default becomes the application's. Once per program. */
void device_register(void);
const char *device_vfs_name(enum process process);

/* Makes `device` the one behind the names. One at a time. */
void device_init(struct device *device);
void device_free(struct device *device); /* no file may be open */

void device_cut_power(struct device *device);
void device_kill(struct device *device, enum process process);
void device_revive(struct device *device, enum process process); /* all its files are closed */
void device_restart(struct device *device, struct choices *choices, enum damage damage);

/* Locks of this process: on files above SHARED in WAL, any in the rollback modes. */
unsigned device_locks(const struct device *device, enum process process, bool in_wal);
unsigned device_open_files(const struct device *device);
/* The wall clock starts in 2026; with this offset, in 1970. */
#define WALL_1970_MS (-INT64_C(1767225600000))
int64_t device_wall_ms(const struct device *device);

#endif
