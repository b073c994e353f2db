/* SPDX-License-Identifier: MIT
 *
 * init.c - `outbox init`: makes the outbox's tables, and the database if there is none.
 *
 * The tables are made in one transaction, so a crash leaves a whole outbox or none; running it
 * again is always right. It changes neither the journal mode of a database that was there, nor a
 * device name that is stored: that would make all pending events new ones.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static int run(int argc, char **argv);

const struct cli_verb cli_init = {
    .name = "init",
    .summary = "make an outbox in a database, and the database if it is missing",
    .help = "Usage: outbox init FILE [--device NAME]\n"
            "Makes the outbox's tables in the SQLite database FILE. A missing FILE is made, in\n"
            "WAL mode; an existing one keeps its journal mode. Does nothing where there is an\n"
            "outbox already.\n"
            "\n"
            "  --device NAME   name of this device in the source of every event; characters\n"
            "                  A-Z a-z 0-9 . _ ~ -  (default: a random one)\n"
            "\n"
            "Prints the device's name. A stored name is never changed.\n",
    .run = run,
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

static int make_outbox(sqlite3 *db, const char *path, const char *device)
{
    char sentence[256] = "";
    const outbox_config config = {
        .device = device, .sentence = sentence, .sentence_size = sizeof sentence};
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

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        {"device", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *device = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option != 'd')
            return cli_other_option(&cli_init, option);
        device = optarg;
    }
    if (argc - optind != 1)
        return cli_usage(&cli_init, "init wants one FILE");
    const char *path = argv[optind];
    sqlite3 *db;
    int status = cli_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    if (status != CLI_OK)
        return status;
    status = choose_journal(db, path);
    if (status == CLI_OK)
        status = check_device(db, path, device);
    if (status == CLI_OK)
        status = make_outbox(db, path, device);
    cli_close(db, NULL);
    return status;
}
