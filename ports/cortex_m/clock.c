/* SPDX-License-Identifier: MIT
 *
 * clock.c - SysTick, registers of the ARMv7-M Architecture Reference Manual B3.3.
 *
 * It stops in deep sleep. A board that sleeps deeply adds the time that its low-power timer
 * measured. After a reset it begins at zero: nothing of the outbox relies on more than that it does
 * not go back.
 */
#include "clock.h"

#define SYSTICK ((volatile uint32_t *)0xe000e010u) /* control, reload, current */

static volatile uint32_t ticks;

void outbox_clock_tick(void)
{
    ticks = ticks + 1;
}

void outbox_clock_start(uint32_t core_hz)
{
    SYSTICK[1] = core_hz / 1000 - 1;
    SYSTICK[2] = 0;
    SYSTICK[0] = 7; /* core clock, interrupt, on */
}

uint32_t outbox_clock_ms(void *context)
{
    (void)context;
    return ticks;
}

void outbox_clock_wait(void)
{
    __asm volatile("wfi");
}
