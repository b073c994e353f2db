/* SPDX-License-Identifier: MIT
 *
 * test_link_peer.c - the link: what it knows of the other side. A sign of life when it is asked
 * for one, and whether it was the other side that ended the connection.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <outbox/outbox.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "link_rig.h"

/* A rig with a link, and a scene with a real broker, where a test starts it. */
typedef struct stage {
    rig *rig;
    scene *scene;
} stage;

static int set_up(void **state)
{
    static stage s;
    void *made = NULL;
    if (rig_set_up(&made) != 0)
        return -1;
    s.rig = made;
    if (scene_setup(&made) != 0)
        return -1;
    s.scene = made;
    *state = &s;
    return 0;
}

static int tear_down(void **state)
{
    stage *s = *state;
    void *of_rig = s->rig, *of_scene = s->scene;
    int rc = rig_tear_down(&of_rig);
    return scene_teardown(&of_scene) == 0 ? rc : -1;
}

static void go_online_over_mosquitto(stage *s, int protocol, const char *settings)
{
    broker_start(&s->scene->broker, settings);
    s->rig->options.protocol = protocol;
    make_link_to(s->rig, s->scene->broker.port);
    (void)go_online(s->rig);
}

/* ---- A sign of life -------------------------------------------------------------------------- */

static void a_probe_is_answered_by_one_alive(rig *r, int protocol, scripted_bytes expected)
{
    r->options.protocol = protocol;
    begin(r, &obedient);
    (void)go_online(r);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    (void)expect(r, OUTBOX_LINK_ALIVE);
    expect_silence(r);
    scripted_packet packet = scripted_broker_packet(r->broker, r->probe_type, 0);
    if (r->options.kind == OUTBOX_LINK_STREAM) {
        assert_int_equal(packet.size, 2); /* [stream-6] */
        return;
    }
    assert_int_equal(packet.size, expected.size);
    assert_memory_equal(packet.bytes, expected.bytes, 2);
    assert_memory_equal(packet.bytes + 4, expected.bytes + 4, expected.size - 4); /* but its id */
}

static void test_a_probe_is_answered_by_one_alive(void **state)
{
    a_probe_is_answered_by_one_alive(((stage *)*state)->rig, 5,
                                     SCRIPTED("\xa2\x11--\x00\x00\x0coutbox/probe"));
}

static void test_a_3_1_1_probe_is_answered_by_one_alive(void **state)
{
    a_probe_is_answered_by_one_alive(((stage *)*state)->rig, 4,
                                     SCRIPTED("\xa2\x10--\x00\x0coutbox/probe"));
}

static void mosquitto_answers_a_probe(stage *s, int protocol)
{
    go_online_over_mosquitto(s, protocol, BROKER_OPEN);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(probe(s->rig), OUTBOX_LINK_OK);
        (void)expect(s->rig, OUTBOX_LINK_ALIVE);
    }
    assert_int_equal(publish(s->rig, 1, &hello), OUTBOX_LINK_OK);
    expect_acked(s->rig, 1, 0);
}

static void test_mosquitto_answers_a_probe(void **state)
{
    mosquitto_answers_a_probe(*state, 5);
}

static void test_mosquitto_answers_a_3_1_1_probe(void **state)
{
    mosquitto_answers_a_probe(*state, 4);
}

static void test_no_alive_comes_before_the_server_has_answered(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = obedient;
    rules.no_sign_of_life = 1;
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    scripted_broker_await(r->broker, r->probe_type, 1);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    expect_silence(r);
}

static void test_one_probe_is_under_way_until_its_alive_was_taken(void **state)
{
    rig *r = ((stage *)*state)->rig;
    begin(r, &obedient);
    (void)go_online(r);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    assert_int_equal(probe(r), OUTBOX_LINK_AGAIN);
    (void)expect(r, OUTBOX_LINK_ALIVE);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    (void)expect(r, OUTBOX_LINK_ALIVE);
    assert_int_equal(scripted_broker_count(r->broker, r->probe_type), 2);
}

/* Without a reason at all it is malformed; then Paho may give the connection up, but no more. */
static void test_an_unsuback_that_refuses_is_a_sign_of_life(void **state)
{
    rig *r = ((stage *)*state)->rig;
    static const scripted_bytes tails[] = {{"\x00\x00", 2}, {"\x00\x80", 2}, {"\x00\x87", 2}};
    ONLY_OVER(r, OUTBOX_LINK_PAHO);
    begin(r, &obedient);
    (void)go_online(r);
    scripted_rules rules = obedient;
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        rules.unsuback5_tail = tails[i];
        scripted_broker_set(r->broker, &rules);
        assert_int_equal(probe(r), OUTBOX_LINK_OK);
        (void)expect(r, OUTBOX_LINK_ALIVE);
    }
    rules.unsuback5_tail = SCRIPTED("\x00");
    scripted_broker_set(r->broker, &rules);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    outbox_link_event event;
    assert_int_equal(next_within(r, &event, PATIENCE_MS), 1);
    assert_true(event.kind == OUTBOX_LINK_ALIVE || event.kind == OUTBOX_LINK_CLOSED);
}

static void test_a_probe_follows_the_publishes_that_went_before_it(void **state)
{
    rig *r = ((stage *)*state)->rig;
    begin(r, &obedient);
    (void)go_online(r);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(publish(r, i, &hello), OUTBOX_LINK_OK);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    for (uint32_t i = 0; i < 20; i++)
        expect_acked(r, i, 0);
    (void)expect(r, OUTBOX_LINK_ALIVE);
}

/* Paho counts it among what the server's Receive Maximum is for. */
static void test_a_probe_waits_while_the_server_takes_no_more_publishes(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = obedient;
    ONLY_OVER(r, OUTBOX_LINK_PAHO);
    rules.connack5 = SCRIPTED("\x20\x06\x00\x00\x03\x21\x00\x01");
    rules.puback_reason = SCRIPTED_NO_PUBACK;
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    scripted_broker_await(r->broker, SCRIPTED_PUBLISH, 1);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    expect_silence(r);
    close_link(r);
    expect_silence(r);
}

static void test_a_probe_needs_an_open_connection(void **state)
{
    rig *r = ((stage *)*state)->rig;
    begin(r, &obedient);
    assert_int_equal(probe(r), OUTBOX_LINK_DOWN);
    assert_int_equal(open_link(r), OUTBOX_LINK_OK);
    assert_int_equal(probe(r), OUTBOX_LINK_AGAIN);
    (void)expect(r, OUTBOX_LINK_OPENED);
    scripted_broker_cut(r->broker);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    assert_int_equal(probe(r), OUTBOX_LINK_DOWN);
    close_link(r);
    assert_int_equal(probe(r), OUTBOX_LINK_DOWN);
    assert_int_equal(scripted_broker_count(r->broker, r->probe_type), 0);
}

static void test_a_probe_that_was_not_answered_ends_with_its_connection(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = obedient;
    rules.no_sign_of_life = 1;
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    scripted_broker_await(r->broker, r->probe_type, 1);
    scripted_broker_cut(r->broker);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    expect_silence(r);
    (void)go_online(r);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    scripted_broker_await(r->broker, r->probe_type, 2);
    close_link(r);
    scripted_broker_set(r->broker, &obedient);
    (void)go_online(r);
    expect_silence(r);
    assert_int_equal(probe(r), OUTBOX_LINK_OK);
    (void)expect(r, OUTBOX_LINK_ALIVE);
}

/* ---- Who ended it ---------------------------------------------------------------------------- */

static outbox_link_event expect_closed(rig *r, int by_peer)
{
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    if (event.by_peer != by_peer)
        fail_msg("by_peer is %d: %s", event.by_peer, event.sentence);
    return event;
}

static void test_a_server_that_hangs_up_is_named(void **state)
{
    rig *r = ((stage *)*state)->rig;
    begin(r, &obedient);
    for (int protocol = 4; protocol <= 5; protocol++) {
        outbox_linux_link_free(r->link);
        r->options.protocol = protocol;
        make_link_to(r, scripted_broker_port(r->broker));
        (void)go_online(r);
        scripted_broker_cut(r->broker);
        (void)expect_closed(r, 1);
    }
}

static void test_a_server_that_resets_the_connection_is_named(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = obedient;
    rules.reset = 1;
    begin(r, &rules);
    (void)go_online(r);
    scripted_broker_cut(r->broker);
    (void)expect_closed(r, 1);
}

static void test_a_server_that_says_goodbye_is_named(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = obedient;
    rules.farewell_after = 1;
    rules.farewell = SCRIPTED("\xe0\x02\x8b\x00"); /* the server shuts down */
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    assert_int_equal(expect_closed(r, 1).reason, 0x8b);
}

static void test_a_server_that_hangs_up_right_after_its_connack_is_named(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = obedient;
    rules.hang_up = 1;
    begin(r, &rules);
    (void)go_online(r);
    (void)expect_closed(r, 1);
}

/* The server shows that it lives, takes an event, and hangs up on the next. */
static void the_hang_up_on_a_poisoned_event_is_named(rig *r, int resets)
{
    scripted_rules rules = scripted_poisoned("bad/one");
    outbox_message poison = hello;
    poison.topic = "bad/one";
    rules.reset = resets;
    begin(r, &rules);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(go_online(r).protocol, 4);
        assert_int_equal(publish(r, 2 * i, &hello), OUTBOX_LINK_OK);
        expect_acked(r, 2 * i, 0);
        assert_int_equal(probe(r), OUTBOX_LINK_OK);
        (void)expect(r, OUTBOX_LINK_ALIVE);
        assert_int_equal(publish(r, 2 * i + 1, &poison), OUTBOX_LINK_OK);
        (void)expect_closed(r, 1);
        close_link(r);
    }
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_PUBLISH), 10);
}

static void test_the_hang_up_on_a_poisoned_event_is_named(void **state)
{
    the_hang_up_on_a_poisoned_event_is_named(((stage *)*state)->rig, 0);
}

static void test_the_reset_on_a_poisoned_event_is_named(void **state)
{
    the_hang_up_on_a_poisoned_event_is_named(((stage *)*state)->rig, 1);
}

/* Mosquitto ends a 3.1.1 connection while the packet is still being written. */
static void test_the_hang_up_of_mosquitto_on_a_packet_too_large_is_named(void **state)
{
    stage *s = *state;
    outbox_message large = hello;
    char *payload = calloc(1, 1u << 20);
    assert_non_null(payload);
    large.payload = payload;
    large.payload_len = 1u << 20;
    s->rig->options.payload_max = 1u << 20;
    go_online_over_mosquitto(s, 4, BROKER_OPEN "max_packet_size 2000\n");
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(publish(s->rig, i, &large), OUTBOX_LINK_OK);
        (void)expect_closed(s->rig, 1);
        close_link(s->rig);
        (void)go_online(s->rig);
    }
    free(payload);
}

static void test_a_mosquitto_that_is_terminated_is_named(void **state)
{
    stage *s = *state;
    go_online_over_mosquitto(s, 5, BROKER_OPEN);
    broker_terminate(&s->scene->broker);
    (void)expect_closed(s->rig, 1);
}

static void a_silent_server_is_not_named(rig *r, int protocol)
{
    scripted_rules rules = obedient;
    rules.deaf = 1;
    r->options.keep_alive_seconds = 1;
    r->options.protocol = protocol;
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    (void)expect_closed(r, 0);
}

static void test_a_silent_server_is_not_named(void **state)
{
    a_silent_server_is_not_named(((stage *)*state)->rig, 5);
}

static void test_a_silent_3_1_1_server_is_not_named(void **state)
{
    a_silent_server_is_not_named(((stage *)*state)->rig, 4);
}

static void test_a_mosquitto_that_is_frozen_is_not_named(void **state)
{
    stage *s = *state;
    s->rig->options.keep_alive_seconds = 2;
    go_online_over_mosquitto(s, 4, BROKER_OPEN);
    assert_int_equal(probe(s->rig), OUTBOX_LINK_OK);
    (void)expect(s->rig, OUTBOX_LINK_ALIVE);
    broker_freeze(&s->scene->broker);
    assert_int_equal(publish(s->rig, 1, &hello), OUTBOX_LINK_OK);
    (void)expect_closed(s->rig, 0);
    broker_thaw(&s->scene->broker);
}

/* From the stall on nothing passes; what the server does then is not heard either. */
static void test_a_network_that_stalls_is_not_named(void **state)
{
    rig *r = ((stage *)*state)->rig;
    r->options.keep_alive_seconds = 1;
    r->broker = scripted_broker_start(&obedient);
    proxy *between = proxy_start(scripted_broker_port(r->broker));
    ((stage *)*state)->scene->proxy = between; /* which stops it */
    make_link_to(r, proxy_port(between));
    (void)go_online(r);
    proxy_set(between, PROXY_STALL);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    scripted_broker_cut(r->broker);
    (void)expect_closed(r, 0);
}

/* Nobody can tell a middle man from the server. */
static void test_who_cuts_in_the_name_of_the_server_is_taken_for_it(void **state)
{
    rig *r = ((stage *)*state)->rig;
    r->broker = scripted_broker_start(&obedient);
    proxy *between = proxy_start(scripted_broker_port(r->broker));
    ((stage *)*state)->scene->proxy = between;
    make_link_to(r, proxy_port(between));
    (void)go_online(r);
    proxy_cut(between);
    (void)expect_closed(r, 1);
    close_link(r);
    (void)go_online(r);
    proxy_hang_up(between);
    (void)expect_closed(r, 1);
}

/* Over Paho, when the keep-alive is short, so is the time in which a loss can be told from a
 * time-out. [stream-8] */
static void test_a_hang_up_after_a_long_silence_is_not_named_over_paho(void **state)
{
    rig *r = ((stage *)*state)->rig;
    outbox_link_event event;
    r->options.keep_alive_seconds = 1;
    begin(r, &obedient);
    (void)go_online(r);
    while (scripted_broker_count(r->broker, SCRIPTED_PINGREQ) == 0)
        assert_false(next_within(r, &event, 100));
    scripted_broker_cut(r->broker);
    (void)expect_closed(r, r->options.kind == OUTBOX_LINK_STREAM);
}

static void test_a_server_that_refuses_the_connection_is_not_named(void **state)
{
    rig *r = ((stage *)*state)->rig;
    static const scripted_bytes refusals[] = {
        {"\x20\x03\x00\x87\x00", 5}, {"\x20\x02\x00\x05", 4}, {NULL, 0}};
    begin(r, &obedient);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        scripted_rules rules = {.connack5 = refusals[i], .hang_up = 1};
        scripted_broker_set(r->broker, &rules);
        (void)open_link(r);
        (void)expect_closed(r, 0);
        close_link(r);
    }
}

static void test_a_goodbye_in_place_of_the_connack_is_not_named(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = {.connack5 = {"\xe0\x02\x8b\x00", 4}, .hang_up = 1};
    begin(r, &rules);
    (void)open_link(r);
    (void)expect_closed(r, 0);
}

static void test_a_limit_that_we_cannot_live_with_is_not_the_servers_end(void **state)
{
    rig *r = ((stage *)*state)->rig;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x06\x00\x00\x03\x21\x00\x00");
    begin(r, &rules);
    (void)open_link(r);
    (void)expect_closed(r, 0);
}

/* ---- Expiry ---------------------------------------------------------------------------------- */

static void test_a_recipient_sees_the_expiry(void **state)
{
    stage *s = *state;
    outbox_message message = hello;
    go_online_over_mosquitto(s, 5, BROKER_OPEN);
    scene_record(s->scene);
    message.expiry_seconds = 3600;
    assert_int_equal(publish(s->rig, 1, &message), OUTBOX_LINK_OK);
    expect_acked(s->rig, 1, 0);
    assert_int_equal(publish(s->rig, 2, &hello), OUTBOX_LINK_OK);
    expect_acked(s->rig, 2, 0);
    expect_arrivals(s->scene->recorder, 2);
    int64_t left = recorder_number(s->scene->recorder, "SELECT expiry FROM arrival WHERE n = 1");
    assert_in_range(left, 3500, 3600); /* the broker takes off what it kept it for */
    expect_number(s->scene->recorder, "SELECT expiry IS NULL FROM arrival WHERE n = 2", 1);
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_probe_is_answered_by_one_alive),
        TEST(test_a_3_1_1_probe_is_answered_by_one_alive),
        TEST(test_mosquitto_answers_a_probe),
        TEST(test_mosquitto_answers_a_3_1_1_probe),
        TEST(test_no_alive_comes_before_the_server_has_answered),
        TEST(test_one_probe_is_under_way_until_its_alive_was_taken),
        TEST(test_an_unsuback_that_refuses_is_a_sign_of_life),
        TEST(test_a_probe_follows_the_publishes_that_went_before_it),
        TEST(test_a_probe_waits_while_the_server_takes_no_more_publishes),
        TEST(test_a_probe_needs_an_open_connection),
        TEST(test_a_probe_that_was_not_answered_ends_with_its_connection),
        TEST(test_a_server_that_hangs_up_is_named),
        TEST(test_a_server_that_resets_the_connection_is_named),
        TEST(test_a_server_that_says_goodbye_is_named),
        TEST(test_a_server_that_hangs_up_right_after_its_connack_is_named),
        TEST(test_the_hang_up_on_a_poisoned_event_is_named),
        TEST(test_the_reset_on_a_poisoned_event_is_named),
        TEST(test_the_hang_up_of_mosquitto_on_a_packet_too_large_is_named),
        TEST(test_a_mosquitto_that_is_terminated_is_named),
        TEST(test_a_silent_server_is_not_named),
        TEST(test_a_silent_3_1_1_server_is_not_named),
        TEST(test_a_mosquitto_that_is_frozen_is_not_named),
        TEST(test_a_network_that_stalls_is_not_named),
        TEST(test_who_cuts_in_the_name_of_the_server_is_taken_for_it),
        TEST(test_a_hang_up_after_a_long_silence_is_not_named_over_paho),
        TEST(test_a_server_that_refuses_the_connection_is_not_named),
        TEST(test_a_goodbye_in_place_of_the_connack_is_not_named),
        TEST(test_a_limit_that_we_cannot_live_with_is_not_the_servers_end),
        TEST(test_a_recipient_sees_the_expiry),
    };
    return cmocka_run_group_tests_name("link_peer", tests, NULL, NULL);
}
