/* SPDX-License-Identifier: MIT
 *
 * superloop.c - the forwarder driven by hand: one loop, one connection, no thread of the outbox.
 *
 *   usage: superloop [DATABASE [BROKER]]
 *
 * This is the shape of firmware. The loop stores a reading every second and gives the forwarder
 * its turns in between; a step never waits for the network, and never reads or settles while the
 * application's transaction is open. After a crash the next start goes on with the first event
 * that was not settled. On a microcontroller the link would run over a UART or a modem instead of a
 * socket (outbox/stream.h), and malloc would be a static array.
 */
#include "../ports/linux/clock.h"
#include "../ports/linux/lock.h"
#include "../ports/linux/link.h"

#include <outbox/forwarder.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READING_MS 1000
#define LOOK_MS 5 /* how often the link is asked for news */

static void die(const char *why)
{
    fprintf(stderr, "superloop: %s\n", why);
    exit(1);
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(db));
}

static void print_log(void *context, outbox_level level, int code, const char *sentence)
{
    (void)context, (void)level, (void)code;
    fprintf(stderr, "superloop: %s\n", sentence);
}

/* ---- The application's work ------------------------------------------------------------------ */

static void store_reading(sqlite3 *db, outbox *box)
{
    char json[40];
    double celsius = 20 + rand() % 5000 / 1000.0;
    int length = snprintf(json, sizeof json, "{\"celsius\":%.3f}", celsius);
    const outbox_event event = {.topic = "plant/7/temp",
                                .payload = json,
                                .payload_len = (size_t)length,
                                .content_type = "application/json"};
    run(db, "BEGIN IMMEDIATE");
    char *sql = sqlite3_mprintf("INSERT INTO reading(celsius) VALUES(%.3f)", celsius);
    if (!sql)
        die("no memory");
    run(db, sql);
    sqlite3_free(sql);
    if (outbox_put(box, &event, NULL) != OUTBOX_OK)
        die(outbox_errmsg(box));
    run(db, "COMMIT");
}

/* ---- Setting up ------------------------------------------------------------------------------ */

static outbox_link *make_link(const char *broker)
{
    static outbox_url url;
    char sentence[200];
    outbox_link *link;
    if (outbox_url_parse(broker, &url, sentence, sizeof sentence) != OUTBOX_OK)
        die(sentence);
    const outbox_linux_link_options options = {
        .kind = OUTBOX_LINK_STREAM, .url = &url, .client_id = "superloop", .payload_max = 256};
    if (outbox_linux_link_new(&options, &link, sentence, sizeof sentence) != OUTBOX_OK)
        die(sentence);
    return link;
}

static outbox_forwarder *make_forwarder(sqlite3 *db, outbox_link *link, const outbox_port *port,
                                        void **memory)
{
    /* Small figures for a small machine: all memory that the forwarder will ever use. */
    const outbox_forwarder_config config = {
        .shared_connection = 1, .window = 10, .payload_max = 256, .fire_bytes = 1024};
    char sentence[200];
    outbox_forwarder *forwarder;
    size_t size = outbox_forwarder_size(&config);
    *memory = malloc(size);
    if (!*memory)
        die("no memory");
    if (outbox_forwarder_init(*memory, size, db, link, port, &config, &forwarder, sentence,
                              sizeof sentence) != OUTBOX_OK)
        die(sentence);
    printf("superloop: the forwarder has %zu bytes\n", size);
    return forwarder;
}

/* ---- The loop -------------------------------------------------------------------------------- */

static void loop(sqlite3 *db, outbox *box, outbox_forwarder *forwarder, const outbox_port *port)
{
    sigset_t stop;
    uint32_t next_ms, next_reading = port->now_ms(port->context);
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    for (;;) {
        uint32_t now = port->now_ms(port->context);
        if ((int32_t)(now - next_reading) >= 0) {
            next_reading += READING_MS;
            store_reading(db, box);
        }
        outbox_forwarder_step(forwarder, &next_ms); /* what is wrong goes to the log */
        /* Firmware sleeps until the next interrupt here; this loop looks at the link now and
         * then. */
        long rest_ms = next_ms < LOOK_MS ? (long)next_ms : LOOK_MS;
        const struct timespec rest = {0, rest_ms * 1000000};
        if (sigtimedwait(&stop, NULL, &rest) == SIGINT)
            return;
    }
}

int main(int argc, char **argv)
{
    const char *file = argc > 1 ? argv[1] : "plant.db";
    char sentence[200];
    sqlite3 *db;
    outbox *box;
    int lock;
    const outbox_port port = outbox_linux_port(print_log, NULL);
    if (sqlite3_open(file, &db) != SQLITE_OK)
        die(sqlite3_errmsg(db));
    /* Nothing is sent that a power cut could undo, so commits have to be durable: see outbox.h. */
    run(db, "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL");
    run(db, "CREATE TABLE IF NOT EXISTS reading(id INTEGER PRIMARY KEY, celsius REAL)");
    if (outbox_attach(db, NULL, &box) != OUTBOX_OK)
        die("cannot attach an outbox");
    if (outbox_linux_lock_take(file, &lock, sentence, sizeof sentence) != OUTBOX_OK)
        die(sentence);
    outbox_link *link = make_link(argc > 2 ? argv[2] : "mqtt://localhost");
    void *memory;
    outbox_forwarder *forwarder = make_forwarder(db, link, &port, &memory);
    if (outbox_forwarder_bind(forwarder, box) != OUTBOX_OK)
        die(outbox_errmsg(box));
    loop(db, box, forwarder, &port);
    outbox_detach(box); /* closes the forwarder; what is not settled goes out at the next start */
    free(memory);
    outbox_linux_link_free(link);
    outbox_linux_lock_release(lock);
    return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}
