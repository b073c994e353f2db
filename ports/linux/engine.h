/* SPDX-License-Identifier: MIT
 *
 * engine.h - what a forwarder's thread owns: connection, lock, link and forwarder, as one thing.
 */
#ifndef OUTBOX_LINUX_ENGINE_H
#define OUTBOX_LINUX_ENGINE_H

#include "ballast.h"
#include "link.h"
#include "watch.h"

#include <outbox/forwarder.h>
#include <sqlite3.h>

/* What to open. Used by outbox_linux_engine_open() only; nothing of it is kept. */
struct outbox_linux_plan {
    const outbox_forwarding *forwarding; /* its broker is `url`, its payload_max the one below */
    outbox_url url;
    const char *path; /* absolute */
    const char *vfs;
    const char *journal; /* pragma that keeps the journal file as the application does, or NULL */
    size_t payload_max, fire_bytes;
    void (*wake)(void *context); /* the link has an event; called on other threads too */
    void *wake_context;
};

/* Checks what is wanted and finds the rest on the handle's connection. Returns an outbox_code, and
 * then the handle has the sentence. plan.c */
int outbox_linux_plan_make(outbox *box, const outbox_forwarding *wanted,
                           struct outbox_linux_plan *plan);

struct outbox_linux_engine {
    outbox_forwarder *forwarder; /* NULL: standing by */
    outbox_link *link;
    outbox_port port;
    outbox_forwarder_config config;
    void *memory; /* the forwarder's */
    size_t memory_size;
    char *path;
    struct outbox_linux_ballast ballast; /* while the lock is held */
    unsigned ballast_bytes;
    struct outbox_linux_watch watch; /* while there is a forwarder */
    sqlite3 *db;
    int lock;           /* -1: standing by */
    char sentence[256]; /* why opening or taking over failed */
};

/* Opens all of it, on the thread that will use it; where the plan permits it and another forwarder
 * has the lock, all but lock and forwarder. Returns an outbox_code; unless that is OUTBOX_OK
 * nothing is open and `sentence` has the particulars. */
int outbox_linux_engine_open(struct outbox_linux_engine *engine,
                             const struct outbox_linux_plan *plan);

/* While standing by: takes the lock and makes the forwarder. OUTBOX_LOCKED, or another code with a
 * `sentence`: it still stands by. */
int outbox_linux_engine_take_over(struct outbox_linux_engine *engine);

/* Reads up to which event each lane is settled, by whomever; leaves what it cannot read. */
int outbox_linux_engine_find_settled(struct outbox_linux_engine *engine,
                                     int64_t settled[OUTBOX_LANES]);

/* Settles what has been acknowledged and closes all of it. wake() is not called any more. */
void outbox_linux_engine_close(struct outbox_linux_engine *engine);

#endif
