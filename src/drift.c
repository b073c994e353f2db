/* SPDX-License-Identifier: MIT
 *
 * drift.c - while forwarding: looks for captured tables that were altered under their triggers.
 *
 * Changes that no trigger captures are lost without a trace, so somebody must be told. And a newer
 * release may have made the file one that this one cannot read. It costs a look at the schema's
 * version when others have written, and more only where that has changed. It only reads.
 */
#include "capture_check.h"
#include "machine.h"
#include "schema.h"

#include <limits.h>
#include <string.h>

enum { LOOK_AGAIN_MS = 10000 /* behind a failure; what is urgent has its turns meanwhile */ };

/* The triggers of a table with many columns are larger than an event may be. */
static int look_at_captures(struct ob_store *store, struct ob_error *drift)
{
    int limit = sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, store->is_shared ? -1 : INT_MAX);
    int code = ob_captures_drifted(store->db, drift, &store->error);
    (void)sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, store->is_shared ? -1 : limit);
    return code;
}

static int look(outbox_forwarder *f, int64_t *version, struct ob_error *drift)
{
    int code = ob_store_end_left_over(&f->store);
    if (code == OUTBOX_OK)
        code = ob_store_number(&f->store, OB_SQL_SCHEMA_VERSION, "reading the schema's version",
                               version);
    if (code != OUTBOX_OK)
        return code;
    if (*version == f->schema_version)
        return OUTBOX_OK;
    enum ob_schema_found ignored;
    code = ob_schema_find(f->store.db, &ignored, &f->store.error);
    if (code != OUTBOX_OK && code != OUTBOX_CORRUPT) /* tables that are gone the store reports */
        return code;
    return look_at_captures(&f->store, drift);
}

void ob_drift_look(outbox_forwarder *f)
{
    int64_t version = -1;
    struct ob_error drift = {0};
    if (!f->must_look_for_drift || ob_store_is_blocked(&f->store) ||
        !ob_machine_has_come(f, f->store_not_before) ||
        !ob_machine_has_come(f, f->drift_not_before))
        return;
    int code = look(f, &version, &drift);
    if (code != OUTBOX_OK) {
        /* Rows of a newer release must not be touched: the store waits then, for this look. */
        bool is_first = code == OUTBOX_BUSY || code == OUTBOX_NEWER_SCHEMA;
        f->drift_not_before = is_first ? f->now : f->now + LOOK_AGAIN_MS;
        ob_machine_store_failed(f, code);
        return;
    }
    f->must_look_for_drift = false;
    if (version == f->schema_version)
        return;
    bool had_drift = f->drift.code != OUTBOX_OK;
    bool is_news = drift.code != OUTBOX_OK && strcmp(drift.sentence, f->drift.sentence) != 0;
    /* Found once, it is looked for whenever somebody has written: a row may have been what is
     * wrong. */
    f->schema_version = drift.code == OUTBOX_OK ? version : -1;
    f->drift = drift;
    if (is_news)
        ob_machine_trouble(f, drift.code, "%s", drift.sentence);
    else if (drift.code == OUTBOX_OK && had_drift && f->error.code == OUTBOX_DRIFT)
        ob_machine_clear_trouble(f);
}
