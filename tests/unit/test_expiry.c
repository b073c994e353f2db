/* SPDX-License-Identifier: MIT
 *
 * test_expiry.c - events that are worth sending for a while only, under a wall clock that the test
 * sets: by a VFS that is the default one but for the time.
 */
#include "support.h"

#include "expiry.h"

#include <stdio.h>
#include <string.h>

#define JULIAN_1970 INT64_C(210866760000000)
#define NOW INT64_C(1800000000000) /* in 2027 */

static struct rig rig;
static sqlite3_vfs clock_vfs;
static int64_t wall_ms;

static int64_t pass_ms; /* so much passes between any two looks at the clock */

static int clock_now(sqlite3_vfs *vfs, sqlite3_int64 *now)
{
    (void)vfs;
    *now = JULIAN_1970 + wall_ms;
    wall_ms += pass_ms;
    return SQLITE_OK;
}

static int setup(void **state)
{
    clock_vfs = *sqlite3_vfs_find(NULL);
    clock_vfs.zName = "clock";
    clock_vfs.xCurrentTimeInt64 = clock_now;
    wall_ms = NOW;
    pass_ms = 0;
    return sqlite3_vfs_register(&clock_vfs, 1) != SQLITE_OK || bench_open(state) != 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    if (bench->forwarder)
        rig_stop(&rig);
    return bench_close(state) != 0 || sqlite3_vfs_unregister(&clock_vfs) != SQLITE_OK;
}

static int64_t put(struct bench *bench, int64_t ttl_ms)
{
    int64_t id = 0;
    outbox_event event = {.topic = "a", .payload = "x", .payload_len = 1, .ttl_ms = ttl_ms};
    assert_int_equal(outbox_put(bench->box, &event, &id), OUTBOX_OK);
    return id;
}

/* ---- The arithmetic -------------------------------------------------------------------------- */

static void test_what_remains_is_rounded_up_to_seconds(void **state)
{
    (void)state;
    assert_int_equal(ob_expiry_left(0, NOW), 0);
    assert_int_equal(ob_expiry_left(NOW + 1, NOW), 1);
    assert_int_equal(ob_expiry_left(NOW + 1000, NOW), 1);
    assert_int_equal(ob_expiry_left(NOW + 1001, NOW), 2);
    assert_int_equal(ob_expiry_left(NOW, NOW), 0);
    assert_int_equal(ob_expiry_left(INT64_MAX, NOW), UINT32_MAX);
}

static void test_a_life_without_a_clock_is_told_whole(void **state)
{
    (void)state;
    assert_int_equal(ob_expiry_at_put(60000, 5000), -60000);
    assert_int_equal(ob_expiry_left(-60000, 5000), 60);
    assert_int_equal(ob_expiry_left(-60000, NOW), 60);
    assert_int_equal(ob_expiry_left(INT64_MIN, NOW), 0);
    assert_false(ob_expiry_has_come(-60000, NOW));
}

/* ---- On the way ------------------------------------------------------------------------------ */

static void test_a_life_out_of_range_is_refused(void **state)
{
    struct bench *bench = *state;
    outbox_event event = {.topic = "a", .ttl_ms = -1};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_MISUSE);
    event.ttl_ms = OUTBOX_TTL_MAX + 1;
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_MISUSE);
    event.ttl_ms = OUTBOX_TTL_MAX;
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
}

/* [expiry-1] [P4] */
static void test_an_event_that_is_too_old_is_counted_and_not_sent(void **state)
{
    struct bench *bench = *state;
    put(bench, 0);
    put(bench, 1000);
    put(bench, 5000);
    wall_ms += 1000;
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig.link.sent[1].id, 3);
    assert_int_equal(rig.link.sent[1].previous, 1);
    rig_ack_from(&rig, 0);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.expired, 1);
    assert_int_equal(now.delivered, 2);
    assert_int_equal(now.pending, 0);
    assert_int_equal(now.accepted, 3);
}

/* [expiry-1] the window was full while its time passed, and the next one names what went ahead */
static void test_an_event_that_expires_behind_a_full_window_is_not_sent(void **state)
{
    struct bench *bench = *state;
    put(bench, 0);
    put(bench, 1000);
    put(bench, 0);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 1);
    assert_int_equal(rig.link.sent_count, 1);
    wall_ms += 1000;
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 2);
    assert_int_equal(rig.link.sent[1].id, 3);
    assert_int_equal(rig.link.sent[1].previous, 1);
    rig_ack_from(&rig, 1);
    assert_int_equal(rig_stats(&rig).expired, 1);
}

/* [expiry-1] an event in flight is the broker's; it is delivered, however late its PUBACK comes */
static void test_an_event_in_flight_does_not_expire(void **state)
{
    struct bench *bench = *state;
    put(bench, 1000);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 1);
    wall_ms += 5000;
    rig_ack_from(&rig, 0);
    assert_int_equal(rig_stats(&rig).delivered, 1);
    assert_int_equal(rig_stats(&rig).expired, 0);
}

/* [expiry-2] */
static void test_the_broker_is_told_how_long_the_event_is_still_worth_something(void **state)
{
    struct bench *bench = *state;
    put(bench, 60000);
    put(bench, 0);
    wall_ms += 20500;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent[0].expiry_seconds, 40);
    assert_int_equal(rig.link.sent[1].expiry_seconds, 0);
}

/* [expiry-3] */
/* 0 would mean that it lives for ever. [expiry-2] */
static void test_an_event_that_expires_at_the_last_moment_is_not_sent_without_an_end(void **state)
{
    struct bench *bench = *state;
    /* Each is looked at once when it is read, and twice when it is sent: so one of them expires
     * between these two. */
    for (int i = 0; i < 60; i++)
        put(bench, 50 + 2 * i);
    rig_start(&rig, bench, NULL);
    pass_ms = 1;
    rig_connect(&rig, 100);
    assert_in_range(rig.link.sent_count, 10, 59);
    for (int i = 0; i < rig.link.sent_count; i++)
        assert_in_range(rig.link.sent[i].expiry_seconds, 1, 60);
}

static void test_an_event_put_before_the_clock_was_set_does_not_expire(void **state)
{
    struct bench *bench = *state;
    wall_ms = 4000; /* 1970 */
    put(bench, 60000);
    wall_ms = NOW;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig.link.sent[0].expiry_seconds, 60);
}

/* [expiry-3] */
static void test_nothing_expires_while_the_clock_is_not_set(void **state)
{
    struct bench *bench = *state;
    put(bench, 1000);
    wall_ms = 4000;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(rig.link.sent[0].expiry_seconds, 0);
}

static void test_a_clock_set_back_lets_an_event_live_longer_and_loses_nothing(void **state)
{
    struct bench *bench = *state;
    put(bench, 1000);
    wall_ms -= 86400000;
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_remains_is_rounded_up_to_seconds),
        cmocka_unit_test(test_a_life_without_a_clock_is_told_whole),
        CASE(test_a_life_out_of_range_is_refused),
        CASE(test_an_event_that_is_too_old_is_counted_and_not_sent),
        CASE(test_an_event_that_expires_behind_a_full_window_is_not_sent),
        CASE(test_an_event_in_flight_does_not_expire),
        CASE(test_the_broker_is_told_how_long_the_event_is_still_worth_something),
        CASE(test_an_event_that_expires_at_the_last_moment_is_not_sent_without_an_end),
        CASE(test_an_event_put_before_the_clock_was_set_does_not_expire),
        CASE(test_nothing_expires_while_the_clock_is_not_set),
        CASE(test_a_clock_set_back_lets_an_event_live_longer_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
