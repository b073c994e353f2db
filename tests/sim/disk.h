/* SPDX-License-Identifier: MIT
 *
 * disk.h - a disk that forgets: files as programs see them, files as a power cut leaves them, and
 * between the two every write that no sync has covered.
 *
 * A write, a truncation, a new name or a removed name changes at once what programs see and waits
 * in one list until a sync makes it durable. At a power cut each that still waits may be kept,
 * lost, or, for writes, be torn by sector. A file's first sync also makes its name durable, as
 * journaling file systems do; the removal of a name becomes durable with the directory only, so
 * until then a power cut may undo it.
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include "choose.h"

enum { DISK_NAMES = 24, DISK_NAME_LENGTH = 64 };

struct bytes {
    uint8_t *at;
    size_t size, capacity;
};

struct inode {
    struct bytes now, durable;
    unsigned handles; /* open files */
    void *attachment; /* the VFS's: locks and shared memory */
    void (*detach)(void *attachment);
    struct inode *next;
};

struct disk_name {
    char text[DISK_NAME_LENGTH]; /* empty: free */
    struct inode *now, *durable;
};

enum disk_operation { DISK_WRITE, DISK_TRUNCATE, DISK_LINK, DISK_UNLINK };

struct pending {
    enum disk_operation operation;
    struct inode *inode;
    struct disk_name *name;
    uint64_t number; /* of all that ever waited, from 1 */
    uint64_t offset; /* for a truncation: the new size */
    uint8_t *bytes;
    size_t length;
};

/* What a power cut does to what waits. */
enum damage {
    DAMAGE_NOTHING, /* all kept: only the processes died */
    DAMAGE_ALL,     /* all lost */
    DAMAGE_SUFFIX,  /* an ordered prefix is kept */
    DAMAGE_EACH,    /* each operation kept or lost */
    DAMAGE_SECTORS, /* each sector kept, lost, torn; without POWERSAFE_OVERWRITE: noise */
    DAMAGES
};

struct disk {
    struct disk_name names[DISK_NAMES];
    struct inode *inodes;
    struct pending *pending;
    size_t pending_count, pending_capacity;
    unsigned sector; /* bytes */
    bool powersafe;  /* a write changes no byte beside its own */
    bool syncs_lie;  /* teeth: a sync does nothing */
    uint64_t bytes_written, syncs;
    uint64_t number; /* of the last operation */
};

void disk_init(struct disk *disk);
void disk_free(struct disk *disk);

/* The file of that name, or NULL; makes it if told. */
struct inode *disk_find(struct disk *disk, const char *name);
struct inode *disk_create(struct disk *disk, const char *name);
struct inode *disk_create_anonymous(struct disk *disk);
void disk_release(struct disk *disk, struct inode *inode); /* one handle less */

void disk_read(const struct inode *inode, uint64_t offset, void *to, size_t length); /* in bounds */
void disk_write(struct disk *disk, struct inode *inode, uint64_t offset, const void *from,
                size_t length);
void disk_truncate(struct disk *disk, struct inode *inode, uint64_t size);
void disk_sync(struct disk *disk, struct inode *inode);
void disk_unlink(struct disk *disk, const char *name);
void disk_sync_directory(struct disk *disk);
/* Whether an operation on it up to that number waits for a sync. */
bool disk_waits(const struct disk *disk, const struct inode *inode, uint64_t number);
uint64_t disk_used(const struct disk *disk); /* bytes of all files as programs see them */

/* The power is cut and comes back. No file may be open. */
void disk_crash(struct disk *disk, struct choices *choices, enum damage damage);

#endif
