/* SPDX-License-Identifier: MIT
 *
 * link.h - the links of this port behind one face: over Paho, or over a stream of our own.
 *
 *   paho    MQTTAsync of libpaho-mqtt3as, with threads of its own. What it makes unavoidable and
 * what it hides is in paho_link.h. stream  the core's MQTT publisher (outbox/stream.h) over TCP or
 * OpenSSL. No threads but one for each look-up of a name; no call blocks. Its driver waits for
 * outbox_linux_link_wait() as well.
 */
#ifndef OUTBOX_LINUX_LINK_H
#define OUTBOX_LINUX_LINK_H

#include "url.h"

#include <outbox/port.h>
#include <poll.h>

typedef struct outbox_linux_link_options {
    outbox_link_kind kind;
    const outbox_url *url;
    const char *username, *password; /* NULL: those of the URL */
    const char *client_id;           /* 1 byte or more of UTF-8 */
    int protocol;                    /* 5, 4 (MQTT 3.1.1), or 0: 5, and 4 where 5 is refused */
    const char *ca_file;             /* PEM; NULL: the system's trusted authorities */
    const char *cert_file;           /* PEM: the client's certificate and chain; NULL: none */
    const char *key_file;            /* PEM, not encrypted; NULL: it is in cert_file */
    int insecure;                    /* non-zero: neither chain nor host name is checked */
    unsigned keep_alive_seconds;     /* 0: 30; 1..65535 */
    unsigned connect_timeout_ms;     /* 0: 15,000; Paho keeps it to some 3 s */
    unsigned window;                 /* most publishes in flight; 0: 100; 1..1000 */
    size_t payload_max;              /* of an event; 0: OUTBOX_PAYLOAD_MAX; to 16 MiB */
    /* Called after each event, on threads of the link or on the one that drives it, with no lock of
     * the link held. Paho's own lock may be held: return soon and call nothing of Paho or of the
     * link. May be NULL. */
    void (*wake)(void *context);
    void *wake_context;
    outbox_log log; /* on the thread that drives the link; may be NULL */
    void *log_context;
} outbox_linux_link_options;

/* Makes a link, not yet open. All strings are copied; the certificate files are read at each
 * open(). Returns OUTBOX_OK, or OUTBOX_MISUSE, OUTBOX_BAD_URL (the URL and the options contradict
 * each other), OUTBOX_SYSTEM (a file that cannot be read) or OUTBOX_NO_MEMORY with a sentence; then
 * *link is NULL. */
int outbox_linux_link_new(const outbox_linux_link_options *options, outbox_link **link,
                          char *sentence, size_t size);

/* Closes the link and frees it. Waits until wake() has returned. NULL is allowed. */
void outbox_linux_link_free(outbox_link *link);

/* What the driver has to wait for beside wake(); fd -1: nothing now. NULL is allowed. */
struct pollfd outbox_linux_link_wait(const outbox_link *link);

#endif
