/* SPDX-License-Identifier: MIT
 *
 * test_cloudevents.c - vectors of CloudEvents over MQTT, as far as they are about who sends.
 *
 * The numbers are those of the list of vectors that the project keeps: 1 to 7 and 14 are messages
 * to the byte. Those about a reader (8 to 13, 15) are here what a reader must never meet: a content
 * type in other letters, a batch, a name twice, an event without a type, a prefix that nobody asked
 * for, a name that no attribute has, and modes that differ in an attribute.
 */
#include "message.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SOURCE "outbox://pump-7/normal/0123456789abcdef"
#define ZEROS "0000000000000000"

static const struct ob_identity identity = {
    .lane = "normal",
    .device = "pump-7",
    .epoch = {.first = 1, .digits = "0123456789abcdef"},
    .until = INT64_MAX,
};

static char room[65536];
static struct ob_buffer buffer;

static int set_up(void **state)
{
    (void)state;
    buffer = (struct ob_buffer){room, sizeof room, 0};
    return 0;
}

static struct ob_value text(const char *string)
{
    return (struct ob_value){string ? SQLITE_TEXT : SQLITE_NULL, string,
                             string ? strlen(string) : 0};
}

static struct ob_row row_of(const char *content_type, struct ob_value payload)
{
    return (struct ob_row){.id = 42,
                           .topic = text("plant/7"),
                           .payload = payload,
                           .type = text(NULL),
                           .content_type = text(content_type),
                           .key = text(NULL),
                           .headers = text(NULL)};
}

static const outbox_message *build(const struct ob_row *row, outbox_mode mode, int ce_prefix)
{
    const struct ob_form form = {mode, ce_prefix};
    assert_int_equal(ob_message_check(row), OB_FIT);
    const outbox_message *message = ob_message_build(&buffer, row, &identity, 40, &form);
    assert_non_null(message);
    return message;
}

/* The document from its last fixed member on. */
static void assert_document(const struct ob_row *row, const char *tail)
{
    const outbox_message *message = build(row, OUTBOX_STRUCTURED, 0);
    char expected[1024];
    sqlite3_snprintf((int)sizeof expected, expected,
                     "{\"specversion\":\"1.0\",\"id\":\"42\",\"source\":\"" SOURCE
                     "\",\"type\":\"outbox.event\",\"sequence\":\"" ZEROS "042\","
                     "\"previous\":\"" ZEROS "040\"%s",
                     tail);
    assert_int_equal(message->payload_len, strlen(expected));
    assert_memory_equal(message->payload, expected, message->payload_len);
    assert_string_equal(message->content_type, "application/cloudevents+json; charset=utf-8");
    assert_int_equal(message->is_utf8, 1);
    assert_int_equal(message->property_count, 0);
}

static void assert_property(const outbox_message *message, size_t index, const char *name,
                            const char *value)
{
    assert_true(index < message->property_count);
    assert_string_equal(message->properties[index].name, name);
    assert_string_equal(message->properties[index].value, value);
}

static void test_1_bytes_are_data_base64_in_a_document(void **state)
{
    (void)state;
    struct ob_row row = row_of(NULL, (struct ob_value){SQLITE_BLOB, "\x00\xff\n", 3});
    assert_document(&row, ",\"data_base64\":\"AP8K\"}");
}

/* Digits, order, white space and names that come twice stay as they are: the value is not read. */
static void test_2_json_is_the_value_itself(void **state)
{
    (void)state;
    static const char *const values[] = {
        "{\"a\": [1.0, 1e400, -0, 12345678901234567890]}",
        "{\"a\":1,\"a\":2}",
        " null ",
        "0.1000000000000000055511151231257827",
        "\"\\ud800 \\u0000 \\/\"",
        "true",
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char tail[200];
        struct ob_row row = row_of("application/vnd.x+json", text(values[i]));
        sqlite3_snprintf((int)sizeof tail, tail,
                         ",\"datacontenttype\":\"application/vnd.x+json\",\"data\":%s}", values[i]);
        assert_document(&row, tail);
    }
}

static void test_3_text_is_a_string(void **state)
{
    (void)state;
    struct ob_row row = row_of("text/plain", text("{\"not\":\"json\"}"));
    assert_document(&row,
                    ",\"datacontenttype\":\"text/plain\",\"data\":\"{\\\"not\\\":\\\"json\\\"}\"}");
}

/* All of C0 is escaped; DEL, C1, the line ends of JavaScript and noncharacters need not be, and
 * data may hold them: the String type of CloudEvents forbids them in attributes alone. */
static void test_3_every_character_of_a_text_comes_through(void **state)
{
    (void)state;
    char all[32 + 32], escaped[400] = ",\"datacontenttype\":\"text/plain\",\"data\":\"";
    for (int i = 0; i < 32; i++)
        all[i] = (char)i;
    static const char rest[] = "\"\\/\x7f\xc2\x80\xe2\x80\xa8\xe2\x80\xa9\xef\xbf\xbe\xf4\x8f\xbf"
                               "\xbf";
    memcpy(all + 32, rest, sizeof rest - 1);
    for (int i = 0; i < 32; i++)
        sqlite3_snprintf(8, escaped + strlen(escaped), "\\u%04x", i);
    strcat(escaped, "\\\"\\\\");
    strcat(escaped, rest + 2);
    strcat(escaped, "\"}");
    struct ob_row row =
        row_of("text/plain", (struct ob_value){SQLITE_TEXT, all, 32 + sizeof rest - 1});
    assert_document(&row, escaped);
}

static void test_4_a_json_string_stays_one(void **state)
{
    (void)state;
    struct ob_row row = row_of("application/json", text("\"{\\\"a\\\":1}\""));
    assert_document(&row, ",\"datacontenttype\":\"application/json\",\"data\":\"{\\\"a\\\":1}\"}");
}

/* [mode-1] [mode-3] all core attributes and three extensions beside those of our own */
static void test_5_a_binary_message_has_each_attribute_as_a_user_property(void **state)
{
    (void)state;
    struct ob_row row = row_of("application/json", text("{\"c\":21.50}"));
    row.has_created = 1;
    row.created = 1700000000123;
    row.expires = 1700000060123;
    row.type = text("com.example.\"reading\"");
    row.key = text("sensor \xc3\xa4");
    row.headers =
        text("correlationid=order 9\nsubject=a%20b \"q\"\ndataschema=urn:x\nvendor1=v=w\n");
    const outbox_message *message = build(&row, OUTBOX_BINARY, 0);
    static const outbox_property expected[] = {
        {"specversion", "1.0"},
        {"id", "42"},
        {"source", SOURCE},
        {"type", "com.example.\"reading\""},
        {"time", "2023-11-14T22:13:20.123Z"},
        {"sequence", ZEROS "042"},
        {"previous", ZEROS "040"},
        {"recordedtime", "2023-11-14T22:13:20.123Z"},
        {"partitionkey", "sensor \xc3\xa4"},
        {"expirytime", "2023-11-14T22:14:20.123Z"},
        {"correlationid", "order 9"},
        {"subject", "a%20b \"q\""},
        {"dataschema", "urn:x"},
        {"vendor1", "v=w"},
    };
    assert_int_equal(message->property_count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_property(message, i, expected[i].name, expected[i].value);
    assert_string_equal(message->content_type, "application/json");
    assert_int_equal(message->payload_len, row.payload.len);
    assert_memory_equal(message->payload, row.payload.bytes, row.payload.len);
    assert_int_equal(message->is_utf8, 1);
}

static void test_6_without_a_content_type_there_is_none(void **state)
{
    (void)state;
    struct ob_row row = row_of(NULL, (struct ob_value){SQLITE_BLOB, "\x00\xff", 2});
    const outbox_message *message = build(&row, OUTBOX_BINARY, 0);
    assert_null(message->content_type);
    assert_int_equal(message->is_utf8, 0);
    assert_int_equal(message->payload_len, 2);
}

static void test_7_without_data_the_payload_is_empty(void **state)
{
    (void)state;
    struct ob_row row = row_of("application/json", text(NULL));
    const outbox_message *message = build(&row, OUTBOX_BINARY, 0);
    assert_int_equal(message->payload_len, 0);
    assert_string_equal(message->content_type, "application/json");
    assert_document(&row, ",\"datacontenttype\":\"application/json\"}");
}

/* 8, 9: [mode-4] a reader would take the payload for the event itself, or for a batch */
static void test_8_9_what_looks_structured_is_never_sent_in_binary_mode(void **state)
{
    (void)state;
    static const char *const types[] = {"application/cloudevents+json",
                                        "Application/CloudEvents+JSON; charset=UTF-8",
                                        "application/cloudevents-batch+json",
                                        "application/cloudevents+avro", "application/cloudevents"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct ob_row row = row_of(types[i], text("{}"));
        const outbox_message *message = build(&row, OUTBOX_BINARY, 0);
        assert_string_equal(message->content_type, "application/cloudevents+json; charset=utf-8");
        assert_int_equal(message->property_count, 0);
        assert_string_equal(build(&row, OUTBOX_PLAIN, 0)->content_type, types[i]);
    }
    struct ob_row row = row_of("application/cloudevent+json", text("{}"));
    assert_string_equal(build(&row, OUTBOX_BINARY, 0)->content_type, "application/cloudevent+json");
}

/* 10, 13 */
static void test_10_13_a_name_that_is_there_already_or_is_no_name_is_unfit(void **state)
{
    (void)state;
    static const char *const headers[] = {"id=7", "a=1\na=2", "X-Foo=1", "specversion=1.0",
                                          "datacontenttype=text/plain"};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct ob_row row = row_of(NULL, text(NULL));
        row.headers = text(headers[i]);
        assert_int_equal(ob_message_check(&row), OB_UNFIT_HEADERS);
    }
}

static void test_11_an_event_without_a_type_is_given_one(void **state)
{
    (void)state;
    struct ob_row row = row_of(NULL, text(NULL));
    assert_property(build(&row, OUTBOX_BINARY, 0), 3, "type", "outbox.event");
}

/* [mode-6] */
static void test_12_names_have_a_prefix_only_where_it_is_asked_for(void **state)
{
    (void)state;
    struct ob_row row = row_of("text/plain", text("x"));
    row.headers = text("site=7");
    const outbox_message *with = build(&row, OUTBOX_BINARY, 1);
    const outbox_message *without = build(&row, OUTBOX_BINARY, 0);
    assert_int_equal(with->property_count, without->property_count);
    for (size_t i = 0; i < with->property_count; i++) {
        assert_memory_equal(with->properties[i].name, "ce-", 3);
        assert_string_equal(with->properties[i].name + 3, without->properties[i].name);
        assert_string_equal(with->properties[i].value, without->properties[i].value);
    }
    assert_string_equal(with->content_type, "text/plain");
}

static void test_14_a_control_character_is_refused_in_a_subject(void **state)
{
    (void)state;
    static const char *const subjects[] = {"subject=a\x01", "subject=\x7f", "subject=\xc2\x85",
                                           "subject=\xef\xb7\x90", "subject=\xed\xa0\x80"};
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        struct ob_row row = row_of(NULL, text(NULL));
        row.headers = text(subjects[i]);
        assert_int_equal(ob_message_check(&row), OB_UNFIT_HEADERS);
    }
}

/* 15: read back with SQLite's JSON, each property of the one is the member of the other. */
static void test_15_both_modes_say_the_same(void **state)
{
    (void)state;
    struct ob_row row = row_of("text/plain", text("\"warm\"\n"));
    row.has_created = 1;
    row.created = row.expires = 1700000000123;
    row.key = text("a \"key\"");
    row.headers = text("correlationid=\\u0041\nsite=\"7\"\nsubject=\xe2\x80\xa8\n");
    const outbox_message *document = build(&row, OUTBOX_STRUCTURED, 0);
    const outbox_message *binary = build(&row, OUTBOX_BINARY, 0);
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT value FROM json_each(?1) WHERE key = ?2", -1, &s, NULL),
        SQLITE_OK);
    sqlite3_bind_text(s, 1, document->payload, (int)document->payload_len, SQLITE_STATIC);
    for (size_t i = 0; i < binary->property_count; i++) {
        sqlite3_bind_text(s, 2, binary->properties[i].name, -1, SQLITE_STATIC);
        assert_int_equal(sqlite3_step(s), SQLITE_ROW);
        assert_string_equal((const char *)sqlite3_column_text(s, 0), binary->properties[i].value);
        assert_int_equal(sqlite3_reset(s), SQLITE_OK);
    }
    sqlite3_bind_text(s, 2, "data", -1, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    assert_int_equal((size_t)sqlite3_column_bytes(s, 0), binary->payload_len);
    assert_memory_equal(sqlite3_column_text(s, 0), binary->payload, binary->payload_len);
    assert_int_equal(sqlite3_finalize(s), SQLITE_OK);
    /* And nothing else: all properties, the content type and the data. */
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM json_each(?1)", -1, &s, NULL),
                     SQLITE_OK);
    sqlite3_bind_text(s, 1, document->payload, (int)document->payload_len, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(s, 0), (int)binary->property_count + 2);
    assert_int_equal(sqlite3_finalize(s), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* [mode-2] */
static void test_a_plain_message_carries_what_the_event_was_given(void **state)
{
    (void)state;
    struct ob_row row = row_of("text/plain", text("x"));
    row.has_created = 1;
    row.created = row.expires = 1700000000123;
    row.key = text("k");
    row.headers = text("traceparent=00-1\n");
    const outbox_message *message = build(&row, OUTBOX_PLAIN, 0);
    assert_int_equal(message->property_count, 7);
    assert_property(message, 0, "id", "42");
    assert_property(message, 3, "previous", ZEROS "040");
    assert_property(message, 4, "partitionkey", "k");
    assert_property(message, 5, "expirytime", "2023-11-14T22:13:20.123Z");
    assert_property(message, 6, "traceparent", "00-1");
}

static void test_an_expiry_that_no_clock_gave_has_no_time(void **state)
{
    (void)state;
    static const int64_t none[] = {0, -60000, INT64_MIN, 60000, INT64_C(253402300800000)};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        struct ob_row row = row_of(NULL, text(NULL));
        row.expires = none[i];
        assert_document(&row, "}");
    }
}

static void test_previous_is_written_anew_in_every_mode(void **state)
{
    (void)state;
    struct ob_row row = row_of(NULL, text(NULL));
    ob_message_set_previous(build(&row, OUTBOX_BINARY, 1), 41);
    const outbox_message *message = build(&row, OUTBOX_BINARY, 1);
    ob_message_set_previous(message, 41);
    assert_property(message, 5, "ce-previous", ZEROS "041");
    message = build(&row, OUTBOX_PLAIN, 0);
    ob_message_set_previous(message, 41);
    assert_property(message, 3, "previous", ZEROS "041");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        TEST(test_1_bytes_are_data_base64_in_a_document),
        TEST(test_2_json_is_the_value_itself),
        TEST(test_3_text_is_a_string),
        TEST(test_3_every_character_of_a_text_comes_through),
        TEST(test_4_a_json_string_stays_one),
        TEST(test_5_a_binary_message_has_each_attribute_as_a_user_property),
        TEST(test_6_without_a_content_type_there_is_none),
        TEST(test_7_without_data_the_payload_is_empty),
        TEST(test_8_9_what_looks_structured_is_never_sent_in_binary_mode),
        TEST(test_10_13_a_name_that_is_there_already_or_is_no_name_is_unfit),
        TEST(test_11_an_event_without_a_type_is_given_one),
        TEST(test_12_names_have_a_prefix_only_where_it_is_asked_for),
        TEST(test_14_a_control_character_is_refused_in_a_subject),
        TEST(test_15_both_modes_say_the_same),
        TEST(test_a_plain_message_carries_what_the_event_was_given),
        TEST(test_an_expiry_that_no_clock_gave_has_no_time),
        TEST(test_previous_is_written_anew_in_every_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
