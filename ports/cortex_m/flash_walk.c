/* SPDX-License-Identifier: MIT
 *
 * flash_walk.c - finds the records of a sector, and keeps count of those that count.
 *
 * What a cut has left in the middle of a program is no record: its sum does not fit. Behind it
 * there may still be records if it was no cut that damaged it, so the walk goes on, unit by unit.
 * The sums cover the place, so a payload that looks like a record is not taken for one.
 */
#include "flash_state.h"

static bool read_header(const outbox_flash_log *log, uint32_t at, uint8_t header[FLASH_HEADER_SIZE])
{
    return log->driver->read(log->driver->context, at, header, FLASH_HEADER_SIZE) == 0;
}

bool outbox_flash_record_at(const outbox_flash_log *log, uint32_t at, struct flash_record *record)
{
    uint8_t header[FLASH_HEADER_SIZE];
    struct flash_place place = {.offset = at};
    return outbox_flash_opening_of(log, outbox_flash_sector_of(log, at), &place.opening) &&
           read_header(log, at, header) && outbox_flash_record_read(header, record, place);
}

bool outbox_flash_walk_begin(const outbox_flash_log *log, uint32_t sector, struct flash_walk *walk)
{
    *walk = (struct flash_walk){.log = log, .base = sector * log->driver->sector_size};
    walk->next = walk->base + log->first;
    return outbox_flash_opening_of(log, sector, &walk->opening);
}

/* True: nothing more comes. After a cut the header may be blank and what follows not. */
static bool is_end(struct flash_walk *walk, const uint8_t *header)
{
    const outbox_flash_log *log = walk->log;
    const uint32_t end = walk->base + log->driver->sector_size;
    uint8_t piece[64];
    if (!outbox_flash_is_blank(header, FLASH_HEADER_SIZE))
        return false;
    for (uint32_t at = walk->next; at < end; at += sizeof piece) {
        uint32_t length = end - at < sizeof piece ? end - at : (uint32_t)sizeof piece;
        if (log->driver->read(log->driver->context, at, piece, length) != 0 ||
            !outbox_flash_is_blank(piece, length))
            return false;
    }
    return true;
}

bool outbox_flash_walk_next(struct flash_walk *walk)
{
    const outbox_flash_log *log = walk->log;
    const uint32_t end = walk->base + log->driver->sector_size;
    uint8_t header[FLASH_HEADER_SIZE];
    while (walk->next + FLASH_HEADER_SIZE <= end) {
        bool was_read = read_header(log, walk->next, header);
        struct flash_place place = {walk->next, walk->opening};
        if (was_read && outbox_flash_record_read(header, &walk->record, place)) {
            uint32_t size = outbox_flash_size(log, &walk->record);
            if (size <= end - walk->next) {
                walk->at = walk->next;
                walk->next += size;
                return true;
            }
        } else if (was_read && !walk->has_garbage && is_end(walk, header)) {
            break;
        }
        walk->has_garbage = true;
        walk->next += outbox_flash_round(log, 1);
    }
    return false;
}

void outbox_flash_count_in(outbox_flash_log *log, uint32_t at, const struct flash_record *record)
{
    struct flash_sector *it = &log->sectors[outbox_flash_sector_of(log, at)];
    it->live = (uint16_t)(it->live + outbox_flash_size(log, record) / 4);
    if (record->serial > log->committed)
        it->marks |= FLASH_OPEN;
}

void outbox_flash_count_out(outbox_flash_log *log, uint32_t at)
{
    const uint32_t sector = outbox_flash_sector_of(log, at);
    struct flash_sector *it = &log->sectors[sector];
    struct flash_record record;
    if (at == 0 || !outbox_flash_record_at(log, at, &record))
        return; /* damaged meanwhile: what is counted too much goes when the sector is emptied */
    const uint32_t size = outbox_flash_size(log, &record) / 4;
    it->live = (uint16_t)(it->live > size ? it->live - size : 0);
    if (it->live == 0 && it->state == FLASH_USED && sector != log->head)
        it->state = FLASH_DEAD;
}
