/* SPDX-License-Identifier: MIT
 *
 * uart_stream.h - the UART as a stream of bytes (outbox/stream.h), for MQTT over it.
 *
 * Whatever is at the other end has the connection to the broker: a modem in transparent mode, a
 * bridge, QEMU. A UART has no carrier, so nobody says when that connection ends, and what is
 * written while there is none vanishes. The link finds out by silence, and connects anew: keep
 * keep_alive_seconds and connect_timeout_ms short. A modem that has a carrier line or unsolicited
 * messages answers OUTBOX_STREAM_FAILED instead, which is quicker.
 */
#ifndef OUTBOX_CORTEX_M_UART_STREAM_H
#define OUTBOX_CORTEX_M_UART_STREAM_H

#include <outbox/stream.h>

/* There is one; outbox_uart_open() comes first. */
outbox_stream *outbox_uart_stream(void);

#endif
