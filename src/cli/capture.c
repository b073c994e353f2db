/* SPDX-License-Identifier: MIT
 *
 * capture.c - `outbox capture`: captures the changes of tables, and looks after it.
 *
 * All work is capture.h's. list and doctor read through a read-only connection. Killed at any
 * moment, a table has all its triggers or none; a snapshot has put the rows of the batches that
 * were committed.
 */
#include "cli.h"

#include <inttypes.h>
#include <outbox/capture.h>
#include <stdio.h>
#include <string.h>

static int run(int argc, char **argv);

const struct cli_verb cli_capture = {
    .name = "capture",
    .summary = "turn changes of tables into events",
    .help =
        "Usage: outbox capture add FILE TABLE TOPIC [OPTION]...\n"
        "       outbox capture list FILE [--json]\n"
        "       outbox capture suspend|resume FILE TABLE|--all\n"
        "       outbox capture snapshot FILE TABLE [--rows NUMBER] [--json]\n"
        "       outbox capture remove FILE TABLE\n"
        "       outbox capture doctor FILE [--json]\n"
        "Triggers of plain SQL capture each change of the table in its own transaction, whoever\n"
        "writes. In TOPIC {column} stands for the row's value: plant/{site}/reading.\n"
        "\n"
        "  add       begin to capture a table; rows that are there are not told\n"
        "  list      table, lane, state, topic\n"
        "  suspend   take the triggers away, for a migration\n"
        "  resume    make them anew for the table as it is, also where it has drifted\n"
        "  snapshot  an event for each row that is there\n"
        "  remove    end it; what was captured is still sent\n"
        "  doctor    what makes the captures incomplete: drift, suspension, missed changes\n"
        "\n"
        "  -c, --column NAME       in events; repeat it; without it all columns\n"
        "  -k, --key NAME          of the event's key; repeat it; without it the primary key\n"
        "  -J, --json-column NAME  its text is JSON and travels as such; repeat it\n"
        "  -o, --operation NAME    insert, update or delete; repeat it; without it all three\n"
        "  -w, --where SQL         only rows for which it is true: \"NEW.value > OLD.value + 1\"\n"
        "  -u, --urgent            into the urgent lane\n"
        "      --integers-as-text  those beyond 2^53 as strings, for JavaScript\n"
        "  -n, --rows NUMBER       rows of a transaction of the snapshot; 256\n"
        "  -a, --all               all captured tables\n"
        "      --json              list, doctor: an array of objects; snapshot: an object. Later\n"
        "                          versions may add members.\n"
        "\n"
        "Exit status: 0 done, or nothing found; 1 failed, or the doctor found something; 2 called\n"
        "wrongly.\n",
    .run = run,
};

enum { NAMES_MAX = 1000 };

struct names {
    const char *name[NAMES_MAX + 1];
    int count;
};

struct job {
    const char *path, *table, *topic, *condition;
    struct names columns, keys, json_columns;
    unsigned operations;
    int64_t rows;
    bool all, json, is_urgent, integers_as_text;
    int printed;
    sqlite3 *db;
    outbox *box;
};

static int failed(const struct job *job)
{
    return cli_fail("%s: %s", job->path, outbox_errmsg(job->box));
}

/* ---- Writing --------------------------------------------------------------------------------- */

static const char *const *list_of(const struct names *names)
{
    return names->count > 0 ? names->name : NULL;
}

static int add(struct job *job)
{
    const outbox_capture capture = {.table = job->table,
                                    .topic = job->topic,
                                    .columns = list_of(&job->columns),
                                    .key_columns = list_of(&job->keys),
                                    .json_columns = list_of(&job->json_columns),
                                    .operations = job->operations,
                                    .condition = job->condition,
                                    .lane = job->is_urgent ? OUTBOX_URGENT : OUTBOX_NORMAL,
                                    .integers_as_text = job->integers_as_text};
    return outbox_capture_add(job->box, &capture) == OUTBOX_OK ? CLI_OK : failed(job);
}

static int suspend(struct job *job)
{
    return outbox_capture_suspend(job->box, job->table) == OUTBOX_OK ? CLI_OK : failed(job);
}

static int resume(struct job *job)
{
    return outbox_capture_resume(job->box, job->table) == OUTBOX_OK ? CLI_OK : failed(job);
}

static int end(struct job *job)
{
    return outbox_capture_remove(job->box, job->table) == OUTBOX_OK ? CLI_OK : failed(job);
}

static int snapshot(struct job *job)
{
    int64_t count = 0;
    int code = outbox_capture_snapshot(job->box, job->table, (unsigned)job->rows, &count);
    if (job->json)
        (void)printf("{\"events\":%" PRId64 "}\n", count);
    else
        (void)printf("%" PRId64 " events\n", count);
    return code == OUTBOX_OK ? CLI_OK : failed(job);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void print_string(const char *name, const char *text)
{
    (void)printf(",\"%s\":", name);
    if (text)
        cli_json_string(text, strlen(text));
    else
        (void)fputs("null", stdout);
}

static void print_names(const char *name, const char *const *names)
{
    (void)printf(",\"%s\":", name);
    if (!names) {
        (void)fputs("null", stdout);
        return;
    }
    for (int i = 0; names[i]; i++) {
        (void)putchar(i > 0 ? ',' : '[');
        cli_json_string(names[i], strlen(names[i]));
    }
    (void)putchar(']');
}

static void print_operations(unsigned operations)
{
    static const char *const names[] = {"insert", "update", "delete"};
    const char *between = "";
    (void)fputs(",\"operations\":[", stdout);
    for (unsigned i = 0; i < 3; i++) {
        if (!(operations >> i & 1))
            continue;
        (void)printf("%s\"%s\"", between, names[i]);
        between = ",";
    }
    (void)putchar(']');
}

static void print_capture(void *context, const outbox_capture *capture, outbox_capture_state state,
                          const char *sentence)
{
    static const char *const states[] = {"active", "suspended", "drifted"};
    struct job *job = context;
    const char *lane = capture->lane == OUTBOX_URGENT ? "urgent" : "normal";
    if (!job->json) {
        (void)printf("%s\t%s\t%s\t%s\n", capture->table, lane, states[state], capture->topic);
        return;
    }
    (void)fputs(job->printed++ > 0 ? ",{\"table\":" : "{\"table\":", stdout);
    cli_json_string(capture->table, strlen(capture->table));
    (void)printf(",\"lane\":\"%s\",\"state\":\"%s\"", lane, states[state]);
    print_string("topic", capture->topic);
    print_names("columns", capture->columns);
    print_names("key_columns", capture->key_columns);
    print_names("json_columns", capture->json_columns);
    print_operations(capture->operations);
    print_string("where", capture->condition);
    (void)printf(",\"integers_as_text\":%s", capture->integers_as_text ? "true" : "false");
    print_string("sentence", sentence);
    (void)putchar('}');
}

static int list(struct job *job)
{
    if (job->json)
        (void)putchar('[');
    int code = outbox_capture_list(job->db, print_capture, job);
    if (job->json)
        (void)puts("]");
    return code == OUTBOX_OK ? CLI_OK : cli_fail("%s: %s", job->path, outbox_strerror(code));
}

static void print_finding(void *context, const char *lane, const char *sentence)
{
    struct job *job = context;
    (void)lane;
    if (!job->json) {
        (void)puts(sentence);
        return;
    }
    (void)fputs(job->printed++ > 0 ? ",{\"sentence\":" : "{\"sentence\":", stdout);
    cli_json_string(sentence, strlen(sentence));
    (void)putchar('}');
}

static int examine(struct job *job)
{
    if (job->json)
        (void)putchar('[');
    int code = outbox_capture_doctor(job->db, print_finding, job);
    if (job->json)
        (void)puts("]");
    if (code == OUTBOX_DRIFT)
        return CLI_FAILED;
    return code == OUTBOX_OK ? CLI_OK : cli_fail("%s: %s", job->path, outbox_strerror(code));
}

/* ---- The verb -------------------------------------------------------------------------------- */

static const struct action {
    const char *name;
    bool writes, wants_table, takes_all, wants_topic;
    int (*run)(struct job *job);
} actions[] = {
    {"add", true, true, false, true, add},
    {"list", false, false, false, false, list},
    {"suspend", true, true, true, false, suspend},
    {"resume", true, true, true, false, resume},
    {"snapshot", true, true, false, false, snapshot},
    {"remove", true, true, false, false, end},
    {"doctor", false, false, false, false, examine},
};

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

static int add_name(struct names *names, const char *name)
{
    if (names->count == NAMES_MAX)
        return cli_usage(&cli_capture, "there are over %d names", NAMES_MAX);
    names->name[names->count++] = name;
    return -1;
}

static int add_operation(struct job *job, const char *name)
{
    static const struct {
        const char *name;
        unsigned bit;
    } operations[] = {{"insert", OUTBOX_CAPTURE_INSERT},
                      {"update", OUTBOX_CAPTURE_UPDATE},
                      {"delete", OUTBOX_CAPTURE_DELETE}};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(operations[i].name, name) == 0) {
            job->operations |= operations[i].bit;
            return -1;
        }
    return cli_usage(&cli_capture, "'%s' is none of insert, update and delete", name);
}

/* Returns -1 when the option is understood, else an exit status. */
static int take_option(struct job *job, int option)
{
    switch (option) {
    case 'c':
        return add_name(&job->columns, optarg);
    case 'k':
        return add_name(&job->keys, optarg);
    case 'J':
        return add_name(&job->json_columns, optarg);
    case 'o':
        return add_operation(job, optarg);
    case 'w':
        job->condition = optarg;
        return -1;
    case 'u':
        job->is_urgent = true;
        return -1;
    case 'i':
        job->integers_as_text = true;
        return -1;
    case 'n':
        if (cli_number(optarg, 1, 1000000, &job->rows))
            return -1;
        return cli_usage(&cli_capture, "'%s' is no number of rows, 1 to 1000000", optarg);
    case 'a':
        job->all = true;
        return -1;
    case 'j':
        job->json = true;
        return -1;
    default:
        return cli_other_option(&cli_capture, option);
    }
}

static int parse(int argc, char **argv, struct job *job)
{
    static const struct option options[] = {{"column", required_argument, NULL, 'c'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"json-column", required_argument, NULL, 'J'},
                                            {"operation", required_argument, NULL, 'o'},
                                            {"where", required_argument, NULL, 'w'},
                                            {"urgent", no_argument, NULL, 'u'},
                                            {"integers-as-text", no_argument, NULL, 'i'},
                                            {"rows", required_argument, NULL, 'n'},
                                            {"all", no_argument, NULL, 'a'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int option, status = -1;
    while (status < 0 && (option = getopt_long(argc, argv, "c:k:J:o:w:un:ah", options, NULL)) != -1)
        status = take_option(job, option);
    return status;
}

/* The words behind the action's name. */
static int parse_words(int count, char **words, const struct action *action, struct job *job)
{
    bool wants_table = action->wants_table && !job->all;
    if (job->all && !action->takes_all)
        return cli_usage(&cli_capture, "--all goes with suspend and resume");
    if (count != 1 + wants_table + action->wants_topic)
        return cli_usage(&cli_capture, "capture %s wants FILE%s%s", action->name,
                         !action->wants_table ? ""
                         : action->takes_all  ? " and TABLE or --all"
                                              : " and TABLE",
                         action->wants_topic ? " and TOPIC" : "");
    job->path = words[0];
    job->table = wants_table ? words[1] : NULL;
    job->topic = action->wants_topic ? words[2] : NULL;
    return -1;
}

static int run(int argc, char **argv)
{
    static struct job job;
    int status = parse(argc, argv, &job);
    if (status >= 0)
        return status;
    const struct action *action = optind < argc ? find_action(argv[optind]) : NULL;
    if (!action)
        return cli_usage(&cli_capture, "capture wants one of add, list, suspend, resume, snapshot, "
                                       "remove and doctor");
    status = parse_words(argc - optind - 1, argv + optind + 1, action, &job);
    if (status >= 0)
        return status;
    status = cli_open_outbox(job.path, &job.db, action->writes ? &job.box : NULL);
    if (status == CLI_OK)
        status = action->run(&job);
    cli_close(job.db, job.box);
    return status;
}
