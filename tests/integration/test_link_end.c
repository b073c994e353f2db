/* SPDX-License-Identifier: MIT
 *
 * test_link_end.c - the link: how a connection ends, and that nothing of it comes later.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <outbox/outbox.h>
#include <string.h>

#include "link_rig.h"

/* Publishes six on a connection that is cut at the sixth, when `acknowledged` were. */
static void lose_six(rig *r, int protocol, int acknowledged)
{
    scripted_rules rules = obedient;
    rules.puback_reason = SCRIPTED_NO_PUBACK;
    rules.acknowledge_first = acknowledged;
    rules.cut_after = 6;
    rules.cut_connection = 1;
    r->options.protocol = protocol;
    begin(r, &rules);
    (void)go_online(r);
    for (uint32_t i = 1; i <= 6; i++)
        (void)publish(r, i, &hello);
    for (int i = 1; i <= acknowledged; i++)
        expect_acked(r, (uint32_t)i, 0);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.reason, 0);
    assert_contains(event.sentence, "lost");
    expect_silence(r);
    assert_int_equal(publish(r, 7, &hello), OUTBOX_LINK_DOWN);
    close_link(r);
    expect_silence(r);
}

static void test_a_lost_connection_is_closed_once_and_acknowledges_nothing(void **state)
{
    lose_six(*state, 5, 3);
}

static void test_a_lost_3_1_1_connection_is_closed_once_and_acknowledges_nothing(void **state)
{
    lose_six(*state, 4, 3);
}

static void test_after_a_loss_only_we_send_again_and_in_our_order(void **state)
{
    rig *r = *state;
    lose_six(r, 5, 0);
    scripted_broker_set(r->broker, &obedient);
    (void)go_online(r);
    expect_silence(r);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_PUBLISH), 6);
    static const char *const payloads[] = {"four", "two", "six"};
    for (uint32_t i = 0; i < 3; i++) {
        outbox_message message = hello;
        message.payload = payloads[i];
        message.payload_len = strlen(payloads[i]);
        assert_int_equal(publish(r, i, &message), OUTBOX_LINK_OK);
    }
    for (uint32_t i = 0; i < 3; i++)
        expect_acked(r, i, 0);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_PUBLISH), 9);
    for (size_t i = 0; i < 3; i++) {
        scripted_packet packet = scripted_broker_packet(r->broker, SCRIPTED_PUBLISH, 6 + i);
        scripted_publish p = scripted_broker_parse(packet, 5);
        assert_int_equal(packet.connection, 2);
        assert_int_equal(p.dup, 0);
        assert_memory_equal(p.payload, payloads[i], strlen(payloads[i]));
    }
}

static void test_a_loss_with_nothing_in_flight_is_closed_once(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    (void)go_online(r);
    scripted_broker_cut(r->broker);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    expect_silence(r);
}

/* With MQTTVERSION_DEFAULT Paho would, as MQTT 3.1. */
static void test_no_link_connects_again_by_itself(void **state)
{
    rig *r = *state;
    r->options.protocol = 4;
    begin(r, &obedient);
    (void)go_online(r);
    scripted_broker_cut(r->broker);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    expect_silence(r);
    assert_int_equal(scripted_broker_connections(r->broker), 1);
}

static void test_a_server_that_hangs_up_after_its_connack_is_closed_once(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.hang_up = 1;
    begin(r, &rules);
    (void)go_online(r);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    expect_silence(r);
}

static void test_a_disconnect_of_the_server_tells_its_reason_once(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.puback_reason = SCRIPTED_NO_PUBACK;
    rules.farewell_after = 2;
    rules.farewell = SCRIPTED("\xe0\x02\x8b\x00"); /* the server shuts down */
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    (void)publish(r, 2, &hello);
    outbox_link_event event = expect(r, OUTBOX_LINK_CLOSED);
    assert_int_equal(event.reason, 0x8b);
    assert_contains(event.sentence, "0x8b");
    expect_silence(r);
}

static void test_a_silent_server_is_noticed(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.deaf = 1;
    r->options.keep_alive_seconds = 1;
    begin(r, &rules);
    (void)go_online(r);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    expect_silence(r);
}

static void test_close_says_goodbye(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    (void)go_online(r);
    close_link(r);
    scripted_broker_await_ends(r->broker, 1);
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_DISCONNECT), 1);
}

static void test_after_close_no_event_of_the_old_connection_comes(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    (void)go_online(r);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(publish(r, i, &hello), OUTBOX_LINK_OK);
    scripted_broker_await(r->broker, SCRIPTED_PUBLISH, 20); /* the PUBACKs are on their way */
    close_link(r);
    expect_silence(r);
    assert_int_equal(publish(r, 21, &hello), OUTBOX_LINK_DOWN);
}

static void test_close_is_allowed_in_every_state_and_twice(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    close_link(r);
    close_link(r);
    (void)open_link(r);
    close_link(r); /* while it connects */
    (void)go_online(r);
    scripted_broker_cut(r->broker);
    (void)expect(r, OUTBOX_LINK_CLOSED);
    close_link(r);
    close_link(r);
    expect_silence(r);
    (void)go_online(r);
}

static void test_the_link_opens_again_and_again(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    for (uint32_t i = 0; i < 8; i++) {
        (void)go_online(r);
        assert_int_equal(publish(r, i, &hello), OUTBOX_LINK_OK);
        if (i % 2 == 0)
            expect_acked(r, i, 0);
        close_link(r);
    }
    assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_CONNECT), 8);
}

static void test_a_publish_that_the_server_sends_us_is_thrown_away(void **state)
{
    rig *r = *state;
    scripted_rules rules = obedient;
    rules.connack5 = SCRIPTED("\x20\x03\x00\x00\x00\x30\x06\x00\x01t\x00hi");
    begin(r, &rules);
    (void)go_online(r);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    expect_silence(r);
}

static void test_a_link_may_be_freed_while_its_callbacks_come(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    for (int round = 0; round < 3; round++) {
        (void)go_online(r);
        for (uint32_t i = 0; i < 100; i++)
            assert_int_equal(publish(r, i, &hello), OUTBOX_LINK_OK);
        outbox_linux_link_free(r->link);
        make_link_to(r, scripted_broker_port(r->broker));
    }
}

static void test_two_links_of_a_process_do_not_mix_their_events(void **state)
{
    rig *r = *state;
    rig second = *r;
    begin(r, &obedient);
    second.options.url = &second.url;
    second.options.wake = NULL;
    second.options.client_id = "second";
    begin(&second, &obedient);
    (void)go_online(r);
    (void)open_link(&second);
    assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 1, 0);
    outbox_linux_link_free(second.link);
    scripted_broker_stop(second.broker);
    assert_int_equal(publish(r, 2, &hello), OUTBOX_LINK_OK);
    expect_acked(r, 2, 0);
    expect_silence(r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_lost_connection_is_closed_once_and_acknowledges_nothing),
        TEST(test_a_lost_3_1_1_connection_is_closed_once_and_acknowledges_nothing),
        TEST(test_after_a_loss_only_we_send_again_and_in_our_order),
        TEST(test_a_loss_with_nothing_in_flight_is_closed_once),
        TEST(test_no_link_connects_again_by_itself),
        TEST(test_a_server_that_hangs_up_after_its_connack_is_closed_once),
        TEST(test_a_disconnect_of_the_server_tells_its_reason_once),
        TEST(test_a_silent_server_is_noticed),
        TEST(test_close_says_goodbye),
        TEST(test_after_close_no_event_of_the_old_connection_comes),
        TEST(test_close_is_allowed_in_every_state_and_twice),
        TEST(test_the_link_opens_again_and_again),
        TEST(test_a_publish_that_the_server_sends_us_is_thrown_away),
        TEST(test_a_link_may_be_freed_while_its_callbacks_come),
        TEST(test_two_links_of_a_process_do_not_mix_their_events),
    };
    return cmocka_run_group_tests_name("link_end", tests, NULL, NULL);
}
