/* SPDX-License-Identifier: MIT
 *
 * wal.h - makes the bytes of the write-ahead log durable, from beside SQLite.
 *
 * Both return a result code of SQLite. They need a connection that has read the database in WAL.
 */
#ifndef OB_WAL_H
#define OB_WAL_H

#include <sqlite3.h>

/* Syncs the WAL file, and with it what all connections wrote to it. */
int ob_wal_sync(sqlite3 *db);

/* Writes the WAL file once more as it is, and syncs it. The caller holds the write lock. */
int ob_wal_renew(sqlite3 *db);

#endif
