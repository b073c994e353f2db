/* SPDX-License-Identifier: MIT
 *
 * device.c - the simulated device. It runs in one thread without a clock, so every run is the same.
 */
#include "device.h"

#include "cortex_m/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAYLOAD = 100, HEAP = 8 << 20, ROUNDS = 400 };

struct settings device_settings(void)
{
    return (struct settings){
        .sector_size = 4096,
        .sectors = 64,
        .unit = 1,
        .page_size = 512,
        .pages = 200,
        .batch_pages = 64,
        .per_transaction = 1,
        .pragmas = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = EXTRA;"
                   "PRAGMA cache_spill = OFF; PRAGMA cache_size = 16",
    };
}

/* SQLite is built as for the firmware, without an operating system below it. */
int sqlite3_os_init(void)
{
    return SQLITE_OK;
}

int sqlite3_os_end(void)
{
    return SQLITE_OK;
}

void device_begin(void)
{
    static uint64_t heap[HEAP / 8];
    if (outbox_heap_give(heap, HEAP) != SQLITE_OK)
        abort();
}

/* ---- The broker ------------------------------------------------------------------------------ */

static struct device *device_of(outbox_link *link)
{
    return (struct device *)((char *)link - offsetof(struct device, broker.link));
}

static outbox_link_result broker_open(outbox_link *link)
{
    struct device *device = device_of(link);
    if (device->is_offline)
        return OUTBOX_LINK_DOWN;
    device->broker.is_open = true;
    device->broker.is_opened = false;
    device->broker.first = device->broker.end = 0;
    return OUTBOX_LINK_OK;
}

static void complain(struct device *device, const char *what)
{
    if (!device->history.complaint)
        device->history.complaint = what;
}

static outbox_link_result broker_publish(outbox_link *link, uint32_t token,
                                         const outbox_message *message)
{
    struct device *device = device_of(link);
    struct history *history = &device->history;
    char text[PAYLOAD + 1] = "";
    if (device->broker.end == (int)(sizeof device->broker.tokens / sizeof(uint32_t)))
        return OUTBOX_LINK_AGAIN;
    memcpy(text, message->payload, message->payload_len < PAYLOAD ? message->payload_len : PAYLOAD);
    const int number = atoi(text);
    if (number > history->committed)
        complain(device, "an event was sent that is not committed");
    if (number > history->received + 1)
        complain(device, "an event is missing");
    history->duplicates += number <= history->received;
    if (number == history->received + 1)
        history->received++;
    device->broker.tokens[device->broker.end++] = token;
    return OUTBOX_LINK_OK;
}

static outbox_link_result broker_poll(outbox_link *link, outbox_link_event *event)
{
    struct device *device = device_of(link);
    if (!device->broker.is_open)
        return OUTBOX_LINK_AGAIN;
    memset(event, 0, sizeof *event);
    if (!device->broker.is_opened) {
        device->broker.is_opened = true;
        event->kind = OUTBOX_LINK_OPENED;
        event->receive_maximum = 100;
        event->maximum_qos = 1;
        event->protocol = 5;
        return OUTBOX_LINK_OK;
    }
    if (device->broker.first == device->broker.end) {
        device->broker.first = device->broker.end = 0;
        return OUTBOX_LINK_AGAIN;
    }
    event->kind = OUTBOX_LINK_ACKED;
    event->token = device->broker.tokens[device->broker.first++];
    return OUTBOX_LINK_OK;
}

static void broker_close(outbox_link *link)
{
    device_of(link)->broker.is_open = false;
}

static outbox_link_result broker_probe(outbox_link *link)
{
    (void)link;
    return OUTBOX_LINK_AGAIN;
}

static const outbox_link_methods broker_methods = {.version = 1,
                                                   .open = broker_open,
                                                   .publish = broker_publish,
                                                   .poll = broker_poll,
                                                   .close = broker_close,
                                                   .probe = broker_probe};

/* ---- What a port brings ---------------------------------------------------------------------- */

static uint32_t now_ms(void *context)
{
    return ((struct device *)context)->now_ms;
}

static uint32_t same_number(void *context)
{
    (void)context;
    return 7;
}

static int64_t wall_ms(void *context)
{
    return INT64_C(1800000000000) + ((struct device *)context)->now_ms;
}

static void some_bytes(void *context, void *data, size_t size)
{
    (void)context;
    memset(data, 0x5a, size);
}

static void count_trouble(void *context, outbox_flash_trouble trouble, uint32_t sector)
{
    (void)sector;
    ((struct device *)context)->troubles |= 1u << trouble;
}

/* ---- Start and stop -------------------------------------------------------------------------- */

static const outbox_forwarder_config forwarding = {
    .mode = OUTBOX_PLAIN,
    .shared_connection = 1,
    .window = 10,
    .settle_batch = 32,
    .payload_max = 256,
    .foreign_check_ms = OUTBOX_NEVER,
    .backoff_min_ms = 10,
    .backoff_max_ms = 10,
    .announce_topic = "",
};

void device_init(struct device *device, const struct settings *settings, const char *name)
{
    memset(device, 0, sizeof *device);
    device->settings = *settings;
    nor_init(&device->nor, settings->sector_size, settings->sectors, settings->unit);
    if (settings->pages == 0)
        device->settings.pages =
            outbox_flash_capacity(&device->nor.driver, settings->page_size) - settings->batch_pages;
    settings = &device->settings;
    device->memory = malloc(OUTBOX_FLASH_MEMORY(settings->sectors, settings->page_size,
                                                settings->pages, settings->batch_pages));
    device->forwarder_memory = malloc(outbox_forwarder_size(&forwarding));
    device->broker.link.methods = &broker_methods;
    snprintf(device->name, sizeof device->name, "%s", name);
    if (!device->memory || !device->forwarder_memory)
        abort();
}

void device_free(struct device *device)
{
    device_stop(device);
    nor_free(&device->nor);
    free(device->memory);
    free(device->forwarder_memory);
}

static bool succeeded(struct device *device, int code)
{
    if (code != 0)
        device->last_code = code;
    return code == 0;
}

static bool run(struct device *device, const char *sql)
{
    return succeeded(device, sqlite3_exec(device->db, sql, NULL, NULL, NULL));
}

static bool open_database(struct device *device)
{
    const struct settings *settings = &device->settings;
    const outbox_flash_config config = {.driver = &device->nor.driver,
                                        .page_size = settings->page_size,
                                        .pages = settings->pages,
                                        .batch_pages = settings->batch_pages,
                                        .report = count_trouble,
                                        .report_context = device};
    const size_t size = OUTBOX_FLASH_MEMORY(settings->sectors, settings->page_size, settings->pages,
                                            settings->batch_pages);
    if (!succeeded(device, (int)outbox_flash_mount(device->memory, size, &config, &device->log)))
        return false;
    const outbox_flash_vfs_config face = {.log = device->log,
                                          .name = device->name,
                                          .wall_ms = wall_ms,
                                          .random = some_bytes,
                                          .context = device,
                                          .take_lone_pages = settings->take_lone_pages};
    return succeeded(device, outbox_flash_vfs_register(&device->vfs, &face)) &&
           succeeded(device,
                     sqlite3_open_v2(device->name, &device->db,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, device->name)) &&
           run(device, settings->pragmas);
}

/* In small transactions, as it may be more than one batch can change. */
static bool make_tables(struct device *device)
{
    char sql[160];
    int64_t rows;
    if (!run(device, "CREATE TABLE IF NOT EXISTS reading(n INTEGER PRIMARY KEY, value REAL);"
                     "CREATE TABLE IF NOT EXISTS ballast(k INTEGER PRIMARY KEY, n, filling)"))
        return false;
    while ((rows = device_number(device, "SELECT count(*) FROM ballast")) <
           device->settings.ballast) {
        snprintf(sql, sizeof sql, "INSERT INTO ballast VALUES(%d, 0, randomblob(400))", (int)rows);
        if (rows < 0 || !run(device, sql))
            return false;
    }
    return true;
}

static bool start_outbox(struct device *device)
{
    device->port =
        (outbox_port){.version = 1, .context = device, .now_ms = now_ms, .random = same_number};
    return make_tables(device) &&
           succeeded(device, outbox_attach(device->db, NULL, &device->box)) &&
           succeeded(device, outbox_forwarder_init(device->forwarder_memory,
                                                   outbox_forwarder_size(&forwarding), device->db,
                                                   &device->broker.link, &device->port, &forwarding,
                                                   &device->forwarder, NULL, 0)) &&
           succeeded(device, outbox_forwarder_bind(device->forwarder, device->box));
}

bool device_start(struct device *device)
{
    return open_database(device) && start_outbox(device);
}

void device_stop(struct device *device)
{
    if (device->box)
        outbox_detach(device->box); /* closes the forwarder */
    if (sqlite3_close(device->db) != SQLITE_OK)
        complain(device, "the connection cannot be closed");
    if (device->vfs.base.zName && sqlite3_vfs_unregister(&device->vfs.base) != SQLITE_OK)
        complain(device, "the VFS cannot be unregistered");
    device->box = NULL;
    device->forwarder = NULL;
    device->db = NULL;
    device->vfs.base.zName = NULL;
    device->broker.is_open = false;
}

/* ---- Work ------------------------------------------------------------------------------------ */

static bool put(struct device *device, int number)
{
    char sql[200], payload[PAYLOAD + 1];
    snprintf(sql, sizeof sql, "INSERT INTO reading VALUES(%d, %d.5)", number, number);
    snprintf(payload, sizeof payload, "%-100d", number);
    const outbox_event event = {
        .topic = "plant/7/line/3/tempera01", .payload = payload, .payload_len = PAYLOAD};
    return (device->settings.only_events || run(device, sql)) &&
           succeeded(device, outbox_put(device->box, &event, NULL));
}

/* Which rows follows from the number of the transaction, so that each run is the same. */
static bool rewrite(struct device *device, int number)
{
    const struct settings *settings = &device->settings;
    char sql[200];
    for (int i = 0; i < settings->rewrites; i++) {
        snprintf(sql, sizeof sql, "UPDATE ballast SET n = %d WHERE k = %d", number,
                 (number * 31 + i * 17) % settings->ballast);
        if (!run(device, sql))
            return false;
    }
    return true;
}

static bool transact(struct device *device)
{
    struct history *history = &device->history;
    history->attempted = history->committed;
    if (!run(device, "BEGIN IMMEDIATE"))
        return false;
    bool works = true;
    for (int i = 0; i < device->settings.per_transaction && works; i++)
        works = put(device, ++history->attempted);
    works = works && rewrite(device, history->attempted);
    if (works && run(device, "COMMIT")) {
        history->committed = history->attempted;
        return true;
    }
    if (!sqlite3_get_autocommit(device->db))
        (void)run(device, "ROLLBACK"); /* it fails where the power is gone */
    return false;
}

void device_step(struct device *device, int steps)
{
    uint32_t next;
    for (int i = 0; i < steps; i++, device->now_ms += 20)
        (void)outbox_forwarder_step(device->forwarder, &next);
}

bool device_work(struct device *device)
{
    if (!transact(device))
        return false;
    device_step(device, 3);
    return !device->nor.is_off;
}

bool device_drain(struct device *device)
{
    for (int i = 0; i < ROUNDS; i++) {
        device_step(device, 10);
        if (device->history.received == device->history.committed &&
            device_number(device, "SELECT count(*) FROM outbox_pending") == 0)
            return true;
    }
    return false;
}

int64_t device_number(struct device *device, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;
    if (sqlite3_prepare_v2(device->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return number;
}

/* ---- Judging --------------------------------------------------------------------------------- */

static const char *judge_integrity(struct device *device)
{
    const char *wrong = "the integrity check failed";
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(device->db, "PRAGMA integrity_check", -1, &statement, NULL) ==
            SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW &&
        strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0)
        wrong = NULL;
    (void)sqlite3_finalize(statement);
    return wrong;
}

/* The application goes on counting behind what it finds. */
static const char *judge_contents(struct device *device)
{
    struct history *history = &device->history;
    const int64_t readings = device_number(device, "SELECT count(*) FROM reading");
    const int64_t last = device_number(device, "SELECT coalesce(max(n), 0) FROM reading");
    if (readings != last)
        return "a reading is missing";
    if (last < history->committed)
        return "a committed transaction is lost";
    if (last != history->committed && last != history->attempted)
        return "a transaction is there in part";
    if (device->settings.rewrites > 0 && last > 0 &&
        device_number(device, "SELECT max(n) FROM ballast") != last)
        return "the rows of a transaction are there in part";
    if (history->received > last)
        return "an event was sent whose transaction is not there";
    history->committed = history->attempted = (int)last;
    return outbox_verify(device->db, NULL, NULL) == OUTBOX_OK ? NULL : "the outbox is not sound";
}

static const char *judge_work(struct device *device)
{
    if (!device_drain(device))
        return "not every event is delivered";
    for (int i = 0; i < 3; i++)
        if (!device_work(device))
            return "work does not go on";
    return device_drain(device) ? NULL : "not every new event is delivered";
}

const char *device_judge(struct device *device)
{
    const char *wrong = NULL;
    if (!open_database(device))
        wrong = "the database cannot be opened";
    if (!wrong)
        wrong = judge_integrity(device);
    if (!wrong && !start_outbox(device))
        wrong = "the outbox cannot be attached";
    if (!wrong)
        wrong = judge_contents(device);
    /* Under unsafe settings nothing may be sent, and only the contents are judged. */
    if (!wrong && !device->settings.take_lone_pages)
        wrong = judge_work(device);
    if (!wrong)
        wrong = judge_integrity(device);
    device_stop(device);
    if (!wrong)
        wrong = device->history.complaint;
    return wrong;
}
