/* SPDX-License-Identifier: MIT
 *
 * epoch.c - `outbox new-epoch`: after a restored backup, gives later events another identity.
 *
 * All work is outbox_new_epoch()'s: killed before it, the file is as it was; once the command has
 * ended with 0 not even a power cut takes the new epoch back.
 */
#include "cli.h"

#include <stdio.h>

static int run(int argc, char **argv);

const struct cli_verb cli_epoch = {
    .name = "new-epoch",
    .summary = "after a restored backup: let later events have a new identity",
    .help = "Usage: outbox new-epoch FILE\n"
            "Starts a new epoch behind the last event of each lane. Call it when a backup was\n"
            "restored: the numbers that were given to events since the backup will be given to\n"
            "other events, and the epoch in their source tells them apart. Pending events keep\n"
            "theirs. A forwarder or an application may be running.\n",
    .run = run,
};

/* Of this connection alone; where the journal is no WAL, no weaker level would do. */
static int start(sqlite3 *db, outbox *box, const char *path)
{
    int status = cli_execute(db, path, "PRAGMA main.synchronous = EXTRA");
    if (status == CLI_OK && outbox_new_epoch(box) != OUTBOX_OK)
        status = cli_fail("%s: %s", path, outbox_errmsg(box));
    return status;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    int option = getopt_long(argc, argv, "h", options, NULL);
    if (option != -1)
        return cli_other_option(&cli_epoch, option);
    if (argc - optind != 1)
        return cli_usage(&cli_epoch, "new-epoch wants one FILE");
    const char *path = argv[optind];
    sqlite3 *db;
    outbox *box;
    int status = cli_open_outbox(path, &db, &box);
    if (status == CLI_OK)
        status = start(db, box, path);
    cli_close(db, box);
    return status;
}
