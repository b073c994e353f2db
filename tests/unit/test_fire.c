/* SPDX-License-Identifier: MIT
 *
 * test_fire.c - fire-and-forget events: they obey the transaction, cost no write, and are sent or
 * dropped and counted.
 */
#include "shim_vfs.h"
#include "support.h"

#include <stdio.h>
#include <string.h>

static struct rig rig;

/* ---- A service that hands over to the rig's forwarder, at once ------------------------------- */

static struct {
    unsigned fired, calls, commits;
} heard;

static void on_committed(void *context, const int64_t durable[OUTBOX_LANES])
{
    struct bench *bench = context;
    heard.commits++;
    if (bench->forwarder)
        outbox_forwarder_committed(bench->forwarder, durable);
}

static void on_stats(void *context, outbox_statistics *statistics)
{
    struct bench *bench = context;
    if (bench->forwarder)
        outbox_forwarder_stats(bench->forwarder, statistics);
}

static int64_t on_acked(void *context, outbox_lane lane)
{
    (void)context, (void)lane;
    return 0;
}

static void on_stop(void *context)
{
    (void)context;
}

static void on_fired(void *context, const void *events, size_t size, unsigned count)
{
    struct bench *bench = context;
    heard.fired += count;
    heard.calls++;
    if (bench->forwarder)
        outbox_forwarder_fire(bench->forwarder, events, size);
}

static const outbox_service service = {.version = 1,
                                       .committed = on_committed,
                                       .stats = on_stats,
                                       .acked = on_acked,
                                       .stop = on_stop,
                                       .fired = on_fired};

static void bind(struct bench *bench)
{
    memset(&heard, 0, sizeof heard);
    assert_int_equal(outbox_bind(bench->box, &service, bench), OUTBOX_OK);
}

static const outbox_forwarder_config some = {.fire_bytes = 4096};

/* Connected, and told of what the handle puts. */
static void begin(struct bench *bench, const outbox_forwarder_config *config)
{
    rig_start(&rig, bench, config ? config : &some);
    rig_connect(&rig, 10);
    bind(bench);
}

static void end(struct bench *bench)
{
    assert_int_equal(outbox_stop(bench->box), OUTBOX_OK);
    rig_stop(&rig);
}

static int fire_code(struct bench *bench, const char *topic)
{
    return outbox_put(bench->box,
                      &(outbox_event){.topic = topic,
                                      .payload = "x",
                                      .payload_len = 1,
                                      .content_type = "text/plain",
                                      .fire_and_forget = 1},
                      NULL);
}

static void fire(struct bench *bench, const char *topic)
{
    if (fire_code(bench, topic) != OUTBOX_OK)
        fail_msg("put: %s", outbox_errmsg(bench->box));
}

static uint64_t dropped(struct bench *bench)
{
    outbox_statistics now;
    assert_int_equal(outbox_stats(bench->box, &now), OUTBOX_OK);
    return now.fire_dropped;
}

/* The topics of what was sent, one letter each. */
static const char *sent(void)
{
    static char topics[64];
    size_t len = 0;
    rig_step(&rig);
    for (int i = 0; i < rig.link.sent_count && len < sizeof topics - 1; i++)
        topics[len++] = rig.link.sent[i].topic[0];
    topics[len] = '\0';
    return topics;
}

/* ---- It obeys the transaction ---------------------------------------------------------------- */

/* [fire-1] */
static void test_it_is_sent_once_when_the_transaction_commits(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    bench_sql(bench->db, "BEGIN");
    fire(bench, "a");
    fire(bench, "b");
    assert_string_equal(sent(), "");
    bench_sql(bench->db, "COMMIT");
    assert_string_equal(sent(), "ab");
    assert_true(rig.link.sent[0].fire_and_forget && rig.link.sent[1].fire_and_forget);
    assert_int_equal(heard.calls, 1);
    rig_run(&rig, 60000);
    assert_string_equal(sent(), "ab");
    assert_int_equal(rig_stats(&rig).fire_sent, 2);
    assert_int_equal(dropped(bench), 0);
    assert_int_equal(bench_number(bench->db, "SELECT count(*) FROM outbox_event"), 1);
    end(bench);
}

/* [fire-1] */
static void test_without_a_transaction_it_goes_at_once(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    fire(bench, "a");
    assert_true(sqlite3_get_autocommit(bench->db));
    assert_string_equal(sent(), "a");
    end(bench);
}

/* [fire-1] */
static void test_a_rollback_takes_it_back(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    bench_sql(bench->db, "BEGIN");
    fire(bench, "a");
    bench_sql(bench->db, "ROLLBACK; BEGIN");
    fire(bench, "b");
    bench_sql(bench->db, "COMMIT");
    assert_string_equal(sent(), "b");
    end(bench);
}

/* [fire-1] each line: statements, of which a capital or small letter fires; what is sent */
static void test_a_savepoint_that_is_undone_takes_what_was_put_in_it(void **state)
{
    static const struct {
        const char *steps, *sent;
    } cases[] = {
        {"BEGIN|a|SAVEPOINT s|b|ROLLBACK TO s|c|COMMIT", "ac"},
        {"BEGIN|a|SAVEPOINT s|b|RELEASE s|c|COMMIT", "abc"},
        {"BEGIN|SAVEPOINT s|a|ROLLBACK TO s|b|COMMIT", "b"},
        {"BEGIN|SAVEPOINT s|SAVEPOINT t|a|RELEASE t|b|ROLLBACK TO s|c|COMMIT", "c"},
        {"BEGIN|SAVEPOINT s|SAVEPOINT t|a|ROLLBACK TO s|b|RELEASE s|COMMIT", "b"},
        {"BEGIN|a|SAVEPOINT s|b|SAVEPOINT t|c|RELEASE t|d|ROLLBACK TO s|e|COMMIT", "ae"},
        {"BEGIN|a|SAVEPOINT s|b|SAVEPOINT t|c|ROLLBACK TO t|d|RELEASE s|e|COMMIT", "abde"},
        {"BEGIN|a|SAVEPOINT s|RELEASE s|SAVEPOINT s|b|ROLLBACK TO s|ROLLBACK TO s|c|COMMIT", "ac"},
        {"SAVEPOINT s|a|ROLLBACK TO s|b|RELEASE s", "b"},
        {"SAVEPOINT s|a|SAVEPOINT t|b|ROLLBACK TO t|RELEASE s", "a"},
        {"SAVEPOINT s|a|SAVEPOINT s|b|ROLLBACK TO s|c|COMMIT", "ac"},
        {"SAVEPOINT s|SAVEPOINT t|a|RELEASE t|b|ROLLBACK TO s|c|RELEASE s", "c"},
        {"BEGIN|SAVEPOINT s|a|INSERT INTO one VALUES(1),(1)|b|COMMIT", "ab"},
        {"BEGIN|a|INSERT INTO one VALUES(2)|SAVEPOINT s|b|INSERT INTO one VALUES(3),(3)|c|"
         "ROLLBACK TO s|d|COMMIT",
         "ad"},
        {"BEGIN|a|INSERT OR ROLLBACK INTO one VALUES(4),(4)|b", "b"},
        {"BEGIN|SAVEPOINT s|a|ROLLBACK|BEGIN|b|SAVEPOINT s|c|ROLLBACK TO s|COMMIT", "b"},
    };
    struct bench *bench = *state;
    bench_sql(bench->db, "CREATE TABLE one(x UNIQUE)");
    begin(bench, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char steps[200];
        snprintf(steps, sizeof steps, "%s", cases[i].steps);
        rig.link.sent_count = 0;
        for (char *step = strtok(steps, "|"); step; step = strtok(NULL, "|")) {
            if (step[1] == '\0')
                fire(bench, step);
            else /* some are to fail */
                (void)sqlite3_exec(bench->db, step, NULL, NULL, NULL);
        }
        assert_true(sqlite3_get_autocommit(bench->db));
        if (strcmp(sent(), cases[i].sent) != 0)
            fail_msg("%s sends %s, not %s", cases[i].steps, sent(), cases[i].sent);
    }
    end(bench);
}

static void fire_inside(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc;
    fire(sqlite3_user_data(context), (const char *)sqlite3_value_text(argv[0]));
    sqlite3_result_int(context, sqlite3_value_int(argv[1]));
}

/* [fire-1] a function in a statement that fails takes back what it has put */
static void test_a_statement_that_is_undone_takes_what_was_put_in_it(void **state)
{
    struct bench *bench = *state;
    bench_sql(bench->db, "CREATE TABLE one(x UNIQUE)");
    assert_int_equal(
        sqlite3_create_function(bench->db, "fire", 2, SQLITE_UTF8, bench, fire_inside, NULL, NULL),
        SQLITE_OK);
    begin(bench, NULL);
    bench_sql(bench->db, "BEGIN; INSERT INTO one VALUES(9)");
    fire(bench, "a");
    assert_int_equal(sqlite3_exec(bench->db,
                                  "INSERT INTO one SELECT fire(value, 7) FROM"
                                  " json_each('[\"b\",\"c\"]')",
                                  NULL, NULL, NULL),
                     SQLITE_CONSTRAINT);
    fire(bench, "d");
    bench_sql(bench->db, "INSERT INTO one SELECT fire('e', 8)");
    bench_sql(bench->db, "COMMIT");
    assert_string_equal(sent(), "ade");
    /* Without BEGIN the statement is the transaction. */
    rig.link.sent_count = 0;
    (void)sqlite3_exec(bench->db, "INSERT INTO one SELECT fire('f', 8)", NULL, NULL, NULL);
    assert_string_equal(sent(), "");
    bench_sql(bench->db, "INSERT INTO one SELECT fire('g', 10)");
    assert_string_equal(sent(), "g");
    end(bench);
}

static void test_stored_events_of_the_transaction_go_as_well(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    bench_sql(bench->db, "BEGIN");
    fire(bench, "a");
    bench_put(bench, "b", "stored");
    bench_sql(bench->db, "COMMIT");
    assert_string_equal(sent(), "ab");
    assert_true(rig.link.sent[0].fire_and_forget);
    assert_false(rig.link.sent[1].fire_and_forget);
    assert_int_equal(rig_stats(&rig).in_flight, 1);
    end(bench);
}

/* ---- What it costs --------------------------------------------------------------------------- */

static void run_costly(struct bench *bench, bool fires)
{
    static const char *const steps[] = {"BEGIN",           "f", "COMMIT",  "f",
                                        "SAVEPOINT s",     "f", "f",       "RELEASE s",
                                        "BEGIN IMMEDIATE", "f", "ROLLBACK"};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (steps[i][1] != '\0')
            bench_sql(bench->db, steps[i]);
        else if (fires)
            fire(bench, "f");
}

/* [fire-2] not one write and not one sync, on whatever file, in every journal mode */
static void test_it_costs_no_write_and_no_sync(void **state)
{
    static const char *const modes[] = {"WAL", "DELETE", "TRUNCATE", "PERSIST"};
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        char pragma[60];
        outbox_detach(bench->box);
        assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
        shim_vfs_start();
        bench->db = shim_vfs_connect(bench->path);
        snprintf(pragma, sizeof pragma, "PRAGMA journal_mode = %s; PRAGMA synchronous = EXTRA",
                 modes[i]);
        bench_sql(bench->db, pragma);
        assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
        bind(bench);
        bench_put(bench, "a", "so that the journal is there");
        int writes = shim_vfs.all_writes, syncs = shim_vfs.all_syncs;
        assert_true(writes > 0 && syncs > 0);
        run_costly(bench, true);
        assert_int_equal(heard.fired, 4);
        assert_int_equal(shim_vfs.all_writes, writes);
        assert_int_equal(shim_vfs.all_syncs, syncs);
        /* Nor does it add to what another put of the transaction costs. */
        bench_sql(bench->db, "BEGIN");
        bench_put(bench, "a", "b");
        bench_sql(bench->db, "COMMIT");
        int alone = shim_vfs.all_writes - writes;
        bench_sql(bench->db, "BEGIN");
        fire(bench, "f");
        bench_put(bench, "a", "b");
        fire(bench, "f");
        bench_sql(bench->db, "COMMIT");
        assert_int_equal(shim_vfs.all_writes - writes, 2 * alone);
        assert_int_equal(outbox_stop(bench->box), OUTBOX_OK);
        outbox_detach(bench->box);
        assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
        shim_vfs_stop();
        bench->db = bench_connect(bench);
        assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    }
}

/* ---- Dropped and counted: [fire-3] ----------------------------------------------------------- */

static void test_without_a_forwarder_it_is_dropped_and_counted(void **state)
{
    struct bench *bench = *state;
    fire(bench, "a");
    bench_sql(bench->db, "BEGIN");
    fire(bench, "b");
    fire(bench, "c");
    bench_sql(bench->db, "COMMIT");
    assert_int_equal(dropped(bench), 3);
}

static void test_while_the_link_is_down_it_is_dropped_and_counted(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    fire(bench, "a");
    fake_link_closed(&rig.link, "gone");
    assert_string_equal(sent(), ""); /* it was taken, and then the link was found to be gone */
    fire(bench, "b");
    assert_int_equal(dropped(bench), 2);
    rig_reconnect(&rig, 10);
    fire(bench, "c");
    assert_string_equal(sent(), "c");
    end(bench);
}

static void
test_what_the_link_has_no_room_for_waits_and_then_what_does_not_fit_is_dropped(void **state)
{
    struct bench *bench = *state;
    begin(bench, &(outbox_forwarder_config){.fire_bytes = 512});
    rig.link.room = 0;
    for (int i = 0; i < 20; i++)
        fire(bench, "a");
    rig_step(&rig);
    uint64_t lost = dropped(bench);
    assert_true(lost > 0 && lost < 20);
    assert_true(rig.next_ms > 0 && rig.next_ms <= 5);
    rig.link.room = -1;
    rig_run(&rig, 10);
    assert_int_equal(rig_stats(&rig).fire_sent, 20 - lost);
    end(bench);
}

static void test_what_does_not_fit_into_the_transaction_is_dropped_and_counted(void **state)
{
    struct bench *bench = *state;
    outbox_detach(bench->box);
    assert_int_equal(outbox_attach(bench->db, &(outbox_config){.fire_bytes = 300}, &bench->box),
                     OUTBOX_OK);
    begin(bench, NULL);
    bench_sql(bench->db, "BEGIN");
    for (int i = 0; i < 20; i++)
        fire(bench, "a");
    bench_sql(bench->db, "COMMIT");
    rig_step(&rig);
    uint64_t went = rig_stats(&rig).fire_sent;
    assert_true(went > 0 && went < 20);
    assert_int_equal(dropped(bench), 20 - went);
    end(bench);
}

static void test_the_pace_holds_for_it_too(void **state)
{
    struct bench *bench = *state;
    begin(bench, &(outbox_forwarder_config){.fire_bytes = 4096, .pace = {.events_per_s = 2}});
    for (int i = 0; i < 6; i++)
        fire(bench, "a");
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 2);
    rig_run(&rig, 1000);
    assert_true(rig.link.sent_count >= 3 && rig.link.sent_count <= 5);
    rig_run(&rig, 5000);
    assert_int_equal(rig.link.sent_count, 6);
    assert_int_equal(dropped(bench), 0);
    end(bench);
}

static void test_a_closed_gate_and_an_event_too_large_for_the_broker_drop_it(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    rig.link.maximum_packet = 10;
    fire(bench, "a");
    assert_string_equal(sent(), "");
    assert_int_equal(dropped(bench), 1);
    rig.link.maximum_packet = 0;
    outbox_forwarder_gate(bench->forwarder, OUTBOX_GATE_URGENT_ONLY);
    fire(bench, "b");
    assert_string_equal(sent(), "");
    assert_int_equal(dropped(bench), 2);
    end(bench);
}

/* Else it could be what the broker hangs up on, and a stored event would be buried for it. */
static void test_none_is_sent_while_an_event_is_under_suspicion(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    bench_put(bench, "p", "poison");
    for (int i = 0; i < 2; i++) {
        rig_step(&rig);
        fake_link_hung_up(&rig.link, "hung up");
        rig_step(&rig);
        rig_reconnect(&rig, 10);
    }
    rig.link.sent_count = 0;
    fire(bench, "a");
    rig_step(&rig);
    for (int i = 0; i < rig.link.sent_count; i++)
        assert_false(rig.link.sent[i].fire_and_forget);
    assert_int_equal(dropped(bench), 1);
    end(bench);
}

static void test_one_that_has_expired_while_it_waited_is_dropped(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    rig.link.room = 0;
    assert_int_equal(outbox_put(bench->box,
                                &(outbox_event){.topic = "a", .ttl_ms = 1, .fire_and_forget = 1},
                                NULL),
                     OUTBOX_OK);
    assert_int_equal(
        outbox_put(bench->box,
                   &(outbox_event){.topic = "b", .ttl_ms = 3600000, .fire_and_forget = 1}, NULL),
        OUTBOX_OK);
    rig_step(&rig);
    sqlite3_sleep(3);
    rig.link.room = -1;
    rig_run(&rig, 10);
    assert_string_equal(sent(), "b");
    assert_in_range(rig.link.sent[0].expiry_seconds, 3500, 3600);
    assert_int_equal(dropped(bench), 1);
    end(bench);
}

static void test_what_is_staged_when_the_handle_or_the_connection_goes_is_not_sent(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    bench_sql(bench->db, "BEGIN");
    fire(bench, "a");
    assert_int_equal(outbox_stop(bench->box), OUTBOX_OK);
    outbox_detach(bench->box);
    bench->box = NULL;
    bench_sql(bench->db, "COMMIT");
    assert_string_equal(sent(), "");
    rig_stop(&rig);
}

/* Else it would be what the broker has refused that waits for nothing in flight. */
static void test_none_is_sent_while_an_urgent_event_is_refused(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    assert_int_equal(
        outbox_put(bench->box, &(outbox_event){.topic = "u", .lane = OUTBOX_URGENT}, NULL),
        OUTBOX_OK);
    rig_step(&rig);
    fake_link_acked(&rig.link, rig.link.sent[0].token, 0x97);
    rig_step(&rig);
    rig_reconnect(&rig, 10);
    rig.link.sent_count = 0;
    fire(bench, "a");
    rig_step(&rig);
    assert_int_equal(dropped(bench), 1);
    end(bench);
}

/* Nobody but outbox_put() makes them, and a port may lose some of their bytes. */
static void test_bytes_that_are_no_event_are_dropped_and_no_more_of_them_is_read(void **state)
{
    static char zeros[200], ones[200];
    struct bench *bench = *state;
    memset(ones, 0x7f, sizeof ones);
    begin(bench, NULL);
    outbox_forwarder_fire(bench->forwarder, "abc", 3);
    rig_step(&rig);
    outbox_forwarder_fire(bench->forwarder, zeros, sizeof zeros);
    rig_step(&rig);
    outbox_forwarder_fire(bench->forwarder, ones, sizeof ones);
    rig_step(&rig);
    fire(bench, "a");
    assert_string_equal(sent(), "a");
    end(bench);
}

/* It needs room for its message beside those of the lanes, and waits for that if it can come. */
static void test_one_that_no_buffer_can_hold_is_dropped(void **state)
{
    static char large[12000];
    struct bench *bench = *state;
    memset(large, 'x', sizeof large);
    begin(bench, &(outbox_forwarder_config){
                     .fire_bytes = 1 << 16, .payload_max = 5000, .buffer_size = 8192});
    outbox_event event = {.topic = "a",
                          .payload = large,
                          .payload_len = sizeof large,
                          .content_type = "text/plain",
                          .fire_and_forget = 1};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    assert_string_equal(sent(), "");
    assert_int_equal(dropped(bench), 1);
    event.payload_len = 5000;
    event.fire_and_forget = 0;
    event.topic = "s";
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    rig_step(&rig);
    event.fire_and_forget = 1;
    event.topic = "b"; /* the other lane's buffer has room for it */
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    assert_string_equal(sent(), "sb");
    assert_int_equal(dropped(bench), 1);
    end(bench);
}

static void put_large(struct bench *bench, const char *topic, outbox_lane lane, int fire)
{
    static char large[5000];
    memset(large, 'x', sizeof large);
    outbox_event event = {.topic = topic,
                          .payload = large,
                          .payload_len = sizeof large,
                          .content_type = "text/plain",
                          .lane = lane,
                          .fire_and_forget = fire};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
}

static void test_one_that_finds_both_buffers_in_use_waits(void **state)
{
    struct bench *bench = *state;
    begin(bench, &(outbox_forwarder_config){.foreign_check_ms = OUTBOX_NEVER,
                                            .fire_bytes = 1 << 16,
                                            .payload_max = 5000,
                                            .buffer_size = 8192});
    put_large(bench, "n", OUTBOX_NORMAL, 0);
    put_large(bench, "u", OUTBOX_URGENT, 0);
    rig_step(&rig);
    put_large(bench, "f", OUTBOX_NORMAL, 1);
    assert_string_equal(sent(), "un");
    assert_int_equal(dropped(bench), 0);
    rig_ack_from(&rig, 0);
    rig_run(&rig, 60000);
    assert_int_equal(rig_stats(&rig).delivered, 2);
    assert_string_equal(sent(), "unf");
    end(bench);
}

static void test_more_than_one_step_sends_go_with_the_next(void **state)
{
    struct bench *bench = *state;
    begin(bench, &(outbox_forwarder_config){.fire_bytes = 1 << 20});
    for (int i = 0; i < 300; i++)
        fire(bench, "a");
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 256);
    assert_int_equal(rig.next_ms, 0);
    rig_step(&rig);
    assert_int_equal(rig.link.sent_count, 300);
    assert_int_equal(dropped(bench), 0);
    end(bench);
}

/* [fire-3] as with a port of an earlier version */
static void test_a_service_that_takes_none_drops_them(void **state)
{
    struct bench *bench = *state;
    outbox_service deaf = service;
    deaf.fired = NULL;
    assert_int_equal(outbox_bind(bench->box, &deaf, bench), OUTBOX_OK);
    fire(bench, "a");
    assert_int_equal(dropped(bench), 1);
    assert_int_equal(outbox_stop(bench->box), OUTBOX_OK);
}

/* ---- Its stream ------------------------------------------------------------------------------ */

/* [fire-4] */
static void test_its_stream_is_unstored_and_begins_anew_with_each_start(void **state)
{
    struct bench *bench = *state;
    char first[128];
    int64_t id = 7;
    begin(bench, NULL);
    fire(bench, "a");
    assert_int_equal(
        outbox_put(bench->box, &(outbox_event){.topic = "b", .fire_and_forget = 1}, &id),
        OUTBOX_OK);
    assert_int_equal(id, 0);
    assert_string_equal(sent(), "ab");
    const struct fake_sent *sent_ones = rig.link.sent;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sent_ones[i].id, i + 1);
        assert_int_equal(sent_ones[i].previous, -1);
        assert_non_null(strstr(sent_ones[i].source, "/unstored/"));
        assert_string_equal(sent_ones[i].source, sent_ones[0].source);
    }
    assert_non_null(strstr(sent_ones[1].payload, "\"sequence\":\"0000000000000000002\""));
    snprintf(first, sizeof first, "%s", sent_ones[0].source);
    end(bench);
    begin(bench, NULL);
    fire(bench, "a");
    assert_string_equal(sent(), "a");
    assert_int_equal(rig.link.sent[0].id, 1);
    assert_int_equal(strlen(rig.link.sent[0].source), strlen(first));
    assert_string_not_equal(rig.link.sent[0].source, first);
    end(bench);
}

/* [headers-1] */
static void test_all_that_an_event_has_goes_with_it(void **state)
{
    struct bench *bench = *state;
    begin(bench, NULL);
    const outbox_event event = {.topic = "a",
                                .payload = "{\"a\":1}",
                                .payload_len = 7,
                                .content_type = "application/json",
                                .type = "t",
                                .key = "k",
                                .correlation_id = "c",
                                .fire_and_forget = 1};
    assert_int_equal(outbox_put(bench->box, &event, NULL), OUTBOX_OK);
    rig_step(&rig);
    const char *payload = rig.link.sent[0].payload;
    assert_non_null(strstr(payload, "\"type\":\"t\",\"time\":\"2"));
    assert_non_null(strstr(payload,
                           "\"partitionkey\":\"k\",\"correlationid\":\"c\","
                           "\"datacontenttype\":\"application/json\",\"data\":{\"a\":1}}"));
    end(bench);
}

/* ---- Refused: [fire-5] ----------------------------------------------------------------------- */

static int deny_touch(void *context, int action, const char *a, const char *b, const char *c,
                      const char *d)
{
    (void)context, (void)b, (void)c, (void)d;
    return action == SQLITE_INSERT && strcmp(a, "outbox_commit") == 0 ? SQLITE_DENY : SQLITE_OK;
}

static void test_what_it_cannot_be_is_refused(void **state)
{
    static char large[OUTBOX_FIRE_BYTES];
    struct bench *bench = *state;
    const struct {
        outbox_event event;
        int code;
    } cases[] = {
        {{.topic = "a", .fire_and_forget = 1, .lane = OUTBOX_URGENT}, OUTBOX_MISUSE},
        {{.topic = "a", .fire_and_forget = 1, .key = "k", .keep_last = 1}, OUTBOX_MISUSE},
        {{.topic = "a", .fire_and_forget = 1, .payload = large, .payload_len = sizeof large},
         OUTBOX_TOO_LARGE},
        {{.topic = "a/#", .fire_and_forget = 1}, OUTBOX_BAD_TOPIC},
        {{.topic = "a", .fire_and_forget = 1, .causation_id = ""}, OUTBOX_BAD_ATTRIBUTE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(outbox_put(bench->box, &cases[i].event, NULL), cases[i].code);
        assert_true(strlen(outbox_errmsg(bench->box)) > 20);
    }
    sqlite3_set_authorizer(bench->db, deny_touch, NULL);
    bench_sql(bench->db, "BEGIN");
    assert_int_equal(fire_code(bench, "a"), OUTBOX_SQLITE);
    assert_non_null(strstr(outbox_errmsg(bench->box), "authorizer"));
    bench_sql(bench->db, "COMMIT");
    sqlite3_set_authorizer(bench->db, NULL, NULL);
    assert_int_equal(dropped(bench), 0);
}

static void test_memory_for_it_is_bounded(void **state)
{
    struct bench *bench = *state;
    outbox *other = NULL;
    sqlite3 *db = bench_connect(bench);
    assert_int_equal(outbox_attach(db, &(outbox_config){.fire_bytes = 255}, &other), OUTBOX_MISUSE);
    assert_int_equal(outbox_attach(db, &(outbox_config){.fire_bytes = (1 << 24) + 1}, &other),
                     OUTBOX_MISUSE);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(outbox_fire_bytes(bench->box), OUTBOX_FIRE_BYTES);
    assert_int_equal(outbox_forwarder_size(&(outbox_forwarder_config){.fire_bytes = (1 << 24) + 1}),
                     0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)
    const struct CMUnitTest tests[] = {
        TEST(test_it_is_sent_once_when_the_transaction_commits),
        TEST(test_without_a_transaction_it_goes_at_once),
        TEST(test_a_rollback_takes_it_back),
        TEST(test_a_savepoint_that_is_undone_takes_what_was_put_in_it),
        TEST(test_a_statement_that_is_undone_takes_what_was_put_in_it),
        TEST(test_stored_events_of_the_transaction_go_as_well),
        TEST(test_it_costs_no_write_and_no_sync),
        TEST(test_without_a_forwarder_it_is_dropped_and_counted),
        TEST(test_while_the_link_is_down_it_is_dropped_and_counted),
        TEST(test_what_the_link_has_no_room_for_waits_and_then_what_does_not_fit_is_dropped),
        TEST(test_what_does_not_fit_into_the_transaction_is_dropped_and_counted),
        TEST(test_the_pace_holds_for_it_too),
        TEST(test_a_closed_gate_and_an_event_too_large_for_the_broker_drop_it),
        TEST(test_none_is_sent_while_an_event_is_under_suspicion),
        TEST(test_none_is_sent_while_an_urgent_event_is_refused),
        TEST(test_bytes_that_are_no_event_are_dropped_and_no_more_of_them_is_read),
        TEST(test_one_that_no_buffer_can_hold_is_dropped),
        TEST(test_one_that_finds_both_buffers_in_use_waits),
        TEST(test_more_than_one_step_sends_go_with_the_next),
        TEST(test_a_service_that_takes_none_drops_them),
        TEST(test_one_that_has_expired_while_it_waited_is_dropped),
        TEST(test_what_is_staged_when_the_handle_or_the_connection_goes_is_not_sent),
        TEST(test_its_stream_is_unstored_and_begins_anew_with_each_start),
        TEST(test_all_that_an_event_has_goes_with_it),
        TEST(test_what_it_cannot_be_is_refused),
        TEST(test_memory_for_it_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
