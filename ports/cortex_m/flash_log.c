/* SPDX-License-Identifier: MIT
 *
 * flash_log.c - reads pages; begins, fills, commits and rolls back batches.
 *
 * Until the commit record is on the flash, the older version of each page counts: it is kept in the
 * list `undo`, whose records are moved like those of the map when their sector is emptied. A crash
 * before the commit record leaves the older versions, one after it the new ones.
 */
#include "flash_state.h"

#include <string.h>

#define SERIAL_MAX 0xfffffff0u /* more records than any flash endures */

uint32_t outbox_flash_pages(const outbox_flash_log *log)
{
    return log->pages;
}

uint32_t outbox_flash_page_size(const outbox_flash_log *log)
{
    return log->config.page_size;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Reads the chunks that are there, those that lie close together at once. */
static bool unpack(const outbox_flash_log *log, const struct flash_record *record, uint32_t from,
                   uint8_t *page, uint32_t *sum)
{
    const uint32_t chunk = log->config.page_size / FLASH_CHUNKS;
    *sum = 0;
    for (uint32_t i = 0; i < FLASH_CHUNKS;) {
        const uint32_t begin = i;
        const bool is_there = record->bits >> i & 1;
        while (i < FLASH_CHUNKS && (record->bits >> i & 1) == is_there)
            i++;
        const uint32_t size = (i - begin) * chunk;
        uint8_t *to = page + (size_t)begin * chunk;
        if (!is_there) {
            memset(to, 0, size);
            continue;
        }
        if (log->driver->read(log->driver->context, from, to, size) != 0)
            return false;
        *sum = outbox_flash_sum(*sum, to, size);
        from += size;
    }
    return true;
}

outbox_flash_result outbox_flash_read(outbox_flash_log *log, uint32_t page, void *data)
{
    struct flash_record record;
    uint32_t sum;
    if (page == 0)
        return OUTBOX_FLASH_MISUSE;
    const uint32_t at = page <= log->config.pages ? log->map[page - 1] : 0;
    if (at == 0 || page > log->pages) {
        memset(data, 0, log->config.page_size);
        return OUTBOX_FLASH_OK;
    }
    if (outbox_flash_record_at(log, at, &record) && record.page == page &&
        unpack(log, &record, at + FLASH_HEADER_SIZE, data, &sum) && sum == record.body_sum)
        return OUTBOX_FLASH_OK;
    outbox_flash_trouble_at(log, OUTBOX_FLASH_PAGE_DAMAGED, outbox_flash_sector_of(log, at));
    return OUTBOX_FLASH_DAMAGED;
}

outbox_flash_result outbox_flash_read_part(outbox_flash_log *log, uint32_t page, uint32_t from,
                                           void *data, uint32_t size)
{
    if (from > log->config.page_size || size > log->config.page_size - from)
        return OUTBOX_FLASH_MISUSE;
    outbox_flash_result result = outbox_flash_read(log, page, log->buffer);
    if (result == OUTBOX_FLASH_OK)
        memcpy(data, log->buffer + from, size);
    return result;
}

/* ---- Batches --------------------------------------------------------------------------------- */

outbox_flash_result outbox_flash_begin(outbox_flash_log *log)
{
    if (log->in_batch)
        return OUTBOX_FLASH_MISUSE;
    if (log->is_broken || log->serial >= SERIAL_MAX)
        return OUTBOX_FLASH_FAILED;
    outbox_flash_result result = outbox_flash_care(log);
    if (result == OUTBOX_FLASH_OK)
        log->in_batch = true;
    return result;
}

static struct flash_undo *undo_of(outbox_flash_log *log, uint32_t page)
{
    for (uint32_t i = 0; i < log->undo_count; i++)
        if (log->undo[i].page == page)
            return &log->undo[i];
    return NULL;
}

outbox_flash_result outbox_flash_write(outbox_flash_log *log, uint32_t page, const void *data)
{
    uint32_t at;
    if (!log->in_batch || page == 0)
        return OUTBOX_FLASH_MISUSE;
    const bool is_again = undo_of(log, page) != NULL;
    if (page > log->config.pages || (!is_again && log->undo_count == log->config.batch_pages))
        return OUTBOX_FLASH_FULL;
    struct flash_item item = {
        .record = {page, log->serial++, outbox_flash_bits(data, log->config.page_size), 0},
        .page = data};
    outbox_flash_result result = outbox_flash_append(log, &item, &at);
    if (result != OUTBOX_FLASH_OK)
        return result;
    uint32_t *slot = &log->map[page - 1];
    if (is_again)
        outbox_flash_count_out(log, *slot);
    else
        log->undo[log->undo_count++] = (struct flash_undo){page, *slot};
    *slot = at;
    log->needs_care = true; /* until the commit */
    if (page > log->pages)
        log->pages = page;
    return OUTBOX_FLASH_OK;
}

/* What was committed before does not count any more. */
static void conclude(outbox_flash_log *log, uint32_t serial, uint32_t at)
{
    outbox_flash_count_out(log, log->commit_at);
    log->commit_at = at;
    log->committed = serial;
    for (uint32_t i = 0; i < log->undo_count; i++)
        outbox_flash_count_out(log, log->undo[i].before);
    log->undo_count = 0;
    log->needs_care = false;
    for (uint32_t i = 0; i < log->driver->sector_count; i++) {
        log->sectors[i].marks &= (uint8_t)~FLASH_OPEN;
        log->needs_care |= log->sectors[i].marks != 0;
    }
    log->pages_before = log->pages;
    log->in_batch = false;
    log->stats.batches++;
}

outbox_flash_result outbox_flash_commit(outbox_flash_log *log)
{
    uint32_t at;
    if (!log->in_batch)
        return OUTBOX_FLASH_MISUSE;
    if (log->undo_count == 0 && log->pages == log->pages_before) {
        log->in_batch = false;
        return OUTBOX_FLASH_OK;
    }
    const uint32_t serial = log->serial++;
    outbox_flash_result result = outbox_flash_append_commit(log, serial, log->pages, &at);
    if (result == OUTBOX_FLASH_OK && log->driver->sync(log->driver->context) != 0) {
        log->is_broken = true;
        result = OUTBOX_FLASH_FAILED;
    }
    if (result == OUTBOX_FLASH_OK)
        conclude(log, serial, at);
    return result;
}

void outbox_flash_rollback(outbox_flash_log *log)
{
    if (!log->in_batch)
        return;
    while (log->undo_count > 0) {
        const struct flash_undo *undo = &log->undo[--log->undo_count];
        outbox_flash_count_out(log, log->map[undo->page - 1]);
        log->map[undo->page - 1] = undo->before;
    }
    log->pages = log->pages_before;
    log->in_batch = false;
}

outbox_flash_result outbox_flash_resize(outbox_flash_log *log, uint32_t pages)
{
    if (pages > log->config.pages)
        return OUTBOX_FLASH_FULL;
    if (log->in_batch) {
        if (pages < log->pages)
            return OUTBOX_FLASH_MISUSE;
        log->pages = pages;
        return OUTBOX_FLASH_OK;
    }
    if (pages == log->pages)
        return OUTBOX_FLASH_OK;
    outbox_flash_result result = outbox_flash_begin(log);
    if (result != OUTBOX_FLASH_OK)
        return result;
    log->pages = pages;
    result = outbox_flash_commit(log);
    if (result != OUTBOX_FLASH_OK)
        outbox_flash_rollback(log);
    for (uint32_t page = pages + 1; result == OUTBOX_FLASH_OK && page <= log->config.pages; page++)
        if (log->map[page - 1] != 0) {
            outbox_flash_count_out(log, log->map[page - 1]);
            log->map[page - 1] = 0;
        }
    return result;
}

/* ---- Statistics ------------------------------------------------------------------------------ */

void outbox_flash_stats(const outbox_flash_log *log, outbox_flash_statistics *statistics)
{
    *statistics = log->stats;
    statistics->sectors_free = outbox_flash_free_count(log);
    statistics->sectors_retired = log->retired;
    statistics->erases_min = UINT32_MAX;
    statistics->erases_max = 0;
    for (uint32_t i = 0; i < log->driver->sector_count; i++) {
        const struct flash_sector *it = &log->sectors[i];
        if (it->state == FLASH_RETIRED)
            continue;
        if (it->erases < statistics->erases_min)
            statistics->erases_min = it->erases;
        if (it->erases > statistics->erases_max)
            statistics->erases_max = it->erases;
    }
    statistics->pages_mapped = 0;
    for (uint32_t i = 0; i < log->config.pages; i++)
        statistics->pages_mapped += log->map[i] != 0;
}

const char *outbox_flash_trouble_text(outbox_flash_trouble trouble)
{
    switch (trouble) {
    case OUTBOX_FLASH_PROGRAM_FAILED:
        return "a program of the flash failed; the sector is retired and its contents are moved";
    case OUTBOX_FLASH_ERASE_FAILED:
        return "an erase of the flash failed; the sector is retired";
    case OUTBOX_FLASH_HEADER_DAMAGED:
        return "the log is damaged where no power cut was; check the database, and restore it if "
               "it "
               "is not whole";
    case OUTBOX_FLASH_PAGE_DAMAGED:
        return "a page of the database is damaged; check the database, and restore it if it is not "
               "whole";
    }
    return "the flash has a trouble that this version does not know";
}
