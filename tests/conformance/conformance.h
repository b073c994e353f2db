/* SPDX-License-Identifier: MIT
 *
 * conformance.h - what a flash driver, a clock and a link must keep, as functions to run on a
 * board.
 *
 * For whoever ports the library: link these files into a test firmware and call them. They use the
 * interfaces of flash.h and port.h and string.h, no test library, no memory beside the stack. Each
 * returns NULL, or the sentence that does not hold; it stops at the first one. What only a power
 * cut or years would show is not in it.
 */
#ifndef OUTBOX_CONFORMANCE_H
#define OUTBOX_CONFORMANCE_H

#include "cortex_m/flash.h"

#include <outbox/port.h>

/* Erases the whole region, and leaves it erased. */
const char *conform_flash(const outbox_flash_driver *driver);

/* `pass` lets so many milliseconds go by, by another clock than the one under test. */
const char *conform_clock(const outbox_port *port, void (*pass)(void *context, unsigned ms),
                          void *context);

/* The server behind the link, and time. */
struct conformance_server {
    void *context;
    /* Lets the server do what is due, and some milliseconds go by. A real broker needs the latter
     * only. */
    void (*serve)(void *context);
    /* The server ends the connection in order (FIN, DISCONNECT). NULL: that cannot be brought
     * about. */
    void (*hang_up)(void *context);
    unsigned rounds; /* so many calls of serve() are patience enough */
};

/* The link is closed, or was never open; it is closed at the end, or where the sentence says why
 * not. */
const char *conform_link(outbox_link *link, const struct conformance_server *server);

#endif
