/* SPDX-License-Identifier: MIT
 *
 * init.c - `outbox init`: makes the outbox's tables, and the database if there is none.
 *
 * The tables are made in one transaction, so a crash leaves a whole outbox or none; running it
 * again is always right. It changes neither the journal mode of a database that was there, nor a
 * device name that is stored: that would make all pending events new ones.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(int argc, char **argv);

const struct cli_verb cli_init = {
    .name = "init",
    .summary = "make an outbox in a database, and the database if it is missing",
    .help = "Usage: outbox init FILE [--device NAME] [LIMIT]...\n"
            "Makes the outbox's tables in the SQLite database FILE. A missing FILE is made, in\n"
            "WAL mode; an existing one keeps its journal mode. Where there is an outbox already,\n"
            "only limits that are given are set.\n"
            "\n"
            "  --device NAME   name of this device in the source of every event; characters\n"
            "                  A-Z a-z 0-9 . _ ~ -  (default: a random one)\n"
            "\n"
            "How much a lane may hold; run it once for each lane. 0 takes a limit away.\n"
            "  --lane LANE      normal (default) or urgent\n"
            "  --max-events N   events\n"
            "  --max-bytes N    bytes of topics, payloads and attributes, and 32 for each event\n"
            "  --reject         a put over the limit fails (default)\n"
            "  --evict          the oldest events leave for it\n"
            "\n"
            "Prints the device's name. A stored name is never changed.\n",
    .run = run,
};

struct job {
    const char *device;
    outbox_lane lane;
    outbox_limit limit;
    bool has_lane, has_policy;
};

static char *stored_device(sqlite3 *db)
{
    return cli_text(db, "SELECT value FROM main.outbox_meta WHERE name = 'device'");
}

/* WAL can be chosen at any time, but it is the application's choice where it made the file. */
static int choose_journal(sqlite3 *db, const char *path)
{
    char *pages = cli_text(db, "PRAGMA main.page_count");
    bool is_new = pages && strcmp(pages, "0") == 0;
    sqlite3_free(pages);
    return is_new ? cli_execute(db, path, "PRAGMA main.journal_mode = WAL") : CLI_OK;
}

static int check_device(sqlite3 *db, const char *path, const char *device)
{
    if (!device || !cli_has_outbox(db))
        return CLI_OK;
    char *stored = stored_device(db);
    int status = CLI_OK;
    if (stored && strcmp(stored, device) != 0)
        status = cli_fail("%s belongs to the device %s; a new name would make its events new ones, "
                          "so only an application's outbox_attach() can give it",
                          path, stored);
    sqlite3_free(stored);
    return status;
}

static int make_outbox(sqlite3 *db, const char *path, const struct job *job)
{
    char sentence[256] = "";
    outbox_config config = {
        .device = job->device, .sentence = sentence, .sentence_size = sizeof sentence};
    config.limits[job->lane] = job->limit;
    outbox *box = NULL;
    if (outbox_attach(db, &config, &box) != OUTBOX_OK)
        return cli_fail("%s: %s", path, sentence);
    const char *warning = outbox_warning(box);
    if (warning)
        (void)fprintf(stderr, "outbox: %s: %s\n", path, warning);
    char *stored = stored_device(db);
    (void)printf("%s\n", stored ? stored : "");
    sqlite3_free(stored);
    outbox_detach(box);
    return CLI_OK;
}

/* A limit as outbox_limit has it; false if it is none. */
static bool read_limit(const char *text, int64_t *limit)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < 0 || number > OUTBOX_ID_MAX)
        return false;
    *limit = number > 0 ? number : OUTBOX_UNLIMITED;
    return true;
}

static bool read_lane(const char *text, outbox_lane *lane)
{
    *lane = strcmp(text, "urgent") == 0 ? OUTBOX_URGENT : OUTBOX_NORMAL;
    return *lane == OUTBOX_URGENT || strcmp(text, "normal") == 0;
}

/* Returns -1 when the option is understood, else an exit status. */
static int take_option(int option, struct job *job)
{
    switch (option) {
    case 'd':
        job->device = optarg;
        return -1;
    case 'l':
        job->has_lane = true;
        return read_lane(optarg, &job->lane)
                   ? -1
                   : cli_usage(&cli_init, "--lane wants normal or urgent");
    case 'n':
    case 'b':
        return read_limit(optarg, option == 'n' ? &job->limit.max_events : &job->limit.max_bytes)
                   ? -1
                   : cli_usage(&cli_init, "a limit is a number from 0 to 2^48");
    case 'e':
    case 'r':
        job->has_policy = true;
        job->limit.when_full = option == 'e' ? OUTBOX_EVICT_OLDEST : OUTBOX_REJECT;
        return -1;
    default:
        return cli_other_option(&cli_init, option);
    }
}

/* Returns -1 when all options are understood, else an exit status. */
static int parse(int argc, char **argv, struct job *job)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"lane", required_argument, NULL, 'l'},
                                            {"max-events", required_argument, NULL, 'n'},
                                            {"max-bytes", required_argument, NULL, 'b'},
                                            {"evict", no_argument, NULL, 'e'},
                                            {"reject", no_argument, NULL, 'r'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int option, status = -1;
    while (status < 0 && (option = getopt_long(argc, argv, "h", options, NULL)) != -1)
        status = take_option(option, job);
    if (status >= 0)
        return status;
    if (job->limit.max_events == 0 && job->limit.max_bytes == 0 &&
        (job->has_lane || job->has_policy))
        return cli_usage(&cli_init, "--lane, --evict and --reject go with a limit");
    if (argc - optind != 1)
        return cli_usage(&cli_init, "init wants one FILE");
    return -1;
}

static int run(int argc, char **argv)
{
    struct job job = {0};
    int status = parse(argc, argv, &job);
    if (status >= 0)
        return status;
    const char *path = argv[optind];
    sqlite3 *db;
    status = cli_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    if (status != CLI_OK)
        return status;
    status = choose_journal(db, path);
    if (status == CLI_OK)
        status = check_device(db, path, job.device);
    if (status == CLI_OK)
        status = make_outbox(db, path, &job);
    cli_close(db, NULL);
    return status;
}
