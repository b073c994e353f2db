/* SPDX-License-Identifier: MIT
 *
 * recorder.c - mosquitto_sub's lines, followed and kept as rows.
 *
 * A line is taken when it is complete, so a message is either an arrival or not there yet. The
 * subscription is first made by a run that ends when the broker has confirmed it (-E); the session
 * keeps for the second run whatever comes in between.
 */
#include "recorder.h"

#include "child.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <setjmp.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define PATIENCE_MS 60000
#define LINES "arrivals.txt"
#define FORMAT "%r\\t%q\\t%F\\t%E\\t%U\\t%C\\t%t\\t%P\\t%x"

struct recorder {
    const char *folder;
    char port[8], filter[64], client[48];
    pid_t pid;
    int lines;   /* the file that mosquitto_sub writes */
    int changes; /* inotify on it */
    char *buffer;
    size_t length, size; /* of the line that is not complete yet */
    sqlite3 *db;
    sqlite3_stmt *insert;
    char *text; /* what recorder_text() returned last */
};

/* ---- The database ---------------------------------------------------------------------------- */

static const char SCHEMA[] =
    "CREATE TABLE arrival(n INTEGER PRIMARY KEY, id INTEGER, topic TEXT, payload BLOB, qos INTEGER,"
    "  retain INTEGER, utf8 INTEGER, expiry INTEGER, content_type TEXT, properties TEXT,"
    "  event TEXT, at_ns INTEGER);"
    "CREATE TABLE first(id INTEGER PRIMARY KEY, n INTEGER);"
    "CREATE INDEX arrival_id ON arrival(id);"
    "CREATE TRIGGER first_arrival AFTER INSERT ON arrival WHEN NEW.id IS NOT NULL BEGIN"
    "  INSERT OR IGNORE INTO first VALUES(NEW.id, NEW.n); END;";

static const char INSERT[] =
    "WITH message(text) AS (SELECT CAST(:payload AS TEXT)),"
    " json(event) AS (SELECT CASE WHEN json_valid(text) AND json_type(text) = 'object' THEN text "
    "END"
    "  FROM message)"
    "INSERT INTO arrival SELECT NULL, ifnull(CAST(json_extract(event, '$.id') AS INTEGER), :id),"
    " :topic, :payload, :qos, :retain, :utf8, :expiry, :content_type, :properties, event, :at"
    " FROM json";

/* Decodes into `bytes`; returns their number, or -1 when the text is no base64. */
static int decode_base64(const char *text, unsigned char *bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int count = 0, length = 0;

    for (; *text != '\0' && *text != '='; text++, count++) {
        const char *digit = strchr(digits, *text);
        if (digit == NULL) {
            return -1;
        }
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (count % 4 > 0) {
            bytes[length++] = (unsigned char)(bits >> (6 - 2 * (count % 4)));
        }
    }
    int padding = (int)strspn(text, "=");
    return (count + padding) % 4 == 0 && padding <= 2 && text[padding] == '\0' ? length : -1;
}

static void unbase64(sqlite3_context *context, int count, sqlite3_value **values)
{
    const unsigned char *text = sqlite3_value_text(values[0]);
    unsigned char *bytes = sqlite3_malloc(sqlite3_value_bytes(values[0]) + 1);

    (void)count;
    int length = bytes == NULL || text == NULL ? -1 : decode_base64((const char *)text, bytes);
    if (length < 0) {
        sqlite3_result_error(context, "no base64", -1);
    } else {
        sqlite3_result_blob(context, bytes, length, SQLITE_TRANSIENT);
    }
    sqlite3_free(bytes);
}

void recorder_run(recorder *r, const char *sql)
{
    char *error = NULL;

    if (sqlite3_exec(r->db, sql, NULL, NULL, &error) != SQLITE_OK) {
        fail_msg("recorder: %s: %s", sql, error);
    }
}

static void open_database(recorder *r)
{
    assert_int_equal(sqlite3_open(":memory:", &r->db), SQLITE_OK);
    recorder_run(r, SCHEMA);
    assert_int_equal(
        sqlite3_create_function(r->db, "unbase64", 1, SQLITE_UTF8, NULL, unbase64, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v3(r->db, INSERT, -1, SQLITE_PREPARE_PERSISTENT, &r->insert, NULL),
        SQLITE_OK);
}

/* ---- One line -------------------------------------------------------------------------------- */

static int unhex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Turns the hexadecimal digits into bytes, in place; returns their number. */
static int decode_payload(char *hex)
{
    size_t length = strlen(hex) / 2;

    for (size_t i = 0; i < length; i++) {
        hex[i] = (char)(unhex(hex[2 * i]) << 4 | unhex(hex[2 * i + 1]));
    }
    return (int)length;
}

/* "1795477749.861330309" */
static int64_t nanoseconds(const char *text)
{
    char *point = NULL;
    long long seconds = strtoll(text, &point, 10);

    return (int64_t)seconds * 1000000000 + strtoll(point + 1, NULL, 10);
}

static void bind(recorder *r, const char *name, const char *text)
{
    int place = sqlite3_bind_parameter_index(r->insert, name);

    assert_true(place > 0);
    if (text[0] != '\0') {
        assert_int_equal(sqlite3_bind_text(r->insert, place, text, -1, SQLITE_TRANSIENT),
                         SQLITE_OK);
    }
}

static void bind_number(recorder *r, const char *name, int64_t number)
{
    int place = sqlite3_bind_parameter_index(r->insert, name);

    assert_true(place > 0);
    assert_int_equal(sqlite3_bind_int64(r->insert, place, number), SQLITE_OK);
}

/* The user property `id`, which is first or behind a space. */
static void bind_property_id(recorder *r, const char *properties)
{
    const char *found =
        strncmp(properties, "id:", 3) == 0 ? properties : strstr(properties, " id:");
    if (found != NULL) {
        bind_number(r, ":id", strtoll(strchr(found, ':') + 1, NULL, 10));
    }
}

static void take_line(recorder *r, char *line)
{
    char *field[9];

    for (int i = 0; i < 9; i++) {
        field[i] = strsep(&line, "\t");
        assert_non_null(field[i]);
    }
    bind_number(r, ":retain", atoi(field[0]));
    bind_number(r, ":qos", atoi(field[1]));
    bind_number(r, ":utf8", atoi(field[2]));
    bind(r, ":expiry", field[3]);
    bind_number(r, ":at", nanoseconds(field[4]));
    bind(r, ":content_type", field[5]);
    bind(r, ":topic", field[6]);
    bind(r, ":properties", field[7]);
    bind_property_id(r, field[7]);
    int length = decode_payload(field[8]);
    int place = sqlite3_bind_parameter_index(r->insert, ":payload");
    assert_int_equal(sqlite3_bind_blob(r->insert, place, field[8], length, SQLITE_TRANSIENT),
                     SQLITE_OK);

    assert_int_equal(sqlite3_step(r->insert), SQLITE_DONE);
    assert_int_equal(sqlite3_reset(r->insert), SQLITE_OK);
    assert_int_equal(sqlite3_clear_bindings(r->insert), SQLITE_OK);
}

/* ---- Following the file ---------------------------------------------------------------------- */

static void take_complete_lines(recorder *r)
{
    char *start = r->buffer;
    char *end = r->buffer + r->length;

    for (char *stop; (stop = memchr(start, '\n', (size_t)(end - start))) != NULL;) {
        *stop = '\0';
        take_line(r, start);
        start = stop + 1;
    }
    r->length = (size_t)(end - start);
    memmove(r->buffer, start, r->length);
}

/* Takes what the file holds now. */
static void take(recorder *r)
{
    for (;;) {
        if (r->size - r->length < 65536) {
            r->size = 2 * r->size + 131072;
            r->buffer = realloc(r->buffer, r->size);
            assert_non_null(r->buffer);
        }
        ssize_t count = read(r->lines, r->buffer + r->length, r->size - r->length);
        assert_true(count >= 0);
        if (count == 0) {
            return;
        }
        r->length += (size_t)count;
        take_complete_lines(r);
    }
}

/* ---- mosquitto_sub --------------------------------------------------------------------------- */

/* Makes the subscription and ends, or follows it until it is told to end. */
static pid_t start_client(const recorder *r, const char *output, bool follows)
{
    const char *arguments[] = {
        "mosquitto_sub",
        "-V",
        "5",
        "-h",
        "127.0.0.1",
        "-p",
        r->port,
        "-i",
        r->client,
        "-c",
        "-q",
        "1",
        "-t",
        r->filter,
        "--retain-as-published",
        "-E",
        NULL,
        NULL,
    };
    size_t last = sizeof arguments / sizeof arguments[0] - 3;

    if (follows) {
        arguments[last] = "-F";
        arguments[last + 1] = FORMAT;
    }
    return child_start(r->folder, output, "recorder.log", arguments);
}

static void subscribe(recorder *r)
{
    child_end end = -1;
    pid_t pid = start_client(r, "recorder.log", false);

    assert_int_equal(child_await(pid, PATIENCE_MS, &end), 0);
    assert_int_equal(end, 0);
    r->pid = start_client(r, LINES, true);
}

/* A client that finds no broker at its very first attempt ends; later it would try for ever. Where
 * a test stops its broker, a slow machine may be that late. The session has kept everything. */
static void see_that_it_runs(recorder *r)
{
    child_end end;

    if (child_await(r->pid, 0, &end) == 0) {
        r->pid = start_client(r, LINES, true);
    }
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Waits until the file grows, at most for `ms`. */
static void await_change(recorder *r, int ms)
{
    char events[4096];
    struct pollfd change = {.fd = r->changes, .events = POLLIN};

    if (poll(&change, 1, ms) > 0) {
        assert_true(read(r->changes, events, sizeof events) > 0);
    }
}

void recorder_follow(recorder *r, int ms)
{
    long long end = clock_ms() + ms;

    take(r);
    for (long long left = ms; left > 0; left = end - clock_ms()) {
        await_change(r, (int)left);
        take(r);
    }
}

void recorder_await(recorder *r, const char *query, int64_t wanted)
{
    long long end = clock_ms() + PATIENCE_MS;

    for (take(r); recorder_number(r, query) < wanted; take(r)) {
        if (clock_ms() > end) {
            fail_msg("recorder: \"%s\" gives %lld, not %lld", query,
                     (long long)recorder_number(r, query), (long long)wanted);
        }
        await_change(r, 1000);
        see_that_it_runs(r);
    }
}

/* ---- Queries --------------------------------------------------------------------------------- */

static sqlite3_stmt *first_row(recorder *r, const char *query)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(r->db, query, -1, &statement, NULL) != SQLITE_OK) {
        fail_msg("recorder: %s: %s", query, sqlite3_errmsg(r->db));
    }
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        fail_msg("recorder: %s: %s", query, sqlite3_errmsg(r->db));
    }
    return statement;
}

int64_t recorder_number(recorder *r, const char *query)
{
    sqlite3_stmt *statement = first_row(r, query);
    int64_t number = sqlite3_data_count(statement) > 0 ? sqlite3_column_int64(statement, 0) : 0;

    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    return number;
}

const char *recorder_text(recorder *r, const char *query)
{
    sqlite3_stmt *statement = first_row(r, query);
    const unsigned char *text =
        sqlite3_data_count(statement) > 0 ? sqlite3_column_text(statement, 0) : NULL;

    free(r->text);
    r->text = strdup(text == NULL ? "" : (const char *)text);
    assert_non_null(r->text);
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    return r->text;
}

/* ---- Start and stop -------------------------------------------------------------------------- */

recorder *recorder_start(const char *folder, unsigned port, const char *filter)
{
    char path[256];
    recorder *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->folder = folder;
    (void)snprintf(r->port, sizeof r->port, "%u", port);
    (void)snprintf(r->filter, sizeof r->filter, "%s", filter);
    (void)snprintf(r->client, sizeof r->client, "recorder-%d", (int)getpid());
    (void)snprintf(path, sizeof path, "%s/%s", folder, LINES);
    r->lines = open(path, O_RDONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(r->lines >= 0);
    r->changes = inotify_init1(IN_CLOEXEC);
    assert_true(r->changes >= 0);
    assert_true(inotify_add_watch(r->changes, path, IN_MODIFY) >= 0);
    open_database(r);
    subscribe(r);
    return r;
}

/* The client disconnects in its signal handler, which waits for ever where the signal has come in
 * the middle of a packet: about once in a hundred times. */
void recorder_subscribe_again(recorder *r)
{
    child_end end;

    assert_int_equal(kill(r->pid, SIGTERM), 0);
    if (child_await(r->pid, 1000, &end) != 0) {
        (void)child_stop(r->pid, SIGKILL);
    }
    subscribe(r);
}

void recorder_stop(recorder *r)
{
    (void)child_stop(r->pid, SIGKILL);
    assert_int_equal(sqlite3_finalize(r->insert), SQLITE_OK);
    assert_int_equal(sqlite3_close(r->db), SQLITE_OK);
    assert_int_equal(close(r->lines), 0);
    assert_int_equal(close(r->changes), 0);
    free(r->buffer);
    free(r->text);
    free(r);
}
