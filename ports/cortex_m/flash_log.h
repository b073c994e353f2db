/* SPDX-License-Identifier: MIT
 *
 * flash_log.h - pages of a database on NOR flash, changed in atomic batches; log-structured.
 *
 * A page that is written goes to the end of the log, the older version stays where it is, and a
 * commit record behind the pages makes all of a batch valid at once. So after a power cut at any
 * moment a mount finds the last batch that was committed, whole. Where the log needs room it
 * collects: it moves what is still valid in a sector to the end of the log and erases the sector.
 * Sectors wear evenly; one that fails is retired, and the log goes on without it.
 *
 * All memory is the caller's and is laid out once. One thread.
 */
#ifndef OUTBOX_CORTEX_M_FLASH_LOG_H
#define OUTBOX_CORTEX_M_FLASH_LOG_H

#include "flash.h"

typedef struct outbox_flash_log outbox_flash_log;

typedef enum outbox_flash_result {
    OUTBOX_FLASH_OK,
    OUTBOX_FLASH_MISUSE,  /* a value is out of range, or the call is not allowed now */
    OUTBOX_FLASH_FOREIGN, /* the region holds something else, or a log of another page size */
    OUTBOX_FLASH_FULL,    /* no room, or more pages than one batch may change */
    OUTBOX_FLASH_DAMAGED, /* a page was read whose checksum is wrong */
    OUTBOX_FLASH_FAILED   /* the flash fails: it cannot be read, or too few sectors are left */
} outbox_flash_result;

/* What went wrong and was dealt with; for the service staff. */
typedef enum outbox_flash_trouble {
    OUTBOX_FLASH_PROGRAM_FAILED, /* the sector is retired, its contents are moved */
    OUTBOX_FLASH_ERASE_FAILED,   /* the sector is retired */
    OUTBOX_FLASH_HEADER_DAMAGED, /* found at mount where no power cut explains it: an older version
                                  * of a page may have come back */
    OUTBOX_FLASH_PAGE_DAMAGED    /* as OUTBOX_FLASH_DAMAGED */
} outbox_flash_trouble;

typedef struct outbox_flash_config {
    const outbox_flash_driver *driver; /* stays valid */
    uint32_t page_size;                /* 512, 1,024, 2,048 or 4,096: that of the database */
    /* Most pages that the database may have, four bytes of memory each; and most that one
     * transaction may change, eight bytes each. Together at most what outbox_flash_capacity()
     * gives: the older versions stay until the commit. Fewer make the flash last longer. */
    uint32_t pages, batch_pages;
    void (*report)(void *context, outbox_flash_trouble trouble, uint32_t sector); /* may be NULL */
    void *report_context;
} outbox_flash_config;

/* Bytes of memory for a log, as a constant: for static arrays, which are aligned as uint64_t. */
#define OUTBOX_FLASH_MEMORY(sectors, page_size, pages, batch_pages)                                \
    (448u + 8u * (sectors) + (page_size) + 4u * (pages) + 8u * (batch_pages))

/* Pages that always have room on this flash, with a quarter of it left for the log to turn over. 0:
 * the region is too small, or the driver's numbers are not those of flash.h. */
uint32_t outbox_flash_capacity(const outbox_flash_driver *driver, uint32_t page_size);

/* Finds the last committed batch. Reads only; a region that is blank is a database of no page.
 * Returns MISUSE, FOREIGN, DAMAGED (there are pages, but no commit can be found) or FAILED: *log is
 * NULL then. */
outbox_flash_result outbox_flash_mount(void *memory, size_t size, const outbox_flash_config *config,
                                       outbox_flash_log **log);

/* Erases the region, with all that is in it, and of it keeps the erase counts that can be read. For
 * a region that holds something else, or for a new beginning; mount it afterwards. */
outbox_flash_result outbox_flash_format(const outbox_flash_driver *driver, uint32_t page_size);

/* Pages of the database: of the open batch, else as committed. */
uint32_t outbox_flash_pages(const outbox_flash_log *log);
uint32_t outbox_flash_page_size(const outbox_flash_log *log);

/* Reads page `page`, from 1; zeros where none was ever written. DAMAGED, FAILED. */
outbox_flash_result outbox_flash_read(outbox_flash_log *log, uint32_t page, void *data);

/* Reads a part of it; needs no memory for the whole page. */
outbox_flash_result outbox_flash_read_part(outbox_flash_log *log, uint32_t page, uint32_t from,
                                           void *data, uint32_t size);

/* Begins a batch; first clears away what an earlier one has left behind half done. MISUSE, FULL,
 * FAILED: no batch is open. */
outbox_flash_result outbox_flash_begin(outbox_flash_log *log);

/* Only in a batch. The database then has at least `page` pages. FULL, FAILED: roll back. */
outbox_flash_result outbox_flash_write(outbox_flash_log *log, uint32_t page, const void *data);

/* Gives the database so many pages; new ones read as zeros. In a batch it can only grow; outside of
 * one it is a batch of its own. MISUSE, FULL, FAILED: nothing changed. */
outbox_flash_result outbox_flash_resize(outbox_flash_log *log, uint32_t pages);

/* OK: the batch is on the flash and survives a power cut. Else roll back; after FAILED, whether it
 * is there shows at the next mount, and until then nothing can be written. */
outbox_flash_result outbox_flash_commit(outbox_flash_log *log);

/* Makes everything as it was at begin. Nothing where no batch is open. */
void outbox_flash_rollback(outbox_flash_log *log);

/* Since the mount, but for those of the erase counts, the sectors and the damage at mount. */
typedef struct outbox_flash_statistics {
    uint64_t bytes_programmed;
    uint32_t programs, erases, batches;
    uint32_t collected; /* sectors that were emptied, live records moved */
    uint32_t moved;     /* records that this has copied */
    uint32_t sectors_free, sectors_retired;
    uint32_t erases_min, erases_max; /* erase counts of the sectors that are in use */
    uint32_t damaged;                /* headers and pages whose checksum was wrong */
    uint32_t pages_mapped;           /* pages that have contents */
} outbox_flash_statistics;
void outbox_flash_stats(const outbox_flash_log *log, outbox_flash_statistics *statistics);

/* A sentence for people. Never NULL; static memory. */
const char *outbox_flash_trouble_text(outbox_flash_trouble trouble);

#endif
