/* SPDX-License-Identifier: MIT
 *
 * inbox.h - for recipients: is this event new, a duplicate, stale, or is something missing?
 *
 * This file is the specification, in the manner of outbox.h. The sender repeats events after a
 * crash or a lost connection; the recipient lets an inbox judge each one, inside the transaction in
 * which it applies it. The two halves together apply each event once, in order, and know when one
 * is missing.
 *
 *   inbox_read(&message, room, &event, ...)       what MQTT brought, taken apart
 *   BEGIN IMMEDIATE
 *   inbox_accept(in, &event, &result)             the verdict, and the stream's new mark
 *   if (result.apply) ... your own writes ...
 *   COMMIT                                        only then acknowledge the message to the broker
 *
 * A stream is what one lane of one device sends: its name is the source without the epoch,
 * outbox://DEVICE/LANE of outbox://DEVICE/LANE/EPOCH. Each stream costs one row of constant size in
 * the table inbox_stream, however many events it has: its mark (the number of the last event that
 * was applied), its epoch, the last INBOX_RETIRED epochs before that, and the last INBOX_LATE
 * ranges of numbers that were passed over. [inbox-1]
 *
 * The rule. Numbers may skip, since the sender drops events (expired, evicted, superseded, dead
 * letters); `previous` says which event went ahead. So of the stream's current epoch an event
 * follows without gap if
 *
 *     sequence > mark   and   previous <= mark
 *
 *   | the event                                        | verdict         | apply | mark becomes |
 *   |--------------------------------------------------|-----------------|-------|--------------|
 *   | the first one of the stream that is seen here    | INBOX_NEW_EPOCH | yes   | sequence     |
 *   | follows without gap                              | INBOX_NEW       | yes   | sequence     |
 *   | sequence > mark, previous > mark                 | INBOX_GAP       | no    | stays        |
 *   | sequence <= mark, it was applied                 | INBOX_DUPLICATE | no    | stays        |
 *   | sequence <= mark, it was passed over, or so long | INBOX_STALE     | no    | stays        |
 *   |   ago that nobody knows                          |                 |       |              |
 *   | first one of an epoch not seen yet: previous = 0 | INBOX_NEW_EPOCH | yes   | sequence     |
 *   | not the first one of an epoch not seen yet       | INBOX_GAP       | no    | stays        |
 *   | of a retired epoch                               | INBOX_STALE     | no    | stays        |
 *
 * What a gap means, and how it ends:
 *
 *   - An event was refused by the broker, and those behind it arrived. The sender sends it again,
 * and all behind it: what was judged GAP comes once more. Do not apply it now.
 *   - Between two attempts the sender drops the missing event (it expires, is evicted, becomes a
 * dead letter). Then it sends those behind it again with another `previous`, and they follow
 * without gap: the numbers count as passed over.
 *   - The broker acknowledged an event and lost it. The sender has removed it: the gap never
 * closes. Whoever has waited long enough calls inbox_skip(). So keep what is judged GAP, or do not
 *     acknowledge it, until either happens; `outbox receive` shows how.
 *
 * Announcements (type outbox.dropped) are events of the stream like others, and are judged alike.
 * One that is applied adds to the stream's counts: how many events the sender says it dropped
 * (`announced`), and how many of these this inbox knows not to have (`lost`). The two differ where
 * an event had arrived before the sender dropped it, since its PUBACK was lost. One whose range
 * covers a whole gap, with no event in it that was not dropped, closes that gap.
 *
 * What cannot be told. Whether events before the first contact went elsewhere or are still to come:
 * if just then the first ones are refused and sent again, they are stale. The end of an epoch:
 * `previous` names events of its own epoch only, so if the broker loses the last events of one,
 * nobody misses them. An epoch that retired more than INBOX_RETIRED epochs ago counts as new. A
 * copy of a device's file under the same device name: to the inbox both are one stream; under a
 * name of its own it is a stream of its own, whose events are never taken for the other's.
 * [inbox-2]
 */
#ifndef OUTBOX_INBOX_H
#define OUTBOX_INBOX_H

#include <outbox/outbox.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct inbox inbox;

#define INBOX_RETIRED 8         /* epochs that are remembered behind the current one */
#define INBOX_LATE 8            /* ranges of numbers that are remembered as passed over */
#define INBOX_NAME_MAX 1024     /* bytes of a source, and of an id */
#define INBOX_ATTRIBUTES_MAX 48 /* attributes of one event */

/* Bytes with a length, not ended by NUL. `bytes` is NULL where there is nothing. */
typedef struct inbox_text {
    const char *bytes;
    size_t len;
} inbox_text;

/* ---- Reading a message ----------------------------------------------------------------------- */

typedef struct inbox_property {
    inbox_text name, value;
} inbox_property;

/* A PUBLISH as it arrived. On MQTT 3.1.1 there are payload and nothing else. */
typedef struct inbox_message {
    const void *payload;
    size_t payload_len;
    inbox_text content_type;          /* MQTT 5, 3.3.2.3.9 */
    const inbox_property *properties; /* user properties, MQTT 5, 3.3.2.3.7 */
    size_t property_count;
} inbox_message;

typedef enum inbox_form {
    INBOX_NO_EVENT,   /* no CloudEvent, and no event of an outbox in plain mode */
    INBOX_STRUCTURED, /* a CloudEvents JSON document */
    INBOX_BINARY,     /* attributes are user properties, also with the prefix ce- */
    INBOX_PLAIN       /* id, source, sequence and previous are user properties */
} inbox_form;

typedef enum inbox_data_kind {
    INBOX_NO_DATA,
    INBOX_BYTES,  /* the payload, or what base64 held */
    INBOX_STRING, /* a JSON string, without quotes and escapes; may hold NUL */
    INBOX_JSON    /* a JSON value, digit for digit as it was sent */
} inbox_data_kind;

/* What an announcement tells of; `count` is 0 where the event is none. */
typedef struct inbox_drops {
    inbox_text reason;
    int64_t count, from, to;
} inbox_drops;

/* An event. Zeroed but for source, id and sequence it is one that can be judged, too. */
typedef struct inbox_event {
    inbox_text source, id;
    int has_sequence, has_previous;           /* non-zero: the numbers below were given */
    int64_t sequence, previous;               /* 0 or more */
    inbox_text type, time, content_type, key; /* key: partitionkey */
    inbox_drops drops;
    inbox_form form;
    inbox_data_kind data_kind;
    inbox_text data;
    /* All attributes, those above and extensions, in the order of arrival and without prefix;
     * content type only where it is an attribute of the document. Numbers and booleans of JSON as
     * text. */
    inbox_property attributes[INBOX_ATTRIBUTES_MAX];
    size_t attribute_count;
} inbox_event;

/* Takes a message apart.
 *
 * Structured: a content type that begins with application/cloudevents, in any case; or none at all
 * and the payload is a JSON object with a specversion (MQTT 3.1.1, and senders that give none).
 * [read-1] Binary: the user properties specversion, id, source and type, or all four with the
 * prefix ce-; the content type is the data's. [read-2] Plain: the user properties id, source and
 * sequence. [read-3] Anything else is INBOX_NO_EVENT, and its data is the payload. [read-4]
 *
 * `sequence` and `previous` are exact in 63 bits, whether they are JSON strings, JSON numbers or
 * properties; what is no decimal number of 1 to 19 digits counts as not given. Escapes and
 * surrogate pairs become UTF-8. `data` of a JSON type is kept as it is; a string under another
 * type, or under none, is given without its quotes. [read-5] Names that are no CloudEvents names
 * (a-z 0-9) are passed over, and so are members that are null. [read-6]
 *
 * room     At least payload_len bytes; what is decoded goes there. The event points into it and
 * into the message, which must both live as long. sentence May be NULL. What is wrong with the
 * message.
 *
 * Needs neither memory nor a database; any thread. Returns OUTBOX_OK; OUTBOX_MISUSE (NULL);
 * OUTBOX_BAD_PAYLOAD (a batch, a format other than JSON, what is no JSON object, or base64 that is
 * none); or OUTBOX_BAD_ATTRIBUTE (one that is missing, given twice, empty, too long or not clean
 * UTF-8, an object, or more than INBOX_ATTRIBUTES_MAX of them). Then `event` is of form
 * INBOX_NO_EVENT. [read-7] */
int inbox_read(const inbox_message *message, char *room, inbox_event *event, char *sentence,
               size_t sentence_size);

/* ---- Open and close -------------------------------------------------------------------------- */

typedef struct inbox_config {
    /* A buffer for the particulars when opening fails, as there is no handle then. May be NULL. */
    char *sentence;
    size_t sentence_size;
} inbox_config;

/* Makes an inbox usable on this connection, in its main database.
 *
 * Makes the tables inbox_stream and inbox_meta when they are missing, in one transaction of its
 * own. [inbox-3] Registers a virtual table named inbox_statements on the connection, takes no hook
 * and changes no pragma. [inbox-4] The same file, and the same connection, may have an outbox too.
 * Call it outside a transaction, once per connection; other connections may have inboxes on the
 * same file.
 *
 * in       Out. Freed by inbox_close() only; sqlite3_close() succeeds before or after that, and
 * leaves a handle whose calls return OUTBOX_CLOSED. [inbox-5]
 *
 * Returns OUTBOX_MISUSE (NULL, an open transaction, opened already), OUTBOX_READONLY,
 * OUTBOX_NEWER_SCHEMA, OUTBOX_OLD_SQLITE, OUTBOX_BUSY, OUTBOX_DISK_FULL, OUTBOX_CORRUPT,
 * OUTBOX_NO_MEMORY or OUTBOX_SQLITE. On any error nothing changed, and *in is NULL. Only where
 * SQLite refuses to roll its own transaction back, that is still open, OUTBOX_SQLITE is returned
 * and `sentence` says so: run ROLLBACK. [inbox-6] */
int inbox_open(sqlite3 *db, const inbox_config *config, inbox **in);

/* Frees the handle. What an open transaction has accepted stays part of it. NULL is allowed. */
void inbox_close(inbox *in);

/* The particulars of the last call that failed on this handle: a sentence, never NULL. Valid until
 * the next call on the handle. [inbox-7] */
const char *inbox_errmsg(const inbox *in);

/* ---- Accept ---------------------------------------------------------------------------------- */

typedef enum inbox_verdict {
    INBOX_NEW,
    INBOX_NEW_EPOCH,
    INBOX_DUPLICATE,
    INBOX_STALE,
    INBOX_GAP
} inbox_verdict;

typedef struct inbox_result {
    inbox_verdict verdict;
    int apply;         /* non-zero for NEW and NEW_EPOCH */
    inbox_text stream; /* its name; points into the event's source */
    /* Non-zero: the inbox saw nothing of this stream before. It begins here; `before` is then the
     * last event that went elsewhere, 0 if there was none. That is no gap. [accept-3] */
    int first_contact;
    int64_t before;
    /* Non-zero: the event does not carry what the rule needs (see below). */
    int unproven;
    int64_t mark; /* of the stream, behind this event */
    /* GAP, and what inbox_skip() went over: the numbers among which something is missing. Not all
     * of them need be events. In an epoch not seen yet they begin at 1. */
    int64_t missing_from, missing_to;
    int64_t passed_over; /* numbers between the mark and this event that the sender does not send */
    int64_t lost;        /* an announcement: those of its events that were never applied here */
} inbox_result;

/* Judges an event, and if it is to be applied moves its stream's mark: in the transaction that is
 * open, or in one of its own. [accept-1]
 *
 * Open one, with BEGIN IMMEDIATE, and apply the event in it: then a crash or a ROLLBACK undoes the
 * verdict together with what was applied, and the event is new again when it comes again.
 * [accept-2] With a transaction of its own a crash between the verdict and your work loses the
 * event. In a deferred transaction that has read already, SQLite may answer OUTBOX_BUSY where
 * another connection wrote since.
 *
 * Takes two statements, of constant time, and writes one row; a verdict that does not apply writes
 * nothing. [accept-4]
 *
 * Events of other CloudEvents senders: the stream is the whole source, and has one epoch.
 * [accept-5] With `sequence` but without `previous` (CloudEvents, extension sequence; decimal
 * digits) they are NEW in ascending order, STALE or DUPLICATE else, and nobody knows whether one is
 * missing. Without `sequence` only the last id of each source is remembered: the same one again is
 * a DUPLICATE, any other is NEW, also an older one that is repeated. `unproven` is non-zero then.
 * [accept-6] Fire-and-forget events are such events with `sequence` but without `previous`: a
 * stream of their own, outbox://DEVICE/unstored, with a new epoch at each start of the sender.
 * [accept-8]
 *
 * Returns OUTBOX_OK and fills `result`. OUTBOX_MISUSE (NULL; a statement that writes runs on the
 * connection outside of BEGIN), OUTBOX_CLOSED, OUTBOX_BAD_ATTRIBUTE (source or id is missing or too
 * long; a source that begins with outbox:// and has not its form, or lacks a `sequence` that is the
 * id, or, but for fire and forget, `previous`), OUTBOX_BAD_ID (a number out of range: 1 to 2^48 and
 * previous below it, or negative where it is another sender's), OUTBOX_CORRUPT (the stream's row
 * holds what no inbox wrote) or an error of the database: nothing was judged, and nothing changed,
 * unless SQLite has rolled the whole transaction back. A transaction of its own that cannot be
 * rolled back is as with inbox_open(). [accept-7] */
int inbox_accept(inbox *in, const inbox_event *event, inbox_result *result);

/* The same, but where the verdict would be INBOX_GAP it goes on behind the gap: the verdict is
 * INBOX_NEW or INBOX_NEW_EPOCH, the missing numbers are in the result, and count as `forgone`. What
 * is missing is STALE if it comes after all. [skip-1] Every other verdict is as with
 * inbox_accept(). [skip-2] */
int inbox_skip(inbox *in, const inbox_event *event, inbox_result *result);

/* ---- Looking --------------------------------------------------------------------------------- */

typedef struct inbox_stream {
    const char *name, *epoch; /* epoch is empty for other CloudEvents senders */
    int64_t mark;
    int64_t applied;     /* events, announcements among them */
    int64_t passed_over; /* numbers that the sender did not send */
    int64_t forgone;     /* numbers that inbox_skip() went over */
    int64_t announced;   /* events that the sender said it has dropped */
    int64_t lost;        /* of these, the ones that were never applied here */
    int64_t epochs;      /* that began since the first contact */
} inbox_stream;

/* Calls `each` for every stream, by name; through any connection, without writing. Returns
 * OUTBOX_OK, OUTBOX_MISUSE, OUTBOX_NEWER_SCHEMA, OUTBOX_CORRUPT (there is no inbox in this file, or
 * a row cannot be read) or an error of the database; `sentence` (may be NULL) gets the particulars.
 * [look-1] */
int inbox_inspect(sqlite3 *db, void (*each)(void *context, const inbox_stream *stream),
                  void *context, char *sentence, size_t size);

/* Checks every row of inbox_stream, through any connection, without writing; `lane` of a finding is
 * the stream's name. Returns as outbox_verify() does. [look-2] */
int inbox_verify(sqlite3 *db, outbox_finding found, void *context);

#ifdef __cplusplus
}
#endif
#endif
