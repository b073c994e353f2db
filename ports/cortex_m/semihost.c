/* SPDX-License-Identifier: MIT
 *
 * semihost.c - the calls of Arm's semihosting specification that the tests need. What is written to
 * a file is with the host at once: the end of QEMU does not undo it.
 */
#include "semihost.h"

#include <string.h>

enum {
    SYS_OPEN = 0x01,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_SEEK = 0x0a,
    SYS_TIME = 0x11,
    SYS_GET_CMDLINE = 0x15,
    SYS_EXIT_EXTENDED = 0x20
};
enum { READ_UPDATE = 3 /* r+b */, WRITE_UPDATE = 7 /* w+b */ };

static int call(int operation, const void *argument)
{
    register int r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void outbox_semihost_print(const char *text)
{
    (void)call(SYS_WRITE0, text);
}

void outbox_semihost_exit(int code)
{
    const uint32_t block[2] = {0x20026, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
    (void)call(SYS_EXIT_EXTENDED, block);
}

uint32_t outbox_semihost_seconds(void)
{
    return (uint32_t)call(SYS_TIME, NULL);
}

void outbox_semihost_arguments(char *text, size_t size)
{
    uint32_t block[2] = {(uint32_t)(uintptr_t)text, size};
    text[0] = '\0';
    if (call(SYS_GET_CMDLINE, block) != 0)
        text[0] = '\0';
}

int outbox_semihost_open(const char *name, int writable)
{
    const uint32_t block[3] = {(uint32_t)(uintptr_t)name, writable ? WRITE_UPDATE : READ_UPDATE,
                               strlen(name)};
    return call(SYS_OPEN, block);
}

int outbox_semihost_seek(int file, uint32_t offset)
{
    const uint32_t block[2] = {(uint32_t)file, offset};
    return call(SYS_SEEK, block);
}

int outbox_semihost_read(int file, void *data, size_t size)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)data, size};
    return call(SYS_READ, block);
}

int outbox_semihost_write(int file, const void *data, size_t size)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)data, size};
    return call(SYS_WRITE, block);
}
