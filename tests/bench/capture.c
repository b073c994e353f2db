/* SPDX-License-Identifier: MIT
 *
 * capture.c - what the capture of a table costs its writers, in instructions.
 *
 *   usage: capture
 *
 * It runs itself under callgrind, once for each way of writing: 10 rows in a transaction, a table
 * of 6 columns, WAL, a statement that is prepared once. Counted is from the BEGIN to behind the
 * COMMIT. Without valgrind it counts nothing and says so. It asserts nothing about the figures.
 */
#include <outbox/capture.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 10
#define TRANSACTIONS 50

static const char *const ways[] = {"plain", "constant", "json_object", "captured",
                                   "captured, read back"};

static void must(sqlite3 *db, int result)
{
    if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW)
        return;
    (void)fprintf(stderr, "capture: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static void prepare_way(sqlite3 *db, outbox *box, const char *way)
{
    static const char columns[] =
        "'id', NEW.id, 'sensor', NEW.sensor, 'name', NEW.name, 'value', NEW.value, 'at', NEW.at,"
        " 'state', NEW.state";
    char sql[512] = "SELECT 1";
    if (strcmp(way, "constant") == 0)
        (void)snprintf(
            sql, sizeof sql,
            "CREATE TRIGGER c AFTER INSERT ON reading BEGIN INSERT INTO"
            " outbox_event(topic, payload) VALUES('plant/reading', '{\"op\":\"c\"}'); END");
    else if (strcmp(way, "json_object") == 0)
        (void)snprintf(
            sql, sizeof sql,
            "CREATE TRIGGER c AFTER INSERT ON reading BEGIN INSERT INTO"
            " outbox_event(topic, payload) VALUES('plant/reading', json_object(%s)); END",
            columns);
    else if (strcmp(way, "captured, read back") == 0)
        (void)snprintf(sql, sizeof sql,
                       "CREATE TRIGGER own AFTER DELETE ON reading BEGIN SELECT 1; END");
    must(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
    const outbox_capture capture = {.table = "reading", .topic = "plant/{sensor}/reading"};
    if (strncmp(way, "captured", 8) == 0 && outbox_capture_add(box, &capture) != OUTBOX_OK) {
        (void)fprintf(stderr, "capture: %s\n", outbox_errmsg(box));
        exit(1);
    }
}

/* What is counted; callgrind knows it by its name. */
void write_rows(sqlite3 *db, sqlite3_stmt *const *statements, int transactions);

void write_rows(sqlite3 *db, sqlite3_stmt *const *statements, int transactions)
{
    sqlite3_stmt *insert = statements[1];
    for (int i = 0; i < transactions; i++) {
        must(db, sqlite3_step(statements[0]));
        must(db, sqlite3_reset(statements[0]));
        for (int j = 0; j < ROWS; j++) {
            must(db, sqlite3_bind_int(insert, 1, j));
            must(db, sqlite3_bind_text(insert, 2, "sensor/7", 8, SQLITE_STATIC));
            must(db, sqlite3_bind_double(insert, 3, 21.5 + j * 0.1));
            must(db, sqlite3_bind_int64(insert, 4, 1700000000000 + (sqlite3_int64)i * ROWS + j));
            must(db, sqlite3_bind_text(insert, 5, "ok", 2, SQLITE_STATIC));
            must(db, sqlite3_step(insert));
            must(db, sqlite3_reset(insert));
        }
        must(db, sqlite3_step(statements[2]));
        must(db, sqlite3_reset(statements[2]));
    }
}

static void run(const char *way)
{
    static const char *const sql[] = {
        "BEGIN IMMEDIATE",
        "INSERT INTO reading(sensor, name, value, at, state) VALUES(?, ?, ?, ?, ?)", "COMMIT"};
    sqlite3_stmt *statements[3];
    char path[64], sentence[256] = "";
    sqlite3 *db;
    outbox *box;
    const outbox_config config = {.sentence = sentence, .sentence_size = sizeof sentence};
    (void)snprintf(path, sizeof path, "%s/outbox-bench-%d.db",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    must(NULL, sqlite3_open(path, &db));
    must(db, sqlite3_exec(db,
                          "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                          "CREATE TABLE reading(id INTEGER PRIMARY KEY, sensor INTEGER, name TEXT,"
                          " value REAL, at INTEGER, state TEXT)",
                          NULL, NULL, NULL));
    if (outbox_attach(db, &config, &box) != OUTBOX_OK) {
        (void)fprintf(stderr, "capture: %s\n", sentence);
        exit(1);
    }
    prepare_way(db, box, way);
    for (int i = 0; i < 3; i++)
        must(db, sqlite3_prepare_v2(db, sql[i], -1, &statements[i], NULL));
    write_rows(db, statements, TRANSACTIONS);
    for (int i = 0; i < 3; i++)
        must(db, sqlite3_finalize(statements[i]));
    outbox_detach(box);
    must(db, sqlite3_close(db)); /* the last connection removes the WAL */
    (void)unlink(path);
}

/* Instructions of one row; 0: they could not be counted. */
static double count(const char *self, const char *way)
{
    char command[512], line[256];
    double instructions = 0;
    (void)snprintf(command, sizeof command,
                   "valgrind --tool=callgrind --callgrind-out-file=/dev/null"
                   " --toggle-collect=write_rows '%s' '%s' 2>&1",
                   self, way);
    FILE *output = popen(command, "r"); /* NOLINT(cert-env33-c): a tool for developers */
    while (output && fgets(line, sizeof line, output)) {
        const char *found = strstr(line, "Collected : ");
        if (found)
            instructions = strtod(found + 12, NULL);
    }
    if (output)
        (void)pclose(output);
    return instructions / (ROWS * TRANSACTIONS);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        run(argv[1]);
        return 0;
    }
    double plain = count(argv[0], ways[0]);
    if (plain <= 0) {
        (void)puts("capture: valgrind is missing, so no instructions were counted");
        return 0;
    }
    (void)printf("an inserted row of 6 columns, %d in a transaction, SQLite %s\n", ROWS,
                 sqlite3_libversion());
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        double instructions = i == 0 ? plain : count(argv[0], ways[i]);
        (void)printf("  %-20s %8.0f instructions  %5.2f x\n", ways[i], instructions,
                     instructions / plain);
    }
    (void)puts(
        "  constant: a trigger that stores a fixed text. json_object: a trigger that stores the\n"
        "  row as JSON, in which reals, blobs and bad UTF-8 are not exact and a REPLACE loses\n"
        "  deletes. read back: the table has triggers of the application's.");
    return 0;
}
