/* SPDX-License-Identifier: MIT
 *
 * status.c - `outbox status`: what waits, what went out, how old, how large.
 *
 * Reads through a read-only connection, in one transaction, so the figures belong together. It
 * works while others write, and changes nothing.
 */
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

static int run(int argc, char **argv);

const struct cli_verb cli_status = {
    .name = "status",
    .summary = "tell what is pending, what was delivered, and how large it is",
    .help = "Usage: outbox status FILE [--json]\n"
            "Tells what the outbox in FILE holds, without writing to it.\n"
            "\n"
            "  --json   one JSON object on one line, all values numbers:\n"
            "           pending, delivered, expired, evicted, superseded, dead_letters: events;\n"
            "           accepted: their sum; holes: ids that never held an event;\n"
            "           oldest_age_ms: age of the oldest pending event or null; lanes: the same\n"
            "           counts for normal and urgent events, and the last_id of each, and where\n"
            "           there is a limit max_events, max_bytes (0: none), evicts (1 or 0), and\n"
            "           pending_bytes (-1: not measured yet);\n"
            "           database_bytes, wal_bytes: sizes of the files. Later versions may add\n"
            "           members.\n",
    .run = run,
};

struct figures {
    outbox_statistics box;
    int64_t oldest_age_ms; /* -1: nothing is pending */
    int64_t database_bytes, wal_bytes;
};

/* By name only: opening and closing these files would drop SQLite's locks on them. */
static int64_t file_size(const char *path)
{
    struct stat about;
    return path && stat(path, &about) == 0 ? (int64_t)about.st_size : 0;
}

static int64_t age_ms(const outbox_statistics *box)
{
    struct timespec now;
    if (box->oldest_created == 0 || clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    int64_t age = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 - box->oldest_created;
    return age > 0 ? age : 0; /* the clock may have been set back since */
}

/* The counts that a lane and the sum of both have alike. */
struct counts {
    int64_t pending, delivered, expired, evicted, superseded, dead_letters, accepted, holes;
};

static void print_counts(const struct counts *counts)
{
    (void)printf("\"pending\":%" PRId64 ",\"delivered\":%" PRId64 ",\"expired\":%" PRId64
                 ",\"evicted\":%" PRId64 ",\"superseded\":%" PRId64 ",\"dead_letters\":%" PRId64
                 ",\"accepted\":%" PRId64 ",\"holes\":%" PRId64,
                 counts->pending, counts->delivered, counts->expired, counts->evicted,
                 counts->superseded, counts->dead_letters, counts->accepted, counts->holes);
}

static void print_lane(const char *name, const outbox_lane_counts *lane)
{
    const struct counts counts = {lane->pending,  lane->delivered,  lane->expired,
                                  lane->evicted,  lane->superseded, lane->dead_lettered,
                                  lane->accepted, lane->holes};
    (void)printf("\"%s\":{", name);
    print_counts(&counts);
    (void)printf(",\"last_id\":%" PRId64, lane->last_id);
    if (lane->max_events > 0 || lane->max_bytes > 0)
        (void)printf(",\"max_events\":%" PRId64 ",\"max_bytes\":%" PRId64
                     ",\"evicts\":%d,\"pending_bytes\":%" PRId64,
                     lane->max_events, lane->max_bytes, lane->evicts, lane->pending_bytes);
    (void)printf("}");
}

static void print_json(const struct figures *figures)
{
    const outbox_statistics *box = &figures->box;
    const struct counts counts = {box->pending,    box->delivered,     box->expired,  box->evicted,
                                  box->superseded, box->dead_lettered, box->accepted, box->holes};
    (void)printf("{");
    print_counts(&counts);
    if (figures->oldest_age_ms >= 0)
        (void)printf(",\"oldest_age_ms\":%" PRId64, figures->oldest_age_ms);
    else
        (void)printf(",\"oldest_age_ms\":null");
    (void)printf(",\"lanes\":{");
    print_lane("normal", &box->lanes[OUTBOX_NORMAL]);
    (void)printf(",");
    print_lane("urgent", &box->lanes[OUTBOX_URGENT]);
    (void)printf("},\"database_bytes\":%" PRId64 ",\"wal_bytes\":%" PRId64 "}\n",
                 figures->database_bytes, figures->wal_bytes);
}

static void print_row(const char *name, int64_t number, const char *unit)
{
    (void)printf("%-14s %12" PRId64 "%s\n", name, number, unit);
}

static void print_limit(const char *name, const outbox_lane_counts *lane)
{
    if (lane->max_events == 0 && lane->max_bytes == 0)
        return;
    (void)printf("%s limit  ", name);
    if (lane->max_events > 0)
        (void)printf("%" PRId64 " of %" PRId64 " events, ", lane->pending, lane->max_events);
    if (lane->max_bytes > 0 && lane->pending_bytes >= 0)
        (void)printf("%" PRId64 " of %" PRId64 " bytes, ", lane->pending_bytes, lane->max_bytes);
    else if (lane->max_bytes > 0)
        (void)printf("%" PRId64 " bytes, ", lane->max_bytes);
    (void)printf("then %s\n", lane->evicts ? "the oldest leave" : "puts are rejected");
}

/* What has never happened is not worth a line, but for the first ones. */
static void print_text(const struct figures *figures)
{
    const outbox_statistics *box = &figures->box;
    const struct {
        const char *name;
        int64_t number;
    } rare[] = {
        {"  urgent", box->lanes[OUTBOX_URGENT].pending},
        {"expired", box->expired},
        {"evicted", box->evicted},
        {"superseded", box->superseded},
        {"holes", box->holes},
    };
    print_row("pending", box->pending, "");
    print_row("delivered", box->delivered, "");
    print_row("dead letters", box->dead_lettered, "");
    for (size_t i = 0; i < sizeof rare / sizeof rare[0]; i++)
        if (rare[i].number != 0)
            print_row(rare[i].name, rare[i].number, "");
    print_row("last id", box->lanes[OUTBOX_NORMAL].last_id, "");
    print_limit("normal", &box->lanes[OUTBOX_NORMAL]);
    print_limit("urgent", &box->lanes[OUTBOX_URGENT]);
    if (figures->oldest_age_ms >= 0)
        print_row("oldest", figures->oldest_age_ms / 1000, " s old");
    print_row("database", figures->database_bytes, " bytes");
    print_row("wal", figures->wal_bytes, " bytes");
}

static int collect(sqlite3 *db, const char *path, struct figures *figures)
{
    char sentence[256] = "";
    if (!cli_has_outbox(db))
        return cli_fail("%s holds no outbox; `outbox init %s` makes one", path, path);
    if (outbox_inspect(db, &figures->box, sentence, sizeof sentence) != OUTBOX_OK)
        return cli_fail("%s: %s", path, sentence);
    figures->oldest_age_ms = age_ms(&figures->box);
    const char *file = sqlite3_db_filename(db, "main");
    figures->database_bytes = file_size(file);
    figures->wal_bytes = file_size(sqlite3_filename_wal(file));
    return CLI_OK;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option != 'j')
            return cli_other_option(&cli_status, option);
        json = true;
    }
    if (argc - optind != 1)
        return cli_usage(&cli_status, "status wants one FILE");
    const char *path = argv[optind];
    struct figures figures = {0};
    sqlite3 *db;
    int status = cli_open(path, SQLITE_OPEN_READONLY, &db);
    if (status != CLI_OK)
        return status;
    status = collect(db, path, &figures);
    if (status == CLI_OK && json)
        print_json(&figures);
    else if (status == CLI_OK)
        print_text(&figures);
    cli_close(db, NULL);
    return status;
}
