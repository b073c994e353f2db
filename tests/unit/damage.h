/* SPDX-License-Identifier: MIT
 *
 * damage.h - lets the library work on a damaged database and judges all that it does.
 *
 * Made once: a good database, as bytes, with a map of which of them belong to which event. Then any
 * number of tries, each with other bytes. What must hold in each, whatever the bytes are:
 *
 *   - no crash; no call runs without end; a step that wants to be called at once gets on
 *   - every call returns a code that its header documents for a damaged file
 *   - what is sent is an event that was stored, with its id, topic, content type and body. One that
 *     is not is allowed where damage lies in its own cell: SQLite keeps no checksum of a row, so
 *     neither it nor this library can tell a byte of a body that was changed from one that was
 *     written
 *   - what is sent on one connection under one source goes up in its ids
 *   - where nothing but the tree of outbox_event is damaged: an event whose own pages are whole,
 *     and those above and beside them, was sent, or is a dead letter, or is still in the table.
 *     (Beside: where a settle empties a page SQLite moves rows between neighbours, and those of a
 *     damaged page may then come to lie over whole ones.)
 *
 * It knows no test framework, because the fuzz targets use it too.
 */
#ifndef DAMAGE_H
#define DAMAGE_H

#include <outbox/forwarder.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DAMAGE_EVENTS 80
#define DAMAGE_PAGE 1024

struct damage_event {
    int64_t id;
    int serial;     /* topic and body are made of it */
    uint64_t pages; /* bit p: its row depends on page p */
    bool touched;   /* in this try: damage lies in its cell */
    bool sent;      /* in this try, as it was stored */
};

struct damage {
    char folder[64], path[96];
    unsigned char *good;
    int64_t *owner; /* of each byte: the id of the event in whose cell it lies, or 0 */
    size_t size;
    struct damage_event events[DAMAGE_EVENTS];
    int stored;          /* events of the good database */
    uint64_t tree_pages; /* of outbox_event */
    uint32_t leaves[64]; /* pages of rows, in order */
    int leaf_count;

    /* Of the try that runs. */
    int known;  /* `stored` and those that were put in this try */
    int serial; /* of the event that was put last; no two have the same */
    uint64_t touched_pages;
    bool failed;
    char sentence[300];

    /* Of all tries. */
    long tries, sends, altered, refusals; /* altered: sent with damage of its own cell */
};

/* Makes the good database in a folder of its own. False: it could not, and `sentence` says why. */
bool damage_open(struct damage *damage);
void damage_close(struct damage *damage);

/* Lets the library work on these bytes. False: something was not as it must be, see `sentence`. */
bool damage_try(struct damage *damage, const unsigned char *bytes, size_t len);

#endif
