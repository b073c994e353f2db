/* SPDX-License-Identifier: MIT
 *
 * json_read.h - the members of a JSON object one after the other, and what a JSON string says.
 *
 * Pure functions over bytes with a length, like those of text.h. A value is given as it stands, so
 * numbers stay digit for digit.
 */
#ifndef OB_JSON_READ_H
#define OB_JSON_READ_H

#include <outbox/inbox.h>
#include <stdbool.h>

struct ob_json_object {
    const char *at, *end;
    bool has_begun, is_broken;
};

/* Begins to read. What is no object is broken. */
void ob_json_open(struct ob_json_object *object, const char *bytes, size_t len);

/* The next member: its name as a JSON string, and its value, both without white space around them.
 * Each is one whole JSON value, nested at most OB_JSON_DEPTH deep. False at the end of the object,
 * and where `is_broken`. */
bool ob_json_next(struct ob_json_object *object, inbox_text *name, inbox_text *value);

/* The characters of a JSON string in UTF-8. They point into the string, or to `*room`, which is
 * moved behind them; the string's own length is room enough. False for what is no string, and for
 * half a surrogate pair, which UTF-8 has no form for. */
bool ob_json_string(const inbox_text *value, char **room, inbox_text *text);

#endif
