/* SPDX-License-Identifier: MIT
 *
 * flash_space.c - writes records at the end of the log, and makes room there by emptying sectors.
 *
 * Emptying copies what counts, says MOVED, and erases. A cut before MOVED leaves the sector as it
 * was and copies that do not count; a cut after it leaves a sector that does not count. Neither
 * costs a free sector, so the next attempt has as much room as this one had.
 */
#include "flash_state.h"

#include <string.h>

/* ---- The head -------------------------------------------------------------------------------- */

static uint32_t moved_size(const outbox_flash_log *log)
{
    return outbox_flash_round(log, FLASH_HEADER_SIZE);
}

/* Bytes that are left in the head, a MOVED record not counted. */
static uint32_t left(const outbox_flash_log *log)
{
    const uint32_t end = (log->head + 1) * log->driver->sector_size - moved_size(log);
    return log->head == FLASH_NO_SECTOR || log->head_at > end ? 0 : end - log->head_at;
}

static bool has_room(const outbox_flash_log *log, const struct flash_record *record)
{
    const uint32_t extra = record->page == FLASH_MOVED ? moved_size(log) : 0;
    return log->head != FLASH_NO_SECTOR && outbox_flash_size(log, record) <= left(log) + extra;
}

/* ---- Writing a record ------------------------------------------------------------------------ */

static void build(outbox_flash_log *log, struct flash_item *item)
{
    uint8_t *body = log->buffer + FLASH_HEADER_SIZE;
    const uint32_t page_size = log->config.page_size;
    uint32_t size = outbox_flash_body_size(&item->record, page_size);
    memset(body, 0xff, outbox_flash_size(log, &item->record) - FLASH_HEADER_SIZE);
    if (item->page)
        (void)outbox_flash_pack(body, item->page, page_size, item->record.bits);
    else if (item->bytes)
        memcpy(body, item->bytes, size);
    else if (item->body_from !=
             0) /* where it cannot be read the sum will not fit: damaged, as it is */
        (void)log->driver->read(log->driver->context, item->body_from, body, size);
    if (item->page || item->bytes)
        item->record.body_sum = outbox_flash_sum(0, body, size);
    outbox_flash_record_write(log->buffer, &item->record,
                              (struct flash_place){log->head_at, log->head_opening});
}

static void give_up_head(outbox_flash_log *log, struct flash_item *item)
{
    const uint32_t sector = log->head;
    item->was_tried = true;
    log->sectors[sector].marks |= FLASH_FAILING;
    log->needs_care = true;
    log->head = FLASH_NO_SECTOR;
    outbox_flash_trouble_at(log, OUTBOX_FLASH_PROGRAM_FAILED, sector);
}

/* Writes it into the head, which has room. False: the head is given up. */
static bool put(outbox_flash_log *log, struct flash_item *item, uint32_t *at)
{
    const uint32_t size = outbox_flash_size(log, &item->record);
    build(log, item);
    if (!outbox_flash_program(log, log->head_at, log->buffer, size)) {
        give_up_head(log, item);
        return false;
    }
    *at = log->head_at;
    log->head_at += size;
    if (item->record.page != FLASH_MOVED)
        outbox_flash_count_in(log, *at, &item->record);
    return true;
}

/* What is moved may take the reserve. Each attempt that fails costs a sector, so this ends. */
static outbox_flash_result put_copy(outbox_flash_log *log, struct flash_item *item, bool worn,
                                    uint32_t *at)
{
    for (;;) {
        if (!has_room(log, &item->record)) {
            outbox_flash_result result = outbox_flash_open_next(log, worn);
            if (result != OUTBOX_FLASH_OK)
                return result;
        }
        if (put(log, item, at))
            return OUTBOX_FLASH_OK;
    }
}

/* ---- Commit records -------------------------------------------------------------------------- */

/* Body: pages of the database, then the retired sectors, 16 bits each. */
static struct flash_item make_commit(const outbox_flash_log *log, uint32_t serial, uint32_t pages,
                                     uint8_t body[FLASH_COMMIT_BODY_MAX])
{
    uint32_t size = 4;
    for (uint32_t i = 0; i < 4; i++)
        body[i] = (uint8_t)(pages >> (8 * i));
    for (uint32_t i = 0; i < log->driver->sector_count && size < FLASH_COMMIT_BODY_MAX; i++)
        if (log->sectors[i].state == FLASH_RETIRED) {
            body[size++] = (uint8_t)i;
            body[size++] = (uint8_t)(i >> 8);
        }
    return (struct flash_item){.record = {FLASH_COMMIT, serial, size, 0}, .bytes = body};
}

void outbox_flash_commit_read(outbox_flash_log *log, const uint8_t *body, uint32_t size)
{
    log->pages = 0;
    for (uint32_t i = 0; i < 4 && i < size; i++)
        log->pages |= (uint32_t)body[i] << (8 * i);
    for (uint32_t at = 4; at + 2 <= size; at += 2) {
        const uint32_t sector = (uint32_t)body[at] | (uint32_t)body[at + 1] << 8;
        if (sector < log->driver->sector_count && log->sectors[sector].state != FLASH_RETIRED)
            outbox_flash_retire(log, sector);
    }
}

/* ---- Emptying a sector ----------------------------------------------------------------------- */

/* Where the log remembers this record, or NULL: it does not count. */
static uint32_t *slot_of(outbox_flash_log *log, const struct flash_record *record, uint32_t at)
{
    if (record->page == FLASH_COMMIT)
        return log->commit_at == at ? &log->commit_at : NULL;
    if (record->page > log->config.pages)
        return NULL;
    if (log->map[record->page - 1] == at)
        return &log->map[record->page - 1];
    for (uint32_t i = 0; i < log->undo_count; i++)
        if (log->undo[i].page == record->page && log->undo[i].before == at)
            return &log->undo[i].before;
    return NULL;
}

static outbox_flash_result move_one(outbox_flash_log *log, struct flash_item *item, uint32_t *slot,
                                    bool worn)
{
    uint32_t to;
    outbox_flash_result result = put_copy(log, item, worn, &to);
    if (result == OUTBOX_FLASH_OK) {
        *slot = to;
        log->stats.moved++;
    }
    return result;
}

static outbox_flash_result move_live(outbox_flash_log *log, uint32_t sector, bool worn)
{
    struct flash_walk walk;
    outbox_flash_result result = OUTBOX_FLASH_OK;
    struct flash_sector *it = &log->sectors[sector];
    if (!outbox_flash_walk_begin(log, sector, &walk))
        return OUTBOX_FLASH_OK; /* unreadable: see rescue() */
    while (result == OUTBOX_FLASH_OK && outbox_flash_walk_next(&walk)) {
        uint32_t *slot = slot_of(log, &walk.record, walk.at);
        struct flash_item item = {.record = walk.record, .body_from = walk.at + FLASH_HEADER_SIZE};
        if (!slot)
            continue;
        result = move_one(log, &item, slot, worn);
        if (result == OUTBOX_FLASH_OK) /* the sector stays in use until MOVED is written */
            it->live = (uint16_t)(it->live - outbox_flash_size(log, &walk.record) / 4);
    }
    return result;
}

static bool lies_in(const outbox_flash_log *log, uint32_t at, uint32_t sector)
{
    return at != 0 && outbox_flash_sector_of(log, at) == sector;
}

/* Pages whose record cannot be found any more, as its header is damaged, get one that is known to
 * be damaged, so that no older version takes their place. */
static outbox_flash_result rescue(outbox_flash_log *log, uint32_t sector)
{
    outbox_flash_result result = OUTBOX_FLASH_OK;
    for (uint32_t page = 1; page <= log->config.pages && result == OUTBOX_FLASH_OK; page++) {
        struct flash_item item = {.record = {page, log->committed, 0, 1}};
        if (!lies_in(log, log->map[page - 1], sector))
            continue;
        outbox_flash_trouble_at(log, OUTBOX_FLASH_PAGE_DAMAGED, sector);
        result = move_one(log, &item, &log->map[page - 1], false);
    }
    for (uint32_t i = 0; i < log->undo_count && result == OUTBOX_FLASH_OK; i++) {
        struct flash_item item = {.record = {log->undo[i].page, log->committed, 0, 1}};
        if (lies_in(log, log->undo[i].before, sector))
            result = move_one(log, &item, &log->undo[i].before, false);
    }
    if (result == OUTBOX_FLASH_OK && lies_in(log, log->commit_at, sector)) {
        uint8_t body[FLASH_COMMIT_BODY_MAX];
        struct flash_item item = make_commit(log, log->committed, log->pages_before, body);
        result = move_one(log, &item, &log->commit_at, false);
    }
    return result;
}

/* `worn`: what is moved lies still, so it goes where most was erased. */
static outbox_flash_result collect(outbox_flash_log *log, uint32_t sector, bool worn)
{
    struct flash_sector *it = &log->sectors[sector];
    struct flash_item moved = {.record = {FLASH_MOVED, 0, sector, 0}};
    const uint32_t before = log->stats.moved;
    uint32_t ignored;
    if (log->head == sector)
        log->head = FLASH_NO_SECTOR;
    outbox_flash_result result = move_live(log, sector, worn);
    if (result == OUTBOX_FLASH_OK)
        result = rescue(log, sector);
    if (result == OUTBOX_FLASH_OK && log->stats.moved != before &&
        outbox_flash_opening_of(log, sector, &moved.record.serial))
        result = put_copy(log, &moved, worn, &ignored);
    if (result != OUTBOX_FLASH_OK)
        return result;
    log->stats.collected++;
    if (it->marks & FLASH_FAILING)
        outbox_flash_retire(log, sector);
    else
        (void)outbox_flash_clear(log, sector); /* or it is retired, and reported */
    return log->is_broken ? OUTBOX_FLASH_FAILED : OUTBOX_FLASH_OK;
}

/* ---- Room at the end ------------------------------------------------------------------------- */

/* Free sectors beyond the reserve are taken first, then the cheapest sectors are emptied. */
static outbox_flash_result make_room(outbox_flash_log *log, const struct flash_record *record)
{
    const uint32_t size = outbox_flash_size(log, record);
    outbox_flash_result result = OUTBOX_FLASH_OK;
    uint32_t sector, turns = 2 * log->driver->sector_count;
    if (!has_room(log, record) && outbox_flash_free_count(log) >= FLASH_RESERVE &&
        (sector = outbox_flash_coldest(log)) != FLASH_NO_SECTOR)
        result = collect(log, sector, true);
    while (result == OUTBOX_FLASH_OK && !has_room(log, record)) {
        if (turns-- == 0)
            return OUTBOX_FLASH_FULL;
        if (outbox_flash_free_count(log) > FLASH_RESERVE)
            result = outbox_flash_open_next(log, false);
        else if ((sector = outbox_flash_cheapest(log, log->capacity - size)) == FLASH_NO_SECTOR)
            return OUTBOX_FLASH_FULL;
        else
            result = collect(log, sector, false);
    }
    /* Sectors have failed: what is left of the head takes what brings the reserve back. */
    while (result == OUTBOX_FLASH_OK && outbox_flash_free_count(log) < FLASH_RESERVE &&
           has_room(log, record) &&
           (sector = outbox_flash_cheapest(log, left(log) - size)) != FLASH_NO_SECTOR)
        result = collect(log, sector, false);
    return result;
}

outbox_flash_result outbox_flash_append(outbox_flash_log *log, struct flash_item *item,
                                        uint32_t *at)
{
    for (;;) {
        outbox_flash_result result = make_room(log, &item->record);
        if (result != OUTBOX_FLASH_OK)
            return item->was_tried ? OUTBOX_FLASH_FAILED : result;
        if (put(log, item, at))
            return OUTBOX_FLASH_OK;
    }
}

outbox_flash_result outbox_flash_append_commit(outbox_flash_log *log, uint32_t serial,
                                               uint32_t pages, uint32_t *at)
{
    uint8_t body[FLASH_COMMIT_BODY_MAX];
    struct flash_item item = make_commit(log, serial, pages, body);
    outbox_flash_result result = outbox_flash_append(log, &item, at);
    if (result != OUTBOX_FLASH_OK && item.was_tried)
        log->is_broken = true; /* it may count all the same: the next mount tells */
    return result;
}

/* ---- Care ------------------------------------------------------------------------------------ */

static void clear_dead(outbox_flash_log *log)
{
    for (uint32_t i = 0; i < log->driver->sector_count; i++) {
        struct flash_sector *it = &log->sectors[i];
        if (it->marks == 0 || it->live != 0)
            continue;
        if (it->marks & FLASH_FAILING)
            outbox_flash_retire(log, i);
        else
            (void)outbox_flash_clear(log, i);
    }
}

/* Moving may meet another sector that fails, hence the rounds. */
outbox_flash_result outbox_flash_care(outbox_flash_log *log)
{
    for (int round = 0; round < 8 && log->needs_care; round++) {
        clear_dead(log);
        log->needs_care = false;
        for (uint32_t i = 0; i < log->driver->sector_count; i++)
            if (log->sectors[i].marks != 0) {
                outbox_flash_result result = collect(log, i, false);
                log->needs_care = true; /* look again */
                if (result != OUTBOX_FLASH_OK)
                    return result;
            }
    }
    if (log->needs_care || log->is_broken)
        return OUTBOX_FLASH_FAILED;
    return OUTBOX_FLASH_OK;
}
