/* SPDX-License-Identifier: MIT
 *
 * uart.c - the CMSDK UART. One side of the ring is the interrupt's, the other the loop's; each
 * writes its own index only, so no lock is needed. Nothing here outlives a reset.
 */
#include "uart.h"

#define UART0 ((volatile uint32_t *)0x40004000u)
#define INTERRUPT_ENABLE ((volatile uint32_t *)0xe000e100u) /* NVIC_ISER0 */

enum { DATA, STATE, CONTROL, INTERRUPT, DIVIDER };
enum { SEND_FULL = 1, RECEIVE_FULL = 2 };       /* STATE */
enum { SEND = 1, RECEIVE = 2, ON_RECEIVE = 8 }; /* CONTROL */
enum { RING = 1024, RECEIVED = 2 };             /* INTERRUPT */

static uint8_t ring[RING];
static volatile uint32_t first, end, lost;

/* Acknowledged before the reading: a byte that comes behind the last look asks anew. The other way
 * round its request would be taken back, and as it stays unread, there would never be another
 * one. */
void outbox_uart_received(void)
{
    UART0[INTERRUPT] = RECEIVED;
    while (UART0[STATE] & RECEIVE_FULL) {
        const uint8_t byte = (uint8_t)UART0[DATA];
        if (end - first == RING) {
            lost = lost + 1;
            continue;
        }
        ring[end % RING] = byte;
        end = end + 1;
    }
}

void outbox_uart_open(void)
{
    UART0[DIVIDER] = 16; /* the fastest; QEMU does not care */
    UART0[CONTROL] = SEND | RECEIVE | ON_RECEIVE;
    INTERRUPT_ENABLE[0] = 1;
}

size_t outbox_uart_read(void *data, size_t size)
{
    uint8_t *to = data;
    size_t count = 0;
    while (count < size && first != end) {
        to[count++] = ring[first % RING];
        first = first + 1;
    }
    return count;
}

size_t outbox_uart_write(const void *data, size_t size)
{
    const uint8_t *from = data;
    size_t count = 0;
    while (count < size && !(UART0[STATE] & SEND_FULL))
        UART0[DATA] = from[count++];
    return count;
}

uint32_t outbox_uart_lost(void)
{
    return lost;
}
