/* SPDX-License-Identifier: MIT
 *
 * common.c - what the verbs share: opening a file, and saying what is wrong.
 *
 * Nothing is kept between two runs of the command but what SQLite has committed.
 */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS 5000

int cli_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("outbox: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    return CLI_FAILED;
}

int cli_usage(const struct cli_verb *verb, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("outbox: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fprintf(stderr, "\nTry: outbox %s --help\n", verb->name);
    va_end(arguments);
    return CLI_USAGE;
}

int cli_other_option(const struct cli_verb *verb, int option)
{
    if (option != 'h') {
        (void)fprintf(stderr, "Try: outbox %s --help\n", verb->name);
        return CLI_USAGE;
    }
    (void)fputs(verb->help, stdout);
    return CLI_OK;
}

bool cli_number(const char *text, int64_t min, int64_t max, int64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *number >= min && *number <= max;
}

static int open_failed(const char *path, sqlite3 **db)
{
    int status = cli_fail("%s: %s", path, *db ? sqlite3_errmsg(*db) : "memory ran out");
    cli_close(*db, NULL);
    *db = NULL;
    return status;
}

int cli_open(const char *path, int flags, sqlite3 **db)
{
    *db = NULL;
    if (!(flags & SQLITE_OPEN_CREATE) && access(path, F_OK) != 0)
        return cli_fail("%s: %s; `outbox init %s` makes a database with an outbox", path,
                        strerror(errno), path);
    if (sqlite3_open_v2(path, db, flags, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(*db, BUSY_TIMEOUT_MS) != SQLITE_OK)
        return open_failed(path, db);
    /* The first read finds out whether it is a database at all. */
    if (sqlite3_exec(*db, "SELECT 1 FROM sqlite_master LIMIT 1", NULL, NULL, NULL) != SQLITE_OK)
        return open_failed(path, db);
    const char *file = sqlite3_db_filename(*db, "main");
    if (file && file[0] != '\0')
        return CLI_OK;
    cli_close(*db, NULL);
    *db = NULL;
    return cli_fail("'%s' names no file", path);
}

int cli_open_outbox(const char *path, sqlite3 **db, outbox **box)
{
    char sentence[256] = "";
    const outbox_config config = {.sentence = sentence, .sentence_size = sizeof sentence};
    if (box)
        *box = NULL;
    int status = cli_open(path, box ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, db);
    if (status != CLI_OK)
        return status;
    if (!cli_has_outbox(*db))
        status = cli_fail("%s holds no outbox; `outbox init %s` makes one", path, path);
    else if (box && outbox_attach(*db, &config, box) != OUTBOX_OK)
        status = cli_fail("%s: %s", path, sentence);
    if (status != CLI_OK) {
        cli_close(*db, NULL);
        *db = NULL;
    }
    return status;
}

void cli_close(sqlite3 *db, outbox *box)
{
    outbox_detach(box);
    /* Every statement here is finalized where it was prepared, so this closes. */
    (void)sqlite3_close(db);
}

int cli_execute(sqlite3 *db, const char *path, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return CLI_OK;
    return cli_fail("%s: %s", path, sqlite3_errmsg(db));
}

char *cli_text(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    char *text = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        text = sqlite3_mprintf("%s", sqlite3_column_text(statement, 0));
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return text;
}

static bool has_table(sqlite3 *db, const char *sql)
{
    char *found = cli_text(db, sql);
    sqlite3_free(found);
    return found != NULL;
}

bool cli_has_outbox(sqlite3 *db)
{
    return has_table(db, "SELECT name FROM main.sqlite_master"
                         " WHERE type = 'table' AND name = 'outbox_event'");
}

bool cli_has_inbox(sqlite3 *db)
{
    return has_table(db, "SELECT name FROM main.sqlite_master"
                         " WHERE type = 'table' AND name = 'inbox_stream'");
}
