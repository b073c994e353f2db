/* SPDX-License-Identifier: MIT
 *
 * plan.c - what a forwarder's thread is to open, from what the application wants and from its
 * connection.
 *
 * Runs on the application's thread, before there is another. Opens nothing and keeps nothing.
 */
#include "engine.h"

#include <string.h>

struct rule {
    bool broken;
    const char *sentence;
};

static int check_forwarding(outbox *box, const outbox_forwarding *wanted)
{
    const struct rule rules[] = {
        {!wanted->broker, "broker is NULL; give the URL of the MQTT broker"},
        {wanted->client_id && wanted->client_id[0] == '\0', "client_id is empty"},
        {wanted->protocol != 0 && wanted->protocol != 4 && wanted->protocol != 5,
         "protocol is none of 5, 4 and 0"},
        {wanted->mode != OUTBOX_STRUCTURED && wanted->mode != OUTBOX_PLAIN &&
             wanted->mode != OUTBOX_BINARY,
         "mode is none of OUTBOX_STRUCTURED, OUTBOX_PLAIN and OUTBOX_BINARY"},
        {wanted->mode == OUTBOX_BINARY && wanted->protocol == 4,
         "OUTBOX_BINARY needs the user properties of MQTT 5, and protocol is 4"},
        {wanted->ce_prefix && wanted->mode != OUTBOX_BINARY,
         "ce_prefix is set and mode is not OUTBOX_BINARY"},
        {wanted->link != OUTBOX_LINK_PAHO && wanted->link != OUTBOX_LINK_STREAM,
         "link is neither OUTBOX_LINK_PAHO nor OUTBOX_LINK_STREAM"},
        {wanted->window > 1000, "window is over 1000"},
        {wanted->keep_alive_seconds > 65535, "keep_alive_seconds is over 65535"},
        {wanted->payload_max > OUTBOX_PAYLOAD_CAP, "payload_max is over OUTBOX_PAYLOAD_CAP"},
        {wanted->key_file && !wanted->cert_file, "key_file is set and cert_file is not"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].broken)
            return outbox_fail(box, OUTBOX_MISUSE, "%s", rules[i].sentence);
    return OUTBOX_OK;
}

/* A journal file that is truncated or kept is so per connection: one that deletes it would cost the
 * application what it chose the mode for. WAL and the plain mode are found in the file itself. */
static int find_journal(outbox *box, sqlite3 *db, const char **pragma)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(db, "PRAGMA main.journal_mode", -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    const char *mode =
        result == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (mode && strcmp(mode, "truncate") == 0)
        *pragma = "PRAGMA main.journal_mode = TRUNCATE";
    else if (mode && strcmp(mode, "persist") == 0)
        *pragma = "PRAGMA main.journal_mode = PERSIST";
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return mode ? OUTBOX_OK
                : outbox_fail(box, OUTBOX_SQLITE, "cannot read the journal mode: %s",
                              sqlite3_errstr(result));
}

/* Finds the file and the VFS of the application's connection. */
static int find_file(outbox *box, struct outbox_linux_plan *plan)
{
    sqlite3 *db = outbox_connection(box);
    sqlite3_vfs *vfs = NULL;
    if (!db)
        return outbox_fail(box, OUTBOX_CLOSED, "the connection was closed");
    if (!sqlite3_get_autocommit(db))
        return outbox_fail(box, OUTBOX_MISUSE, "a transaction is open; start outside of it");
    if (sqlite3_threadsafe() == 0)
        return outbox_fail(box, OUTBOX_MISUSE, "this SQLite was built without threads");
    plan->path = sqlite3_db_filename(db, "main");
    if (!plan->path || plan->path[0] == '\0')
        return outbox_fail(box, OUTBOX_NO_FILE, "%s", outbox_strerror(OUTBOX_NO_FILE));
    int result = sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &vfs);
    if (result != SQLITE_OK || !vfs)
        return outbox_fail(box, OUTBOX_SQLITE, "cannot find the VFS of the connection: %s",
                           sqlite3_errstr(result));
    plan->vfs = vfs->zName;
    return find_journal(box, db, &plan->journal);
}

int outbox_linux_plan_make(outbox *box, const outbox_forwarding *wanted,
                           struct outbox_linux_plan *plan)
{
    char sentence[160];
    int code = check_forwarding(box, wanted);
    if (code == OUTBOX_OK)
        code = find_file(box, plan);
    if (code != OUTBOX_OK)
        return code;
    plan->forwarding = wanted;
    plan->fire_bytes = outbox_fire_bytes(box);
    plan->payload_max = wanted->payload_max ? wanted->payload_max : outbox_payload_max(box);
    code = outbox_url_parse(wanted->broker, &plan->url, sentence, sizeof sentence);
    return code == OUTBOX_OK ? OUTBOX_OK : outbox_fail(box, code, "%s", sentence);
}
