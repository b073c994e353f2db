/* SPDX-License-Identifier: MIT
 *
 * test_place.c - files that somebody moves, replaces or deletes under a forwarder that runs, and
 * files that cannot be written.
 */
#include "harness.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_moved(const outbox_statistics *statistics)
{
    return statistics->last_error == OUTBOX_MOVED;
}

static void path_beside(const scene *s, const char *name, char path[160])
{
    (void)snprintf(path, 160, "%s/%s", s->folder, name);
}

/* Another database of the same name, as a restored backup would be. */
static void put_another_in_its_place(const scene *s)
{
    sqlite3 *db = NULL;
    char path[160];

    path_beside(s, "other.db", path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(rename(path, s->database), 0);
}

/* ---- Moved ----------------------------------------------------------------------------------- */

/* [moved-1] */
static void replace_and_bring_back(scene *s, const char *mode)
{
    char moved[160];

    path_beside(s, "moved.db", moved);
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, mode);
    app_start(s, a);
    app_put_numbers(a, 1, 3);
    app_flush(a);
    broker_freeze(&s->broker);
    app_put_numbers(a, 4, 3);
    assert_int_equal(rename(s->database, moved), 0);
    put_another_in_its_place(s);
    outbox_statistics now = app_await(a, is_moved);
    assert_int_equal(now.pending, 3);
    assert_int_equal(now.delivered, 3);
    broker_thaw(&s->broker);
    recorder_follow(s->recorder, 1500); /* whatever is acked now, nothing may be settled */
    assert_int_equal(app_stats(a).pending, 3);

    assert_int_equal(rename(moved, s->database), 0);
    app_put_numbers(a, 7, 3);
    app_flush(a);
    expect_numbers(s->recorder, 1, 9);
    assert_int_equal(app_stats(a).delivered, 9);
    app_close(a);
}

static void test_a_database_that_was_replaced_is_reported_and_goes_on_when_it_is_back(void **state)
{
    replace_and_bring_back(*state, "WAL");
}

static void test_a_replaced_database_in_delete_mode_goes_on_when_it_is_back(void **state)
{
    replace_and_bring_back(*state, "DELETE");
}

static void test_a_deleted_database_is_reported_and_the_handle_can_be_closed(void **state)
{
    scene *s = *state;
    app *a = scene_begin(s);

    app_put_numbers(a, 1, 3);
    app_flush(a);
    assert_int_equal(unlink(s->database), 0);
    (void)app_await(a, is_moved);
    app_close(a);
}

/* ---- Not to be written ----------------------------------------------------------------------- */

/* Nobody else may be root for it, so the file's mode is asked. [start-3] [readonly-1] */
static void test_a_file_that_cannot_be_written_is_refused_by_the_start(void **state)
{
    scene *s = *state;
    bool is_root = geteuid() == 0;

    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "WAL");
    app_put_numbers(a, 1, 3);
    assert_int_equal(chmod(s->folder, 0711), 0);
    assert_int_equal(chmod(s->database, 0444), 0);
    assert_int_equal(is_root ? seteuid(65534) : 0, 0);
    int code = outbox_start(a->box, &(outbox_forwarding){.broker = s->url});
    assert_int_equal(is_root ? seteuid(0) : 0, 0);
    assert_int_equal(code, OUTBOX_READONLY);
    assert_non_null(strstr(outbox_errmsg(a->box), "cannot be written"));
    assert_int_equal(outbox_stop(a->box), OUTBOX_NOT_STARTED);

    assert_int_equal(chmod(s->database, 0600), 0);
    app_start(s, a);
    app_flush(a);
    expect_numbers(s->recorder, 1, 3);
    expect_arrivals(s->recorder, 3);
}

/* Where no file can be made in the folder there is no journal, and so no transaction. Returns 0
 * where the file system or our rights do not allow that. */
static int freeze_folder(const char *path, int frozen)
{
    int flags = 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    int done = ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0;
    flags = frozen ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    done = done && ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
    assert_int_equal(close(fd), 0);
    return done;
}

static int cannot_write(const outbox_statistics *statistics)
{
    return statistics->last_error == OUTBOX_SQLITE || statistics->last_error == OUTBOX_READONLY;
}

/* [readonly-1] */
static void test_a_file_system_that_turns_read_only_loses_nothing_and_all_goes_on(void **state)
{
    scene *s = *state;
    char folder[96];

    (void)snprintf(folder, sizeof folder, "%s/flash", s->folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    (void)snprintf(s->database, sizeof s->database, "%s/flash/app.db", s->folder);
    broker_start(&s->broker, BROKER_OPEN);
    scene_record(s);
    app *a = app_open(s, "DELETE");
    app_start(s, a);
    (void)app_await(a, is_online);
    app_exec(a, "PRAGMA synchronous = EXTRA"); /* so that no barrier is needed to send */
    broker_freeze(&s->broker);
    app_put_numbers(a, 1, 3);
    if (!freeze_folder(folder, 1)) {
        broker_thaw(&s->broker);
        skip();
    }
    broker_thaw(&s->broker);
    outbox_statistics now = app_await(a, cannot_write);
    int code = outbox_put(a->box, &(outbox_event){.topic = "t"}, NULL);
    int thawed = freeze_folder(folder, 0);
    assert_true(thawed);
    assert_int_equal(now.pending, 3);
    assert_true(code == OUTBOX_SQLITE || code == OUTBOX_READONLY);

    app_put_numbers(a, 4, 3);
    app_flush(a);
    expect_numbers(s->recorder, 1, 6);
    assert_int_equal(app_stats(a).delivered, 6);
    app_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_a_database_that_was_replaced_is_reported_and_goes_on_when_it_is_back),
        SCENE_TEST(test_a_replaced_database_in_delete_mode_goes_on_when_it_is_back),
        SCENE_TEST(test_a_deleted_database_is_reported_and_the_handle_can_be_closed),
        SCENE_TEST(test_a_file_that_cannot_be_written_is_refused_by_the_start),
        SCENE_TEST(test_a_file_system_that_turns_read_only_loses_nothing_and_all_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
