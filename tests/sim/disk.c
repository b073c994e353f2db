/* SPDX-License-Identifier: MIT
 *
 * disk.c - files, what waits to become durable, and what a power cut leaves; see disk.h.
 */
#include "disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- Bytes ----------------------------------------------------------------------------------- */

static void resize(struct bytes *bytes, size_t size)
{
    if (size > bytes->capacity) {
        size_t capacity = bytes->capacity ? bytes->capacity : 4096;
        while (capacity < size)
            capacity *= 2;
        bytes->at = realloc(bytes->at, capacity);
        if (!bytes->at)
            abort();
        bytes->capacity = capacity;
    }
    if (size > bytes->size)
        memset(bytes->at + bytes->size, 0, size - bytes->size);
    bytes->size = size;
}

static void put(struct bytes *bytes, uint64_t offset, const uint8_t *from, size_t length)
{
    if (length == 0)
        return;
    if (offset + length > bytes->size)
        resize(bytes, (size_t)offset + length);
    memcpy(bytes->at + offset, from, length);
}

static void assign(struct bytes *to, const struct bytes *from)
{
    resize(to, from->size);
    if (from->size > 0)
        memcpy(to->at, from->at, from->size);
}

/* ---- Names and files ------------------------------------------------------------------------- */

void disk_init(struct disk *disk)
{
    memset(disk, 0, sizeof *disk);
    disk->sector = 512;
    disk->powersafe = true;
}

static void free_inode(struct inode *inode)
{
    if (inode->detach)
        inode->detach(inode->attachment);
    free(inode->now.at);
    free(inode->durable.at);
    free(inode);
}

void disk_free(struct disk *disk)
{
    for (size_t i = 0; i < disk->pending_count; i++)
        free(disk->pending[i].bytes);
    free(disk->pending);
    while (disk->inodes) {
        struct inode *inode = disk->inodes;
        disk->inodes = inode->next;
        free_inode(inode);
    }
    memset(disk, 0, sizeof *disk);
}

static struct disk_name *name_of(struct disk *disk, const char *text)
{
    for (int i = 0; i < DISK_NAMES; i++)
        if (strcmp(disk->names[i].text, text) == 0)
            return &disk->names[i];
    return NULL;
}

struct inode *disk_find(struct disk *disk, const char *name)
{
    struct disk_name *entry = name_of(disk, name);
    return entry ? entry->now : NULL;
}

static void add_pending(struct disk *disk, struct pending operation)
{
    if (disk->pending_count == disk->pending_capacity) {
        disk->pending_capacity = disk->pending_capacity ? 2 * disk->pending_capacity : 64;
        disk->pending = realloc(disk->pending, disk->pending_capacity * sizeof *disk->pending);
        if (!disk->pending)
            abort();
    }
    operation.number = ++disk->number;
    disk->pending[disk->pending_count++] = operation;
}

struct inode *disk_create_anonymous(struct disk *disk)
{
    struct inode *inode = calloc(1, sizeof *inode);
    if (!inode)
        abort();
    inode->next = disk->inodes;
    disk->inodes = inode;
    return inode;
}

struct inode *disk_create(struct disk *disk, const char *name)
{
    struct disk_name *entry = name_of(disk, name);
    assert(!entry || !entry->now);
    if (!entry) {
        entry = name_of(disk, "");
        assert(entry && strlen(name) < sizeof entry->text);
        strcpy(entry->text, name);
    }
    entry->now = disk_create_anonymous(disk);
    add_pending(disk, (struct pending){.operation = DISK_LINK, .inode = entry->now, .name = entry});
    return entry->now;
}

static bool is_named(const struct disk *disk, const struct inode *inode)
{
    for (int i = 0; i < DISK_NAMES; i++)
        if (disk->names[i].now == inode || disk->names[i].durable == inode)
            return true;
    for (size_t i = 0; i < disk->pending_count; i++)
        if (disk->pending[i].inode == inode && disk->pending[i].operation == DISK_LINK)
            return true;
    return false;
}

static void forget_pending(struct disk *disk, const struct inode *inode)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (disk->pending[i].inode == inode)
            free(disk->pending[i].bytes);
        else
            disk->pending[kept++] = disk->pending[i];
    }
    disk->pending_count = kept;
}

/* Frees what no name, no handle and no power cut can bring back. */
static void collect(struct disk *disk)
{
    struct inode **link = &disk->inodes;
    while (*link) {
        struct inode *inode = *link;
        if (inode->handles > 0 || is_named(disk, inode)) {
            link = &inode->next;
            continue;
        }
        forget_pending(disk, inode);
        *link = inode->next;
        free_inode(inode);
    }
    for (int i = 0; i < DISK_NAMES; i++) {
        struct disk_name *name = &disk->names[i];
        bool waits = false;
        for (size_t p = 0; p < disk->pending_count; p++)
            waits = waits || disk->pending[p].name == name;
        if (!name->now && !name->durable && !waits)
            name->text[0] = '\0';
    }
}

void disk_release(struct disk *disk, struct inode *inode)
{
    assert(inode->handles > 0);
    inode->handles--;
    if (inode->handles == 0)
        collect(disk);
}

uint64_t disk_used(const struct disk *disk)
{
    uint64_t used = 0;
    for (int i = 0; i < DISK_NAMES; i++)
        if (disk->names[i].now)
            used += disk->names[i].now->now.size;
    return used;
}

/* ---- What programs do ------------------------------------------------------------------------ */

void disk_read(const struct inode *inode, uint64_t offset, void *to, size_t length)
{
    assert(offset + length <= inode->now.size);
    if (length > 0)
        memcpy(to, inode->now.at + offset, length);
}

void disk_write(struct disk *disk, struct inode *inode, uint64_t offset, const void *from,
                size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    if (!copy)
        abort();
    memcpy(copy, from, length);
    put(&inode->now, offset, copy, length);
    add_pending(disk, (struct pending){.operation = DISK_WRITE,
                                       .inode = inode,
                                       .offset = offset,
                                       .bytes = copy,
                                       .length = length});
    disk->bytes_written += length;
}

void disk_truncate(struct disk *disk, struct inode *inode, uint64_t size)
{
    resize(&inode->now, (size_t)size);
    add_pending(disk, (struct pending){.operation = DISK_TRUNCATE, .inode = inode, .offset = size});
}

void disk_unlink(struct disk *disk, const char *name)
{
    struct disk_name *entry = name_of(disk, name);
    assert(entry && entry->now);
    add_pending(disk,
                (struct pending){.operation = DISK_UNLINK, .inode = entry->now, .name = entry});
    entry->now = NULL;
}

static void apply(const struct pending *operation)
{
    switch (operation->operation) {
    case DISK_WRITE:
        put(&operation->inode->durable, operation->offset, operation->bytes, operation->length);
        break;
    case DISK_TRUNCATE:
        resize(&operation->inode->durable, (size_t)operation->offset);
        break;
    case DISK_LINK:
        operation->name->durable = operation->inode;
        break;
    case DISK_UNLINK:
        if (operation->name->durable == operation->inode)
            operation->name->durable = NULL;
        break;
    }
}

static bool is_of_directory(const struct pending *operation)
{
    return operation->operation == DISK_LINK || operation->operation == DISK_UNLINK;
}

/* Makes durable what waits of one file, or (NULL) of the directory. */
static void flush(struct disk *disk, const struct inode *inode)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct pending *operation = &disk->pending[i];
        bool covered = inode ? operation->inode == inode && !is_of_directory(operation)
                             : is_of_directory(operation);
        if (covered) {
            apply(operation);
            free(operation->bytes);
        } else {
            disk->pending[kept++] = *operation;
        }
    }
    disk->pending_count = kept;
}

bool disk_waits(const struct disk *disk, const struct inode *inode, uint64_t number)
{
    for (size_t i = 0; i < disk->pending_count; i++)
        if (disk->pending[i].inode == inode && !is_of_directory(&disk->pending[i]) &&
            disk->pending[i].number <= number)
            return true;
    return false;
}

void disk_sync_directory(struct disk *disk)
{
    if (disk->syncs_lie)
        return;
    flush(disk, NULL);
    collect(disk);
}

void disk_sync(struct disk *disk, struct inode *inode)
{
    bool is_new = false;
    disk->syncs++;
    if (disk->syncs_lie)
        return;
    for (size_t i = 0; i < disk->pending_count; i++)
        if (disk->pending[i].operation == DISK_LINK && disk->pending[i].inode == inode)
            is_new = true;
    flush(disk, inode);
    if (is_new)
        disk_sync_directory(disk);
}

/* ---- The power cut --------------------------------------------------------------------------- */

static void fill_with_noise(struct bytes *bytes, uint64_t from, uint64_t to, uint64_t *dice)
{
    for (uint64_t i = from; i < to && i < bytes->size; i++)
        bytes->at[i] = (uint8_t)sim_mix(dice);
}

/* One write, sector by sector. `dice` decides, so that a story needs one answer for it. */
static void apply_in_pieces(const struct disk *disk, const struct pending *write, uint64_t *dice)
{
    uint64_t end = write->offset + write->length;
    struct bytes *durable = &write->inode->durable;
    for (uint64_t at = write->offset; at < end;) {
        uint64_t sector = at / disk->sector * disk->sector;
        uint64_t stop = sector + disk->sector < end ? sector + disk->sector : end;
        const uint8_t *from = write->bytes + (at - write->offset);
        switch (sim_mix(dice) >> 32 & (disk->powersafe ? 2 : 3)) {
        case 0:
        case 1:
            put(durable, at, from, (size_t)(stop - at));
            if (sim_mix(dice) >> 63 && !disk->powersafe)
                fill_with_noise(durable, sector, sector + disk->sector, dice);
            break;
        case 2: /* torn at a byte, which may be its first */
            put(durable, at, from, (size_t)(sim_mix(dice) % (stop - at + 1)));
            break;
        default:
            break;
        }
        at = stop;
    }
}

static void damage_one(struct disk *disk, struct choices *choices, enum damage damage,
                       const struct pending *operation)
{
    bool in_pieces = damage == DAMAGE_SECTORS && operation->operation == DISK_WRITE;
    uint32_t answer = sim_choose(choices, TAG_DAMAGE, in_pieces ? 3 : 2);
    if (answer == 0) {
        apply(operation);
    } else if (answer == 2) {
        uint64_t dice = sim_choose(choices, TAG_DAMAGE, 1u << 31);
        apply_in_pieces(disk, operation, &dice);
    }
}

void disk_crash(struct disk *disk, struct choices *choices, enum damage damage)
{
    size_t kept = damage == DAMAGE_NOTHING ? disk->pending_count : 0;
    if (damage == DAMAGE_SUFFIX)
        kept = disk->pending_count -
               sim_choose(choices, TAG_DAMAGE, (uint32_t)disk->pending_count + 1);
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (damage == DAMAGE_EACH || damage == DAMAGE_SECTORS)
            damage_one(disk, choices, damage, &disk->pending[i]);
        else if (i < kept)
            apply(&disk->pending[i]);
        free(disk->pending[i].bytes);
    }
    disk->pending_count = 0;
    for (int i = 0; i < DISK_NAMES; i++)
        disk->names[i].now = disk->names[i].durable;
    for (struct inode *inode = disk->inodes; inode; inode = inode->next) {
        assert(inode->handles == 0);
        assign(&inode->now, &inode->durable);
        if (inode->detach)
            inode->detach(inode->attachment);
        inode->attachment = NULL;
        inode->detach = NULL;
    }
    collect(disk);
}
