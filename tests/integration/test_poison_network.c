/* SPDX-License-Identifier: MIT
 *
 * test_poison_network.c - a network that ends connections at random, by FIN and by RST, under load.
 *
 * From afar it looks like a broker that hangs up on an event: the proxy cuts with events in flight,
 * often before any PUBACK, and sometimes late enough that a suspect was sent alone. It must bury
 * nothing. Half of the OUTBOX_TEST_CUTS=40 hit MQTT 3.1.1, half MQTT 5.
 */
#include "dice.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

typedef struct trouble {
    scene *scene;
    app *app;
    uint64_t seed;
    int put;        /* numbers put so far */
    int suspicions; /* cuts during which an event was suspect */
} trouble;

/* More bytes than any planned cut waits for, so that there is always something in flight. */
#define BURST_EVENTS 60
#define MESSAGE_BYTES 500
#define WINDOW 10

static int is_drained(const outbox_statistics *statistics)
{
    return statistics->pending == 0;
}

static int is_suspicious(app *a)
{
    return app_stats(a).sending[OUTBOX_NORMAL].refused_id != 0;
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

static void cut_or_hang_up(trouble *t)
{
    if (dice(&t->seed, 2) == 0) {
        proxy_cut(t->scene->proxy);
    } else {
        proxy_hang_up(t->scene->proxy);
    }
}

/* When the client has sent so many bytes, so with events in flight. */
static void cut_by_bytes(trouble *t, int most)
{
    proxy *p = t->scene->proxy;
    unsigned before = proxy_cuts(p);
    unsigned long bytes = 1 + (unsigned long)dice(&t->seed, most);

    if (dice(&t->seed, 2) == 0) {
        proxy_cut_after(p, bytes);
    } else {
        proxy_hang_up_after(p, bytes);
    }
    put_burst(t);
    proxy_await_cuts(p, before + 1);
}

/* After a while, whatever goes on. */
static void cut_by_time(trouble *t, int most_ms)
{
    proxy *p = t->scene->proxy;

    put_burst(t);
    proxy_await_connections(p, proxy_cuts(p) + 1);
    recorder_follow(t->scene->recorder, dice(&t->seed, most_ms));
    cut_or_hang_up(t);
}

/* Bad weather comes in turns: cuts before any PUBACK, which make an event suspect; cuts that do not
 * even let the suspect be sent; cuts at any moment; and one so late that the suspect was sent
 * alone. */
static void cut_at_random(trouble *t, unsigned cuts)
{
    for (int turn = 0; proxy_cuts(t->scene->proxy) < cuts; turn++) {
        int times = turn % 4 == 3 ? 1 : 2 + dice(&t->seed, turn % 4 == 1 ? 10 : 3);
        for (int i = 0; i < times && proxy_cuts(t->scene->proxy) < cuts; i++) {
            switch (turn % 4) {
            case 0:
                cut_by_bytes(t, 2 * MESSAGE_BYTES);
                break;
            case 1:
                cut_by_time(t, 50);
                t->suspicions += is_suspicious(t->app);
                break;
            case 2:
                cut_by_bytes(t, BURST_EVENTS * MESSAGE_BYTES);
                break;
            default:
                cut_by_time(t, 1500);
                break;
            }
        }
    }
}

static void expect_nothing_buried(trouble *t)
{
    app *a = t->app;
    outbox_statistics now = app_await(a, is_drained);

    print_message(
        "# %d events, %u cuts, %d of them with a suspect, %llu connections, %llu published\n",
        t->put, proxy_cuts(t->scene->proxy), t->suspicions, (unsigned long long)now.connects,
        (unsigned long long)now.published);
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
    cut_at_random(&t, (unsigned)wanted_number("OUTBOX_TEST_CUTS", 40) / 2);
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
