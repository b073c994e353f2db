/* SPDX-License-Identifier: MIT
 *
 * put.c - `outbox put`: stores events from the command line or from standard input.
 *
 * What was reported as stored is committed. Lines go in batches, each a transaction that is opened
 * when its lines are there and committed before the next read, so that a slow producer behind a
 * pipe never holds the database's write lock, and a crash loses at most lines that were not
 * reported yet.
 */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH_MAX 256
#define LINE_MAX_BYTES ((size_t)OUTBOX_PAYLOAD_MAX)
#define TTL_SECONDS_MAX 2000000000 /* sixty years; a long may have 32 bits */
#define BUFFER_SIZE (4 * LINE_MAX_BYTES)

static int run(int argc, char **argv);

const struct cli_verb cli_put = {
    .name = "put",
    .summary = "store events, from an argument or from standard input",
    .help =
        "Usage: outbox put FILE TOPIC [PAYLOAD|-] [OPTION]...\n"
        "Stores one event with this payload. Without PAYLOAD, or with -, the payload is all of\n"
        "standard input. Prints the event's id.\n"
        "\n"
        "  -l, --lines              each line of standard input is the payload of one event;\n"
        "                           prints how many were stored and the last id\n"
        "      --each               with --lines: a transaction for each line; without it up\n"
        "                           to 256 lines that are there at once share one\n"
        "  -c, --content-type TYPE  media type, as application/json or text/plain\n"
        "  -t, --type TYPE          CloudEvents type (default: outbox.event)\n"
        "  -k, --key KEY            CloudEvents partitionkey\n"
        "  -r, --retain             the broker keeps it as the topic's retained message\n"
        "  -u, --urgent             in the urgent lane\n"
        "      --keep-last          only the newest event of this key matters; needs --key\n"
        "      --ttl SECONDS        not worth sending after so long (default: for ever)\n"
        "  -H, --header NAME=VALUE  an attribute of your own, as site=7; may be repeated\n"
        "      --correlation-id ID  CloudEvents correlationid\n"
        "      --causation-id ID    CloudEvents causationid: the id of the event that caused this\n"
        "      --traceparent TEXT   W3C trace context\n"
        "\n"
        "A payload has at most 65536 bytes. If a line cannot be stored, its whole batch is not,\n"
        "and the command stops and tells how many events were stored before.\n",
    .run = run,
};

struct job {
    const char *path;
    sqlite3 *db;
    outbox *box;
    outbox_event event; /* all but the payload */
    outbox_header headers[OUTBOX_HEADERS_MAX];
    bool lines, each;
    int64_t stored, last_id; /* committed so far */
};

/* ---- One event ------------------------------------------------------------------------------- */

static int put_one(struct job *job, const void *payload, size_t length)
{
    job->event.payload = payload;
    job->event.payload_len = length;
    if (outbox_put(job->box, &job->event, &job->last_id) != OUTBOX_OK)
        return cli_fail("%s: %s", job->path, outbox_errmsg(job->box));
    (void)printf("%" PRId64 "\n", job->last_id);
    return CLI_OK;
}

/* Reads until the buffer is full or the input ends. -1: failed, and said so. */
static ssize_t read_all(char *buffer, size_t size)
{
    size_t length = 0;
    while (length < size) {
        ssize_t got = read(STDIN_FILENO, buffer + length, size - length);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR) {
            (void)cli_fail("standard input: %s", strerror(errno));
            return -1;
        }
        if (got > 0)
            length += (size_t)got;
    }
    return (ssize_t)length;
}

static int put_input(struct job *job, char *buffer)
{
    ssize_t length = read_all(buffer, LINE_MAX_BYTES + 1);
    if (length < 0)
        return CLI_FAILED;
    if ((size_t)length > LINE_MAX_BYTES)
        return cli_fail("standard input has more than %zu bytes; --lines makes an event of each "
                        "line",
                        LINE_MAX_BYTES);
    return put_one(job, buffer, (size_t)length);
}

/* ---- Lines ----------------------------------------------------------------------------------- */

static int put_batch(struct job *job, const char **cursor, const char *end)
{
    int64_t count = 0, last_id = job->last_id;
    const int64_t most = job->each ? 1 : BATCH_MAX;
    const char *line = *cursor;
    if (cli_execute(job->db, job->path, "BEGIN IMMEDIATE") != CLI_OK)
        return CLI_FAILED;
    while (line < end && count < most) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        job->event.payload = line;
        job->event.payload_len = (size_t)(newline - line);
        if (outbox_put(job->box, &job->event, &last_id) != OUTBOX_OK)
            return cli_fail("%s: line %" PRId64 ": %s", job->path, job->stored + count + 1,
                            outbox_errmsg(job->box));
        line = newline + 1;
        count++;
    }
    if (cli_execute(job->db, job->path, "COMMIT") != CLI_OK)
        return CLI_FAILED;
    job->stored += count;
    job->last_id = last_id;
    *cursor = line;
    return CLI_OK;
}

/* Stores the whole lines of the buffer and moves what is left of the last one to its front. */
static int put_whole_lines(struct job *job, char *buffer, size_t *length)
{
    const char *newline = memrchr(buffer, '\n', *length);
    if (!newline)
        return CLI_OK;
    const char *cursor = buffer, *end = newline + 1;
    while (cursor < end) {
        int status = put_batch(job, &cursor, end);
        if (status != CLI_OK)
            return status;
    }
    *length -= (size_t)(end - buffer);
    memmove(buffer, end, *length);
    return CLI_OK;
}

/* One read, and what it completed. `more` gets whether the input goes on. */
static int put_next_lines(struct job *job, char *buffer, size_t *length, bool *more)
{
    /* Room for a newline is kept: the last line of the input need not have one. */
    ssize_t got = read(STDIN_FILENO, buffer + *length, BUFFER_SIZE - *length - 1);
    if (got < 0 && errno == EINTR)
        return CLI_OK;
    if (got < 0)
        return cli_fail("standard input: %s", strerror(errno));
    *length += (size_t)got;
    *more = got > 0;
    if (got == 0 && *length > 0)
        buffer[(*length)++] = '\n';
    int status = put_whole_lines(job, buffer, length);
    if (status == CLI_OK && *length > LINE_MAX_BYTES)
        status =
            cli_fail("line %" PRId64 " has more than %zu bytes", job->stored + 1, LINE_MAX_BYTES);
    return status;
}

static int put_lines(struct job *job, char *buffer)
{
    size_t length = 0;
    bool more = true;
    int status = CLI_OK;
    while (more && status == CLI_OK)
        status = put_next_lines(job, buffer, &length, &more);
    /* Also where it failed: what was stored before is stored. */
    (void)printf("%" PRId64 " events stored", job->stored);
    (void)(job->stored > 0 ? printf(", the last has the id %" PRId64 "\n", job->last_id)
                           : printf("\n"));
    return status;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static int put_payload(struct job *job, const char *payload)
{
    bool from_input = !payload || strcmp(payload, "-") == 0;
    if (!from_input)
        return put_one(job, payload, strlen(payload));
    char *buffer = malloc(BUFFER_SIZE);
    if (!buffer)
        return cli_fail("memory ran out");
    int status = job->lines ? put_lines(job, buffer) : put_input(job, buffer);
    free(buffer);
    return status;
}

enum { KEEP_LAST = 256, TTL, EACH, CORRELATION, CAUSATION, TRACE };

static const struct option options[] = {{"lines", no_argument, NULL, 'l'},
                                        {"each", no_argument, NULL, EACH},
                                        {"content-type", required_argument, NULL, 'c'},
                                        {"type", required_argument, NULL, 't'},
                                        {"key", required_argument, NULL, 'k'},
                                        {"retain", no_argument, NULL, 'r'},
                                        {"urgent", no_argument, NULL, 'u'},
                                        {"keep-last", no_argument, NULL, KEEP_LAST},
                                        {"ttl", required_argument, NULL, TTL},
                                        {"header", required_argument, NULL, 'H'},
                                        {"correlation-id", required_argument, NULL, CORRELATION},
                                        {"causation-id", required_argument, NULL, CAUSATION},
                                        {"traceparent", required_argument, NULL, TRACE},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};

/* Cuts NAME=VALUE in two; what may stand there, the put says. */
static int add_header(struct job *job, char *text)
{
    char *equals = strchr(text, '=');
    if (!equals)
        return cli_usage(&cli_put, "--header wants NAME=VALUE, not '%s'", text);
    if (job->event.header_count == OUTBOX_HEADERS_MAX)
        return cli_usage(&cli_put, "there are more than %d headers", OUTBOX_HEADERS_MAX);
    *equals = '\0';
    job->headers[job->event.header_count++] = (outbox_header){text, equals + 1};
    job->event.headers = job->headers;
    return -1;
}

/* Where the text behind an option belongs; NULL: it is no such option. */
static const char **text_of(outbox_event *event, int option)
{
    switch (option) {
    case 'c':
        return &event->content_type;
    case 't':
        return &event->type;
    case 'k':
        return &event->key;
    case CORRELATION:
        return &event->correlation_id;
    case CAUSATION:
        return &event->causation_id;
    case TRACE:
        return &event->traceparent;
    default:
        return NULL;
    }
}

static int parse_one(struct job *job, int option)
{
    const char **text = text_of(&job->event, option);
    int64_t seconds;
    if (text) {
        *text = optarg;
        return -1;
    }
    switch (option) {
    case 'l':
        job->lines = true;
        return -1;
    case EACH:
        job->each = true;
        return -1;
    case 'r':
        job->event.retain = 1;
        return -1;
    case 'u':
        job->event.lane = OUTBOX_URGENT;
        return -1;
    case KEEP_LAST:
        job->event.keep_last = 1;
        return -1;
    case TTL:
        if (!cli_number(optarg, 1, TTL_SECONDS_MAX, &seconds))
            return cli_usage(&cli_put, "--ttl wants a number of seconds, from 1");
        job->event.ttl_ms = seconds * 1000;
        return -1;
    case 'H':
        return add_header(job, optarg);
    default:
        return cli_other_option(&cli_put, option);
    }
}

/* Returns -1 when all options are understood, else an exit status. */
static int parse(int argc, char **argv, struct job *job)
{
    int option, status = -1;
    while (status < 0 && (option = getopt_long(argc, argv, "lc:t:k:ruH:h", options, NULL)) != -1)
        status = parse_one(job, option);
    return status;
}

static int run(int argc, char **argv)
{
    struct job job = {0};
    int status = parse(argc, argv, &job);
    if (status >= 0)
        return status;
    int count = argc - optind;
    if (count < 2 || count > 3)
        return cli_usage(&cli_put, "put wants FILE, TOPIC and at most one PAYLOAD");
    const char *payload = count == 3 ? argv[optind + 2] : NULL;
    if (job.lines && payload && strcmp(payload, "-") != 0)
        return cli_usage(&cli_put, "--lines reads standard input, so it takes no PAYLOAD");
    if (job.each && !job.lines)
        return cli_usage(&cli_put, "--each goes with --lines");
    job.path = argv[optind];
    job.event.topic = argv[optind + 1];
    status = cli_open_outbox(job.path, &job.db, &job.box);
    if (status == CLI_OK)
        status = put_payload(&job, payload);
    cli_close(job.db, job.box);
    return status;
}
