/* SPDX-License-Identifier: MIT
 *
 * test_poison_network.c - a network that ends connections at random, by FIN and by RST, under load.
 *
 * From afar it looks like a broker that hangs up on an event: the proxy cuts with events in flight, often
 * before any PUBACK, and sometimes late enough that a suspect was sent alone. It must bury nothing. Half
 * of the OUTBOX_TEST_CUTS=60 hit MQTT 3.1.1, half MQTT 5.
 */
#include "dice.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

typedef struct trouble {
    scene *scene;
    app *app;
    uint64_t seed;
    int put; /* numbers put so far */
} trouble;

/* More bytes than any planned cut waits for, so that there is always something in flight. */
#define BURST_EVENTS 60
#define MESSAGE_BYTES 500
#define WINDOW 10

static int is_drained(const outbox_statistics *statistics)
{
    return statistics->pending == 0;
}

static void put_burst(trouble *t)
{
    char text[300];

    app_exec(t->app, "BEGIN IMMEDIATE");
    for (int i = 0; i < BURST_EVENTS; i++) {
        int length = snprintf(text, sizeof text, "%d ", ++t->put);
        memset(text + length, '.', sizeof text - 1 - (size_t)length);
        text[sizeof text - 1] = '\0';
        (void)app_put(t->app, "t", text);
    }
    app_exec(t->app, "COMMIT");
}

/* When the client has sent so many bytes: with events in flight, and often before any PUBACK. */
static void cut_by_bytes(trouble *t)
{
    proxy *p = t->scene->proxy;
    unsigned before = proxy_cuts(p);
    unsigned long bytes = 1 + (unsigned long)dice(&t->seed, BURST_EVENTS * MESSAGE_BYTES);

    if (dice(&t->seed, 2) == 0) {
        proxy_cut_after(p, bytes);
    } else {
        proxy_hang_up_after(p, bytes);
    }
    put_burst(t);
    proxy_await_cuts(p, before + 1);
}

/* Whatever goes on. Now and then late enough that a suspect would have been sent alone. */
static void cut_by_time(trouble *t)
{
    proxy *p = t->scene->proxy;
    int longest_ms = dice(&t->seed, 25) == 0 ? 2500 : 50;

    put_burst(t);
    proxy_await_connections(p, proxy_cuts(p) + 1);
    recorder_follow(t->scene->recorder, dice(&t->seed, longest_ms));
    if (dice(&t->seed, 2) == 0) {
        proxy_cut(p);
    } else {
        proxy_hang_up(p);
    }
}

static void cut_at_random(trouble *t, unsigned cuts)
{
    while (proxy_cuts(t->scene->proxy) < cuts) {
        if (dice(&t->seed, 2) == 0) {
            cut_by_bytes(t);
        } else {
            cut_by_time(t);
        }
    }
}

static void expect_nothing_buried(trouble *t)
{
    app *a = t->app;
    outbox_statistics now = app_await(a, is_drained);

    print_message("# %d events, %u cuts, %llu connections, %llu published, %lld dead letters\n",
                  t->put, proxy_cuts(t->scene->proxy), (unsigned long long)now.connects,
                  (unsigned long long)now.published, (long long)now.dead_lettered);
    assert_int_equal(app_number(a, "SELECT count(*) FROM outbox_dead"), 0);
    assert_int_equal(now.dead_lettered, 0);
    assert_int_equal(now.delivered, t->put);
    recorder_await(t->scene->recorder, "SELECT count(*) FROM first", t->put);
    expect_numbers(t->scene->recorder, 1, t->put);
}

static void survive_cuts(scene *s, int protocol)
{
    trouble t = {.scene = s, .seed = choose_seed()};

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    scene_proxy(s);
    t.app = app_open(s, "WAL");
    app_start_with(t.app, &(outbox_forwarding){.broker = s->url,
                                               .protocol = protocol,
                                               .window = WINDOW,
                                               .backoff_max_ms = 20,
                                               .announce_topic = ""});
    cut_at_random(&t, (unsigned)wanted_number("OUTBOX_TEST_CUTS", 60) / 2);
    expect_nothing_buried(&t);
}

/* [poison-3] [P3] */
static void test_a_network_that_fails_at_random_buries_nothing_on_mqtt_3_1_1(void **state)
{
    survive_cuts(*state, 4);
}

/* [poison-3] [P3] */
static void test_a_network_that_fails_at_random_buries_nothing_on_mqtt_5(void **state)
{
    survive_cuts(*state, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_a_network_that_fails_at_random_buries_nothing_on_mqtt_3_1_1),
        SCENE_TEST(test_a_network_that_fails_at_random_buries_nothing_on_mqtt_5),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
