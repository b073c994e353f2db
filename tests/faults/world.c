/* SPDX-License-Identifier: MIT
 *
 * world.c - what the scenarios do, and what must be true of it.
 */
#include "faults/world.h"

#include <outbox/capture.h>

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_TO_DRAIN = 600, LONGEST_PAUSE_MS = 60000 };

void world_fail(struct world *world, const char *format, ...)
{
    va_list arguments;
    if (world->failed)
        return; /* the first one tells most */
    world->failed = true;
    va_start(arguments, format);
    (void)vsnprintf(world->sentence, sizeof world->sentence, format, arguments);
    va_end(arguments);
}

/* ---- Codes ----------------------------------------------------------------------------------- */

#define DATABASE                                                                                   \
    (BIT(OUTBOX_OK) | BIT(OUTBOX_BUSY) | BIT(OUTBOX_DISK_FULL) | BIT(OUTBOX_READONLY) |            \
     BIT(OUTBOX_CORRUPT) | BIT(OUTBOX_NO_MEMORY) | BIT(OUTBOX_SQLITE))

int world_code(struct world *world, const char *call, int code, uint64_t more)
{
    if (code > 0 || code < OUTBOX_DRIFT || !((DATABASE | more) & BIT(code)))
        world_fail(world, "%s answered %d", call, code);
    return code;
}

/* ---- The link and its broker ----------------------------------------------------------------- */

static struct world *world_of(outbox_link *link)
{
    return (struct world *)(void *)((char *)link - offsetof(struct world, link));
}

static outbox_link_result on_open(outbox_link *link)
{
    struct world *world = world_of(link);
    if (!world->device.powered || fault_strikes(FAULT_LINK))
        return OUTBOX_LINK_DOWN;
    world->is_open = world->is_opening = true;
    world->first = world->end = 0;
    return OUTBOX_LINK_OK;
}

static void arrive(struct world *world, int number)
{
    if (number < 0 || number >= EVENTS_MAX ||
        (world->fate[number] != COMMITTED && world->fate[number] != IN_DOUBT)) {
        world_fail(world, "event %d is sent and nobody committed it", number);
        return;
    }
    if (world->is_accepted[number])
        return;
    if (number < world->last_first && number != world->refused)
        world_fail(world, "event %d arrives behind %d", number, world->last_first);
    world->last_first = number;
    world->is_accepted[number] = true;
}

/* False for what is no event of a number: announcements, and what was never stored. */
static bool read_number(struct world *world, const outbox_message *message, int *number)
{
    char text[100];
    size_t len = message->payload_len < sizeof text ? message->payload_len : sizeof text - 1;
    memcpy(text, message->payload, len);
    text[len] = '\0';
    *number = atoi(text);
    if (message->topic[0] == 'f' || strcmp(message->topic, "dropped") == 0) {
        if (!(message->topic[0] == 'f' ? world->fires : world->announces))
            world_fail(world, "nobody wants a message of topic %s", message->topic);
        return false;
    }
    if (message->topic[0] != 'c')
        return true;
    const char *value = strstr(text, "\"number\":");
    int captured = value ? atoi(value + strlen("\"number\":")) : -1;
    if (captured < world->captured_from || captured >= EVENTS_MAX ||
        (world->fate[captured] != COMMITTED && world->fate[captured] != IN_DOUBT))
        world_fail(world, "a change nobody made is sent: %s", text);
    else
        world->is_captured[captured] = true;
    return false;
}

static outbox_link_result on_publish(outbox_link *link, uint32_t token,
                                     const outbox_message *message)
{
    struct world *world = world_of(link);
    int number;
    if (!world->device.powered || !world->is_open || fault_strikes(FAULT_LINK)) {
        world->is_open = false;
        world->is_closing = true;
        return OUTBOX_LINK_DOWN;
    }
    if (fault_strikes(FAULT_ROOM))
        return OUTBOX_LINK_AGAIN;
    bool is_event = read_number(world, message, &number);
    bool refuses =
        is_event && number > 0 && (number == world->refuse_once || number == world->refuse_always);
    bool is_unfit = refuses && number == world->refuse_always;
    if (is_unfit) {
    } else if (refuses) { /* those that were sent behind it arrive before it */
        world->refused = number;
        world->refuse_once = 0;
    } else if (is_event)
        arrive(world, number);
    assert(world->end < TOKENS);
    world->tokens[world->end] = token;
    world->reasons[world->end++] = is_unfit ? 0x99 : refuses ? 0x97 : 0;
    return OUTBOX_LINK_OK;
}

static outbox_link_result on_poll(outbox_link *link, outbox_link_event *event)
{
    struct world *world = world_of(link);
    *event = (outbox_link_event){
        .kind = OUTBOX_LINK_OPENED, .receive_maximum = 65535, .maximum_qos = 1, .protocol = 5};
    if (world->is_closing) {
        *event = (outbox_link_event){.kind = OUTBOX_LINK_CLOSED, .sentence = "gone"};
    } else if (world->is_open && !world->is_opening && world->is_probed) {
        *event = (outbox_link_event){.kind = OUTBOX_LINK_ALIVE};
        world->is_probed = false;
    } else if (!world->is_opening) {
        if (!world->is_open || world->first == world->end)
            return OUTBOX_LINK_AGAIN;
        *event = (outbox_link_event){.kind = OUTBOX_LINK_ACKED,
                                     .token = world->tokens[world->first],
                                     .reason = world->reasons[world->first]};
    }
    world->first += event->kind == OUTBOX_LINK_ACKED;
    world->is_opening = world->is_closing = false;
    return OUTBOX_LINK_OK;
}

static void on_close(outbox_link *link)
{
    struct world *world = world_of(link);
    world->is_open = world->is_opening = world->is_closing = world->is_probed = false;
    world->first = world->end = 0;
}

static outbox_link_result on_probe(outbox_link *link)
{
    struct world *world = world_of(link);
    if (!world->is_open)
        return OUTBOX_LINK_DOWN;
    if (world->is_probed)
        return OUTBOX_LINK_AGAIN;
    world->is_probed = true;
    return OUTBOX_LINK_OK;
}

/* ---- The application ------------------------------------------------------------------------- */

int world_run(struct world *world, const char *sql)
{
    return sqlite3_exec(world->app, sql, NULL, NULL, NULL);
}

static bool connect(struct world *world)
{
    char sql[64];
    sqlite3_snprintf(sizeof sql, sql, "PRAGMA journal_mode = %s", world->mode->journal);
    /* In WAL the file says so itself. */
    bool is_wal = strcmp(world->mode->journal, "WAL") == 0;
    return sqlite3_open_v2("app.db", &world->app, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                           device_vfs_name(PROCESS_APP)) == SQLITE_OK &&
           world_run(world, "PRAGMA synchronous = FULL") == SQLITE_OK &&
           (is_wal || world_run(world, sql) == SQLITE_OK) &&
           sqlite3_busy_timeout(world->app, 3) == SQLITE_OK;
}

void world_close_app(struct world *world)
{
    if (world->mode->is_shared || world->is_bound)
        world_close_forwarder(world);
    inbox_close(world->in);
    world->in = NULL;
    outbox_detach(world->box);
    world->box = NULL;
    if (world->app && sqlite3_close(world->app) != SQLITE_OK)
        world_fail(world, "the application's connection does not close");
    world->app = NULL;
}

bool world_open_app(struct world *world)
{
    char sentence[200] = "";
    outbox_config config = {.device = world->name,
                            .limits = {[OUTBOX_NORMAL] = world->limit},
                            .sentence = sentence,
                            .sentence_size = sizeof sentence};
    int code = OUTBOX_SQLITE;
    config.small_heap = world->mode->small_heap;
    if (connect(world)) {
        code = outbox_attach(world->app, &config, &world->box);
        (void)world_code(world, "attach", code, 0);
        if (code != OUTBOX_OK && !sentence[0])
            world_fail(world, "attach answered %d without a sentence", code);
        if ((code == OUTBOX_OK) != (world->box != NULL))
            world_fail(world, "attach answered %d and gave %p", code, (void *)world->box);
    }
    if (code != OUTBOX_OK)
        world_close_app(world);
    return code == OUTBOX_OK;
}

static void set_fates(struct world *world, int first, int count, enum fate fate)
{
    for (int number = first; number < first + count; number++)
        if (world->fate[number] != ABORTED || fate == ABORTED)
            world->fate[number] = fate;
}

/* After an error in a transaction. */
static void give_up(struct world *world, int first, int count)
{
    if (!sqlite3_get_autocommit(world->app) && world_run(world, "ROLLBACK") != SQLITE_OK &&
        !sqlite3_get_autocommit(world->app))
        world_close_app(world); /* ends it in every case */
    set_fates(world, first, count, ABORTED);
}

static bool put_one(struct world *world, int number)
{
    char text[64];
    sqlite3_snprintf(sizeof text, text, "INSERT INTO own VALUES(%d)", number);
    if (world_run(world, text) != SQLITE_OK)
        return false;
    sqlite3_snprintf(sizeof text, text, "%d", number);
    int code = outbox_put(world->box,
                          &(outbox_event){.topic = "t",
                                          .payload = text,
                                          .payload_len = strlen(text),
                                          .content_type = "text/plain"},
                          NULL);
    return world_code(world, "put", code, 0) == OUTBOX_OK;
}

static void commit(struct world *world, int first, int count)
{
    set_fates(world, first, count, IN_DOUBT);
    int result = world_run(world, "COMMIT");
    if (result == SQLITE_OK)
        set_fates(world, first, count, COMMITTED);
    else if (!sqlite3_get_autocommit(world->app) && world_run(world, "ROLLBACK") != SQLITE_OK &&
             !sqlite3_get_autocommit(world->app))
        world_close_app(world);
}

void world_put(struct world *world, int first, int count)
{
    assert(first > 0 && first + count <= EVENTS_MAX);
    if (!world->box || world_run(world, "BEGIN IMMEDIATE") != SQLITE_OK)
        return;
    for (int number = first; number < first + count; number++)
        if (!put_one(world, number)) {
            give_up(world, first, count);
            return;
        }
    commit(world, first, count);
}

void world_put_savepoint(struct world *world, int first)
{
    if (!world->box || world_run(world, "BEGIN IMMEDIATE") != SQLITE_OK)
        return;
    world->fate[first + 1] = ABORTED;
    if (!put_one(world, first) || world_run(world, "SAVEPOINT s") != SQLITE_OK ||
        !put_one(world, first + 1) || world_run(world, "ROLLBACK TO s; RELEASE s") != SQLITE_OK ||
        sqlite3_get_autocommit(world->app) || !put_one(world, first + 2))
        give_up(world, first, 3);
    else
        commit(world, first, 3);
}

void world_meddle(struct world *world, const char *sql)
{
    if (world_run(world, sql) != SQLITE_OK)
        world_fail(world, "%s: %s", sql, sqlite3_errmsg(world->app));
}

void world_put_unfit(struct world *world)
{
    world_meddle(world, "INSERT INTO outbox_event(topic, payload) VALUES('no#topic', 'x')");
    world->dead++;
}

void world_put_unstored(struct world *world)
{
    world->fires = true;
    if (!world->box || !world->forwarder)
        return;
    if (!world->is_bound)
        world->is_bound =
            world_code(world, "bind", outbox_forwarder_bind(world->forwarder, world->box), 0) ==
            OUTBOX_OK;
    const outbox_event event = {
        .topic = "f", .payload = "0", .payload_len = 1, .fire_and_forget = 1};
    (void)world_code(world, "put to fire", outbox_put(world->box, &event, NULL), BIT(OUTBOX_FULL));
}

void world_capture(struct world *world, int from)
{
    const outbox_capture own = {.table = "own", .topic = "c/{number}"};
    if (outbox_capture_add(world->box, &own) != OUTBOX_OK)
        world_fail(world, "the table cannot be captured: %s", outbox_errmsg(world->box));
    world->captured_from = from;
}

void world_put_at(struct world *world, int number, int64_t id)
{
    char sql[200];
    sqlite3_snprintf(sizeof sql, sql,
                     "BEGIN IMMEDIATE; INSERT INTO own VALUES(%d); INSERT INTO outbox_event"
                     "(id, topic, payload) VALUES(%lld, 't', '%d'); COMMIT",
                     number, (long long)id, number);
    world_meddle(world, sql);
    world->fate[number] = COMMITTED;
}

void world_statistics(struct world *world)
{
    outbox_statistics now;
    char sentence[200] = "";
    if (!world->box)
        return;
    (void)world_code(world, "stats", outbox_stats(world->box, &now), 0);
    int code = outbox_inspect(world->app, &now, sentence, sizeof sentence);
    if (world_code(world, "inspect", code, 0) != OUTBOX_OK && !sentence[0])
        world_fail(world, "inspect answered %d without a sentence", code);
}

/* ---- The forwarder --------------------------------------------------------------------------- */

static uint32_t now_ms(void *context)
{
    return (uint32_t)(((struct world *)context)->device.now_us / 1000);
}

static uint32_t dice(void *context)
{
    (void)context;
    return 1;
}

static bool init(struct world *world, sqlite3 *db)
{
    static outbox_port port;
    static const outbox_forwarder_config config = {
        .mode = OUTBOX_PLAIN, .settle_batch = 5, .settle_quiet_ms = 10, .payload_max = 400};
    outbox_forwarder_config mine = config;
    char sentence[200] = "";
    mine.shared_connection = world->mode->is_shared;
    mine.announce_topic = world->announces ? "dropped" : "";
    mine.fire_bytes = world->fires ? 1024 : 0;
    if (world->payload_max > 0)
        mine.payload_max = world->payload_max;
    mine.small_heap = world->mode->small_heap;
    port = (outbox_port){.version = 1, .context = world, .now_ms = now_ms, .random = dice};
    size_t size = outbox_forwarder_size(&mine);
    world->memory = malloc(size);
    if (!world->memory)
        abort();
    int code = outbox_forwarder_init(world->memory, size, db, &world->link, &port, &mine,
                                     &world->forwarder, sentence, sizeof sentence);
    if (world_code(world, "init", code, 0) != OUTBOX_OK && !sentence[0])
        world_fail(world, "init answered %d without a sentence", code);
    return code == OUTBOX_OK;
}

bool world_open_forwarder(struct world *world)
{
    if (world->mode->is_shared && !world->box)
        return false;
    bool opened =
        world->mode->is_shared || sqlite3_open_v2("app.db", &world->own, SQLITE_OPEN_READWRITE,
                                                  device_vfs_name(PROCESS_FORWARDER)) == SQLITE_OK;
    opened = opened && init(world, world->mode->is_shared ? world->app : world->own);
    if (!opened)
        world_close_forwarder(world);
    return opened;
}

void world_close_forwarder(struct world *world)
{
    if (world->is_bound)
        (void)world_code(world, "stop", outbox_stop(world->box), 0);
    else
        outbox_forwarder_close(world->forwarder);
    world->is_bound = false;
    world->forwarder = NULL;
    free(world->memory);
    world->memory = NULL;
    if (world->own && sqlite3_close(world->own) != SQLITE_OK)
        world_fail(world, "the forwarder's connection does not close");
    world->own = NULL;
}

void world_step(struct world *world, int steps)
{
    for (int i = 0; i < steps && world->device.powered; i++) {
        uint32_t next_ms = 0;
        if (!world->forwarder && !world_open_forwarder(world)) {
            world->device.now_us += 100000;
            continue;
        }
        int code = outbox_forwarder_step(world->forwarder, &next_ms);
        (void)world_code(world, "step", code, BIT(OUTBOX_LINK) | BIT(OUTBOX_REFUSED));
        bool in_wal = strcmp(world->mode->journal, "WAL") == 0;
        enum process process = world->mode->is_shared ? PROCESS_APP : PROCESS_FORWARDER;
        if (world->device.powered && device_locks(&world->device, process, in_wal) > 0)
            world_fail(world, "the forwarder holds a lock after its step");
        world->device.now_us +=
            1000 * (uint64_t)(next_ms < LONGEST_PAUSE_MS ? next_ms : LONGEST_PAUSE_MS) + 100;
    }
}

/* ---- Begin and end --------------------------------------------------------------------------- */

void world_begin(struct world *world, const struct mode *mode)
{
    static const outbox_link_methods methods = {.version = 1,
                                                .open = on_open,
                                                .publish = on_publish,
                                                .poll = on_poll,
                                                .close = on_close,
                                                .probe = on_probe};
    memset(world, 0, sizeof *world);
    world->mode = mode;
    world->name = "pump";
    world->link.methods = &methods;
    device_init(&world->device);
    const char *encoding = "PRAGMA encoding = 'UTF-8'";
    world->device.has_shared_memory = !mode->is_shared;
    char sql[64];
    sqlite3_snprintf(sizeof sql, sql, "PRAGMA journal_mode = %s", mode->journal);
    if (mode->is_in_utf_16)
        encoding = "PRAGMA encoding = 'UTF-16'";
    if (!connect(world) || world_run(world, encoding) != SQLITE_OK ||
        world_run(world, sql) != SQLITE_OK ||
        world_run(world, "CREATE TABLE own(number INTEGER PRIMARY KEY)") != SQLITE_OK)
        world_fail(world, "the database cannot be made");
    world_close_app(world);
    disk_sync_directory(&world->device.disk);
    world->device.before = fault_before_call;
}

void world_close(struct world *world)
{
    world_close_forwarder(world);
    world_close_app(world);
}

void world_end(struct world *world)
{
    world->device.before = NULL;
    if (device_open_files(&world->device) != 0)
        world_fail(world, "%u files stay open", device_open_files(&world->device));
    else
        device_free(&world->device);
}

/* ---- What must be true ----------------------------------------------------------------------- */

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    int64_t value = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        value = sqlite3_column_int64(s, 0);
    (void)sqlite3_finalize(s);
    return value;
}

static int count_arrived(const struct world *world)
{
    int count = 0;
    for (int event = 0; event < EVENTS_MAX; event++)
        count += world->is_accepted[event] + world->is_captured[event];
    return count;
}

static void drain(struct world *world)
{
    outbox_statistics now = {.pending = -1};
    for (int i = 0; i < STEPS_TO_DRAIN && now.pending != 0; i++) {
        world_step(world, 1);
        if (outbox_stats(world->box, &now) != OUTBOX_OK)
            now.pending = -1; /* as while the tombstone is gone */
    }
    if (now.pending != 0)
        world_fail(world, "%lld events stay, and nothing is in the way", (long long)now.pending);
    if (now.dead_lettered != world->dead ||
        number(world->app, "SELECT count(*) FROM outbox_dead") != world->dead)
        world_fail(world, "%lld dead letters, not %d", (long long)now.dead_lettered, world->dead);
    int64_t dropped = now.expired + now.evicted;
    if (world->announces ? now.delivered + dropped < count_arrived(world)
                         : !world->counts_are_gone && now.delivered != count_arrived(world))
        world_fail(world, "%lld events count as delivered, and %d arrived",
                   (long long)now.delivered, count_arrived(world));
    if (now.accepted != now.pending + now.delivered + now.dead_lettered + dropped)
        world_fail(world, "the counts do not add up");
    if (dropped > 0 && !world->may_drop)
        world_fail(world, "events were dropped");
    world->dropped = (int)dropped;
}

static void check_fate(struct world *world, int event, bool is_there)
{
    if (world->fate[event] == COMMITTED && !is_there)
        world_fail(world, "event %d was committed and is gone", event);
    if (world->fate[event] == ABORTED && is_there)
        world_fail(world, "event %d was rolled back and is there", event);
}

static void check_change(struct world *world, int event, bool is_there)
{
    bool is_sent = world->captured_from > 0 && event >= world->captured_from &&
                   world->payload_max == 0; /* else it is a dead letter */
    if (is_sent && is_there != world->is_captured[event])
        world_fail(world, "row %d is%s there, and its change did%s arrive", event,
                   is_there ? "" : " not", world->is_captured[event] ? "" : " not");
}

static void check_events(struct world *world)
{
    char sql[64];
    int missing = 0;
    for (int event = 1; event < EVENTS_MAX; event++) {
        sqlite3_snprintf(sizeof sql, sql, "SELECT count(*) FROM own WHERE number = %d", event);
        bool is_there = number(world->app, sql) == 1;
        check_fate(world, event, is_there);
        check_change(world, event, is_there);
        if (is_there == world->is_accepted[event] || (is_there && event == world->refuse_always))
            continue;
        missing += is_there;
        if (!is_there || missing > world->dropped)
            world_fail(world, "event %d: its transaction is%s there, and it did%s arrive", event,
                       is_there ? "" : " not", world->is_accepted[event] ? "" : " not");
    }
}

void world_check(struct world *world)
{
    world_close(world);
    if (!world_open_app(world)) {
        world_fail(world, "the application cannot attach any more");
        return;
    }
    if (world->is_blocked)
        world_meddle(world, "UPDATE outbox_event SET payload = 7 WHERE length(payload) > 60000");
    world_put(world, EVENTS_MAX - 1, 1);
    if (world->fate[EVENTS_MAX - 1] != COMMITTED)
        world_fail(world, "the application cannot put any more");
    drain(world);
    check_events(world);
    if (number(world->app, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") != 1)
        world_fail(world, "the database is damaged");
    world_close(world);
}
