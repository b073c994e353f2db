/* SPDX-License-Identifier: MIT
 *
 * test_message.c - rows to messages: CloudEvents documents to the byte, and plain messages.
 *
 * A resend after a crash is built from the row anew and must be the same message. So the documents
 * are compared byte by byte, and SQLite's JSON parser reads them as a recipient would.
 */
#include "message.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define MS_2000 INT64_C(946684800000)
#define MS_10000 INT64_C(253402300800000)

static const struct ob_identity identity = {
    .lane = "normal",
    .device = "pump-7",
    .epoch = {.first = 1, .digits = "0123456789abcdef"},
    .until = INT64_MAX,
};

static struct ob_value bytes_value(int storage, const char *bytes, size_t len)
{
    return (struct ob_value){.storage = storage, .bytes = bytes, .len = len};
}

static struct ob_value text(const char *string)
{
    return bytes_value(SQLITE_TEXT, string, strlen(string));
}

static struct ob_value blob(const char *bytes, size_t len)
{
    return bytes_value(SQLITE_BLOB, bytes, len);
}

static struct ob_value null(void)
{
    return bytes_value(SQLITE_NULL, NULL, 0);
}

/* An event with nothing but its topic; without a time, so that documents are short. */
static struct ob_row bare_row(void)
{
    return (struct ob_row){
        .id = 42,
        .topic = text("plant/7"),
        .payload = null(),
        .type = null(),
        .content_type = null(),
        .key = null(),
        .headers = null(),
    };
}

static struct ob_row row_with(struct ob_value payload, struct ob_value content_type)
{
    struct ob_row row = bare_row();
    row.payload = payload;
    row.content_type = content_type;
    return row;
}

/* ---- A buffer per test ----------------------------------------------------------------------- */

enum { ROOM = 65536 };

static int set_up(void **state)
{
    struct ob_buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return -1;
    buffer->bytes = malloc(ROOM);
    buffer->size = ROOM;
    *state = buffer;
    return buffer->bytes ? 0 : -1;
}

static int tear_down(void **state)
{
    struct ob_buffer *buffer = *state;
    free(buffer->bytes);
    free(buffer);
    return 0;
}

static const outbox_message *build(struct ob_buffer *buffer, const struct ob_row *row,
                                   int64_t previous, outbox_mode mode)
{
    assert_int_equal(ob_message_check(row), OB_FIT);
    const struct ob_form form = {mode, 0};
    const outbox_message *message = ob_message_build(buffer, row, &identity, previous, &form);
    assert_non_null(message);
    return message;
}

/* The document of a row as a string; it lives as long as the buffer. */
static const char *document(struct ob_buffer *buffer, const struct ob_row *row, int64_t previous)
{
    const outbox_message *message = build(buffer, row, previous, OUTBOX_STRUCTURED);
    size_t len = message->payload_len;
    assert_true(buffer->size - buffer->used > len);
    char *copy = memcpy(buffer->bytes + buffer->used, message->payload, len);
    copy[len] = '\0';
    buffer->used += len + 1;
    return copy;
}

/* The document behind the members that every event of this file has in common. */
static const char *tail(struct ob_buffer *buffer, const struct ob_row *row)
{
    static const char head[] = "{\"specversion\":\"1.0\",\"id\":\"42\","
                               "\"source\":\"outbox://pump-7/normal/0123456789abcdef\","
                               "\"type\":\"outbox.event\",\"sequence\":\"0000000000000000042\","
                               "\"previous\":\"0000000000000000000\"";
    const char *all = document(buffer, row, 0);
    assert_memory_equal(all, head, sizeof head - 1);
    return all + sizeof head - 1;
}

/* ---- SQLite as the recipient ----------------------------------------------------------------- */

static sqlite3 *db;
static sqlite3_stmt *valid, *extract;

static int open_sqlite(void **state)
{
    (void)state;
    return sqlite3_open(":memory:", &db) != SQLITE_OK ||
           sqlite3_prepare_v2(db, "SELECT json_valid(?1)", -1, &valid, NULL) != SQLITE_OK ||
           sqlite3_prepare_v2(db, "SELECT json_extract(?1, ?2)", -1, &extract, NULL) != SQLITE_OK;
}

static int close_sqlite(void **state)
{
    (void)state;
    return sqlite3_finalize(valid) != SQLITE_OK || sqlite3_finalize(extract) != SQLITE_OK ||
           sqlite3_close(db) != SQLITE_OK;
}

static void assert_json(const char *json)
{
    assert_int_equal(sqlite3_bind_text(valid, 1, json, -1, SQLITE_STATIC), SQLITE_OK);
    assert_int_equal(sqlite3_step(valid), SQLITE_ROW);
    if (sqlite3_column_int(valid, 0) != 1)
        fail_msg("not JSON: %s", json);
    assert_int_equal(sqlite3_reset(valid), SQLITE_OK);
}

/* Compares one member as the recipient reads it; `expected` NULL: there is none. */
static void assert_member(const char *json, const char *path, const char *expected)
{
    assert_int_equal(sqlite3_bind_text(extract, 1, json, -1, SQLITE_STATIC), SQLITE_OK);
    assert_int_equal(sqlite3_bind_text(extract, 2, path, -1, SQLITE_STATIC), SQLITE_OK);
    assert_int_equal(sqlite3_step(extract), SQLITE_ROW);
    const char *value = (const char *)sqlite3_column_text(extract, 0);
    if (expected) {
        assert_non_null(value);
        assert_string_equal(value, expected);
    } else {
        assert_null(value);
    }
    assert_int_equal(sqlite3_reset(extract), SQLITE_OK);
}

/* ---- The check: rows of writers that did not ask --------------------------------------------- */

static void test_a_row_with_nothing_but_a_topic_is_fit(void **state)
{
    (void)state;
    struct ob_row row = bare_row();
    assert_int_equal(ob_message_check(&row), OB_FIT);
}

static void test_a_topic_of_another_storage_class_is_unfit(void **state)
{
    (void)state;
    static const int storages[] = {SQLITE_NULL, SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_BLOB};
    struct ob_row row = bare_row();
    for (size_t i = 0; i < COUNT(storages); i++) {
        row.topic.storage = storages[i];
        assert_int_equal(ob_message_check(&row), OB_UNFIT_TOPIC);
    }
}

static void test_a_topic_that_no_publish_may_carry_is_unfit(void **state)
{
    (void)state;
    static const char *const topics[] = {"", "a/#", "+/a", "a\nb", "\xff", "\xef\xbf\xbe"};
    struct ob_row row = bare_row();
    for (size_t i = 0; i < COUNT(topics); i++) {
        row.topic = text(topics[i]);
        assert_int_equal(ob_message_check(&row), OB_UNFIT_TOPIC);
    }
    row.topic = bytes_value(SQLITE_TEXT, "a\0b", 3);
    assert_int_equal(ob_message_check(&row), OB_UNFIT_TOPIC);
}

static void test_a_payload_that_is_a_number_is_unfit(void **state)
{
    (void)state;
    struct ob_row row = bare_row();
    row.payload.storage = SQLITE_INTEGER;
    assert_int_equal(ob_message_check(&row), OB_UNFIT_PAYLOAD);
    row.payload.storage = SQLITE_FLOAT;
    assert_int_equal(ob_message_check(&row), OB_UNFIT_PAYLOAD);
}

static void test_a_payload_of_text_must_be_utf8_and_a_blob_need_not(void **state)
{
    (void)state;
    struct ob_row row = row_with(bytes_value(SQLITE_TEXT, "\xff", 1), null());
    assert_int_equal(ob_message_check(&row), OB_UNFIT_TEXT);
    row.content_type = text("application/json");
    assert_int_equal(ob_message_check(&row), OB_UNFIT_TEXT);
    row.payload.storage = SQLITE_BLOB;
    assert_int_equal(ob_message_check(&row), OB_FIT);
}

/* [put-6] for other writers */
static void test_a_payload_of_text_under_a_json_type_must_be_json(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{", "21.5 C", "{}{}", "[1,]"};
    struct ob_row row = row_with(null(), text("application/geo+json; charset=utf-8"));
    for (size_t i = 0; i < COUNT(bad); i++) {
        row.payload = text(bad[i]);
        assert_int_equal(ob_message_check(&row), OB_UNFIT_JSON);
        row.payload.storage = SQLITE_BLOB; /* goes as base64, whatever it is */
        assert_int_equal(ob_message_check(&row), OB_FIT);
    }
    row.payload = text("{\"a\":1}");
    assert_int_equal(ob_message_check(&row), OB_FIT);
    row.payload = null();
    assert_int_equal(ob_message_check(&row), OB_FIT);
}

static void test_an_attribute_must_be_clean_text_or_null(void **state)
{
    (void)state;
    struct ob_row row = bare_row();
    struct ob_value *const attributes[] = {&row.type, &row.content_type, &row.key};
    char long_text[OUTBOX_ATTRIBUTE_MAX + 1];
    memset(long_text, 'a', sizeof long_text);
    const struct ob_value bad[] = {
        text(""),
        text("a\tb"),
        text("\x7f"),
        text("\xc3"),
        bytes_value(SQLITE_TEXT, "a\0b", 3),
        bytes_value(SQLITE_TEXT, long_text, sizeof long_text),
        bytes_value(SQLITE_BLOB, "a", 1),
        bytes_value(SQLITE_INTEGER, NULL, 0),
        bytes_value(SQLITE_FLOAT, NULL, 0),
    };
    for (size_t i = 0; i < COUNT(attributes); i++) {
        for (size_t j = 0; j < COUNT(bad); j++) {
            *attributes[i] = bad[j];
            assert_int_equal(ob_message_check(&row), OB_UNFIT_ATTRIBUTE);
        }
        *attributes[i] = text("a b \"c\"");
        assert_int_equal(ob_message_check(&row), OB_FIT);
    }
}

static void test_a_row_that_carries_the_mark_of_the_tombstone_is_unfit(void **state)
{
    (void)state;
    struct ob_row row = bare_row();
    row.is_tombstone = 1;
    assert_int_equal(ob_message_check(&row), OB_UNFIT_MARK);
}

static void test_each_reason_has_a_sentence_of_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < OB_UNFITS; i++) {
        const char *sentence = ob_unfit_sentence((enum ob_unfit)i);
        assert_true(strlen(sentence) >= 3);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(sentence, ob_unfit_sentence((enum ob_unfit)j));
    }
}

/* ---- Structured: whole documents ------------------------------------------------------------- */

static void test_a_document_of_a_blob_with_all_members(void **state)
{
    struct ob_row row = row_with(blob("\x00\xff\x10", 3), text("application/octet-stream"));
    row.has_created = 1;
    row.created = 1700000000123;
    row.type = text("com.example.reading");
    row.key = text("sensor 3");
    assert_string_equal(
        document(*state, &row, 40),
        "{\"specversion\":\"1.0\",\"id\":\"42\","
        "\"source\":\"outbox://pump-7/normal/0123456789abcdef\",\"type\":\"com.example.reading\","
        "\"time\":\"2023-11-14T22:13:20.123Z\",\"sequence\":\"0000000000000000042\","
        "\"previous\":\"0000000000000000040\",\"recordedtime\":\"2023-11-14T22:13:20.123Z\","
        "\"partitionkey\":\"sensor 3\","
        "\"datacontenttype\":\"application/octet-stream\",\"data_base64\":\"AP8Q\"}");
}

static void test_a_document_without_a_payload_has_no_data(void **state)
{
    struct ob_row row = bare_row();
    assert_string_equal(document(*state, &row, 0),
                        "{\"specversion\":\"1.0\",\"id\":\"42\","
                        "\"source\":\"outbox://pump-7/normal/0123456789abcdef\","
                        "\"type\":\"outbox.event\",\"sequence\":\"0000000000000000042\","
                        "\"previous\":\"0000000000000000000\"}");
}

static void test_a_message_without_a_payload_keeps_its_content_type(void **state)
{
    struct ob_row row = row_with(null(), text("application/json"));
    assert_string_equal(tail(*state, &row), ",\"datacontenttype\":\"application/json\"}");
}

static void test_a_document_of_a_json_type_holds_the_value_itself(void **state)
{
    struct ob_row row =
        row_with(text(" {\"t\": 21.50,\n\"n\":12345678901234567890} "), text("application/json"));
    assert_string_equal(tail(*state, &row),
                        ",\"datacontenttype\":\"application/json\","
                        "\"data\": {\"t\": 21.50,\n\"n\":12345678901234567890} }");
}

static void test_a_json_string_stays_a_string_and_is_not_quoted_again(void **state)
{
    struct ob_row row = row_with(text("\"{\\\"a\\\":1}\""), text("application/geo+json"));
    assert_string_equal(tail(*state, &row), ",\"datacontenttype\":\"application/geo+json\","
                                            "\"data\":\"{\\\"a\\\":1}\"}");
}

static void test_a_json_null_is_data_and_not_its_absence(void **state)
{
    struct ob_row row = row_with(text("null"), text("application/json"));
    assert_string_equal(tail(*state, &row),
                        ",\"datacontenttype\":\"application/json\",\"data\":null}");
}

static void test_other_text_is_a_string_even_if_it_looks_like_json(void **state)
{
    struct ob_row row = row_with(text("{\"a\":1}"), text("text/plain"));
    assert_string_equal(tail(*state, &row),
                        ",\"datacontenttype\":\"text/plain\",\"data\":\"{\\\"a\\\":1}\"}");
}

static void test_text_without_a_content_type_is_a_string_and_gets_none(void **state)
{
    struct ob_row row = row_with(text("21.5"), null());
    assert_string_equal(tail(*state, &row), ",\"data\":\"21.5\"}");
}

static void test_empty_text_is_an_empty_string(void **state)
{
    struct ob_row row = row_with(text(""), text("text/plain"));
    assert_string_equal(tail(*state, &row), ",\"datacontenttype\":\"text/plain\",\"data\":\"\"}");
}

static void test_a_blob_without_a_content_type_gets_none(void **state)
{
    struct ob_row row = row_with(blob("{}", 2), null());
    assert_string_equal(tail(*state, &row), ",\"data_base64\":\"e30=\"}");
}

static void test_a_blob_of_a_json_type_is_base64(void **state)
{
    struct ob_row row = row_with(blob("{}", 2), text("application/json"));
    assert_string_equal(tail(*state, &row),
                        ",\"datacontenttype\":\"application/json\",\"data_base64\":\"e30=\"}");
}

static void test_the_type_is_outbox_event_unless_the_row_has_one(void **state)
{
    struct ob_row row = bare_row();
    assert_member(document(*state, &row, 0), "$.type", "outbox.event");
    row.type = text("x");
    assert_member(document(*state, &row, 0), "$.type", "x");
}

/* ---- Structured: numbers --------------------------------------------------------------------- */

static void test_sequence_and_previous_have_19_digits_and_sort_as_text(void **state)
{
    static const struct {
        int64_t id, previous;
        const char *sequence, *before;
    } cases[] = {
        {1, 0, "0000000000000000001", "0000000000000000000"},
        {10, 9, "0000000000000000010", "0000000000000000009"},
        {OUTBOX_ID_MAX, OUTBOX_ID_MAX - 1, "0000281474976710656", "0000281474976710655"},
        {INT64_MAX, INT64_MAX - 1, "9223372036854775807", "9223372036854775806"},
    };
    struct ob_row row = bare_row();
    for (size_t i = 0; i < COUNT(cases); i++) {
        row.id = cases[i].id;
        const char *json = document(*state, &row, cases[i].previous);
        assert_member(json, "$.sequence", cases[i].sequence);
        assert_member(json, "$.previous", cases[i].before);
        assert_true(strcmp(cases[i].before, cases[i].sequence) < 0);
    }
}

/* [P6] */
static void test_the_id_is_the_number_without_zeros_in_front(void **state)
{
    struct ob_row row = bare_row();
    row.id = 1;
    assert_member(document(*state, &row, 0), "$.id", "1");
    row.id = OUTBOX_ID_MAX;
    assert_member(document(*state, &row, 0), "$.id", "281474976710656");
}

/* ---- Structured: time ------------------------------------------------------------------------ */

static void test_the_time_is_written_in_utc_with_milliseconds(void **state)
{
    static const struct {
        int64_t created;
        const char *time;
    } cases[] = {
        {MS_2000, "2000-01-01T00:00:00.000Z"},       {951782400000, "2000-02-29T00:00:00.000Z"},
        {951868799999, "2000-02-29T23:59:59.999Z"},  {951868800000, "2000-03-01T00:00:00.000Z"},
        {978307199999, "2000-12-31T23:59:59.999Z"},  {1078012800000, "2004-02-29T00:00:00.000Z"},
        {1172620800000, "2007-02-28T00:00:00.000Z"}, {1172707200000, "2007-03-01T00:00:00.000Z"},
        {4107456000000, "2100-02-28T00:00:00.000Z"}, {4107542400000, "2100-03-01T00:00:00.000Z"},
        {1700000000007, "2023-11-14T22:13:20.007Z"}, {MS_10000 - 1, "9999-12-31T23:59:59.999Z"},
    };
    struct ob_row row = bare_row();
    row.has_created = 1;
    for (size_t i = 0; i < COUNT(cases); i++) {
        row.created = cases[i].created;
        assert_member(document(*state, &row, 0), "$.time", cases[i].time);
    }
}

static void test_a_time_of_a_clock_that_was_never_set_is_left_out(void **state)
{
    static const int64_t unknown[] = {INT64_MIN, -1, 0, 1, MS_2000 - 1, MS_10000, INT64_MAX};
    struct ob_row row = bare_row();
    row.has_created = 1;
    for (size_t i = 0; i < COUNT(unknown); i++) {
        row.created = unknown[i];
        assert_string_equal(tail(*state, &row), "}");
    }
}

static void test_a_row_without_a_time_has_none_in_its_document(void **state)
{
    struct ob_row row = bare_row();
    row.has_created = 0;
    row.created = 1700000000000;
    assert_string_equal(tail(*state, &row), "}");
}

static void test_the_days_around_every_end_of_february_and_of_the_year_are_right(void **state)
{
    struct ob_buffer *buffer = *state;
    struct ob_row row = bare_row();
    row.has_created = 1;
    int64_t new_year = MS_2000;
    for (int year = 2000; year <= 9999; year++) {
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        static const int offsets[] = {0, 58, 59, 60, 180, 364};
        for (size_t i = 0; i < COUNT(offsets); i++) {
            row.created = new_year + offsets[i] * INT64_C(86400000) + 45296789;
            time_t seconds = (time_t)(row.created / 1000);
            struct tm tm;
            char expected[40];
            assert_non_null(gmtime_r(&seconds, &tm));
            assert_true(strftime(expected, sizeof expected, "\"%Y-%m-%dT%H:%M:%S.789Z\"", &tm) > 0);
            buffer->used = 0;
            if (!strstr(document(buffer, &row, 0), expected))
                fail_msg("not %s: %s", expected, document(buffer, &row, 0));
        }
        new_year += (365 + leap) * INT64_C(86400000);
    }
    assert_int_equal(new_year, MS_10000);
}

/* ---- Structured: strings --------------------------------------------------------------------- */

static void test_quotes_backslashes_and_every_control_character_are_escaped(void **state)
{
    char expected[40];
    for (int c = 0; c < 0x20; c++) {
        const char byte = (char)c;
        struct ob_row row = row_with(bytes_value(SQLITE_TEXT, &byte, 1), null());
        sqlite3_snprintf((int)sizeof expected, expected, ",\"data\":\"\\u00%02x\"}", c);
        assert_string_equal(tail(*state, &row), expected);
    }
    struct ob_row row = row_with(text("a\"b\\c/d"), null());
    assert_string_equal(tail(*state, &row), ",\"data\":\"a\\\"b\\\\c/d\"}");
}

static void test_all_other_characters_are_kept_as_they_are(void **state)
{
    static const char others[] =
        "\x7f \xc2\x80 \xc3\xa4 \xe2\x80\xa8 \xef\xbf\xbf \xf0\x9f\x98\x80 '/<&";
    struct ob_row row = row_with(text(others), null());
    const char *json = tail(*state, &row);
    assert_memory_equal(json, ",\"data\":\"", 9);
    assert_memory_equal(json + 9, others, sizeof others - 1);
    assert_string_equal(json + 9 + sizeof others - 1, "\"}");
}

static void test_escapes_at_both_ends_and_side_by_side_lose_nothing(void **state)
{
    struct ob_row row = row_with(text("\n\nab\t\tcd\"\""), null());
    assert_string_equal(tail(*state, &row),
                        ",\"data\":\"\\u000a\\u000aab\\u0009\\u0009cd\\\"\\\"\"}");
}

static void test_attributes_are_escaped_too(void **state)
{
    struct ob_row row = row_with(text("x"), text("text/plain; title=\"a\\b\""));
    row.type = text("\"t\"");
    row.key = text("\\k\\");
    const char *json = document(*state, &row, 0);
    assert_json(json);
    assert_member(json, "$.type", "\"t\"");
    assert_member(json, "$.partitionkey", "\\k\\");
    assert_member(json, "$.datacontenttype", "text/plain; title=\"a\\b\"");
    assert_member(json, "$.data", "x");
}

static void test_a_recipient_reads_back_every_member(void **state)
{
    struct ob_row row = row_with(text("1\x01 \"2\"\n\xc3\xa4 \xf0\x9f\x98\x80 \\u0041"),
                                 text("text/plain; charset=utf-8"));
    row.has_created = 1;
    row.created = 1709164800001;
    row.type = text("com.example.\xc3\xa4");
    row.key = text("k\"1\"");
    const char *json = document(*state, &row, 41);
    assert_json(json);
    assert_member(json, "$.specversion", "1.0");
    assert_member(json, "$.id", "42");
    assert_member(json, "$.source", "outbox://pump-7/normal/0123456789abcdef");
    assert_member(json, "$.type", "com.example.\xc3\xa4");
    assert_member(json, "$.time", "2024-02-29T00:00:00.001Z");
    assert_member(json, "$.sequence", "0000000000000000042");
    assert_member(json, "$.previous", "0000000000000000041");
    assert_member(json, "$.partitionkey", "k\"1\"");
    assert_member(json, "$.datacontenttype", "text/plain; charset=utf-8");
    assert_member(json, "$.data", "1\x01 \"2\"\n\xc3\xa4 \xf0\x9f\x98\x80 \\u0041");
    assert_member(json, "$.data_base64", NULL);
}

static void test_a_recipient_reads_a_json_value_as_a_value(void **state)
{
    struct ob_row row = row_with(text("{\"t\":[21.5,{\"u\":\"C\"}]}"), text("application/json"));
    const char *json = document(*state, &row, 0);
    assert_json(json);
    assert_member(json, "$.data.t[0]", "21.5");
    assert_member(json, "$.data.t[1].u", "C");
}

static void test_every_payload_of_one_byte_makes_a_json_document(void **state)
{
    struct ob_buffer *buffer = *state;
    for (int c = 0; c <= 0xff; c++) {
        const char byte = (char)c;
        struct ob_row row = row_with(blob(&byte, 1), null());
        buffer->used = 0;
        assert_json(document(buffer, &row, 0));
        row.payload.storage = SQLITE_TEXT;
        if (c < 0x80)
            assert_json(document(buffer, &row, 0));
    }
}

/* ---- Structured: base64 ---------------------------------------------------------------------- */

static void test_base64_pads_to_groups_of_four(void **state)
{
    static const char *const encoded[] = {
        "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"}; /* RFC 4648, section 10 */
    char expected[40];
    for (size_t len = 0; len < COUNT(encoded); len++) {
        struct ob_row row = row_with(blob("foobar", len), null());
        sqlite3_snprintf((int)sizeof expected, expected, ",\"data_base64\":\"%s\"}", encoded[len]);
        assert_string_equal(tail(*state, &row), expected);
    }
}

static void test_an_empty_blob_may_come_without_a_pointer(void **state)
{
    struct ob_row row = row_with(blob(NULL, 0), null());
    assert_string_equal(tail(*state, &row), ",\"data_base64\":\"\"}");
}

static void test_base64_uses_each_of_its_64_letters(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char bytes[48];
    for (size_t i = 0; i < 16; i++) { /* four letters of 6 bits are three bytes */
        size_t group = (4 * i) << 18 | (4 * i + 1) << 12 | (4 * i + 2) << 6 | (4 * i + 3);
        bytes[3 * i] = (char)(group >> 16);
        bytes[3 * i + 1] = (char)(group >> 8 & 0xff);
        bytes[3 * i + 2] = (char)(group & 0xff);
    }
    struct ob_row row = row_with(blob(bytes, sizeof bytes), null());
    const char *json = document(*state, &row, 0);
    assert_member(json, "$.data_base64", alphabet);
}

/* ---- Structured: around the document --------------------------------------------------------- */

static void test_a_structured_message_says_that_it_is_one(void **state)
{
    struct ob_row row = row_with(blob("x", 1), text("image/png"));
    const outbox_message *message = build(*state, &row, 0, OUTBOX_STRUCTURED);
    assert_string_equal(message->content_type, "application/cloudevents+json; charset=utf-8");
    assert_int_equal(message->is_utf8, 1);
    assert_int_equal(message->property_count, 0);
    assert_string_equal(message->topic, "plant/7");
}

static void test_the_topic_ends_with_a_nul_although_the_row_has_none(void **state)
{
    struct ob_row row = bare_row();
    row.topic = bytes_value(SQLITE_TEXT, "plant/7/more", 7);
    assert_string_equal(build(*state, &row, 0, OUTBOX_STRUCTURED)->topic, "plant/7");
    assert_string_equal(build(*state, &row, 0, OUTBOX_PLAIN)->topic, "plant/7");
}

static void test_retain_goes_with_the_message(void **state)
{
    struct ob_row row = bare_row();
    for (int retain = 0; retain <= 1; retain++) {
        row.retain = retain;
        assert_int_equal(build(*state, &row, 0, OUTBOX_STRUCTURED)->retain, retain);
        assert_int_equal(build(*state, &row, 0, OUTBOX_PLAIN)->retain, retain);
    }
}

/* [P6] */
static void test_a_resend_is_the_same_message(void **state)
{
    struct ob_row row = row_with(text("{\"a\":1}"), text("application/json"));
    row.has_created = 1;
    row.created = 1700000000123;
    row.key = text("k");
    const char *first = document(*state, &row, 41);
    assert_string_equal(document(*state, &row, 41), first);
}

/* ---- Plain ----------------------------------------------------------------------------------- */

static void assert_property(const outbox_message *message, size_t index, const char *name,
                            const char *value)
{
    assert_in_range(index, 0, message->property_count - 1);
    assert_string_equal(message->properties[index].name, name);
    assert_string_equal(message->properties[index].value, value);
}

static void test_a_plain_message_carries_identity_and_order_beside_the_payload(void **state)
{
    struct ob_row row = row_with(text("21.5"), text("text/plain"));
    const outbox_message *message = build(*state, &row, 7, OUTBOX_PLAIN);
    assert_int_equal(message->property_count, 4);
    assert_property(message, 0, "id", "42");
    assert_property(message, 1, "source", "outbox://pump-7/normal/0123456789abcdef");
    assert_property(message, 2, "sequence", "0000000000000000042");
    assert_property(message, 3, "previous", "0000000000000000007");
}

static void test_a_plain_message_leaves_the_payload_as_it_is(void **state)
{
    char bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    struct ob_row row = row_with(blob(bytes, sizeof bytes), text("application/octet-stream"));
    const outbox_message *message = build(*state, &row, 0, OUTBOX_PLAIN);
    assert_int_equal(message->payload_len, sizeof bytes);
    assert_memory_equal(message->payload, bytes, sizeof bytes);
    row = row_with(text(" {\"a\" : 1.50}\n"), text("application/json"));
    message = build(*state, &row, 0, OUTBOX_PLAIN);
    assert_int_equal(message->payload_len, row.payload.len);
    assert_memory_equal(message->payload, row.payload.bytes, row.payload.len);
}

static void test_a_plain_message_has_the_content_type_of_the_row_or_none(void **state)
{
    struct ob_row row = row_with(text("x"), text("text/plain; charset=utf-8"));
    assert_string_equal(build(*state, &row, 0, OUTBOX_PLAIN)->content_type,
                        "text/plain; charset=utf-8");
    row.content_type = null();
    assert_null(build(*state, &row, 0, OUTBOX_PLAIN)->content_type);
}

static void test_a_plain_message_is_called_utf8_if_it_was_stored_as_text(void **state)
{
    struct ob_row row = row_with(text("x"), null());
    assert_int_equal(build(*state, &row, 0, OUTBOX_PLAIN)->is_utf8, 1);
    row.payload.storage = SQLITE_BLOB;
    assert_int_equal(build(*state, &row, 0, OUTBOX_PLAIN)->is_utf8, 0);
}

static void test_a_plain_message_without_a_payload_is_empty(void **state)
{
    struct ob_row row = bare_row();
    const outbox_message *message = build(*state, &row, 0, OUTBOX_PLAIN);
    assert_int_equal(message->payload_len, 0);
    row.payload = blob(NULL, 0);
    assert_int_equal(build(*state, &row, 0, OUTBOX_PLAIN)->payload_len, 0);
}

/* ---- The buffer ------------------------------------------------------------------------------ */

static struct ob_row full_row(void)
{
    struct ob_row row = row_with(text("a\"\n\xc3\xa4"), text("text/plain"));
    row.has_created = 1;
    row.created = 1700000000123;
    row.type = text("t\"");
    row.key = text("k");
    return row;
}

static void test_messages_in_one_buffer_do_not_disturb_each_other(void **state)
{
    struct ob_buffer *buffer = *state;
    const outbox_message *messages[40];
    char bytes[40];
    memset(bytes, 'x', sizeof bytes);
    for (size_t i = 0; i < COUNT(messages); i++) {
        struct ob_row row = row_with(blob(bytes, i), null());
        row.id = (int64_t)(100 + i);
        messages[i] = build(buffer, &row, 0, i % 2 ? OUTBOX_PLAIN : OUTBOX_STRUCTURED);
        assert_int_equal((uintptr_t)messages[i] % sizeof(void *), 0);
    }
    for (size_t i = 0; i < COUNT(messages); i++) {
        char number[24];
        sqlite3_snprintf((int)sizeof number, number, "%d", (int)(100 + i));
        assert_string_equal(messages[i]->topic, "plant/7");
        if (i % 2) {
            assert_int_equal((uintptr_t)messages[i]->properties % sizeof(void *), 0);
            assert_property(messages[i], 0, "id", number);
            assert_int_equal(messages[i]->payload_len, i);
            assert_memory_equal(messages[i]->payload, bytes, i);
        } else {
            assert_memory_equal((const char *)messages[i]->payload + 27, number, 3);
        }
    }
}

/* Builds behind `used` bytes in buffers of every size; all but the last are too small. */
static void try_every_size(const struct ob_row *row, outbox_mode mode, size_t used)
{
    struct ob_buffer large = {malloc(ROOM), ROOM, used};
    assert_non_null(large.bytes);
    build(&large, row, 0, mode);
    size_t need = large.used;
    free(large.bytes);
    for (size_t size = used; size <= need; size++) {
        struct ob_buffer small = {malloc(size > 0 ? size : 1), size, used};
        assert_non_null(small.bytes);
        memset(small.bytes, '#', used);
        const outbox_message *message =
            ob_message_build(&small, row, &identity, 0, &(struct ob_form){mode, 0});
        assert_int_equal(message != NULL, size == need);
        assert_int_equal(small.used, message ? need : used);
        assert_int_equal(small.size, size);
        for (size_t i = 0; i < used; i++)
            assert_int_equal(small.bytes[i], '#');
        free(small.bytes);
    }
}

static void test_a_buffer_too_small_by_any_number_of_bytes_stays_as_it_was(void **state)
{
    (void)state;
    static const size_t used[] = {0, 1, 7, 8, 13};
    const struct ob_row rows[] = {full_row(), row_with(blob("12345", 5), null()), bare_row(),
                                  row_with(text("[1]"), text("application/json"))};
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t j = 0; j < COUNT(used); j++) {
            try_every_size(&rows[i], OUTBOX_STRUCTURED, used[j]);
            try_every_size(&rows[i], OUTBOX_PLAIN, used[j]);
        }
}

static void test_a_message_can_be_built_where_one_failed_before(void **state)
{
    struct ob_buffer *buffer = *state;
    struct ob_row row = full_row();
    const char *expected = document(buffer, &row, 0);
    struct ob_buffer rest = {buffer->bytes + ROOM / 2, 64, 0};
    assert_null(
        ob_message_build(&rest, &row, &identity, 0, &(struct ob_form){OUTBOX_STRUCTURED, 0}));
    rest.size = ROOM / 2;
    assert_string_equal(document(&rest, &row, 0), expected);
}

/* ---- The room: [init-1] at its root ---------------------------------------------------------- */

/* As many headers as there may be, in as many bytes. */
static size_t fill_headers(char headers[OUTBOX_HEADERS_BYTES])
{
    size_t len = 0, each = OUTBOX_HEADERS_BYTES / OUTBOX_HEADERS_MAX;
    for (char i = 0; i < OUTBOX_HEADERS_MAX; i++, len += each) {
        memset(headers + len, '"', each);
        headers[len] = 'x';
        headers[len + 1] = (char)('a' + i / 16);
        headers[len + 2] = (char)('a' + i % 16);
        headers[len + 3] = '=';
        headers[len + each - 1] = '\n';
    }
    return len;
}

/* Fills all that a row can hold with what grows most. */
static void build_worst(size_t payload_len, int storage, char fill, outbox_mode mode)
{
    static char topic[OUTBOX_TOPIC_MAX], attribute[OUTBOX_ATTRIBUTE_MAX];
    static char headers[OUTBOX_HEADERS_BYTES];
    struct ob_identity long_name = identity;
    struct ob_buffer buffer = {.size = ob_message_room(payload_len)};
    char *payload = malloc(payload_len > 0 ? payload_len : 1);
    buffer.bytes = malloc(buffer.size);
    assert_non_null(payload);
    assert_non_null(buffer.bytes);
    memset(payload, fill, payload_len);
    memset(topic, '"', sizeof topic);
    memset(attribute, '"', sizeof attribute);
    memset(long_name.device, 'd', OUTBOX_ATTRIBUTE_MAX);
    struct ob_row row = row_with(bytes_value(storage, payload, payload_len),
                                 bytes_value(SQLITE_TEXT, attribute, sizeof attribute));
    row.id = INT64_MAX;
    row.has_created = 1;
    row.created = MS_10000 - 1;
    row.topic = bytes_value(SQLITE_TEXT, topic, sizeof topic);
    row.type = row.key = row.content_type;
    row.expires = row.created;
    row.headers = bytes_value(SQLITE_TEXT, headers, fill_headers(headers));
    assert_int_equal(ob_message_check(&row), OB_FIT);
    assert_non_null(
        ob_message_build(&buffer, &row, &long_name, INT64_MAX - 1, &(struct ob_form){mode, 0}));
    free(payload);
    free(buffer.bytes);
}

static void test_the_room_suffices_for_the_worst_event_of_every_size(void **state)
{
    (void)state;
    for (size_t len = 0; len < 600; len++) {
        build_worst(len, SQLITE_TEXT, '\x01', OUTBOX_STRUCTURED);
        build_worst(len, SQLITE_BLOB, '\xff', OUTBOX_STRUCTURED);
        build_worst(len, SQLITE_TEXT, '\x01', OUTBOX_PLAIN);
        build_worst(len, SQLITE_BLOB, '\xff', OUTBOX_PLAIN);
        build_worst(len, SQLITE_TEXT, '\x01', OUTBOX_BINARY);
    }
}

static void test_the_room_suffices_for_the_largest_payloads(void **state)
{
    (void)state;
    build_worst(OUTBOX_PAYLOAD_MAX, SQLITE_TEXT, '\x1f', OUTBOX_STRUCTURED);
    build_worst(OUTBOX_PAYLOAD_MAX, SQLITE_TEXT, '\x1f', OUTBOX_PLAIN);
    build_worst(OUTBOX_PAYLOAD_CAP, SQLITE_BLOB, '\x1f', OUTBOX_STRUCTURED);
    build_worst(OUTBOX_PAYLOAD_CAP, SQLITE_BLOB, '\x1f', OUTBOX_PLAIN);
    build_worst(OUTBOX_PAYLOAD_CAP, SQLITE_BLOB, '\x1f', OUTBOX_BINARY);
}

static void test_the_room_fits_32_bits_at_the_largest_payload(void **state)
{
    (void)state;
    assert_true(ob_message_room(OUTBOX_PAYLOAD_CAP) < INT32_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_with_nothing_but_a_topic_is_fit),
        cmocka_unit_test(test_a_topic_of_another_storage_class_is_unfit),
        cmocka_unit_test(test_a_topic_that_no_publish_may_carry_is_unfit),
        cmocka_unit_test(test_a_payload_that_is_a_number_is_unfit),
        cmocka_unit_test(test_a_payload_of_text_must_be_utf8_and_a_blob_need_not),
        cmocka_unit_test(test_a_payload_of_text_under_a_json_type_must_be_json),
        cmocka_unit_test(test_an_attribute_must_be_clean_text_or_null),
        cmocka_unit_test(test_a_row_that_carries_the_mark_of_the_tombstone_is_unfit),
        cmocka_unit_test(test_each_reason_has_a_sentence_of_its_own),
        TEST(test_a_document_of_a_blob_with_all_members),
        TEST(test_a_document_without_a_payload_has_no_data),
        TEST(test_a_message_without_a_payload_keeps_its_content_type),
        TEST(test_a_document_of_a_json_type_holds_the_value_itself),
        TEST(test_a_json_string_stays_a_string_and_is_not_quoted_again),
        TEST(test_a_json_null_is_data_and_not_its_absence),
        TEST(test_other_text_is_a_string_even_if_it_looks_like_json),
        TEST(test_text_without_a_content_type_is_a_string_and_gets_none),
        TEST(test_empty_text_is_an_empty_string),
        TEST(test_a_blob_without_a_content_type_gets_none),
        TEST(test_a_blob_of_a_json_type_is_base64),
        TEST(test_the_type_is_outbox_event_unless_the_row_has_one),
        TEST(test_sequence_and_previous_have_19_digits_and_sort_as_text),
        TEST(test_the_id_is_the_number_without_zeros_in_front),
        TEST(test_the_time_is_written_in_utc_with_milliseconds),
        TEST(test_a_time_of_a_clock_that_was_never_set_is_left_out),
        TEST(test_a_row_without_a_time_has_none_in_its_document),
        TEST(test_the_days_around_every_end_of_february_and_of_the_year_are_right),
        TEST(test_quotes_backslashes_and_every_control_character_are_escaped),
        TEST(test_all_other_characters_are_kept_as_they_are),
        TEST(test_escapes_at_both_ends_and_side_by_side_lose_nothing),
        TEST(test_attributes_are_escaped_too),
        TEST(test_a_recipient_reads_back_every_member),
        TEST(test_a_recipient_reads_a_json_value_as_a_value),
        TEST(test_every_payload_of_one_byte_makes_a_json_document),
        TEST(test_base64_pads_to_groups_of_four),
        TEST(test_an_empty_blob_may_come_without_a_pointer),
        TEST(test_base64_uses_each_of_its_64_letters),
        TEST(test_a_structured_message_says_that_it_is_one),
        TEST(test_the_topic_ends_with_a_nul_although_the_row_has_none),
        TEST(test_retain_goes_with_the_message),
        TEST(test_a_resend_is_the_same_message),
        TEST(test_a_plain_message_carries_identity_and_order_beside_the_payload),
        TEST(test_a_plain_message_leaves_the_payload_as_it_is),
        TEST(test_a_plain_message_has_the_content_type_of_the_row_or_none),
        TEST(test_a_plain_message_is_called_utf8_if_it_was_stored_as_text),
        TEST(test_a_plain_message_without_a_payload_is_empty),
        TEST(test_messages_in_one_buffer_do_not_disturb_each_other),
        cmocka_unit_test(test_a_buffer_too_small_by_any_number_of_bytes_stays_as_it_was),
        TEST(test_a_message_can_be_built_where_one_failed_before),
        cmocka_unit_test(test_the_room_suffices_for_the_worst_event_of_every_size),
        cmocka_unit_test(test_the_room_suffices_for_the_largest_payloads),
        cmocka_unit_test(test_the_room_fits_32_bits_at_the_largest_payload),
    };
    return cmocka_run_group_tests_name("message", tests, open_sqlite, close_sqlite);
}
