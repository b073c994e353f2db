/* SPDX-License-Identifier: MIT
 *
 * flash_record.c - writes and reads the headers of sectors and records, and their sums.
 *
 * After a crash a header is half there or was never begun. Its sum then does not fit, or its bytes
 * are blank, and nothing behind it counts.
 */
#include "flash_record.h"

#include <string.h>

#define MAGIC 0x3146424fu /* "OBF1" */

static void put(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

/* CRC-32 (IEEE 802.3), four bits at a time: a table of 64 bytes. */
uint32_t outbox_flash_sum(uint32_t sum, const void *data, size_t size)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    const uint8_t *byte = data;
    sum = ~sum;
    for (const uint8_t *end = byte + size; byte < end; byte++) {
        sum = sum >> 4 ^ table[(sum ^ *byte) & 15];
        sum = sum >> 4 ^ table[(sum ^ (uint32_t)*byte >> 4) & 15];
    }
    return ~sum;
}

bool outbox_flash_is_blank(const void *data, size_t size)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < size; i++)
        if (byte[i] != 0xff)
            return false;
    return true;
}

/* ---- Sectors --------------------------------------------------------------------------------- */

void outbox_flash_birth_write(uint8_t *to, uint32_t page_size, uint32_t erases)
{
    put(to, MAGIC);
    put(to + 4, page_size);
    put(to + 8, erases);
    put(to + 12, outbox_flash_sum(0, to, 12));
}

bool outbox_flash_birth_read(const uint8_t *from, uint32_t *page_size, uint32_t *erases)
{
    *page_size = get(from + 4);
    *erases = get(from + 8);
    return get(from) == MAGIC && get(from + 12) == outbox_flash_sum(0, from, 12);
}

/* Begun with the magic: the plain sum of four blank bytes is blank. */
static uint32_t opening_sum(const uint8_t *opening)
{
    return outbox_flash_sum(MAGIC, opening, 4);
}

void outbox_flash_opening_write(uint8_t *to, uint32_t number)
{
    put(to, number);
    put(to + 4, opening_sum(to));
}

bool outbox_flash_opening_read(const uint8_t *from, uint32_t *number)
{
    *number = get(from);
    return get(from + 4) == opening_sum(from);
}

/* ---- Records --------------------------------------------------------------------------------- */

static uint32_t header_sum(const uint8_t *header, struct flash_place place)
{
    uint8_t where[8];
    put(where, place.offset);
    put(where + 4, place.opening);
    return outbox_flash_sum(outbox_flash_sum(0, where, sizeof where), header, 16);
}

void outbox_flash_record_write(uint8_t *to, const struct flash_record *record,
                               struct flash_place place)
{
    put(to, record->page);
    put(to + 4, record->serial);
    put(to + 8, record->bits);
    put(to + 12, record->body_sum);
    put(to + 16, header_sum(to, place));
}

bool outbox_flash_record_read(const uint8_t *from, struct flash_record *record,
                              struct flash_place place)
{
    record->page = get(from);
    record->serial = get(from + 4);
    record->bits = get(from + 8);
    record->body_sum = get(from + 12);
    return !outbox_flash_is_blank(from, FLASH_HEADER_SIZE) &&
           get(from + 16) == header_sum(from, place);
}

uint32_t outbox_flash_bits(const void *page, uint32_t page_size)
{
    const uint32_t chunk = page_size / FLASH_CHUNKS;
    const uint8_t *at = page;
    uint32_t bits = 0;
    for (uint32_t i = 0; i < FLASH_CHUNKS; i++, at += chunk)
        for (uint32_t k = 0; k < chunk; k++)
            if (at[k] != 0) {
                bits |= 1u << i;
                break;
            }
    return bits;
}

static uint32_t count(uint32_t bits)
{
    uint32_t number = 0;
    for (; bits != 0; bits &= bits - 1)
        number++;
    return number;
}

uint32_t outbox_flash_body_size(const struct flash_record *record, uint32_t page_size)
{
    if (record->page == FLASH_COMMIT)
        return record->bits;
    return record->page == FLASH_MOVED ? 0 : count(record->bits) * (page_size / FLASH_CHUNKS);
}

uint32_t outbox_flash_pack(uint8_t *to, const void *page, uint32_t page_size, uint32_t bits)
{
    const uint32_t chunk = page_size / FLASH_CHUNKS;
    uint32_t size = 0;
    for (uint32_t i = 0; i < FLASH_CHUNKS; i++)
        if (bits >> i & 1) {
            memcpy(to + size, (const uint8_t *)page + (size_t)i * chunk, chunk);
            size += chunk;
        }
    return size;
}
