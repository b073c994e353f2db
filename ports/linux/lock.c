/* SPDX-License-Identifier: MIT
 *
 * lock.c - one forwarder per database, by a lock on a file beside it.
 *
 * The file is DATABASE-outbox-lock. It is made once and never removed: a process that removed it
 * could leave two others holding locks on two files of the same name. Its only content is the
 * holder's process number, for the sentence that a second one gets.
 *
 * The lock is an "open file description" lock of Linux. Two descriptors of one process exclude
 * each other, which a POSIX record lock cannot do, and closing another descriptor of the same file
 * drops nothing. The database, its -wal and its -shm are never opened here: closing them would
 * drop SQLite's own locks in this process.
 *
 * After a crash the kernel has closed the descriptor, so the lock is free at once; no time-out has
 * to be guessed. A child that was forked without exec shares the description: it keeps the lock
 * for as long as it lives if its parent dies without releasing it.
 */
#include "lock.h"

#include "beside.h"

#include <errno.h>
#include <fcntl.h>
#include <outbox/outbox.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX "-outbox-lock"

static int system_failed(char *sentence, size_t size, const char *what, const char *path)
{
    int error = errno;
    (void)snprintf(sentence, size, "cannot %s %s: %s", what, path, strerror(error));
    return OUTBOX_SYSTEM;
}

/* Writes who holds the lock. It is for people only, so a full disk does not stop the forwarder; the
 * number of an earlier holder goes in any case. */
static void write_holder(int fd)
{
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    bool told = ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)length, 0) == length;
    (void)told;
}

static int already_locked(int fd, const char *database, char *sentence, size_t size)
{
    char text[24] = {0};
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    long holder = length > 0 ? strtol(text, NULL, 10) : 0;
    if (holder > 0) {
        (void)snprintf(sentence, size, "another forwarder (process %ld) serves %s; stop it first",
                       holder, database);
    } else {
        (void)snprintf(sentence, size, "another forwarder serves %s; stop it first", database);
    }
    return OUTBOX_LOCKED;
}

static int lock_description(int fd, const char *database, char *sentence, size_t size)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0) {
        write_holder(fd);
        return OUTBOX_OK;
    }
    if (errno == EAGAIN || errno == EACCES)
        return already_locked(fd, database, sentence, size);
    return system_failed(sentence, size, "lock the file beside", database);
}

static int take_at(const char *path, const char *database, int *lock, char *sentence, size_t size)
{
    struct stat about;
    if (stat(database, &about) != 0) {
        int missing = errno == ENOENT || errno == ENOTDIR;
        int code = system_failed(sentence, size, "find", database);
        return missing ? OUTBOX_NO_FILE : code;
    }
    int fd = outbox_linux_beside_open(path, &about);
    if (fd < 0)
        return system_failed(sentence, size, "open", path);
    int code = lock_description(fd, database, sentence, size);
    if (code != OUTBOX_OK) {
        (void)close(fd);
        return code;
    }
    *lock = fd;
    return OUTBOX_OK;
}

int outbox_linux_lock_take(const char *database, int *lock, char *sentence, size_t size)
{
    *lock = -1;
    char *path = outbox_linux_beside_name(database, SUFFIX);
    if (!path) {
        (void)snprintf(sentence, size, "no memory for the name of the lock file");
        return OUTBOX_NO_MEMORY;
    }
    int code = take_at(path, database, lock, sentence, size);
    free(path);
    return code;
}

void outbox_linux_lock_release(int lock)
{
    if (lock < 0)
        return;
    /* Said aloud, because a forked child may still hold the same description open. The file is
     * closed whatever the answer is. */
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    (void)fcntl(lock, F_OFD_SETLK, &whole);
    (void)close(lock);
}
