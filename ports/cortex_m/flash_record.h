/* SPDX-License-Identifier: MIT
 *
 * flash_record.h - how sectors and records look on the flash; sums and no driver.
 *
 *   sector   birth (magic, form, erase count, sum) | opening (number, sum) | record | record | ...
 *   record   page, serial, bits, sum of body, sum of header | body, padded to whole units
 *
 * `birth` is programmed after the erase, `opening` when the first record is about to come, so that
 * no unit is programmed twice. A record of a page leaves out each 1/32 of the page that is all
 * zero: `bits` says which are there. The header's sum covers where the record stands and the number
 * under which its sector was opened, so that neither what an erase has left nor a record inside a
 * payload is taken for one. All numbers are little-endian.
 */
#ifndef OUTBOX_CORTEX_M_FLASH_RECORD_H
#define OUTBOX_CORTEX_M_FLASH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FLASH_BIRTH_SIZE = 16,
    FLASH_OPENING_SIZE = 8,
    FLASH_HEADER_SIZE = 20,
    FLASH_CHUNKS = 32, /* of a page */
    FLASH_UNIT_MAX = 64
};

/* What stands in `page` of a record that is no page. */
#define FLASH_COMMIT 0u         /* serial; bits: length of the body, see flash_log.c */
#define FLASH_MOVED 0xfffffffdu /* serial: of the opening of sector `bits`, which is dead */

struct flash_record {
    uint32_t page, serial, bits, body_sum;
};

/* Where a record stands. */
struct flash_place {
    uint32_t offset, opening;
};

uint32_t outbox_flash_sum(uint32_t sum, const void *data, size_t size); /* begin with 0 */

bool outbox_flash_is_blank(const void *data, size_t size);

void outbox_flash_birth_write(uint8_t *to, uint32_t page_size, uint32_t erases);
bool outbox_flash_birth_read(const uint8_t *from, uint32_t *page_size, uint32_t *erases);

void outbox_flash_opening_write(uint8_t *to, uint32_t number);
bool outbox_flash_opening_read(const uint8_t *from, uint32_t *number);

void outbox_flash_record_write(uint8_t *to, const struct flash_record *record,
                               struct flash_place place);
bool outbox_flash_record_read(const uint8_t *from, struct flash_record *record,
                              struct flash_place place);

/* Which chunks of a page are not all zero; how many bytes its body then has. */
uint32_t outbox_flash_bits(const void *page, uint32_t page_size);
uint32_t outbox_flash_body_size(const struct flash_record *record, uint32_t page_size);

/* Copies the chunks of `bits` close together; returns their bytes. */
uint32_t outbox_flash_pack(uint8_t *to, const void *page, uint32_t page_size, uint32_t bits);

#endif
