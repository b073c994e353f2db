/* SPDX-License-Identifier: MIT
 *
 * bind.c - the forwarder behind the handle, where a port runs one in a thread of its own.
 *
 * Hands calls of the application on to it, and gives the port what it needs of the handle. Nothing
 * here is stored, so nothing has to hold after a crash.
 */
#include "sql.h"
#include "writer.h"

/* ---- For the application --------------------------------------------------------------------- */

int outbox_stop(outbox *box)
{
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!box->service)
        return ob_error_set(&box->error, OUTBOX_NOT_STARTED, "no forwarder runs on this handle");
    const outbox_service *service = box->service;
    box->service = NULL; /* a commit during the stop is nobody's to hear */
    service->stop(box->service_context);
    box->service_context = NULL;
    return OUTBOX_OK;
}

int outbox_gate(outbox *box, outbox_gate_state gate)
{
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (gate != OUTBOX_GATE_OPEN && gate != OUTBOX_GATE_CLOSED && gate != OUTBOX_GATE_URGENT_ONLY)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "there is no state %d of the gate",
                            (int)gate);
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    if (!box->service)
        return ob_error_set(&box->error, OUTBOX_NOT_STARTED, "no forwarder runs on this handle");
    box->service->gate(box->service_context, gate);
    return OUTBOX_OK;
}

/* The last pending event of each lane, 0 where there is none. */
static int find_last(outbox *box, int64_t last[OUTBOX_LANES])
{
    int code = OUTBOX_OK;
    for (int i = 0; i < OUTBOX_LANES && code == OUTBOX_OK; i++)
        code = ob_lane_number(box->wakeup.db, (outbox_lane)i, ob_lane_sql(OB_SQL_LAST_PENDING),
                              OUTBOX_ID_MAX, 0, 0, &last[i], &box->error);
    return code;
}

int outbox_flush(outbox *box, unsigned timeout_ms)
{
    int64_t last[OUTBOX_LANES] = {0};
    if (!box)
        return OUTBOX_MISUSE;
    ob_error_clear(&box->error);
    if (!box->wakeup.db)
        return ob_error_set(&box->error, OUTBOX_CLOSED, "the connection was closed");
    if (!box->service)
        return ob_error_set(&box->error, OUTBOX_NOT_STARTED, "no forwarder runs on this handle");
    if (!sqlite3_get_autocommit(box->wakeup.db))
        return ob_error_set(&box->error, OUTBOX_MISUSE,
                            "a transaction is open on this connection; its events cannot be sent "
                            "before it ends, so flush after it");
    int code = find_last(box, last);
    if (code != OUTBOX_OK || (last[OUTBOX_NORMAL] == 0 && last[OUTBOX_URGENT] == 0))
        return code;
    code = box->service->flush(box->service_context, last, timeout_ms);
    if (code != OUTBOX_OK)
        ob_error_set(&box->error, code, "events that were put before are not settled yet: %s",
                     outbox_strerror(code));
    return code;
}

/* ---- For the port ---------------------------------------------------------------------------- */

int outbox_bind(outbox *box, const outbox_service *service, void *context)
{
    if (!box || !service || service->version != 1)
        return OUTBOX_MISUSE;
    if (box->service)
        return ob_error_set(&box->error, OUTBOX_MISUSE, "a forwarder runs on this handle already");
    box->service = service;
    box->service_context = context;
    return OUTBOX_OK;
}

sqlite3 *outbox_connection(const outbox *box)
{
    return box ? box->wakeup.db : NULL;
}

size_t outbox_payload_max(const outbox *box)
{
    return box ? box->payload_max : 0;
}

size_t outbox_fire_bytes(const outbox *box)
{
    return box ? box->stage.size : 0;
}

int outbox_fail(outbox *box, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ob_error_vset(&box->error, code, format, arguments);
    va_end(arguments);
    return code;
}
