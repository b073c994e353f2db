/* SPDX-License-Identifier: MIT
 *
 * flash_state.h - the log as its own files see it: what it keeps in memory, and what they share.
 *
 * What must hold on the flash at every moment, so that a cut may come there:
 *
 *   - Serials grow with each record. The whole commit record of the highest serial, C, decides:
 * pages with a lower serial are committed, those with a higher one are not. So what a cut or a
 * rollback has left above C is erased before the next commit.
 *   - The newest committed version of each page exists, and beside it possibly copies under the
 * same serial, and what a program that failed has left of it; of those that are whole the one in
 * the sector that was opened first counts.
 *   - A sector of which live records were copied is erased only once a MOVED record says that it is
 *     dead, and nothing else is committed before it is erased.
 *   - One sector at least can be erased and written without any loss: then collecting goes on after
 *     any number of cuts. There are FLASH_RESERVE of them, as sectors may fail.
 */
#ifndef OUTBOX_CORTEX_M_FLASH_STATE_H
#define OUTBOX_CORTEX_M_FLASH_STATE_H

#include "flash_log.h"
#include "flash_record.h"

#define FLASH_NO_SECTOR 0xffffffffu

enum {
    FLASH_RESERVE = 2,
    FLASH_SPREAD = 16,      /* erase counts that differ by more are evened out */
    FLASH_RETIRED_MAX = 64, /* with more the flash is at its end */
    FLASH_SECTORS_MIN = 8
};

enum flash_sector_state {
    FLASH_DEAD,   /* nothing in it counts; erased before it is used */
    FLASH_READY,  /* erased, since this mount */
    FLASH_USED,   /* holds records */
    FLASH_RETIRED /* failed; neither read nor used any more */
};

/* Marks: why a sector has to be emptied before the next batch. */
enum {
    FLASH_OPEN = 1,    /* holds what is not committed */
    FLASH_FAILING = 2, /* a program of it failed */
    FLASH_DOUBTFUL = 4 /* during a mount: holds garbage that is from before the last commit */
};

struct flash_sector {
    uint32_t erases;
    uint16_t live; /* of records that count, in units of four bytes */
    uint8_t state, marks;
};

/* Where a page of the open batch was before it. */
struct flash_undo {
    uint32_t page, before;
};

struct outbox_flash_log {
    outbox_flash_config config;
    const outbox_flash_driver *driver;
    uint32_t first;    /* offset of the first record in a sector */
    uint32_t capacity; /* bytes for records in a sector, a MOVED record left out */
    uint32_t head, head_at, head_opening;
    uint32_t serial;               /* of the next record or opening */
    uint32_t committed, commit_at; /* serial and place of the last commit */
    uint32_t pages, pages_before;
    uint32_t undo_count, retired;
    bool in_batch, needs_care, is_broken;
    outbox_flash_statistics stats;
    struct flash_sector *sectors;
    uint32_t *map; /* offset of each page's record, page 1 at index 0; 0: none */
    struct flash_undo *undo;
    uint8_t *buffer; /* one record */
};

/* A record to be written: the body from a page, from bytes, or from another record's body. */
struct flash_item {
    struct flash_record record;
    const void *page, *bytes;
    uint32_t body_from;
    bool was_tried; /* out: a program of it has failed */
};

/* ---- flash_sector.c: one sector -------------------------------------------------------------- */

uint32_t outbox_flash_round(const outbox_flash_log *log, uint32_t size); /* up to whole units */
uint32_t outbox_flash_size(const outbox_flash_log *log, const struct flash_record *record);
uint32_t outbox_flash_sector_of(const outbox_flash_log *log, uint32_t offset);
void outbox_flash_trouble_at(outbox_flash_log *log, outbox_flash_trouble trouble, uint32_t sector);
/* Programs, reads back and compares. */
bool outbox_flash_program(outbox_flash_log *log, uint32_t offset, const void *data, uint32_t size);
void outbox_flash_retire(outbox_flash_log *log, uint32_t sector);
/* Erases, or retires the sector: false. */
bool outbox_flash_clear(outbox_flash_log *log, uint32_t sector);
/* Makes a free sector the head; FULL where none is left. `worn`: the most worn one. */
outbox_flash_result outbox_flash_open_next(outbox_flash_log *log, bool worn);
bool outbox_flash_opening_of(const outbox_flash_log *log, uint32_t sector, uint32_t *number);
uint32_t outbox_flash_free_count(const outbox_flash_log *log);
/* The sector with the fewest live bytes, at most `most`, or FLASH_NO_SECTOR. */
uint32_t outbox_flash_cheapest(const outbox_flash_log *log, uint32_t most);
/* The least worn sector in use, if it lags behind far enough, or FLASH_NO_SECTOR. */
uint32_t outbox_flash_coldest(const outbox_flash_log *log);

/* ---- flash_walk.c: the records of one sector ------------------------------------------------- */

struct flash_walk {
    const outbox_flash_log *log;
    uint32_t base, at, next; /* the sector's offset, the record's, and the next one's */
    uint32_t opening;
    struct flash_record record;
    bool has_garbage; /* something was passed over that is no record */
};
/* False: the sector was never opened. */
bool outbox_flash_walk_begin(const outbox_flash_log *log, uint32_t sector, struct flash_walk *walk);
bool outbox_flash_walk_next(struct flash_walk *walk);
/* The record at an offset; false: there is none. */
bool outbox_flash_record_at(const outbox_flash_log *log, uint32_t at, struct flash_record *record);
/* The record at this offset counts from now on, or does not any more. */
void outbox_flash_count_in(outbox_flash_log *log, uint32_t at, const struct flash_record *record);
void outbox_flash_count_out(outbox_flash_log *log, uint32_t at);

/* ---- flash_space.c: room at the end of the log ----------------------------------------------- */

/* Writes a record, and collects before where room is short. `at` gets its offset. */
outbox_flash_result outbox_flash_append(outbox_flash_log *log, struct flash_item *item,
                                        uint32_t *at);
/* Empties and erases the sectors that have marks. */
outbox_flash_result outbox_flash_care(outbox_flash_log *log);
outbox_flash_result outbox_flash_append_commit(outbox_flash_log *log, uint32_t serial,
                                               uint32_t pages, uint32_t *at);

enum { FLASH_COMMIT_BODY_MAX = 4 + 2 * FLASH_RETIRED_MAX };
void outbox_flash_commit_read(outbox_flash_log *log, const uint8_t *body, uint32_t size);

#endif
