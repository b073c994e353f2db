/* SPDX-License-Identifier: MIT
 *
 * attach.c - makes and frees the handle of a connection.
 *
 * What is stored (tables, the device's name, the limits) appears in one transaction of
 * ob_schema_make()'s, so after a crash there is all of it or nothing. The handle itself is memory.
 */
#include "capture_check.h"
#include "schema.h"
#include "sql.h"
#include "text.h"
#include "writer.h"

#include <assert.h>
#include <string.h>

enum { STAGE_BYTES_MIN = 256, STAGE_BYTES_MAX = 1 << 24 };

/* ---- Attach ---------------------------------------------------------------------------------- */

static int check_connection(sqlite3 *db, outbox *box)
{
    if (sqlite3_libversion_number() < OB_OLDEST_SQLITE)
        return ob_error_set(&box->error, OUTBOX_OLD_SQLITE,
                            "this is SQLite %s; link 3.34.0 or newer", sqlite3_libversion());
    if (!sqlite3_get_autocommit(db))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a transaction is open; attach before it or after it");
    if (sqlite3_db_readonly(db, "main") == 1)
        return ob_error_set(&box->error, OUTBOX_READONLY,
                            "the database was opened read-only; open it for writing");
    return ob_writer_judge(db, box);
}

static int check_config(const outbox_config *config, outbox *box)
{
    if (config->device && !ob_text_is_device(config->device, strlen(config->device)))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a device name has 1 to %d of the characters A-Z a-z 0-9 . _ ~ -",
                            OUTBOX_ATTRIBUTE_MAX);
    if (config->payload_max > OUTBOX_PAYLOAD_CAP)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "payload_max is over %d bytes",
                            OUTBOX_PAYLOAD_CAP);
    if (config->fire_bytes > STAGE_BYTES_MAX ||
        (config->fire_bytes > 0 && config->fire_bytes < STAGE_BYTES_MIN))
        return ob_error_set(&box->error, OUTBOX_MISUSE, "fire_bytes is not from %d to %d",
                            STAGE_BYTES_MIN, STAGE_BYTES_MAX);
    for (int i = 0; i < OUTBOX_LANES; i++) {
        const outbox_limit *limit = &config->limits[i];
        if (limit->max_events < OUTBOX_UNLIMITED || limit->max_events > OUTBOX_ID_MAX ||
            limit->max_bytes < OUTBOX_UNLIMITED || limit->max_bytes > OUTBOX_ID_MAX ||
            (limit->when_full != OUTBOX_REJECT && limit->when_full != OUTBOX_EVICT_OLDEST))
            return ob_error_set(&box->error, OUTBOX_MISUSE,
                                "a limit of the %s lane is out of range: 0 to 2^48, or "
                                "OUTBOX_UNLIMITED",
                                ob_lane_name((outbox_lane)i));
    }
    return OUTBOX_OK;
}

/* Whether the device's name or a limit is to be another one than is stored. */
static int has_wishes(sqlite3 *db, const outbox_config *config, outbox *box, bool *wishes)
{
    char stored[OUTBOX_ATTRIBUTE_MAX + 1];
    int code = OUTBOX_OK;
    *wishes = false;
    if (config->device) {
        code = ob_schema_device(db, stored, &box->error);
        *wishes = code == OUTBOX_CORRUPT || strcmp(stored, config->device) != 0;
        if (code == OUTBOX_CORRUPT) /* it gets this name */
            code = OUTBOX_OK;
    }
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++) {
        struct ob_limit limit;
        code = ob_limit_load(db, (outbox_lane)i, &limit, &box->error);
        *wishes = *wishes || ob_limit_apply(&config->limits[i], &limit);
    }
    return code;
}

/* Does the tables' work only where there is some, so that a second attach writes nothing. */
static int ensure_schema(sqlite3 *db, const outbox_config *config, outbox *box)
{
    enum ob_schema_found found;
    bool wishes = true;
    int code = ob_schema_find(db, &found, &box->error);
    if (code == OUTBOX_OK && found == OB_SCHEMA_PRESENT)
        code = has_wishes(db, config, box, &wishes);
    if (code == OUTBOX_OK && wishes)
        code = ob_schema_make(db, config->device, config->limits, box->small_heap, &box->error);
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = ob_limit_load(db, (outbox_lane)i, &box->limit[i], &box->error);
    return code;
}

static int attach(outbox *box, sqlite3 *db, const outbox_config *config)
{
    int code = check_config(config, box);
    if (code == OUTBOX_OK)
        code = check_connection(db, box);
    if (code != OUTBOX_OK)
        return code;
    box->small_heap = config->small_heap != 0;
    box->payload_max = config->payload_max ? config->payload_max : OUTBOX_PAYLOAD_MAX;
    box->stage.size = config->fire_bytes ? config->fire_bytes : OUTBOX_FIRE_BYTES;
    box->vfs = ob_sql_vfs(db);
    /* Registered first: it fails on a connection that is attached already, and takes back nothing
     * but itself when the tables cannot be made. */
    code = ob_wakeup_register(&box->wakeup, db, &ob_writer_wakeup, box, &box->error);
    if (code == OUTBOX_OK)
        code = ensure_schema(db, config, box);
    if (code == OUTBOX_OK)
        ob_capture_note_drift(box);
    else
        ob_wakeup_unregister(&box->wakeup);
    return code;
}

static void say(const outbox_config *config, const char *sentence)
{
    if (config->sentence && config->sentence_size > 0)
        sqlite3_snprintf((int)config->sentence_size, config->sentence, "%s", sentence);
}

int outbox_attach(sqlite3 *db, const outbox_config *config, outbox **box)
{
    static const outbox_config defaults;
    if (!box)
        return OUTBOX_MISUSE;
    *box = NULL;
    if (!db)
        return OUTBOX_MISUSE;
    if (!config)
        config = &defaults;
    outbox *made = sqlite3_malloc((int)sizeof *made);
    if (!made) {
        say(config, outbox_strerror(OUTBOX_NO_MEMORY));
        return OUTBOX_NO_MEMORY;
    }
    memset(made, 0, sizeof *made);
    int code = attach(made, db, config);
    if (code != OUTBOX_OK) {
        say(config, made->error.sentence);
        sqlite3_free(made);
        return code;
    }
    *box = made;
    return OUTBOX_OK;
}

/* ---- The handle ------------------------------------------------------------------------------ */

const char *outbox_errmsg(const outbox *box)
{
    if (!box || box->error.code == OUTBOX_OK)
        return outbox_strerror(OUTBOX_OK);
    return box->error.sentence;
}

const char *outbox_warning(const outbox *box)
{
    if (!box || box->warning || !box->has_drift)
        return box ? box->warning : NULL;
    return "a captured table or its triggers have changed, so its changes may not be captured; "
           "call "
           "outbox_capture_doctor(), then outbox_capture_resume()";
}

void outbox_detach(outbox *box)
{
    if (!box)
        return;
    if (box->service)
        (void)outbox_stop(box); /* fails only when nothing runs */
    assert(!box->service);
    ob_wakeup_unregister(&box->wakeup);
    ob_writer_free(box);
}

void ob_writer_leave(outbox *box)
{
    if (!box)
        return;
    assert(!box->service);
    box->is_orphan = true;
    if (!box->wakeup.db)
        ob_writer_free(box);
}
