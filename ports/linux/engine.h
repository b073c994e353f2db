/* SPDX-License-Identifier: MIT
 *
 * engine.h - what a forwarder's thread owns: connection, lock, link and forwarder, as one thing.
 */
#ifndef OUTBOX_LINUX_ENGINE_H
#define OUTBOX_LINUX_ENGINE_H

#include "url.h"

#include <outbox/forwarder.h>
#include <sqlite3.h>

/* What to open. Used by outbox_linux_engine_open() only; nothing of it is kept. */
struct outbox_linux_plan {
    const outbox_forwarding *forwarding; /* its broker is `url`, its payload_max the one below */
    outbox_url url;
    const char *path; /* absolute */
    const char *vfs;
    const char *journal; /* pragma that keeps the journal file as the application does, or NULL */
    size_t payload_max;
    void (*wake)(void *context); /* the link has an event; called on the MQTT client's threads */
    void *wake_context;
};

struct outbox_linux_engine {
    outbox_forwarder *forwarder;
    outbox_link *link;
    outbox_port port;
    void *memory;
    sqlite3 *db;
    int lock;
    char sentence[256]; /* why opening failed */
};

/* Opens all of it, on the thread that will use it. Returns an outbox_code; unless that is
 * OUTBOX_OK nothing is open and `sentence` has the particulars. */
int outbox_linux_engine_open(struct outbox_linux_engine *engine,
                             const struct outbox_linux_plan *plan);

/* Settles what has been acknowledged and closes all of it. wake() is not called any more. */
void outbox_linux_engine_close(struct outbox_linux_engine *engine);

#endif
