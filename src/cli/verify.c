/* SPDX-License-Identifier: MIT
 *
 * verify.c - `outbox verify`: recomputes what must hold of an outbox or an inbox, and of the file.
 *
 * Reads through a read-only connection; it may run while others write, and be killed at any moment.
 */
#include "received.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int run(int argc, char **argv);

const struct cli_verb cli_verify = {
    .name = "verify",
    .summary = "recompute the counts, and look for damage",
    .help =
        "Usage: outbox verify FILE [--json]\n"
        "Reads all of the outbox in FILE, checks that its counts, ids, marks, epochs and dead\n"
        "letters agree, and lets SQLite check the file. In a FILE of `outbox receive` checks that\n"
        "each stream is complete, has each event once and in order, and that no event waits\n"
        "behind a gap. Prints each finding on a line. Reads the whole file, and writes nothing.\n"
        "\n"
        "  --json   one JSON object: ok, and findings, an array of objects with lane (normal,\n"
        "           urgent, the name of a stream, or null) and sentence. Later versions may add\n"
        "           members.\n"
        "\n"
        "Exit status: 0 nothing was found; 1 something was, or it failed; 2 called wrongly.\n",
    .run = run,
};

struct job {
    bool json;
    int64_t findings;
};

static void print_finding(void *context, const char *lane, const char *sentence)
{
    struct job *job = context;
    if (!job->json) {
        (void)printf("%s%s%s\n", lane ? lane : "", lane ? ": " : "", sentence);
    } else {
        (void)printf("%s{\"lane\":", job->findings > 0 ? "," : "");
        if (lane)
            cli_json_string(lane, strlen(lane));
        else
            (void)fputs("null", stdout);
        (void)fputs(",\"sentence\":", stdout);
        cli_json_string(sentence, strlen(sentence));
        (void)putchar('}');
    }
    job->findings++;
}

/* SQLite's own check of the file gives one row, "ok", or one for each finding. */
static int check_file(sqlite3 *db, struct job *job)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(db, "PRAGMA main.integrity_check", -1, &statement, NULL);
    if (result == SQLITE_OK)
        while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
            const char *text = (const char *)sqlite3_column_text(statement, 0);
            if (text && strcmp(text, "ok") != 0)
                print_finding(job, NULL, text);
        }
    (void)sqlite3_finalize(statement); /* repeats what step said */
    if ((result & 0xff) == SQLITE_CORRUPT)
        print_finding(job, NULL, sqlite3_errmsg(db));
    else if (result != SQLITE_DONE)
        return cli_fail("%s", sqlite3_errmsg(db));
    return CLI_OK;
}

static int check(const char *path, int code)
{
    if (code == OUTBOX_OK || code == OUTBOX_CORRUPT) /* then there were findings */
        return CLI_OK;
    return cli_fail("%s: %s", path, outbox_strerror(code));
}

/* A file may have an outbox and an inbox. */
static int verify(sqlite3 *db, const char *path, struct job *job)
{
    bool has_outbox = cli_has_outbox(db), has_inbox = cli_has_inbox(db);
    int status = CLI_OK;
    if (!has_outbox && !has_inbox)
        return cli_fail("%s holds no outbox; `outbox init %s` makes one", path, path);
    if (job->json)
        (void)fputs("{\"findings\":[", stdout);
    if (has_outbox)
        status = check(path, outbox_verify(db, print_finding, job));
    if (has_inbox && status == CLI_OK)
        status = check(path, inbox_verify(db, print_finding, job));
    if (has_inbox && status == CLI_OK && received_exists(db))
        status = received_verify(db, print_finding, job);
    if (status == CLI_OK)
        status = check_file(db, job);
    bool ok = status == CLI_OK && job->findings == 0;
    if (job->json)
        (void)printf("],\"ok\":%s}\n", ok ? "true" : "false");
    else if (ok)
        (void)puts("ok");
    return ok ? CLI_OK : CLI_FAILED;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct job job = {0};
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option != 'j')
            return cli_other_option(&cli_verify, option);
        job.json = true;
    }
    if (argc - optind != 1)
        return cli_usage(&cli_verify, "verify wants one FILE");
    sqlite3 *db;
    int status = cli_open(argv[optind], SQLITE_OPEN_READONLY, &db);
    if (status != CLI_OK)
        return status;
    status = verify(db, argv[optind], &job);
    cli_close(db, NULL);
    return status;
}
