/* SPDX-License-Identifier: MIT
 *
 * support.c - the unit tests' database, clock, dice and link. Everything lives in a folder that
 * teardown removes.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- A database ------------------------------------------------------------------------------ */

int bench_open(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(bench->folder, sizeof bench->folder, "%s/outbox-unit-XXXXXX", parent);
    if (!mkdtemp(bench->folder))
        return -1;
    snprintf(bench->path, sizeof bench->path, "%s/plant.db", bench->folder);
    bench->db = bench_connect(bench);
    bench_sql(bench->db, "PRAGMA journal_mode = WAL; CREATE TABLE reading(value)");
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
    *state = bench;
    return 0;
}

int bench_close(void **state)
{
    struct bench *bench = *state;
    char command[128];
    outbox_forwarder_close(bench->forwarder);
    free(bench->memory);
    outbox_detach(bench->box);
    int own = sqlite3_close(bench->own), db = sqlite3_close(bench->db);
    snprintf(command, sizeof command, "rm -rf '%s'", bench->folder);
    int removed = system(command);
    free(bench);
    return own == SQLITE_OK && db == SQLITE_OK && removed == 0 ? 0 : -1;
}

void bench_reopen(struct bench *bench, const char *journal_mode, const char *synchronous)
{
    char sql[128];
    outbox_detach(bench->box);
    bench->box = NULL;
    if (!bench->forwarder) {
        /* A change from or to WAL needs the file for itself. */
        assert_int_equal(sqlite3_close(bench->own), SQLITE_OK);
        bench->own = NULL;
    }
    snprintf(sql, sizeof sql, "PRAGMA journal_mode = %s; PRAGMA synchronous = %s", journal_mode,
             synchronous);
    bench_sql(bench->db, sql);
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
}

sqlite3 *bench_connect(const struct bench *bench)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(bench->path, &db), SQLITE_OK);
    return db;
}

void bench_in_utf_16(struct bench *bench)
{
    outbox_detach(bench->box);
    assert_int_equal(sqlite3_close(bench->db), SQLITE_OK);
    assert_int_equal(remove(bench->path), 0);
    bench->db = bench_connect(bench);
    assert_int_equal(sqlite3_db_config(bench->db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 0, 0),
                     SQLITE_OK);
    bench_sql(bench->db, "PRAGMA encoding = 'UTF-16'");
    assert_int_equal(outbox_attach(bench->db, NULL, &bench->box), OUTBOX_OK);
}

static int starve_row(unsigned kind, void *start_of_sql, void *statement, void *text)
{
    const char *sql = sqlite3_sql(statement);
    (void)text;
    if (sql && strncmp(sql, start_of_sql, strlen(start_of_sql)) == 0)
        sqlite3_hard_heap_limit64(kind == SQLITE_TRACE_ROW ? sqlite3_memory_used() : 0);
    return 0;
}

void bench_starve(sqlite3 *db, const char *start_of_sql)
{
    static char start[64]; /* of the one database of a test */
    sqlite3_snprintf(sizeof start, start, "%s", start_of_sql ? start_of_sql : "");
    sqlite3_trace_v2(db, start_of_sql ? SQLITE_TRACE_ROW | SQLITE_TRACE_PROFILE : 0, starve_row,
                     start);
    sqlite3_hard_heap_limit64(0);
}

void bench_sql(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
}

int64_t bench_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return number;
}

char *bench_text(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    char *text = sqlite3_mprintf("%s", (const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    return text;
}

int64_t bench_put(struct bench *bench, const char *topic, const char *payload)
{
    int64_t id = 0;
    outbox_event event = {.topic = topic,
                          .payload = payload,
                          .payload_len = strlen(payload),
                          .content_type = "text/plain"};
    int code = outbox_put(bench->box, &event, &id);
    if (code != OUTBOX_OK)
        fail_msg("put: %s", outbox_errmsg(bench->box));
    return id;
}

/* ---- A clock and dice ------------------------------------------------------------------------ */

static uint32_t fake_now(void *context)
{
    return ((struct fake_port *)context)->now_ms;
}

static uint32_t fake_random(void *context)
{
    return ((struct fake_port *)context)->dice;
}

static void fake_log(void *context, outbox_level level, int code, const char *sentence)
{
    struct fake_port *fake = context;
    (void)code;
    fake->warnings += level == OUTBOX_LOG_WARNING;
    snprintf(fake->last_line, sizeof fake->last_line, "%s", sentence);
}

void fake_port_init(struct fake_port *fake)
{
    memset(fake, 0, sizeof *fake);
    fake->port = (outbox_port){1, fake, fake_now, fake_random, fake_log, fake};
    fake->now_ms = UINT32_MAX - 700; /* wraps in every test that lets a second pass */
    fake->dice = UINT32_MAX;
}

/* ---- A link ---------------------------------------------------------------------------------- */

static outbox_link_result fake_open(outbox_link *link)
{
    struct fake_link *fake = (struct fake_link *)link;
    assert_false(fake->is_open);
    fake->opens++;
    fake->is_open = !fake->refuse_open;
    if (fake->refuse_open && fake->refusal)
        fake_link_closed(fake, fake->refusal);
    return fake->is_open ? OUTBOX_LINK_OK : OUTBOX_LINK_DOWN;
}

static int64_t number_behind(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? (int64_t)strtoll(at + strlen(name), NULL, 10) : -1;
}

static outbox_link_result fake_publish(outbox_link *link, uint32_t token,
                                       const outbox_message *message)
{
    struct fake_link *fake = (struct fake_link *)link;
    assert_true(fake->is_open);
    if (fake->maximum_packet && message->payload_len > fake->maximum_packet)
        return OUTBOX_LINK_TOO_LARGE;
    if (fake->odd_answers > 0) {
        fake->odd_answers--;
        return (outbox_link_result)99;
    }
    if (fake->room == 0)
        return OUTBOX_LINK_AGAIN;
    if (fake->room > 0)
        fake->room--;
    if (fake->on_publish)
        fake->on_publish(fake->on_publish_context);
    assert_true(fake->sent_count < FAKE_SENT_MAX);
    struct fake_sent *sent = &fake->sent[fake->sent_count++];
    memset(sent, 0, sizeof *sent);
    sent->token = token;
    snprintf(sent->topic, sizeof sent->topic, "%s", message->topic);
    snprintf(sent->payload, sizeof sent->payload, "%.*s", (int)message->payload_len,
             (const char *)message->payload);
    sent->payload_len = message->payload_len;
    sent->fire_and_forget = message->fire_and_forget;
    sent->expiry_seconds = message->expiry_seconds;
    sent->id = number_behind(sent->payload, "\"id\":\"");
    sent->previous = number_behind(sent->payload, "\"previous\":\"");
    const char *source = strstr(sent->payload, "\"source\":\"");
    if (source)
        snprintf(sent->source, sizeof sent->source, "%.*s", (int)strcspn(source + 10, "\""),
                 source + 10);
    return OUTBOX_LINK_OK;
}

static outbox_link_result fake_poll(outbox_link *link, outbox_link_event *event)
{
    struct fake_link *fake = (struct fake_link *)link;
    if (fake->event_first == fake->event_end)
        return OUTBOX_LINK_AGAIN;
    *event = fake->events[fake->event_first++];
    return OUTBOX_LINK_OK;
}

static void fake_close(outbox_link *link)
{
    struct fake_link *fake = (struct fake_link *)link;
    fake->closes++;
    fake->is_open = fake->is_probed = false;
    fake->event_first = fake->event_end = 0;
}

static outbox_link_result fake_probe(outbox_link *link)
{
    struct fake_link *fake = (struct fake_link *)link;
    assert_true(fake->is_open);
    if (fake->is_probed)
        return OUTBOX_LINK_AGAIN;
    fake->is_probed = true;
    fake->probes++;
    return OUTBOX_LINK_OK;
}

static void fake_flush(outbox_link *link)
{
    struct fake_link *fake = (struct fake_link *)link;
    fake->flushes++;
    fake->flushed = fake->sent_count;
}

static uint32_t fake_next_ms(const outbox_link *link)
{
    return ((const struct fake_link *)link)->next_ms;
}

void fake_link_init(struct fake_link *fake)
{
    static const outbox_link_methods methods = {.version = 2,
                                                .flush = fake_flush,
                                                .next_ms = fake_next_ms,
                                                .open = fake_open,
                                                .publish = fake_publish,
                                                .poll = fake_poll,
                                                .close = fake_close,
                                                .probe = fake_probe};
    memset(fake, 0, sizeof *fake);
    fake->link.methods = &methods;
    fake->room = -1;
    fake->next_ms = OUTBOX_NEVER;
}

static outbox_link_event *new_event(struct fake_link *fake, outbox_link_event_kind kind)
{
    assert_true(fake->event_end < FAKE_SENT_MAX);
    outbox_link_event *event = &fake->events[fake->event_end++];
    memset(event, 0, sizeof *event);
    event->kind = kind;
    return event;
}

void fake_link_opened(struct fake_link *fake, unsigned receive_maximum)
{
    outbox_link_event *event = new_event(fake, OUTBOX_LINK_OPENED);
    fake->answered = fake->opens;
    event->receive_maximum = receive_maximum;
    event->maximum_qos = 1;
    event->protocol = fake->protocol ? fake->protocol : 5;
}

void fake_link_acked(struct fake_link *fake, uint32_t token, int reason)
{
    outbox_link_event *event = new_event(fake, OUTBOX_LINK_ACKED);
    event->token = token;
    event->reason = reason;
}

void fake_link_alive(struct fake_link *fake)
{
    assert_true(fake->is_probed);
    fake->is_probed = false;
    (void)new_event(fake, OUTBOX_LINK_ALIVE);
}

static outbox_link_event *new_closed(struct fake_link *fake, const char *sentence)
{
    outbox_link_event *event = new_event(fake, OUTBOX_LINK_CLOSED);
    snprintf(event->sentence, sizeof event->sentence, "%s", sentence);
    return event;
}

void fake_link_closed(struct fake_link *fake, const char *sentence)
{
    (void)new_closed(fake, sentence);
}

void fake_link_hung_up(struct fake_link *fake, const char *sentence)
{
    new_closed(fake, sentence)->by_peer = 1;
}

/* ---- A forwarder over all of it -------------------------------------------------------------- */

void rig_start(struct rig *rig, struct bench *bench, const outbox_forwarder_config *config)
{
    char sentence[200] = "";
    bool shared = config && config->shared_connection;
    size_t size = outbox_forwarder_size(config);
    assert_true(size > 0);
    memset(rig, 0, sizeof *rig);
    rig->bench = bench;
    fake_port_init(&rig->port);
    fake_link_init(&rig->link);
    if (!shared && !bench->own)
        bench->own = bench_connect(bench);
    bench->memory = malloc(size);
    int code = outbox_forwarder_init(bench->memory, size, shared ? bench->db : bench->own,
                                     &rig->link.link, &rig->port.port, config, &bench->forwarder,
                                     sentence, sizeof sentence);
    if (code != OUTBOX_OK)
        fail_msg("init: %s", sentence);
}

void rig_stop(struct rig *rig)
{
    outbox_forwarder_close(rig->bench->forwarder);
    rig->bench->forwarder = NULL;
    free(rig->bench->memory);
    rig->bench->memory = NULL;
}

int rig_step(struct rig *rig)
{
    return outbox_forwarder_step(rig->bench->forwarder, &rig->next_ms);
}

void rig_connect(struct rig *rig, unsigned receive_maximum)
{
    rig_step(rig);
    assert_true(rig->link.is_open);
    fake_link_opened(&rig->link, receive_maximum);
    rig_step(rig);
}

void rig_reconnect(struct rig *rig, unsigned receive_maximum)
{
    for (int i = 0; i < 1000; i++) {
        if (rig->link.is_open && rig->link.answered == rig->link.opens)
            return;
        if (rig->link.is_open)
            fake_link_opened(&rig->link, receive_maximum);
        rig_run(rig, 100);
    }
    fail_msg("the forwarder does not connect again");
}

void rig_run(struct rig *rig, uint32_t ms)
{
    uint32_t left = ms;
    for (int i = 0; i < 100000; i++) {
        rig_step(rig);
        if (rig->next_ms > left) {
            rig->port.now_ms += left;
            return;
        }
        /* A step that wants to be called at once must get on without time. */
        rig->port.now_ms += rig->next_ms;
        left -= rig->next_ms;
    }
    fail_msg("the forwarder does not come to rest");
}

void rig_ack_from(struct rig *rig, int from)
{
    for (int i = from; i < rig->link.sent_count; i++)
        fake_link_acked(&rig->link, rig->link.sent[i].token, 0);
    rig_run(rig, 1100);
}

outbox_statistics rig_stats(struct rig *rig)
{
    outbox_statistics statistics = {0};
    assert_int_equal(outbox_inspect(rig->bench->db, &statistics, NULL, 0), OUTBOX_OK);
    outbox_forwarder_stats(rig->bench->forwarder, &statistics);
    return statistics;
}
