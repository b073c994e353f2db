/* SPDX-License-Identifier: MIT
 *
 * test_full_disk.c - a real file system without a free byte.
 *
 * In WAL nothing can be deleted either, for a DELETE is written before it frees anything: events are
 * sent and stay. That must lose nothing, invent nothing and end as soon as there is room again.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BALLAST = 512 * 1024 };

typedef struct disk {
    char folder[128], ballast[160], rest[160];
    int is_mounted;
} disk;

static disk small_disk;

static int set_up(void **state)
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
    d->is_mounted =
        mkdir(d->folder, 0700) == 0 && mount("none", d->folder, "tmpfs", 0, "size=1m") == 0;
    return 0;
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
