/* SPDX-License-Identifier: MIT
 *
 * uart_stream.c - open is a UART that is there already, close leaves it as it is.
 *
 * Nothing here outlives a reset. Bytes that an earlier connection has left unread are thrown away
 * at open; those of it that arrive later still make no sense to the link, which then connects anew.
 */
#include "uart_stream.h"

#include "uart.h"

static outbox_stream_result uart_open(outbox_stream *stream)
{
    uint8_t old[32];
    (void)stream;
    while (outbox_uart_read(old, sizeof old) > 0) {
    }
    return OUTBOX_STREAM_OK;
}

static outbox_stream_result uart_write(outbox_stream *stream, const void *bytes, size_t size,
                                       size_t *count)
{
    (void)stream;
    *count = outbox_uart_write(bytes, size);
    return *count > 0 ? OUTBOX_STREAM_OK : OUTBOX_STREAM_AGAIN;
}

static outbox_stream_result uart_read(outbox_stream *stream, void *bytes, size_t size,
                                      size_t *count)
{
    (void)stream;
    *count = outbox_uart_read(bytes, size);
    return *count > 0 ? OUTBOX_STREAM_OK : OUTBOX_STREAM_AGAIN;
}

static void uart_close(outbox_stream *stream)
{
    (void)stream;
}

static const outbox_stream_methods methods = {
    .version = 1,
    .open = uart_open,
    .write = uart_write,
    .read = uart_read,
    .close = uart_close,
};

outbox_stream *outbox_uart_stream(void)
{
    static outbox_stream stream = {&methods};
    return &stream;
}
