/* SPDX-License-Identifier: MIT
 *
 * harness.h - the scene of an integration test: a folder, a broker, a recipient, an application.
 *
 * scene_setup() and scene_teardown() are the fixture of every test; what a test opens through this
 * header, teardown closes, also when the test failed half-way. The folder is in TMPDIR if that is
 * set, else in /dev/shm, and is gone afterwards; with OUTBOX_TEST_KEEP in the environment it stays.
 * With OUTBOX_TEST_LOG the library's log lines are printed. Forwarders use the link that
 * OUTBOX_TEST_LINK names (which_link.h).
 */
#ifndef OUTBOX_TESTS_HARNESS_H
#define OUTBOX_TESTS_HARNESS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <outbox/outbox.h>
#include <sqlite3.h>

#include "broker.h"
#include "child.h"
#include "proxy.h"
#include "recorder.h"

#define SCENE_APPS_MAX 4

/* A test of the list in main(), with the fixture of every test. */
#define SCENE_TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

/* A connection of an application and its outbox. Either may be NULL: closed by the test. */
typedef struct app {
    sqlite3 *db;
    outbox *box;
} app;

typedef struct scene {
    char folder[64];
    char database[96];
    char url[64]; /* of the broker */
    broker broker;
    recorder *recorder; /* NULL until scene_record() */
    proxy *proxy;       /* NULL until scene_proxy() */
    app apps[SCENE_APPS_MAX];
    int app_count;
} scene;

int scene_setup(void **state);
int scene_teardown(void **state);

/* Starts the recipient of everything; the broker must run. */
void scene_record(scene *s);

/* A broker that takes all, a recipient, and an application in WAL mode whose forwarder runs. */
app *scene_begin(scene *s);

/* Puts a proxy in front of the broker; `url` is then the proxy's. */
void scene_proxy(scene *s);

/* Writes a file into the folder. */
void scene_write(const scene *s, const char *name, const char *text);

/* Opens the database in this journal mode, makes `ledger(id INTEGER, token TEXT)` in it, and
 * attaches. */
app *app_open(scene *s, const char *journal_mode);

/* In WAL mode, with limits on its lanes. */
app *app_open_limited(scene *s, const outbox_limit limits[OUTBOX_LANES]);

/* Starts the forwarder with the scene's broker and defaults, or as stated. Must succeed. */
void app_start(scene *s, app *a);
void app_start_with(app *a, const outbox_forwarding *forwarding);

void app_exec(app *a, const char *sql);

/* The first column of a query's only row. */
int64_t app_number(app *a, const char *query);
void app_text(app *a, const char *query, char *text, size_t size);

/* Puts an event of text/plain, must succeed, and returns its id. */
int64_t app_put(app *a, const char *topic, const char *text);

/* Puts `count` events "first", "first + 1" ... to the topic "t", each in its own transaction. */
void app_put_numbers(app *a, int first, int count);

/* Waits until everything committed is settled. */
void app_flush(app *a);

/* Waits until `holds` says so of the statistics, which are returned. There is no event to wait for,
 * so it looks every few milliseconds. */
outbox_statistics app_await(app *a, int (*holds)(const outbox_statistics *));
outbox_statistics app_stats(app *a);

/* Detaches and closes; both must succeed. */
void app_close(app *a);

/* Conditions for app_await(). */
int is_online(const outbox_statistics *statistics);
int is_backing_off(const outbox_statistics *statistics);
int is_refused(const outbox_statistics *statistics);

/* Takes what arrives until there are `count` arrivals, and fails the test when there are more. */
void expect_arrivals(recorder *r, int count);

/* Fails the test unless the query's text, or number, is this one. */
void expect_text(recorder *r, const char *query, const char *text);
void expect_number(recorder *r, const char *query, int64_t number);

/* Fails the test unless the recorder got the numbers first ... first + count - 1 as texts, each for
 * the first time in this order; waits for them. */
void expect_numbers(recorder *r, int first, int count);

#endif
