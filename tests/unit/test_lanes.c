/* SPDX-License-Identifier: MIT
 *
 * test_lanes.c - urgent and normal events side by side: who goes first, who is not starved, and
 * that trouble in one lane does not stop the other.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

static int64_t put_in(struct bench *bench, outbox_lane lane, const char *topic)
{
    int64_t id = 0;
    outbox_event event = {.topic = topic, .payload = "x", .payload_len = 1, .lane = lane};
    assert_int_equal(outbox_put(bench->box, &event, &id), OUTBOX_OK);
    return id;
}

static void put_many(struct bench *bench, outbox_lane lane, const char *topic, int count)
{
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < count; i++)
        put_in(bench, lane, topic);
    bench_sql(bench->db, "COMMIT");
}

static int count_sent(const char *topic, int from, int to)
{
    int count = 0;
    for (int i = from; i < to; i++)
        count += strcmp(rig.link.sent[i].topic, topic) == 0;
    return count;
}

static void test_each_lane_has_ids_and_a_source_of_its_own(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(put_in(bench, OUTBOX_NORMAL, "n"), 1);
    assert_int_equal(put_in(bench, OUTBOX_URGENT, "u"), 1);
    assert_int_equal(put_in(bench, OUTBOX_URGENT, "u"), 2);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 3);
    assert_non_null(strstr(rig.link.sent[0].source, "/urgent/"));
    assert_non_null(strstr(rig.link.sent[2].source, "/normal/"));
    assert_string_not_equal(strrchr(rig.link.sent[0].source, '/'),
                            strrchr(rig.link.sent[2].source, '/'));
    assert_int_equal(rig.link.sent[1].previous, 1);
    rig_ack_from(&rig, 0);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.lanes[OUTBOX_URGENT].delivered, 2);
    assert_int_equal(now.lanes[OUTBOX_NORMAL].delivered, 1);
    assert_int_equal(now.delivered, 3);
    assert_int_equal(now.accepted, 3);
}

static void test_a_lane_that_does_not_exist_is_refused(void **state)
{
    struct bench *bench = *state;
    outbox_event event = {.topic = "a", .lane = (outbox_lane)2};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_MISUSE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "lane"));
}

/* [lane-1] */
static void test_an_urgent_event_overtakes_the_normal_ones_that_wait(void **state)
{
    struct bench *bench = *state;
    put_many(bench, OUTBOX_NORMAL, "n", 500);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    assert_int_equal(rig.link.sent_count, 10);
    put_in(bench, OUTBOX_URGENT, "u");
    outbox_forwarder_committed(bench->forwarder, NULL);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 11);
    assert_string_equal(rig.link.sent[10].topic, "u");
}

/* [lane-1] */
static void test_one_event_in_eight_is_normal_while_both_lanes_wait(void **state)
{
    struct bench *bench = *state;
    put_many(bench, OUTBOX_URGENT, "u", 400);
    put_many(bench, OUTBOX_NORMAL, "n", 400);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 80);
    assert_int_equal(rig.link.sent_count, 80);
    assert_int_equal(count_sent("n", 0, 80), 10);
    assert_int_equal(count_sent("n", 0, 8), 1);
}

/* [P5] */
static void test_the_order_in_each_lane_is_that_of_the_commits(void **state)
{
    struct bench *bench = *state;
    put_many(bench, OUTBOX_NORMAL, "n", 100);
    put_many(bench, OUTBOX_URGENT, "u", 100);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 30);
    for (int from = 0; rig.link.sent_count > from && from < 1000;) {
        int to = rig.link.sent_count;
        for (; from < to; from++)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_step(&rig);
    }
    int64_t last[OUTBOX_LANES] = {0};
    for (int i = 0; i < rig.link.sent_count; i++) {
        int lane = rig.link.sent[i].topic[0] == 'u' ? OUTBOX_URGENT : OUTBOX_NORMAL;
        assert_int_equal(rig.link.sent[i].id, last[lane] + 1);
        assert_int_equal(rig.link.sent[i].previous, last[lane]);
        last[lane]++;
    }
    assert_int_equal(last[OUTBOX_NORMAL], 100);
    assert_int_equal(last[OUTBOX_URGENT], 100);
}

static void ack_all_but(const char *topic, int *from)
{
    for (; *from < rig.link.sent_count; (*from)++) {
        const struct fake_sent *sent = &rig.link.sent[*from];
        fake_link_acked(&rig.link, sent->token, strcmp(sent->topic, topic) == 0 ? 0x80 : 0);
    }
}

static void test_a_lane_whose_event_is_refused_does_not_stop_the_other(void **state)
{
    struct bench *bench = *state;
    int from = 0;
    put_in(bench, OUTBOX_URGENT, "refused");
    put_in(bench, OUTBOX_URGENT, "behind");
    put_many(bench, OUTBOX_NORMAL, "n", 300);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    for (int i = 0; i < 400 && rig_stats(&rig).lanes[OUTBOX_NORMAL].delivered < 300; i++) {
        ack_all_but("refused", &from);
        rig_run(&rig, 100);
        rig_reconnect(&rig, 10);
    }
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.lanes[OUTBOX_NORMAL].delivered, 300);
    assert_int_equal(now.lanes[OUTBOX_URGENT].delivered, 0);
    assert_int_equal(now.sending[OUTBOX_URGENT].refused_id, 1);
    assert_int_equal(now.sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(now.last_error, OUTBOX_REFUSED);
}

static void test_a_refused_event_is_alone_in_flight(void **state)
{
    struct bench *bench = *state;
    put_many(bench, OUTBOX_NORMAL, "n", 50);
    put_in(bench, OUTBOX_URGENT, "refused");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x80);
    rig_step(&rig);
    int from = rig.link.sent_count;
    for (int i = 0; i < 400; i++) {
        rig_reconnect(&rig, 10);
        rig_run(&rig, 50);
        for (; from < rig.link.sent_count; from++) {
            if (strcmp(rig.link.sent[from].topic, "refused") == 0) {
                assert_int_equal(rig_stats(&rig).in_flight, 1);
                return;
            }
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        }
    }
    fail_msg("it is not sent again");
}

static void test_a_flush_waits_for_both_lanes(void **state)
{
    struct bench *bench = *state;
    int64_t n = put_in(bench, OUTBOX_NORMAL, "n"), u = put_in(bench, OUTBOX_URGENT, "u");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 10);
    outbox_forwarder_flush(bench->forwarder, (int64_t[]){n, u});
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    rig_run(&rig, 10);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_NORMAL].settled_id, n);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_URGENT].settled_id, u);
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
        CASE(test_each_lane_has_ids_and_a_source_of_its_own),
        CASE(test_a_lane_that_does_not_exist_is_refused),
        CASE(test_an_urgent_event_overtakes_the_normal_ones_that_wait),
        CASE(test_one_event_in_eight_is_normal_while_both_lanes_wait),
        CASE(test_the_order_in_each_lane_is_that_of_the_commits),
        CASE(test_a_lane_whose_event_is_refused_does_not_stop_the_other),
        CASE(test_a_refused_event_is_alone_in_flight),
        CASE(test_a_flush_waits_for_both_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
