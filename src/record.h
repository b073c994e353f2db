/* SPDX-License-Identifier: MIT
 *
 * record.h - an event that is never stored, as bytes: what a row is for the others.
 *
 * Records stand one behind the other. They go from the handle through the port to the forwarder of
 * the same process, so their form is nobody else's.
 */
#ifndef OB_RECORD_H
#define OB_RECORD_H

#include "message.h"

/* Bytes of its record. */
size_t ob_record_size(const struct ob_row *row);

/* Writes so many bytes. `level`: see stage.h. */
void ob_record_write(char *to, const struct ob_row *row, int level);

/* Reads the record at `at`; the row points into it. Gives its size; 0: there is none, or no whole
 * one. */
size_t ob_record_read(const char *at, size_t len, struct ob_row *row);

/* Its size and level alone, and another level for it. */
size_t ob_record_head(const char *at, size_t len, int *level);
void ob_record_set_level(char *at, int level);

/* How many there are. */
unsigned ob_record_count(const char *at, size_t len);

#endif
