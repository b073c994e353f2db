/* SPDX-License-Identifier: MIT
 *
 * nor_qemu.c - programs and erases in RAM, and writes the same through to the file. The end of QEMU
 * in between leaves the operation undone, or done in part: a power cut.
 */
#include "nor_qemu.h"

#include "semihost.h"

#include <stdbool.h>
#include <string.h>

#define SIZE ((size_t)NOR_QEMU_SECTOR * NOR_QEMU_SECTORS)

__attribute__((section(".nor"))) static uint8_t bytes[SIZE];
static int file = -1;
static outbox_nor_qemu_faults faults;
static uint32_t operations;

static bool fails(void)
{
    operations++;
    return (faults.every != 0 && operations % faults.every == 0) ||
           (faults.from != 0 && operations >= faults.from);
}

static int keep(uint32_t offset, size_t size)
{
    if (file < 0)
        return 0;
    return outbox_semihost_seek(file, offset) != 0 ||
           outbox_semihost_write(file, bytes + offset, size) != 0;
}

static int nor_read(void *context, uint32_t offset, void *data, size_t size)
{
    (void)context;
    memcpy(data, bytes + offset, size);
    return 0;
}

static int nor_program(void *context, uint32_t offset, const void *data, size_t size)
{
    const uint8_t *from = data;
    const bool is_fault = fails();
    (void)context;
    if (is_fault)
        size /= 2;
    for (size_t i = 0; i < size; i++)
        bytes[offset + i] &= from[i];
    return keep(offset, size) != 0 || is_fault;
}

static int nor_erase(void *context, uint32_t sector)
{
    (void)context;
    if (fails())
        return -1;
    memset(bytes + (size_t)sector * NOR_QEMU_SECTOR, 0xff, NOR_QEMU_SECTOR);
    return keep(sector * NOR_QEMU_SECTOR, NOR_QEMU_SECTOR);
}

static int nor_sync(void *context)
{
    (void)context;
    return 0;
}

static bool load(const char *name)
{
    memset(bytes, 0xff, SIZE);
    file = outbox_semihost_open(name, 0);
    if (file >= 0)
        return outbox_semihost_read(file, bytes, SIZE) == 0;
    file = outbox_semihost_open(name, 1);
    return file >= 0 && keep(0, SIZE) == 0;
}

const outbox_flash_driver *outbox_nor_qemu_open(const char *name, outbox_nor_qemu_faults faulty)
{
    static const outbox_flash_driver driver = {
        1, NULL, NOR_QEMU_SECTOR, NOR_QEMU_SECTORS, 1, nor_read, nor_program, nor_erase, nor_sync};
    memset(bytes, 0xff, SIZE);
    file = -1;
    faults = faulty;
    return !name || load(name) ? &driver : NULL;
}
