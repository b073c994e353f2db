/* SPDX-License-Identifier: MIT
 *
 * test_full_disk.c - a real file system without a free byte.
 *
 * In WAL nothing can be deleted either, for a DELETE is written before it frees anything: events
 * are sent and stay. That must lose nothing, invent nothing and end as soon as there is room again.
 * On a disk that has room for the ballast it must end by itself.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BALLAST = 512 * 1024, FILLER = 3 * BALLAST };

typedef struct disk {
    char folder[128], ballast[160], rest[160], own_ballast[160];
    int is_mounted;
} disk;

static disk small_disk;

static int set_up_size(void **state, const char *size)
{
    disk *d = &small_disk;

    if (scene_setup(state) != 0) {
        return -1;
    }
    scene *s = *state;
    (void)snprintf(d->folder, sizeof d->folder, "%s/disk", s->folder);
    (void)snprintf(d->ballast, sizeof d->ballast, "%s/disk/ballast", s->folder);
    (void)snprintf(d->rest, sizeof d->rest, "%s/disk/rest", s->folder);
    (void)snprintf(s->database, sizeof s->database, "%s/disk/app.db", s->folder);
    d->is_mounted = mkdir(d->folder, 0700) == 0 && mount("none", d->folder, "tmpfs", 0, size) == 0;
    (void)snprintf(d->own_ballast, sizeof d->own_ballast, "%s-outbox-ballast", s->database);
    return 0;
}

static int set_up(void **state)
{
    return set_up_size(state, "size=1m");
}

static int set_up_larger(void **state)
{
    return set_up_size(state, "size=4m");
}

static int tear_down(void **state)
{
    int rc = small_disk.is_mounted ? umount2(small_disk.folder, MNT_DETACH) : 0;

    return scene_teardown(state) != 0 || rc != 0 ? -1 : 0;
}

/* A file of `size` bytes, or of all that there is. */
static void fill(const char *path, size_t size)
{
    static const char zeros[256];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    for (size_t written = 0; written < size;) {
        ssize_t count = write(fd, zeros, sizeof zeros);
        if (count < 0) {
            assert_int_equal(errno, ENOSPC);
            break;
        }
        written += (size_t)count;
    }
    assert_int_equal(close(fd), 0);
}

static int put(app *a, int number)
{
    char text[16];

    (void)snprintf(text, sizeof text, "%d", number);
    return outbox_put(a->box,
                      &(outbox_event){.topic = "t",
                                      .payload = text,
                                      .payload_len = strlen(text),
                                      .content_type = "text/plain"},
                      NULL);
}

/* Returns how many events there were room for. */
static int put_until_full(app *a, int first)
{
    int number = first, code = OUTBOX_OK;

    while (code == OUTBOX_OK) {
        assert_true(number < 100000);
        code = put(a, number++);
    }
    assert_int_equal(code, OUTBOX_DISK_FULL);
    fill(small_disk.rest, SIZE_MAX);
    assert_int_equal(put(a, number), OUTBOX_DISK_FULL);
    return number - 1 - first;
}

static int is_full(const outbox_statistics *statistics)
{
    return statistics->last_error == OUTBOX_DISK_FULL;
}

static void work_in(scene *s, const char *mode)
{
    if (!small_disk.is_mounted) {
        skip(); /* no right to mount: the simulator's disks are full as well */
    }
    fill(small_disk.ballast, BALLAST);
    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    app *a = app_open(s, mode);
    app_start(s, a);
    app_put_numbers(a, 1, 3);
    app_flush(a);
    broker_terminate(&s->broker);
    int count = put_until_full(a, 4);
    broker_restart(&s->broker);
    outbox_statistics now = app_await(a, is_full);
    assert_int_equal(now.pending, count);
    assert_int_equal(now.delivered, 3);

    assert_int_equal(unlink(small_disk.ballast), 0);
    assert_int_equal(unlink(small_disk.rest), 0);
    app_flush(a);
    app_put_numbers(a, 4 + count, 10);
    app_flush(a);
    expect_numbers(s->recorder, 1, count + 13);
    assert_int_equal(app_stats(a).delivered, count + 13);
    app_close(a);
}

/* ---- With room for the forwarder's own ballast ----------------------------------------------- */

/* Bytes that the ballast takes on the disk. */
static long long ballast_size(void)
{
    struct stat about;

    return stat(small_disk.own_ballast, &about) == 0 ? (long long)about.st_blocks * 512 : -1;
}

static void expect_ballast_anew(app *a, int number)
{
    long long deadline = clock_ms() + 10000;

    for (; ballast_size() < 262144; number++) {
        assert_true(clock_ms() < deadline);
        assert_int_equal(put(a, number), OUTBOX_OK);
        pause_ms(20);
    }
}

/* Tries again while the disk is full, as an application would. */
static void put_patiently(app *a, int first, int count)
{
    long long deadline = clock_ms() + 20000;

    for (int number = first; number < first + count;) {
        int code = put(a, number);
        number += code == OUTBOX_OK;
        assert_true(code == OUTBOX_OK || (code == OUTBOX_DISK_FULL && clock_ms() < deadline));
        pause_ms(code == OUTBOX_OK ? 0 : 20);
    }
}

/* [ballast-1] [full-1] */
static void drain_without_help(scene *s, const char *mode)
{
    if (!small_disk.is_mounted) {
        skip();
    }
    broker_start(&s->broker, BROKER_OPEN BROKER_PERSISTENT);
    scene_record(s);
    app *a = app_open(s, mode);
    app_start(s, a);
    app_put_numbers(a, 1, 3);
    app_flush(a);
    assert_int_equal(ballast_size(), 262144);
    fill(small_disk.ballast, FILLER);
    broker_terminate(&s->broker);
    int count = put_until_full(a, 4);
    assert_true(count > 100);
    broker_restart(&s->broker);
    app_flush(a); /* nobody makes room */
    assert_int_equal(ballast_size(), 0);
    put_patiently(a, 4 + count, 200);
    app_flush(a);
    expect_numbers(s->recorder, 1, count + 203);
    assert_int_equal(app_stats(a).delivered, count + 203);

    assert_int_equal(unlink(small_disk.ballast), 0);
    assert_int_equal(unlink(small_disk.rest), 0);
    expect_ballast_anew(a, 204 + count);
    app_close(a);
    assert_int_equal(ballast_size(), 262144); /* for the next start */
}

static void test_the_ballast_lets_a_full_disk_drain_in_wal_mode(void **state)
{
    drain_without_help(*state, "WAL");
}

static void test_the_ballast_lets_a_full_disk_drain_in_delete_mode(void **state)
{
    drain_without_help(*state, "DELETE");
}

static void test_without_a_wish_for_it_there_is_no_ballast(void **state)
{
    scene *s = *state;

    if (!small_disk.is_mounted) {
        skip();
    }
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .ballast_bytes = OUTBOX_NEVER});
    assert_int_equal(ballast_size(), -1);
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    app_start_with(a, &(outbox_forwarding){.broker = s->url, .ballast_bytes = 65536});
    assert_int_equal(ballast_size(), 65536);
}

/* Whatever lies under that name and is no file of ours stays as it is. */
static void test_a_link_in_the_place_of_the_ballast_is_left_alone(void **state)
{
    scene *s = *state;
    char text[8] = "";

    if (!small_disk.is_mounted) {
        skip();
    }
    app *a = app_open(s, "WAL");
    fill(small_disk.rest, 4096);
    assert_int_equal(link(small_disk.rest, small_disk.own_ballast), 0);
    app_start(s, a);
    assert_int_equal(ballast_size(), 4096);
    assert_int_equal(outbox_stop(a->box), OUTBOX_OK);
    assert_int_equal(unlink(small_disk.own_ballast), 0);
    assert_int_equal(symlink("rest", small_disk.own_ballast), 0);
    app_start(s, a);
    assert_int_equal(ballast_size(), 4096);
    assert_int_equal(readlink(small_disk.own_ballast, text, sizeof text), 4);
}

/* [P1] [P2] */
static void test_a_full_disk_in_wal_mode_loses_nothing_and_all_goes_on(void **state)
{
    work_in(*state, "WAL");
}

static void test_a_full_disk_in_delete_mode_loses_nothing_and_all_goes_on(void **state)
{
    work_in(*state, "DELETE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_full_disk_in_wal_mode_loses_nothing_and_all_goes_on,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_full_disk_in_delete_mode_loses_nothing_and_all_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_ballast_lets_a_full_disk_drain_in_wal_mode,
                                        set_up_larger, tear_down),
        cmocka_unit_test_setup_teardown(test_the_ballast_lets_a_full_disk_drain_in_delete_mode,
                                        set_up_larger, tear_down),
        cmocka_unit_test_setup_teardown(test_without_a_wish_for_it_there_is_no_ballast,
                                        set_up_larger, tear_down),
        cmocka_unit_test_setup_teardown(test_a_link_in_the_place_of_the_ballast_is_left_alone,
                                        set_up_larger, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
