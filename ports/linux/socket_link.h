/* SPDX-License-Identifier: MIT
 *
 * socket_link.h - the core's MQTT publisher over TCP, or over TLS over TCP.
 */
#ifndef OUTBOX_LINUX_SOCKET_LINK_H
#define OUTBOX_LINUX_SOCKET_LINK_H

#include "link.h"

/* Options that link.c has checked. NULL: no memory. */
outbox_link *outbox_socket_link_new(const outbox_linux_link_options *options);
void outbox_socket_link_free(outbox_link *base);

/* Non-zero when outbox_socket_link_new() made it. */
int outbox_socket_link_is(const outbox_link *link);

struct pollfd outbox_socket_link_wait(const outbox_link *base);

#endif
