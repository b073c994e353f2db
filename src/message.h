/* SPDX-License-Identifier: MIT
 *
 * message.h - from a row of outbox_event to what goes on the wire.
 */
#ifndef OB_MESSAGE_H
#define OB_MESSAGE_H

#include "schema.h"
#include "text.h"

#include <outbox/port.h>

/* A row as it was fetched. Pointers into SQLite's memory, lengths without a NUL; the storage
 * classes are kept because other writers may store anything anywhere. */
struct ob_value {
    int storage; /* SQLITE_NULL, _INTEGER, _FLOAT, _TEXT or _BLOB */
    const char *bytes;
    size_t len;
};

struct ob_row {
    int64_t id, created, expires;
    int retain, keep_last, is_tombstone, has_created;
    int is_too_large; /* only the id was read */
    struct ob_value topic, payload, type, content_type, key, headers;
};

/* Why a row can never be sent. The sentence goes into outbox_dead. */
#define OB_UNFIT_MAP(X)                                                                            \
    X(OB_FIT, "fit")                                                                               \
    X(OB_UNFIT_TOPIC,                                                                              \
      "the topic is no text, empty, too long, not UTF-8 or holds +, # or a control")               \
    X(OB_UNFIT_PAYLOAD, "the payload is a number; store text or a blob")                           \
    X(OB_UNFIT_TEXT, "the payload is text but not UTF-8; store it as a blob")                      \
    X(OB_UNFIT_JSON, "the content type is JSON and the payload is not one JSON value")             \
    X(OB_UNFIT_ATTRIBUTE,                                                                          \
      "type, content type or key is no text, empty, too long or not clean UTF-8")                  \
    X(OB_UNFIT_HEADERS,                                                                            \
      "headers is no text of lines NAME=VALUE, too long, or has a name twice or a reserved one")   \
    X(OB_UNFIT_MARK, "the row carries the mark of the tombstone")                                  \
    X(OB_UNFIT_LATE, "the id is below events that were sent already")                              \
    X(OB_UNFIT_ID, "the id is over 2^48")                                                          \
    X(OB_UNFIT_REFUSED, "the broker refused it")                                                   \
    X(OB_UNFIT_HUNG_UP, "the broker hung up each time that it was sent alone")                     \
    X(OB_UNFIT_LARGE, "it is over the forwarder's payload_max or buffer_size")

enum ob_unfit {
#define OB_UNFIT_ENUM(name, sentence) name,
    OB_UNFIT_MAP(OB_UNFIT_ENUM)
#undef OB_UNFIT_ENUM
        OB_UNFITS
};

const char *ob_unfit_sentence(enum ob_unfit unfit);

/* The same, with the broker's reason code and its name where it is one of those. */
#define OB_REASON_TEXT 120
void ob_unfit_text(enum ob_unfit unfit, int reason, char text[OB_REASON_TEXT]);

/* The same rules as outbox_put(), for rows of writers that did not ask. */
enum ob_unfit ob_message_check(const struct ob_row *row);

/* A buffer that is filled from the front and emptied as a whole. */
struct ob_buffer {
    char *bytes;
    size_t size, used;
};

/* What lies in the buffer for an event: the message, and what the sender needs beside it. */
struct ob_message {
    outbox_message wire;
    char *previous;      /* its digits, wherever they stand in the message; NULL: none */
    int64_t epoch_first; /* the first id of its epoch */
    int64_t expires;     /* as in the row */
    const char *key;     /* of an event that supersedes older ones, else NULL */
};

#define OB_NO_PREVIOUS INT64_C(-1)

/* What a message looks like. */
struct ob_form {
    outbox_mode mode;
    int ce_prefix; /* in mode OUTBOX_BINARY: "ce-" in front of each name */
};

/* Builds the message of a row that passed the check, behind what the buffer holds; it is the first
 * member of a struct ob_message. `previous` is the last id of the same epoch that was delivered or
 * is in flight ahead, 0 if none, OB_NO_PREVIOUS where nobody is to be told. NULL when the room does
 * not suffice: the buffer is as it was. */
const outbox_message *ob_message_build(struct ob_buffer *buffer, const struct ob_row *row,
                                       const struct ob_identity *identity, int64_t previous,
                                       const struct ob_form *form);

/* The struct around a message that was built here. */
const struct ob_message *ob_message_of(const outbox_message *message);

/* Writes another `previous` into a message: what went ahead is known for sure only when it is
 * sent. */
void ob_message_set_previous(const outbox_message *message, int64_t previous);

/* A buffer of this size holds any one message of this payload size, in every mode. */
size_t ob_message_room(size_t payload_max);

#endif
