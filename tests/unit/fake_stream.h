/* SPDX-License-Identifier: MIT
 *
 * fake_stream.h - a stream of bytes with nobody behind it: a test is the server.
 */
#ifndef FAKE_STREAM_H
#define FAKE_STREAM_H

#include <outbox/stream.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_STREAM_MAX 262144

struct fake_stream {
    outbox_stream stream;
    outbox_stream_result open_result;
    int opens, closes, writes;
    bool is_open;

    uint8_t in[FAKE_STREAM_MAX]; /* what the server has sent */
    size_t in_from, in_to;
    size_t piece;                /* most that one read gives; 0: all */
    outbox_stream_result in_end; /* behind the last byte; AGAIN: more may come */

    uint8_t out[FAKE_STREAM_MAX]; /* what it was sent */
    size_t out_size, out_seen;    /* so many bytes; a test has looked at so many */
    size_t room;                  /* for so many more bytes; SIZE_MAX: any number */
    outbox_stream_result out_end; /* where there is no room; AGAIN: there will be */

    const char *reason;
};

void fake_stream_init(struct fake_stream *fake);

/* The server sends these bytes. */
void fake_stream_say(struct fake_stream *fake, const void *bytes, size_t size);
#define SAY(fake, literal) fake_stream_say((fake), "" literal, sizeof(literal) - 1)

/* The next bytes that the server got are these; with EXPECT_SILENT none are left. */
void fake_stream_expect(struct fake_stream *fake, const void *bytes, size_t size);
#define EXPECT(fake, literal) fake_stream_expect((fake), "" literal, sizeof(literal) - 1)
#define EXPECT_SILENT(fake) assert_int_equal((fake)->out_seen, (fake)->out_size)

#endif
