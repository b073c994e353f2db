/* SPDX-License-Identifier: MIT
 *
 * flash_mount.c - finds the last commit and the pages that belong to it, by reading the headers.
 *
 * It only reads. Two rounds over the sectors: the first finds the commit of the highest serial and
 * what was MOVED; the second the newest version of each page up to that commit. Whatever a cut has
 * left is marked, and cleared away before the next batch, so a crash during or after a mount
 * changes nothing.
 */
#include "flash_state.h"

#include <string.h>

/* ---- Form ------------------------------------------------------------------------------------ */

static bool is_power_of_two(uint32_t number)
{
    return number != 0 && (number & (number - 1)) == 0;
}

static bool is_sound(const outbox_flash_driver *driver, uint32_t page_size)
{
    return driver && driver->version == 1 && driver->read && driver->program && driver->erase &&
           driver->sync && driver->sector_size >= 1024 && driver->sector_size <= 262144 &&
           driver->sector_count >= FLASH_SECTORS_MIN && driver->sector_count <= 65534 &&
           driver->sector_count <= 0xf0000000u / driver->sector_size &&
           is_power_of_two(driver->program_unit) && driver->program_unit <= FLASH_UNIT_MAX &&
           driver->sector_size % driver->program_unit == 0 && driver->sector_size % 4 == 0 &&
           is_power_of_two(page_size) && page_size >= 512 && page_size <= 4096;
}

static void set_form(outbox_flash_log *log)
{
    log->first =
        outbox_flash_round(log, FLASH_BIRTH_SIZE) + outbox_flash_round(log, FLASH_OPENING_SIZE);
    log->capacity =
        log->driver->sector_size - log->first - outbox_flash_round(log, FLASH_HEADER_SIZE);
}

/* The sector that is cheapest to empty has to leave room for the largest record. */
uint32_t outbox_flash_capacity(const outbox_flash_driver *driver, uint32_t page_size)
{
    if (!is_sound(driver, page_size))
        return 0;
    outbox_flash_log log = {.driver = driver, .config.page_size = page_size};
    set_form(&log);
    const uint32_t records = log.capacity / outbox_flash_round(&log, FLASH_HEADER_SIZE + page_size);
    if (records < 2)
        return 0;
    const uint32_t sectors = driver->sector_count - FLASH_RESERVE - 2;
    const uint32_t three_quarters = sectors * records / 4 * 3, but_one = sectors * (records - 1);
    return three_quarters < but_one ? three_quarters : but_one;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

_Static_assert(sizeof(outbox_flash_log) + FLASH_HEADER_SIZE + FLASH_UNIT_MAX + 8 <=
                   OUTBOX_FLASH_MEMORY(0, 0, 0, 0),
               "the macro has to leave room for the log itself");
_Static_assert(sizeof(struct flash_sector) == 8 && sizeof(struct flash_undo) == 8,
               "the macro counts eight bytes for each");
_Static_assert((int)FLASH_COMMIT_BODY_MAX <= 512, "a commit record has to fit into the buffer");

static outbox_flash_log *lay_out(void *memory, const outbox_flash_config *config)
{
    outbox_flash_log *log = memory;
    const size_t sectors = config->driver->sector_count;
    memset(memory, 0,
           OUTBOX_FLASH_MEMORY((size_t)sectors, (size_t)config->page_size, (size_t)config->pages,
                               (size_t)config->batch_pages));
    log->config = *config;
    log->driver = config->driver;
    log->sectors = (struct flash_sector *)(void *)(log + 1);
    log->undo = (struct flash_undo *)(void *)(log->sectors + sectors);
    log->map = (uint32_t *)(void *)(log->undo + config->batch_pages);
    log->buffer = (uint8_t *)(log->map + config->pages);
    log->head = FLASH_NO_SECTOR;
    log->serial = 1;
    set_form(log);
    return log;
}

/* ---- Sectors --------------------------------------------------------------------------------- */

/* A sector that does not tell its count is given the mean of the others, once all were looked
 * at. */
#define UNKNOWN_ERASES UINT32_MAX

struct tally {
    uint32_t ours;   /* sectors with a birth */
    uint32_t blank;  /* sectors without one that hold nothing */
    uint64_t erases; /* of ours together */
    bool is_other_form;
};

static void look_at_birth(outbox_flash_log *log, uint32_t sector, struct tally *tally)
{
    uint8_t head[FLASH_UNIT_MAX];
    uint32_t page_size, erases, number;
    struct flash_sector *it = &log->sectors[sector];
    const uint32_t at = sector * log->driver->sector_size;
    it->erases = UNKNOWN_ERASES;
    if (log->driver->read(log->driver->context, at, head, sizeof head) != 0)
        return;
    if (!outbox_flash_birth_read(head, &page_size, &erases)) {
        tally->blank += outbox_flash_is_blank(head, sizeof head);
        return;
    }
    tally->is_other_form |= page_size != log->config.page_size;
    tally->ours++;
    tally->erases += erases;
    it->erases = erases;
    if (outbox_flash_opening_of(log, sector, &number)) {
        it->state = FLASH_USED;
        if (number >= log->serial)
            log->serial = number + 1;
    }
}

/* One sector without a birth may be the first one, in the middle of being made; more are not
 * ours. */
static outbox_flash_result look_at_sectors(outbox_flash_log *log)
{
    struct tally tally = {0};
    const uint32_t sectors = log->driver->sector_count;
    for (uint32_t i = 0; i < sectors; i++)
        look_at_birth(log, i, &tally);
    if (tally.is_other_form || (tally.ours == 0 && tally.blank + 1 < sectors))
        return OUTBOX_FLASH_FOREIGN;
    for (uint32_t i = 0; i < sectors; i++)
        if (log->sectors[i].erases == UNKNOWN_ERASES)
            log->sectors[i].erases = tally.ours == 0 ? 0 : (uint32_t)(tally.erases / tally.ours);
    return OUTBOX_FLASH_OK;
}

/* ---- First round ----------------------------------------------------------------------------- */

/* Marked so that it is erased before anything else is written. */
static void take_moved(outbox_flash_log *log, const struct flash_record *record)
{
    uint32_t number;
    const uint32_t sector = record->bits;
    if (sector < log->driver->sector_count && log->sectors[sector].state == FLASH_USED &&
        outbox_flash_opening_of(log, sector, &number) && number == record->serial) {
        log->sectors[sector].state = FLASH_DEAD;
        log->sectors[sector].marks |= FLASH_OPEN;
    }
}

/* A program that failed, or a cut in a long record, may leave a header that is whole before a body
 * that is not. */
static bool has_whole_body(const outbox_flash_log *log, uint32_t at,
                           const struct flash_record *record)
{
    uint8_t piece[64];
    uint32_t length, sum = 0, left = outbox_flash_body_size(record, log->config.page_size);
    for (at += FLASH_HEADER_SIZE; left > 0; at += length, left -= length) {
        length = left < sizeof piece ? left : (uint32_t)sizeof piece;
        if (log->driver->read(log->driver->context, at, piece, length) != 0)
            return false;
        sum = outbox_flash_sum(sum, piece, length);
    }
    return sum == record->body_sum;
}

static void find_commit(outbox_flash_log *log, uint32_t sector)
{
    struct flash_walk walk;
    if (!outbox_flash_walk_begin(log, sector, &walk))
        return;
    while (outbox_flash_walk_next(&walk)) {
        const struct flash_record *record = &walk.record;
        if (record->page == FLASH_MOVED) {
            take_moved(log, record);
            continue;
        }
        if (record->serial >= log->serial)
            log->serial = record->serial + 1;
        if (record->page == FLASH_COMMIT && record->serial > log->committed &&
            has_whole_body(log, walk.at, record)) {
            log->committed = record->serial;
            log->commit_at = walk.at;
        }
    }
}

/* Without a commit there is at most the first batch, in its middle. */
static bool may_be_new(const outbox_flash_log *log)
{
    const uint32_t record = outbox_flash_round(log, FLASH_HEADER_SIZE + log->config.page_size);
    const uint32_t in_one = log->capacity / record;
    uint32_t used = 0;
    for (uint32_t i = 0; i < log->driver->sector_count; i++)
        used += log->sectors[i].state == FLASH_USED;
    return used <= log->config.batch_pages / in_one + 3;
}

static outbox_flash_result read_commit(outbox_flash_log *log)
{
    struct flash_record record;
    uint8_t body[FLASH_COMMIT_BODY_MAX];
    if (log->committed == 0)
        return may_be_new(log) ? OUTBOX_FLASH_OK : OUTBOX_FLASH_DAMAGED;
    if (!outbox_flash_record_at(log, log->commit_at, &record) || record.bits > sizeof body ||
        log->driver->read(log->driver->context, log->commit_at + FLASH_HEADER_SIZE, body,
                          record.bits) != 0 ||
        outbox_flash_sum(0, body, record.bits) != record.body_sum)
        return OUTBOX_FLASH_DAMAGED;
    outbox_flash_commit_read(log, body, record.bits);
    log->pages_before = log->pages;
    log->commit_at = 0; /* the second round finds the one that counts */
    return log->pages > log->config.pages ? OUTBOX_FLASH_MISUSE : OUTBOX_FLASH_OK;
}

/* ---- Second round ---------------------------------------------------------------------------- */

/* Of two with the same serial the one that is whole counts: the other may be what a program that
 * failed has left, before the same was written elsewhere. Else the older one does: a copy counts
 * only when its origin is gone. */
static bool is_better(const outbox_flash_log *log, const struct flash_walk *walk, uint32_t other)
{
    struct flash_record record;
    uint32_t opening;
    if (other == 0 || !outbox_flash_record_at(log, other, &record) ||
        !outbox_flash_opening_of(log, outbox_flash_sector_of(log, other), &opening))
        return true;
    if (walk->record.serial != record.serial)
        return walk->record.serial > record.serial;
    const bool is_whole = has_whole_body(log, walk->at, &walk->record);
    if (is_whole != has_whole_body(log, other, &record))
        return is_whole;
    return walk->opening < opening;
}

static void take_record(outbox_flash_log *log, const struct flash_walk *walk)
{
    const struct flash_record *record = &walk->record;
    uint32_t *slot = NULL;
    if (record->page == FLASH_COMMIT && record->serial == log->committed)
        slot = &log->commit_at;
    else if (record->page != FLASH_COMMIT && record->page <= log->pages)
        slot = &log->map[record->page - 1];
    if (!slot || !is_better(log, walk, *slot))
        return;
    outbox_flash_count_out(log, *slot);
    *slot = walk->at;
    outbox_flash_count_in(log, walk->at, record);
    log->sectors[outbox_flash_sector_of(log, walk->at)].state = FLASH_USED;
}

/* A cut damages only what comes behind the last commit, in its sector or in one that was opened
 * later. */
static void find_pages(outbox_flash_log *log, uint32_t sector)
{
    struct flash_walk walk;
    struct flash_sector *it = &log->sectors[sector];
    if (!outbox_flash_walk_begin(log, sector, &walk))
        return;
    uint32_t last = walk.opening;
    while (outbox_flash_walk_next(&walk)) {
        if (walk.record.page == FLASH_MOVED)
            continue;
        if (walk.record.serial > last)
            last = walk.record.serial;
        if (walk.record.serial > log->committed)
            it->marks |= FLASH_OPEN;
        else
            take_record(log, &walk);
    }
    if (!walk.has_garbage)
        return;
    it->marks |= FLASH_OPEN;
    if (last < log->committed)
        it->marks |= FLASH_DOUBTFUL;
}

/* An erase that was cut may leave a sector's header and parts of its records. Nothing in that
 * sector counts any more, so only where something does the garbage is a damage. */
static void find_dead(outbox_flash_log *log)
{
    for (uint32_t i = 0; i < log->driver->sector_count; i++) {
        struct flash_sector *it = &log->sectors[i];
        if (it->live == 0 && it->state == FLASH_USED)
            it->state = FLASH_DEAD;
        if ((it->marks & FLASH_DOUBTFUL) && it->live != 0)
            outbox_flash_trouble_at(log, OUTBOX_FLASH_HEADER_DAMAGED, i);
        it->marks &= (uint8_t)~FLASH_DOUBTFUL;
        log->needs_care |= it->marks != 0;
    }
}

static outbox_flash_result scan(outbox_flash_log *log)
{
    outbox_flash_result result = look_at_sectors(log);
    for (uint32_t i = 0; i < log->driver->sector_count && result == OUTBOX_FLASH_OK; i++)
        if (log->sectors[i].state == FLASH_USED)
            find_commit(log, i);
    if (result == OUTBOX_FLASH_OK)
        result = read_commit(log);
    for (uint32_t i = 0; i < log->driver->sector_count && result == OUTBOX_FLASH_OK; i++)
        if (log->sectors[i].state == FLASH_USED)
            find_pages(log, i);
    if (result == OUTBOX_FLASH_OK)
        find_dead(log);
    return result;
}

outbox_flash_result outbox_flash_mount(void *memory, size_t size, const outbox_flash_config *config,
                                       outbox_flash_log **log)
{
    *log = NULL;
    if (!memory || !config || !is_sound(config->driver, config->page_size) || config->pages < 4 ||
        config->batch_pages < 4 || config->pages > UINT32_MAX / 16 ||
        config->batch_pages > UINT32_MAX / 16 ||
        config->pages + config->batch_pages >
            outbox_flash_capacity(config->driver, config->page_size) ||
        size < OUTBOX_FLASH_MEMORY(config->driver->sector_count, config->page_size, config->pages,
                                   config->batch_pages))
        return OUTBOX_FLASH_MISUSE;
    outbox_flash_log *it = lay_out(memory, config);
    outbox_flash_result result = scan(it);
    if (result == OUTBOX_FLASH_OK)
        *log = it;
    return result;
}

/* ---- A new beginning ------------------------------------------------------------------------- */

static bool make_blank(const outbox_flash_driver *driver, uint32_t page_size, uint32_t sector)
{
    uint8_t birth[FLASH_UNIT_MAX];
    uint32_t ignored, erases = 0;
    const outbox_flash_log form = {.driver = driver};
    const uint32_t at = sector * driver->sector_size;
    const uint32_t size = outbox_flash_round(&form, FLASH_BIRTH_SIZE);
    if (driver->read(driver->context, at, birth, FLASH_BIRTH_SIZE) != 0 ||
        !outbox_flash_birth_read(birth, &ignored, &erases))
        erases = 0;
    memset(birth, 0xff, sizeof birth);
    outbox_flash_birth_write(birth, page_size, erases + 1);
    return driver->erase(driver->context, sector) == 0 &&
           driver->program(driver->context, at, birth, size) == 0;
}

outbox_flash_result outbox_flash_format(const outbox_flash_driver *driver, uint32_t page_size)
{
    uint32_t works = 0;
    if (!is_sound(driver, page_size))
        return OUTBOX_FLASH_MISUSE;
    for (uint32_t i = 0; i < driver->sector_count; i++)
        works += make_blank(driver, page_size, i);
    if (driver->sync(driver->context) != 0 || works < FLASH_SECTORS_MIN)
        return OUTBOX_FLASH_FAILED;
    return OUTBOX_FLASH_OK;
}
