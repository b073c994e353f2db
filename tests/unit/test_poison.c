/* SPDX-License-Identifier: MIT
 *
 * test_poison.c - events that the broker does not want: what is tried again, what becomes a dead
 * letter, when a lane stops, and that a bad network buries nothing.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

static void put(struct bench *bench, const char *topic)
{
    bench_put(bench, topic, "x");
}

static void start(struct bench *bench, unsigned dead_letters_max)
{
    rig_start(&rig, bench,
              &(outbox_forwarder_config){.announce_topic = "",
                                         .payload_max = 100,
                                         .buffer_size = 8192,
                                         .dead_letters_max = dead_letters_max});
}

static int64_t dead(struct bench *bench, const char *reason)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM outbox_dead WHERE reason LIKE '%%%s%%'",
             reason);
    return bench_number(bench->db, sql);
}

static outbox_lane_sending sending(void)
{
    return rig_stats(&rig).sending[OUTBOX_NORMAL];
}

/* Answers all that is sent: topics that begin with '!' with the reason, the others with success. */
static void broker(uint32_t ms, int reason)
{
    static int from;
    if (from > rig.link.sent_count)
        from = 0;
    for (uint32_t passed = 0; passed < ms; passed += 100) {
        if (rig.link.is_open && rig.link.answered != rig.link.opens) {
            fake_link_opened(&rig.link, 20);
            from = rig.link.sent_count;
        }
        rig_run(&rig, 50);
        for (; from < rig.link.sent_count && rig.link.is_open; from++)
            fake_link_acked(&rig.link, rig.link.sent[from].token,
                            rig.link.sent[from].topic[0] == '!' ? reason : 0);
        rig_run(&rig, 50);
    }
}

/* ---- Reason codes ---------------------------------------------------------------------------- */

/* [poison-1] [P3] */
static void test_an_event_that_no_broker_will_take_becomes_a_dead_letter_at_once(void **state)
{
    struct bench *bench = *state;
    put(bench, "a"), put(bench, "!"), put(bench, "b");
    start(bench, 0);
    broker(5000, 0x90);
    assert_int_equal(dead(bench, "reason 0x90, topic name invalid"), 1);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.delivered, 2);
    assert_int_equal(now.dead_lettered, 1);
    assert_int_equal(now.refusals, 1);
    assert_int_equal(now.pending, 0);
    assert_int_equal(now.last_error, OUTBOX_OK);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].id, 3);
    assert_int_equal(rig.link.sent[rig.link.sent_count - 1].previous, 1);
}

/* [poison-1] */
static void test_one_that_is_not_authorized_is_tried_eight_times(void **state)
{
    struct bench *bench = *state;
    put(bench, "!"), put(bench, "b");
    start(bench, 0);
    rig.port.dice = 0;
    broker(60000, 0x87);
    assert_int_equal(rig_stats(&rig).refusals, 8);
    assert_int_equal(dead(bench, "not authorized"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* The longest pauses: two are drawn behind each refusal, one of the event and one of the link. */
static uint32_t drawn;

static uint32_t longest(void *context)
{
    uint32_t bound = 1000u << drawn++ / 2;
    (void)context;
    return bound > 60000 ? 60000 : bound;
}

/* [poison-4] */
static void
test_one_that_is_not_authorized_holds_its_lane_up_for_three_minutes_at_most(void **state)
{
    enum { BOUND_MS = 183000, ATTEMPTS_MS = 8 * 300 /* of this broker's making */ };
    struct bench *bench = *state;
    put(bench, "!"), put(bench, "b");
    start(bench, 0);
    drawn = 0;
    rig.port.port.random = longest;
    broker(BOUND_MS - 1000, 0x87);
    assert_int_equal(rig_stats(&rig).refusals, 8);
    assert_int_equal(rig_stats(&rig).delivered, 0); /* these are the longest pauses */
    broker(1000 + ATTEMPTS_MS, 0x87);
    assert_int_equal(dead(bench, "not authorized"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

static void test_one_that_the_broker_may_take_later_is_tried_for_ever(void **state)
{
    static const int reasons[] = {0x80, 0x83, 0x97, 0x9a};
    struct bench *bench = *state;
    put(bench, "!"), put(bench, "b");
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        start(bench, 0);
        rig.port.dice = 0;
        broker(20000, reasons[i]);
        assert_true(rig_stats(&rig).refusals > 20);
        assert_int_equal(rig_stats(&rig).delivered, 0);
        assert_int_equal(rig_stats(&rig).last_error, OUTBOX_REFUSED);
        assert_int_equal(sending().refused_id, 1);
        assert_int_equal(sending().refused_reason, reasons[i]);
        rig_stop(&rig);
    }
    assert_int_equal(dead(bench, ""), 0);
}

static void test_an_identifier_in_use_is_not_the_events_fault(void **state)
{
    struct bench *bench = *state;
    put(bench, "!");
    start(bench, 0);
    broker(2000, 0x91);
    assert_int_equal(sending().refused_id, 0);
    assert_true(rig.link.opens > 1);
    broker(5000, 0);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

static void test_one_larger_than_the_server_takes_becomes_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    bench_put(bench, "a", "x");
    bench_put(bench, "a", "0123456789012345678901234567890123456789012345678901234567890123456789");
    bench_put(bench, "b", "y");
    start(bench, 0);
    rig.link.maximum_packet = 322;
    broker(5000, 0);
    assert_int_equal(dead(bench, "packet too large"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 2);
}

/* ---- Our own limits -------------------------------------------------------------------------- */

static void test_one_over_our_own_limit_becomes_a_dead_letter_and_is_not_sent(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('a', zeroblob(150)),"
                         " ('a', 'small'), ('a', zeroblob(300000)), ('a', 'small'),"
                         " ('a', zeroblob(150)), ('a', 'small'), ('a', zeroblob(150)),"
                         " ('a', 'small'), ('a', zeroblob(150)), ('a', 'small')");
    start(bench, 0);
    broker(5000, 0);
    assert_int_equal(dead(bench, "payload_max"), 5);
    assert_int_equal(rig_stats(&rig).delivered, 5);
    assert_int_equal(rig.link.opens, 1);
}

/* [poison-2] */
static void test_a_lane_stops_where_all_events_are_over_our_own_limit(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 6; i++)
        bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('a', zeroblob(150))");
    start(bench, 0);
    broker(20000, 0);
    assert_int_equal(dead(bench, "payload_max"), 3);
    assert_int_equal(sending().refused_id, 4);
    assert_int_equal(sending().refused_reason, 0x95);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "payload_max of 100"));
    bench_sql(bench->db, "UPDATE outbox_event SET payload = 'cut' WHERE payload NOT NULL");
    broker(120000, 0);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(sending().refused_id, 0);
}

/* [poison-2] as the stop ends the connection, and the other lane would hold it up */
static void test_a_lane_that_stops_waits_for_what_is_in_flight(void **state)
{
    struct bench *bench = *state;
    put(bench, "a");
    for (int i = 0; i < 2; i++)
        bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('a', zeroblob(150))");
    start(bench, 1);
    rig_connect(&rig, 20);
    rig_run(&rig, 1000);
    outbox_event urgent = {.topic = "u", .lane = OUTBOX_URGENT};
    assert_int_equal(outbox_put(bench->box, &urgent, NULL), OUTBOX_OK);
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_run(&rig, 1000);
    assert_int_equal(rig.link.sent_count, 1);
    assert_int_equal(sending().refused_id, 0);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    broker(5000, 0);
    assert_int_equal(sending().refused_id, 3);
    assert_int_equal(rig_stats(&rig).delivered, 2);
}

static void test_the_stop_at_large_events_can_be_switched_off(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 6; i++)
        bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload) VALUES('a', zeroblob(150))");
    start(bench, OUTBOX_NEVER);
    broker(5000, 0);
    assert_int_equal(dead(bench, "payload_max"), 6);
}

/* ---- When a lane stops ----------------------------------------------------------------------- */

static void put_refused(struct bench *bench, int count)
{
    for (int i = 0; i < count; i++)
        put(bench, "!");
}

/* [poison-2] */
static void test_after_three_dead_letters_in_a_row_the_lane_stops(void **state)
{
    struct bench *bench = *state;
    put_refused(bench, 10);
    start(bench, 0);
    broker(60000, 0x90);
    assert_int_equal(dead(bench, "0x90"), 3);
    assert_int_equal(sending().refused_id, 4);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "the lane stops"));
    assert_int_equal(rig_stats(&rig).pending, 7);
}

/* [poison-2] by the sentence one can tell what to do */
static void test_a_lane_that_stops_at_large_events_says_so(void **state)
{
    struct bench *bench = *state;
    put_refused(bench, 5);
    start(bench, 0);
    broker(60000, 0x95);
    assert_int_equal(dead(bench, "packet too large"), 3);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "beyond what it accepts"));
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "the lane stops"));
}

/* [poison-2] it heals by itself once the broker is mended */
static void test_a_lane_that_stopped_goes_on_when_the_event_is_taken(void **state)
{
    struct bench *bench = *state;
    put_refused(bench, 10);
    start(bench, 0);
    rig.port.dice = 0;
    broker(20000, 0x90);
    broker(20000, 0);
    assert_int_equal(rig_stats(&rig).delivered, 7);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

static void test_dead_letters_with_others_between_do_not_stop_the_lane(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 6; i++)
        put(bench, "!"), put(bench, "a");
    start(bench, 0);
    broker(60000, 0x90);
    assert_int_equal(dead(bench, "0x90"), 6);
    assert_int_equal(rig_stats(&rig).delivered, 6);
}

/* [poison-2] */
static void test_the_stop_can_be_set_and_switched_off(void **state)
{
    struct bench *bench = *state;
    put_refused(bench, 10);
    start(bench, 1);
    broker(10000, 0x90);
    assert_int_equal(dead(bench, "0x90"), 1);
    rig_stop(&rig);
    start(bench, OUTBOX_NEVER);
    rig.port.dice = 0;
    broker(60000, 0x90);
    assert_int_equal(dead(bench, "0x90"), 10);
}

/* ---- Brokers that hang up -------------------------------------------------------------------- */

/* A broker of MQTT 3.1.1 for a while: it hangs up when a topic begins with '!'. */
static void hanging_broker(uint32_t ms, uint32_t round_trip_ms)
{
    int from = rig.link.sent_count, probes = 0;
    for (uint32_t passed = 0; passed < ms; passed += round_trip_ms) {
        if (rig.link.is_open && rig.link.answered != rig.link.opens) {
            fake_link_opened(&rig.link, 20);
            from = rig.link.sent_count;
            probes = rig.link.probes;
        }
        rig_run(&rig, round_trip_ms);
        for (; rig.link.is_open && probes < rig.link.probes; probes++)
            fake_link_alive(&rig.link);
        for (; rig.link.is_open && from < rig.link.sent_count; from++) {
            if (rig.link.sent[from].topic[0] == '!') {
                fake_link_hung_up(&rig.link, "the broker hangs up");
                from = rig.link.sent_count;
                break;
            }
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        }
    }
}

/* [poison-3] [P3] */
static void test_an_event_on_which_the_broker_hangs_up_becomes_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    put(bench, "a"), put(bench, "b"), put(bench, "!"), put(bench, "c");
    start(bench, 0);
    hanging_broker(30000, 10);
    assert_int_equal(dead(bench, "hung up"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 3);
    assert_int_equal(rig_stats(&rig).pending, 0);
}

/* [poison-3] the oldest in flight is not always the one; then the suspicion must move on */
static void test_a_suspicion_of_the_wrong_lane_is_given_up(void **state)
{
    struct bench *bench = *state;
    put(bench, "a");
    assert_int_equal(
        outbox_put(
            bench->box,
            &(outbox_event){.topic = "!", .payload = "x", .payload_len = 1, .lane = OUTBOX_URGENT},
            NULL),
        OUTBOX_OK);
    start(bench, 0);
    hanging_broker(40000, 10);
    assert_int_equal(dead(bench, "hung up"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* [poison-3] whatever the dice say */
static void test_the_others_wait_for_less_than_half_a_minute(void **state)
{
    struct bench *bench = *state;
    put(bench, "!"), put(bench, "c");
    start(bench, 0);
    rig.port.dice = 8 * 125 * 1000 - 1; /* the longest pauses */
    hanging_broker(30000, 50);
    assert_int_equal(rig_stats(&rig).delivered, 1);
}

/* As hanging_broker(), but closing with bytes unread: the RST takes the PUBACKs of those ahead
 * along. */
static void resetting_broker(uint32_t ms, uint32_t round_trip_ms)
{
    int from = rig.link.sent_count, probes = 0;
    for (uint32_t passed = 0; passed < ms; passed += round_trip_ms) {
        if (rig.link.is_open && rig.link.answered != rig.link.opens) {
            fake_link_opened(&rig.link, 100);
            from = rig.link.sent_count;
            probes = rig.link.probes;
        }
        rig_run(&rig, round_trip_ms);
        for (; rig.link.is_open && probes < rig.link.probes; probes++)
            fake_link_alive(&rig.link);
        bool hangs_up = false;
        for (int i = from; i < rig.link.sent_count; i++)
            hangs_up |= rig.link.sent[i].topic[0] == '!';
        if (rig.link.is_open && hangs_up)
            fake_link_hung_up(&rig.link, "the broker hangs up");
        for (; rig.link.is_open && from < rig.link.sent_count; from++)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
    }
}

/* [poison-3] however many were in flight with it */
static void test_the_others_wait_no_longer_where_their_pubacks_are_lost(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 90; i++)
        put(bench, "a");
    put(bench, "!");
    put(bench, "c");
    start(bench, 0);
    rig.port.dice = 8 * 125 * 1000 - 1; /* the longest pauses */
    resetting_broker(59000, 10);
    assert_int_equal(dead(bench, "hung up"), 1);
    assert_int_equal(rig_stats(&rig).delivered, 91);
}

/* [poison-3] */
static void test_a_network_that_ends_connections_at_random_buries_nothing(void **state)
{
    struct bench *bench = *state;
    uint64_t dice = 7;
    int from = 0, probes = 0;
    start(bench, 0);
    rig.port.dice = 0;
    for (int cut = 0; cut < 1000; cut++) {
        if (cut % 4 == 0)
            put(bench, "a");
        outbox_forwarder_committed(bench->forwarder, NULL);
        rig_reconnect(&rig, 20);
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        uint32_t holds_ms = (uint32_t)(dice >> 33) % (cut % 2 ? 40 : 3000);
        for (uint32_t passed = 0; passed < holds_ms; passed += 10) {
            rig_run(&rig, 10);
            for (; probes < rig.link.probes; probes++)
                fake_link_alive(&rig.link);
            if (from > 0 && rig.link.sent_count > from && passed % 30 == 0)
                fake_link_acked(&rig.link, rig.link.sent[rig.link.sent_count - 1].token, 0);
            from = rig.link.sent_count;
            rig.link.sent_count = rig.link.sent_count > 3000 ? 0 : rig.link.sent_count;
        }
        fake_link_hung_up(&rig.link, "cut");
        rig_step(&rig);
        probes = rig.link.probes;
    }
    assert_int_equal(dead(bench, ""), 0);
}

static void test_a_time_out_is_not_a_hang_up(void **state)
{
    struct bench *bench = *state;
    put(bench, "a");
    start(bench, 0);
    for (int i = 0; i < 30; i++) {
        rig_reconnect(&rig, 20);
        rig_run(&rig, 2000);
        fake_link_closed(&rig.link, "no answer");
        rig_run(&rig, 100);
    }
    assert_int_equal(sending().refused_id, 0);
    assert_int_equal(dead(bench, ""), 0);
}

static void test_the_suspect_is_sent_alone_and_only_after_signs_of_life(void **state)
{
    struct bench *bench = *state;
    put(bench, "!"), put(bench, "b");
    start(bench, 0);
    rig.port.dice = 0;
    for (int i = 0; i < 2; i++) {
        rig_reconnect(&rig, 20);
        rig_run(&rig, 10);
        fake_link_hung_up(&rig.link, "gone");
        rig_run(&rig, 10);
    }
    rig_reconnect(&rig, 20);
    int before = rig.link.sent_count;
    rig_run(&rig, 200);
    assert_int_equal(rig.link.sent_count, before); /* no sign of life yet */
    assert_int_equal(rig.link.probes, 1);
    fake_link_alive(&rig.link);
    rig_run(&rig, 4000);
    assert_int_equal(rig.link.probes, 1);
    rig_run(&rig, 2500);
    assert_int_equal(rig.link.probes, 2); /* behind twenty round trips */
    fake_link_alive(&rig.link);
    rig_run(&rig, 50);
    assert_int_equal(rig.link.sent_count, before + 1);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    fake_link_acked(&rig.link, rig.link.sent[before].token, 0);
    rig_run(&rig, 50);
    assert_int_equal(sending().refused_id, 0);
    assert_int_equal(rig.link.sent_count, before + 2);
}

/* Brings a connection up, lets it hold until the suspect is in flight, and for `ms` more. */
static void try_suspect(uint32_t ms)
{
    int probes = rig.link.probes, sent = rig.link.sent_count;
    rig_reconnect(&rig, 20);
    for (int i = 0; i < 100 && rig.link.sent_count == sent; i++) {
        rig_run(&rig, 50);
        for (; probes < rig.link.probes; probes++)
            fake_link_alive(&rig.link);
    }
    assert_int_equal(rig.link.sent_count, sent + 1);
    rig_run(&rig, ms);
}

/* [poison-3] the other side has not ended that one */
static void test_a_connection_without_a_puback_breaks_the_row_of_hang_ups(void **state)
{
    enum { TIME_OUT_MS = 31000 };
    struct bench *bench = *state;
    put(bench, "!");
    start(bench, 0);
    rig.port.dice = 0;
    for (int i = 0; i < 4; i++) {
        rig_reconnect(&rig, 20);
        rig_run(&rig, i == 1 ? TIME_OUT_MS : 10);
        if (i != 1)
            fake_link_hung_up(&rig.link, "gone");
        rig_step(&rig);
        assert_int_equal(sending().refused_id, i == 3); /* two in a row */
    }
    for (int i = 0; i < 10; i++) {
        try_suspect(i == 4 ? TIME_OUT_MS : 10);
        if (i != 4)
            fake_link_hung_up(&rig.link, "gone");
        rig_step(&rig);
        assert_int_equal(sending().refused_id, i < 9); /* five in a row */
    }
    rig_reconnect(&rig, 20);
    rig_run(&rig, 1000);
    assert_int_equal(dead(bench, "hung up"), 1);
}

/* ---- Both lanes ------------------------------------------------------------------------------ */

static void put_urgent(struct bench *bench, const char *topic)
{
    outbox_event event = {.topic = topic, .payload = "x", .payload_len = 1, .lane = OUTBOX_URGENT};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    if (bench->forwarder)
        outbox_forwarder_committed(bench->forwarder, NULL);
}

/* Each would end the connections on which the other is to be tried. [poison-3] */
static void test_one_in_each_lane_on_which_the_broker_hangs_up_becomes_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    put(bench, "!"), put(bench, "a");
    put_urgent(bench, "!"), put_urgent(bench, "b");
    start(bench, 0);
    hanging_broker(60000, 10);
    assert_int_equal(dead(bench, "hung up"), 2);
    assert_int_equal(rig_stats(&rig).delivered, 2);
}

static void suspect(struct bench *bench)
{
    put(bench, "!");
    start(bench, 0);
    rig.port.dice = 0;
    for (int i = 0; i < 2; i++) {
        rig_reconnect(&rig, 20);
        rig_run(&rig, 10);
        fake_link_hung_up(&rig.link, "gone");
        rig_run(&rig, 10);
    }
    rig_reconnect(&rig, 20);
    rig_run(&rig, 10);
}

/* And on which the first sign of life was given. */
static void make_suspect(struct bench *bench)
{
    suspect(bench);
    assert_int_equal(rig.link.probes, 1);
    fake_link_alive(&rig.link);
    rig_step(&rig);
}

/* It must be alone in flight, and what the other lane has sent is not acknowledged yet. */
static void test_a_suspect_waits_for_the_other_lane_without_spinning(void **state)
{
    struct bench *bench = *state;
    make_suspect(bench);
    put_urgent(bench, "u");
    rig_run(&rig, 10);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    rig_run(&rig, 20000); /* fails if it spins */
    assert_int_equal(rig.link.probes, 1);
    fake_link_acked(&rig.link, rig.link.sent[rig.link.sent_count - 1].token, 0);
    rig_run(&rig, 10);
    assert_int_equal(rig.link.probes, 2);
}

static void test_the_other_lane_waits_for_the_sign_of_life_without_spinning(void **state)
{
    struct bench *bench = *state;
    make_suspect(bench);
    rig_run(&rig, 10000);
    assert_int_equal(rig.link.probes, 2);
    int before = rig.link.sent_count;
    put_urgent(bench, "u");
    rig_run(&rig, 10000); /* fails if it spins */
    assert_int_equal(rig.link.sent_count, before);
    fake_link_alive(&rig.link);
    rig_run(&rig, 10);
    assert_string_equal(rig.link.sent[before].topic, "!");
    fake_link_acked(&rig.link, rig.link.sent[before].token, 0);
    rig_run(&rig, 10);
    assert_string_equal(rig.link.sent[before + 1].topic, "u");
}

/* [gate-1] */
static void test_a_suspect_behind_the_gate_holds_no_urgent_event_up(void **state)
{
    struct bench *bench = *state;
    make_suspect(bench);
    int before = rig.link.sent_count;
    put_urgent(bench, "u");
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_URGENT_ONLY);
    rig.port.now_ms += 10000; /* proven */
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, before + 1);
    assert_string_equal(rig.link.sent[before].topic, "u");
}

/* [gate-1] */
static void test_a_large_event_behind_the_gate_holds_no_urgent_event_up(void **state)
{
    struct bench *bench = *state;
    put(bench, "a");
    start(bench, 0);
    rig_connect(&rig, 20);
    rig.link.maximum_packet = rig.link.sent[0].payload_len + 5;
    bench_put(bench, "b", "one that is too long for the server");
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_step(&rig); /* it waits until the other one is acked */
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_URGENT_ONLY);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0);
    put_urgent(bench, "u");
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 2);
    assert_string_equal(rig.link.sent[1].topic, "u");
}

/* As long as the network is what ends the connections, urgent ones need not wait for the trial. */
static void test_the_other_lane_goes_on_while_a_suspect_waits(void **state)
{
    struct bench *bench = *state;
    suspect(bench);
    int before = rig.link.sent_count;
    put_urgent(bench, "u");
    rig_run(&rig, 10);
    assert_int_equal(rig.link.sent_count, before + 1);
}

static void test_the_other_lane_waits_for_a_sign_of_life_without_spinning(void **state)
{
    struct bench *bench = *state;
    suspect(bench);
    fake_link_alive(&rig.link);
    for (int i = 0; i < 100 && rig.link.probes < 2; i++)
        rig_run(&rig, 100);
    assert_int_equal(rig.link.probes, 2);
    put_urgent(bench, "u");
    rig_run(&rig, 200); /* fails where each step asks for the next at once */
    fake_link_alive(&rig.link);
    int before = rig.link.sent_count;
    rig_run(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[before].token, 0);
    rig_run(&rig, 10);
    assert_int_equal(rig.link.sent_count, before + 2);
}

/* The first event is refused for now, and its turn comes with the next connection. */
static void begin_refused(struct bench *bench)
{
    put(bench, "!");
    start(bench, 0);
    rig.port.dice = 0;
    rig_connect(&rig, 20);
    rig_run(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x97);
    rig_run(&rig, 10);
}

/* [gate-1] */
static void test_a_refused_event_behind_the_gate_does_not_hold_up_the_urgent_lane(void **state)
{
    struct bench *bench = *state;
    begin_refused(bench);
    put_urgent(bench, "u"); /* progress: the link is back before the refused event's turn */
    rig_reconnect(&rig, 20);
    rig_run(&rig, 10);
    fake_link_acked(&rig.link, rig.link.sent[1].token, 0);
    rig_run(&rig, 10);
    rig.port.dice = 1999;
    fake_link_acked(&rig.link, rig.link.sent[2].token, 0x97);
    rig_run(&rig, 10);
    put_urgent(bench, "u");
    rig_reconnect(&rig, 20);
    rig_run(&rig, 10);
    assert_int_equal(rig.link.sent_count, 4);
    assert_string_equal(rig.link.sent[3].topic, "u");
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_URGENT_ONLY);
    rig_run(&rig, 2000);
    put_urgent(bench, "u");
    rig_run(&rig, 10);
    assert_int_equal(rig.link.sent_count, 5);
}

/* Connects and hangs up so many times, with what is in flight. */
static void hang_up(int times)
{
    for (int i = 0; i < times; i++) {
        fake_link_hung_up(&rig.link, "gone");
        rig_run(&rig, 10);
        rig_reconnect(&rig, 20);
        rig_run(&rig, 10);
    }
}

/* [poison-3] */
static void test_the_oldest_in_flight_is_suspected_in_whatever_lane(void **state)
{
    struct bench *bench = *state;
    start(bench, 0);
    rig.port.dice = 0;
    rig_connect(&rig, 20);
    put_urgent(bench, "u");
    rig_run(&rig, 20);
    put(bench, "a");
    outbox_forwarder_committed(bench->forwarder, NULL);
    rig_run(&rig, 20);
    fake_link_hung_up(&rig.link, "gone");
    rig_run(&rig, 10);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_URGENT_ONLY);
    rig_reconnect(&rig, 20);
    rig_run(&rig, 20);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_OPEN);
    rig_run(&rig, 20);
    assert_int_equal(rig_stats(&rig).in_flight, 2);
    fake_link_hung_up(&rig.link, "gone");
    rig_run(&rig, 10);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_URGENT].refused_id, 1);
    assert_int_equal(sending().refused_id, 0);
}

/* [poison-3] one at a time is tried alone */
static void test_none_is_suspected_while_another_is_refused(void **state)
{
    struct bench *bench = *state;
    begin_refused(bench);
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_URGENT_ONLY);
    put_urgent(bench, "u");
    rig_reconnect(&rig, 20);
    rig_run(&rig, 10);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    hang_up(3);
    assert_int_equal(sending().refused_id, 1);
    assert_int_equal(rig_stats(&rig).sending[OUTBOX_URGENT].refused_id, 0);
}

/* [poison-3] who answers has not hung up on it */
static void test_a_suspect_that_is_refused_is_refused_for_the_first_time(void **state)
{
    struct bench *bench = *state;
    make_suspect(bench);
    rig_run(&rig, 10000);
    fake_link_alive(&rig.link);
    rig_run(&rig, 10);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    fake_link_acked(&rig.link, rig.link.sent[rig.link.sent_count - 1].token, 0x87);
    rig_run(&rig, 10);
    assert_int_equal(sending().refused_reason, 0x87);
    assert_int_equal(dead(bench, ""), 0);
}

/* [poison-3] */
static void test_a_connection_without_a_sign_of_life_is_given_up(void **state)
{
    struct bench *bench = *state;
    suspect(bench);
    assert_int_equal(rig.link.probes, 1);
    rig_run(&rig, 29000);
    assert_true(rig.link.is_open);
    rig_run(&rig, 1500);
    assert_int_equal(rig.link.opens, 4);
    assert_int_equal(sending().refused_id, 1);
    assert_int_equal(dead(bench, ""), 0);
}

/* [poison-2] [poison-3] */
static void test_a_lane_stops_where_the_broker_hangs_up_on_one_after_the_other(void **state)
{
    struct bench *bench = *state;
    put(bench, "!"), put(bench, "!");
    start(bench, 1);
    hanging_broker(90000, 10);
    assert_int_equal(dead(bench, "hung up"), 1);
    assert_int_equal(sending().refused_id, 2);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "as it did on those before it"));
}

/* Where the network is what ends the connections, it waits for one of them only. */
static void test_the_other_lane_waits_for_every_second_connection_of_a_trial(void **state)
{
    struct bench *bench = *state;
    suspect(bench);
    put_urgent(bench, "u");
    for (int i = 0; i < 4; i++) {
        int before = rig.link.sent_count;
        rig_run(&rig, 10);
        hang_up(i == 0 ? 0 : 1);
        assert_int_equal(rig.link.sent_count, before + (i % 2 == 0));
    }
    assert_int_equal(sending().refused_id, 1);
    assert_int_equal(dead(bench, ""), 0);
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
        CASE(test_an_event_that_no_broker_will_take_becomes_a_dead_letter_at_once),
        CASE(test_one_that_is_not_authorized_is_tried_eight_times),
        CASE(test_one_that_is_not_authorized_holds_its_lane_up_for_three_minutes_at_most),
        CASE(test_one_that_the_broker_may_take_later_is_tried_for_ever),
        CASE(test_an_identifier_in_use_is_not_the_events_fault),
        CASE(test_one_larger_than_the_server_takes_becomes_a_dead_letter),
        CASE(test_one_over_our_own_limit_becomes_a_dead_letter_and_is_not_sent),
        CASE(test_a_lane_stops_where_all_events_are_over_our_own_limit),
        CASE(test_a_lane_that_stops_waits_for_what_is_in_flight),
        CASE(test_the_stop_at_large_events_can_be_switched_off),
        CASE(test_after_three_dead_letters_in_a_row_the_lane_stops),
        CASE(test_a_lane_that_stops_at_large_events_says_so),
        CASE(test_a_lane_that_stopped_goes_on_when_the_event_is_taken),
        CASE(test_dead_letters_with_others_between_do_not_stop_the_lane),
        CASE(test_the_stop_can_be_set_and_switched_off),
        CASE(test_an_event_on_which_the_broker_hangs_up_becomes_a_dead_letter),
        CASE(test_a_suspicion_of_the_wrong_lane_is_given_up),
        CASE(test_the_others_wait_for_less_than_half_a_minute),
        CASE(test_the_others_wait_no_longer_where_their_pubacks_are_lost),
        CASE(test_a_network_that_ends_connections_at_random_buries_nothing),
        CASE(test_a_time_out_is_not_a_hang_up),
        CASE(test_the_suspect_is_sent_alone_and_only_after_signs_of_life),
        CASE(test_a_suspect_waits_for_the_other_lane_without_spinning),
        CASE(test_the_other_lane_waits_for_the_sign_of_life_without_spinning),
        CASE(test_a_suspect_behind_the_gate_holds_no_urgent_event_up),
        CASE(test_a_large_event_behind_the_gate_holds_no_urgent_event_up),
        CASE(test_a_connection_without_a_puback_breaks_the_row_of_hang_ups),
        CASE(test_one_in_each_lane_on_which_the_broker_hangs_up_becomes_a_dead_letter),
        CASE(test_the_other_lane_goes_on_while_a_suspect_waits),
        CASE(test_the_other_lane_waits_for_a_sign_of_life_without_spinning),
        CASE(test_a_refused_event_behind_the_gate_does_not_hold_up_the_urgent_lane),
        CASE(test_the_oldest_in_flight_is_suspected_in_whatever_lane),
        CASE(test_none_is_suspected_while_another_is_refused),
        CASE(test_a_suspect_that_is_refused_is_refused_for_the_first_time),
        CASE(test_a_connection_without_a_sign_of_life_is_given_up),
        CASE(test_a_lane_stops_where_the_broker_hangs_up_on_one_after_the_other),
        CASE(test_the_other_lane_waits_for_every_second_connection_of_a_trial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
