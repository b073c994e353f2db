/* SPDX-License-Identifier: MIT
 *
 * watch.c - the kernel says when somebody writes to a database (inotify).
 *
 * In WAL mode every commit writes to the WAL, in the other modes to the database itself. Both are
 * watched, because the application may change the mode meanwhile, and both by their names: to open
 * and close them here would drop the locks that SQLite holds on them in this process. The -shm file
 * is written through memory, of which the kernel says nothing.
 *
 * What comes is a hint and no more. It comes at the write, before the commit is visible; the writes
 * of this process are among it; and some file systems (of a network, of another machine) say
 * nothing. So whoever asks looks into the database a few times, and at long intervals without a
 * hint. Nothing here outlives a crash.
 */
#include "watch.h"

#include "beside.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* A file that is unlinked while others have it open says ATTRIB, and DELETE_SELF only at the
 * end. */
#define GONE (IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)
#define EVENTS (IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

/* Watches what the name leads to now. The same file gets the same number again. */
static void renew(int fd, const char *path, int *wd)
{
    int now = inotify_add_watch(fd, path, EVENTS);
    if (*wd >= 0 && *wd != now)
        (void)inotify_rm_watch(fd, *wd); /* it may have gone by itself */
    *wd = now;
}

void outbox_linux_watch_renew(struct outbox_linux_watch *watch)
{
    if (watch->fd < 0)
        return;
    if (watch->database_wd < 0)
        renew(watch->fd, watch->database, &watch->database_wd);
    if (watch->wal_wd < 0)
        renew(watch->fd, watch->wal, &watch->wal_wd);
}

bool outbox_linux_watch_open(struct outbox_linux_watch *watch, const char *database)
{
    *watch = (struct outbox_linux_watch){.fd = -1, .database_wd = -1, .wal_wd = -1};
    watch->database = strdup(database);
    watch->wal = outbox_linux_beside_name(database, "-wal");
    if (watch->database && watch->wal)
        watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    outbox_linux_watch_renew(watch);
    if (watch->database_wd >= 0)
        return true;
    outbox_linux_watch_close(watch); /* a VFS whose names are no files, or no watches left */
    return false;
}

void outbox_linux_watch_close(struct outbox_linux_watch *watch)
{
    if (watch->fd >= 0)
        (void)close(watch->fd);
    free(watch->database);
    free(watch->wal);
    *watch = (struct outbox_linux_watch){.fd = -1, .database_wd = -1, .wal_wd = -1};
}

static void take_event(struct outbox_linux_watch *watch, const struct inotify_event *event)
{
    if (!(event->mask & GONE))
        return;
    if (event->wd == watch->database_wd)
        renew(watch->fd, watch->database, &watch->database_wd);
    else if (event->wd == watch->wal_wd)
        renew(watch->fd, watch->wal, &watch->wal_wd);
}

/* Each name has one watch, and the kernel puts equal events together: there are few. */
bool outbox_linux_watch_take(struct outbox_linux_watch *watch)
{
    _Alignas(struct inotify_event) char events[1024];
    bool any = false;
    if (watch->fd < 0)
        return false;
    for (;;) {
        ssize_t length = read(watch->fd, events, sizeof events);
        if (length <= 0)
            break; /* EAGAIN: that was all */
        any = true;
        for (const char *at = events; at < events + length;) {
            const struct inotify_event *event = (const void *)at;
            take_event(watch, event);
            at += sizeof *event + event->len;
        }
    }
    if (any)
        outbox_linux_watch_renew(watch); /* a WAL that was made just now */
    return any;
}
