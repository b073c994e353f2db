/* SPDX-License-Identifier: MIT
 *
 * fake_stream.c - a stream of bytes with nobody behind it.
 */
#include "fake_stream.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <string.h>

static outbox_stream_result fake_open(outbox_stream *stream)
{
    struct fake_stream *fake = (struct fake_stream *)stream;
    fake->opens++;
    if (fake->open_result == OUTBOX_STREAM_OK && !fake->is_open) {
        fake->is_open = true;
        fake->in_from = fake->in_to; /* what came for an earlier connection is gone */
    }
    return fake->open_result;
}

static outbox_stream_result fake_write(outbox_stream *stream, const void *bytes, size_t size,
                                       size_t *count)
{
    struct fake_stream *fake = (struct fake_stream *)stream;
    assert_true(fake->is_open && size > 0);
    fake->writes++;
    size_t taken = size < fake->room ? size : fake->room;
    if (taken == 0)
        return fake->out_end;
    assert_true(fake->out_size + taken <= FAKE_STREAM_MAX);
    memcpy(fake->out + fake->out_size, bytes, taken);
    fake->out_size += taken;
    if (fake->room != SIZE_MAX)
        fake->room -= taken;
    *count = taken;
    return OUTBOX_STREAM_OK;
}

static outbox_stream_result fake_read(outbox_stream *stream, void *bytes, size_t size,
                                      size_t *count)
{
    struct fake_stream *fake = (struct fake_stream *)stream;
    assert_true(fake->is_open && size > 0);
    size_t given = fake->in_to - fake->in_from;
    if (given == 0)
        return fake->in_end;
    if (given > size)
        given = size;
    if (fake->piece > 0 && given > fake->piece)
        given = fake->piece;
    memcpy(bytes, fake->in + fake->in_from, given);
    fake->in_from += given;
    *count = given;
    return OUTBOX_STREAM_OK;
}

static void fake_close(outbox_stream *stream)
{
    struct fake_stream *fake = (struct fake_stream *)stream;
    fake->closes++;
    fake->is_open = false;
}

static const char *fake_reason(const outbox_stream *stream)
{
    return ((const struct fake_stream *)stream)->reason;
}

void fake_stream_init(struct fake_stream *fake)
{
    static const outbox_stream_methods methods = {.version = 1,
                                                  .open = fake_open,
                                                  .write = fake_write,
                                                  .read = fake_read,
                                                  .close = fake_close,
                                                  .reason = fake_reason};
    memset(fake, 0, sizeof *fake);
    fake->stream.methods = &methods;
    fake->in_end = fake->out_end = OUTBOX_STREAM_AGAIN;
    fake->room = SIZE_MAX;
}

void fake_stream_say(struct fake_stream *fake, const void *bytes, size_t size)
{
    if (fake->in_from == fake->in_to)
        fake->in_from = fake->in_to = 0;
    assert_true(fake->in_to + size <= FAKE_STREAM_MAX);
    memcpy(fake->in + fake->in_to, bytes, size);
    fake->in_to += size;
}

void fake_stream_expect(struct fake_stream *fake, const void *bytes, size_t size)
{
    assert_true(fake->out_size - fake->out_seen >= size);
    assert_memory_equal(fake->out + fake->out_seen, bytes, size);
    fake->out_seen += size;
}
