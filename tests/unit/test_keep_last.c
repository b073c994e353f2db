/* SPDX-License-Identifier: MIT
 *
 * test_keep_last.c - events of which only the newest one of a key matters. [latest-1]
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

static int64_t put(struct bench *bench, const char *key, int keep_last)
{
    int64_t id = 0;
    outbox_event event = {
        .topic = "a", .payload = "x", .payload_len = 1, .key = key, .keep_last = keep_last};
    int code = outbox_put(bench->box, &event, &id);
    if (code != OUTBOX_OK)
        fail_msg("put: %s", outbox_errmsg(bench->box));
    return id;
}

static void start(struct bench *bench)
{
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
}

static void drain(void)
{
    for (int from = 0, quiet = 0; quiet < 3; quiet++) {
        for (; from < rig.link.sent_count; from++, quiet = 0)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_run(&rig, 1100);
    }
}

static void test_an_event_that_keeps_the_last_needs_a_key(void **state)
{
    struct bench *bench = *state;
    outbox_event event = {.topic = "a", .keep_last = 1};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_BAD_ATTRIBUTE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "key"));
}

/* [P4] the law holds, and `previous` names what was sent */
static void test_older_unsent_events_of_the_key_are_not_sent(void **state)
{
    struct bench *bench = *state;
    put(bench, "door", 1); /* as long as the other key, and another one */
    put(bench, "temp", 1);
    put(bench, NULL, 0);
    put(bench, "temp", 1);
    put(bench, "temp", 1);
    start(bench);
    rig_connect(&rig, 100);
    drain();
    assert_int_equal(rig.link.sent_count, 3);
    assert_int_equal(rig.link.sent[0].id, 1);
    assert_int_equal(rig.link.sent[1].id, 3);
    assert_int_equal(rig.link.sent[1].previous, 1);
    assert_int_equal(rig.link.sent[2].id, 5);
    assert_int_equal(rig.link.sent[2].previous, 3);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.superseded, 2);
    assert_int_equal(now.delivered, 3);
    assert_int_equal(now.accepted, 5);
    assert_int_equal(now.pending, 0);
}

static void test_events_that_do_not_keep_the_last_are_all_sent(void **state)
{
    struct bench *bench = *state;
    put(bench, "temp", 0);
    put(bench, "temp", 1);
    put(bench, "temp", 0);
    start(bench);
    rig_connect(&rig, 100);
    drain();
    assert_int_equal(rig.link.sent_count, 3);
}

static void test_an_event_in_flight_is_not_superseded(void **state)
{
    struct bench *bench = *state;
    put(bench, "temp", 1);
    start(bench);
    rig_connect(&rig, 100);
    put(bench, "temp", 1);
    outbox_forwarder_committed(bench->forwarder, NULL);
    drain();
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig_stats(&rig).superseded, 0);
    assert_int_equal(rig_stats(&rig).delivered, 2);
}

static void put_between(struct bench *bench, int count)
{
    bench_sql(bench->db, "BEGIN");
    put(bench, "temp", 1);
    for (int i = 0; i < count; i++)
        put(bench, NULL, 0);
    put(bench, "temp", 1);
    bench_sql(bench->db, "COMMIT");
}

static void test_an_event_behind_the_batch_supersedes_as_well(void **state)
{
    struct bench *bench = *state;
    put_between(bench, 1000); /* a batch has 256 */
    start(bench);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent[0].id, 2);
    drain();
    assert_int_equal(rig_stats(&rig).superseded, 1);
}

static void test_one_far_behind_the_batch_does_not(void **state)
{
    struct bench *bench = *state;
    put_between(bench, 256 + OUTBOX_LOOK_AHEAD);
    start(bench);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent[0].id, 1);
}

static void test_an_event_that_cannot_be_sent_supersedes_nothing(void **state)
{
    struct bench *bench = *state;
    put(bench, "temp", 1);
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload, key, keep_last)"
                         " VALUES(NULL, 'x', 'temp', 1)");
    for (int i = 0; i < 300; i++)
        put(bench, NULL, 0);
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload, key, keep_last)"
                         " VALUES('a', 7, 'temp', 1)");
    start(bench);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent[0].id, 1);
}

/* [latest-1] as it would not be sent, and would not be what the recipient keeps */
static void test_an_event_behind_the_batch_that_is_too_large_supersedes_nothing(void **state)
{
    struct bench *bench = *state;
    put(bench, "temp", 1);
    put(bench, "door", 1);
    for (int i = 0; i < 300; i++)
        put(bench, NULL, 0);
    bench_sql(bench->db,
              "INSERT INTO outbox_event(topic, payload, key, keep_last) VALUES"
              "('a', zeroblob(150), 'temp', 1), ('a', 'x', NULL, 1), ('a', 'x', 'door', 1),"
              "('a', zeroblob(300000), 'temp', 1)");
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = "", .payload_max = 100});
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent[0].id, 1);
    assert_int_equal(rig.link.sent[1].id, 3);
}

/* [latest-1] one that has no message itself takes no part in it */
static void test_an_event_that_is_too_large_is_not_superseded(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload, key, keep_last) VALUES"
                         "('a', zeroblob(150), 'temp', 1)");
    put(bench, "temp", 1);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = "", .payload_max = 100});
    rig_connect(&rig, 100);
    drain();
    assert_int_equal(rig_stats(&rig).superseded, 0);
    assert_int_equal(rig_stats(&rig).dead_lettered, 1);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* [latest-1] among the rows behind the batch, SQLite reads one not at all: it is over the limit */
static void test_an_event_behind_one_of_any_size_supersedes_as_well(void **state)
{
    struct bench *bench = *state;
    put(bench, "temp", 1);
    for (int i = 0; i < 300; i++)
        put(bench, NULL, 0);
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('a', zeroblob(300000))");
    put(bench, "temp", 1);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = "", .payload_max = 100});
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent[0].id, 2);
}

/* [latest-1] nor does one that is too old by now */
static void test_an_event_behind_the_batch_that_has_expired_supersedes_nothing(void **state)
{
    struct bench *bench = *state;
    put(bench, "door", 1);
    for (int i = 0; i < 300; i++)
        put(bench, NULL, 0);
    int64_t id = put(bench, "door", 1);
    char sql[100];
    snprintf(sql, sizeof sql, "UPDATE outbox_event SET expires = 1 WHERE id = %d", (int)id);
    bench_sql(bench->db, sql);
    start(bench);
    rig_connect(&rig, 50);
    drain();
    assert_int_equal(rig_stats(&rig).superseded, 0);
    assert_int_equal(rig_stats(&rig).expired, 1);
    assert_int_equal(rig_stats(&rig).delivered, 301);
}

static void test_keys_of_the_other_lane_are_others(void **state)
{
    struct bench *bench = *state;
    put(bench, "temp", 1);
    outbox_event event = {.topic = "a", .key = "temp", .keep_last = 1, .lane = OUTBOX_URGENT};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    start(bench);
    rig_connect(&rig, 100);
    assert_int_equal(rig.link.sent_count, 2);
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    if (bench->forwarder)
        rig_stop(&rig);
    return bench_close(state);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, bench_open, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_an_event_that_keeps_the_last_needs_a_key),
        CASE(test_older_unsent_events_of_the_key_are_not_sent),
        CASE(test_events_that_do_not_keep_the_last_are_all_sent),
        CASE(test_an_event_in_flight_is_not_superseded),
        CASE(test_an_event_behind_the_batch_supersedes_as_well),
        CASE(test_one_far_behind_the_batch_does_not),
        CASE(test_an_event_that_cannot_be_sent_supersedes_nothing),
        CASE(test_an_event_behind_the_batch_that_is_too_large_supersedes_nothing),
        CASE(test_an_event_that_is_too_large_is_not_superseded),
        CASE(test_an_event_behind_one_of_any_size_supersedes_as_well),
        CASE(test_an_event_behind_the_batch_that_has_expired_supersedes_nothing),
        CASE(test_keys_of_the_other_lane_are_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
