/* SPDX-License-Identifier: MIT
 *
 * uart.h - bytes in and out of a UART, without waiting.
 *
 * This one is Arm's CMSDK UART, as on the MPS2 boards. What is received goes into a ring from the
 * interrupt; what comes while the ring is full is lost and counted. MQTT then finds a packet that
 * makes no sense, or none, and connects anew: so a loss costs time, never an event.
 */
#ifndef OUTBOX_CORTEX_M_UART_H
#define OUTBOX_CORTEX_M_UART_H

#include <stddef.h>
#include <stdint.h>

void outbox_uart_open(void);
/* Both return how many bytes they took or gave, 0 where none is possible now. */
size_t outbox_uart_read(void *data, size_t size);
size_t outbox_uart_write(const void *data, size_t size);
uint32_t outbox_uart_lost(void);
void outbox_uart_received(void); /* the interrupt */

#endif
