/* SPDX-License-Identifier: MIT
 *
 * capture_check.h - whether captured tables are what they were, and their triggers too.
 */
#ifndef OB_CAPTURE_CHECK_H
#define OB_CAPTURE_CHECK_H

#include "capture_plan.h"

/* What is wrong with one capture: OUTBOX_DRIFT and a sentence, or OUTBOX_OK. */
int ob_capture_drifted(sqlite3 *db, const struct ob_definition *definition, struct ob_error *drift,
                       struct ob_error *error);

/* The first thing that is wrong with any of them. */
int ob_captures_drifted(sqlite3 *db, struct ob_error *drift, struct ob_error *error);

/* Its table was renamed: takes the new name. */
int ob_capture_follow_name(sqlite3 *db, struct ob_definition *definition, struct ob_error *error);

/* Keeps for outbox_warning() whether something is wrong. */
void ob_capture_note_drift(outbox *box);

#endif
