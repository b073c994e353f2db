/* SPDX-License-Identifier: MIT
 *
 * start.c - from reset to main() on a Cortex-M: vectors, memory, stack paint.
 *
 * Every reset begins here, after a power cut as well; nothing is kept in RAM from before. A fault
 * ends the program: what it was doing with the database is a power cut to the flash log.
 */
#include "start.h"

#include "clock.h"
#include "uart.h"

#include <string.h>

#define PAINT 0xa5a5a5a5u

extern uint32_t data_begin[], data_end[], data_source[], bss_begin[], bss_end[], stack_top[];

int main(void);
void reset_handler(void);

static void stop_on_fault(void)
{
    outbox_board_fault();
    for (;;) {
    }
}

static void ignore(void)
{
}

static void fill_memory(void)
{
    memcpy(data_begin, data_source, (size_t)((char *)data_end - (char *)data_begin));
    memset(bss_begin, 0, (size_t)((char *)bss_end - (char *)bss_begin));
    /* Up to near the stack pointer; the frames of reset_handler and of this function are above. */
    const uint32_t *end = (const uint32_t *)__builtin_frame_address(0) - 64;
    for (volatile uint32_t *at = bss_end; at < end; at++)
        *at = PAINT;
}

void reset_handler(void)
{
#if defined(__VFP_FP__) && !defined(__SOFTFP__)
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20; /* CPACR: full access to the FPU */
    __asm volatile("dsb\nisb");
#endif
    fill_memory();
    (void)main();
    stop_on_fault();
}

size_t outbox_stack_used(void)
{
    const uint32_t *at = bss_end;
    while (at < stack_top && *at == PAINT)
        at++;
    return (size_t)((const char *)stack_top - (const char *)at);
}

typedef void (*vector)(void);

/* The core's sixteen, then the interrupts of the board: UART 0 receives on the first. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    vector handlers[16 + 32 - 1];
} vectors = {stack_top,
             {
                 reset_handler,
                 stop_on_fault,
                 stop_on_fault,
                 stop_on_fault,
                 stop_on_fault,
                 stop_on_fault,
                 NULL,
                 NULL,
                 NULL,
                 NULL,
                 ignore,
                 ignore,
                 NULL,
                 ignore,
                 outbox_clock_tick,
                 outbox_uart_received,
             }};
