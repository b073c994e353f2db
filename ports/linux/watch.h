/* SPDX-License-Identifier: MIT
 *
 * watch.h - the kernel says when somebody writes to a database.
 */
#ifndef OUTBOX_LINUX_WATCH_H
#define OUTBOX_LINUX_WATCH_H

#include <stdbool.h>

struct outbox_linux_watch {
    int fd; /* to be polled for reading; -1: there is no watch */
    int database_wd, wal_wd;
    char *database, *wal;
};

/* Begins to watch the database in the file `database` and its WAL. False: the kernel cannot, or
 * there is no memory; there is no watch then, and everything below does nothing. */
bool outbox_linux_watch_open(struct outbox_linux_watch *watch, const char *database);
void outbox_linux_watch_close(struct outbox_linux_watch *watch);

/* Takes what the kernel has said. Whether somebody may have written since this was asked last. */
bool outbox_linux_watch_take(struct outbox_linux_watch *watch);

/* Finds files that were not there before. */
void outbox_linux_watch_renew(struct outbox_linux_watch *watch);

#endif
