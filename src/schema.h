/* SPDX-License-Identifier: MIT
 *
 * schema.h - the tables, their version, the device's name and the epochs.
 *
 *   outbox_event    the normal lane: the tombstone (lowest id) and the pending events, in order
 *                   (ledger.h)
 *   outbox_urgent   the urgent lane, alike
 *   outbox_dead     events that left without being delivered, with the reason and the time
 *   outbox_epoch    (lane, first id) -> 16 hex digits: identifies events for ever with their id
 *   outbox_meta     version, minimum_reader, device, barrier (a number that barriers change)
 *   outbox_pending  a view of the pending events for people
 *
 * Changes are additive. `version` says what made the tables, `minimum_reader` the oldest release
 * that may still write them, so that a device that rolls its firmware back goes on working.
 */
#ifndef OB_SCHEMA_H
#define OB_SCHEMA_H

#include "error.h"
#include "lane.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define OB_SCHEMA_VERSION 3       /* 2: the column headers; 3: captured changes */
#define OB_SCHEMA_READS_CHANGES 3 /* before it, a captured change is a row that is unfit */

/* OLDER: made by an earlier release, and not all columns are there. */
enum ob_schema_found { OB_SCHEMA_MISSING, OB_SCHEMA_OLDER, OB_SCHEMA_PRESENT };

/* Looks for the tables without writing. Returns an outbox_code: OUTBOX_OK, OUTBOX_NEWER_SCHEMA or
 * an error of the database. */
int ob_schema_find(sqlite3 *db, enum ob_schema_found *found, struct ob_error *error);

/* Makes the tables, or the columns, if they are missing, gives the device its name, or a new one
 * with a new epoch, and stores the limits. `device` and `limits` may be NULL. One transaction of
 * its own; nothing changed on any error. */
int ob_schema_make(sqlite3 *db, const char *device, const outbox_limit limits[OUTBOX_LANES],
                   bool small_heap, struct ob_error *error);

/* The stored device name, into a buffer of OUTBOX_ATTRIBUTE_MAX + 1 bytes. */
int ob_schema_device(sqlite3 *db, char *device, struct ob_error *error);

#define OB_EPOCH_DIGITS 16

struct ob_epoch {
    int64_t first; /* the first id that belongs to it */
    char digits[OB_EPOCH_DIGITS + 1];
};

/* Who sends: with the id it makes source = outbox://DEVICE/LANE/EPOCH (RFC 3986). */
struct ob_identity {
    const char *lane;
    char device[OUTBOX_ATTRIBUTE_MAX + 1];
    struct ob_epoch epoch;
    int64_t until; /* the first id that no longer belongs to this epoch */
};

/* The identity of an event. `statement` is prepared here at first and kept by the caller. */
int ob_schema_identity(sqlite3 *db, sqlite3_stmt **statement, outbox_lane lane, int64_t id,
                       struct ob_identity *identity, struct ob_error *error);

/* The epoch of the lane that the next events will carry. `statement` as above. No digits: there is
 * none that can be read. */
int ob_schema_newest_epoch(sqlite3 *db, sqlite3_stmt **statement, outbox_lane lane,
                           struct ob_epoch *epoch, struct ob_error *error);

/* Starts a new random epoch of the lane at `first` for it and all ids behind it. Inside a
 * transaction. */
int ob_schema_new_epoch(sqlite3 *db, outbox_lane lane, int64_t first, struct ob_error *error);

#endif
