/* SPDX-License-Identifier: MIT
 *
 * flash_sector.c - programs and erases with every result looked at; opens, retires, chooses
 * sectors.
 *
 * A sector that was erased before a restart is erased once more before it is used: a cut during an
 * erase can leave cells that read as blank and do not stay so. Its erase count is in its birth,
 * which follows the erase; a cut between the two costs the count, not more.
 */
#include "flash_state.h"

#include <string.h>

uint32_t outbox_flash_round(const outbox_flash_log *log, uint32_t size)
{
    const uint32_t unit = log->driver->program_unit > 4 ? log->driver->program_unit : 4;
    return (size + unit - 1) / unit * unit;
}

uint32_t outbox_flash_size(const outbox_flash_log *log, const struct flash_record *record)
{
    const uint32_t body = outbox_flash_body_size(record, log->config.page_size);
    return outbox_flash_round(log, FLASH_HEADER_SIZE + body);
}

uint32_t outbox_flash_sector_of(const outbox_flash_log *log, uint32_t offset)
{
    return offset / log->driver->sector_size;
}

void outbox_flash_trouble_at(outbox_flash_log *log, outbox_flash_trouble trouble, uint32_t sector)
{
    if (trouble == OUTBOX_FLASH_HEADER_DAMAGED || trouble == OUTBOX_FLASH_PAGE_DAMAGED)
        log->stats.damaged++;
    if (log->config.report)
        log->config.report(log->config.report_context, trouble, sector);
}

/* ---- Program and erase ----------------------------------------------------------------------- */

/* `expected` NULL: blank. */
static bool reads_as(const outbox_flash_log *log, uint32_t offset, const uint8_t *expected,
                     uint32_t size)
{
    uint8_t piece[64];
    for (uint32_t at = 0; at < size; at += sizeof piece) {
        uint32_t length = size - at < sizeof piece ? size - at : (uint32_t)sizeof piece;
        if (log->driver->read(log->driver->context, offset + at, piece, length) != 0)
            return false;
        if (expected ? memcmp(piece, expected + at, length) != 0
                     : !outbox_flash_is_blank(piece, length))
            return false;
    }
    return true;
}

bool outbox_flash_program(outbox_flash_log *log, uint32_t offset, const void *data, uint32_t size)
{
    log->stats.programs++;
    log->stats.bytes_programmed += size;
    return log->driver->program(log->driver->context, offset, data, size) == 0 &&
           reads_as(log, offset, data, size);
}

void outbox_flash_retire(outbox_flash_log *log, uint32_t sector)
{
    struct flash_sector *it = &log->sectors[sector];
    it->state = FLASH_RETIRED;
    it->marks = 0;
    it->live = 0;
    log->retired++;
    if (log->head == sector)
        log->head = FLASH_NO_SECTOR;
    if (log->retired > FLASH_RETIRED_MAX)
        log->is_broken = true;
}

static bool program_birth(outbox_flash_log *log, uint32_t sector)
{
    uint8_t birth[FLASH_UNIT_MAX];
    const uint32_t size = outbox_flash_round(log, FLASH_BIRTH_SIZE);
    memset(birth, 0xff, sizeof birth);
    outbox_flash_birth_write(birth, log->config.page_size, log->sectors[sector].erases);
    return outbox_flash_program(log, sector * log->driver->sector_size, birth, size);
}

bool outbox_flash_clear(outbox_flash_log *log, uint32_t sector)
{
    struct flash_sector *it = &log->sectors[sector];
    const uint32_t size = log->driver->sector_size;
    if (log->head == sector)
        log->head = FLASH_NO_SECTOR;
    it->erases++;
    log->stats.erases++;
    if (log->driver->erase(log->driver->context, sector) == 0 &&
        reads_as(log, sector * size, NULL, size) && program_birth(log, sector)) {
        it->state = FLASH_READY;
        it->marks = 0;
        it->live = 0;
        return true;
    }
    outbox_flash_retire(log, sector);
    outbox_flash_trouble_at(log, OUTBOX_FLASH_ERASE_FAILED, sector);
    return false;
}

/* ---- Opening --------------------------------------------------------------------------------- */

static bool program_opening(outbox_flash_log *log, uint32_t sector)
{
    uint8_t opening[FLASH_UNIT_MAX];
    const uint32_t at =
        sector * log->driver->sector_size + outbox_flash_round(log, FLASH_BIRTH_SIZE);
    memset(opening, 0xff, sizeof opening);
    outbox_flash_opening_write(opening, log->serial);
    if (!outbox_flash_program(log, at, opening, outbox_flash_round(log, FLASH_OPENING_SIZE))) {
        outbox_flash_retire(log, sector);
        outbox_flash_trouble_at(log, OUTBOX_FLASH_PROGRAM_FAILED, sector);
        return false;
    }
    return true;
}

static bool is_free(const struct flash_sector *sector)
{
    return sector->state == FLASH_DEAD || sector->state == FLASH_READY;
}

static uint32_t choose_free(const outbox_flash_log *log, bool worn)
{
    uint32_t best = FLASH_NO_SECTOR;
    for (uint32_t i = 0; i < log->driver->sector_count; i++) {
        if (!is_free(&log->sectors[i]))
            continue;
        if (best == FLASH_NO_SECTOR || (worn ? log->sectors[i].erases > log->sectors[best].erases
                                             : log->sectors[i].erases < log->sectors[best].erases))
            best = i;
    }
    return best;
}

outbox_flash_result outbox_flash_open_next(outbox_flash_log *log, bool worn)
{
    uint32_t sector;
    log->head = FLASH_NO_SECTOR;
    while ((sector = choose_free(log, worn)) != FLASH_NO_SECTOR && !log->is_broken) {
        if (log->sectors[sector].state == FLASH_DEAD && !outbox_flash_clear(log, sector))
            continue;
        if (!program_opening(log, sector))
            continue;
        log->sectors[sector].state = FLASH_USED;
        log->head = sector;
        log->head_at = sector * log->driver->sector_size + log->first;
        log->head_opening = log->serial++;
        return OUTBOX_FLASH_OK;
    }
    return log->is_broken ? OUTBOX_FLASH_FAILED : OUTBOX_FLASH_FULL;
}

bool outbox_flash_opening_of(const outbox_flash_log *log, uint32_t sector, uint32_t *number)
{
    uint8_t opening[FLASH_OPENING_SIZE];
    const uint32_t at =
        sector * log->driver->sector_size + outbox_flash_round(log, FLASH_BIRTH_SIZE);
    return log->driver->read(log->driver->context, at, opening, sizeof opening) == 0 &&
           outbox_flash_opening_read(opening, number);
}

/* ---- Choosing -------------------------------------------------------------------------------- */

uint32_t outbox_flash_free_count(const outbox_flash_log *log)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < log->driver->sector_count; i++)
        count += is_free(&log->sectors[i]);
    return count;
}

/* Of those that are equally cheap the least worn. */
uint32_t outbox_flash_cheapest(const outbox_flash_log *log, uint32_t most)
{
    uint32_t best = FLASH_NO_SECTOR;
    for (uint32_t i = 0; i < log->driver->sector_count; i++) {
        const struct flash_sector *it = &log->sectors[i];
        if (it->state != FLASH_USED || i == log->head || it->live * 4u > most)
            continue;
        const struct flash_sector *other = best == FLASH_NO_SECTOR ? NULL : &log->sectors[best];
        if (!other || it->live < other->live ||
            (it->live == other->live && it->erases < other->erases))
            best = i;
    }
    return best;
}

uint32_t outbox_flash_coldest(const outbox_flash_log *log)
{
    uint32_t coldest = FLASH_NO_SECTOR, most = 0;
    for (uint32_t i = 0; i < log->driver->sector_count; i++) {
        const struct flash_sector *it = &log->sectors[i];
        if (it->state == FLASH_RETIRED)
            continue;
        if (it->erases > most)
            most = it->erases;
        if (it->state == FLASH_USED && i != log->head &&
            (coldest == FLASH_NO_SECTOR || it->erases < log->sectors[coldest].erases))
            coldest = i;
    }
    if (coldest != FLASH_NO_SECTOR && most - log->sectors[coldest].erases <= FLASH_SPREAD)
        coldest = FLASH_NO_SECTOR;
    return coldest;
}
