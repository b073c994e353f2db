/* SPDX-License-Identifier: MIT
 *
 * demo.c - firmware: samples, stores each reading with its event in one transaction, forwards over
 * MQTT on the UART.
 *
 *   arguments, from QEMU: events=N (until N readings were taken; 0: for ever), ms=N between two,
 *                         flash=FILE, drain=1 (then waits until the broker has acknowledged all),
 *                         fail=N (each Nth operation of the flash fails), dead=N (from there on all
 * do)
 *
 * All memory is static; at the end it prints what was used of it. The flash is bounded too: the
 * newest READINGS are kept, and without a broker the newest EVENTS; those that had to leave are
 * announced. After a crash at any moment the next start goes on: readings and events are there
 * together or not at all, and what the broker has not acknowledged is sent again. A reading that
 * the flash does not take is tried again, and said.
 */
#include "clock.h"
#include "flash_vfs.h"
#include "heap.h"
#include "nor_qemu.h"
#include "random.h"
#include "semihost.h"
#include "start.h"
#include "uart.h"
#include "uart_stream.h"

#include <outbox/forwarder.h>
#include <outbox/stream.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    CORE_HZ = 25000000,
    PAGE = 512,
    PAGES = 400,
    BATCH_PAGES = 32,
    HEAP = DEMO_HEAP,
    CACHE_SLOTS = 12,
    CACHE_SLOT = PAGE + 168, /* SQLite's header of a cached page, on 32 bits */
    FORWARDER = 11392,
    LINK = 1792,
    WINDOW = 8,
    /* Both together, and the outbox's own 16 pages, fit into PAGES: some 25 readings or 5 events a
       page. */
    READINGS = 2000,
    EVENTS = 1000,
    READINGS_PIECE = 8 /* deleted at once, every so many: a transaction changes few pages */
};

/* Of what is called once only: the compiler would make it part of main, and its buffers would take
 * stack for ever. */
#define OWN_FRAME __attribute__((noinline))

static uint64_t heap[HEAP / 8];
static uint64_t cache[CACHE_SLOTS * CACHE_SLOT / 8];
static uint64_t log_memory[OUTBOX_FLASH_MEMORY(NOR_QEMU_SECTORS, PAGE, PAGES, BATCH_PAGES) / 8 + 1];
static uint64_t forwarder_memory[FORWARDER / 8];
static uint64_t link_memory[LINK / 8];

static struct {
    sqlite3 *db;
    outbox *box;
    outbox_port port;
    outbox_link *link;
    outbox_forwarder *forwarder;
    outbox_flash_log *log;
    uint32_t boot_seconds;
    uint32_t oldest; /* of the readings in the table */
    bool is_failing; /* no reading could be stored, and that was said */
} demo;

/* ---- Text ------------------------------------------------------------------------------------ */

static void print(const char *format, ...)
{
    char line[200];
    va_list arguments;
    va_start(arguments, format);
    sqlite3_vsnprintf((int)sizeof line, line, format, arguments);
    va_end(arguments);
    outbox_semihost_print(line);
}

static void die(const char *doing, const char *why)
{
    print("demo: %s: %s\n", doing, why);
    outbox_semihost_exit(1);
}

void outbox_board_fault(void)
{
    outbox_semihost_print("demo: a fault\n");
    outbox_semihost_exit(3);
}

static void run(const char *sql)
{
    if (sqlite3_exec(demo.db, sql, NULL, NULL, NULL) != SQLITE_OK)
        die(sql, sqlite3_errmsg(demo.db));
}

static uint32_t argument(const char *arguments, const char *name, uint32_t otherwise)
{
    const char *at = strstr(arguments, name);
    uint32_t value = 0;
    if (!at)
        return otherwise;
    for (at += strlen(name); *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint32_t)(*at - '0');
    return value;
}

/* ---- What the port brings -------------------------------------------------------------------- */

static int64_t wall_ms(void *context)
{
    (void)context;
    return (int64_t)demo.boot_seconds * 1000 + outbox_clock_ms(NULL);
}

static void print_trouble(void *context, outbox_flash_trouble trouble, uint32_t sector)
{
    (void)context;
    print("demo: flash, sector %u: %s\n", (unsigned)sector, outbox_flash_trouble_text(trouble));
}

static void print_log(void *context, outbox_level level, int code, const char *sentence)
{
    (void)context, (void)level, (void)code;
    print("demo: %s\n", sentence);
}

/* A board takes its random number generator, or unique id and what else it has. */
static void seed(void)
{
    uint32_t now = outbox_semihost_seconds(), clock = outbox_clock_ms(NULL);
    demo.boot_seconds = now;
    outbox_random_seed(&now, sizeof now);
    outbox_random_seed(&clock, sizeof clock);
}

/* ---- Setting up ------------------------------------------------------------------------------ */

static void give_memory(void)
{
    if (outbox_heap_give(heap, sizeof heap) != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_PAGECACHE, cache, CACHE_SLOT, CACHE_SLOTS) != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 1) != SQLITE_OK)
        die("configuring SQLite", "refused");
}

OWN_FRAME static void open_database(const char *file, outbox_nor_qemu_faults faults)
{
    static outbox_flash_vfs vfs;
    outbox_flash_config config = {
        .page_size = PAGE, .pages = PAGES, .batch_pages = BATCH_PAGES, .report = print_trouble};
    config.driver = outbox_nor_qemu_open(file, faults);
    if (!config.driver)
        die("opening the flash", "the host's file cannot be used");
    if (outbox_flash_mount(log_memory, sizeof log_memory, &config, &demo.log) != OUTBOX_FLASH_OK)
        die("mounting the flash", "it holds something else, or is damaged");
    const outbox_flash_vfs_config face = {
        .log = demo.log, .name = "plant.db", .wall_ms = wall_ms, .random = outbox_random_bytes};
    if (outbox_flash_vfs_register(&vfs, &face) != SQLITE_OK ||
        sqlite3_open("plant.db", &demo.db) != SQLITE_OK)
        die("opening the database", demo.db ? sqlite3_errmsg(demo.db) : "no memory");
    /* Each of them is needed: see flash_vfs.h. */
    run("PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = EXTRA; PRAGMA cache_spill = OFF");
    run("PRAGMA cache_size = 6");
    run("CREATE TABLE IF NOT EXISTS reading(n INTEGER PRIMARY KEY, celsius REAL)");
}

static const outbox_forwarder_config forwarding = {.mode = OUTBOX_BINARY,
                                                   .shared_connection = 1,
                                                   .small_heap = 1,
                                                   .window = WINDOW,
                                                   .settle_batch = 16,
                                                   .payload_max = 256,
                                                   .buffer_size = 2048,
                                                   .foreign_check_ms = OUTBOX_NEVER,
                                                   .backoff_max_ms = 5000,
                                                   .announce_topic = "plant/7/dropped"};

/* Nobody says when the connection behind the UART ends: the times are short. */
static const outbox_stream_link_config mqtt = {.client_id = "outbox-demo",
                                               .keep_alive_seconds = 5,
                                               .connect_timeout_ms = 3000,
                                               .window = WINDOW,
                                               .send_buffer = 1024,
                                               .receive_buffer = 128};

OWN_FRAME static void start_link(void)
{
    char sentence[200] = "";
    demo.port = (outbox_port){
        .version = 1, .now_ms = outbox_clock_ms, .random = outbox_random_number, .log = print_log};
    if (outbox_stream_link_init(link_memory, sizeof link_memory, outbox_uart_stream(), &demo.port,
                                &mqtt, &demo.link, sentence, sizeof sentence) != OUTBOX_OK)
        die("making the link", sentence);
}

OWN_FRAME static void start_outbox(void)
{
    char sentence[200] = "";
    const outbox_config box = {
        .payload_max = 256,
        .small_heap = 1,
        .limits[OUTBOX_NORMAL] = {.max_events = EVENTS, .when_full = OUTBOX_EVICT_OLDEST},
        .sentence = sentence,
        .sentence_size = 200};
    if (outbox_attach(demo.db, &box, &demo.box) != OUTBOX_OK)
        die("attaching", sentence);
    if (outbox_forwarder_init(forwarder_memory, sizeof forwarder_memory, demo.db, demo.link,
                              &demo.port, &forwarding, &demo.forwarder, sentence,
                              sizeof sentence) != OUTBOX_OK)
        die("making the forwarder", sentence);
    if (outbox_forwarder_bind(demo.forwarder, demo.box) != OUTBOX_OK)
        die("binding the forwarder", outbox_errmsg(demo.box));
}

/* ---- Work ------------------------------------------------------------------------------------ */

static uint32_t number_of(const char *sql)
{
    sqlite3_stmt *statement = NULL;
    uint32_t number = 0;
    if (sqlite3_prepare_v2(demo.db, sql, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        die(sql, sqlite3_errmsg(demo.db));
    number = (uint32_t)sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement); /* the row is read */
    return number;
}

/* Says what is wrong once, until a reading is stored again. */
static bool says_why(const char *doing, const char *why)
{
    if (!demo.is_failing)
        print("demo: %s: %s\n", doing, why);
    demo.is_failing = true;
    return false;
}

static bool try_to(const char *sql)
{
    return sqlite3_exec(demo.db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           says_why(sql, sqlite3_errmsg(demo.db));
}

static bool put(const char *payload)
{
    const outbox_event event = {
        .topic = "plant/7/temp", .payload = payload, .payload_len = strlen(payload)};
    return outbox_put(demo.box, &event, NULL) == OUTBOX_OK ||
           says_why("putting an event", outbox_errmsg(demo.box));
}

/* At most twice as many as come between: a table that is over its bound shrinks, in small pieces.
 * Apart from the reading: each page that a transaction changes is in memory twice until it ends. */
OWN_FRAME static void forget_old_readings(uint32_t number)
{
    char sql[60];
    if (number <= READINGS || number % READINGS_PIECE != 0)
        return;
    const uint32_t keep = number - READINGS + 1, piece = demo.oldest + 2 * READINGS_PIECE;
    const uint32_t oldest = piece < keep ? piece : keep;
    sqlite3_snprintf((int)sizeof sql, sql, "DELETE FROM reading WHERE n < %u", (unsigned)oldest);
    if (try_to(sql))
        demo.oldest = oldest;
}

/* All of it or nothing. */
OWN_FRAME static bool store_reading(uint32_t number)
{
    char payload[101], sql[80];
    const unsigned tenths = 200 + outbox_random_number(NULL) % 50;
    sqlite3_snprintf((int)sizeof sql, sql, "INSERT INTO reading VALUES(%u, %u.%u)",
                     (unsigned)number, tenths / 10, tenths % 10);
    sqlite3_snprintf((int)sizeof payload, payload, "{\"n\":%u,\"celsius\":%u.%u}", (unsigned)number,
                     tenths / 10, tenths % 10);
    if (try_to("BEGIN IMMEDIATE") && try_to(sql) && put(payload) && try_to("COMMIT")) {
        demo.is_failing = false;
        return true;
    }
    if (!sqlite3_get_autocommit(demo.db))
        (void)try_to(
            "ROLLBACK"); /* where it fails, the next BEGIN does too, and it comes here again */
    return false;
}

static void step(void)
{
    uint32_t next_ms;
    (void)outbox_forwarder_step(demo.forwarder, &next_ms); /* what is wrong goes to the log */
    outbox_clock_wait();                                   /* QEMU's own loop starves without it */
}

static void sample(uint32_t events, uint32_t pause_ms)
{
    uint32_t next_reading = outbox_clock_ms(NULL);
    uint32_t stored = number_of("SELECT max(n) FROM reading");
    demo.oldest = number_of("SELECT min(n) FROM reading");
    print("demo: begins with %u readings\n", (unsigned)stored);
    while (events == 0 || stored < events) {
        if ((int32_t)(outbox_clock_ms(NULL) - next_reading) >= 0) {
            next_reading += pause_ms;
            if (store_reading(stored + 1))
                forget_old_readings(++stored);
        }
        step();
    }
}

/* Counting is a query, so not in every turn. */
OWN_FRAME static void drain(void)
{
    outbox_statistics counts = {.pending = 1};
    while (counts.pending > 0) {
        for (int i = 0; i < 50; i++)
            step();
        if (outbox_stats(demo.box, &counts) != OUTBOX_OK)
            die("reading the statistics", outbox_errmsg(demo.box));
    }
}

static int bytes_of(int what)
{
    int now = 0, most = 0;
    return sqlite3_db_status(demo.db, what, &now, &most, 0) == SQLITE_OK ? now : -1;
}

OWN_FRAME static void print_heap(void)
{
    int statements = 0;
    for (sqlite3_stmt *it = NULL; (it = sqlite3_next_stmt(demo.db, it)) != NULL;)
        statements++;
    print("demo: heap now %lld: %d statements %d, schema %d, pages %d\n", sqlite3_memory_used(),
          statements, bytes_of(SQLITE_DBSTATUS_STMT_USED), bytes_of(SQLITE_DBSTATUS_SCHEMA_USED),
          bytes_of(SQLITE_DBSTATUS_CACHE_USED));
}

OWN_FRAME static void print_use(void)
{
    outbox_statistics counts;
    outbox_flash_statistics flash;
    outbox_heap_use use;
    int cache_now, cache_most, spilled, spilled_most;
    if (outbox_stats(demo.box, &counts) != OUTBOX_OK)
        die("reading the statistics", outbox_errmsg(demo.box));
    outbox_flash_stats(demo.log, &flash);
    outbox_heap_used(&use);
    print("demo: the forwarder has %u bytes of %u, the link %u of %u\n",
          (unsigned)outbox_forwarder_size(&forwarding), (unsigned)FORWARDER,
          (unsigned)outbox_stream_link_size(&mqtt), (unsigned)LINK);
    (void)sqlite3_status(SQLITE_STATUS_PAGECACHE_USED, &cache_now, &cache_most, 0);
    (void)sqlite3_status(SQLITE_STATUS_PAGECACHE_OVERFLOW, &spilled, &spilled_most, 0);
    print("demo: %lld accepted, %lld pending, %lld delivered, %lld evicted\n", counts.accepted,
          counts.pending, counts.delivered, counts.evicted);
    print("demo: stack %u, heap %u of %u, cache %d of %d slots and %d bytes of heap\n",
          (unsigned)outbox_stack_used(), (unsigned)use.most, (unsigned)use.size, cache_most,
          CACHE_SLOTS, spilled_most);
    print("demo: memory was refused %u times\n", use.refused);
    print_heap();
    print("demo: flash: %llu bytes programmed, %u erases, %u pages, %u to %u erases per sector\n",
          flash.bytes_programmed, (unsigned)flash.erases, (unsigned)flash.pages_mapped,
          (unsigned)flash.erases_min, (unsigned)flash.erases_max);
}

int main(void)
{
    char arguments[160], *file;
    outbox_clock_start(CORE_HZ);
    outbox_uart_open();
    outbox_semihost_arguments(arguments, sizeof arguments);
    seed();
    give_memory();
    const uint32_t events = argument(arguments, "events=", 100);
    const uint32_t pause_ms = argument(arguments, "ms=", 10);
    const bool drains = argument(arguments, "drain=", 0) != 0;
    const outbox_nor_qemu_faults faults = {.every = argument(arguments, "fail=", 0),
                                           .from = argument(arguments, "dead=", 0)};
    file = strstr(arguments, "flash=");
    if (file) {
        file += 6;
        file[strcspn(file, " ")] = '\0';
    }
    open_database(file, faults);
    start_link();
    start_outbox();
    sample(events, pause_ms);
    if (drains)
        drain();
    print_use();
    outbox_detach(demo.box); /* closes the forwarder */
    if (sqlite3_close(demo.db) != SQLITE_OK)
        die("closing the database", "refused");
    outbox_semihost_exit(0);
    return 0;
}
