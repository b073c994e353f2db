/* SPDX-License-Identifier: MIT
 *
 * call.h - one call of the library with a fault in it: it did its work, or nothing changed.
 *
 * What "nothing" and "its work" mean is read off the file: all of it is written down before the
 * call, and once more behind the same call without a fault. Whatever fails, the file then holds the
 * one or the other, and calling again without a fault leads to the same.
 */
#ifndef CALL_H
#define CALL_H

#include "faults/world.h"

enum call_kind {
    CALL_PUTS,    /* an event, through the handle */
    CALL_CHANGES, /* the file, through the handle */
    CALL_SYNCS,   /* the same, and is there all the same where its sync failed [epoch-3] */
    CALL_LOOKS,   /* it is the same before and after */
    CALL_OF_APP   /* a statement of the application's own */
};

struct call {
    const char *name;
    void (*prepare)(struct world *world); /* without faults; leaves the application attached */
    int (*act)(struct world *world);      /* its code */
    int code;                             /* that it answers without a fault */
    uint64_t more;    /* codes that it may answer beside the database's: BIT() */
    unsigned reaches; /* faults that must fire, a bit each */
    enum call_kind kind;
};
/* Notes what a call tells, so that it must be the same whenever the call does not fail. */
void call_hear(struct world *world, const char *sentence);

extern const struct call calls[];
extern const int call_count;

/* What the file holds behind the call without a fault; the caller frees it with sqlite3_free().
 * `count`: out, calls that could fail. `said`: out, of what it told. */
char *call_expect(struct world *world, const struct call *call, enum fault fault, unsigned *count,
                  uint64_t *said);

/* Acts on `world`, which was begun, with the fault that the caller then disarms by this function:
 * it gives how many calls failed. */
unsigned call_try(struct world *world, const struct call *call, const char *expected, uint64_t said,
                  enum fault fault, unsigned n, bool persists);

#endif
