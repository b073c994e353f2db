/* SPDX-License-Identifier: MIT
 *
 * test_small_heap.c - a handle and a forwarder that keep no statement.
 */
#include "unit/support.h"

#include <string.h>

static struct rig rig;

static const outbox_config lean = {
    .small_heap = 1, .limits[OUTBOX_NORMAL] = {.max_events = 3, .when_full = OUTBOX_EVICT_OLDEST}};
static const outbox_forwarder_config lean_forwarder = {.small_heap = 1, .settle_quiet_ms = 10};

static void attach_leanly(struct bench *bench)
{
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &lean, &bench->box), OUTBOX_OK);
    assert_null(sqlite3_next_stmt(bench->db, NULL));
}

/* [heap-1] */
static void test_no_statement_stays_behind_a_put(void **state)
{
    struct bench *bench = *state;
    attach_leanly(bench);
    for (int i = 0; i < 5; i++) { /* the last two evict */
        bench_put(bench, "t", "1");
        assert_null(sqlite3_next_stmt(bench->db, NULL));
    }
    const outbox_event urgent = {.topic = "t", .lane = OUTBOX_URGENT};
    const outbox_event fired = {.topic = "t", .fire_and_forget = 1};
    const outbox_event unfit = {.topic = "#"};
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(outbox_put(bench->box, &urgent, NULL), OUTBOX_OK);
    assert_int_equal(outbox_put(bench->box, &fired, NULL), OUTBOX_OK);
    assert_int_equal(outbox_put(bench->box, &unfit, NULL), OUTBOX_BAD_TOPIC);
    assert_null(sqlite3_next_stmt(bench->db, NULL));
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 4);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_urgent"), 2);
}

/* [heap-1] */
static void test_a_new_file_has_no_view_for_people(void **state)
{
    struct bench *bench = *state;
    outbox_detach(bench->box);
    bench_sql(bench->db,
              "DROP TABLE outbox_event; DROP TABLE outbox_urgent; DROP TABLE outbox_dead;"
              "DROP TABLE outbox_epoch; DROP TABLE outbox_meta; DROP VIEW outbox_pending");
    assert_int_equal(outbox_attach(bench->db, &lean, &bench->box), OUTBOX_OK);
    assert_int_equal(
        bench_number(bench->db, "SELECT count(*) FROM sqlite_master WHERE type = 'view'"), 0);
    bench_put(bench, "t", "1");
    assert_int_equal(outbox_verify(bench->db, NULL, NULL), OUTBOX_OK);
}

/* What each call of the function inside a put got. */
static int code_inside;

static void put_again(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc, (void)argv;
    const outbox_event event = {.topic = "again"};
    code_inside = outbox_put(sqlite3_user_data(context), &event, NULL);
}

/* [heap-1] */
static void test_no_put_runs_inside_another(void **state)
{
    struct bench *bench = *state;
    attach_leanly(bench);
    assert_int_equal(sqlite3_create_function_v2(bench->db, "put_again", 0, SQLITE_UTF8, bench->box,
                                                put_again, NULL, NULL, NULL),
                     SQLITE_OK);
    bench_sql(bench->db, "CREATE TEMP TRIGGER again AFTER INSERT ON main.outbox_event"
                         " BEGIN SELECT put_again(); END");
    bench_put(bench, "t", "1");
    assert_int_equal(code_inside, OUTBOX_MISUSE);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 2);
    bench_sql(bench->db, "DROP TRIGGER again");
}

/* [heap-1] */
static void test_an_eviction_that_a_trigger_stops_costs_its_put_alone(void **state)
{
    struct bench *bench = *state;
    const outbox_event event = {.topic = "t"};
    attach_leanly(bench);
    bench_sql(bench->db, "CREATE TABLE mine(x)");
    for (int i = 0; i < 3; i++)
        bench_put(bench, "t", "1");
    bench_sql(bench->db, "CREATE TEMP TRIGGER stop BEFORE DELETE ON main.outbox_event"
                         " WHEN old.id = 0 BEGIN SELECT raise(ABORT, 'no'); END");
    bench_sql(bench->db, "BEGIN; INSERT INTO mine VALUES(1)");
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_SQLITE);
    assert_false(sqlite3_get_autocommit(bench->db));
    bench_sql(bench->db, "DROP TRIGGER stop");
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM mine"), 1);
    assert_int_equal(outbox_verify(bench->db, NULL, NULL), OUTBOX_OK);
    assert_null(sqlite3_next_stmt(bench->db, NULL));
}

/* [heap-2] */
static void test_no_statement_stays_behind_a_step(void **state)
{
    struct bench *bench = *state;
    attach_leanly(bench);
    rig_start(&rig, bench, &lean_forwarder);
    assert_null(sqlite3_next_stmt(bench->own, NULL));
    rig_connect(&rig, 10);
    bench_put(bench, "t", "1");
    bench_put(bench, "t", "2");
    rig_run(&rig, 2000);
    assert_int_equal(rig.link.sent_count, 2);
    assert_null(sqlite3_next_stmt(bench->own, NULL));
    for (int i = 0; i < 2; i++)
        fake_link_acked(&rig.link, rig.link.sent[i].token, i == 0 ? 0 : 0x90); /* a dead letter */
    for (int i = 0; i < 200; i++) {
        rig_run(&rig, 100);
        assert_null(sqlite3_next_stmt(bench->own, NULL));
        if (rig.link.opens == 2 && rig.link.answered < 2)
            rig_connect(&rig, 10);
    }
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_dead"), 1);
    /* The tombstone, and the announcement. */
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 2);
    rig_stop(&rig);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_no_statement_stays_behind_a_put),
        CASE(test_a_new_file_has_no_view_for_people),
        CASE(test_no_put_runs_inside_another),
        CASE(test_an_eviction_that_a_trigger_stops_costs_its_put_alone),
        CASE(test_no_statement_stays_behind_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
