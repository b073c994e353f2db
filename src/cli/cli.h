/* SPDX-License-Identifier: MIT
 *
 * cli.h - what the verbs of the `outbox` command share.
 *
 * A verb is one file with one struct cli_verb. It prints results on standard output and sentences
 * for people on standard error, and returns an exit status.
 */
#ifndef OUTBOX_CLI_H
#define OUTBOX_CLI_H

#include <getopt.h>
#include <outbox/outbox.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_verb {
    const char *name;
    const char *summary; /* one line for `outbox --help` */
    const char *help;    /* all of `outbox VERB --help`; begins with the usage line */
    int (*run)(int argc, char **argv);
};

extern const struct cli_verb cli_init, cli_put, cli_forward, cli_status, cli_dead, cli_verify,
    cli_epoch, cli_receive, cli_capture;

/* Each prints "outbox: " and the sentence, and returns its exit status. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int cli_usage(const struct cli_verb *verb, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* For the `default:` of a switch over getopt_long(): 'h' is --help, all else was reported. */
int cli_other_option(const struct cli_verb *verb, int option);

/* A whole number in min..max. */
bool cli_number(const char *text, int64_t min, int64_t max, int64_t *number);

/* Opens a database file: with `flags` of sqlite3_open_v2(), and a wait of some seconds where
 * another process holds it. Without SQLITE_OPEN_CREATE a missing file is a failure. Prints what is
 * wrong; *db is then NULL. */
int cli_open(const char *path, int flags, sqlite3 **db);

/* Opens for writing a file that holds an outbox already, and attaches to it. `box` is NULL: for
 * reading, and attaches to nothing. */
int cli_open_outbox(const char *path, sqlite3 **db, outbox **box);

/* Detaches and closes; either may be NULL. */
void cli_close(sqlite3 *db, outbox *box);

/* Runs SQL that gives no rows; prints what is wrong. */
int cli_execute(sqlite3 *db, const char *path, const char *sql);

/* The first column of the first row as text, sqlite3_malloc()ed; NULL where there is none. */
char *cli_text(sqlite3 *db, const char *sql);

/* Print JSON: a string of UTF-8, and a column as a member; its name ends in _base64 if it holds
 * bytes. */
void cli_json_string(const char *bytes, size_t len);
void cli_json_column(const char *name, sqlite3_stmt *statement, int column);

/* Does this file have an outbox's tables? Those of an inbox? */
bool cli_has_outbox(sqlite3 *db);
bool cli_has_inbox(sqlite3 *db);

/* Refuses a broker's URL that cannot be used, and one that holds a password. */
int cli_check_url(const struct cli_verb *verb, const char *text);

/* The first line of `file`, or without one what OUTBOX_PASSWORD says, or NULL: into *password. */
#define CLI_PASSWORD_SIZE 65536 /* MQTT 5, 3.1.3.6, and a NUL */
int cli_password(const char *file, char room[CLI_PASSWORD_SIZE], const char **password);

#endif
