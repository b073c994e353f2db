/* SPDX-License-Identifier: MIT
 *
 * harness.c - sets the scene of an integration test and clears it away.
 *
 * Folders that exist are in a table until they are removed, so that atexit() can remove those of a
 * test that ended the program.
 */
#include "harness.h"

#include "which_link.h"

#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 60000

/* ---- Folders --------------------------------------------------------------------------------- */

static char folder_to_remove[64];

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_folder(void)
{
    if (folder_to_remove[0] != '\0' && getenv("OUTBOX_TEST_KEEP") == NULL) {
        (void)nftw(folder_to_remove, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
    folder_to_remove[0] = '\0';
}

static void make_folder(scene *s)
{
    static int registered;
    const char *base = getenv("TMPDIR");

    if (base == NULL) {
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    }
    int length = snprintf(s->folder, sizeof s->folder, "%s/outbox-XXXXXX", base);
    assert_true(length > 0 && length < (int)sizeof s->folder);
    assert_non_null(mkdtemp(s->folder));
    memcpy(folder_to_remove, s->folder, sizeof folder_to_remove);
    if (!registered) {
        assert_int_equal(atexit(remove_folder), 0);
        registered = 1;
    }
    if (getenv("OUTBOX_TEST_KEEP") != NULL) {
        print_message("# %s\n", s->folder);
    }
    (void)snprintf(s->database, sizeof s->database, "%s/app.db", s->folder);
}

void scene_write(const scene *s, const char *name, const char *text)
{
    char path[128];

    assert_true(snprintf(path, sizeof path, "%s/%s", s->folder, name) < (int)sizeof path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* ---- The scene ------------------------------------------------------------------------------- */

int scene_setup(void **state)
{
    scene *s = calloc(1, sizeof *s);

    assert_non_null(s);
    make_folder(s);
    broker_reserve(&s->broker, s->folder);
    (void)snprintf(s->url, sizeof s->url, "mqtt://127.0.0.1:%u", s->broker.port);
    *state = s;
    return 0;
}

int scene_teardown(void **state)
{
    scene *s = *state;

    for (int i = 0; i < s->app_count; i++) {
        outbox_detach(s->apps[i].box);
        (void)sqlite3_close_v2(s->apps[i].db);
    }
    if (s->proxy != NULL) {
        proxy_stop(s->proxy);
    }
    if (s->recorder != NULL) {
        recorder_stop(s->recorder);
    }
    broker_release(&s->broker);
    remove_folder();
    free(s);
    return 0;
}

void scene_record(scene *s)
{
    assert_null(s->recorder);
    s->recorder = recorder_start(s->folder, s->broker.inner_port, "#");
}

void scene_proxy(scene *s)
{
    assert_null(s->proxy);
    s->proxy = proxy_start(s->broker.port);
    (void)snprintf(s->url, sizeof s->url, "mqtt://127.0.0.1:%u", proxy_port(s->proxy));
}

/* ---- The application ------------------------------------------------------------------------- */

void app_exec(app *a, const char *sql)
{
    char *error = NULL;

    if (sqlite3_exec(a->db, sql, NULL, NULL, &error) != SQLITE_OK) {
        fail_msg("%s: %s", sql, error);
    }
}

void app_text(app *a, const char *query, char *text, size_t size)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(a->db, query, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        fail_msg("%s: %s", query, sqlite3_errmsg(a->db));
    }
    const unsigned char *found = sqlite3_column_text(statement, 0);
    int length = snprintf(text, size, "%s", found == NULL ? "" : (const char *)found);
    assert_in_range(length, 0, size - 1);
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
}

int64_t app_number(app *a, const char *query)
{
    char text[24];

    app_text(a, query, text, sizeof text);
    return strtoll(text, NULL, 10);
}

static app *open_with(scene *s, const char *journal_mode, outbox_config config)
{
    char sql[64];
    char sentence[200] = "";

    config.sentence = sentence;
    config.sentence_size = sizeof sentence;

    assert_true(s->app_count < SCENE_APPS_MAX);
    app *a = &s->apps[s->app_count++];
    assert_int_equal(sqlite3_open(s->database, &a->db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(a->db, 5000), SQLITE_OK);
    (void)snprintf(sql, sizeof sql, "PRAGMA journal_mode = %s", journal_mode);
    app_exec(a, sql);
    app_exec(a, "CREATE TABLE IF NOT EXISTS ledger(id INTEGER, token TEXT)");
    int rc = outbox_attach(a->db, &config, &a->box);
    if (rc != OUTBOX_OK) {
        fail_msg("attach: %d, %s", rc, sentence);
    }
    return a;
}

app *app_open(scene *s, const char *journal_mode)
{
    return open_with(s, journal_mode, (outbox_config){0});
}

app *app_open_limited(scene *s, const outbox_limit limits[OUTBOX_LANES])
{
    outbox_config config = {.limits[OUTBOX_NORMAL] = limits[OUTBOX_NORMAL],
                            .limits[OUTBOX_URGENT] = limits[OUTBOX_URGENT]};

    return open_with(s, "WAL", config);
}

/* In the form of a comment of TAP, which the test runner understands. */
static void print_log(void *context, outbox_level level, int code, const char *sentence)
{
    (void)context;
    (void)fprintf(stderr, "# %lld outbox: level %d, code %d: %s\n", clock_ms(), (int)level, code,
                  sentence);
}

void app_start_with(app *a, const outbox_forwarding *forwarding)
{
    outbox_forwarding verbose = *forwarding;

    if (verbose.log == NULL && getenv("OUTBOX_TEST_LOG") != NULL) {
        verbose.log = print_log;
    }
    if (verbose.link == OUTBOX_LINK_PAHO) {
        verbose.link = link_of_environment();
    }
    int rc = outbox_start(a->box, &verbose);
    if (rc != OUTBOX_OK) {
        fail_msg("start: %d, %s", rc, outbox_errmsg(a->box));
    }
}

void app_start(scene *s, app *a)
{
    app_start_with(a, &(outbox_forwarding){.broker = s->url});
}

int64_t app_put(app *a, const char *topic, const char *text)
{
    int64_t id = 0;
    outbox_event event = {
        .topic = topic, .payload = text, .payload_len = strlen(text), .content_type = "text/plain"};

    int rc = outbox_put(a->box, &event, &id);
    if (rc != OUTBOX_OK) {
        fail_msg("put: %d, %s", rc, outbox_errmsg(a->box));
    }
    return id;
}

void app_put_numbers(app *a, int first, int count)
{
    char text[16];

    for (int i = first; i < first + count; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        (void)app_put(a, "t", text);
    }
}

void app_flush(app *a)
{
    int rc = outbox_flush(a->box, PATIENCE_MS);

    if (rc != OUTBOX_OK) {
        outbox_statistics now = app_stats(a);
        fail_msg("flush: %d, %s; %lld pending, state %d, last error %d, %s", rc,
                 outbox_errmsg(a->box), (long long)now.pending, (int)now.state, now.last_error,
                 now.last_error_text);
    }
}

outbox_statistics app_stats(app *a)
{
    outbox_statistics now;

    int rc = outbox_stats(a->box, &now);
    if (rc != OUTBOX_OK) {
        fail_msg("stats: %d, %s", rc, outbox_errmsg(a->box));
    }
    assert_int_equal(now.accepted, now.pending + now.delivered + now.expired + now.evicted +
                                       now.superseded + now.dead_lettered);
    return now;
}

outbox_statistics app_await(app *a, int (*holds)(const outbox_statistics *))
{
    long long deadline = clock_ms() + PATIENCE_MS;
    outbox_statistics now = app_stats(a);

    for (; !holds(&now); now = app_stats(a)) {
        if (clock_ms() > deadline) {
            fail_msg("what is awaited does not come: %lld pending, state %d, last error %d, %s",
                     (long long)now.pending, (int)now.state, now.last_error, now.last_error_text);
        }
        pause_ms(5);
    }
    return now;
}

void app_close(app *a)
{
    outbox_detach(a->box);
    a->box = NULL;
    assert_int_equal(sqlite3_close(a->db), SQLITE_OK);
    a->db = NULL;
}

int is_online(const outbox_statistics *statistics)
{
    return statistics->state == OUTBOX_STATE_ONLINE;
}

int is_backing_off(const outbox_statistics *statistics)
{
    return statistics->state == OUTBOX_STATE_BACKOFF;
}

/* One that is only suspected, because the connection has ended twice with it in flight, has no
 * reason. */
int is_refused(const outbox_statistics *statistics)
{
    return statistics->sending[OUTBOX_NORMAL].refused_id != 0 &&
           statistics->sending[OUTBOX_NORMAL].refused_reason != 0;
}

app *scene_begin(scene *s)
{
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_start(s, a);
    return a;
}

/* ---- What arrived ---------------------------------------------------------------------------- */

void expect_arrivals(recorder *r, int count)
{
    recorder_await(r, "SELECT count(*) FROM arrival", count);
    expect_number(r, "SELECT count(*) FROM arrival", count);
}

void expect_text(recorder *r, const char *query, const char *text)
{
    assert_string_equal(recorder_text(r, query), text);
}

void expect_number(recorder *r, const char *query, int64_t number)
{
    assert_int_equal(recorder_number(r, query), number);
}

void expect_numbers(recorder *r, int first, int count)
{
    char query[400];

    (void)snprintf(query, sizeof query,
                   "SELECT count(DISTINCT json_extract(event, '$.data')) FROM arrival"
                   " WHERE json_extract(event, '$.data') + 0 BETWEEN %d AND %d",
                   first, first + count - 1);
    recorder_await(r, query, count);
    (void)snprintf(query, sizeof query,
                   "WITH number(n, value) AS (SELECT n, json_extract(event, '$.data') + 0"
                   "  FROM first JOIN arrival USING(n) ORDER BY n),"
                   " ours(value, before) AS (SELECT value, lag(value, 1, %d) OVER (ORDER BY n)"
                   "  FROM number WHERE value BETWEEN %d AND %d)"
                   "SELECT count(*) FROM ours WHERE value <> before + 1",
                   first - 1, first, first + count - 1);
    assert_int_equal(recorder_number(r, query), 0);
}
