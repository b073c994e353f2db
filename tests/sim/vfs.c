/* SPDX-License-Identifier: MIT
 *
 * vfs.c - SQLite's file system over disk.c; see vfs.h and sqlite.org/c3ref/io_methods.html.
 */
#include "vfs.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REGION_SIZE = 32768, REGIONS = 64, SHM_LOCKS = SQLITE_SHM_NLOCK };

/* What each call costs, so that time passes while SQLite works. */
static const unsigned cost_us[CALLS] = {
    [CALL_OPEN] = 20,  [CALL_READ] = 1,    [CALL_WRITE] = 4, [CALL_TRUNCATE] = 10,
    [CALL_SYNC] = 400, [CALL_DELETE] = 50, [CALL_LOCK] = 1,
};

/* Behind an inode: its locks by level and its shared memory. */
struct attachment {
    unsigned shared, reserved, pending, exclusive; /* how many hold it */
    void *regions[REGIONS];
    unsigned shm_shared[SHM_LOCKS], shm_exclusive[SHM_LOCKS], shm_users;
};

struct vfs_file {
    sqlite3_file base;
    struct device *device;
    enum process process;
    struct inode *inode;
    char name[DISK_NAME_LENGTH]; /* empty: anonymous */
    bool delete_on_close, persist_wal, uses_shm;
    int level;
    unsigned shm_shared, shm_exclusive; /* a bit per lock */
    struct vfs_file *next;
};

static struct device *current; /* behind the registered names */

/* ---- Life and death -------------------------------------------------------------------------- */

static bool lives(const struct vfs_file *file)
{
    return file->device->powered && file->device->is_alive[file->process];
}

static bool changes_disk(enum vfs_call call)
{
    return call == CALL_WRITE || call == CALL_TRUNCATE || call == CALL_SYNC || call == CALL_DELETE;
}

/* How long a caller may leave the database alone after that. */
static int deny(struct device *device, enum process process, int code)
{
    uint64_t until = device->now_us + (code == SQLITE_BUSY ? 300000 : 2000000);
    if (until > device->denied_until[process])
        device->denied_until[process] = until;
    return code;
}

/* SQLITE_OK: go on. */
static int enter(struct device *device, enum process process, enum vfs_call call, const char *name,
                 int failure)
{
    if (!device->powered || !device->is_alive[process])
        return failure;
    device->now_us += cost_us[call];
    if (changes_disk(call))
        device->changes++;
    int result = device->before ? device->before(device->context, call, name) : SQLITE_OK;
    if (!device->powered || !device->is_alive[process])
        return failure;
    return result == SQLITE_OK ? result : deny(device, process, result);
}

/* After the effect of a call: the cut that the hook has asked for. */
static int leave(struct device *device, int failure)
{
    if (!device->cuts_after)
        return SQLITE_OK;
    device->cuts_after = false;
    device_cut_power(device);
    return failure;
}

static struct attachment *attachment_of(struct inode *inode)
{
    if (!inode->attachment) {
        inode->attachment = calloc(1, sizeof(struct attachment));
        if (!inode->attachment)
            abort();
    }
    return inode->attachment;
}

static void detach(void *context)
{
    struct attachment *attachment = context;
    if (!attachment)
        return;
    for (int i = 0; i < REGIONS; i++)
        free(attachment->regions[i]);
    free(attachment);
}

/* ---- Locks of files -------------------------------------------------------------------------- */

static void set_level(struct vfs_file *file, int level)
{
    struct attachment *a = attachment_of(file->inode);
    a->shared -= file->level >= SQLITE_LOCK_SHARED;
    a->reserved -= file->level >= SQLITE_LOCK_RESERVED;
    a->pending -= file->level >= SQLITE_LOCK_PENDING;
    a->exclusive -= file->level >= SQLITE_LOCK_EXCLUSIVE;
    file->level = level;
    a->shared += level >= SQLITE_LOCK_SHARED;
    a->reserved += level >= SQLITE_LOCK_RESERVED;
    a->pending += level >= SQLITE_LOCK_PENDING;
    a->exclusive += level >= SQLITE_LOCK_EXCLUSIVE;
}

static int file_lock(sqlite3_file *base, int level)
{
    struct vfs_file *file = (struct vfs_file *)base;
    int result = enter(file->device, file->process, CALL_LOCK, file->name, SQLITE_IOERR_LOCK);
    if (result != SQLITE_OK || file->level >= level)
        return result;
    const struct attachment *a = attachment_of(file->inode);
    if (level == SQLITE_LOCK_SHARED) {
        if (a->pending > 0)
            return deny(file->device, file->process, SQLITE_BUSY);
    } else if (level == SQLITE_LOCK_RESERVED) {
        if (a->reserved > 0)
            return deny(file->device, file->process, SQLITE_BUSY);
    } else {
        unsigned own = file->level >= SQLITE_LOCK_RESERVED;
        if (a->reserved > own || a->pending > (unsigned)(file->level >= SQLITE_LOCK_PENDING))
            return deny(file->device, file->process, SQLITE_BUSY);
        if (a->shared > 1) { /* readers may leave, none may come */
            set_level(file, SQLITE_LOCK_PENDING);
            return deny(file->device, file->process, SQLITE_BUSY);
        }
    }
    set_level(file, level);
    return SQLITE_OK;
}

static int file_unlock(sqlite3_file *base, int level)
{
    struct vfs_file *file = (struct vfs_file *)base;
    if (file->level > level)
        set_level(file, level);
    return SQLITE_OK;
}

static int file_check_reserved(sqlite3_file *base, int *is_reserved)
{
    struct vfs_file *file = (struct vfs_file *)base;
    *is_reserved = attachment_of(file->inode)->reserved > 0;
    return lives(file) ? SQLITE_OK : SQLITE_IOERR_CHECKRESERVEDLOCK;
}

/* ---- Shared memory --------------------------------------------------------------------------- */

static int shm_map(sqlite3_file *base, int region, int size, int extend, void volatile **memory)
{
    struct vfs_file *file = (struct vfs_file *)base;
    *memory = NULL;
    if (!lives(file))
        return SQLITE_IOERR_SHMMAP;
    if (region >= REGIONS || size != REGION_SIZE)
        return SQLITE_IOERR_SHMSIZE;
    struct attachment *a = attachment_of(file->inode);
    if (!file->uses_shm) {
        file->uses_shm = true;
        a->shm_users++;
    }
    if (!a->regions[region] && extend) {
        a->regions[region] = calloc(1, REGION_SIZE);
        if (!a->regions[region])
            abort();
    }
    *memory = a->regions[region];
    return SQLITE_OK;
}

static void shm_release(struct vfs_file *file, unsigned mask)
{
    struct attachment *a = attachment_of(file->inode);
    for (int i = 0; i < SHM_LOCKS; i++) {
        unsigned bit = 1u << i;
        if (!(mask & bit))
            continue;
        a->shm_shared[i] -= (file->shm_shared & bit) != 0;
        a->shm_exclusive[i] -= (file->shm_exclusive & bit) != 0;
    }
    file->shm_shared &= ~mask;
    file->shm_exclusive &= ~mask;
}

static int shm_lock(sqlite3_file *base, int first, int count, int flags)
{
    struct vfs_file *file = (struct vfs_file *)base;
    unsigned mask = ((1u << count) - 1) << first;
    if (flags & SQLITE_SHM_UNLOCK) {
        shm_release(file, mask);
        return SQLITE_OK;
    }
    int result = enter(file->device, file->process, CALL_LOCK, file->name, SQLITE_IOERR_SHMLOCK);
    if (result != SQLITE_OK)
        return result;
    struct attachment *a = attachment_of(file->inode);
    bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
    for (int i = first; i < first + count; i++) {
        unsigned own = (file->shm_shared >> i) & 1;
        if (a->shm_exclusive[i] > ((file->shm_exclusive >> i) & 1) ||
            (exclusive && a->shm_shared[i] > own))
            return deny(file->device, file->process, SQLITE_BUSY);
    }
    for (int i = first; i < first + count; i++) {
        unsigned bit = 1u << i;
        if (exclusive && !(file->shm_exclusive & bit)) {
            a->shm_exclusive[i]++;
            file->shm_exclusive |= bit;
        } else if (!exclusive && !(file->shm_shared & bit)) {
            a->shm_shared[i]++;
            file->shm_shared |= bit;
        }
    }
    return SQLITE_OK;
}

static void shm_barrier(sqlite3_file *base)
{
    (void)base;
}

static int shm_unmap(sqlite3_file *base, int remove)
{
    struct vfs_file *file = (struct vfs_file *)base;
    (void)remove; /* like the real one, it goes with its last user */
    if (!file->uses_shm)
        return SQLITE_OK;
    struct attachment *a = attachment_of(file->inode);
    shm_release(file, ~0u);
    file->uses_shm = false;
    if (--a->shm_users == 0) {
        for (int i = 0; i < REGIONS; i++) {
            free(a->regions[i]);
            a->regions[i] = NULL;
        }
    }
    return SQLITE_OK;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static int file_close(sqlite3_file *base)
{
    struct vfs_file *file = (struct vfs_file *)base;
    struct vfs_file **link = &file->device->files;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    (void)shm_unmap(base, 0);
    set_level(file, SQLITE_LOCK_NONE);
    if (file->delete_on_close && file->name[0] && lives(file) &&
        disk_find(&file->device->disk, file->name) == file->inode)
        disk_unlink(&file->device->disk, file->name);
    disk_release(&file->device->disk, file->inode);
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *to, int length, sqlite3_int64 at)
{
    struct vfs_file *file = (struct vfs_file *)base;
    int result = enter(file->device, file->process, CALL_READ, file->name, SQLITE_IOERR_READ);
    if (result != SQLITE_OK)
        return result;
    uint64_t size = file->inode->now.size, offset = (uint64_t)at;
    size_t there = offset >= size ? 0 : (size_t)(size - offset);
    if (there > (size_t)length)
        there = (size_t)length;
    disk_read(file->inode, offset > size ? size : offset, to, there);
    if (there == (size_t)length)
        return SQLITE_OK;
    memset((char *)to + there, 0, (size_t)length - there);
    return SQLITE_IOERR_SHORT_READ;
}

static bool is_full(struct device *device, const struct vfs_file *file, uint64_t end)
{
    uint64_t more = end > file->inode->now.size ? end - file->inode->now.size : 0;
    if (device->capacity == 0 || more == 0 || disk_used(&device->disk) + more <= device->capacity)
        return false;
    device->full++;
    return true;
}

static bool is_wal(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, "-wal") == 0;
}

static int file_write(sqlite3_file *base, const void *from, int length, sqlite3_int64 at)
{
    struct vfs_file *file = (struct vfs_file *)base;
    struct device *device = file->device;
    int result = enter(device, file->process, CALL_WRITE, file->name, SQLITE_IOERR_WRITE);
    if (result != SQLITE_OK)
        return result;
    uint64_t end = (uint64_t)at + (uint64_t)length;
    if (is_full(device, file, end))
        return deny(device, file->process, SQLITE_FULL);
    disk_write(&device->disk, file->inode, (uint64_t)at, from, (size_t)length);
    if (strchr(file->name, '-')) /* not the database itself, into which others' frames go as well */
        device->logged[file->process] += (uint64_t)length;
    if (is_wal(file->name))
        device->last_wal_end = end;
    return leave(device, SQLITE_IOERR_WRITE);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct vfs_file *file = (struct vfs_file *)base;
    int result =
        enter(file->device, file->process, CALL_TRUNCATE, file->name, SQLITE_IOERR_TRUNCATE);
    if (result != SQLITE_OK)
        return result;
    disk_truncate(&file->device->disk, file->inode, (uint64_t)size);
    return leave(file->device, SQLITE_IOERR_TRUNCATE);
}

static int file_sync(sqlite3_file *base, int flags)
{
    struct vfs_file *file = (struct vfs_file *)base;
    (void)flags;
    int result = enter(file->device, file->process, CALL_SYNC, file->name, SQLITE_IOERR_FSYNC);
    if (result != SQLITE_OK)
        return result;
    disk_sync(&file->device->disk, file->inode);
    return leave(file->device, SQLITE_IOERR_FSYNC);
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size)
{
    struct vfs_file *file = (struct vfs_file *)base;
    *size = (sqlite3_int64)file->inode->now.size;
    return lives(file) ? SQLITE_OK : SQLITE_IOERR_FSTAT;
}

static int file_control(sqlite3_file *base, int operation, void *argument)
{
    struct vfs_file *file = (struct vfs_file *)base;
    if (operation != SQLITE_FCNTL_PERSIST_WAL)
        return SQLITE_NOTFOUND;
    int *value = argument;
    if (*value >= 0)
        file->persist_wal = *value != 0;
    else
        *value = file->persist_wal;
    return SQLITE_OK;
}

static int file_sector(sqlite3_file *base)
{
    return (int)((struct vfs_file *)base)->device->disk.sector;
}

static int file_characteristics(sqlite3_file *base)
{
    return ((struct vfs_file *)base)->device->characteristics;
}

static const sqlite3_io_methods with_shm = {
    2,
    file_close,
    file_read,
    file_write,
    file_truncate,
    file_sync,
    file_size,
    file_lock,
    file_unlock,
    file_check_reserved,
    file_control,
    file_sector,
    file_characteristics,
    shm_map,
    shm_lock,
    shm_barrier,
    shm_unmap,
    NULL,
    NULL,
};

static const sqlite3_io_methods without_shm = {
    1,
    file_close,
    file_read,
    file_write,
    file_truncate,
    file_sync,
    file_size,
    file_lock,
    file_unlock,
    file_check_reserved,
    file_control,
    file_sector,
    file_characteristics,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
};

/* ---- The file system ------------------------------------------------------------------------- */

static enum process process_of(const sqlite3_vfs *vfs)
{
    return *(const enum process *)vfs->pAppData;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *out)
{
    struct vfs_file *file = (struct vfs_file *)base;
    struct device *device = current;
    memset(file, 0, sizeof *file);
    int result = enter(device, process_of(vfs), CALL_OPEN, name ? name : "", SQLITE_CANTOPEN);
    if (result != SQLITE_OK)
        return result;
    if (name && strlen(name) >= sizeof file->name)
        return SQLITE_CANTOPEN;
    struct inode *inode = name ? disk_find(&device->disk, name) : NULL;
    if (!inode && name && !(flags & SQLITE_OPEN_CREATE))
        return SQLITE_CANTOPEN;
    if (!inode)
        inode = name ? disk_create(&device->disk, name) : disk_create_anonymous(&device->disk);
    *file = (struct vfs_file){.base.pMethods = device->has_shared_memory ? &with_shm : &without_shm,
                              .device = device,
                              .process = process_of(vfs),
                              .inode = inode,
                              .delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0,
                              .next = device->files};
    if (name)
        strcpy(file->name, name);
    inode->handles++;
    inode->detach = detach;
    device->files = file;
    if (out)
        *out = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    struct device *device = current;
    int result = enter(device, process_of(vfs), CALL_DELETE, name, SQLITE_IOERR_DELETE);
    if (result != SQLITE_OK)
        return result;
    if (!disk_find(&device->disk, name))
        return SQLITE_IOERR_DELETE_NOENT;
    disk_unlink(&device->disk, name);
    if (sync_directory)
        disk_sync_directory(&device->disk);
    return leave(device, SQLITE_IOERR_DELETE);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *answer)
{
    (void)flags;
    const struct inode *inode = disk_find(&current->disk, name);
    *answer = inode && inode->now.size > 0; /* an empty file is none, as on Unix */
    return current->powered && current->is_alive[process_of(vfs)] ? SQLITE_OK : SQLITE_IOERR_ACCESS;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int size, char *to)
{
    (void)vfs;
    sqlite3_snprintf(size, to, "%s", name);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int size, char *to)
{
    (void)vfs;
    for (int i = 0; i < size; i++)
        to[i] = (char)sim_mix(&current->dice);
    return size;
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    current->now_us += (uint64_t)microseconds;
    return microseconds;
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *julian_ms)
{
    (void)vfs;
    *julian_ms = device_wall_ms(current) + 210866760000000; /* 1970 in Julian days, in ms */
    return SQLITE_OK;
}

static int vfs_time_in_days(sqlite3_vfs *vfs, double *days)
{
    sqlite3_int64 julian_ms;
    int result = vfs_time(vfs, &julian_ms);
    *days = (double)julian_ms / 86400000.0;
    return result;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the type is SQLite's */
static int vfs_last_error(sqlite3_vfs *vfs, int size, char *to)
{
    (void)vfs, (void)size, (void)to;
    return 0;
}

/* ---- The device ------------------------------------------------------------------------------ */

static enum process processes[PROCESSES] = {PROCESS_APP, PROCESS_FORWARDER};
static sqlite3_vfs names[PROCESSES];

const char *device_vfs_name(enum process process)
{
    return process == PROCESS_APP ? "sim-app" : "sim-forwarder";
}

void device_register(void)
{
    for (int i = 0; i < PROCESSES; i++) {
        names[i] = (sqlite3_vfs){.iVersion = 2,
                                 .szOsFile = sizeof(struct vfs_file),
                                 .mxPathname = DISK_NAME_LENGTH - 1,
                                 .zName = device_vfs_name(processes[i]),
                                 .pAppData = &processes[i],
                                 .xOpen = vfs_open,
                                 .xDelete = vfs_delete,
                                 .xAccess = vfs_access,
                                 .xFullPathname = vfs_full_path,
                                 .xRandomness = vfs_randomness,
                                 .xSleep = vfs_sleep,
                                 .xCurrentTime = vfs_time_in_days,
                                 .xGetLastError = vfs_last_error,
                                 .xCurrentTimeInt64 = vfs_time};
        if (sqlite3_vfs_register(&names[i], i == PROCESS_APP) != SQLITE_OK)
            abort();
    }
}

void device_init(struct device *device)
{
    memset(device, 0, sizeof *device);
    disk_init(&device->disk);
    device->powered = true;
    for (int i = 0; i < PROCESSES; i++)
        device->is_alive[i] = true;
    device->has_shared_memory = true;
    device->characteristics = SQLITE_IOCAP_POWERSAFE_OVERWRITE;
    device->dice = 1;
    current = device;
    sqlite3_randomness(0, NULL); /* begins SQLite's own stream anew, from ours */
}

void device_free(struct device *device)
{
    assert(!device->files);
    disk_free(&device->disk);
    if (current == device)
        current = NULL;
}

void device_cut_power(struct device *device)
{
    device->powered = false;
}

void device_kill(struct device *device, enum process process)
{
    device->is_alive[process] = false;
    for (struct vfs_file *file = device->files; file; file = file->next) {
        if (file->process != process)
            continue;
        set_level(file, SQLITE_LOCK_NONE);
        shm_release(file, ~0u);
    }
}

void device_revive(struct device *device, enum process process)
{
    for (const struct vfs_file *file = device->files; file; file = file->next)
        assert(file->process != process);
    device->is_alive[process] = true;
}

void device_restart(struct device *device, struct choices *choices, enum damage damage)
{
    assert(!device->files && !device->powered);
    disk_crash(&device->disk, choices, damage);
    device->powered = true;
    device->cuts_after = false;
    for (int i = 0; i < PROCESSES; i++)
        device->is_alive[i] = true;
}

unsigned device_locks(const struct device *device, enum process process, bool in_wal)
{
    unsigned count = 0;
    for (const struct vfs_file *file = device->files; file; file = file->next) {
        if (file->process != process)
            continue;
        count += file->level > (in_wal ? SQLITE_LOCK_SHARED : SQLITE_LOCK_NONE);
        count += file->shm_shared != 0 || file->shm_exclusive != 0;
    }
    return count;
}

unsigned device_open_files(const struct device *device)
{
    unsigned count = 0;
    for (const struct vfs_file *file = device->files; file; file = file->next)
        count++;
    return count;
}

int64_t device_wall_ms(const struct device *device)
{
    return -WALL_1970_MS + (int64_t)(device->now_us / 1000) + device->wall_offset_ms;
}
