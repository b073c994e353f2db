/* SPDX-License-Identifier: MIT
 *
 * tcp_stream.c - a TCP connection as a stream of bytes.
 *
 * open() is a small machine: look up, then for each address a socket that connects, until one does.
 * Nothing of it outlives the process; the kernel closes the socket.
 */
#include "tcp_stream.h"

#include "clock.h"
#include "lookup.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SHARE_MIN_MS = 1000, DISCARD_MAX = 16 /* reads */ };

static struct outbox_tcp_stream *of(outbox_stream *base)
{
    return (struct outbox_tcp_stream *)base;
}

static outbox_stream_result fail(struct outbox_tcp_stream *stream, const char *why)
{
    (void)snprintf(stream->reason, sizeof stream->reason, "%s", why);
    return OUTBOX_STREAM_FAILED;
}

/* ---- Opening --------------------------------------------------------------------------------- */

static void drop_socket(struct outbox_tcp_stream *stream)
{
    if (stream->fd >= 0)
        (void)close(stream->fd); /* what was written before is the kernel's */
    stream->fd = -1;
    stream->is_open = stream->wants_room = stream->has_read = 0;
}

/* A system that does not know one of them works without it. */
static void set_options(const struct outbox_tcp_stream *stream)
{
    const int on = 1;
    const unsigned silence_ms = stream->options.silence_ms;
    (void)setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(stream->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof silence_ms);
}

/* Non-zero: it connects, or has. */
static int try_address(struct outbox_tcp_stream *stream)
{
    const struct addrinfo *address = stream->address;
    stream->begun_at = outbox_linux_now_ms();
    stream->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (stream->fd < 0) {
        (void)fail(stream, strerror(errno));
        return 0;
    }
    set_options(stream);
    if (connect(stream->fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)
        return 1;
    (void)fail(stream, strerror(errno));
    drop_socket(stream);
    return 0;
}

static outbox_stream_result try_from(struct outbox_tcp_stream *stream,
                                     const struct addrinfo *address)
{
    for (stream->address = address; stream->address; stream->address = stream->address->ai_next)
        if (try_address(stream))
            return OUTBOX_STREAM_AGAIN;
    return OUTBOX_STREAM_FAILED; /* the last one's reason stands */
}

static outbox_stream_result look_up(struct outbox_tcp_stream *stream)
{
    const struct addrinfo *addresses;
    unsigned count = 0;
    int error;
    if (!stream->lookup)
        stream->lookup = outbox_lookup_begin(stream->options.host, stream->options.port,
                                             stream->options.wake, stream->options.wake_context);
    if (!stream->lookup)
        return fail(stream, strerror(errno));
    if (!outbox_lookup_is_done(stream->lookup, &error, &addresses))
        return OUTBOX_STREAM_AGAIN;
    if (error != 0)
        return fail(stream, gai_strerror(error));
    for (const struct addrinfo *a = addresses; a; a = a->ai_next)
        count++;
    stream->share_ms = stream->options.connect_timeout_ms / (count > 0 ? count : 1);
    if (stream->share_ms < SHARE_MIN_MS)
        stream->share_ms = SHARE_MIN_MS;
    return try_from(stream, addresses);
}

static outbox_stream_result go_on_connecting(struct outbox_tcp_stream *stream)
{
    struct pollfd writable = {.fd = stream->fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    if (poll(&writable, 1, 0) <= 0) {
        if (outbox_linux_now_ms() - stream->begun_at < stream->share_ms)
            return OUTBOX_STREAM_AGAIN;
        error = ETIMEDOUT;
    } else if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error == 0) {
        stream->is_open = 1;
        return OUTBOX_STREAM_OK;
    }
    (void)fail(stream, strerror(error));
    drop_socket(stream);
    return try_from(stream, stream->address->ai_next);
}

static outbox_stream_result tcp_open(outbox_stream *base)
{
    struct outbox_tcp_stream *stream = of(base);
    outbox_stream_result result = OUTBOX_STREAM_AGAIN;
    if (stream->is_open)
        return OUTBOX_STREAM_OK;
    if (stream->fd < 0)
        result = look_up(stream);
    return stream->fd >= 0 ? go_on_connecting(stream) : result;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* What it means that the kernel answered with this error. */
static outbox_stream_result result_of(struct outbox_tcp_stream *stream, int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR)
        return OUTBOX_STREAM_AGAIN;
    (void)fail(stream, strerror(error));
    return error == ECONNRESET || error == EPIPE ? OUTBOX_STREAM_ENDED : OUTBOX_STREAM_FAILED;
}

static outbox_stream_result tcp_write(outbox_stream *base, const void *bytes, size_t size,
                                      size_t *count)
{
    struct outbox_tcp_stream *stream = of(base);
    ssize_t sent = send(stream->fd, bytes, size, MSG_NOSIGNAL);
    stream->wants_room = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (sent < 0)
        return result_of(stream, errno);
    *count = (size_t)sent;
    return sent > 0 ? OUTBOX_STREAM_OK : OUTBOX_STREAM_AGAIN;
}

/* All that came is read: the kernel is to acknowledge it at once, and not when we send something.
 * It forgets that again, so it is told each time. */
static void acknowledge(struct outbox_tcp_stream *stream)
{
    const int on = 1;
    if (stream->has_read)
        (void)setsockopt(stream->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    stream->has_read = 0;
}

static outbox_stream_result tcp_read(outbox_stream *base, void *bytes, size_t size, size_t *count)
{
    struct outbox_tcp_stream *stream = of(base);
    ssize_t got = recv(stream->fd, bytes, size, 0);
    if (got < 0) {
        int error = errno;
        acknowledge(stream);
        return result_of(stream, error);
    }
    if (got == 0) {
        stream->reason[0] = '\0'; /* an end in order needs no words */
        return OUTBOX_STREAM_ENDED;
    }
    stream->has_read = 1;
    *count = (size_t)got;
    return OUTBOX_STREAM_OK;
}

/* A socket that is closed with unread bytes resets the connection, and our last words with it. */
static void say_goodbye(const struct outbox_tcp_stream *stream)
{
    char discarded[4096];
    (void)shutdown(stream->fd, SHUT_WR); /* fails where the other side was faster */
    for (int i = 0; i < DISCARD_MAX; i++)
        if (recv(stream->fd, discarded, sizeof discarded, 0) <= 0)
            return;
}

static void tcp_close(outbox_stream *base)
{
    struct outbox_tcp_stream *stream = of(base);
    const struct addrinfo *addresses;
    int error;
    if (stream->is_open)
        say_goodbye(stream);
    drop_socket(stream);
    stream->address = NULL;
    if (stream->lookup && outbox_lookup_is_done(stream->lookup, &error, &addresses)) {
        outbox_lookup_end(stream->lookup); /* the next open() asks anew */
        stream->lookup = NULL;
    }
}

static const char *tcp_reason(const outbox_stream *base)
{
    return ((const struct outbox_tcp_stream *)base)->reason;
}

/* ---- Making ---------------------------------------------------------------------------------- */

static const outbox_stream_methods methods = {
    .version = 1,
    .open = tcp_open,
    .write = tcp_write,
    .read = tcp_read,
    .close = tcp_close,
    .reason = tcp_reason,
};

void outbox_tcp_stream_init(struct outbox_tcp_stream *stream,
                            const struct outbox_tcp_options *options)
{
    *stream =
        (struct outbox_tcp_stream){.base = {.methods = &methods}, .options = *options, .fd = -1};
}

void outbox_tcp_stream_free(struct outbox_tcp_stream *stream)
{
    tcp_close(&stream->base);
    outbox_lookup_end(stream->lookup);
    stream->lookup = NULL;
}

struct pollfd outbox_tcp_stream_wait(const struct outbox_tcp_stream *stream)
{
    short events = POLLOUT;
    if (stream->is_open)
        events = (short)(POLLIN | (stream->wants_room ? POLLOUT : 0));
    return (struct pollfd){.fd = stream->fd, .events = events};
}
