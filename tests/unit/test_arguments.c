/* SPDX-License-Identifier: MIT
 *
 * test_arguments.c - what a caller can do wrong or leave out, and limits that the application has
 * set on its own connection.
 */
#include "support.h"

#include "writer.h"

#include <outbox/port.h>

#include <stdio.h>
#include <string.h>

static struct rig rig;

/* ---- The handle ------------------------------------------------------------------------------ */

static void test_calls_without_a_handle_are_misuse_and_give_nothing(void **state)
{
    outbox_statistics statistics;
    (void)state;
    assert_int_equal(outbox_stats(NULL, &statistics), OUTBOX_MISUSE);
    assert_int_equal(outbox_put(NULL, &(outbox_event){.topic = "a"}, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_flush(NULL, 0), OUTBOX_MISUSE);
    assert_int_equal(outbox_stop(NULL), OUTBOX_MISUSE);
    assert_null(outbox_connection(NULL));
    assert_int_equal(outbox_payload_max(NULL), 0);
    assert_int_equal(outbox_fire_bytes(NULL), 0);
    assert_null(outbox_warning(NULL));
    outbox_detach(NULL);
}

/* [stats-2] */
static void test_inspect_needs_a_connection_and_a_place_for_its_answer(void **state)
{
    struct bench *bench = *state;
    outbox_statistics statistics;
    char sentence[100] = "";
    assert_int_equal(outbox_inspect(NULL, &statistics, sentence, sizeof sentence), OUTBOX_MISUSE);
    assert_non_null(strstr(sentence, "NULL"));
    assert_int_equal(outbox_inspect(bench->db, NULL, NULL, 0), OUTBOX_MISUSE);
    assert_int_equal(outbox_inspect(bench->db, NULL, sentence, 0), OUTBOX_MISUSE);
}

static void test_a_service_of_another_version_is_not_bound(void **state)
{
    struct bench *bench = *state;
    outbox_service service = {.version = 2};
    assert_int_equal(outbox_bind(NULL, &service, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_bind(bench->box, NULL, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_bind(bench->box, &service, NULL), OUTBOX_MISUSE);
    assert_int_equal(outbox_stop(bench->box), OUTBOX_NOT_STARTED);
}

/* The extension forgets its handle: nobody else would free it. */
static void test_a_handle_that_is_left_lives_as_long_as_its_connection(void **state)
{
    struct bench *bench = *state;
    sqlite3 *other = bench_connect(bench);
    outbox *left = NULL;
    assert_int_equal(outbox_attach(other, NULL, &left), OUTBOX_OK);
    ob_writer_leave(left);
    assert_int_equal(outbox_put(left, &(outbox_event){.topic = "a"}, NULL), OUTBOX_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    bench->db = NULL;
    ob_writer_leave(bench->box);
    bench->box = NULL;
    ob_writer_leave(NULL);
}

/* [attach-6] */
static void test_a_payload_limit_over_the_cap_is_refused_with_or_without_a_sentence(void **state)
{
    struct bench *bench = *state;
    char sentence[200] = "before";
    outbox *box = NULL;
    sqlite3 *other = bench_connect(bench);
    outbox_config config = {.payload_max = OUTBOX_PAYLOAD_CAP + 1};
    assert_int_equal(outbox_attach(other, &config, &box), OUTBOX_MISUSE);
    config.sentence = sentence;
    assert_int_equal(outbox_attach(other, &config, &box), OUTBOX_MISUSE);
    assert_string_equal(sentence, "before"); /* of size 0 */
    config.sentence_size = sizeof sentence;
    assert_int_equal(outbox_attach(other, &config, &box), OUTBOX_MISUSE);
    assert_non_null(strstr(sentence, "payload_max"));
    assert_null(box);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static void test_a_handle_takes_payloads_up_to_its_own_limit(void **state)
{
    struct bench *bench = *state;
    outbox *box = NULL;
    char payload[11] = "0123456789";
    outbox_event event = {.topic = "a", .payload = payload, .payload_len = 10};
    sqlite3 *other = bench_connect(bench);
    assert_int_equal(outbox_attach(other, &(outbox_config){.payload_max = 10}, &box), OUTBOX_OK);
    assert_int_equal(outbox_payload_max(box), 10);
    assert_int_equal(outbox_put(box, &event, NULL), OUTBOX_OK);
    event.payload_len = 11;
    assert_int_equal(outbox_put(box, &event, NULL), OUTBOX_TOO_LARGE);
    outbox_detach(box);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* [attach-6] */
static void test_attach_without_memory_says_so_and_changes_nothing(void **state)
{
    struct bench *bench = *state;
    char sentence[200] = "";
    outbox *box = NULL;
    sqlite3 *other = bench_connect(bench);
    outbox_config config = {.sentence = sentence, .sentence_size = sizeof sentence};
    sqlite3_hard_heap_limit64(sqlite3_memory_used());
    int code = outbox_attach(other, &config, &box);
    sqlite3_hard_heap_limit64(0);
    assert_int_equal(code, OUTBOX_NO_MEMORY);
    assert_string_equal(sentence, outbox_strerror(OUTBOX_NO_MEMORY));
    assert_null(box);
    assert_int_equal(outbox_attach(other, &config, &box), OUTBOX_OK);
    outbox_detach(box);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

/* [put-7] the application's own limit on the length of a value */
static void test_a_put_over_the_connections_own_limit_is_refused_and_leaves_nothing(void **state)
{
    struct bench *bench = *state;
    char text[201];
    memset(text, 'x', sizeof text);
    text[200] = '\0';
    const outbox_event events[] = {
        {.topic = text},
        {.topic = "a", .payload = text, .payload_len = 200},
        {.topic = "a", .payload = text, .payload_len = 200, .content_type = "text/plain"},
        {.topic = "a", .type = text},
        {.topic = "a", .content_type = text},
        {.topic = "a", .key = text},
    };
    assert_int_equal(bench_put(bench, "a", "b"), 1);
    int before = sqlite3_limit(bench->db, SQLITE_LIMIT_LENGTH, 150);
    bench_sql(bench->db, "BEGIN");
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        assert_int_equal(outbox_put(bench->box, &events[i], NULL), OUTBOX_TOO_LARGE);
        assert_non_null(strstr(outbox_errmsg(bench->box), "too big"));
        assert_false(sqlite3_get_autocommit(bench->db));
    }
    assert_int_equal(bench_put(bench, "a", "c"), 2);
    bench_sql(bench->db, "COMMIT");
    sqlite3_limit(bench->db, SQLITE_LIMIT_LENGTH, before);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 3);
}

/* ---- The forwarder --------------------------------------------------------------------------- */

static void test_each_time_out_of_range_is_refused(void **state)
{
    const unsigned longest = 1u << 28;
    const outbox_forwarder_config configs[] = {
        {.settle_quiet_ms = (1u << 24) + 1},
        {.ack_timeout_ms = longest + 1},
        {.connect_timeout_ms = longest + 1},
        {.foreign_check_ms = longest + 1},
        {.backoff_max_ms = longest + 1},
        {.mode = (outbox_mode)7},
        {.ce_prefix = 1},
        {.mode = OUTBOX_PLAIN, .ce_prefix = 1},
    };
    const outbox_forwarder_config largest = {.settle_quiet_ms = 1u << 24,
                                             .ack_timeout_ms = longest,
                                             .connect_timeout_ms = longest,
                                             .foreign_check_ms = longest,
                                             .backoff_max_ms = longest};
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++)
        assert_int_equal(outbox_forwarder_size(&configs[i]), 0);
    assert_true(outbox_forwarder_size(&largest) > 0);
}

/* [init-2] */
static void test_init_refuses_what_is_missing_or_of_another_version(void **state)
{
    struct bench *bench = *state;
    static char memory[64];
    outbox_link_methods methods = {.version = 0};
    outbox_link none = {.methods = NULL}, other = {.methods = &methods}, *good = &rig.link.link;
    outbox_forwarder *f = NULL;
    fake_port_init(&rig.port);
    fake_link_init(&rig.link);
    outbox_port *port = &rig.port.port, newer = *port;
    newer.version = 2;
    const struct {
        sqlite3 *db;
        outbox_link *link;
        outbox_port *port;
        outbox_forwarder **f;
    } calls[] = {
        {NULL, good, port, &f},        {bench->db, NULL, port, &f}, {bench->db, &none, port, &f},
        {bench->db, &other, port, &f}, {bench->db, good, NULL, &f}, {bench->db, good, &newer, &f},
        {bench->db, good, port, NULL},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        char sentence[200] = "";
        assert_int_equal(outbox_forwarder_init(memory, sizeof memory, calls[i].db, calls[i].link,
                                               calls[i].port, NULL, calls[i].f, sentence,
                                               sizeof sentence),
                         OUTBOX_MISUSE);
        assert_non_null(strstr(sentence, "NULL or of another version"));
        assert_null(f);
    }
}

/* [init-2] */
static void test_init_refuses_a_link_or_a_port_that_lacks_a_function(void **state)
{
    enum { METHODS = 5, ALL = METHODS + 2 };
    struct bench *bench = *state;
    static char memory[1 << 20];
    fake_port_init(&rig.port);
    fake_link_init(&rig.link);
    for (int i = 0; i < ALL; i++) {
        char sentence[200] = "";
        outbox_forwarder *f = NULL;
        outbox_link_methods methods = *rig.link.link.methods;
        outbox_link link = {.methods = &methods};
        outbox_port port = rig.port.port;
        if (i == 0)
            methods.open = NULL;
        if (i == 1)
            methods.publish = NULL;
        if (i == 2)
            methods.poll = NULL;
        if (i == 3)
            methods.close = NULL;
        if (i == 4)
            methods.probe = NULL;
        if (i == METHODS)
            port.now_ms = NULL;
        if (i == METHODS + 1)
            port.random = NULL;
        assert_int_equal(outbox_forwarder_init(memory, sizeof memory, bench->db, &link, &port, NULL,
                                               &f, sentence, sizeof sentence),
                         OUTBOX_MISUSE);
        assert_non_null(strstr(sentence, "NULL"));
        assert_null(f);
    }
}

/* [init-2] */
static void test_init_names_a_value_out_of_range_where_there_is_room_to(void **state)
{
    struct bench *bench = *state;
    static char memory[64];
    char sentence[200] = "before";
    outbox_forwarder *f = NULL;
    const outbox_forwarder_config config = {.window = 1001};
    fake_port_init(&rig.port);
    fake_link_init(&rig.link);
    for (size_t size = 0; size <= sizeof sentence; size += sizeof sentence) {
        assert_int_equal(outbox_forwarder_init(memory, sizeof memory, bench->db, &rig.link.link,
                                               &rig.port.port, &config, &f, sentence, size),
                         OUTBOX_MISUSE);
        assert_non_null(strstr(sentence, size == 0 ? "before" : "out of range"));
    }
}

/* [init-2] */
static void test_a_connection_with_journal_mode_off_gets_no_forwarder(void **state)
{
    struct bench *bench = *state;
    static char memory[1 << 20];
    char sentence[200] = "";
    outbox_forwarder *f = NULL;
    bench_reopen(bench, "DELETE", "EXTRA");
    bench->own = bench_connect(bench);
    bench_sql(bench->own, "PRAGMA journal_mode = OFF");
    fake_port_init(&rig.port);
    fake_link_init(&rig.link);
    assert_int_equal(outbox_forwarder_init(memory, sizeof memory, bench->own, &rig.link.link,
                                           &rig.port.port, NULL, &f, sentence, sizeof sentence),
                     OUTBOX_UNSAFE_JOURNAL);
    assert_non_null(strstr(sentence, "journal_mode is OFF"));
    assert_null(sqlite3_next_stmt(bench->own, NULL));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_calls_without_a_handle_are_misuse_and_give_nothing),
        CASE(test_inspect_needs_a_connection_and_a_place_for_its_answer),
        CASE(test_a_service_of_another_version_is_not_bound),
        CASE(test_a_handle_that_is_left_lives_as_long_as_its_connection),
        CASE(test_a_payload_limit_over_the_cap_is_refused_with_or_without_a_sentence),
        CASE(test_a_handle_takes_payloads_up_to_its_own_limit),
        CASE(test_attach_without_memory_says_so_and_changes_nothing),
        CASE(test_a_put_over_the_connections_own_limit_is_refused_and_leaves_nothing),
        CASE(test_each_time_out_of_range_is_refused),
        CASE(test_init_refuses_what_is_missing_or_of_another_version),
        CASE(test_init_refuses_a_link_or_a_port_that_lacks_a_function),
        CASE(test_init_names_a_value_out_of_range_where_there_is_room_to),
        CASE(test_a_connection_with_journal_mode_off_gets_no_forwarder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
