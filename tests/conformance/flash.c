/* SPDX-License-Identifier: MIT
 *
 * flash.c - the promises of flash.h, as far as they show without a power cut.
 */
#include "conformance.h"

#include <stdbool.h>
#include <string.h>

enum { PIECE = 256, UNIT_MAX = 64 };

static uint8_t pattern(uint32_t offset)
{
    return (uint8_t)(offset * 37u + (offset >> 8) * 11u + 5u);
}

static bool holds_sound_numbers(const outbox_flash_driver *driver)
{
    const uint32_t unit = driver->program_unit;
    return driver->sector_size >= 1024 && driver->sector_size <= 262144 &&
           driver->sector_count >= 8 && driver->sector_count <= 65534 && unit >= 1 &&
           unit <= UNIT_MAX && (unit & (unit - 1)) == 0 && driver->sector_size % unit == 0;
}

/* Bytes `from` up to `to` are 0xff or, where `is_programmed`, the pattern. Reads in odd pieces. */
static bool is_all(const outbox_flash_driver *driver, uint32_t from, uint32_t to,
                   bool is_programmed)
{
    uint8_t data[PIECE];
    for (uint32_t size, at = from; at < to; at += size) {
        size = to - at < PIECE - 7 ? to - at : PIECE - 7;
        if (driver->read(driver->context, at, data, size) != 0)
            return false;
        for (uint32_t i = 0; i < size; i++)
            if (data[i] != (is_programmed ? pattern(at + i) : 0xff))
                return false;
    }
    return true;
}

static bool program(const outbox_flash_driver *driver, uint32_t from, uint32_t size)
{
    uint8_t data[4 * PIECE];
    for (uint32_t i = 0; i < size; i++)
        data[i] = pattern(from + i);
    return driver->program(driver->context, from, data, size) == 0;
}

static const char *erases(const outbox_flash_driver *driver)
{
    for (uint32_t sector = 0; sector < driver->sector_count; sector++)
        if (driver->erase(driver->context, sector) != 0)
            return "erase succeeds on every sector of the region";
    for (uint32_t sector = 0; sector < driver->sector_count; sector++)
        if (!is_all(driver, sector * driver->sector_size, (sector + 1) * driver->sector_size,
                    false))
            return "an erased sector reads as 0xff, and read takes any offset and length";
    return NULL;
}

/* In a sector: one unit, then a long piece that begins off the pages of a chip, then the last
 * unit. */
static const char *programs(const outbox_flash_driver *driver, uint32_t sector)
{
    const uint32_t begin = sector * driver->sector_size, end = begin + driver->sector_size;
    const uint32_t unit = driver->program_unit, piece = begin + unit, size = PIECE + 2 * unit;
    if (!program(driver, begin, unit))
        return "program takes a single unit";
    if (!is_all(driver, begin, piece, true) || !is_all(driver, piece, end, false))
        return "program changes its own bytes, and no others of the sector";
    if (!program(driver, piece, size))
        return "program takes any number of units, wherever they begin";
    if (!is_all(driver, begin, piece + size, true) || !is_all(driver, piece + size, end, false))
        return "a longer program changes its own bytes, all of them, and no others of the sector";
    if (!program(driver, end - unit, unit))
        return "program takes the last unit of a sector";
    if (!is_all(driver, piece + size, end - unit, false) || !is_all(driver, end - unit, end, true))
        return "the last unit of a sector is programmed alone";
    return driver->sync(driver->context) == 0 ? NULL : "sync succeeds";
}

static const char *erases_one(const outbox_flash_driver *driver, uint32_t sector)
{
    const uint32_t begin = sector * driver->sector_size, end = begin + driver->sector_size;
    const uint32_t other = sector == 0 ? 1 : sector - 1;
    if (driver->erase(driver->context, sector) != 0 || !is_all(driver, begin, end, false))
        return "a sector that was programmed can be erased again";
    if (!is_all(driver, other * driver->sector_size,
                other * driver->sector_size + driver->program_unit, true))
        return "erase leaves other sectors alone";
    return NULL;
}

const char *conform_flash(const outbox_flash_driver *driver)
{
    if (driver->version != 1 || !driver->read || !driver->program || !driver->erase ||
        !driver->sync)
        return "the version is 1, and no function is NULL";
    if (!holds_sound_numbers(driver))
        return "the three numbers are within the bounds of flash.h";
    const uint32_t last = driver->sector_count - 1, sectors[] = {0, 1, last - 1, last};
    const char *wrong = erases(driver);
    for (int i = 0; i < 4 && !wrong; i++)
        wrong = programs(driver, sectors[i]);
    if (!wrong)
        wrong = erases_one(driver, 0);
    if (!wrong)
        wrong = erases_one(driver, last);
    return wrong ? wrong : erases(driver);
}
