/* SPDX-License-Identifier: MIT
 *
 * fuzz_inbox.c - any message that a broker may deliver, read and judged.
 *
 * Reading never steps out of the message nor of the room, which has the payload's length. What is
 * read as an event has what an event must have. A document that is read is JSON for SQLite too,
 * which finds the same id and data. Judging changes the mark only where the event is to be applied,
 * and the same event is never applied twice in a row, unless it has no number and another id came
 * between.
 */
#include "fuzz.h"
#include "text.h"

#include <outbox/inbox.h>

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

static sqlite3 *db;
static sqlite3_stmt *reading;
static inbox *in;

void fuzz_prepare(void)
{
    must(sqlite3_open(":memory:", &db) == SQLITE_OK, "there is a database");
    must(sqlite3_prepare_v2(db, "SELECT json_valid(?1), json_extract(?1, '$.id')", -1, &reading,
                            NULL) == SQLITE_OK,
         "SQLite has JSON");
    must(inbox_open(db, NULL, &in) == OUTBOX_OK, "there is an inbox");
}

/* Content type, then properties: each a length of one byte and bytes, 0 ends them; then the
 * payload. A length of 255 is nothing at all. */
static void seed(const char *content_type, const char *const *properties, const char *payload)
{
    char bytes[1024];
    size_t len = 0;
    bytes[len++] = (char)(content_type ? (int)strlen(content_type) : 255);
    for (const char *at = content_type; at && *at; at++)
        bytes[len++] = *at;
    for (int i = 0; properties && properties[i]; i++) {
        bytes[len++] = (char)strlen(properties[i]);
        memcpy(bytes + len, properties[i], strlen(properties[i]));
        len += strlen(properties[i]);
    }
    bytes[len++] = 0;
    memcpy(bytes + len, payload, strlen(payload));
    fuzz_seed(bytes, len + strlen(payload));
}

void fuzz_seeds(void)
{
    static const char *const plain[] = {"id",       "7", "source",   "outbox://p/normal/ab",
                                        "sequence", "7", "previous", "0000000000000000006",
                                        NULL};
    static const char *const binary[] = {"ce-specversion", "1.0", "ce-id", "7", "ce-source", "s",
                                         "ce-type",        "t",   NULL};
    seed("application/cloudevents+json", NULL,
         "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"outbox://p/normal/ab\",\"type\":"
         "\"outbox.dropped\",\"sequence\":\"0000000000000000007\",\"previous\":\"6\",\"data\":"
         "{\"reason\":\"evicted\",\"count\":2,\"from\":1,\"to\":4}}");
    seed(NULL, NULL,
         "{\"specversion\":\"1.0\",\"id\":\"\\ud83d\\ude00\",\"source\":\"s\",\"type\":\"t\","
         "\"data_base64\":\"AAEC/w==\",\"sequence\":9,\"x\":true}");
    seed("text/plain", plain, "warm");
    seed("application/json", binary, "{\"a\":[1]}");
    seed("application/cloudevents-batch+json", NULL, "[]");
}

enum { PROPERTIES = 64 };

static inbox_text take_text(struct fuzz_input *input)
{
    size_t len = (size_t)fuzz_number(input, 1);
    if (len == 255)
        return (inbox_text){NULL, 0};
    const char *bytes = fuzz_bytes(input, &len, false);
    return (inbox_text){bytes, len};
}

static void give_back(const inbox_text *text)
{
    free((char *)(uintptr_t)text->bytes);
}

static void check_document(const inbox_message *message, const inbox_event *event)
{
    must(sqlite3_bind_text(reading, 1, message->payload, (int)message->payload_len,
                           SQLITE_STATIC) == SQLITE_OK &&
             sqlite3_step(reading) == SQLITE_ROW,
         "SQLite looks at the document");
    const void *id = sqlite3_column_text(reading, 1);
    size_t len = (size_t)sqlite3_column_bytes(reading, 1);
    must(sqlite3_column_int(reading, 0) == 1, "what was read is JSON for SQLite");
    /* SQLite of that time does not look into the names that have escapes. */
    if (id && !memchr(message->payload, '\\', message->payload_len))
        must(len == event->id.len && memcmp(id, event->id.bytes, len) == 0, "the id is the same");
    (void)sqlite3_reset(reading);
}

static void check_event(const inbox_message *message, const inbox_event *event)
{
    must(event->id.len > 0 && event->source.len > 0, "an event has id and source");
    must(event->attribute_count <= INBOX_ATTRIBUTES_MAX, "attributes are bounded");
    must(event->form == INBOX_PLAIN || event->type.len > 0, "a CloudEvent has a type");
    must(!event->has_previous || event->has_sequence, "previous comes with a sequence");
    must(event->sequence >= 0 && event->previous >= 0, "numbers are not negative");
    must(event->data_kind != INBOX_JSON || ob_json_is_value(event->data.bytes, event->data.len),
         "JSON data is JSON");
    must(event->data_kind != INBOX_STRING || ob_text_is_utf8(event->data.bytes, event->data.len),
         "string data is UTF-8");
    if (event->form == INBOX_STRUCTURED)
        check_document(message, event);
}

static void judge(const inbox_event *event)
{
    inbox_result first, again;
    int code = inbox_accept(in, event, &first);
    must(code == OUTBOX_OK || code == OUTBOX_BAD_ATTRIBUTE || code == OUTBOX_BAD_ID,
         "judging gives a documented code");
    if (code != OUTBOX_OK)
        return;
    must(inbox_accept(in, event, &again) == OUTBOX_OK, "it can be judged again");
    must(!again.apply, "what was judged is not applied twice");
    must(first.apply || first.verdict == again.verdict, "a verdict that changes nothing stays");
    must(again.mark == first.mark, "the mark moves only with what is applied");
    must(inbox_skip(in, event, &again) == OUTBOX_OK, "a gap can be skipped");
    must(again.apply == (first.verdict == INBOX_GAP), "and nothing else can");
    must(inbox_verify(db, NULL, NULL) == OUTBOX_OK, "the tables are sound");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    inbox_property properties[PROPERTIES];
    inbox_message message = {.content_type = take_text(&input), .properties = properties};
    inbox_event event;
    while (message.property_count < PROPERTIES && input.at < input.end && *input.at != 0) {
        inbox_property *property = &properties[message.property_count++];
        property->name = take_text(&input);
        property->value = take_text(&input);
    }
    (void)fuzz_number(&input, 1);
    message.payload_len = (size_t)(input.end - input.at);
    char *payload = fuzz_bytes(&input, &message.payload_len, false);
    char *room = malloc(message.payload_len > 0 ? message.payload_len : 1);
    must(room != NULL, "there is memory");
    message.payload = payload;
    int code = inbox_read(&message, room, &event, NULL, 0);
    must(code == OUTBOX_OK || code == OUTBOX_BAD_PAYLOAD || code == OUTBOX_BAD_ATTRIBUTE,
         "reading gives a documented code");
    must(code == OUTBOX_OK || event.form == INBOX_NO_EVENT, "what is refused is no event");
    if (event.form != INBOX_NO_EVENT) {
        check_event(&message, &event);
        judge(&event);
    }
    if (sqlite3_total_changes(db) % 64 == 63)
        must(sqlite3_exec(db, "DELETE FROM inbox_stream", NULL, NULL, NULL) == SQLITE_OK,
             "streams can be forgotten");
    for (size_t i = 0; i < message.property_count; i++) {
        give_back(&properties[i].name);
        give_back(&properties[i].value);
    }
    give_back(&message.content_type);
    free(payload);
    free(room);
    return 0;
}
