/* SPDX-License-Identifier: MIT
 *
 * test_headers.c - correlation, causation, trace and headers of one's own: put, stored, sent,
 * buried.
 */
#include "headers.h"
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

static int put(struct bench *bench, const outbox_event *event)
{
    return outbox_put(bench->box, event, NULL);
}

static void must_put(struct bench *bench, const outbox_event *event)
{
    if (put(bench, event) != OUTBOX_OK)
        fail_msg("put: %s", outbox_errmsg(bench->box));
}

/* What is sent for the only event. */
static const char *send_one(struct bench *bench)
{
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    return rig.link.sent[0].payload;
}

/* ---- Put ------------------------------------------------------------------------------------- */

/* [headers-1] */
static void test_headers_are_sent_in_the_order_in_which_they_were_given(void **state)
{
    struct bench *bench = *state;
    const outbox_header headers[] = {
        {"tracestate", "a=b"}, {"site", "hall \"7\" \\ \xc3\xa4"}, {"9", "nine"}, {"subject", "s"}};
    must_put(bench, &(outbox_event){.topic = "a",
                                    .traceparent = "00-0af7651916cd43dd8448eb211c80319c-"
                                                   "b7ad6b7169203331-01",
                                    .causation_id = "41",
                                    .correlation_id = "order 9",
                                    .headers = headers,
                                    .header_count = 4});
    assert_non_null(strstr(send_one(bench),
                           ",\"correlationid\":\"order 9\",\"causationid\":\"41\","
                           "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-"
                           "b7ad6b7169203331-01\",\"tracestate\":\"a=b\","
                           "\"site\":\"hall \\\"7\\\" \\\\ \xc3\xa4\",\"9\":\"nine\","
                           "\"subject\":\"s\","));
    rig_stop(&rig);
}

static void test_an_event_without_headers_stores_nothing_for_them(void **state)
{
    struct bench *bench = *state;
    must_put(bench, &(outbox_event){.topic = "a", .correlation_id = "x"});
    must_put(bench, &(outbox_event){.topic = "a"});
    assert_int_equal(bench_number(bench->db, "SELECT id FROM outbox_event WHERE headers IS NULL"
                                             " AND ledger IS NULL"),
                     2);
}

static void assert_refused(struct bench *bench, const outbox_header *headers, size_t count,
                           const char *why)
{
    const outbox_event event = {
        .topic = "a", .correlation_id = "c", .headers = headers, .header_count = count};
    int code = put(bench, &event);
    if (code != OUTBOX_BAD_ATTRIBUTE || !strstr(outbox_errmsg(bench->box), why))
        fail_msg("'%s' gave %d, %s", headers[count - 1].name ? headers[count - 1].name : "NULL",
                 code, outbox_errmsg(bench->box));
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_pending"), 0);
}

/* [headers-2] */
static void test_names_of_wrong_characters_or_length_are_refused(void **state)
{
    static const char *const names[] = {
        "",      "X-Foo", "Site", "data_base64", "a b",
        "a=b",   "a\n",   "a-b",  "\xc3\xa4",    "abcdefghijklmnopqrstu",
        "ce-id", "\x7f",  NULL};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_refused(*state, &(outbox_header){names[i], "v"}, 1, "name");
    must_put(*state, &(outbox_event){.topic = "a",
                                     .headers = &(outbox_header){"abcdefghijklmnopqrst", "v"},
                                     .header_count = 1});
}

/* [headers-2] */
static void test_names_that_outbox_uses_itself_are_refused(void **state)
{
    static const char *const names[] = {
        "specversion", "id",       "source",       "type",       "time",         "datacontenttype",
        "sequence",    "previous", "partitionkey", "expirytime", "recordedtime", "data"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_refused(*state, &(outbox_header){names[i], "v"}, 1, "outbox uses itself");
}

/* [headers-2] */
static void test_a_name_given_twice_is_refused(void **state)
{
    const outbox_header twice[] = {{"site", "7"}, {"hall", "8"}, {"site", "7"}};
    assert_refused(*state, twice, 3, "twice");
    assert_refused(*state, &(outbox_header){"correlationid", "v"}, 1, "twice");
}

/* [headers-2] */
static void test_values_that_are_not_clean_are_refused(void **state)
{
    char long_value[OUTBOX_ATTRIBUTE_MAX + 2];
    memset(long_value, 'v', sizeof long_value - 1);
    long_value[sizeof long_value - 1] = '\0';
    const char *const values[] = {"",         "a\nb",         "\x01",         "\x7f",
                                  "\xc2\x80", "\xef\xbf\xbf", "\xed\xa0\x80", "\xff",
                                  NULL,       long_value};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_refused(*state, &(outbox_header){"site", values[i]}, 1, "value");
        if (!values[i])
            continue;
        const outbox_event events[] = {{.topic = "a", .correlation_id = values[i]},
                                       {.topic = "a", .causation_id = values[i]},
                                       {.topic = "a", .traceparent = values[i]}};
        for (size_t j = 0; j < 3; j++)
            assert_int_equal(put(*state, &events[j]), OUTBOX_BAD_ATTRIBUTE);
    }
}

/* [headers-2] */
static void test_too_many_headers_or_too_many_bytes_are_refused(void **state)
{
    char names[OUTBOX_HEADERS_MAX][4], value[OUTBOX_ATTRIBUTE_MAX + 1];
    outbox_header headers[OUTBOX_HEADERS_MAX];
    for (int i = 0; i < OUTBOX_HEADERS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        headers[i] = (outbox_header){names[i], "v"};
    }
    assert_refused(*state, headers, OUTBOX_HEADERS_MAX, "32");
    memset(value, 'v', sizeof value);
    value[OUTBOX_ATTRIBUTE_MAX] = '\0';
    for (int i = 0; i < 4; i++)
        headers[i].value = value;
    assert_refused(*state, headers, 4, "1024");
    must_put(*state, &(outbox_event){.topic = "a", .headers = headers, .header_count = 3});
    headers[0].value = headers[1].value = headers[2].value = headers[3].value = "v";
    must_put(*state,
             &(outbox_event){.topic = "a", .headers = headers, .header_count = OUTBOX_HEADERS_MAX});
}

static void test_a_count_without_headers_is_misuse(void **state)
{
    assert_int_equal(put(*state, &(outbox_event){.topic = "a", .header_count = 1}), OUTBOX_MISUSE);
}

/* [limit-1] */
static void test_headers_count_for_a_limit_in_bytes(void **state)
{
    struct bench *bench = *state;
    outbox_detach(bench->box);
    const outbox_config config = {.limits[OUTBOX_NORMAL] = {.max_bytes = 60}};
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
    const outbox_header header = {"site", "0123456789012345678901"}; /* 33 + 28 = 61 */
    outbox_event event = {.topic = "a", .headers = &header, .header_count = 1};
    assert_int_equal(put(bench, &event), OUTBOX_FULL);
    must_put(bench, &(outbox_event){.topic = "a", .correlation_id = "0123456789"});
    assert_int_equal(bench_number(bench->db, "SELECT max(total) - min(total) FROM outbox_event"),
                     33 + 13 + 10 + 2);
    /* As the rows themselves are measured. */
    bench_sql(bench->db, "UPDATE outbox_event SET total = NULL");
    assert_int_equal(put(bench, &(outbox_event){.topic = "b"}), OUTBOX_FULL);
}

/* ---- Rows of other writers ------------------------------------------------------------------- */

static void test_another_writer_gives_its_headers_as_lines(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, headers)"
                         " VALUES('a', 'correlationid=c' || char(10) || 'site=x=y')");
    assert_non_null(strstr(send_one(bench), ",\"correlationid\":\"c\",\"site\":\"x=y\"}"));
    rig_stop(&rig);
}

static void test_a_row_whose_headers_cannot_be_sent_becomes_a_dead_letter(void **state)
{
    static const char too_many[] =
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 33)"
        " SELECT group_concat('h' || i || '=v', char(10)) FROM n)";
    static const char *const bad[] = {
        "'no equals sign'",
        "'Site=7'",
        "'id=7'",
        "'site='",
        "'=7'",
        "'a=1' || char(10, 10) || 'b=2'",
        "'a=1' || char(10) || 'a=1'",
        "'a=' || char(1)",
        "CAST(x'613dff' AS TEXT)",
        "x'613d62'",
        "7",
        "'a=' || printf('%.*c', 257, 'v')",
        "printf('%.*c', 1025, 'v')",
        too_many,
    };
    const int count = (int)(sizeof bad / sizeof bad[0]);
    struct bench *bench = *state;
    for (int i = 0; i < count; i++) {
        char sql[240];
        snprintf(sql, sizeof sql, "INSERT INTO outbox_event(topic, headers) VALUES('a', %s)",
                 bad[i]);
        bench_sql(bench->db, sql);
    }
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 10);
    rig_run(&rig, 3000);
    assert_int_equal(rig.link.sent_count, 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"
                                             " WHERE reason LIKE 'headers is no text of lines%'"
                                             " AND headers IS NOT NULL"),
                     count);
    rig_stop(&rig);
    /* None of them can go back. */
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_BAD_ATTRIBUTE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "headers"));
}

/* [dead-1] */
static void test_a_requeued_letter_has_its_headers_again(void **state)
{
    struct bench *bench = *state;
    const outbox_header header = {"site", "7"};
    must_put(bench, &(outbox_event){
                        .topic = "a", .causation_id = "5", .headers = &header, .header_count = 1});
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x90);
    rig_step(&rig);
    rig_reconnect(&rig, 10);
    rig_run(&rig, 3000);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 1);
    rig_stop(&rig);
    assert_int_equal(outbox_requeue(bench->box, 1, NULL), OUTBOX_OK);
    char *headers = bench_text(bench->db, "SELECT headers FROM outbox_pending");
    assert_string_equal(headers, "causationid=5\nsite=7\n");
    sqlite3_free(headers);
}

static void test_the_tombstone_keeps_no_headers(void **state)
{
    struct bench *bench = *state;
    must_put(bench, &(outbox_event){.topic = "a", .correlation_id = "c"});
    (void)send_one(bench);
    rig_ack_from(&rig, 0);
    rig_run(&rig, 3000);
    assert_int_equal(bench_number(bench->db, "SELECT id = 1 AND ledger IS NOT NULL AND headers IS"
                                             " NULL FROM outbox_event"),
                     1);
    rig_stop(&rig);
}

/* ---- The text -------------------------------------------------------------------------------- */

static void test_lines_are_taken_apart_where_they_end(void **state)
{
    static const char text[] = "a=1\nbc=\n\nd\n=e\nf=g=h";
    static const struct {
        const char *name, *value;
    } expected[] = {{"a", "1"}, {"bc", ""}, {"", ""}, {"d", ""}, {"", "e"}, {"f", "g=h"}};
    struct ob_header header;
    const char *at = text, *end = text + sizeof text - 1;
    (void)state;
    assert_int_equal(ob_headers_count(text, sizeof text - 1), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_true(ob_headers_next(&at, end, &header));
        assert_int_equal(header.name_len, strlen(expected[i].name));
        assert_memory_equal(header.name, expected[i].name, header.name_len);
        assert_int_equal(header.value_len, strlen(expected[i].value));
        assert_memory_equal(header.value, expected[i].value, header.value_len);
    }
    assert_false(ob_headers_next(&at, end, &header));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)
    const struct CMUnitTest tests[] = {
        TEST(test_headers_are_sent_in_the_order_in_which_they_were_given),
        TEST(test_an_event_without_headers_stores_nothing_for_them),
        TEST(test_names_of_wrong_characters_or_length_are_refused),
        TEST(test_names_that_outbox_uses_itself_are_refused),
        TEST(test_a_name_given_twice_is_refused),
        TEST(test_values_that_are_not_clean_are_refused),
        TEST(test_too_many_headers_or_too_many_bytes_are_refused),
        TEST(test_a_count_without_headers_is_misuse),
        TEST(test_headers_count_for_a_limit_in_bytes),
        TEST(test_another_writer_gives_its_headers_as_lines),
        TEST(test_a_row_whose_headers_cannot_be_sent_becomes_a_dead_letter),
        TEST(test_a_requeued_letter_has_its_headers_again),
        TEST(test_the_tombstone_keeps_no_headers),
        cmocka_unit_test(test_lines_are_taken_apart_where_they_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
