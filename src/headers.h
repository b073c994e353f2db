/* SPDX-License-Identifier: MIT
 *
 * headers.h - the headers of an event as one text: lines of NAME=VALUE, as the column holds them.
 *
 * A value has no control characters, so a line ends where it seems to; a name has no '='. Pure
 * functions over bytes with a length.
 */
#ifndef OB_HEADERS_H
#define OB_HEADERS_H

#include <outbox/outbox.h>
#include <stdbool.h>

/* What the column holds at most: the bytes that the limit counts. */
#define OB_HEADERS_TEXT OUTBOX_HEADERS_BYTES

struct ob_header {
    const char *name, *value;
    size_t name_len, value_len;
};

/* Takes the next line off the front of a text. False: there is none. Gives what is there, fit or
 * not. */
bool ob_headers_next(const char **at, const char *end, struct ob_header *header);

/* How many lines there are. */
size_t ob_headers_count(const char *text, size_t len);

/* Whether each line is a header that may be sent: the name is of the right characters, not one of
 * our own and not given twice, and the value clean; and whether they are not too many. */
bool ob_headers_are_fit(const char *text, size_t len);

/* Adds the headers of an event up to such a text, of which `*len` gets the length. NULL, or why
 * they are refused: a sentence that begins behind a name, `*culprit`. */
const char *ob_headers_join(const outbox_event *event, char text[OB_HEADERS_TEXT], size_t *len,
                            const char **culprit);

#endif
