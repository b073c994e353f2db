/* SPDX-License-Identifier: MIT
 *
 * loadable.h - in front of every file of the loadable extension: each call of SQLite goes through
 * the table that the loading program hands over.
 */
#ifndef OB_LOADABLE_H
#define OB_LOADABLE_H

#include <sqlite3ext.h>

#define sqlite3_api ob_sqlite3_api
extern const sqlite3_api_routines *ob_sqlite3_api;

#endif
