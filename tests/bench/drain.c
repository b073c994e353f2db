/* SPDX-License-Identifier: MIT
 *
 * drain.c - how fast a backlog goes out over each link, and what it costs.
 *
 *   usage: drain [EVENTS [WINDOW [ROUNDS]]]
 *
 * A real mosquitto on the same machine that takes as many in flight as it is sent, with nobody who
 * subscribes, the database in TMPDIR or /dev/shm in WAL mode, events of 100 bytes in mode PLAIN.
 * From outbox_start() until all are settled; fetch, connection and settles included. CPU is that of
 * this process, all threads. The links take turns, as the machine may be busier at one time than at
 * another. It asserts nothing about the figures; they are the machine's.
 */
#include "../integration/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAYLOAD_SIZE 100

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    if (clock_gettime(clock, &now) != 0) {
        return 0;
    }
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fill(app *a, int count)
{
    char sql[320];

    (void)snprintf(sql, sizeof sql,
                   "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
                   "INSERT INTO outbox_event(topic, payload)"
                   " SELECT 'plant/7/sensor/3/temp/raw', randomblob(%d) FROM n",
                   count, PAYLOAD_SIZE);
    app_exec(a, sql);
}

static void drain(scene *s, app *a, int count, unsigned window, outbox_link_kind link)
{
    static const char *const names[] = {
        [OUTBOX_LINK_PAHO] = "paho", [OUTBOX_LINK_STREAM] = "stream"};

    fill(a, count);
    double wall = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    int rc = outbox_start(
        a->box, &(outbox_forwarding){
                    .broker = s->url, .mode = OUTBOX_PLAIN, .window = window, .link = link});
    assert_int_equal(rc, OUTBOX_OK);
    app_flush(a);
    wall = seconds_of(CLOCK_MONOTONIC) - wall;
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    printf("%-6s  window %4u  %7.0f events/s  %6.2f us of CPU per event\n", names[link], window,
           count / wall, cpu / count * 1e6);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 100000;
    int window = argc > 2 ? atoi(argv[2]) : 100;
    int rounds = argc > 3 ? atoi(argv[3]) : 3;
    void *state = NULL;

    if (count < 1 || window < 1 || window > 1000 || rounds < 1) {
        (void)fprintf(stderr, "usage: drain [EVENTS [WINDOW [ROUNDS]]]\n");
        return 2;
    }
    (void)scene_setup(&state);
    scene *s = state;
    broker_start(&s->broker, BROKER_OPEN "max_inflight_messages 1000\nmax_queued_messages 0\n");
    app *a = app_open(s, "WAL");
    for (int i = 0; i < rounds; i++) {
        drain(s, a, count, (unsigned)window, OUTBOX_LINK_PAHO);
        drain(s, a, count, (unsigned)window, OUTBOX_LINK_STREAM);
    }
    return scene_teardown(&state);
}
