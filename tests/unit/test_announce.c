/* SPDX-License-Identifier: MIT
 *
 * test_announce.c - what was dropped is told to the recipient, by events of the library's own.
 * [announce-1] [P4]
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

static void limit(struct bench *bench, int64_t max_events)
{
    outbox_config config = {
        .limits[OUTBOX_NORMAL] = {.max_events = max_events, .when_full = OUTBOX_EVICT_OLDEST},
    };
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &config, &bench->box), OUTBOX_OK);
}

static void put_many(struct bench *bench, int count)
{
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < count; i++)
        bench_put(bench, "plant/7", "x");
    bench_sql(bench->db, "COMMIT");
    if (bench->forwarder)
        outbox_forwarder_committed(bench->forwarder, NULL);
}

/* Acks all that is sent until nothing more comes. */
static void drain(void)
{
    for (int from = 0, quiet = 0; quiet < 3; quiet++) {
        for (; from < rig.link.sent_count; from++, quiet = 0)
            fake_link_acked(&rig.link, rig.link.sent[from].token, 0);
        rig_run(&rig, 1100);
    }
}

static const struct fake_sent *announcement(int number)
{
    for (int i = 0; i < rig.link.sent_count; i++)
        if (strstr(rig.link.sent[i].payload, "\"type\":\"outbox.dropped\"") && number-- == 0)
            return &rig.link.sent[i];
    return NULL;
}

static void assert_announces(int number, const char *data)
{
    const struct fake_sent *sent = announcement(number);
    assert_non_null(sent);
    if (!strstr(sent->payload, data))
        fail_msg("%s is not in %s", data, sent->payload);
}

static void test_evicted_events_are_announced_with_range_count_and_reason(void **state)
{
    struct bench *bench = *state;
    limit(bench, 10);
    put_many(bench, 1000);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    drain();
    assert_announces(0, "\"data\":{\"reason\":\"evicted\",\"count\":990,\"from\":1,\"to\":990}");
    assert_null(announcement(1));
    assert_string_equal(announcement(0)->topic, "plant/7");
    assert_int_equal(announcement(0)->id, 1001);
    assert_int_equal(announcement(0)->previous, 1000);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.evicted, 990);
    assert_int_equal(now.delivered, 11);
    assert_int_equal(now.accepted, 1001);
    assert_int_equal(now.pending, 0);
}

static void test_each_reason_has_an_announcement_of_its_own(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "INSERT INTO outbox_event(topic, payload, expires) VALUES"
                         " ('a', 'x', 1), ('a', 'v', 1), (NULL, 'z', NULL),"
                         " ('a', 'y', NULL)");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    drain();
    assert_announces(0, "{\"reason\":\"expired\",\"count\":2,\"from\":1,\"to\":2}");
    assert_announces(1, "{\"reason\":\"dead\",\"count\":1,\"from\":3,\"to\":3}");
    assert_null(announcement(2));
}

static void announces_next(const char *sql, const char *data)
{
    static int number;
    number = announcement(number) ? number + 1 : 0;
    bench_sql(rig.bench->db, sql);
    outbox_forwarder_committed(rig.bench->forwarder, NULL);
    rig_run(&rig, 1100);
    drain();
    assert_announces(number, data);
    assert_null(announcement(number + 1));
}

/* [P4] they were accepted once, and leave as dead letters */
static void test_rows_of_other_writers_beside_the_order_are_announced(void **state)
{
    struct bench *bench = *state;
    put_many(bench, 3);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    drain();
    announces_next("INSERT INTO outbox_event(id, topic) VALUES(1, 'late')",
                   "{\"reason\":\"dead\",\"count\":1,\"from\":1,\"to\":1}");
    announces_next("INSERT INTO outbox_event(id, topic) VALUES(-7, 'late'), (2, 'late')",
                   "{\"reason\":\"dead\",\"count\":2,\"from\":0,\"to\":2}");
    announces_next("INSERT INTO outbox_event(id, topic) VALUES(9223372036854775806, 'beyond')",
                   "\"count\":1,\"from\":281474976710656,\"to\":281474976710656");
    announces_next("DELETE FROM outbox_event; INSERT INTO outbox_event(id, topic)"
                   " VALUES(-1, 'remade'), (7, 'a')",
                   "{\"reason\":\"dead\",\"count\":1,\"from\":0,\"to\":0}");
    assert_int_equal(rig_stats(&rig).dead_lettered, 5);
}

static void test_drops_are_added_up_while_an_announcement_waits(void **state)
{
    struct bench *bench = *state;
    limit(bench, 10);
    put_many(bench, 15);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 1);
    rig_run(&rig, 2000); /* the first announcement is stored, and not sent yet */
    assert_null(announcement(0));
    put_many(bench, 3);
    put_many(bench, 3);
    rig_run(&rig, 2000);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"
                                             " WHERE type = 'outbox.dropped'"),
                     1);
    drain();
    assert_announces(0, "\"count\":5,\"from\":1,\"to\":5");
    assert_announces(1, "\"reason\":\"evicted\"");
    assert_null(announcement(2));
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.accepted, now.delivered + now.evicted);
}

/* It is never evicted: what it tells goes back into the note, its id is a hole, and it comes
 * again. */
static void test_an_announcement_that_is_in_the_way_is_made_anew(void **state)
{
    struct bench *bench = *state;
    limit(bench, 5);
    put_many(bench, 8);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 1);
    rig_run(&rig, 2000);
    fake_link_closed(&rig.link, "gone");
    rig.link.refuse_open = true;
    rig_run(&rig, 10);
    put_many(bench, 20);
    outbox_statistics now = rig_stats(&rig);
    assert_int_equal(now.holes, 1);
    assert_int_equal(now.evicted, 23);
    assert_int_equal(now.accepted, 28);
    rig.link.refuse_open = false;
    rig_reconnect(&rig, 100);
    drain();
    assert_announces(0, "{\"reason\":\"evicted\",\"count\":23,\"from\":1,\"to\":24}");
    assert_null(announcement(1));
}

static void test_what_was_dropped_is_announced_after_a_restart(void **state)
{
    struct bench *bench = *state;
    limit(bench, 2);
    put_many(bench, 5);
    rig_start(&rig, bench, NULL);
    rig_stop(&rig);
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    drain();
    assert_announces(0, "\"count\":3,\"from\":1,\"to\":3");
}

static void test_announcements_go_to_the_topic_that_is_given(void **state)
{
    struct bench *bench = *state;
    limit(bench, 2);
    put_many(bench, 5);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = "lost/found"});
    rig_connect(&rig, 100);
    drain();
    assert_string_equal(announcement(0)->topic, "lost/found");
}

static void test_an_empty_topic_announces_nothing_and_keeps_the_note(void **state)
{
    struct bench *bench = *state;
    limit(bench, 2);
    put_many(bench, 5);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = ""});
    rig_connect(&rig, 100);
    drain();
    assert_null(announcement(0));
    rig_stop(&rig);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = "lost/found"});
    rig_connect(&rig, 100);
    drain();
    assert_announces(0, "\"count\":3");
}

static void test_plain_mode_announces_only_where_a_topic_is_given(void **state)
{
    struct bench *bench = *state;
    limit(bench, 2);
    put_many(bench, 5);
    rig_start(&rig, bench, &(outbox_forwarder_config){.mode = OUTBOX_PLAIN});
    rig_connect(&rig, 100);
    drain();
    assert_int_equal(rig.link.sent_count, 2);
    rig_stop(&rig);
    rig_start(&rig, bench,
              &(outbox_forwarder_config){.mode = OUTBOX_PLAIN, .announce_topic = "lost"});
    rig_connect(&rig, 100);
    drain();
    assert_int_equal(rig.link.sent_count, 1);
    assert_string_equal(rig.link.sent[0].topic, "lost");
    assert_non_null(strstr(rig.link.sent[0].payload, "\"count\":3"));
}

/* [P2] a power cut must not undo what the recipient was told */
static void test_an_announcement_is_synced_before_it_is_sent(void **state)
{
    struct bench *bench = *state;
    limit(bench, 2);
    put_many(bench, 5);
    rig_start(&rig, bench, NULL);
    outbox_forwarder_committed(bench->forwarder, (int64_t[]){5, 0});
    rig_connect(&rig, 100);
    uint64_t before = rig_stats(&rig).barriers;
    drain();
    assert_non_null(announcement(0));
    assert_true(rig_stats(&rig).barriers > before);
}

static void test_an_announcement_that_a_trigger_makes_vanish_stays_noted(void **state)
{
    struct bench *bench = *state;
    limit(bench, 2);
    put_many(bench, 5);
    bench_sql(bench->db, "CREATE TRIGGER own BEFORE INSERT ON outbox_event"
                         " WHEN NEW.type = 'outbox.dropped' BEGIN SELECT RAISE(IGNORE); END");
    rig_start(&rig, bench, NULL);
    rig_connect(&rig, 100);
    rig_run(&rig, 100);
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_BAD_ID);
    assert_non_null(strstr(rig_stats(&rig).last_error_text, "cannot be stored behind"));
    rig_run(&rig, 3000);
    assert_null(announcement(0));
    bench_sql(bench->db, "DROP TRIGGER own");
    rig_run(&rig, 15000);
    drain();
    assert_announces(0, "\"count\":3,\"from\":1,\"to\":3");
    assert_int_equal(rig_stats(&rig).last_error, OUTBOX_OK);
}

/* A put that makes room has moved it since the forwarder has read it. */
static void test_where_the_tombstone_has_moved_all_drops_are_announced_once(void **state)
{
    struct bench *bench = *state;
    limit(bench, 2);
    put_many(bench, 5);
    rig_start(&rig, bench, &(outbox_forwarder_config){.announce_topic = "lost"});
    rig_step(&rig);
    fake_link_opened(&rig.link, 100);
    bench_put(bench, "plant/7", "x"); /* nobody tells of it */
    rig_step(&rig);
    drain();
    assert_announces(0, "{\"reason\":\"evicted\",\"count\":4,\"from\":1,\"to\":4}");
    assert_null(announcement(1));
}

static void test_a_topic_that_is_none_is_refused(void **state)
{
    (void)state;
    assert_int_equal(outbox_forwarder_size(&(outbox_forwarder_config){.announce_topic = "a/#"}), 0);
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
        CASE(test_evicted_events_are_announced_with_range_count_and_reason),
        CASE(test_each_reason_has_an_announcement_of_its_own),
        CASE(test_rows_of_other_writers_beside_the_order_are_announced),
        CASE(test_drops_are_added_up_while_an_announcement_waits),
        CASE(test_an_announcement_that_is_in_the_way_is_made_anew),
        CASE(test_what_was_dropped_is_announced_after_a_restart),
        CASE(test_announcements_go_to_the_topic_that_is_given),
        CASE(test_an_empty_topic_announces_nothing_and_keeps_the_note),
        CASE(test_plain_mode_announces_only_where_a_topic_is_given),
        CASE(test_an_announcement_is_synced_before_it_is_sent),
        CASE(test_an_announcement_that_a_trigger_makes_vanish_stays_noted),
        CASE(test_where_the_tombstone_has_moved_all_drops_are_announced_once),
        CASE(test_a_topic_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
