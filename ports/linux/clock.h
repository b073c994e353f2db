/* SPDX-License-Identifier: MIT
 *
 * clock.h - the clock and the dice of a Linux machine, as the core wants them.
 */
#ifndef OUTBOX_LINUX_CLOCK_H
#define OUTBOX_LINUX_CLOCK_H

#include <outbox/port.h>

/* Milliseconds since boot, sleep included, without a wrap. */
uint64_t outbox_linux_now_ms(void);

/* A port that tells the time since boot, sleep included, and asks the kernel for random bits.
 * `log` may be NULL. */
outbox_port outbox_linux_port(outbox_log log, void *log_context);

#endif
