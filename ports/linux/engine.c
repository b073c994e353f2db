/* SPDX-License-Identifier: MIT
 *
 * engine.c - what a forwarder's thread owns: connection, lock, link and forwarder, as one thing.
 *
 * They are opened in this order and closed in the reverse one, so the lock is held for as long as
 * anything of ours sends or settles events, and an opening that fails halfway leaves nothing
 * behind. Standing by is an engine without lock and forwarder: everything else is open already, and
 * the rest is made when the other forwarder is gone.
 *
 * After a crash the kernel has closed them all; what was in flight is still in the table.
 */
#include "engine.h"

#include "clock.h"
#include "lock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_READ_TIMEOUT_MS 2000
#define CLIENT_ID_SIZE sizeof "outbox-0123456789ab"

static int fail(struct outbox_linux_engine *engine, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct outbox_linux_engine *engine, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(engine->sentence, sizeof engine->sentence, format, arguments);
    va_end(arguments);
    return code;
}

/* ---- The connection -------------------------------------------------------------------------- */

static int fail_sqlite(struct outbox_linux_engine *engine, int result, const char *doing)
{
    static const struct {
        int result, code;
    } map[] = {
        {SQLITE_BUSY, OUTBOX_BUSY},       {SQLITE_LOCKED, OUTBOX_BUSY},
        {SQLITE_NOMEM, OUTBOX_NO_MEMORY}, {SQLITE_READONLY, OUTBOX_READONLY},
        {SQLITE_CORRUPT, OUTBOX_CORRUPT}, {SQLITE_NOTADB, OUTBOX_CORRUPT},
    };
    int code = OUTBOX_SQLITE;
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        if ((result & 0xff) == map[i].result)
            code = map[i].code;
    const char *message = engine->db ? sqlite3_errmsg(engine->db) : sqlite3_errstr(result);
    return fail(engine, code, "%s on the forwarder's own connection failed: %s (SQLite %d)", doing,
                message, result);
}

static int open_database(struct outbox_linux_engine *engine, const struct outbox_linux_plan *plan)
{
    const outbox_forwarding *wanted = plan->forwarding;
    /* One thread uses the connection, so it needs no mutex. The path is absolute, so that no
     * SQLite takes it for a URI. */
    int result = sqlite3_open_v2(
        plan->path, &engine->db,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, plan->vfs);
    if (result != SQLITE_OK)
        return fail_sqlite(engine, result, "opening the database");
    if (wanted->on_open) {
        int refused = wanted->on_open(wanted->on_open_context, engine->db);
        if (refused != 0)
            return fail(engine, OUTBOX_SQLITE, "on_open refused the forwarder's connection: %d",
                        refused);
    }
    /* It could send, but never settle, and would send the same again at every start. */
    if (sqlite3_db_readonly(engine->db, "main") == 1)
        return fail(engine, OUTBOX_READONLY, "%s cannot be written; nothing could be settled",
                    plan->path);
    /* For what is read here; the forwarder then sets a handler of its own. */
    result = sqlite3_busy_timeout(engine->db, FIRST_READ_TIMEOUT_MS);
    if (result != SQLITE_OK)
        return fail_sqlite(engine, result, "setting a time-out");
    if (plan->journal)
        result = sqlite3_exec(engine->db, plan->journal, NULL, NULL, NULL);
    return result == SQLITE_OK ? OUTBOX_OK : fail_sqlite(engine, result, "keeping the journal");
}

/* ---- The link -------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t so_far, const char *text)
{
    for (; *text != '\0'; text++)
        so_far = (so_far ^ (unsigned char)*text) * UINT64_C(1099511628211); /* FNV-1a */
    return so_far;
}

/* A name that is the same at every start and another on every device and for every file: two
 * clients of one name would throw each other off the broker for ever. Every server takes it, as it
 * has fewer than 24 letters, digits and dashes. */
static int make_client_id(struct outbox_linux_engine *engine, const char *path,
                          char id[CLIENT_ID_SIZE])
{
    sqlite3_stmt *statement = NULL;
    int code = OUTBOX_OK;
    int result =
        sqlite3_prepare_v2(engine->db, "SELECT value FROM main.outbox_meta WHERE name = 'device'",
                           -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    const char *device =
        result == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (device) {
        uint64_t digest = hash(UINT64_C(14695981039346656037), device);
        digest = hash(hash(digest, "\n"), path);
        (void)snprintf(id, CLIENT_ID_SIZE, "outbox-%012" PRIx64, digest >> 16);
    } else if (result == SQLITE_ROW || result == SQLITE_DONE) {
        code = fail(engine, OUTBOX_CORRUPT, "outbox_meta holds no device name");
    } else {
        code = fail_sqlite(engine, result, "reading the device's name");
    }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return code;
}

static int make_link(struct outbox_linux_engine *engine, const struct outbox_linux_plan *plan)
{
    const outbox_forwarding *wanted = plan->forwarding;
    char made_id[CLIENT_ID_SIZE];
    if (!wanted->client_id) {
        int code = make_client_id(engine, plan->path, made_id);
        if (code != OUTBOX_OK)
            return code;
    }
    const outbox_linux_link_options options = {
        .kind = wanted->link,
        .url = &plan->url,
        .username = wanted->username,
        .password = wanted->password,
        .client_id = wanted->client_id ? wanted->client_id : made_id,
        .protocol = wanted->mode == OUTBOX_BINARY ? 5 : wanted->protocol, /* no way back to 4 */
        .ca_file = wanted->ca_file,
        .cert_file = wanted->cert_file,
        .key_file = wanted->key_file,
        .insecure = wanted->insecure_no_server_check,
        .keep_alive_seconds = wanted->keep_alive_seconds,
        .connect_timeout_ms = wanted->connect_timeout_ms,
        .window = wanted->window,
        .payload_max = plan->payload_max,
        .wake = plan->wake,
        .wake_context = plan->wake_context,
        .log = wanted->log,
        .log_context = wanted->log_context,
    };
    return outbox_linux_link_new(&options, &engine->link, engine->sentence,
                                 sizeof engine->sentence);
}

/* ---- The forwarder --------------------------------------------------------------------------- */

/* Everything that can be done, and can fail, without the lock. */
static int prepare_forwarder(struct outbox_linux_engine *engine,
                             const struct outbox_linux_plan *plan)
{
    const outbox_forwarding *wanted = plan->forwarding;
    engine->config = (outbox_forwarder_config){
        .mode = wanted->mode,
        .ce_prefix = wanted->ce_prefix,
        .window = wanted->window,
        .ack_timeout_ms = wanted->ack_timeout_ms,
        .connect_timeout_ms = wanted->connect_timeout_ms,
        .foreign_check_ms = wanted->foreign_check_ms,
        .payload_max = plan->payload_max,
        .fire_bytes = plan->fire_bytes,
        .announce_topic = wanted->announce_topic,
        .dead_letters_max = wanted->dead_letters_max,
        .backoff_max_ms = wanted->backoff_max_ms,
        .pace = wanted->pace,
        .batch_events = wanted->batch_events,
        .batch_seconds = wanted->batch_seconds,
    };
    engine->memory_size = outbox_forwarder_size(&engine->config);
    if (engine->memory_size == 0)
        return fail(engine, OUTBOX_MISUSE, "a value of the forwarding is out of range");
    engine->ballast_bytes = wanted->ballast_bytes;
    engine->memory = malloc(engine->memory_size);
    engine->path = strdup(plan->path);
    if (!engine->memory || !engine->path)
        return fail(engine, OUTBOX_NO_MEMORY, "no memory for the forwarder: %zu bytes",
                    engine->memory_size);
    engine->port = outbox_linux_port(wanted->log, wanted->log_context);
    return OUTBOX_OK;
}

static int make_forwarder(struct outbox_linux_engine *engine)
{
    return outbox_forwarder_init(engine->memory, engine->memory_size, engine->db, engine->link,
                                 &engine->port, &engine->config, &engine->forwarder,
                                 engine->sentence, sizeof engine->sentence);
}

/* Without it rows of others go out all the same, later. */
static void begin_watch(struct outbox_linux_engine *engine)
{
    if (engine->config.foreign_check_ms == OUTBOX_NEVER ||
        outbox_linux_watch_open(&engine->watch, engine->path) || !engine->port.log)
        return;
    engine->port.log(engine->port.log_context, OUTBOX_LOG_INFO, OUTBOX_OK,
                     "the database's files cannot be watched; rows of other processes are found by "
                     "the regular look alone");
}

int outbox_linux_engine_take_over(struct outbox_linux_engine *engine)
{
    int code = outbox_linux_lock_take(engine->path, &engine->lock, engine->sentence,
                                      sizeof engine->sentence);
    if (code != OUTBOX_OK)
        return code;
    code = make_forwarder(engine);
    if (code == OUTBOX_OK &&
        !outbox_linux_ballast_open(&engine->ballast, engine->path, engine->ballast_bytes,
                                   engine->port.log, engine->port.log_context))
        code = fail(engine, OUTBOX_NO_MEMORY, "no memory for the name of the ballast file");
    if (code != OUTBOX_OK) {
        outbox_forwarder_close(engine->forwarder);
        engine->forwarder = NULL;
        outbox_linux_lock_release(engine->lock); /* somebody else may have better luck */
        engine->lock = -1;
    } else {
        begin_watch(engine);
    }
    return code;
}

/* ---- Standing by ----------------------------------------------------------------------------- */

/* The lowest row is the tombstone, and everything up to it has left; if it is none, a hand was in
 * the table, and everything before it has left. */
int outbox_linux_engine_find_settled(struct outbox_linux_engine *engine,
                                     int64_t settled[OUTBOX_LANES])
{
    static const char *const queries[OUTBOX_LANES] = {
        [OUTBOX_NORMAL] = "SELECT id - (ledger IS NULL) FROM main.outbox_event"
                          " ORDER BY id LIMIT 1",
        [OUTBOX_URGENT] = "SELECT id - (ledger IS NULL) FROM main.outbox_urgent"
                          " ORDER BY id LIMIT 1",
    };
    for (int i = 0; i < OUTBOX_LANES; i++) {
        sqlite3_stmt *statement = NULL;
        int result = sqlite3_prepare_v2(engine->db, queries[i], -1, &statement, NULL);
        if (result == SQLITE_OK)
            result = sqlite3_step(statement);
        if (result == SQLITE_ROW)
            settled[i] = sqlite3_column_int64(statement, 0);
        int code = result == SQLITE_ROW || result == SQLITE_DONE
                       ? OUTBOX_OK
                       : fail_sqlite(engine, result, "reading what is settled");
        (void)sqlite3_finalize(statement); /* repeats what step said */
        if (code != OUTBOX_OK)
            return code;
    }
    return OUTBOX_OK;
}

/* ---- All of it ------------------------------------------------------------------------------- */

int outbox_linux_engine_open(struct outbox_linux_engine *engine,
                             const struct outbox_linux_plan *plan)
{
    memset(engine, 0, sizeof *engine);
    engine->lock = -1;
    engine->watch.fd = -1;
    int code = open_database(engine, plan);
    if (code == OUTBOX_OK)
        code = make_link(engine, plan);
    if (code == OUTBOX_OK)
        code = prepare_forwarder(engine, plan);
    if (code == OUTBOX_OK)
        code = outbox_linux_engine_take_over(engine);
    if (code == OUTBOX_LOCKED && plan->forwarding->stand_by)
        code = OUTBOX_OK;
    if (code != OUTBOX_OK)
        outbox_linux_engine_close(engine);
    return code;
}

void outbox_linux_engine_close(struct outbox_linux_engine *engine)
{
    if (engine->forwarder)
        outbox_forwarder_close(engine->forwarder);
    outbox_linux_watch_close(&engine->watch);
    outbox_linux_ballast_close(&engine->ballast);
    outbox_linux_link_free(engine->link);
    free(engine->memory);
    free(engine->path);
    /* Busy only where on_open left a statement; the connection then goes when that goes. */
    if (sqlite3_close(engine->db) != SQLITE_OK)
        (void)sqlite3_close_v2(engine->db); /* cannot fail */
    outbox_linux_lock_release(engine->lock);
}
