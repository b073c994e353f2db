/* SPDX-License-Identifier: MIT
 *
 * dead.c - `outbox dead`: lists and shows dead letters, puts them back or deletes them.
 *
 * To list and to show reads through a read-only connection. Each letter goes back in a transaction
 * of its own: killed between two, those that were printed are back in their lane and the others are
 * where they were.
 */
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int run(int argc, char **argv);

const struct cli_verb cli_dead = {
    .name = "dead",
    .summary = "list dead letters, show one, put them back or delete them",
    .help =
        "Usage: outbox dead list FILE [--json]\n"
        "       outbox dead show FILE NUMBER [--json]\n"
        "       outbox dead requeue FILE NUMBER|--all [--json]\n"
        "       outbox dead purge FILE NUMBER|--all [--json]\n"
        "Dead letters are events that could never be sent. The newest 1000 are kept.\n"
        "\n"
        "  list      number, lane, id, time of death in UTC, reason, topic, payload's bytes\n"
        "  show      one with all that it holds\n"
        "  requeue   back into its lane as a new event, whose id is printed; --all tries each,\n"
        "            and tells which are still unfit\n"
        "  purge     deleted; it stays counted\n"
        "\n"
        "  -a, --all   all of them\n"
        "      --json  list: an array of objects; show: an object, in which bytes are base64\n"
        "              under names that end in _base64; requeue: an array of number and id;\n"
        "              purge: how many. Later versions may add members.\n"
        "\n"
        "Exit status: 0 done; 1 failed, also for one letter of all; 2 called wrongly.\n",
    .run = run,
};

struct job {
    const char *path;
    int64_t number;
    bool all, json;
    sqlite3 *db;
    outbox *box;
};

/* ---- Reading --------------------------------------------------------------------------------- */

#define COLUMNS                                                                                    \
    "number, lane, id, epoch, died, reason, topic,"                                                \
    " coalesce(length(CAST(payload AS BLOB)), 0) AS bytes"

static int prepare(const struct job *job, const char *sql, sqlite3_stmt **statement)
{
    if (sqlite3_prepare_v2(job->db, sql, -1, statement, NULL) == SQLITE_OK &&
        sqlite3_bind_int64(*statement, 1, job->number) == SQLITE_OK)
        return CLI_OK;
    return cli_fail("%s: %s", job->path, sqlite3_errmsg(job->db));
}

/* Ends a statement whose last step gave `result`. */
static int finish(const struct job *job, sqlite3_stmt *statement, int result)
{
    int status = result == SQLITE_DONE || result == SQLITE_ROW
                     ? CLI_OK
                     : cli_fail("%s: %s", job->path, sqlite3_errmsg(job->db));
    (void)sqlite3_finalize(statement); /* repeats what step said */
    return status;
}

static void print_object(sqlite3_stmt *statement)
{
    int count = sqlite3_column_count(statement);
    (void)putchar('{');
    for (int i = 0; i < count; i++) {
        if (i > 0)
            (void)putchar(',');
        cli_json_column(sqlite3_column_name(statement, i), statement, i);
    }
    (void)putchar('}');
}

/* What other writers stored may hold control characters, which a terminal would obey. */
static void print_clean(sqlite3_stmt *statement, int column)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    int len = sqlite3_column_bytes(statement, column);
    for (int i = 0; text && i < len; i++)
        (void)putchar(text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i]);
}

static void print_line(sqlite3_stmt *statement)
{
    int count = sqlite3_column_count(statement);
    for (int i = 0; i < count; i++) {
        print_clean(statement, i);
        (void)putchar(i + 1 < count ? '\t' : '\n');
    }
}

static int list(struct job *job)
{
    sqlite3_stmt *statement = NULL;
    int status = prepare(job,
                         job->json ? "SELECT " COLUMNS " FROM main.outbox_dead WHERE ?1 IS ?1"
                                     " ORDER BY number"
                                   : "SELECT number, lane, id, datetime(died / 1000, 'unixepoch'),"
                                     " reason, topic, coalesce(length(CAST(payload AS BLOB)), 0)"
                                     " FROM main.outbox_dead WHERE ?1 IS ?1 ORDER BY number",
                         &statement);
    int result = status == CLI_OK ? sqlite3_step(statement) : SQLITE_DONE;
    if (status == CLI_OK && job->json)
        (void)putchar('[');
    for (int64_t i = 0; result == SQLITE_ROW; i++) {
        if (job->json && i > 0)
            (void)putchar(',');
        (job->json ? print_object : print_line)(statement);
        result = sqlite3_step(statement);
    }
    if (status == CLI_OK && job->json)
        (void)puts("]");
    int ended = finish(job, statement, result);
    return status == CLI_OK ? ended : status;
}

static void print_letter(sqlite3_stmt *statement)
{
    int count = sqlite3_column_count(statement);
    for (int i = 0; i < count; i++) {
        if (sqlite3_column_type(statement, i) == SQLITE_NULL)
            continue;
        (void)printf("%-13s ", sqlite3_column_name(statement, i));
        if (sqlite3_column_type(statement, i) == SQLITE_BLOB)
            (void)printf("%d bytes; --json shows them", sqlite3_column_bytes(statement, i));
        else
            print_clean(statement, i);
        (void)putchar('\n');
    }
}

#define SHOW(more)                                                                                 \
    "SELECT " COLUMNS ", created, retain, type, content_type, key, expires, keep_last, " more      \
    "payload FROM main.outbox_dead WHERE number = ?1"

/* A file of an earlier release that nobody has attached to since has no such column. */
static bool has_headers(const struct job *job)
{
    sqlite3_stmt *probe = NULL;
    int result =
        sqlite3_prepare_v2(job->db, "SELECT headers FROM main.outbox_dead", -1, &probe, NULL);
    (void)sqlite3_finalize(probe); /* never stepped: nothing to report */
    return result == SQLITE_OK;
}

static int show(struct job *job)
{
    sqlite3_stmt *statement = NULL;
    int status = prepare(job, has_headers(job) ? SHOW("headers, ") : SHOW(""), &statement);
    int result = status == CLI_OK ? sqlite3_step(statement) : SQLITE_DONE;
    if (status == CLI_OK && result == SQLITE_DONE)
        status = cli_fail("%s: there is no dead letter %" PRId64, job->path, job->number);
    if (result == SQLITE_ROW && job->json) {
        print_object(statement);
        (void)putchar('\n');
    } else if (result == SQLITE_ROW) {
        print_letter(statement);
    }
    int ended = finish(job, statement, result);
    return status == CLI_OK ? ended : status;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* The numbers there are now: what is buried while we work is not asked for. */
static int find_numbers(const struct job *job, int64_t numbers[OUTBOX_DEAD_MAX], int *count)
{
    sqlite3_stmt *statement = NULL;
    *count = 0;
    int status = prepare(job, "SELECT number FROM main.outbox_dead WHERE ?1 IS ?1 ORDER BY number",
                         &statement);
    int result = SQLITE_DONE;
    while (status == CLI_OK && *count < OUTBOX_DEAD_MAX &&
           (result = sqlite3_step(statement)) == SQLITE_ROW)
        numbers[(*count)++] = sqlite3_column_int64(statement, 0);
    int ended = finish(job, statement, result);
    return status == CLI_OK ? ended : status;
}

/* Whether only this letter is the matter, and the next one may go. */
static bool is_unfit(int code)
{
    return code == OUTBOX_BAD_TOPIC || code == OUTBOX_BAD_PAYLOAD || code == OUTBOX_BAD_ATTRIBUTE ||
           code == OUTBOX_TOO_LARGE || code == OUTBOX_CORRUPT;
}

static int requeue_each(struct job *job, const int64_t *numbers, int count)
{
    int status = CLI_OK, done = 0;
    if (job->json)
        (void)putchar('[');
    for (int i = 0; i < count; i++) {
        int64_t id = 0;
        int code = outbox_requeue(job->box, numbers[i], &id);
        if (code == OUTBOX_OK && job->json)
            (void)printf("%s{\"number\":%" PRId64 ",\"id\":%" PRId64 "}", done > 0 ? "," : "",
                         numbers[i], id);
        else if (code == OUTBOX_OK)
            (void)printf("%" PRId64 "\n", id);
        done += code == OUTBOX_OK;
        if (code != OUTBOX_OK)
            status = cli_fail("%s: dead letter %" PRId64 ": %s", job->path, numbers[i],
                              outbox_errmsg(job->box));
        if (code != OUTBOX_OK && !is_unfit(code))
            break;
    }
    if (job->json)
        (void)puts("]");
    return status;
}

static int requeue(struct job *job)
{
    static int64_t numbers[OUTBOX_DEAD_MAX];
    int count = 1, status = CLI_OK;
    numbers[0] = job->number;
    if (job->all)
        status = find_numbers(job, numbers, &count);
    return status == CLI_OK ? requeue_each(job, numbers, count) : status;
}

static int purge(struct job *job)
{
    if (outbox_purge(job->box, job->all ? 0 : job->number) != OUTBOX_OK)
        return cli_fail("%s: %s", job->path, outbox_errmsg(job->box));
    (void)printf(job->json ? "{\"purged\":%d}\n" : "%d purged\n", sqlite3_changes(job->db));
    return CLI_OK;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static const struct action {
    const char *name;
    bool writes, wants_number, takes_all;
    int (*run)(struct job *job);
} actions[] = {
    {"list", false, false, false, list},
    {"show", false, true, false, show},
    {"requeue", true, true, true, requeue},
    {"purge", true, true, true, purge},
};

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

/* Returns -1 when all options are understood, else an exit status. */
static int parse(int argc, char **argv, struct job *job)
{
    static const struct option options[] = {{"all", no_argument, NULL, 'a'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int option;
    while ((option = getopt_long(argc, argv, "ah", options, NULL)) != -1) {
        if (option == 'a')
            job->all = true;
        else if (option == 'j')
            job->json = true;
        else
            return cli_other_option(&cli_dead, option);
    }
    return -1;
}

/* The words behind the action's name: FILE, and NUMBER where one is wanted. */
static int parse_words(int count, char **words, const struct action *action, struct job *job)
{
    if (job->all && !action->takes_all)
        return cli_usage(&cli_dead, "--all goes with requeue and purge");
    bool has_number = action->wants_number && !job->all;
    if (count != (has_number ? 2 : 1))
        return cli_usage(&cli_dead, "dead %s wants FILE%s", action->name,
                         !action->wants_number ? ""
                         : action->takes_all   ? " and NUMBER or --all"
                                               : " and NUMBER");
    job->path = words[0];
    if (has_number && !cli_number(words[1], 1, INT64_MAX, &job->number))
        return cli_usage(&cli_dead, "'%s' is no number of a dead letter", words[1]);
    return -1;
}

static int run(int argc, char **argv)
{
    struct job job = {0};
    int status = parse(argc, argv, &job);
    if (status >= 0)
        return status;
    const struct action *action = optind < argc ? find_action(argv[optind]) : NULL;
    if (!action)
        return cli_usage(&cli_dead, "dead wants one of list, show, requeue and purge");
    status = parse_words(argc - optind - 1, argv + optind + 1, action, &job);
    if (status >= 0)
        return status;
    status = cli_open_outbox(job.path, &job.db, action->writes ? &job.box : NULL);
    if (status == CLI_OK)
        status = action->run(&job);
    cli_close(job.db, job.box);
    return status;
}
