/* SPDX-License-Identifier: MIT
 *
 * test_chaos.c - everything goes wrong at once, again and again, and nothing is lost.
 *
 * A writer process puts thousands of events, a third of them in transactions that roll back, while
 * it is killed with -9, its connection is cut and the broker is restarted, all at random moments.
 * Each committed transaction also has its rows in the table `ledger`, so the database itself knows
 * what must have arrived. In the end [P1] [P2] [P3] [P4] [P5] [P6]:
 *
 *   every event of the ledger has arrived, and no other: what was rolled back never did;
 *   the first arrivals are in order, and each names the one before it as its `previous`;
 *   what came more than once came with the same id, payload and time, and not often;
 *   the outbox is empty and its counters add up.
 *
 * The seed is printed. OUTBOX_TEST_SEED=n repeats the same dice; the machine adds its own.
 */
#include "dice.h"
#include "harness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW 100 /* the defaults: what a crash may repeat at most */
#define SETTLE_BATCH 256

typedef struct plan {
    const char *journal_mode;
    int events, kills, cuts, restarts;
} plan;

/* ---- The writer: a process of its own, one of many lives ------------------------------------- */

typedef struct writer {
    scene scene;
    app *app;
    uint64_t seed;
    int life, events; /* which life this is, and events put in it */
    int rolled_back;  /* a file with one byte for each event that was */
} writer;

/* An event and its row in the ledger; the token is used once in all lives. */
static void put_with_ledger(writer *w)
{
    char token[32], topic[16], sql[128];

    (void)snprintf(token, sizeof token, "%d-%d", w->life, ++w->events);
    (void)snprintf(topic, sizeof topic, "plant/%d", dice(&w->seed, 3));
    int64_t id = app_put(w->app, topic, token);
    (void)snprintf(sql, sizeof sql, "INSERT INTO ledger VALUES(%" PRId64 ", '%s')", id, token);
    app_exec(w->app, sql);
}

static void note_rolled_back(const writer *w, int events)
{
    for (int i = 0; i < events; i++) {
        assert_int_equal(write(w->rolled_back, ".", 1), 1);
    }
}

/* One to six events; of three transactions one rolls back, and of the others some in part. */
static void one_transaction(writer *w)
{
    int count = 1 + dice(&w->seed, 6);
    int fate = dice(&w->seed, 9);

    app_exec(w->app, "BEGIN IMMEDIATE");
    for (int i = 0; i < count; i++) {
        put_with_ledger(w);
    }
    if (fate < 3) {
        app_exec(w->app, "ROLLBACK");
        note_rolled_back(w, count);
        return;
    }
    if (fate == 3) {
        app_exec(w->app, "SAVEPOINT inner");
        put_with_ledger(w);
        app_exec(w->app, "ROLLBACK TO inner");
        note_rolled_back(w, 1);
    }
    app_exec(w->app, "COMMIT");
}

/* Up to `behind` it hurries, to make up for lives that were cut short, then it takes its time up to
 * `target`, so that death finds it at work. */
static void write_events(writer *w, int behind, int target)
{
    for (;;) {
        int64_t written = app_number(w->app, "SELECT count(*) FROM ledger");
        if (written >= target) {
            return;
        }
        one_transaction(w);
        if (written >= behind) {
            pause_ms(dice(&w->seed, 10));
        }
    }
}

/* writer FOLDER URL JOURNAL_MODE SEED LIFE BEHIND TARGET MORTAL: a mortal one waits to be killed,
 * the other one ends when everything is delivered. */
static int run_writer(char **argv)
{
    writer w = {.life = atoi(argv[5]), .seed = strtoull(argv[4], NULL, 10)};
    char path[128];

    (void)snprintf(w.scene.database, sizeof w.scene.database, "%s/app.db", argv[1]);
    (void)snprintf(w.scene.url, sizeof w.scene.url, "%s", argv[2]);
    (void)snprintf(path, sizeof path, "%s/rolled_back", argv[1]);
    w.rolled_back = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(w.rolled_back >= 0);
    w.app = app_open(&w.scene, argv[3]);
    app_start(&w.scene, w.app);
    write_events(&w, atoi(argv[6]), atoi(argv[7]));
    while (atoi(argv[8]) != 0) {
        pause_ms(1000000);
    }
    app_flush(w.app);
    app_close(w.app);
    return 0;
}

/* ---- The one who breaks things --------------------------------------------------------------- */

enum action { KILL, CUT, RESTART };

typedef struct chaos {
    scene *scene;
    const plan *plan;
    uint64_t seed;
    pid_t writer;
    int life;
    int left[3]; /* how often each action is still due */
} chaos;

/* Starts the next life; the last one is not mortal. */
static void start_writer(chaos *c)
{
    char seed[24], life[8], behind[16], target[16];
    int lives = c->plan->kills + 1;
    int mortal = c->life < c->plan->kills;

    (void)snprintf(seed, sizeof seed, "%" PRIu64, roll(&c->seed));
    (void)snprintf(life, sizeof life, "%d", c->life);
    (void)snprintf(behind, sizeof behind, "%d", c->plan->events * c->life / lives);
    (void)snprintf(target, sizeof target, "%d", c->plan->events * (c->life + 1) / lives);
    const char *const arguments[] = {
        CHILD_SELF, "writer", c->scene->folder,   c->scene->url, c->plan->journal_mode, seed, life,
        behind,     target,   mortal ? "1" : "0", NULL};
    c->writer = child_start(c->scene->folder, "writer.log", "writer.log", arguments);
    c->life++;
}

/* One of the actions that are still due, each in proportion to what is left of it. The last kill is
 * the last of all, as the life behind it ends by itself. */
static enum action choose(chaos *c)
{
    int others = c->left[CUT] + c->left[RESTART];
    int kills = others > 0 ? c->left[KILL] - 1 : c->left[KILL];
    int side = dice(&c->seed, kills + others);
    enum action action = side < kills ? KILL : side < kills + c->left[CUT] ? CUT : RESTART;

    c->left[action]--;
    return action;
}

/* In the middle of something: when so many bytes have gone through, or after a while whatever went.
 * A cut that hits no connection does not count. */
static void cut(chaos *c)
{
    proxy *p = c->scene->proxy;
    unsigned before = proxy_cuts(p);

    proxy_cut_after(p, 1 + (unsigned long)dice(&c->seed, 8000));
    recorder_follow(c->scene->recorder, dice(&c->seed, 500));
    if (proxy_cuts(p) == before) {
        proxy_cut(p);
    }
    if (proxy_cuts(p) == before) {
        c->left[CUT]++;
    }
}

static void act(chaos *c)
{
    switch (choose(c)) {
    case KILL:
        assert_int_equal(child_stop(c->writer, SIGKILL), -SIGKILL);
        start_writer(c);
        break;
    case CUT:
        cut(c);
        break;
    case RESTART:
        broker_terminate(&c->scene->broker);
        recorder_follow(c->scene->recorder, dice(&c->seed, 300));
        broker_restart(&c->scene->broker);
        break;
    }
}

static void break_things(chaos *c)
{
    child_end end = 0;

    start_writer(c);
    while (c->left[KILL] + c->left[CUT] + c->left[RESTART] > 0) {
        recorder_follow(c->scene->recorder, dice(&c->seed, 900));
        if (child_await(c->writer, 0, &end) == 0) {
            fail_msg("a writer ended by itself with %d; see writer.log", end);
        }
        act(c);
    }
}

static void await_the_end(chaos *c)
{
    child_end end = 0;

    if (child_await(c->writer, 120000, &end) != 0) {
        fail_msg("the last writer does not get everything delivered");
    }
    assert_int_equal(end, 0);
}

/* ---- What must hold -------------------------------------------------------------------------- */

static void expect_nothing_lost_and_nothing_invented(recorder *r)
{
    expect_number(r, "SELECT count(*) FROM app.ledger WHERE id NOT IN (SELECT id FROM first)", 0);
    expect_number(r,
                  "SELECT count(*) FROM arrival LEFT JOIN app.ledger USING(id)"
                  " WHERE token IS NOT json_extract(event, '$.data')",
                  0);
}

static void expect_order(recorder *r)
{
    expect_number(r,
                  "SELECT count(*) FROM (SELECT id, lag(id, 1, 0) OVER (ORDER BY n) AS before"
                  " FROM first) WHERE id <= before",
                  0);
    expect_number(r,
                  "SELECT count(*) FROM (SELECT json_extract(event, '$.previous') + 0 AS said,"
                  "  lag(first.id, 1, 0) OVER (ORDER BY n) AS before"
                  "  FROM first JOIN arrival USING(n)) WHERE said <> before",
                  0);
}

/* `previous` alone may differ: it says what went ahead this time. */
static void expect_repetitions_to_be_the_same(recorder *r)
{
    expect_number(r,
                  "SELECT count(*) FROM (SELECT id FROM arrival GROUP BY id"
                  " HAVING count(DISTINCT topic || json_remove(event, '$.previous')) > 1)",
                  0);
    expect_number(r, "SELECT count(DISTINCT json_extract(event, '$.source')) FROM arrival", 1);
}

static void expect_an_empty_outbox(scene *s, const char *journal_mode)
{
    app *a = app_open(s, journal_mode);
    outbox_statistics now = app_stats(a);

    assert_int_equal(now.pending, 0);
    assert_int_equal(now.delivered, app_number(a, "SELECT count(*) FROM ledger"));
    assert_int_equal(now.accepted, now.delivered);
    char check[32];
    app_text(a, "PRAGMA integrity_check", check, sizeof check);
    assert_string_equal(check, "ok");
}

static void report(chaos *c, long long ms)
{
    recorder *r = c->scene->recorder;
    char path[128];

    (void)snprintf(path, sizeof path, "%s/rolled_back", c->scene->folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    off_t rolled_back = lseek(fd, 0, SEEK_END);
    assert_int_equal(close(fd), 0);
    int64_t committed = recorder_number(r, "SELECT count(*) FROM app.ledger");
    int64_t repeated =
        recorder_number(r, "SELECT (SELECT count(*) FROM arrival) - count(*) FROM first");
    unsigned cuts = proxy_cuts(c->scene->proxy);

    print_message("# %s: %" PRId64 " events committed, %lld rolled back; %d kills, %u cuts, %d "
                  "restarts of the broker, %u connections; %" PRId64 " repetitions; %.1f s\n",
                  c->plan->journal_mode, committed, (long long)rolled_back, c->plan->kills, cuts,
                  c->plan->restarts, proxy_connections(c->scene->proxy), repeated,
                  (double)ms / 1000);
    /* The test itself has done what it says. */
    assert_true(committed >= c->plan->events);
    assert_true(rolled_back >= committed / 4);
    assert_true(cuts >= (unsigned)c->plan->cuts);
    assert_true(repeated <=
                (int64_t)(proxy_connections(c->scene->proxy)) * (WINDOW + SETTLE_BATCH));
}

static void survive(scene *s, const plan *p)
{
    char sql[128];
    long long begin = clock_ms();
    chaos c = {
        .scene = s, .plan = p, .seed = choose_seed(), .left = {p->kills, p->cuts, p->restarts}};

    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    scene_proxy(s);
    break_things(&c);
    await_the_end(&c);

    (void)snprintf(sql, sizeof sql, "ATTACH '%s' AS app", s->database);
    recorder_run(s->recorder, sql);
    recorder_await(s->recorder, "SELECT count(*) FROM first",
                   recorder_number(s->recorder, "SELECT count(*) FROM app.ledger"));
    recorder_follow(s->recorder, 100); /* what is too much would be on its way now */
    report(&c, clock_ms() - begin);
    expect_nothing_lost_and_nothing_invented(s->recorder);
    expect_order(s->recorder);
    expect_repetitions_to_be_the_same(s->recorder);
    recorder_run(s->recorder, "DETACH app");
    expect_an_empty_outbox(s, p->journal_mode);
}

static void test_ten_thousand_events_survive_kills_cuts_and_restarts(void **state)
{
    survive(
        *state,
        &(plan){.journal_mode = "WAL", .events = 10000, .kills = 50, .cuts = 20, .restarts = 5});
}

static void test_events_survive_kills_cuts_and_restarts_in_delete_mode(void **state)
{
    survive(
        *state,
        &(plan){.journal_mode = "DELETE", .events = 2000, .kills = 10, .cuts = 4, .restarts = 1});
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_ten_thousand_events_survive_kills_cuts_and_restarts),
        SCENE_TEST(test_events_survive_kills_cuts_and_restarts_in_delete_mode),
    };

    if (argc == 10 && strcmp(argv[1], "writer") == 0) {
        return run_writer(argv + 1);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
