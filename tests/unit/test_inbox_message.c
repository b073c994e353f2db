/* SPDX-License-Identifier: MIT
 *
 * test_inbox_message.c - what MQTT brought, taken apart: the vectors of CloudEvents, this library's
 * own messages in every mode, and what is refused.
 */
#include "support.h"

#include "message.h"

#include <outbox/inbox.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE "\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"s\",\"type\":\"t\""

static inbox_event event;
static char room[8192], sentence[200];

static inbox_text text(const char *from)
{
    return (inbox_text){from, from ? strlen(from) : 0};
}

static int read_document_of(const char *content_type, const char *document, size_t len)
{
    inbox_message message = {
        .payload = document, .payload_len = len, .content_type = text(content_type)};
    return inbox_read(&message, room, &event, sentence, sizeof sentence);
}

static int read_document(const char *document)
{
    return read_document_of("application/cloudevents+json; charset=utf-8", document,
                            strlen(document));
}

#define MOST 64

/* Names and values by turns, ended by NULL. */
static int read_properties(const char *content_type, const char *payload,
                           const char *const *properties)
{
    static inbox_property given[MOST];
    size_t count = 0;
    for (; properties[2 * count]; count++)
        given[count] =
            (inbox_property){text(properties[2 * count]), text(properties[2 * count + 1])};
    inbox_message message = {.payload = payload,
                             .payload_len = strlen(payload),
                             .content_type = text(content_type),
                             .properties = given,
                             .property_count = count};
    return inbox_read(&message, room, &event, sentence, sizeof sentence);
}

static void expect_text(const inbox_text *got, const char *wanted)
{
    if (!wanted) {
        assert_null(got->bytes);
        return;
    }
    assert_non_null(got->bytes);
    assert_int_equal(got->len, strlen(wanted));
    assert_memory_equal(got->bytes, wanted, got->len);
}

static void expect_attribute(const char *name, const char *value)
{
    inbox_text found = {NULL, 0};
    for (size_t i = 0; i < event.attribute_count; i++)
        if (event.attributes[i].name.len == strlen(name) &&
            memcmp(event.attributes[i].name.bytes, name, strlen(name)) == 0)
            found = event.attributes[i].value;
    expect_text(&found, value);
}

static void expect_data(inbox_data_kind kind, const char *data)
{
    assert_int_equal(event.data_kind, kind);
    expect_text(&event.data, data);
}

static void expect_read(int code)
{
    if (code != OUTBOX_OK)
        fail_msg("read: %d: %s", code, sentence);
}

static void expect_refused(int code, int wanted, const char *says)
{
    assert_int_equal(code, wanted);
    if (!strstr(sentence, says))
        fail_msg("\"%s\" does not say \"%s\"", sentence, says);
    assert_int_equal(event.form, INBOX_NO_EVENT);
    assert_int_equal(event.attribute_count, 0);
}

/* ---- Structured ------------------------------------------------------------------------------ */

/* [read-1] [read-5] */
static void test_a_structured_document_has_its_attributes_and_its_data(void **state)
{
    (void)state;
    expect_read(read_document(
        "{ \"data\" : {\"a\": [1, 2.50e3, \"}\\\"\"]} , \"specversion\":\"1.0\","
        "\"id\":\"42\",\"source\":\"outbox://pump/normal/ab\",\"type\":\"outbox.event\","
        "\"time\":\"2026-11-24T00:25:53.500Z\",\"sequence\":\"0000000000000000042\","
        "\"previous\":\"0000000000000000041\",\"partitionkey\":\"k\",\"sampledrate\":5,"
        "\"live\":true,\"comexample\":\"x\",\"gone\":null,"
        "\"datacontenttype\":\"application/json\"}"));
    assert_int_equal(event.form, INBOX_STRUCTURED);
    expect_text(&event.id, "42");
    expect_text(&event.source, "outbox://pump/normal/ab");
    expect_text(&event.type, "outbox.event");
    expect_text(&event.time, "2026-11-24T00:25:53.500Z");
    expect_text(&event.key, "k");
    expect_text(&event.content_type, "application/json");
    assert_true(event.has_sequence && event.has_previous);
    assert_int_equal(event.sequence, 42);
    assert_int_equal(event.previous, 41);
    expect_attribute("sampledrate", "5");
    expect_attribute("live", "true");
    expect_attribute("comexample", "x");
    expect_attribute("gone", NULL);
    expect_data(INBOX_JSON, "{\"a\": [1, 2.50e3, \"}\\\"\"]}");
}

/* [read-1] as on MQTT 3.1.1; vector 1 to 4 */
static void test_a_document_without_a_content_type_is_known_by_its_specversion(void **state)
{
    static const struct {
        const char *document;
        inbox_data_kind kind;
        const char *data;
    } cases[] = {
        {"{" BASE ",\"data_base64\":\"AAEC/w==\"}", INBOX_BYTES, NULL},
        {"{" BASE ",\"datacontenttype\":\"application/json\",\"data\":{\"a\":1}}", INBOX_JSON,
         "{\"a\":1}"},
        {"{" BASE ",\"datacontenttype\":\"text/plain\",\"data\":\"{\\\"a\\\":1}\"}", INBOX_STRING,
         "{\"a\":1}"},
        {"{" BASE ",\"datacontenttype\":\"application/json\",\"data\":\"text\"}", INBOX_JSON,
         "\"text\""},
        {"{" BASE ",\"data\":\"text\"}", INBOX_STRING, "text"},
        {"{" BASE ",\"data\":null}", INBOX_JSON, "null"},
        {"{" BASE ",\"data_base64\":null}", INBOX_NO_DATA, NULL},
        {"{" BASE ",\"data_base64\":\"\"}", INBOX_BYTES, ""},
        {" {" BASE "} ", INBOX_NO_DATA, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_read(read_document_of(NULL, cases[i].document, strlen(cases[i].document)));
        assert_int_equal(event.form, INBOX_STRUCTURED);
        assert_int_equal(event.data_kind, cases[i].kind);
        if (i == 0) {
            assert_int_equal(event.data.len, 4);
            assert_memory_equal(event.data.bytes, "\0\1\2\xff", 4);
        } else {
            expect_text(&event.data, cases[i].data);
        }
    }
}

/* [read-1] vector 8 */
static void test_a_content_type_is_read_in_any_case(void **state)
{
    static const char document[] = "{" BASE "}";
    static const char *const types[] = {"Application/CloudEvents+JSON",
                                        "application/cloudevents+json;charset=UTF-8",
                                        "application/cloudevents+json ; a=b"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        expect_read(read_document_of(types[i], document, strlen(document)));
        assert_int_equal(event.form, INBOX_STRUCTURED);
    }
}

/* [read-7] vector 9 */
static void test_batches_and_other_formats_are_refused(void **state)
{
    static const char *const types[] = {"application/cloudevents-batch+json",
                                        "application/cloudevents+avro", "application/cloudevents",
                                        "application/cloudevents+jsonl"};
    (void)state;
    for (size_t i = 0; i < 4; i++)
        expect_refused(read_document_of(types[i], "[]", 2), OUTBOX_BAD_PAYLOAD, types[i]);
}

/* [read-5] */
static void test_numbers_are_exact_in_64_bits(void **state)
{
    (void)state;
    expect_read(read_document("{" BASE ",\"sequence\":\"9223372036854775807\","
                              "\"previous\":9007199254740993}"));
    assert_true(event.has_sequence && event.has_previous);
    assert_int_equal(event.sequence, INT64_MAX);
    assert_int_equal(event.previous, INT64_C(9007199254740993));
    static const char *const none[] = {
        "\"9223372036854775808\"", "\"-1\"", "1.0", "1e3", "\"\"", "\"0x1\"", "\" 1\"", "true",
        "\"99999999999999999999\""};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        char document[200];
        sqlite3_snprintf(sizeof document, document, "{" BASE ",\"previous\":1,\"sequence\":%s}",
                         none[i]);
        expect_read(read_document(document));
        assert_false(event.has_sequence);
        assert_false(event.has_previous);
    }
}

/* [read-5] */
static void test_escapes_and_surrogate_pairs_become_utf_8(void **state)
{
    (void)state;
    expect_read(read_document(
        "{\"\\u0073pecversion\":\"1.0\",\"id\":"
        "\"\\u00e9\\u0436\\u20ac\\ud83d\\ude00\\uD83D\\uDE00\","
        "\"source\":\"a\\/b\\\\c\\\"d\",\"type\":\"t\",\"datacontenttype\":\"text/plain\","
        "\"data\":\"\\b\\f\\n\\r\\t\\u0000\\u007f\xc3\xa9\"}"));
    expect_text(&event.id, "\xc3\xa9\xd0\xb6\xe2\x82\xac\xf0\x9f\x98\x80\xf0\x9f\x98\x80");
    expect_text(&event.source, "a/b\\c\"d");
    assert_int_equal(event.data_kind, INBOX_STRING);
    assert_int_equal(event.data.len, 9);
    assert_memory_equal(event.data.bytes, "\b\f\n\r\t\0\x7f\xc3\xa9", 9);
}

/* [read-7] */
static void test_half_a_surrogate_pair_is_refused(void **state)
{
    (void)state;
    static const char *const halves[] = {"\\ud83d", "\\ude00", "\\ud83d\\u0041", "\\ud83dx",
                                         "\\ud83d\\n12345"};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        char document[200];
        sqlite3_snprintf(sizeof document, document, "{" BASE ",\"data\":\"%s\"}", halves[i]);
        expect_refused(read_document(document), OUTBOX_BAD_PAYLOAD, "surrogate");
        sqlite3_snprintf(sizeof document, document, "{" BASE ",\"subject\":\"%s\"}", halves[i]);
        expect_refused(read_document(document), OUTBOX_BAD_ATTRIBUTE, "surrogate");
        sqlite3_snprintf(sizeof document, document, "{" BASE ",\"%s\":1}", halves[i]);
        expect_refused(read_document(document), OUTBOX_BAD_PAYLOAD, "Unicode");
    }
}

/* [read-7] vectors 10, 11, 14 for documents */
static void test_a_document_that_is_no_event_is_refused_with_a_sentence(void **state)
{
    static const struct {
        const char *document;
        int code;
        const char *says;
    } cases[] = {
        {"", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"[]", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE "", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE "}}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{," BASE "}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE " \"x\":1}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",x:1}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",\"x\" 1}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",\"x\":}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",\"x\":1:2}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",\"data\":[1}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",\"data\":\"\xff\"}", OUTBOX_BAD_PAYLOAD, "no JSON object"},
        {"{" BASE ",\"data\":1,\"data\":2}", OUTBOX_BAD_PAYLOAD, "more than one data"},
        {"{" BASE ",\"data\":1,\"data_base64\":\"\"}", OUTBOX_BAD_PAYLOAD, "more than one data"},
        {"{" BASE ",\"data_base64\":\"\",\"data\":1}", OUTBOX_BAD_PAYLOAD, "more than one data"},
        {"{" BASE ",\"data_base64\":\"A\"}", OUTBOX_BAD_PAYLOAD, "no base64"},
        {"{" BASE ",\"data_base64\":\"A===\"}", OUTBOX_BAD_PAYLOAD, "no base64"},
        {"{" BASE ",\"data_base64\":\"AA A\"}", OUTBOX_BAD_PAYLOAD, "no base64"},
        {"{" BASE ",\"data_base64\":\"AA~A\"}", OUTBOX_BAD_PAYLOAD, "no base64"},
        {"{" BASE ",\"data_base64\":5}", OUTBOX_BAD_PAYLOAD, "no base64"},
        {"{" BASE ",\"id\":\"8\"}", OUTBOX_BAD_ATTRIBUTE, "id is there twice"},
        {"{" BASE ",\"\\u0069d\":\"8\"}", OUTBOX_BAD_ATTRIBUTE, "id is there twice"},
        {"{" BASE ",\"subject\":\"\\u0007\"}", OUTBOX_BAD_ATTRIBUTE, "control"},
        {"{" BASE ",\"subject\":\"\"}", OUTBOX_BAD_ATTRIBUTE, "subject is empty"},
        {"{" BASE ",\"anameoffortylettersormorewhichiscutinasentence\":\"\\u0007\"}",
         OUTBOX_BAD_ATTRIBUTE, "anameoffortylettersormorewhichiscutinase is not"},
        {"{" BASE ",\"extension\":{\"a\":1}}", OUTBOX_BAD_ATTRIBUTE, "object"},
        {"{" BASE ",\"extension\":[]}", OUTBOX_BAD_ATTRIBUTE, "array"},
        {"{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"s\"}", OUTBOX_BAD_ATTRIBUTE,
         "type is missing"},
        {"{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"s\",\"type\":\"t\"}",
         OUTBOX_BAD_ATTRIBUTE, "id is empty"},
        {"{\"specversion\":\"0.3\",\"id\":\"7\",\"source\":\"s\",\"type\":\"t\"}",
         OUTBOX_BAD_ATTRIBUTE, "0.3"},
        {"{\"id\":\"7\",\"source\":\"s\",\"type\":\"t\"}", OUTBOX_BAD_ATTRIBUTE,
         "specversion is missing"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refused(read_document(cases[i].document), cases[i].code, cases[i].says);
}

/* [read-7] */
static void test_too_many_attributes_and_too_long_names_are_refused(void **state)
{
    static char document[4096];
    (void)state;
    strcpy(document, "{" BASE);
    for (int i = 4; i <= INBOX_ATTRIBUTES_MAX; i++)
        sqlite3_snprintf(40, document + strlen(document), ",\"x%d\":1", i);
    strcat(document, "}");
    expect_refused(read_document(document), OUTBOX_BAD_ATTRIBUTE, "more than 48");
    (void)snprintf(document, sizeof document,
                   "{\"specversion\":\"1.0\",\"id\":\"%01025d\",\"source\":\"s\","
                   "\"type\":\"t\"}",
                   1);
    expect_refused(read_document(document), OUTBOX_BAD_ATTRIBUTE, "1024");
    (void)snprintf(document, sizeof document,
                   "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"%01025d\","
                   "\"type\":\"t\"}",
                   1);
    expect_refused(read_document(document), OUTBOX_BAD_ATTRIBUTE, "1024");
}

/* [read-6] vector 13 */
static void test_names_that_are_none_are_passed_over(void **state)
{
    (void)state;
    expect_read(read_document("{" BASE ",\"X-Foo\":\"\\u0001\",\"x_y\":{\"a\":1},\"\":1,"
                              "\"a{\":1,\"a-b\":1,\"foo\":\"bar\"}"));
    assert_int_equal(event.attribute_count, 5);
    expect_attribute("foo", "bar");
}

/* [read-1] the document is one deeper than the deepest payload that a put takes */
static void test_data_as_deep_as_a_put_takes_is_read(void **state)
{
    char document[400] = "{" BASE ",\"data\":";
    (void)state;
    for (int i = 0; i < OB_JSON_DEPTH; i++)
        strcat(document, "[");
    for (int i = 0; i < OB_JSON_DEPTH; i++)
        strcat(document, "]");
    strcat(document, "}");
    expect_read(read_document(document));
    assert_int_equal(event.data.len, 2 * OB_JSON_DEPTH);
}

/* ---- Properties ------------------------------------------------------------------------------ */

/* [read-2] vectors 5 and 6 */
static void test_a_binary_message_has_its_attributes_in_user_properties(void **state)
{
    static const char *const properties[] = {"specversion",
                                             "1.0",
                                             "id",
                                             "7",
                                             "source",
                                             "s",
                                             "type",
                                             "t",
                                             "time",
                                             "2026-01-01T00:00:00Z",
                                             "subject",
                                             "sub",
                                             "dataschema",
                                             "urn:x",
                                             "partitionkey",
                                             "k",
                                             "sequence",
                                             "0000000000000000007",
                                             "previous",
                                             "0000000000000000006",
                                             "X-Foo",
                                             "ignored",
                                             NULL};
    (void)state;
    expect_read(read_properties("text/plain; charset=utf-8", "warm", properties));
    assert_int_equal(event.form, INBOX_BINARY);
    expect_text(&event.content_type, "text/plain; charset=utf-8");
    expect_text(&event.time, "2026-01-01T00:00:00Z");
    expect_attribute("dataschema", "urn:x");
    assert_int_equal(event.attribute_count, 10);
    assert_int_equal(event.sequence, 7);
    assert_int_equal(event.previous, 6);
    expect_data(INBOX_STRING, "warm");
    expect_read(read_properties(NULL, "warm", properties));
    expect_text(&event.content_type, NULL);
    expect_data(INBOX_BYTES, "warm");
    expect_read(read_properties("application/json", "{\"a\":1.0}", properties));
    expect_data(INBOX_JSON, "{\"a\":1.0}");
    expect_read(read_properties("application/json", "{broken", properties));
    expect_data(INBOX_BYTES, "{broken");
    expect_read(read_properties("text/plain", "\xff", properties));
    expect_data(INBOX_BYTES, "\xff");
}

/* [read-2] vector 7, and the content type wins over the attribute */
static void test_a_binary_message_may_be_empty_and_repeat_its_content_type(void **state)
{
    static const char *const properties[] = {
        "datacontenttype", "text/x", "specversion", "1.0", "id", "7",
        "source",          "s",      "type",        "t",   NULL};
    (void)state;
    expect_read(read_properties(NULL, "", properties));
    assert_int_equal(event.data_kind, INBOX_NO_DATA);
    expect_text(&event.content_type, "text/x");
    expect_read(read_properties("text/plain", "", properties));
    expect_text(&event.content_type, "text/plain");
}

/* [read-2] vector 12 */
static void test_a_binary_message_may_have_the_prefix_of_other_bindings(void **state)
{
    static const char *const properties[] = {
        "ce-specversion", "1.0", "ce-id", "7",        "ce-source", "s", "ce-type", "t",
        "ce-sequence",    "9",   "id",    "not mine", "ce-",       "x", NULL};
    static const char *const half[] = {"ce-specversion", "1.0", "ce-id", "7", "source", "s",
                                       "type",           "t",   NULL};
    (void)state;
    expect_read(read_properties("text/plain", "x", properties));
    assert_int_equal(event.form, INBOX_BINARY);
    expect_text(&event.id, "7");
    assert_int_equal(event.sequence, 9);
    assert_int_equal(event.attribute_count, 5);
    expect_read(read_properties("text/plain", "x", half));
    assert_int_equal(event.form, INBOX_NO_EVENT);
}

/* [read-7] vector 10 */
static void test_a_property_that_is_there_twice_is_refused(void **state)
{
    static const char *const properties[] = {
        "specversion", "1.0", "id", "7", "source", "s", "type", "t", "type", "u", "x", "y", NULL};
    static const char *const empty[] = {"specversion", "1.0",  "id", "",  "source",
                                        "s",           "type", "t",  NULL};
    (void)state;
    expect_refused(read_properties(NULL, "", properties), OUTBOX_BAD_ATTRIBUTE, "twice");
    expect_refused(read_properties(NULL, "", empty), OUTBOX_BAD_ATTRIBUTE, "id is empty");
}

/* [read-3] */
static void test_a_plain_message_has_its_identity_beside_its_payload(void **state)
{
    static const char *const properties[] = {"id",       "42",
                                             "source",   "outbox://p/normal/ab",
                                             "sequence", "0000000000000000042",
                                             "previous", "0000000000000000041",
                                             NULL};
    (void)state;
    expect_read(read_properties("application/json", "[1]", properties));
    assert_int_equal(event.form, INBOX_PLAIN);
    expect_text(&event.type, NULL);
    assert_int_equal(event.sequence, 42);
    assert_int_equal(event.previous, 41);
    expect_data(INBOX_JSON, "[1]");
}

/* [read-4] vector 11 */
static void test_anything_else_is_no_event_and_has_its_payload(void **state)
{
    static const char *const some[] = {"specversion", "1.0", "id", "7", "source", "s", NULL};
    static const char *const none[] = {NULL};
    (void)state;
    expect_read(read_properties("text/plain", "hello", some));
    assert_int_equal(event.form, INBOX_NO_EVENT);
    expect_data(INBOX_STRING, "hello");
    expect_text(&event.content_type, "text/plain");
    expect_read(read_properties(NULL, "{\"celsius\":21}", none));
    assert_int_equal(event.form, INBOX_NO_EVENT);
    expect_read(read_properties(NULL, "{\"specversion\":\"1.0\",", none));
    assert_int_equal(event.form, INBOX_NO_EVENT);
    expect_data(INBOX_BYTES, "{\"specversion\":\"1.0\",");
    expect_read(read_properties("application/json", "{" BASE "}", none));
    assert_int_equal(event.form, INBOX_NO_EVENT);
    expect_read(read_properties(NULL, "", none));
    assert_int_equal(event.data_kind, INBOX_NO_DATA);
}

/* [read-7] */
static void test_null_is_misuse(void **state)
{
    inbox_message message = {.payload_len = 3};
    (void)state;
    assert_int_equal(inbox_read(NULL, room, &event, NULL, 0), OUTBOX_MISUSE);
    assert_int_equal(inbox_read(&message, room, &event, NULL, 0), OUTBOX_MISUSE);
    message.payload = "{}}";
    assert_int_equal(inbox_read(&message, NULL, &event, NULL, 0), OUTBOX_MISUSE);
    assert_int_equal(inbox_read(&message, room, NULL, NULL, 0), OUTBOX_MISUSE);
    message.content_type = text("application/cloudevents+json");
    assert_int_equal(inbox_read(&message, room, &event, NULL, 0), OUTBOX_BAD_PAYLOAD);
    assert_int_equal(inbox_read(&message, room, &event, sentence, 0), OUTBOX_BAD_PAYLOAD);
    message = (inbox_message){.property_count = 1};
    assert_int_equal(inbox_read(&message, NULL, &event, NULL, 0), OUTBOX_MISUSE);
    message = (inbox_message){.payload = NULL};
    assert_int_equal(inbox_read(&message, NULL, &event, NULL, 0), OUTBOX_OK);
}

/* ---- Announcements --------------------------------------------------------------------------- */

static void test_an_announcement_tells_how_much_was_dropped(void **state)
{
    (void)state;
    expect_read(read_document(
        "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"s\",\"type\":"
        "\"outbox.dropped\",\"datacontenttype\":\"application/json\",\"data\""
        ":{\"reason\":\"evicted\",\"count\":990,\"from\":1,\"to\":1000,\"since\":5}}"));
    expect_text(&event.drops.reason, "evicted");
    assert_int_equal(event.drops.count, 990);
    assert_int_equal(event.drops.from, 1);
    assert_int_equal(event.drops.to, 1000);
}

static void test_an_announcement_of_another_form_tells_nothing(void **state)
{
    static const char *const data[] = {
        "{\"reason\":\"evicted\",\"count\":990,\"from\":1}",
        "7",
        "\"x\"",
        "{\"reason\":5,\"count\":990,\"from\":1,\"to\":2}",
        "{\"reason\":50,\"count\":990,\"from\":1,\"to\":2}",
        "{\"reason\":\"x\",\"count\":-1,\"from\":1,\"to\":2}",
        "{\"reason\":\"x\",\"count\":1,\"count\":1,\"from\":1,\"to\":2}",
        "{\"reason\":\"x\",\"count\":1,\"count\":1,\"from\":1}",
        "[1]"};
    (void)state;
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        char document[300];
        sqlite3_snprintf(sizeof document, document,
                         "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"s\",\"type\":"
                         "\"outbox.dropped\",\"data\":%s}",
                         data[i]);
        expect_read(read_document(document));
        assert_int_equal(event.drops.count, 0);
    }
}

/* ---- Our own messages ------------------------------------------------------------------------ */

static void read_own(const struct ob_row *row, outbox_mode mode)
{
    static const struct ob_identity identity = {.lane = "urgent",
                                                .device = "pump-7",
                                                .epoch = {.first = 1, .digits = "0123456789abcdef"},
                                                .until = INT64_MAX};
    static char memory[16384];
    static inbox_property properties[MOST];
    struct ob_buffer buffer = {memory, sizeof memory, 0};
    const outbox_message *sent =
        ob_message_build(&buffer, row, &identity, 5, &(struct ob_form){mode, 0});
    assert_non_null(sent);
    for (size_t i = 0; i < sent->property_count; i++)
        properties[i] =
            (inbox_property){text(sent->properties[i].name), text(sent->properties[i].value)};
    inbox_message message = {.payload = sent->payload,
                             .payload_len = sent->payload_len,
                             .content_type = text(sent->content_type),
                             .properties = properties,
                             .property_count = sent->property_count};
    expect_read(inbox_read(&message, room, &event, sentence, sizeof sentence));
    expect_text(&event.source, "outbox://pump-7/urgent/0123456789abcdef");
    expect_text(&event.id, "281474976710655");
    assert_int_equal(event.sequence, INT64_C(281474976710655));
    assert_int_equal(event.previous, 5);
}

static struct ob_value value(int storage, const char *bytes)
{
    return (struct ob_value){storage, bytes, bytes ? strlen(bytes) : 0};
}

static void test_what_this_library_sends_is_read_byte_for_byte(void **state)
{
    struct ob_row row = {.id = INT64_C(281474976710655),
                         .created = INT64_C(1795479953500),
                         .has_created = 1,
                         .topic = value(SQLITE_TEXT, "plant/7"),
                         .key = value(SQLITE_TEXT, "k\"\\\xc3\xa9"),
                         .type = value(SQLITE_NULL, NULL),
                         .headers = value(SQLITE_NULL, NULL)};
    (void)state;
    row.content_type = value(SQLITE_TEXT, "application/json");
    row.payload = value(SQLITE_TEXT, " {\"a\":18446744073709551615, \"b\":\"\\u00e9\"} ");
    read_own(&row, OUTBOX_STRUCTURED);
    expect_data(INBOX_JSON, "{\"a\":18446744073709551615, \"b\":\"\\u00e9\"}");
    expect_text(&event.key, "k\"\\\xc3\xa9");
    expect_text(&event.type, "outbox.event");
    read_own(&row, OUTBOX_PLAIN);
    expect_data(INBOX_JSON, row.payload.bytes);
    read_own(&row, OUTBOX_BINARY);
    expect_data(INBOX_JSON, row.payload.bytes);
    expect_text(&event.key, "k\"\\\xc3\xa9");
    expect_text(&event.type, "outbox.event");
    row.content_type = value(SQLITE_TEXT, "text/plain");
    row.payload = value(SQLITE_TEXT, "\x01\x1f\"\\/\x7f\n\xf0\x9f\x98\x80");
    read_own(&row, OUTBOX_STRUCTURED);
    expect_data(INBOX_STRING, row.payload.bytes);
    row.content_type = value(SQLITE_NULL, NULL);
    read_own(&row, OUTBOX_STRUCTURED);
    expect_data(INBOX_STRING, row.payload.bytes);
    for (size_t len = 0; len < 9; len++) {
        row.payload = (struct ob_value){SQLITE_BLOB, "\x00\xff\xfe\x80\x41\x00\x3e\x3f", len};
        read_own(&row, OUTBOX_STRUCTURED);
        assert_int_equal(event.data_kind, INBOX_BYTES);
        assert_int_equal(event.data.len, len);
        if (len > 0)
            assert_memory_equal(event.data.bytes, row.payload.bytes, len);
    }
    row.payload = value(SQLITE_NULL, NULL);
    read_own(&row, OUTBOX_STRUCTURED);
    assert_int_equal(event.data_kind, INBOX_NO_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_structured_document_has_its_attributes_and_its_data),
        cmocka_unit_test(test_a_document_without_a_content_type_is_known_by_its_specversion),
        cmocka_unit_test(test_a_content_type_is_read_in_any_case),
        cmocka_unit_test(test_batches_and_other_formats_are_refused),
        cmocka_unit_test(test_numbers_are_exact_in_64_bits),
        cmocka_unit_test(test_escapes_and_surrogate_pairs_become_utf_8),
        cmocka_unit_test(test_half_a_surrogate_pair_is_refused),
        cmocka_unit_test(test_a_document_that_is_no_event_is_refused_with_a_sentence),
        cmocka_unit_test(test_too_many_attributes_and_too_long_names_are_refused),
        cmocka_unit_test(test_names_that_are_none_are_passed_over),
        cmocka_unit_test(test_data_as_deep_as_a_put_takes_is_read),
        cmocka_unit_test(test_a_binary_message_has_its_attributes_in_user_properties),
        cmocka_unit_test(test_a_binary_message_may_be_empty_and_repeat_its_content_type),
        cmocka_unit_test(test_a_binary_message_may_have_the_prefix_of_other_bindings),
        cmocka_unit_test(test_a_property_that_is_there_twice_is_refused),
        cmocka_unit_test(test_a_plain_message_has_its_identity_beside_its_payload),
        cmocka_unit_test(test_anything_else_is_no_event_and_has_its_payload),
        cmocka_unit_test(test_null_is_misuse),
        cmocka_unit_test(test_an_announcement_tells_how_much_was_dropped),
        cmocka_unit_test(test_an_announcement_of_another_form_tells_nothing),
        cmocka_unit_test(test_what_this_library_sends_is_read_byte_for_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
