/* SPDX-License-Identifier: MIT
 *
 * beside.h - the files of ours that lie beside a database.
 */
#ifndef OUTBOX_LINUX_BESIDE_H
#define OUTBOX_LINUX_BESIDE_H

#include <sys/stat.h>

/* DATABASE and the suffix, malloc()ed; NULL: no memory. */
char *outbox_linux_beside_name(const char *database, const char *suffix);

/* Opens the file for reading and writing, and makes it if it is missing, as accessible as the
 * database. Returns a descriptor, or -1 with errno. */
int outbox_linux_beside_open(const char *path, const struct stat *database);

#endif
