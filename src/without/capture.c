/* SPDX-License-Identifier: MIT
 *
 * capture.c - stands in for change.c, drift.c, snapshot.c and capture*.c where no table is
 * captured, as in a firmware that has no flash to spare for it: 18 KB less on a Cortex-M.
 *
 * Nothing is kept here. A row that a trigger of a capture has stored is then a row of no topic, as
 * from a writer that made a mistake: it becomes a dead letter and is kept as it is, so it must not
 * meet a database that has captures.
 */
#include "capture_check.h"
#include "machine.h"

bool ob_change_is(const struct ob_row *row)
{
    (void)row;
    return false;
}

int ob_change_render(struct ob_change *change, sqlite3 *db, outbox_lane lane,
                     const struct ob_row *row, const char *device, const struct ob_group *group,
                     struct ob_row *event, struct ob_error *error)
{
    (void)change, (void)db, (void)lane, (void)device, (void)group;
    *event = *row;
    return ob_error_set(error, OUTBOX_BAD_PAYLOAD, "this program is built without captures");
}

void ob_change_close(struct ob_change *change)
{
    (void)change;
}

int ob_change_complete_dead(sqlite3 *db, outbox_lane lane, int64_t count, struct ob_error *error)
{
    (void)db, (void)lane, (void)count, (void)error;
    return OUTBOX_OK;
}

void ob_capture_note_drift(outbox *box)
{
    (void)box;
}

void ob_drift_look(outbox_forwarder *f)
{
    f->must_look_for_drift = false;
}
