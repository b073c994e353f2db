/* SPDX-License-Identifier: MIT
 *
 * sqlite_os.c - the two functions that SQLite wants where there is no operating system
 * (SQLITE_OS_OTHER). The VFS is registered later, when the flash is mounted. Nothing is kept here.
 */
#include <sqlite3.h>

int sqlite3_os_init(void)
{
    return SQLITE_OK;
}

int sqlite3_os_end(void)
{
    return SQLITE_OK;
}
