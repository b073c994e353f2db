/* SPDX-License-Identifier: MIT
 *
 * test_kill_ledger.c - processes that put, evict, expire, supersede and forward are killed with -9,
 * and the ledger still knows what became of every event.
 *
 * One process puts and another forwards, or one does both, while they are killed and the broker is
 * restarted at random moments. The lanes are short and the outages long enough to fill them. Each
 * transaction notes its events in the table `accepted`, so the file itself says what must be
 * accounted for. In the end, for each lane [P1] [P3] [P4] [P5] [announce-1]:
 *
 *   the ids are contiguous: an event that was accepted, or an announcement, and nothing else;
 *   what is counted as delivered has arrived, and what was rolled back never did;
 *   what never arrived is inside the range of an announcement with a reason that may apply to it;
 *   the announcements add up to what is counted, and the recipient could prove that nothing is
 * missing.
 *
 * An event that is evicted in flight may have arrived all the same, so it is only the other way
 * round that arrivals can be held against the counts.
 */
#include "dice.h"
#include "harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KILLS 20
#define RESTARTS 5
#define PATIENCE_MS 60000

static const char *const lane_name[OUTBOX_LANES] = {"normal", "urgent"};

/* ---- A process that puts or forwards, or both ------------------------------------------------ */

typedef struct worker {
    scene scene;
    app *app;
    uint64_t seed;
    int life, events; /* which life this is, and events put in it */
} worker;

/* A third of the events of either lane expire soon, another third matter only while they are the
 * newest of their key. The token is used once in all lives. */
static void put_one(worker *w)
{
    char token[32], key[8], sql[160];
    int64_t id = 0;
    int kind = dice(&w->seed, 3);
    outbox_event event = {.topic = "t", .content_type = "text/plain"};

    event.payload_len = (size_t)snprintf(token, sizeof token, "%d-%d", w->life, ++w->events);
    (void)snprintf(key, sizeof key, "k%d", dice(&w->seed, 5));
    event.payload = token;
    event.lane = dice(&w->seed, 4) == 0 ? OUTBOX_URGENT : OUTBOX_NORMAL;
    event.ttl_ms = kind == 1 ? 1 + dice(&w->seed, 200) : 0;
    event.keep_last = kind == 2;
    event.key = kind == 2 ? key : NULL;
    int rc = outbox_put(w->app->box, &event, &id);
    if (rc != OUTBOX_OK) {
        fail_msg("put: %d, %s", rc, outbox_errmsg(w->app->box));
    }
    (void)snprintf(sql, sizeof sql,
                   "INSERT INTO accepted VALUES('%s', %" PRId64 ", '%s', %d, nullif('%s', ''))",
                   lane_name[event.lane], id, token, kind == 1, kind == 2 ? key : "");
    app_exec(w->app, sql);
}

static void one_transaction(worker *w)
{
    app_exec(w->app, "BEGIN IMMEDIATE");
    for (int left = 1 + dice(&w->seed, 6); left > 0; left--) {
        put_one(w);
    }
    app_exec(w->app, dice(&w->seed, 5) == 0 ? "ROLLBACK" : "COMMIT");
    pause_ms(dice(&w->seed, 12));
}

/* Until everything has left, and all drops have been announced. */
static void drain(worker *w)
{
    long long deadline = clock_ms() + PATIENCE_MS;
    const char *const left = "SELECT (SELECT ledger LIKE '%drops%' FROM outbox_event ORDER BY id"
                             "  LIMIT 1) + (SELECT ledger LIKE '%drops%' FROM outbox_urgent"
                             "  ORDER BY id LIMIT 1)";

    for (app_flush(w->app); app_number(w->app, left) > 0; app_flush(w->app)) {
        assert_true(clock_ms() < deadline);
        pause_ms(20);
    }
}

static void open_worker(worker *w)
{
    const outbox_limit limits[OUTBOX_LANES] = {
        {.max_events = 150, .when_full = OUTBOX_EVICT_OLDEST},
        {.max_events = 60, .when_full = OUTBOX_EVICT_OLDEST}};

    w->app = app_open_limited(&w->scene, limits);
    app_exec(w->app, "CREATE TABLE IF NOT EXISTS"
                     " accepted(lane TEXT, id INTEGER, token TEXT, expires INTEGER, key TEXT,"
                     "  PRIMARY KEY(lane, id))");
}

static void work_until_killed(worker *w, int puts)
{
    for (;;) {
        if (puts) {
            one_transaction(w);
        } else {
            pause_ms(1000000);
        }
    }
}

/* worker FOLDER URL SEED LIFE PUTS FORWARDS MORTAL: a mortal one goes on until it is killed, the
 * other one ends when everything is delivered. */
static int run_worker(char **argv)
{
    worker w = {.seed = strtoull(argv[3], NULL, 10), .life = atoi(argv[4])};
    int puts = atoi(argv[5]), forwards = atoi(argv[6]), mortal = atoi(argv[7]);

    (void)snprintf(w.scene.database, sizeof w.scene.database, "%s/app.db", argv[1]);
    open_worker(&w);
    if (forwards) {
        app_start_with(
            w.app,
            &(outbox_forwarding){.broker = argv[2],
                                 .window = 10, /* few in flight, so few can arrive and be evicted */
                                 .foreign_check_ms = 20,
                                 .backoff_max_ms = 100,
                                 .announce_topic = "dropped"});
    }
    if (mortal) {
        work_until_killed(&w, puts);
    }
    for (int i = 0; i < 100; i++) {
        one_transaction(&w);
    }
    drain(&w);
    app_close(w.app);
    return 0;
}

/* ---- The one who kills ----------------------------------------------------------------------- */

typedef struct killer {
    scene *scene;
    uint64_t seed;
    pid_t workers[2]; /* 0: none */
    int lives, left_kills, left_restarts;
} killer;

static pid_t start_worker(killer *k, int puts, int forwards, int mortal)
{
    char seed[24], life[8];

    (void)snprintf(seed, sizeof seed, "%" PRIu64, roll(&k->seed));
    (void)snprintf(life, sizeof life, "%d", k->lives++);
    const char *const arguments[] = {
        CHILD_SELF, "worker",         k->scene->folder,     k->scene->url,      seed,
        life,       puts ? "1" : "0", forwards ? "1" : "0", mortal ? "1" : "0", NULL};
    return child_start(k->scene->folder, "worker.log", "worker.log", arguments);
}

static void start_mortals(killer *k)
{
    int apart = dice(&k->seed, 2);

    k->workers[0] = start_worker(k, 1, !apart, 1);
    k->workers[1] = apart ? start_worker(k, 0, 1, 1) : 0;
}

static void kill_mortals(killer *k)
{
    int first = k->workers[1] != 0 ? dice(&k->seed, 2) : 0;

    for (int i = 0; i < 2; i++) {
        pid_t *pid = &k->workers[first ^ i];
        if (*pid != 0) {
            assert_int_equal(child_stop(*pid, SIGKILL), -SIGKILL);
            recorder_follow(k->scene->recorder, dice(&k->seed, 50));
        }
        *pid = 0;
    }
}

static void restart_broker(killer *k)
{
    broker_terminate(&k->scene->broker);
    recorder_follow(k->scene->recorder, dice(&k->seed, 600));
    broker_restart(&k->scene->broker);
}

static void expect_workers_to_live(killer *k)
{
    child_end end = 0;

    for (int i = 0; i < 2; i++) {
        if (k->workers[i] != 0 && child_await(k->workers[i], 0, &end) == 0) {
            k->workers[i] = 0;
            fail_msg("a worker ended by itself with %d; see worker.log", end);
        }
    }
}

static void kill_at_random(killer *k)
{
    start_mortals(k);
    while (k->left_kills + k->left_restarts > 0) {
        recorder_follow(k->scene->recorder, dice(&k->seed, 500));
        expect_workers_to_live(k);
        if (dice(&k->seed, k->left_kills + k->left_restarts) < k->left_kills) {
            k->left_kills--;
            kill_mortals(k);
            start_mortals(k);
        } else {
            k->left_restarts--;
            restart_broker(k);
        }
    }
    kill_mortals(k);
}

static void drain_at_last(killer *k)
{
    child_end end = 0;

    if (child_await(start_worker(k, 1, 1, 0), 2 * PATIENCE_MS, &end) != 0) {
        fail_msg("the last worker does not get everything delivered");
    }
    assert_int_equal(end, 0);
}

/* ---- What must hold -------------------------------------------------------------------------- */

/* seen: first arrivals. told: what was announced. missing: what was accepted and never arrived. */
static const char VIEWS[] =
    "CREATE TABLE seen AS SELECT CASE WHEN json_extract(event, '$.source') LIKE '%/urgent/%'"
    "   THEN 'urgent' ELSE 'normal' END AS lane, id, min(n) AS n, topic,"
    "  json_extract(event, '$.data') AS data, json_extract(event, '$.previous') + 0 AS previous"
    " FROM arrival GROUP BY 1, 2;"
    "CREATE UNIQUE INDEX seen_id ON seen(lane, id);"
    "CREATE TABLE told AS SELECT lane, id, json_extract(data, '$.reason') AS reason,"
    "  json_extract(data, '$.count') AS count, json_extract(data, '$.from') AS first,"
    "  json_extract(data, '$.to') AS last FROM seen WHERE topic = 'dropped';"
    "CREATE TABLE missing AS SELECT a.* FROM app.accepted AS a LEFT JOIN seen AS s"
    "  ON s.lane = a.lane AND s.id = a.id WHERE s.id IS NULL;";

/* The number of a query in which '$' stands for the lane. */
static int64_t number_of(recorder *r, const char *lane, const char *query)
{
    char text[1000];
    size_t length = 0;

    for (const char *c = query; *c != '\0'; c++) {
        const char piece[2] = {*c, '\0'};
        const char *add = *c == '$' ? lane : piece;
        assert_true(length + strlen(add) < sizeof text);
        memcpy(text + length, add, strlen(add) + 1);
        length += strlen(add);
    }
    return recorder_number(r, text);
}

/* Every id is that of an accepted event, of an announcement that arrived, or a hole: an
 * announcement that was evicted before it was acknowledged. */
static void expect_contiguous_ids(recorder *r, const char *lane, const outbox_lane_counts *counts)
{
    int64_t accepted = number_of(r, lane, "SELECT count(*) FROM app.accepted WHERE lane = '$'");
    int64_t announced = number_of(r, lane, "SELECT count(*) FROM told WHERE lane = '$'");

    assert_int_equal(counts->accepted + counts->holes, counts->last_id);
    assert_in_range(counts->last_id - accepted, announced, announced + counts->holes);
    assert_in_range(announced, counts->last_id - accepted - counts->holes, INT64_MAX);
    assert_int_equal(
        number_of(r, lane,
                  "SELECT count(*) FROM seen LEFT JOIN app.accepted AS a USING(lane, id)"
                  " WHERE lane = '$' AND (topic = 'dropped') <> (a.id IS NULL)"),
        0);
}

/* No more is missing than is counted, and each missing one may be what is said of those around
 * it. */
static void expect_nothing_lost(recorder *r, const char *lane, const outbox_lane_counts *counts)
{
    int64_t missing = number_of(r, lane, "SELECT count(*) FROM missing WHERE lane = '$'");

    assert_int_equal(counts->pending, 0);
    assert_int_equal(counts->dead_lettered, 0);
    assert_in_range(missing, 0, counts->expired + counts->evicted + counts->superseded);
    assert_in_range(number_of(r, lane, "SELECT count(*) FROM seen WHERE lane = '$'"),
                    counts->delivered, INT64_MAX);
    assert_int_equal(
        number_of(r, lane,
                  "SELECT count(*) FROM missing AS m WHERE lane = '$' AND NOT EXISTS("
                  " SELECT * FROM told AS t WHERE t.lane = m.lane AND m.id BETWEEN first AND last"
                  "  AND (reason = 'evicted' OR (reason = 'expired' AND m.expires)"
                  "   OR (reason = 'superseded' AND EXISTS(SELECT * FROM app.accepted AS newer"
                  "    WHERE newer.lane = m.lane AND newer.key = m.key AND newer.id > m.id))))"),
        0);
}

/* A drop that an evicted announcement told of, which had arrived all the same, is told of twice. */
static void expect_announced(recorder *r, const char *lane, const char *reason, int64_t count,
                             int64_t holes)
{
    char query[160];

    (void)snprintf(query, sizeof query,
                   "SELECT sum(count) FROM told WHERE lane = '$' AND reason = '%s'", reason);
    int64_t told = number_of(r, lane, query);
    assert_in_range(told, count, holes == 0 ? count : INT64_MAX);
}

static void expect_no_invention_and_order(recorder *r)
{
    expect_number(r,
                  "SELECT count(*) FROM seen JOIN app.accepted USING(lane, id)"
                  " WHERE token IS NOT data",
                  0);
    /* The rule by which a recipient proves that nothing is missing. */
    expect_number(r,
                  "SELECT count(*) FROM (SELECT id, previous,"
                  "  lag(id, 1, 0) OVER (PARTITION BY lane ORDER BY n) AS mark FROM seen)"
                  " WHERE id <= mark OR previous > mark",
                  0);
}

static void expect_ledger(scene *s, outbox_lane lane, const outbox_statistics *now)
{
    const outbox_lane_counts *counts = &now->lanes[lane];
    recorder *r = s->recorder;

    print_message("# %s: %" PRId64 " accepted = %" PRId64 " delivered + %" PRId64
                  " evicted + %" PRId64 " expired + %" PRId64 " superseded; %" PRId64 " holes\n",
                  lane_name[lane], counts->accepted, counts->delivered, counts->evicted,
                  counts->expired, counts->superseded, counts->holes);
    assert_int_equal(counts->accepted, counts->pending + counts->delivered + counts->expired +
                                           counts->evicted + counts->superseded +
                                           counts->dead_lettered);
    expect_contiguous_ids(r, lane_name[lane], counts);
    expect_nothing_lost(r, lane_name[lane], counts);
    expect_announced(r, lane_name[lane], "evicted", counts->evicted, counts->holes);
    expect_announced(r, lane_name[lane], "expired", counts->expired, counts->holes);
    expect_announced(r, lane_name[lane], "superseded", counts->superseded, counts->holes);
}

static void test_the_ledger_accounts_for_every_event_across_twenty_kills(void **state)
{
    char sql[128];
    scene *s = *state;
    killer k = {.scene = s, .seed = choose_seed(), .left_kills = KILLS, .left_restarts = RESTARTS};

    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    kill_at_random(&k);
    drain_at_last(&k);

    app *a = app_open(s, "WAL");
    outbox_statistics now = app_stats(a);
    /* All that was acknowledged is with the broker, and comes before this one. */
    app_start_with(a, &(outbox_forwarding){.broker = s->url});
    (void)app_put(a, "end", "");
    app_flush(a);
    recorder_await(s->recorder, "SELECT count(*) FROM arrival WHERE topic = 'end'", 1);
    recorder_run(s->recorder, "DELETE FROM arrival WHERE topic = 'end'");

    (void)snprintf(sql, sizeof sql, "ATTACH '%s' AS app", s->database);
    recorder_run(s->recorder, sql);
    recorder_run(s->recorder, VIEWS);
    expect_ledger(s, OUTBOX_NORMAL, &now);
    expect_ledger(s, OUTBOX_URGENT, &now);
    expect_no_invention_and_order(s->recorder);
    /* The test itself has done what it says. */
    assert_true(now.evicted > 0 && now.expired > 0 && now.superseded > 0);
    recorder_run(s->recorder, "DETACH app");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_the_ledger_accounts_for_every_event_across_twenty_kills),
    };

    if (argc == 9 && strcmp(argv[1], "worker") == 0) {
        return run_worker(argv + 1);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
