/* SPDX-License-Identifier: MIT
 *
 * flash.h - for porters: what the storage of this port needs from a NOR flash.
 *
 * Four functions and three numbers. They describe one region of the chip that belongs to the outbox
 * alone: sectors that are erased as a whole, from 0 up. Offsets count from the region's beginning.
 *
 * What a driver must keep, and the log on top of it relies on (flash_log.h):
 *
 *   erase    makes every byte of one sector 0xff.
 *   program  only clears bits. It is called with whole program units, and for each unit once
 *            between two erases of its sector: that is also what chips with a checksum per unit
 * want. A part that is programmed in pages of 256 bytes splits a longer call by itself. order calls
 * take effect in the order in which they are made. When sync has returned, everything before it
 * survives a power cut. A chip whose program and erase wait for the end of the operation needs no
 * more than a sync that returns 0. cut      a power cut may leave the operation that was under way
 * done in part: of a program, any of the bits that it was to clear; of an erase, any content of
 * that one sector. Nothing outside of the bytes of that call changes. failure  a call that fails
 * returns non-zero. A program or an erase that failed may have been done in part, as after a cut;
 * other bytes are as they were. The log then moves away from that sector for good. A driver need
 * not read back what it has programmed: the log does. read     gives what is there; of bytes that a
 * cut has left half done, anything, or a failure.
 *
 * All calls come from the one thread that uses the database, none from an interrupt.
 */
#ifndef OUTBOX_CORTEX_M_FLASH_H
#define OUTBOX_CORTEX_M_FLASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct outbox_flash_driver {
    int version; /* 1 */
    void *context;
    /* Bytes that one erase empties; 1,024 to 262,144, and room for two pages of the database. */
    uint32_t sector_size;
    /* Sectors of the region; 8 to 65,534. */
    uint32_t sector_count;
    /* A program begins at a multiple of it and has a multiple of it as its length; a power of two
     * from 1 to 64. A byte-wise chip says 1, an STM32L4 8, an STM32H7 32. */
    uint32_t program_unit;
    /* Each returns 0, or non-zero on failure. */
    int (*read)(void *context, uint32_t offset, void *data, size_t size);
    int (*program)(void *context, uint32_t offset, const void *data, size_t size);
    int (*erase)(void *context, uint32_t sector);
    int (*sync)(void *context);
} outbox_flash_driver;

#endif
