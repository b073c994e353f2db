/* SPDX-License-Identifier: MIT
 *
 * clock.h - milliseconds from the core's own timer (SysTick), and sleep.
 */
#ifndef OUTBOX_CORTEX_M_CLOCK_H
#define OUTBOX_CORTEX_M_CLOCK_H

#include <stdint.h>

void outbox_clock_start(uint32_t core_hz); /* up to 16 GHz: 24 bits count 1 ms */
uint32_t outbox_clock_ms(void *context);   /* outbox_port.now_ms; wraps after 49 days */
void outbox_clock_wait(void);              /* until the next interrupt: a millisecond at most */
void outbox_clock_tick(void);              /* the interrupt */

#endif
