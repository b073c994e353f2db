/* SPDX-License-Identifier: MIT
 *
 * semihost.h - the host behind a debugger or QEMU (Arm's semihosting): text, time, exit, one file.
 *
 * For tests and demos. On a board without a debugger the first call is a fault.
 */
#ifndef OUTBOX_CORTEX_M_SEMIHOST_H
#define OUTBOX_CORTEX_M_SEMIHOST_H

#include <stddef.h>
#include <stdint.h>

void outbox_semihost_print(const char *text);
void outbox_semihost_exit(int code);
uint32_t outbox_semihost_seconds(void);                   /* since 1970 */
void outbox_semihost_arguments(char *text, size_t size);  /* the command line */
int outbox_semihost_open(const char *name, int writable); /* -1: no such file; writable: made */
int outbox_semihost_seek(int file, uint32_t offset);
/* 0: all of it. */
int outbox_semihost_read(int file, void *data, size_t size);
int outbox_semihost_write(int file, const void *data, size_t size);

#endif
