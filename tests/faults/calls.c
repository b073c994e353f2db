/* SPDX-License-Identifier: MIT
 *
 * calls.c - the table of calls that are judged each by itself.
 */
#include "faults/call.h"

#include <outbox/capture.h>
#include <string.h>

/* ---- What is there before -------------------------------------------------------------------- */

static void must(struct world *world, const char *what, int code)
{
    if (code != OUTBOX_OK)
        world_fail(world, "%s fails without a fault: %d, %s", what, code,
                   world->box ? outbox_errmsg(world->box) : "no handle");
}

static void attached(struct world *world)
{
    must(world, "attach", world_open_app(world) ? OUTBOX_OK : OUTBOX_SQLITE);
}

static void some_events(struct world *world)
{
    attached(world);
    world_put(world, 1, 3);
    world_put(world, 4, 2);
}

static void full_of_events(struct world *world)
{
    world->limit = (outbox_limit){.max_events = 5, .when_full = OUTBOX_EVICT_OLDEST};
    some_events(world);
}

static void full_and_shut(struct world *world)
{
    world->limit = (outbox_limit){.max_events = 5};
    some_events(world);
}

static void full_of_bytes(struct world *world)
{
    world->limit = (outbox_limit){.max_bytes = 300, .when_full = OUTBOX_EVICT_OLDEST};
    some_events(world);
    /* Of another writer, so that it is to be measured, too. */
    world_meddle(world, "INSERT INTO outbox_event(topic, payload) VALUES('t', zeroblob(60))");
}

static void send_what_waits(struct world *world)
{
    if (!world_open_forwarder(world))
        world_fail(world, "the forwarder cannot begin without a fault");
    world_step(world, 40);
    world_close_forwarder(world);
}

static void with_dead_letters(struct world *world)
{
    attached(world);
    world_put_unfit(world);
    world_put(world, 1, 2);
    world_put_unfit(world);
    send_what_waits(world);
    world_meddle(world, "UPDATE outbox_dead SET topic = 't', key = 'k', headers = 'a=b',"
                        " expires = -5000 WHERE number = 1");
}

static void with_epochs(struct world *world)
{
    with_dead_letters(world);
    must(world, "new epoch", outbox_new_epoch(world->box));
    world_put(world, 3, 2);
}

/* A key of two columns, one that is unique, a column of JSON, and a table without a rowid. */
static void with_tables(struct world *world)
{
    attached(world);
    world_meddle(world,
                 "CREATE TABLE pump(site TEXT NOT NULL, no INTEGER NOT NULL, name TEXT UNIQUE,"
                 " more TEXT, level REAL, PRIMARY KEY(site, no))");
    world_meddle(world, "CREATE TABLE valve(code TEXT PRIMARY KEY NOT NULL, open INTEGER)"
                        " WITHOUT ROWID");
    world_meddle(world,
                 "INSERT INTO pump VALUES('north', 1, 'a', '{}', 1.5), ('south', 2, 'b', '[', 2)");
    world_meddle(world, "INSERT INTO valve VALUES('x', 1), ('y', NULL)");
}

static int add_pump(struct world *world)
{
    static const char *const columns[] = {"site", "no", "name", "more", NULL};
    static const char *const key[] = {"no", NULL}, *const json[] = {"more", NULL};
    const outbox_capture pump = {.table = "pump",
                                 .topic = "pump/{site}",
                                 .columns = columns,
                                 .key_columns = key,
                                 .json_columns = json,
                                 .condition = "length(NEW.name) > 0 COLLATE NOCASE",
                                 .lane = OUTBOX_URGENT};
    return outbox_capture_add(world->box, &pump);
}

static int add_valve(struct world *world)
{
    const outbox_capture valve = {.table = "valve",
                                  .topic = "valve",
                                  .condition = "NEW.code REGEXP 1",
                                  .integers_as_text = 1};
    const outbox_capture fit = {.table = "valve", .topic = "valve", .integers_as_text = 1};
    int code = outbox_capture_add(world->box, &valve);
    return code == OUTBOX_MISUSE ? outbox_capture_add(world->box, &fit) : code;
}

static void with_captures(struct world *world)
{
    with_tables(world);
    must(world, "add", add_pump(world));
    must(world, "add", add_valve(world));
}

static void with_suspended(struct world *world)
{
    with_captures(world);
    must(world, "suspend", outbox_capture_suspend(world->box, NULL));
    world_meddle(world, "ALTER TABLE pump ADD COLUMN later");
}

static void with_drift(struct world *world)
{
    with_captures(world);
    world_meddle(world, "ALTER TABLE pump RENAME TO engine; ALTER TABLE valve ADD COLUMN later");
}

static void with_uses(struct world *world)
{
    with_captures(world);
    world_meddle(world,
                 "CREATE UNIQUE INDEX i ON pump(level DESC, name COLLATE NOCASE) WHERE no > 0");
    world_meddle(world, "CREATE TRIGGER e AFTER INSERT ON outbox_event BEGIN SELECT 1; END");
    world_meddle(world, "DROP TABLE valve");
}

/* ---- Calls ----------------------------------------------------------------------------------- */

static int put(struct world *world)
{
    static const outbox_header headers[] = {{"subject", "boiler"}, {"tenant", "7"}};
    const outbox_event event = {.topic = "t",
                                .payload = "9",
                                .payload_len = 1,
                                .content_type = "text/plain",
                                .type = "reading",
                                .key = "k",
                                .keep_last = 1,
                                .ttl_ms = 60000,
                                .correlation_id = "c",
                                .headers = headers,
                                .header_count = 2};
    return outbox_put(world->box, &event, NULL);
}

static int put_large(struct world *world)
{
    static const char bytes[250];
    const outbox_event event = {.topic = "t", .payload = bytes, .payload_len = sizeof bytes};
    return outbox_put(world->box, &event, NULL);
}

/* In a transaction of the application: what is before it stays, or all is rolled back. */
static int put_inside(struct world *world)
{
    int code = OUTBOX_SQLITE;
    if (world_run(world, "BEGIN IMMEDIATE; INSERT INTO own VALUES(77)") == SQLITE_OK)
        code = put(world);
    if (code == OUTBOX_OK && world_run(world, "COMMIT") != SQLITE_OK)
        code = OUTBOX_SQLITE;
    if (!sqlite3_get_autocommit(world->app) && world_run(world, "ROLLBACK") != SQLITE_OK)
        code = OUTBOX_SQLITE;
    return code;
}

static int requeue(struct world *world)
{
    return outbox_requeue(world->box, 1, NULL);
}

static int requeue_unfit(struct world *world)
{
    return outbox_requeue(world->box, 2, NULL);
}

static int purge_one(struct world *world)
{
    return outbox_purge(world->box, 2);
}

static int purge_all(struct world *world)
{
    return outbox_purge(world->box, 0);
}

static int begin_epoch(struct world *world)
{
    return outbox_new_epoch(world->box);
}

static void find(void *context, const char *lane, const char *sentence)
{
    call_hear(context, lane);
    call_hear(context, sentence);
}

static int verify(struct world *world)
{
    return outbox_verify(world->app, find, world);
}

static int statistics(struct world *world)
{
    outbox_statistics now;
    char sentence[100];
    int code = outbox_stats(world->box, &now);
    return code == OUTBOX_OK ? outbox_inspect(world->app, &now, sentence, sizeof sentence) : code;
}

static int remove_pump(struct world *world)
{
    return outbox_capture_remove(world->box, "pump");
}

static int suspend_all(struct world *world)
{
    return outbox_capture_suspend(world->box, NULL);
}

static int resume_pump(struct world *world)
{
    return outbox_capture_resume(world->box, "pump");
}

static int resume_all(struct world *world)
{
    return outbox_capture_resume(world->box, NULL);
}

static int snapshot_pump(struct world *world)
{
    return outbox_capture_snapshot(world->box, "pump", 0, NULL);
}

static int snapshot_valve(struct world *world)
{
    return outbox_capture_snapshot(world->box, "valve", 0, NULL);
}

static void hear(void *context, const outbox_capture *capture, outbox_capture_state state,
                 const char *sentence)
{
    char line[400]; /* no memory, which may just be out */
    sqlite3_snprintf((int)sizeof line, line, "%s %s %s %u %d %s", capture->table, capture->topic,
                     capture->condition, capture->operations, (int)state, sentence);
    call_hear(context, line);
    for (int i = 0; capture->columns && capture->columns[i]; i++)
        call_hear(context, capture->columns[i]);
}

static int list(struct world *world)
{
    return outbox_capture_list(world->app, hear, world);
}

static int doctor(struct world *world)
{
    return outbox_capture_doctor(world->app, find, world);
}

/* What the application writes to a table that is captured. */
static int change(struct world *world)
{
    return world_run(world, "REPLACE INTO pump VALUES('north', 1, 'b', 'null', 3)") == SQLITE_OK
               ? OUTBOX_OK
               : OUTBOX_SQLITE;
}

static int update(struct world *world)
{
    return world_run(world, "UPDATE OR REPLACE pump SET no = 1, site = 'north'") == SQLITE_OK
               ? OUTBOX_OK
               : OUTBOX_SQLITE;
}

/* ---- The other side -------------------------------------------------------------------------- */

static void with_inbox(struct world *world)
{
    attached(world);
    must(world, "inbox_open", inbox_open(world->app, NULL, &world->in));
}

static int open_inbox(struct world *world)
{
    char sentence[100];
    const inbox_config config = {sentence, sizeof sentence};
    inbox_close(world->in);
    world->in = NULL;
    return inbox_open(world->app, &config, &world->in);
}

/* From 8 on another epoch, and a gap in front of 12. */
static int accept_number(struct world *world, int64_t number, bool skips)
{
    char id[24];
    inbox_result result;
    inbox_event event = {.id.bytes = id, .has_sequence = 1, .has_previous = 1, .sequence = number};
    event.previous = number == 8 ? 0 : number == 12 ? 10 : number - 1;
    event.source.bytes = number < 8 ? "outbox://pump/0123456789abcdef/normal"
                                    : "outbox://pump/fedcba9876543210/normal";
    event.source.len = strlen(event.source.bytes);
    sqlite3_snprintf((int)sizeof id, id, "%lld", (long long)number);
    event.id.len = strlen(id);
    int code = world->in ? OUTBOX_OK : inbox_open(world->app, NULL, &world->in);
    if (code == OUTBOX_OK)
        code = skips ? inbox_skip(world->in, &event, &result)
                     : inbox_accept(world->in, &event, &result);
    return code;
}

static void with_streams(struct world *world)
{
    with_inbox(world);
    for (int64_t number = 5; number < 10; number++)
        must(world, "accept", accept_number(world, number, false));
}

static int accept_first(struct world *world)
{
    return accept_number(world, 5, false);
}

static int accept_next(struct world *world)
{
    return accept_number(world, 10, false);
}

static int skip_gap(struct world *world)
{
    return accept_number(world, 12, true);
}

static void hear_stream(void *context, const inbox_stream *stream)
{
    char line[400];
    sqlite3_snprintf((int)sizeof line, line, "%s %s %lld", stream->name, stream->epoch,
                     stream->mark);
    call_hear(context, line);
}

static int look_at_inbox(struct world *world)
{
    char sentence[100];
    int code = inbox_inspect(world->app, hear_stream, world, sentence, sizeof sentence);
    return code == OUTBOX_OK ? inbox_verify(world->app, find, world) : code;
}

/* ---- The table ------------------------------------------------------------------------------- */

#define ON(fault) (1u << FAULT_##fault)
#define WRITES (ON(ALLOC) | ON(READ) | ON(WRITE) | ON(SYNC) | ON(FULL) | ON(BUSY))
#define LOOKS (ON(ALLOC) | ON(BUSY))

/* What cannot be read of the journal is not durable. */
/* clang-format off */
const struct call calls[] = {
    {"put",                some_events,       put,            OUTBOX_OK,      0, WRITES, CALL_PUTS},
    {"put inside",         some_events,       put_inside,     OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"put, full",          full_of_events,    put,            OUTBOX_OK,      0, WRITES, CALL_PUTS},
    {"put inside, full",   full_of_events,    put_inside,     OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"put, full of bytes", full_of_bytes,     put_large,      OUTBOX_OK,      0, WRITES, CALL_PUTS},
    {"put, rejected",      full_and_shut,     put,            OUTBOX_FULL,    0, LOOKS, CALL_PUTS},
    {"requeue",            with_dead_letters, requeue,        OUTBOX_OK,      0, WRITES, CALL_PUTS},
    {"requeue unfit",      with_dead_letters, requeue_unfit,  OUTBOX_BAD_TOPIC, 0, ON(ALLOC), CALL_PUTS},
    {"purge one",          with_dead_letters, purge_one,      OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"purge all",          with_dead_letters, purge_all,      OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"new epoch",          some_events,       begin_epoch,    OUTBOX_OK,      BIT(OUTBOX_NOT_DURABLE), WRITES, CALL_SYNCS},
    {"verify",             with_epochs,       verify,         OUTBOX_OK,      0, LOOKS, CALL_LOOKS},
    {"look",               with_epochs,       statistics,     OUTBOX_OK,      0, LOOKS, CALL_LOOKS},
    {"capture",            with_tables,       add_pump,       OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"capture, no rowid",  with_tables,       add_valve,      OUTBOX_OK,      BIT(OUTBOX_MISUSE), WRITES, CALL_CHANGES},
    {"stop capturing",     with_captures,     remove_pump,    OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"suspend",            with_captures,     suspend_all,    OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"resume one",         with_suspended,    resume_pump,    OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"resume all",         with_suspended,    resume_all,     OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"resume drifted",     with_drift,        resume_all,     OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"snapshot",           with_captures,     snapshot_pump,  OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"snapshot, no rowid", with_captures,     snapshot_valve, OUTBOX_OK,      0, WRITES, CALL_CHANGES},
    {"list captures",      with_drift,        list,           OUTBOX_OK,      0, LOOKS, CALL_LOOKS},
    {"doctor",             with_uses,         doctor,         OUTBOX_DRIFT,   0, LOOKS, CALL_LOOKS},
    {"captured REPLACE",   with_captures,     change,         OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"captured UPDATE",    with_captures,     update,         OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"open inbox",         attached,          open_inbox,     OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"accept first",       with_inbox,        accept_first,   OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"accept",             with_streams,      accept_next,    OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"skip",               with_streams,      skip_gap,       OUTBOX_OK,      0, WRITES, CALL_OF_APP},
    {"look at inbox",      with_streams,      look_at_inbox,  OUTBOX_OK,      0, LOOKS, CALL_LOOKS},
};
/* clang-format on */
const int call_count = sizeof calls / sizeof calls[0];
