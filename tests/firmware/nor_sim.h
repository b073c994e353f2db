/* SPDX-License-Identifier: MIT
 *
 * nor_sim.h - a NOR flash in memory that keeps the rules of flash.h, and watches that they are
 * kept.
 *
 * A program can only clear bits; one that would have to set a bit, that touches a unit twice
 * between two erases, or that is not made of whole units, fails the test. The power can be cut at
 * any operation, before it is over; from then on every call fails until it is switched on again.
 * Sectors wear out, and single operations can be made to fail.
 */
#ifndef OUTBOX_NOR_SIM_H
#define OUTBOX_NOR_SIM_H

#include "cortex_m/flash.h"

#include <stdbool.h>

/* What of the operation is done when the power goes. */
enum nor_cut {
    NOR_WHOLE,  /* all, and nobody is told */
    NOR_HALF,   /* its first half */
    NOR_TAIL,   /* its second half: a sector keeps its header */
    NOR_SCATTER /* any of its bits */
};
enum { NOR_CUTS = 4 };

struct nor_operation {
    bool is_erase;
    uint32_t at; /* sector or offset */
    const uint8_t *data;
    size_t size;
};

struct nor_sim {
    outbox_flash_driver driver;
    uint8_t *bytes;
    uint8_t *is_programmed; /* for each unit, since the last erase */
    uint32_t *erases;       /* for each sector */
    uint32_t endurance;     /* erases that a sector can stand; 0: any number */
    uint64_t operations, programmed;
    uint64_t cut_at; /* number of the operation, from 1; 0: never */
    enum nor_cut cut;
    uint64_t fail_at;                          /* this operation fails, half done */
    uint64_t fail_every;                       /* and each so many; 0: none */
    bool is_off, fails_programs, fails_erases; /* all of them, and do nothing */
    uint32_t bad_sector;                       /* no program in it succeeds; UINT32_MAX: none */
    uint32_t dice;
    /* Called before each operation, if it is set: a test may look at what a cut here would leave,
     * in a copy in which it does the operation in part. */
    void (*before)(void *context, const struct nor_operation *operation);
    void *before_context;
};

void nor_init(struct nor_sim *nor, uint32_t sector_size, uint32_t sectors, uint32_t unit);
void nor_free(struct nor_sim *nor);
/* Makes `to` another flash with the same contents and wear, without hooks and cuts. */
void nor_copy(struct nor_sim *to, const struct nor_sim *from);
void nor_do(struct nor_sim *nor, const struct nor_operation *operation, enum nor_cut cut);
void nor_power_on(struct nor_sim *nor); /* and forgets the cut */

#endif
