/* SPDX-License-Identifier: MIT
 *
 * drift.c - while forwarding: looks for captured tables that were altered under their triggers.
 *
 * Changes that no trigger captures are lost without a trace, so somebody must be told. It costs a look
 * at the schema's version when others have written, and more only where that has changed. It only reads.
 */
#include "capture_check.h"
#include "machine.h"

static int look(outbox_forwarder *f, int64_t *version, struct ob_error *drift)
{
    sqlite3_stmt *statement = f->store.statement[OB_SQL_SCHEMA_VERSION];
    bool row = false;
    int code = ob_store_end_left_over(&f->store);
    if (code == OUTBOX_OK)
        code = ob_sql_step(statement, &row, &f->store.error, "reading the schema's version");
    if (code != OUTBOX_OK)
        return code;
    *version = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement); /* repeats what step said */
    if (*version == f->schema_version)
        return OUTBOX_OK;
    return ob_captures_drifted(f->store.db, drift, &f->store.error);
}

void ob_drift_look(outbox_forwarder *f)
{
    int64_t version = -1;
    struct ob_error drift = {0};
    if (!f->must_look_for_drift || ob_store_is_blocked(&f->store) ||
        !ob_machine_has_come(f, f->store_not_before))
        return;
    int code = look(f, &version, &drift);
    if (code != OUTBOX_OK) {
        ob_machine_store_failed(f, code);
        return;
    }
    f->must_look_for_drift = false;
    if (version == f->schema_version)
        return;
    bool had_drift = f->drift.code != OUTBOX_OK;
    f->schema_version = version;
    f->drift = drift;
    if (drift.code != OUTBOX_OK)
        ob_machine_trouble(f, drift.code, "%s", drift.sentence);
    else if (had_drift && f->error.code == OUTBOX_DRIFT)
        ob_machine_clear_trouble(f);
}
