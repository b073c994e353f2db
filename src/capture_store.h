/* SPDX-License-Identifier: MIT
 *
 * capture_store.h - what is captured, as the file holds it.
 *
 *   outbox_capture     a row for each captured table
 *   outbox_shape       what the values of captured changes mean, change.h
 *   outbox_replaced_N, outbox_gone_N
 *                      of table N, empty but inside a statement, capture_sql.c
 *
 * They are made with the first capture. Everything here runs in the caller's transaction.
 */
#ifndef OB_CAPTURE_STORE_H
#define OB_CAPTURE_STORE_H

#include "capture_plan.h"

/* Whether anything was ever captured in this file. */
int ob_captures_exist(sqlite3 *db, bool *exist, struct ob_error *error);

int ob_captures_make(sqlite3 *db, struct ob_error *error);

/* Calls `take` with each definition, or with that of one table; its memory is valid during the
 * call. */
int ob_captures_each(sqlite3 *db, const char *table, struct ob_error *error,
                     int (*take)(void *context, struct ob_definition *definition), void *context);

/* Frees the texts. */
void ob_definition_free(struct ob_definition *definition);

/* Writes it: as a new row if its number is 0, which gets one then. */
int ob_capture_save(sqlite3 *db, struct ob_definition *definition, struct ob_error *error);
int ob_capture_forget(sqlite3 *db, int64_t number, struct ob_error *error);

/* Takes all triggers and tables of the capture away; makes those of the plan, whose definition gets
 * the number of the shape. */
int ob_capture_drop(sqlite3 *db, int64_t number, struct ob_error *error);
int ob_capture_install(struct ob_plan *plan, struct ob_definition *definition);

#endif
