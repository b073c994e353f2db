/* SPDX-License-Identifier: MIT
 *
 * tcp_stream.h - a TCP connection as a stream of bytes (outbox/stream.h).
 *
 * No call blocks, the look-up of the host's name included (see lookup.h): at most one look-up is
 * under way for a stream, and one that the resolver holds up is waited for by the next open(). All
 * addresses that were found are tried, one after the other in the resolver's order; each has an
 * equal part of the time, at least a second.
 *
 * TCP_NODELAY; TCP_QUICKACK after the reads, as a server's Nagle otherwise holds back its PUBACKs
 * until our delayed ACK, 40 ms later; TCP_USER_TIMEOUT; close-on-exec. It never raises SIGPIPE.
 */
#ifndef OUTBOX_LINUX_TCP_STREAM_H
#define OUTBOX_LINUX_TCP_STREAM_H

#include <outbox/stream.h>
#include <poll.h>

struct outbox_lookup;
struct addrinfo;

struct outbox_tcp_options {
    const char *host; /* a name, or an IPv4 or IPv6 address */
    unsigned port;
    unsigned connect_timeout_ms; /* for all addresses together */
    unsigned silence_ms;         /* given up when so long nothing that was sent is acknowledged */
    void (*wake)(void *context); /* the name is looked up; called on another thread; may be NULL */
    void *wake_context;
};

struct outbox_tcp_stream {
    outbox_stream base; /* comes first */
    struct outbox_tcp_options options;
    struct outbox_lookup *lookup;
    const struct addrinfo *address; /* that is tried */
    unsigned share_ms;              /* of the time, for each address */
    uint64_t begun_at;
    int fd;           /* -1: none */
    int is_open;      /* it is connected */
    int wants_room;   /* the last write had none */
    int has_read;     /* bytes that the kernel was not told to acknowledge yet */
    char reason[100]; /* of the last call that answered ENDED or FAILED */
};

/* Strings of the options must stay valid. */
void outbox_tcp_stream_init(struct outbox_tcp_stream *stream,
                            const struct outbox_tcp_options *options);

/* Closes it, and leaves a look-up that is under way to itself. */
void outbox_tcp_stream_free(struct outbox_tcp_stream *stream);

/* What to wait for; fd -1: nothing. */
struct pollfd outbox_tcp_stream_wait(const struct outbox_tcp_stream *stream);

#endif
