/* SPDX-License-Identifier: MIT
 *
 * nor_sim.c - the simulated flash. What a power cut leaves is made from dice of its own, so that a
 * run is the same each time.
 */
#include "nor_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A rule is broken: no test can go on from there. */
static void require(bool holds, const char *rule)
{
    if (holds)
        return;
    fprintf(stderr, "nor_sim: %s\n", rule);
    abort();
}

static uint32_t throw(struct nor_sim * nor)
{
    nor->dice = nor->dice * 1664525u + 1013904223u;
    return nor->dice >> 8;
}

static size_t all_bytes(const struct nor_sim *nor)
{
    return (size_t)nor->driver.sector_size * nor->driver.sector_count;
}

/* ---- What is done ---------------------------------------------------------------------------- */

static void check_program(struct nor_sim *nor, uint32_t offset, const uint8_t *data, size_t size)
{
    const uint32_t unit = nor->driver.program_unit;
    require(offset % unit == 0 && size % unit == 0, "a program is not made of whole units");
    require(size > 0 && offset + size <= all_bytes(nor), "a program is outside of the region");
    for (size_t i = 0; i < size; i += unit) {
        require(!nor->is_programmed[(offset + i) / unit], "a unit is programmed twice");
        nor->is_programmed[(offset + i) / unit] = 1;
    }
    for (size_t i = 0; i < size; i++)
        require((data[i] & ~nor->bytes[offset + i]) == 0, "a program wants to set a bit");
}

static void program_bytes(struct nor_sim *nor, uint32_t offset, const uint8_t *data, size_t size,
                          enum nor_cut cut)
{
    const size_t first = cut == NOR_TAIL ? size / 2 : 0, end = cut == NOR_HALF ? size / 2 : size;
    for (size_t i = first; i < end; i++)
        nor->bytes[offset + i] &= cut == NOR_SCATTER ? (uint8_t)(data[i] | throw(nor)) : data[i];
}

static void erase_bytes(struct nor_sim *nor, uint32_t sector, enum nor_cut cut)
{
    const uint32_t size = nor->driver.sector_size, unit = nor->driver.program_unit;
    uint8_t *bytes = nor->bytes + (size_t)sector * size;
    for (uint32_t i = 0; i < size; i++)
        if (cut == NOR_WHOLE || (cut == NOR_HALF && i < size / 2) ||
            (cut == NOR_TAIL && i >= size / 2))
            bytes[i] = 0xff;
        else if (cut == NOR_SCATTER)
            bytes[i] |= (uint8_t) throw(nor);
    memset(nor->is_programmed + (size_t)sector * size / unit, cut != NOR_WHOLE, size / unit);
}

/* ---- The driver ------------------------------------------------------------------------------ */

static int nor_read(void *context, uint32_t offset, void *data, size_t size)
{
    struct nor_sim *nor = context;
    if (nor->is_off)
        return -1;
    require(offset + size <= all_bytes(nor), "a read is outside of the region");
    memcpy(data, nor->bytes + offset, size);
    return 0;
}

void nor_do(struct nor_sim *nor, const struct nor_operation *operation, enum nor_cut cut)
{
    if (operation->is_erase) {
        nor->erases[operation->at]++;
        erase_bytes(nor, operation->at, cut);
        return;
    }
    check_program(nor, operation->at, operation->data, operation->size);
    nor->programmed += operation->size;
    program_bytes(nor, operation->at, operation->data, operation->size, cut);
}

static int perform(struct nor_sim *nor, const struct nor_operation *operation, bool refuses)
{
    if (nor->is_off)
        return -1;
    if (nor->before)
        nor->before(nor->before_context, operation);
    nor->operations++;
    nor->is_off = nor->operations == nor->cut_at;
    const bool fails = nor->operations == nor->fail_at ||
                       (nor->fail_every != 0 && nor->operations % nor->fail_every == 0);
    if (!refuses)
        nor_do(nor, operation, nor->is_off ? nor->cut : fails ? NOR_HALF : NOR_WHOLE);
    return refuses || fails || nor->is_off ? -1 : 0;
}

static int nor_program(void *context, uint32_t offset, const void *data, size_t size)
{
    struct nor_sim *nor = context;
    const struct nor_operation operation = {false, offset, data, size};
    return perform(nor, &operation,
                   nor->fails_programs || offset / nor->driver.sector_size == nor->bad_sector);
}

static int nor_erase(void *context, uint32_t sector)
{
    struct nor_sim *nor = context;
    const struct nor_operation operation = {true, sector, NULL, 0};
    require(sector < nor->driver.sector_count, "an erase is outside of the region");
    return perform(nor, &operation,
                   nor->fails_erases ||
                       (nor->endurance != 0 && nor->erases[sector] >= nor->endurance));
}

static int nor_sync(void *context)
{
    return ((struct nor_sim *)context)->is_off ? -1 : 0;
}

/* ---- Life ------------------------------------------------------------------------------------ */

void nor_init(struct nor_sim *nor, uint32_t sector_size, uint32_t sectors, uint32_t unit)
{
    memset(nor, 0, sizeof *nor);
    nor->driver = (outbox_flash_driver){1,        nor,         sector_size, sectors, unit,
                                        nor_read, nor_program, nor_erase,   nor_sync};
    nor->bytes = malloc(all_bytes(nor));
    nor->is_programmed = calloc(all_bytes(nor) / unit, 1);
    nor->erases = calloc(sectors, sizeof *nor->erases);
    nor->bad_sector = UINT32_MAX;
    require(nor->bytes && nor->is_programmed && nor->erases, "no memory");
    memset(nor->bytes, 0xff, all_bytes(nor));
}

void nor_free(struct nor_sim *nor)
{
    free(nor->bytes);
    free(nor->is_programmed);
    free(nor->erases);
    memset(nor, 0, sizeof *nor);
}

void nor_copy(struct nor_sim *to, const struct nor_sim *from)
{
    const outbox_flash_driver *driver = &from->driver;
    if (!to->bytes)
        nor_init(to, driver->sector_size, driver->sector_count, driver->program_unit);
    memcpy(to->bytes, from->bytes, all_bytes(from));
    memcpy(to->is_programmed, from->is_programmed, all_bytes(from) / driver->program_unit);
    memcpy(to->erases, from->erases, driver->sector_count * sizeof *to->erases);
    to->endurance = from->endurance;
    to->bad_sector = from->bad_sector;
    to->dice = from->dice;
    to->operations = to->cut_at = to->fail_at = 0;
    to->is_off = false;
}

void nor_power_on(struct nor_sim *nor)
{
    nor->is_off = false;
    nor->cut_at = 0;
}
