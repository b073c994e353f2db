/* SPDX-License-Identifier: MIT
 *
 * sensor.c - stores readings and reports each as an event. Both are one transaction: after a crash
 * both are there or neither is. usage: sensor [DATABASE [BROKER [MILLISECONDS]]]
 */
#include <outbox/outbox.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *why)
{
    fprintf(stderr, "sensor: %s\n", why);
    exit(1); /* a transaction that is open is rolled back, its event too */
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(db));
}

static void store(sqlite3 *db, outbox *box, double celsius)
{
    char text[99];
    snprintf(text, sizeof text, "BEGIN IMMEDIATE; INSERT INTO reading VALUES(NULL, %.3f)", celsius);
    run(db, text);
    sqlite3_int64 row = sqlite3_last_insert_rowid(db);
    snprintf(text, sizeof text, "{\"reading\":%lld,\"celsius\":%.3f}", row, celsius);
    outbox_event event = {"plant/7/temp", text, strlen(text), .content_type = "application/json"};
    if (outbox_put(box, &event, NULL) != OUTBOX_OK)
        die(outbox_errmsg(box));
    run(db, "COMMIT");
}

int main(int argc, char **argv)
{
    sqlite3 *db;
    outbox *box;
    outbox_forwarding forwarding = {.broker = argc > 2 ? argv[2] : "mqtt://localhost"};
    struct timespec pause = {0, 1000000L * (argc > 3 ? atoi(argv[3]) : 100)};
    sigset_t stop;
    sigemptyset(&stop), sigaddset(&stop, SIGINT), sigprocmask(SIG_BLOCK, &stop, NULL);
    if (sqlite3_open(argc > 1 ? argv[1] : "plant.db", &db) != SQLITE_OK)
        die(sqlite3_errmsg(db));
    run(db, "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL;"
            "CREATE TABLE IF NOT EXISTS reading(id INTEGER PRIMARY KEY, celsius REAL)");
    if (outbox_attach(db, NULL, &box) != OUTBOX_OK)
        die("cannot attach an outbox");
    if (outbox_start(box, &forwarding) != OUTBOX_OK)
        die(outbox_errmsg(box));
    while (sigtimedwait(&stop, NULL, &pause) != SIGINT)
        store(db, box, 20 + rand() % 5000 / 1000.0);
    int all_sent = outbox_flush(box, 5000) == OUTBOX_OK; /* what is not goes out next time */
    outbox_detach(box);
    return sqlite3_close(db) == SQLITE_OK && all_sent ? 0 : 1;
}
