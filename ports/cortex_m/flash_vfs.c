/* SPDX-License-Identifier: MIT
 *
 * flash_vfs.c - the face that a flash log shows to SQLite: a VFS with one file.
 *
 * Begin, commit and rollback of SQLite's atomic batch are those of the log, so after a crash the
 * file is as one of SQLite's commits left it. Nothing is written in any other way, but for the
 * length of the file, and for pages that are already what SQLite wants to write: it does that when
 * it rolls back.
 */
#include "flash_vfs.h"

#include <stdbool.h>
#include <string.h>

struct flash_file {
    sqlite3_file base;
    outbox_flash_vfs *vfs;
};

enum { HEADER_SIZE = 100, PIECE = 64 };

static outbox_flash_log *log_of(sqlite3_file *file)
{
    return ((struct flash_file *)file)->vfs->config.log;
}

static int code_of(outbox_flash_result result, int failure)
{
    switch (result) {
    case OUTBOX_FLASH_OK:
        return SQLITE_OK;
    case OUTBOX_FLASH_FULL:
        return SQLITE_FULL;
    case OUTBOX_FLASH_DAMAGED:
        return SQLITE_CORRUPT;
    case OUTBOX_FLASH_MISUSE:
    case OUTBOX_FLASH_FOREIGN:
    case OUTBOX_FLASH_FAILED:
        break;
    }
    return failure;
}

/* SQLite answers the failure of a batch with a journal, which is refused: vfs_open() has to know
 * why. */
static int code_in_batch(sqlite3_file *file, outbox_flash_result result, int failure)
{
    ((struct flash_file *)file)->vfs->has_failed = result == OUTBOX_FLASH_FAILED;
    return code_of(result, failure);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static uint32_t page_count(outbox_flash_log *log)
{
    const uint32_t pages = outbox_flash_pages(log);
    return pages > 0 ? pages : 1;
}

/* An empty database (file format, sections 1.3 and 1.6): the header, and the schema's empty
 * leaf. */
static void make_first_page(uint32_t page_size, uint8_t first[HEADER_SIZE + 8])
{
    memset(first, 0, HEADER_SIZE + 8);
    memcpy(first, "SQLite format 3", 16);
    first[16] = (uint8_t)(page_size >> 8);
    first[18] = first[19] = 1; /* rollback journal */
    first[21] = 64;
    first[22] = first[23] = 32;
    first[31] = 1;           /* pages */
    first[HEADER_SIZE] = 13; /* leaf of a table */
    first[HEADER_SIZE + 5] = (uint8_t)(page_size >> 8);
}

static int read_first_page(uint32_t page_size, uint32_t from, uint8_t *data, uint32_t size)
{
    uint8_t first[HEADER_SIZE + 8];
    make_first_page(page_size, first);
    memset(data, 0, size);
    if (from < sizeof first)
        memcpy(data, first + from, size < sizeof first - from ? size : sizeof first - from);
    return SQLITE_OK;
}

static int read_piece(outbox_flash_log *log, uint32_t page, uint32_t from, uint8_t *data,
                      uint32_t size)
{
    const uint32_t page_size = outbox_flash_page_size(log);
    if (outbox_flash_pages(log) == 0)
        return read_first_page(page_size, from, data, size);
    if (size == page_size)
        return code_of(outbox_flash_read(log, page, data), SQLITE_IOERR_READ);
    return code_of(outbox_flash_read_part(log, page, from, data, size), SQLITE_IOERR_READ);
}

static int flash_read(sqlite3_file *file, void *data, int amount, sqlite3_int64 offset)
{
    outbox_flash_log *log = log_of(file);
    const uint32_t page_size = outbox_flash_page_size(log);
    const sqlite3_int64 end = (sqlite3_int64)page_count(log) * page_size;
    uint8_t *to = data;
    sqlite3_int64 at = offset;
    for (int left = amount; left > 0;) {
        const uint32_t from = (uint32_t)(at % page_size);
        uint32_t size = page_size - from;
        if (size > (uint32_t)left)
            size = (uint32_t)left;
        if (at >= end) {
            memset(to, 0, (size_t)left);
            return SQLITE_IOERR_SHORT_READ;
        }
        int result = read_piece(log, (uint32_t)(at / page_size) + 1, from, to, size);
        if (result != SQLITE_OK)
            return result;
        at += size;
        to += size;
        left -= (int)size;
    }
    return SQLITE_OK;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* True: it is on the flash like this, so there is nothing to write. */
static bool is_same(outbox_flash_log *log, uint32_t page, const uint8_t *data)
{
    uint8_t piece[PIECE];
    const uint32_t page_size = outbox_flash_page_size(log);
    if (page > page_count(log))
        return false;
    for (uint32_t from = 0; from < page_size; from += PIECE)
        if (read_piece(log, page, from, piece, PIECE) != SQLITE_OK ||
            memcmp(piece, data + from, PIECE) != 0)
            return false;
    return true;
}

static uint32_t big_endian(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* Page 1 says how many pages there are. SQLite does not write those at the end that are free, and
 * sets the length later, when the batch has long been committed: a cut in between would leave a
 * file that is shorter than it says, which SQLite takes for damaged. */
static outbox_flash_result write_page(outbox_flash_log *log, uint32_t page, const uint8_t *data)
{
    outbox_flash_result result = outbox_flash_write(log, page, data);
    if (result == OUTBOX_FLASH_OK && page == 1 && big_endian(data + 28) > outbox_flash_pages(log))
        result = outbox_flash_resize(log, big_endian(data + 28));
    return result;
}

static outbox_flash_result write_lone_page(outbox_flash_log *log, uint32_t page,
                                           const uint8_t *data)
{
    outbox_flash_result result = outbox_flash_begin(log);
    if (result != OUTBOX_FLASH_OK)
        return result;
    result = write_page(log, page, data);
    if (result == OUTBOX_FLASH_OK)
        result = outbox_flash_commit(log);
    if (result != OUTBOX_FLASH_OK)
        outbox_flash_rollback(log);
    return result;
}

static int flash_write(sqlite3_file *file, const void *data, int amount, sqlite3_int64 offset)
{
    outbox_flash_log *log = log_of(file);
    const uint32_t page_size = outbox_flash_page_size(log);
    const uint32_t page = (uint32_t)(offset / page_size) + 1;
    if ((uint32_t)amount != page_size || offset % page_size != 0)
        return SQLITE_IOERR_WRITE; /* another page size than that of the log */
    outbox_flash_result result = write_page(log, page, data);
    if (result == OUTBOX_FLASH_MISUSE) { /* no batch is open */
        if (is_same(log, page, data))
            return SQLITE_OK;
        if (((struct flash_file *)file)->vfs->config.take_lone_pages)
            result = write_lone_page(log, page, data);
    }
    return code_in_batch(file, result, SQLITE_IOERR_WRITE);
}

static int flash_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    outbox_flash_log *log = log_of(file);
    const uint32_t page_size = outbox_flash_page_size(log);
    const sqlite3_int64 pages = (size + page_size - 1) / page_size;
    if (pages > UINT32_MAX)
        return SQLITE_FULL;
    return code_of(outbox_flash_resize(log, (uint32_t)pages), SQLITE_IOERR_TRUNCATE);
}

/* A commit record is synced by the commit itself. */
static int flash_sync(sqlite3_file *file, int flags)
{
    (void)file, (void)flags;
    return SQLITE_OK;
}

static int flash_size(sqlite3_file *file, sqlite3_int64 *size)
{
    outbox_flash_log *log = log_of(file);
    *size = (sqlite3_int64)page_count(log) * outbox_flash_page_size(log);
    return SQLITE_OK;
}

static int flash_control(sqlite3_file *file, int operation, void *argument)
{
    outbox_flash_log *log = log_of(file);
    switch (operation) {
    case SQLITE_FCNTL_BEGIN_ATOMIC_WRITE:
        return code_in_batch(file, outbox_flash_begin(log), SQLITE_IOERR_BEGIN_ATOMIC);
    case SQLITE_FCNTL_COMMIT_ATOMIC_WRITE:
        return code_in_batch(file, outbox_flash_commit(log), SQLITE_IOERR_COMMIT_ATOMIC);
    case SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE:
        outbox_flash_rollback(log);
        return SQLITE_OK;
    case SQLITE_FCNTL_HAS_MOVED:
        *(int *)argument = 0;
        return SQLITE_OK;
    default:
        return SQLITE_NOTFOUND;
    }
}

/* ---- What one connection needs not ----------------------------------------------------------- */

static int flash_close(sqlite3_file *file)
{
    outbox_flash_rollback(log_of(file));
    ((struct flash_file *)file)->vfs->is_open = 0;
    return SQLITE_OK;
}

static int flash_lock(sqlite3_file *file, int level)
{
    (void)file, (void)level;
    return SQLITE_OK;
}

static int flash_is_reserved(sqlite3_file *file, int *is_reserved)
{
    (void)file;
    *is_reserved = 0;
    return SQLITE_OK;
}

static int flash_sector_size(sqlite3_file *file)
{
    return (int)outbox_flash_page_size(log_of(file));
}

static int flash_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_BATCH_ATOMIC | SQLITE_IOCAP_POWERSAFE_OVERWRITE |
           SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN;
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 1,
    .xClose = flash_close,
    .xRead = flash_read,
    .xWrite = flash_write,
    .xTruncate = flash_truncate,
    .xSync = flash_sync,
    .xFileSize = flash_size,
    .xLock = flash_lock,
    .xUnlock = flash_lock,
    .xCheckReservedLock = flash_is_reserved,
    .xFileControl = flash_control,
    .xSectorSize = flash_sector_size,
    .xDeviceCharacteristics = flash_characteristics,
};

/* ---- The VFS --------------------------------------------------------------------------------- */

static outbox_flash_vfs *own(sqlite3_vfs *vfs)
{
    return (outbox_flash_vfs *)vfs;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                    int *out_flags)
{
    struct flash_file *it = (struct flash_file *)file;
    it->base.pMethods = NULL;
    if (!(flags & SQLITE_OPEN_MAIN_DB) || !name || strcmp(name, vfs->zName) != 0 ||
        own(vfs)->is_open)
        return own(vfs)->has_failed ? SQLITE_IOERR : SQLITE_CANTOPEN;
    it->base.pMethods = &file_methods;
    it->vfs = own(vfs);
    own(vfs)->is_open = 1;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_folder)
{
    (void)vfs, (void)name, (void)sync_folder;
    return SQLITE_IOERR_DELETE_NOENT;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *result)
{
    (void)flags;
    *result = strcmp(name, vfs->zName) == 0;
    return SQLITE_OK;
}

static int vfs_full_name(sqlite3_vfs *vfs, const char *name, int size, char *full)
{
    (void)vfs;
    const size_t length = strlen(name);
    if (length >= (size_t)size)
        return SQLITE_CANTOPEN;
    memcpy(full, name, length + 1);
    return SQLITE_OK;
}

static int vfs_random(sqlite3_vfs *vfs, int size, char *data)
{
    own(vfs)->config.random(own(vfs)->config.context, data, (size_t)size);
    return size;
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs, (void)microseconds; /* nobody holds a lock that could be waited for */
    return 0;
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *milliseconds)
{
    static const sqlite3_int64 unix_epoch = (sqlite3_int64)24405875 * 8640000; /* in Julian days */
    const outbox_flash_vfs_config *config = &own(vfs)->config;
    *milliseconds = unix_epoch + (config->wall_ms ? config->wall_ms(config->context) : 0);
    return SQLITE_OK;
}

static int vfs_time_of_day(sqlite3_vfs *vfs, double *days)
{
    sqlite3_int64 milliseconds;
    int result = vfs_time(vfs, &milliseconds);
    *days = (double)milliseconds / 86400000.0;
    return result;
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *text)
{
    (void)vfs;
    if (size > 0)
        text[0] = '\0'; /* the log reports what fails */
    return 0;
}

int outbox_flash_vfs_register(outbox_flash_vfs *vfs, const outbox_flash_vfs_config *config)
{
    if (!vfs || !config || !config->log || !config->name || !config->random)
        return SQLITE_MISUSE;
    memset(vfs, 0, sizeof *vfs);
    vfs->config = *config;
    vfs->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(struct flash_file),
        .mxPathname = 64,
        .zName = config->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_name,
        .xRandomness = vfs_random,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time_of_day,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time,
    };
    return sqlite3_vfs_register(&vfs->base, 1);
}
