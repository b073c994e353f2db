/* SPDX-License-Identifier: MIT
 *
 * nor_qemu.h - a flash chip for boards of QEMU, which have none: RAM that keeps the rules of
 * flash.h, and a file of the host in which it outlives the end of QEMU.
 */
#ifndef OUTBOX_CORTEX_M_NOR_QEMU_H
#define OUTBOX_CORTEX_M_NOR_QEMU_H

#include "flash.h"

enum { NOR_QEMU_SECTOR = 4096, NOR_QEMU_SECTORS = 128 };

/* For tests. A program that fails is half done, an erase not at all. */
typedef struct outbox_nor_qemu_faults {
    uint32_t every; /* each so many operations one fails; 0: none */
    uint32_t from;  /* from this operation on all fail; 0: none */
} outbox_nor_qemu_faults;

/* `file` NULL: nothing is kept. NULL is returned where the file cannot be used. */
const outbox_flash_driver *outbox_nor_qemu_open(const char *file, outbox_nor_qemu_faults faults);

#endif
