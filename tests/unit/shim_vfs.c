/* SPDX-License-Identifier: MIT
 *
 * shim_vfs.c - hands everything on to the default VFS, and keeps a state per byte of the one WAL
 * that a test has. It has no power cut: a test asks what one would cost.
 */
#include "shim_vfs.h"

#include "support.h"

#include <stdlib.h>
#include <string.h>

enum { WAL_MAX = 1 << 20 };
enum byte { ON_DISK, DIRTY, LOST }; /* lost: clean in the eyes of the kernel, not on the disk */

struct shim_file {
    sqlite3_file base;
    bool is_wal, is_journal;
    sqlite3_file *real;
};

struct shim_vfs shim_vfs;
static char bytes[WAL_MAX];
static sqlite3_vfs vfs;

static sqlite3_vfs *real_vfs(void)
{
    return vfs.pAppData;
}

static sqlite3_file *real(sqlite3_file *file)
{
    return ((struct shim_file *)file)->real;
}

/* ---- What is of interest --------------------------------------------------------------------- */

/* Counts down; true for the call that it is for. */
static bool strikes(int *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

static bool is_full(const struct shim_file *shim, sqlite3_int64 end)
{
    return (shim->is_wal && shim_vfs.wal_room > 0 && end > shim_vfs.wal_room) ||
           (shim->is_journal && shim_vfs.journal_room > 0 && end > shim_vfs.journal_room);
}

static int shim_write(sqlite3_file *file, const void *data, int amount, sqlite3_int64 offset)
{
    shim_vfs.all_writes++;
    if (is_full((struct shim_file *)file, offset + amount))
        return SQLITE_FULL;
    if (((struct shim_file *)file)->is_wal) {
        if (shim_vfs.is_read_only)
            return SQLITE_READONLY;
        assert_true(offset + amount <= WAL_MAX);
        if (strikes(&shim_vfs.fail_writes))
            return SQLITE_IOERR_WRITE;
        memset(bytes + offset, DIRTY, (size_t)amount);
        shim_vfs.writes++;
    }
    return real(file)->pMethods->xWrite(real(file), data, amount, offset);
}

static int shim_sync(sqlite3_file *file, int flags)
{
    shim_vfs.all_syncs++;
    if (!((struct shim_file *)file)->is_wal)
        return real(file)->pMethods->xSync(real(file), flags);
    bool fails = shim_vfs.fail_syncs > 0;
    shim_vfs.syncs++;
    shim_vfs.fail_syncs -= fails;
    for (size_t i = 0; i < WAL_MAX; i++)
        if (bytes[i] == DIRTY)
            bytes[i] = fails ? LOST : ON_DISK;
    return fails ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    shim_vfs.all_writes++;
    if (((struct shim_file *)file)->is_wal)
        memset(bytes + size, ON_DISK, (size_t)(WAL_MAX - size));
    return real(file)->pMethods->xTruncate(real(file), size);
}

static int shim_sleep(sqlite3_vfs *self, int microseconds)
{
    (void)self;
    shim_vfs.slept_ms += microseconds / 1000;
    if (shim_vfs.on_sleep)
        shim_vfs.on_sleep(shim_vfs.on_sleep_context);
    return microseconds;
}

size_t shim_vfs_at_risk(void)
{
    size_t count = 0;
    for (size_t i = 0; i < WAL_MAX; i++)
        count += bytes[i] != ON_DISK;
    return count;
}

/* ---- What is handed on ----------------------------------------------------------------------- */

static int shim_close(sqlite3_file *file)
{
    int result = real(file)->pMethods->xClose(real(file));
    free(real(file));
    return result;
}

static int shim_read(sqlite3_file *file, void *data, int amount, sqlite3_int64 offset)
{
    if (((struct shim_file *)file)->is_wal && strikes(&shim_vfs.fail_reads))
        return SQLITE_IOERR_READ;
    return real(file)->pMethods->xRead(real(file), data, amount, offset);
}

static int shim_size(sqlite3_file *file, sqlite3_int64 *size)
{
    if (((struct shim_file *)file)->is_wal && shim_vfs.fail_sizes > 0) {
        shim_vfs.fail_sizes--;
        return SQLITE_IOERR_FSTAT;
    }
    return real(file)->pMethods->xFileSize(real(file), size);
}

static int shim_lock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xLock(real(file), level);
}

static int shim_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int shim_reserved(sqlite3_file *file, int *is_reserved)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), is_reserved);
}

static int shim_control(sqlite3_file *file, int operation, void *argument)
{
    if (operation == SQLITE_FCNTL_PERSIST_WAL && shim_vfs.persist_answer)
        return shim_vfs.persist_answer;
    return real(file)->pMethods->xFileControl(real(file), operation, argument);
}

static int shim_sector(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int shim_device(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int shim_map(sqlite3_file *file, int page, int size, int extend, void volatile **memory)
{
    return real(file)->pMethods->xShmMap(real(file), page, size, extend, memory);
}

static int shim_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    const int checkpoint = 1; /* SQLite, walformat.html: the second of the locks */
    if (offset == checkpoint && flags & SQLITE_SHM_LOCK && shim_vfs.busy_checkpoints > 0) {
        shim_vfs.busy_checkpoints--;
        return SQLITE_BUSY;
    }
    return real(file)->pMethods->xShmLock(real(file), offset, n, flags);
}

static void shim_barrier(sqlite3_file *file)
{
    real(file)->pMethods->xShmBarrier(real(file));
}

static int shim_unmap(sqlite3_file *file, int remove)
{
    return real(file)->pMethods->xShmUnmap(real(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_reserved,
    .xFileControl = shim_control,
    .xSectorSize = shim_sector,
    .xDeviceCharacteristics = shim_device,
    .xShmMap = shim_map,
    .xShmLock = shim_shm_lock,
    .xShmBarrier = shim_barrier,
    .xShmUnmap = shim_unmap,
};

static int shim_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *out)
{
    struct shim_file *shim = (struct shim_file *)file;
    (void)self;
    shim->base.pMethods = NULL;
    shim->is_journal = (flags & SQLITE_OPEN_MAIN_JOURNAL) != 0;
    shim->is_wal = (flags & SQLITE_OPEN_WAL) != 0;
    shim->real = calloc(1, (size_t)real_vfs()->szOsFile);
    if (!shim->real)
        return SQLITE_NOMEM;
    int result = real_vfs()->xOpen(real_vfs(), name, shim->real, flags, out);
    if (result == SQLITE_OK)
        shim->base.pMethods = &methods;
    else
        free(shim->real);
    return result;
}

void shim_vfs_start(void)
{
    sqlite3_vfs *real_one = sqlite3_vfs_find(NULL);
    assert_non_null(real_one);
    memset(&shim_vfs, 0, sizeof shim_vfs);
    memset(bytes, ON_DISK, sizeof bytes);
    vfs = *real_one; /* all but open works on names, and takes any VFS for its own */
    vfs.zName = "shim";
    vfs.pAppData = real_one;
    vfs.szOsFile = (int)sizeof(struct shim_file);
    vfs.xOpen = shim_open;
    vfs.xSleep = shim_sleep;
    assert_int_equal(sqlite3_vfs_register(&vfs, 0), SQLITE_OK);
}

void shim_vfs_stop(void)
{
    assert_int_equal(sqlite3_vfs_unregister(&vfs), SQLITE_OK);
}

sqlite3 *shim_vfs_connect(const char *path)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "shim"), SQLITE_OK);
    return db;
}
