/* SPDX-License-Identifier: MIT
 *
 * capture_support.h - what the tests of captures share: tables, the events they gave, and a replica
 * that is made of nothing but these.
 */
#ifndef CAPTURE_SUPPORT_H
#define CAPTURE_SUPPORT_H

#include "support.h"

#include <outbox/capture.h>

/* Makes the table with this SQL, whose name must be t, and captures it. NULL: t is there. */
void capture_open(struct bench *bench, const char *table_sql, const outbox_capture *capture);

/* The events of the normal lane behind *after, one on each line:
 *   c {after}   r {after}   u {before} -> {after}   d {before}
 * *after becomes the last one. Freed with sqlite3_free(). */
char *changes_since(struct bench *bench, int64_t *after);

/* The event as it is sent. Freed with sqlite3_free(). */
char *change_document(struct bench *bench, outbox_lane lane, int64_t id);
char *change_topic(struct bench *bench, outbox_lane lane, int64_t id);
char *change_key(struct bench *bench, outbox_lane lane, int64_t id);

/* What the events since *after must be. */
void expect_changes(struct bench *bench, int64_t *after, const char *expected);

/* Applies all events of t(id, name, x) to a replica, and compares that with the table. */
void expect_replica(struct bench *bench);

/* Runs a test twice, with recursive_triggers off and on, each with a database of its own. */
void run_recursively(void (*test)(struct bench *bench, bool recursive));

#endif
