/* SPDX-License-Identifier: MIT
 *
 * beside.c - makes and opens the files of ours that lie beside a database.
 *
 * They have the mode and the owner of the database, as SQLite does for its own side files, so that
 * a forwarder started once by root shuts nobody out. A crash may leave an empty one, which the next
 * forwarder takes as it is.
 */
#include "beside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *outbox_linux_beside_name(const char *database, const char *suffix)
{
    size_t size = strlen(database) + strlen(suffix) + 1;
    char *path = malloc(size);
    if (path)
        (void)snprintf(path, size, "%s%s", database, suffix);
    return path;
}

/* Makes a new file as accessible as the database. Another program may make it at the same
 * moment; then EEXIST says so and the caller opens that one. */
static int create_beside(const char *path, const struct stat *database)
{
    mode_t mode = database->st_mode & (mode_t)0666;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    /* The umask may have taken bits away, and only root can give a file to somebody. Where a file
     * system knows no modes or owners these calls fail, and nobody is shut out there. */
    bool shared = fchmod(fd, mode) == 0;
    if (geteuid() == 0)
        shared = fchown(fd, database->st_uid, database->st_gid) == 0 && shared;
    (void)shared;
    return fd;
}

int outbox_linux_beside_open(const char *path, const struct stat *database)
{
    int fd = create_beside(path, database);
    if (fd >= 0 || errno != EEXIST)
        return fd;
    /* A link put there by somebody else must not lead us to another file. */
    return open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
}
