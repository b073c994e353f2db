/* SPDX-License-Identifier: MIT
 *
 * world.h - a device, an application, a forwarder and a broker that remember what must be true.
 *
 * The scenarios act on it. An event is a number; its transaction stores the number in a table of
 * the application's own as well, which tells what became of a COMMIT that failed. The first thing
 * that is wrong is kept as a sentence.
 */
#ifndef WORLD_H
#define WORLD_H

#include "faults/fault.h"

#include <outbox/forwarder.h>
#include <outbox/inbox.h>
#include <outbox/outbox.h>
#include <outbox/port.h>

enum { EVENTS_MAX = 128, TOKENS = 1024, UNFIT = -1 };

/* Of codes, a bit each. */
#define BIT(code) (1ull << -(code))

enum fate { ABSENT, COMMITTED, IN_DOUBT, ABORTED };

struct mode {
    const char *name, *journal;
    bool is_shared;    /* one connection, no shared memory */
    bool small_heap;   /* no statement is kept */
    bool is_in_utf_16; /* SQLite then needs memory for each text that is bound or read */
};

struct world {
    const struct mode *mode;
    struct device device;
    const char *name;   /* that the application gives the device */
    outbox_limit limit; /* of the normal lane */
    sqlite3 *app;
    outbox *box;
    inbox *in;
    uint64_t said; /* of what the last call told */
    sqlite3 *own;  /* the forwarder's connection, if it is not the application's */
    outbox_forwarder *forwarder;
    void *memory;
    outbox_link link;
    bool is_open, is_opening, is_closing, is_probed;
    uint32_t tokens[TOKENS];
    int reasons[TOKENS];
    unsigned first, end;
    int refuse_once, refused; /* numbers; 0: none */
    int refuse_always;
    enum fate fate[EVENTS_MAX];
    bool is_accepted[EVENTS_MAX];
    int last_first;       /* the number that was accepted first, last */
    int dead;             /* rows that can never be sent */
    bool counts_are_gone; /* with the tombstone */
    bool is_blocked;      /* by a row that is too large to be read; world_check() makes it unfit */
    bool announces;       /* drops */
    bool may_drop;        /* events, for a reason that the statistics count */
    int dropped;          /* so many, in the end */
    bool is_bound;        /* the forwarder, to the handle, which then closes it */
    bool fires;           /* what is put to be sent at once arrives or does not */
    size_t payload_max;   /* of the forwarder; 0: 400 */
    int captured_from;    /* rows of the application's table are captured from here on; 0: none */
    bool is_captured[EVENTS_MAX]; /* the change arrived */
    bool failed;
    char sentence[300];
};

/* On a new device, on which the application has made its database but no outbox yet. */
void world_begin(struct world *world, const struct mode *mode);
/* Both connections and all memory; works on a device without power. */
void world_close(struct world *world);
void world_end(struct world *world); /* the device */
void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Gives the code back: one of the database's, or of `more`, or it is wrong. */
int world_code(struct world *world, const char *call, int code, uint64_t more);
int world_run(struct world *world, const char *sql); /* SQLite's result */

/* Each may fail where a fault is armed; what they return and leave is judged. */
bool world_open_app(struct world *world); /* and attaches */
void world_close_app(struct world *world);
void world_put(struct world *world, int first, int count); /* in one transaction */
void world_put_savepoint(struct world *world, int first);  /* the second of three is rolled back */
void world_put_unfit(struct world *world);
void world_put_at(struct world *world, int number, int64_t id); /* by hand */
void world_meddle(struct world *world, const char *sql);        /* without a fault */
void world_put_unstored(struct world *world);
void world_capture(struct world *world, int from);
bool world_open_forwarder(struct world *world);
void world_close_forwarder(struct world *world);
void world_step(struct world *world, int steps);
void world_statistics(struct world *world);

/* Without faults: all must come back, be sent and be whole. */
void world_check(struct world *world);

#endif
