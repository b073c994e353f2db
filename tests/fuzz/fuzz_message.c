/* SPDX-License-Identifier: MIT
 *
 * fuzz_message.c - any row of outbox_event, as any program may have stored it, to a message.
 *
 * A row is fit or not. One that is fit becomes a message in both modes within the room that the
 * forwarder reckons with, or none in less; the topic and the plain payload are those of the row;
 * the structured document is JSON for SQLite's parser, which is not ours, and has the row's parts;
 * Paho's packet has room for it. One that is not fit has a sentence and is never built.
 */
#include "fuzz.h"
#include "message.h"
#include "paho_message.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

static sqlite3_stmt *reading;

static const struct ob_identity identity = {.lane = "normal",
                                            .device = "pump-7",
                                            .epoch = {.first = 1, .digits = "0123456789abcdef"},
                                            .until = INT64_MAX};

void fuzz_prepare(void)
{
    sqlite3 *db = NULL;
    must(sqlite3_open(":memory:", &db) == SQLITE_OK, "there is a database");
    must(sqlite3_prepare_v2(db,
                            "SELECT json_valid(?1), json_extract(?1, '$.id'),"
                            " json_extract(?1, '$.partitionkey'), json_extract(?1, '$.type'),"
                            " json_extract(?1, '$.datacontenttype'), json_type(?1, '$.data'),"
                            " json_extract(?1, '$.data'), json_extract(?1, '$.data_base64')",
                            -1, &reading, NULL) == SQLITE_OK,
         "SQLite has JSON");
}

/* id 7, created 6, flags 1; five values, each a storage class, a length of two bytes and bytes. */
void fuzz_seeds(void)
{
    static const char *const values[][5] = {
        {"plant/7", "{\"a\":[1,2.5e3,null,\"\\u00e9\"]}", "level", "application/json", "k"},
        {"a/b", "text \x01 \" \\ \xc3\xa9", "t", "text/plain; charset=utf-8", "k"},
        {"a", "bytes", "t", "application/cloudevents+json", ""},
        {"no#topic", "x", "", "", ""},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char seed[512] = {0, 0, 0, 0, 0, 1, 2, 1, (char)0x8f, 0, 0, 0, 0, (char)i};
        size_t len = 14;
        for (int j = 0; j < 5; j++) {
            size_t value = strlen(values[i][j]);
            seed[len++] = value == 0 ? SQLITE_NULL : i == 2 && j == 1 ? SQLITE_BLOB : SQLITE_TEXT;
            seed[len++] = 0;
            seed[len++] = (char)value;
            memcpy(seed + len, values[i][j], value);
            len += value;
        }
        fuzz_seed(seed, len);
    }
}

/* With a NUL behind text, as SQLite gives it. */
static struct ob_value take_value(struct fuzz_input *input)
{
    struct ob_value value = {.storage = (int)(fuzz_number(input, 1) % 5) + 1};
    size_t len = (size_t)fuzz_number(input, 2);
    if (value.storage != SQLITE_TEXT && value.storage != SQLITE_BLOB)
        return value;
    value.bytes = fuzz_bytes(input, &len, value.storage == SQLITE_TEXT);
    value.len = len;
    return value;
}

static bool is_column(int column, const struct ob_value *value)
{
    const void *bytes = sqlite3_column_text(reading, column);
    size_t len = (size_t)sqlite3_column_bytes(reading, column);
    if (value->storage == SQLITE_NULL)
        return sqlite3_column_type(reading, column) == SQLITE_NULL;
    return bytes && len == value->len && memcmp(bytes, value->bytes, len) == 0;
}

static void check_data(const struct ob_row *row)
{
    const struct ob_value *payload = &row->payload;
    bool json = row->content_type.storage == SQLITE_TEXT &&
                ob_text_media(row->content_type.bytes, row->content_type.len) == OB_MEDIA_JSON;
    const char *kind = (const char *)sqlite3_column_text(reading, 5);
    must((payload->storage == SQLITE_TEXT) == (kind != NULL), "text travels as data");
    must((payload->storage == SQLITE_BLOB) == (sqlite3_column_type(reading, 7) != SQLITE_NULL),
         "bytes travel as base64");
    if (payload->storage == SQLITE_BLOB)
        must((size_t)sqlite3_column_bytes(reading, 7) == (payload->len + 2) / 3 * 4,
             "base64 has its length");
    if (kind && !json)
        must(strcmp(kind, "text") == 0, "text that is no JSON travels as a string");
    /* SQLite's JSON of that time ends a string at \u0000 where it is extracted. */
    if (kind && !json && payload->len > 0 && !memchr(payload->bytes, 0, payload->len))
        must(is_column(6, payload), "the string is the payload");
}

static const char structured[] = "application/cloudevents+json; charset=utf-8";

static void check_document(const struct ob_row *row, const outbox_message *message)
{
    char id[24];
    const struct ob_value own_type = {SQLITE_TEXT, "outbox.event", 12};
    sqlite3_snprintf((int)sizeof id, id, "%lld", (long long)row->id);
    must(ob_json_is_value(message->payload, message->payload_len), "the document is JSON");
    must(sqlite3_bind_text(reading, 1, message->payload, (int)message->payload_len,
                           SQLITE_STATIC) == SQLITE_OK,
         "the document can be bound");
    must(sqlite3_step(reading) == SQLITE_ROW, "SQLite reads the document");
    must(sqlite3_column_int(reading, 0) == 1, "the document is JSON for SQLite");
    must(is_column(1, &(struct ob_value){SQLITE_TEXT, id, strlen(id)}), "it has the id");
    must(is_column(2, &row->key), "it has the key");
    must(is_column(3, row->type.storage == SQLITE_NULL ? &own_type : &row->type),
         "it has the type");
    must(is_column(4, &row->content_type), "it has the content type");
    check_data(row);
    (void)sqlite3_reset(reading);
}

static void check_properties(const struct ob_row *row, const outbox_message *message,
                             outbox_mode mode)
{
    size_t first = mode == OUTBOX_BINARY ? 1 : 0;
    must(message->property_count >= 4, "the message has properties");
    must(strtoll(message->properties[first].value, NULL, 10) == row->id, "one is the id");
    for (size_t i = 0; i < message->property_count; i++) {
        const outbox_property *property = &message->properties[i];
        must(ob_text_is_attribute(property->value, strlen(property->value)), "a value is clean");
        for (size_t j = 0; j < i; j++)
            must(strcmp(property->name, message->properties[j].name) != 0, "a name comes once");
    }
}

static void check_message(const struct ob_row *row, const outbox_message *message, outbox_mode mode)
{
    must(strlen(message->topic) == row->topic.len &&
             memcmp(message->topic, row->topic.bytes, row->topic.len) == 0,
         "the topic is the row's");
    must(row->topic.len <= OUTBOX_TOPIC_MAX && !strpbrk(message->topic, "+#"),
         "a PUBLISH may carry the topic");
    must(outbox_paho_packet_size(message, 5) > message->payload_len &&
             outbox_paho_packet_size(message, 4) > message->payload_len,
         "a packet holds the message");
    must(!message->is_utf8 || ob_text_is_utf8(message->payload, message->payload_len),
         "what is said to be UTF-8 is");
    if (message->content_type &&
        strncmp(message->content_type, structured, sizeof structured - 1) == 0 &&
        mode != OUTBOX_PLAIN) {
        check_document(row, message);
        return;
    }
    must(message->payload_len == row->payload.len &&
             (row->payload.len == 0 ||
              memcmp(message->payload, row->payload.bytes, row->payload.len) == 0),
         "the plain payload is the row's");
    check_properties(row, message, mode);
}

static void build(const struct ob_row *row, outbox_mode mode, size_t room)
{
    struct ob_buffer buffer = {malloc(room + 1), room, 0};
    must(buffer.bytes != NULL, "there is memory");
    const outbox_message *message =
        ob_message_build(&buffer, row, &identity, row->id / 2, &(struct ob_form){mode, 0});
    must(message || room < ob_message_room(row->payload.len), "the room suffices");
    must(message || buffer.used == 0, "a message without room leaves nothing");
    must(buffer.used <= room, "nothing is used beyond the room");
    if (message)
        check_message(row, message, mode);
    free(buffer.bytes);
}

static void free_value(struct ob_value *value)
{
    free((char *)(uintptr_t)value->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    struct ob_row row = {0};
    row.id = (int64_t)(fuzz_number(&input, 7) % (OUTBOX_ID_MAX - 1)) + 1;
    row.created = (int64_t)fuzz_number(&input, 6);
    unsigned flags = (unsigned)fuzz_number(&input, 1);
    row.has_created = flags & 1;
    row.retain = flags >> 1 & 1;
    row.is_tombstone = (flags & 0xfc) == 0xfc;
    row.topic = take_value(&input);
    row.payload = take_value(&input);
    row.type = take_value(&input);
    row.content_type = take_value(&input);
    row.key = take_value(&input);
    row.headers = take_value(&input);
    row.expires = (int64_t)fuzz_number(&input, 6);
    enum ob_unfit unfit = ob_message_check(&row);
    must(unfit < OB_UNFITS && ob_unfit_sentence(unfit)[0], "each verdict has a sentence");
    if (unfit == OB_FIT) {
        size_t room = ob_message_room(row.payload.len);
        build(&row, OUTBOX_STRUCTURED, room);
        build(&row, OUTBOX_PLAIN, room);
        build(&row, OUTBOX_BINARY, room);
        build(&row, OUTBOX_STRUCTURED, (size_t)8 * flags % room);
        build(&row, OUTBOX_PLAIN, (size_t)8 * flags % room);
        build(&row, OUTBOX_BINARY, (size_t)8 * flags % room);
    }
    free_value(&row.topic);
    free_value(&row.payload);
    free_value(&row.type);
    free_value(&row.content_type);
    free_value(&row.key);
    free_value(&row.headers);
    return 0;
}
