/* SPDX-License-Identifier: MIT
 *
 * latency.c - how long an event takes from its commit to a subscriber, and what idling costs.
 *
 *   usage: latency [EVENTS [PAUSE_MS [IDLE_SECONDS]]]
 *
 * A real mosquitto and mosquitto_sub on the same machine, the database in TMPDIR or /dev/shm, one
 * event of 100 bytes per transaction, a pause between two transactions. Counted is from the moment
 * before COMMIT to the moment when the subscriber, another process, has the message; both read the
 * same clock. Then nothing is done for a while, and the wake-ups of each thread are counted: ours
 * has the name "outbox". It asserts nothing about the figures; they are the machine's.
 */
#include "../integration/harness.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAYLOAD_SIZE 100
#define TASKS_MAX 32

static int64_t wall_ns(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return 0;
    }
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- Latency --------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void print_percentiles(const char *what, int64_t *values, int count)
{
    static const int per_mille[] = {500, 900, 990, 999};

    qsort(values, (size_t)count, sizeof *values, compare);
    printf("%s, ms:", what);
    for (size_t i = 0; i < sizeof per_mille / sizeof per_mille[0]; i++) {
        int place = (int)((int64_t)count * per_mille[i] / 1000);
        printf("  p%g %.3f", (double)per_mille[i] / 10, (double)values[place] / 1e6);
    }
    printf("  max %.3f\n", (double)values[count - 1] / 1e6);
}

/* Commits the events one by one; `committed` gets the moment before each COMMIT. */
static void commit_events(app *a, int64_t *committed, int count, int pause)
{
    char text[PAYLOAD_SIZE + 1];

    for (int i = 0; i < count; i++) {
        (void)snprintf(text, sizeof text, "%0*d", PAYLOAD_SIZE, i);
        app_exec(a, "BEGIN IMMEDIATE; INSERT INTO ledger VALUES(1, 'a reading')");
        (void)app_put(a, "plant/7/sensor/3/temp/raw", text);
        committed[i] = wall_ns();
        app_exec(a, "COMMIT");
        pause_ms(pause);
    }
}

static void measure_latency(scene *s, app *a, int count, int pause)
{
    char query[64];
    int64_t *times = calloc((size_t)count, sizeof *times);

    assert_non_null(times);
    commit_events(a, times, count, pause);
    expect_arrivals(s->recorder, count);
    for (int i = 0; i < count; i++) {
        (void)snprintf(query, sizeof query, "SELECT at_ns FROM arrival WHERE n = %d", i + 1);
        times[i] = recorder_number(s->recorder, query) - times[i];
    }
    print_percentiles("commit to subscriber", times, count);
    free(times);
}

/* ---- Idling ---------------------------------------------------------------------------------- */

typedef struct task {
    char number[16], name[32];
    long long wake_ups;
} task;

/* Reads the value of one line of /proc/self/task/NUMBER/status. */
static long long read_wake_ups(const char *number, char name[32])
{
    char path[64], line[128];
    long long wake_ups = -1;

    (void)snprintf(path, sizeof path, "/proc/self/task/%.15s/status", number);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return -1; /* it has ended meanwhile */
    }
    while (fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "Name: %31[^\n]", name);
        (void)sscanf(line, "voluntary_ctxt_switches: %lld", &wake_ups);
    }
    assert_int_equal(fclose(file), 0);
    return wake_ups;
}

static int read_tasks(task tasks[TASKS_MAX])
{
    int count = 0;
    DIR *directory = opendir("/proc/self/task");

    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL && count < TASKS_MAX;) {
        if (entry->d_name[0] != '.') {
            (void)snprintf(tasks[count].number, sizeof tasks[count].number, "%.15s", entry->d_name);
            tasks[count].wake_ups = read_wake_ups(tasks[count].number, tasks[count].name);
            count++;
        }
    }
    assert_int_equal(closedir(directory), 0);
    return count;
}

static void measure_idling(app *a, int seconds)
{
    task tasks[TASKS_MAX];

    app_flush(a);
    pause_ms(2000); /* what the last event set in motion comes to rest */
    int count = read_tasks(tasks);
    long long before = clock_ms();
    pause_ms(seconds * 1000);
    double passed = (double)(clock_ms() - before) / 1000;
    for (int i = 0; i < count; i++) {
        char name[32];
        long long now = read_wake_ups(tasks[i].number, name);
        printf("idle for %d s, thread %-16s %.2f wake-ups per second\n", seconds, tasks[i].name,
               (double)(now - tasks[i].wake_ups) / passed);
    }
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 2000;
    int pause = argc > 2 ? atoi(argv[2]) : 5;
    int idle_seconds = argc > 3 ? atoi(argv[3]) : 10;
    void *state = NULL;

    if (count < 1 || pause < 0 || idle_seconds < 1) {
        (void)fprintf(stderr, "usage: latency [EVENTS [PAUSE_MS [IDLE_SECONDS]]]\n");
        return 2;
    }
    (void)scene_setup(&state);
    scene *s = state;
    app *a = scene_begin(s);
    (void)app_await(a, is_online);
    measure_latency(s, a, count, pause);
    measure_idling(a, idle_seconds);
    return scene_teardown(&state);
}
