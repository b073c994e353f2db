/* SPDX-License-Identifier: MIT
 *
 * clock.h - the clock and the dice of a Linux machine, as the core wants them.
 */
#ifndef OUTBOX_LINUX_CLOCK_H
#define OUTBOX_LINUX_CLOCK_H

#include <outbox/port.h>

/* A port that tells the time since boot, sleep included, and asks the kernel for random bits.
 * `log` may be NULL. */
outbox_port outbox_linux_port(outbox_log log, void *log_context);

#endif
