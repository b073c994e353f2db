/* SPDX-License-Identifier: MIT
 *
 * forward.c - `outbox forward`: a forwarder in a process of its own.
 *
 * For applications that only write SQL, and to drain a file by hand. All work is outbox_start()'s;
 * here are options, signals and the progress line. Killed at any moment it loses nothing: what was
 * not settled is sent again by the next forwarder of the file.
 */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 100 /* how often --drain looks for signals and draws its line */

static int run(int argc, char **argv);

const struct cli_verb cli_forward = {
    .name = "forward",
    .summary = "send the events of a database to an MQTT broker",
    .help =
        "Usage: outbox forward FILE --broker URL [OPTION]...\n"
        "Sends what is pending and what comes, until SIGINT or SIGTERM. Only one forwarder can\n"
        "serve a FILE at a time; with --stand-by the second one waits for its turn.\n"
        "\n"
        "  -b, --broker URL         mqtt://[user@]host[:port] or mqtts://[user@]host[:port]\n"
        "  -d, --drain              end when all that was pending at the start is settled\n"
        "  -s, --stand-by           wait while another forwarder serves FILE, and take over when\n"
        "                           it ends or dies\n"
        "      --timeout SECONDS    with --drain: give up after so long, with exit status 1\n"
        "  -u, --username NAME      user name, instead of one in the URL\n"
        "      --password-file F    the first line of F is the password; without it the\n"
        "                           environment's OUTBOX_PASSWORD is, if it is set\n"
        "      --ca F               trusted authorities, PEM (default: the system's)\n"
        "      --cert F, --key F    client certificate and its key, PEM\n"
        "      --client-id ID       MQTT client id (default: made of device and file)\n"
        "      --link LINK          the MQTT client: paho (default) or stream, the outbox's own\n"
        "      --window N           events in flight, 1 to 1000 (default: 100)\n"
        "      --mode MODE          structured (CloudEvents JSON, default), binary (CloudEvents\n"
        "                           as MQTT 5 user properties) or plain\n"
        "      --ce-prefix          with binary: names of properties begin with ce-\n"
        "      --protocol N         5 or 4 (MQTT 3.1.1); default: 5, and 4 where 5 is refused\n"
        "  -v, --verbose            tell about connections too\n"
        "  -q, --quiet              tell about errors only\n"
        "\n"
        "Exit status: 0 stopped by a signal, or drained; 1 failed, not drained in time, or\n"
        "interrupted while draining; 2 called wrongly.\n",
    .run = run,
};

struct job {
    const char *path, *password_file;
    outbox_forwarding forwarding;
    bool drain, quiet, verbose, progress;
    int64_t timeout_s; /* 0: none */
    char password[CLI_PASSWORD_SIZE];
    sqlite3 *db;
    outbox *box;
    sigset_t signals;
};

/* ---- Talking --------------------------------------------------------------------------------- */

static void print_log(void *context, outbox_level level, int code, const char *sentence)
{
    const struct job *job = context;
    outbox_level most = job->verbose ? OUTBOX_LOG_INFO
                        : job->quiet ? OUTBOX_LOG_ERROR
                                     : OUTBOX_LOG_WARNING;
    (void)code; /* the sentence says it */
    if (level <= most)
        (void)fprintf(stderr, "%soutbox: %s\n", job->progress ? "\r\033[K" : "", sentence);
}

static void draw_progress(const struct job *job, int64_t total, int64_t settled)
{
    static const char *const words[] = {
        [OUTBOX_STATE_STOPPED] = "stopped", [OUTBOX_STATE_CONNECTING] = "connecting",
        [OUTBOX_STATE_ONLINE] = "online",   [OUTBOX_STATE_BACKOFF] = "waiting to connect",
        [OUTBOX_STATE_RESTING] = "resting", [OUTBOX_STATE_STAND_BY] = "standing by",
    };
    outbox_statistics now;
    if (!job->progress || outbox_stats(job->box, &now) != OUTBOX_OK)
        return;
    (void)fprintf(stderr, "\r\033[K%" PRId64 " of %" PRId64 " events sent, %s",
                  settled < total ? settled : total, total, words[now.state]);
    (void)fflush(stderr);
}

/* ---- Signals --------------------------------------------------------------------------------- */

/* Blocked before the forwarder's thread is made, and taken by this thread when it asks for them. */
static int block_signals(struct job *job)
{
    (void)sigemptyset(&job->signals); /* these calls cannot fail with valid numbers */
    (void)sigaddset(&job->signals, SIGINT);
    (void)sigaddset(&job->signals, SIGTERM);
    (void)sigaddset(&job->signals, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &job->signals, NULL) == 0)
        return CLI_OK;
    return cli_fail("cannot block signals: %s", strerror(errno));
}

static void await_signal(const struct job *job)
{
    while (sigwaitinfo(&job->signals, NULL) < 0 && errno == EINTR)
        continue; /* stopped and continued */
}

static bool signal_is_pending(const struct job *job)
{
    const struct timespec at_once = {0, 0};
    return sigtimedwait(&job->signals, NULL, &at_once) > 0;
}

/* ---- Draining -------------------------------------------------------------------------------- */

static int64_t seconds_now(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* exists on every Linux */
    return (int64_t)now.tv_sec;
}

static int end_undrained(const struct job *job, const char *why)
{
    outbox_statistics now;
    if (outbox_stats(job->box, &now) != OUTBOX_OK)
        return cli_fail("%s", why);
    return cli_fail("%s; %" PRId64 " events are pending%s%s", why, now.pending,
                    now.last_error_text[0] != '\0' ? ": " : "", now.last_error_text);
}

/* Everything up to the ids that were the last at the start is settled. Waiting for the outbox to be
 * empty could take for ever while the application goes on. */
static bool is_drained(const struct job *job, const outbox_statistics *start)
{
    outbox_statistics now;
    if (outbox_flush(job->box, LOOK_MS) == OUTBOX_OK)
        return true;
    if (outbox_stats(job->box, &now) != OUTBOX_OK)
        return false;
    for (int i = 0; i < OUTBOX_LANES; i++)
        if (now.sending[i].settled_id < start->lanes[i].last_id)
            return false;
    return true;
}

static int64_t count_settled(const struct job *job, const outbox_statistics *start)
{
    outbox_statistics now;
    if (outbox_stats(job->box, &now) != OUTBOX_OK)
        return 0;
    return (now.accepted - now.pending) - (start->accepted - start->pending);
}

static int drain(const struct job *job)
{
    outbox_statistics start;
    int64_t started = seconds_now();
    if (outbox_stats(job->box, &start) != OUTBOX_OK)
        return cli_fail("%s: %s", job->path, outbox_errmsg(job->box));
    while (!is_drained(job, &start)) {
        draw_progress(job, start.pending, count_settled(job, &start));
        if (signal_is_pending(job))
            return end_undrained(job, "interrupted");
        if (job->timeout_s > 0 && seconds_now() - started >= job->timeout_s)
            return end_undrained(job, "not drained in time");
    }
    if (job->progress)
        (void)fputs("\r\033[K", stderr);
    if (!job->quiet)
        (void)fprintf(stderr, "outbox: drained, %" PRId64 " events settled\n",
                      count_settled(job, &start));
    return CLI_OK;
}

/* ---- The verb -------------------------------------------------------------------------------- */

enum {
    CA = 256,
    CERT,
    KEY,
    CLIENT_ID,
    LINK,
    WINDOW,
    MODE,
    CE_PREFIX,
    PROTOCOL,
    PASSWORD_FILE,
    TIMEOUT
};

static const struct option options[] = {{"broker", required_argument, NULL, 'b'},
                                        {"drain", no_argument, NULL, 'd'},
                                        {"stand-by", no_argument, NULL, 's'},
                                        {"timeout", required_argument, NULL, TIMEOUT},
                                        {"username", required_argument, NULL, 'u'},
                                        {"password-file", required_argument, NULL, PASSWORD_FILE},
                                        {"ca", required_argument, NULL, CA},
                                        {"cert", required_argument, NULL, CERT},
                                        {"key", required_argument, NULL, KEY},
                                        {"client-id", required_argument, NULL, CLIENT_ID},
                                        {"link", required_argument, NULL, LINK},
                                        {"window", required_argument, NULL, WINDOW},
                                        {"mode", required_argument, NULL, MODE},
                                        {"ce-prefix", no_argument, NULL, CE_PREFIX},
                                        {"protocol", required_argument, NULL, PROTOCOL},
                                        {"verbose", no_argument, NULL, 'v'},
                                        {"quiet", no_argument, NULL, 'q'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};

/* Options whose value is a text that is passed on as it is. */
static const char **text_of(struct job *job, int option)
{
    switch (option) {
    case 'b':
        return &job->forwarding.broker;
    case 'u':
        return &job->forwarding.username;
    case CA:
        return &job->forwarding.ca_file;
    case CERT:
        return &job->forwarding.cert_file;
    case KEY:
        return &job->forwarding.key_file;
    case CLIENT_ID:
        return &job->forwarding.client_id;
    case PASSWORD_FILE:
        return &job->password_file;
    default:
        return NULL;
    }
}

static bool find_mode(const char *name, outbox_mode *mode)
{
    static const struct {
        const char *name;
        outbox_mode mode;
    } modes[] = {
        {"structured", OUTBOX_STRUCTURED}, {"binary", OUTBOX_BINARY}, {"plain", OUTBOX_PLAIN}};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(name, modes[i].name) == 0) {
            *mode = modes[i].mode;
            return true;
        }
    return false;
}

/* Options whose value has to be understood. Returns -1, or an exit status. */
static int parse_value(struct job *job, int option)
{
    int64_t number;
    switch (option) {
    case WINDOW:
        if (!cli_number(optarg, 1, 1000, &number))
            return cli_usage(&cli_forward, "--window wants a number from 1 to 1000");
        job->forwarding.window = (unsigned)number;
        return -1;
    case PROTOCOL:
        if (!cli_number(optarg, 4, 5, &number))
            return cli_usage(&cli_forward, "--protocol wants 4 or 5");
        job->forwarding.protocol = (int)number;
        return -1;
    case TIMEOUT:
        if (!cli_number(optarg, 1, 1000000000, &job->timeout_s))
            return cli_usage(&cli_forward, "--timeout wants a number of seconds");
        return -1;
    case LINK:
        if (strcmp(optarg, "paho") != 0 && strcmp(optarg, "stream") != 0)
            return cli_usage(&cli_forward, "--link wants paho or stream");
        job->forwarding.link = optarg[0] == 's' ? OUTBOX_LINK_STREAM : OUTBOX_LINK_PAHO;
        return -1;
    case MODE:
        if (!find_mode(optarg, &job->forwarding.mode))
            return cli_usage(&cli_forward, "--mode wants structured, binary or plain");
        return -1;
    default:
        return cli_other_option(&cli_forward, option);
    }
}

/* Returns -1 when all options are understood, else an exit status. */
static int parse(int argc, char **argv, struct job *job)
{
    int option, status = -1;
    while (status < 0 && (option = getopt_long(argc, argv, "b:dsu:vqh", options, NULL)) != -1) {
        const char **text = text_of(job, option);
        if (text)
            *text = optarg;
        else if (option == 'd')
            job->drain = true;
        else if (option == 's')
            job->forwarding.stand_by = 1;
        else if (option == CE_PREFIX)
            job->forwarding.ce_prefix = 1;
        else if (option == 'v')
            job->verbose = true;
        else if (option == 'q')
            job->quiet = true;
        else
            status = parse_value(job, option);
    }
    if (status >= 0)
        return status;
    if (argc - optind != 1)
        return cli_usage(&cli_forward, "forward wants one FILE");
    if (!job->forwarding.broker)
        return cli_usage(&cli_forward, "--broker is missing");
    if (job->timeout_s > 0 && !job->drain)
        return cli_usage(&cli_forward, "--timeout goes with --drain");
    job->path = argv[optind];
    return -1;
}

static int start_and_wait(struct job *job)
{
    int status = cli_open_outbox(job->path, &job->db, &job->box);
    if (status != CLI_OK)
        return status;
    status = block_signals(job);
    if (status == CLI_OK && outbox_start(job->box, &job->forwarding) != OUTBOX_OK)
        status = cli_fail("%s", outbox_errmsg(job->box));
    explicit_bzero(job->password, sizeof job->password);
    if (status == CLI_OK && job->drain)
        status = drain(job);
    else if (status == CLI_OK)
        await_signal(job);
    /* Settles what has been acknowledged. */
    cli_close(job->db, job->box);
    return status;
}

static int run(int argc, char **argv)
{
    static struct job job;
    int status = parse(argc, argv, &job);
    if (status >= 0)
        return status;
    status = cli_check_url(&cli_forward, job.forwarding.broker);
    if (status == CLI_OK)
        status = cli_password(job.password_file, job.password, &job.forwarding.password);
    if (status != CLI_OK)
        return status;
    job.progress = job.drain && !job.quiet && isatty(STDERR_FILENO);
    job.forwarding.log = print_log;
    job.forwarding.log_context = &job;
    return start_and_wait(&job);
}
