/* SPDX-License-Identifier: MIT
 *
 * test_poison_real.c - events that a broker will not take, over real connections.
 *
 * With MQTT 5 a broker says so in the PUBACK, with 3.1.1 all that it can do is hang up. Either way
 * the event ends in outbox_dead, and those behind it are delivered.
 */
#include "dice.h"
#include "harness.h"
#include "scripted_broker.h"

#include <stdio.h>
#include <string.h>

#define TOPIC "poison"
#define POISON_ID 4

static int is_drained(const outbox_statistics *statistics)
{
    return statistics->pending == 0;
}

/* Puts 1, 2, 3 to the topic "t", 4 to the one that is not wanted, 5, 6, 7 to "t"; the ids are the
 * numbers. */
static void put_with_poison(app *a)
{
    app_exec(a, "BEGIN IMMEDIATE");
    app_put_numbers(a, 1, 3);
    assert_int_equal(app_put(a, TOPIC, "4"), POISON_ID);
    app_put_numbers(a, 5, 3);
    app_exec(a, "COMMIT");
}

/* The event is a dead letter with this reason and nothing else is. Returns how long that took,
 * which is how long it held up the others. */
static long long expect_burial(app *a, const char *reason)
{
    char why[160];
    outbox_statistics now = app_stats(a);

    assert_int_equal(now.dead_lettered, 1);
    assert_int_equal(now.last_error, OUTBOX_OK);
    assert_int_equal(now.sending[OUTBOX_NORMAL].refused_id, 0);
    assert_int_equal(app_number(a, "SELECT count(*) FROM outbox_dead"), 1);
    assert_int_equal(app_number(a, "SELECT id FROM outbox_dead WHERE topic = '" TOPIC "'"),
                     POISON_ID);
    app_text(a, "SELECT reason FROM outbox_dead", why, sizeof why);
    if (strstr(why, reason) == NULL) {
        fail_msg("the reason is \"%s\", not \"%s\"", why, reason);
    }
    long long delay = app_number(a, "SELECT died - created FROM outbox_dead");
    print_message("# buried after %lld ms and %llu refusals, %llu connections: %s\n", delay,
                  (unsigned long long)now.refusals, (unsigned long long)now.connects, why);
    return delay;
}

/* ---- MQTT 5: a reason code ------------------------------------------------------------------- */

/* Access rules of a real broker: reason 0x87, not authorized. [poison-1] [P3] */
static void test_an_event_to_a_forbidden_topic_is_buried_and_the_others_are_delivered(void **state)
{
    scene *s = *state;

    scene_write(s, "rules", "topic write t\ntopic write dropped\n");
    broker_start(&s->broker, BROKER_OPEN "acl_file rules\n");
    scene_record(s);
    app *a = app_open(s, "WAL");
    put_with_poison(a);
    app_start_with(a, &(outbox_forwarding){.broker = s->url,
                                           .protocol = 5,
                                           .backoff_max_ms = 100,
                                           .announce_topic = "dropped"});
    recorder_await(s->recorder, "SELECT count(*) FROM arrival WHERE topic = 'dropped'", 1);

    outbox_statistics now = app_await(a, is_drained);
    assert_int_equal(now.delivered, 6 + 1); /* and the announcement */
    assert_int_equal(now.refusals, 8);
    assert_true(expect_burial(a, "0x87") < 30000);
    /* 5, 6 and 7 may have come before too, behind 4 in flight; they come again, in order. */
    expect_text(s->recorder,
                "SELECT group_concat(id, ' ') FROM (SELECT id FROM arrival GROUP BY id"
                " ORDER BY max(n))",
                "1 2 3 5 6 7 8");
    expect_text(s->recorder,
                "SELECT json_extract(event, '$.type', '$.data.reason', '$.data.count',"
                " '$.data.from', '$.data.to') FROM arrival WHERE topic = 'dropped'",
                "[\"outbox.dropped\",\"dead\",1,4,4]");
}

/* ---- MQTT 3.1.1: nothing but hanging up ------------------------------------------------------ */

/* What was published behind the last attempt at the poison must be the rest, once and in order. */
static void expect_the_rest_behind_the_poison(scripted_broker *b)
{
    char found[64] = "", id[16];
    size_t count = scripted_broker_count(b, SCRIPTED_PUBLISH);

    for (size_t i = 0; i < count; i++) {
        scripted_publish p =
            scripted_broker_parse(scripted_broker_packet(b, SCRIPTED_PUBLISH, i), 4);
        const unsigned char *place = memmem(p.payload, p.payload_size, "\"id\":\"", 6);
        assert_non_null(place);
        (void)snprintf(id, sizeof id, "%c ", place[6]);
        if (p.topic_size == strlen(TOPIC)) {
            found[0] = '\0';
        } else {
            assert_true(strlen(found) + 2 < sizeof found);
            (void)strcat(found, id);
        }
    }
    assert_string_equal(found, "5 6 7 ");
}

/* [poison-3] [P3] */
static void test_an_event_on_which_an_old_broker_hangs_up_is_buried(void **state)
{
    char url[64];
    scene *s = *state;
    scripted_rules rules = scripted_poisoned(TOPIC);
    scripted_broker *b = scripted_broker_start(&rules);

    (void)snprintf(url, sizeof url, "mqtt://127.0.0.1:%u", scripted_broker_port(b));
    app *a = app_open(s, "WAL");
    put_with_poison(a);
    app_start_with(a, &(outbox_forwarding){.broker = url,
                                           .backoff_max_ms = (unsigned)wanted_number(
                                               "OUTBOX_TEST_BACKOFF_MAX_MS", 100),
                                           .announce_topic = ""});

    assert_int_equal(app_await(a, is_drained).delivered, 6);
    assert_true(expect_burial(a, "hung up") < 30000);
    expect_the_rest_behind_the_poison(b);
    app_close(a);
    scripted_broker_stop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_an_event_to_a_forbidden_topic_is_buried_and_the_others_are_delivered),
        SCENE_TEST(test_an_event_on_which_an_old_broker_hangs_up_is_buried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
