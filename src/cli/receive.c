/* SPDX-License-Identifier: MIT
 *
 * receive.c - `outbox receive`: a complete recipient, which applies each event once and in order.
 *
 * Here are options, signals and the loop; received.c stores, and the port's receiver connects. A
 * message is acknowledged when it is committed, so killed at any moment it loses nothing. Where it
 * cannot be stored the process ends at once, in the middle of taking it: the client library would
 * acknowledge it as soon as that had ended otherwise.
 */
#include "received.h"

#include "../../ports/linux/receiver.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int run(int argc, char **argv);

const struct cli_verb cli_receive = {
    .name = "receive",
    .summary = "store what is sent, each event once and in order",
    .help =
        "Usage: outbox receive FILE --broker URL --topic FILTER [OPTION]...\n"
        "Subscribes at QoS 1 in a session that the broker keeps, lets an inbox judge each event,\n"
        "and stores those that are new in the table `received` of the SQLite database FILE, which\n"
        "is made if it is missing. Goes on until SIGINT or SIGTERM. What is no event is stored\n"
        "too, with stream NULL. Events behind a gap wait in `received_waiting` until it closes.\n"
        "\n"
        "  -b, --broker URL         mqtt://[user@]host[:port] or mqtts://[user@]host[:port]\n"
        "  -t, --topic FILTER       what to subscribe to, such as plant/#\n"
        "      --client-id ID       names the session (default: made once and kept in FILE)\n"
        "      --session SECONDS    the broker keeps the session so long, on MQTT 5 (default: a\n"
        "                           week)\n"
        "      --count N            end when at least N events were applied\n"
        "      --skip-after SECONDS give up a gap after so long; what comes later of it is stale\n"
        "                           (default: never)\n"
        "      --json               print each event that was applied, as a line of JSON: the\n"
        "                           columns of `received`. Later versions may add members.\n"
        "  -u, --username NAME      user name, instead of one in the URL\n"
        "      --password-file F    the first line of F is the password; without it the\n"
        "                           environment's OUTBOX_PASSWORD is, if it is set\n"
        "      --ca F               trusted authorities, PEM (default: the system's)\n"
        "      --cert F, --key F    client certificate and its key, PEM\n"
        "      --protocol N         5 or 4 (MQTT 3.1.1); default: 5, and 4 where 5 is refused\n"
        "  -v, --verbose            tell about connections too\n"
        "  -q, --quiet              tell about errors only\n"
        "\n"
        "Exit status: 0 stopped by a signal, or N events were applied; 1 failed; 2 called\n"
        "wrongly.\n",
    .run = run,
};

enum { WEEK_S = 604800, GIVE_UP_LOOK_MS = 1000 };

struct job {
    outbox_receiver_options options;
    const char *broker, *path, *password_file;
    int64_t session_s, count, skip_after_s; /* 0: a week, no end, never */
    bool quiet, verbose;
    outbox_url url;
    char client_id[24];
    char password[CLI_PASSWORD_SIZE];
    pthread_mutex_t lock; /* around `received`, which Paho's thread and this one use */
    struct received received;
    int wake_fd, signal_fd;
};

/* ---- On Paho's thread ------------------------------------------------------------------------ */

static void lock(struct job *job)
{
    if (pthread_mutex_lock(&job->lock) != 0)
        abort(); /* it is initialised, and not locked by this thread */
}

static void unlock(struct job *job)
{
    if (pthread_mutex_unlock(&job->lock) != 0)
        abort();
}

static void wake(void *context)
{
    const struct job *job = context;
    const uint64_t one = 1;
    ssize_t written = write(job->wake_fd, &one, sizeof one);
    (void)written; /* it fails only where it has been written to 2^64 times already */
}

static void give_up_at_once(void)
{
    (void)fflush(stdout);
    _exit(CLI_FAILED);
}

static void deliver(void *context, inbox_text topic, const inbox_message *message)
{
    struct job *job = context;
    lock(job);
    if (!received_take(&job->received, topic, message))
        give_up_at_once();
    bool is_enough = job->count > 0 && job->received.applied >= job->count;
    unlock(job);
    if (is_enough)
        wake(job);
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Blocked before the first thread is made, and read from a descriptor. */
static int open_descriptors(struct job *job)
{
    sigset_t signals;
    (void)sigemptyset(&signals); /* these calls cannot fail with valid numbers */
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    job->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (job->wake_fd < 0 || sigprocmask(SIG_BLOCK, &signals, NULL) != 0)
        return cli_fail("cannot wait for events: %s", strerror(errno));
    job->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (job->signal_fd < 0)
        return cli_fail("cannot wait for signals: %s", strerror(errno));
    return CLI_OK;
}

/* True when a signal has come. */
static bool await(const struct job *job, unsigned ms)
{
    struct pollfd files[] = {{.fd = job->signal_fd, .events = POLLIN},
                             {.fd = job->wake_fd, .events = POLLIN}};
    uint64_t count;
    if (poll(files, 2, (int)ms) < 0)
        return false; /* stopped and continued: EINTR */
    if (files[1].revents != 0) {
        ssize_t taken = read(job->wake_fd, &count, sizeof count);
        (void)taken; /* nothing there any more is as good */
    }
    return files[0].revents != 0;
}

static bool is_done(struct job *job)
{
    lock(job);
    bool done = job->count > 0 && job->received.applied >= job->count;
    if (!done && job->skip_after_s > 0 &&
        !received_give_up(&job->received, received_now() - 1000 * job->skip_after_s))
        give_up_at_once();
    unlock(job);
    return done;
}

static void print_log(void *context, outbox_level level, int code, const char *sentence)
{
    const struct job *job = context;
    outbox_level most = job->verbose ? OUTBOX_LOG_INFO
                        : job->quiet ? OUTBOX_LOG_ERROR
                                     : OUTBOX_LOG_WARNING;
    (void)code; /* the sentence says it */
    if (level <= most)
        (void)fprintf(stderr, "outbox: %s\n", sentence);
}

static void print_end(const struct job *job)
{
    const struct received *r = &job->received;
    if (!job->quiet)
        (void)fprintf(stderr,
                      "outbox: %" PRId64 " events applied, %" PRId64 " duplicates, %" PRId64
                      " stale, %" PRId64 " came behind a gap, %" PRId64 " wait, %" PRId64
                      " gaps given up, %" PRId64 " messages no events\n",
                      r->applied, r->duplicates, r->stale, r->gaps, r->waiting, r->skipped,
                      r->no_events);
}

static int receive(struct job *job)
{
    outbox_receiver *receiver = outbox_receiver_new(&job->options);
    if (!receiver)
        return cli_fail("no memory for the receiver");
    do {
        unsigned ms = outbox_receiver_step(receiver);
        if (await(job, ms < GIVE_UP_LOOK_MS ? ms : GIVE_UP_LOOK_MS))
            break;
    } while (!is_done(job));
    outbox_receiver_free(receiver); /* nothing is delivered any more */
    print_end(job);
    return CLI_OK;
}

/* ---- The verb -------------------------------------------------------------------------------- */

enum { CA = 256, CERT, KEY, CLIENT_ID, SESSION, COUNT, SKIP_AFTER, JSON, PROTOCOL, PASSWORD_FILE };

static const struct option options[] = {{"broker", required_argument, NULL, 'b'},
                                        {"topic", required_argument, NULL, 't'},
                                        {"client-id", required_argument, NULL, CLIENT_ID},
                                        {"session", required_argument, NULL, SESSION},
                                        {"count", required_argument, NULL, COUNT},
                                        {"skip-after", required_argument, NULL, SKIP_AFTER},
                                        {"json", no_argument, NULL, JSON},
                                        {"username", required_argument, NULL, 'u'},
                                        {"password-file", required_argument, NULL, PASSWORD_FILE},
                                        {"ca", required_argument, NULL, CA},
                                        {"cert", required_argument, NULL, CERT},
                                        {"key", required_argument, NULL, KEY},
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
        return &job->broker;
    case 't':
        return &job->options.filter;
    case 'u':
        return &job->options.username;
    case CLIENT_ID:
        return &job->options.client_id;
    case CA:
        return &job->options.ca_file;
    case CERT:
        return &job->options.cert_file;
    case KEY:
        return &job->options.key_file;
    case PASSWORD_FILE:
        return &job->password_file;
    default:
        return NULL;
    }
}

/* Options whose value has to be understood. Returns -1, or an exit status. */
static int parse_value(struct job *job, int option)
{
    int64_t number;
    switch (option) {
    case SESSION:
        if (!cli_number(optarg, 1, 4294967295, &job->session_s))
            return cli_usage(&cli_receive, "--session wants a number of seconds");
        return -1;
    case COUNT:
        if (!cli_number(optarg, 1, INT64_MAX, &job->count))
            return cli_usage(&cli_receive, "--count wants a number of events");
        return -1;
    case SKIP_AFTER:
        if (!cli_number(optarg, 1, 1000000000, &job->skip_after_s))
            return cli_usage(&cli_receive, "--skip-after wants a number of seconds");
        return -1;
    case PROTOCOL:
        if (!cli_number(optarg, 4, 5, &number))
            return cli_usage(&cli_receive, "--protocol wants 4 or 5");
        job->options.protocol = (int)number;
        return -1;
    default:
        return cli_other_option(&cli_receive, option);
    }
}

/* Returns -1 when all options are understood, else an exit status. */
static int parse(int argc, char **argv, struct job *job)
{
    int option, status = -1;
    while (status < 0 && (option = getopt_long(argc, argv, "b:t:u:vqh", options, NULL)) != -1) {
        const char **text = text_of(job, option);
        if (text)
            *text = optarg;
        else if (option == JSON)
            job->received.json = true;
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
        return cli_usage(&cli_receive, "receive wants one FILE");
    if (!job->broker)
        return cli_usage(&cli_receive, "--broker is missing");
    if (!job->options.filter || job->options.filter[0] == '\0')
        return cli_usage(&cli_receive, "--topic is missing");
    job->path = argv[optind];
    return -1;
}

static int set_up(struct job *job)
{
    char sentence[256];
    int status = cli_check_url(&cli_receive, job->broker);
    if (status == CLI_OK)
        status = cli_password(job->password_file, job->password, &job->options.password);
    if (status != CLI_OK)
        return status;
    if (outbox_url_parse(job->broker, &job->url, sentence, sizeof sentence) != OUTBOX_OK)
        return cli_usage(&cli_receive, "%s", sentence);
    if (pthread_mutex_init(&job->lock, NULL) != 0)
        return cli_fail("no memory for a lock");
    status = received_open(&job->received, job->path, job->client_id);
    if (!job->options.client_id)
        job->options.client_id = job->client_id;
    job->options.url = &job->url;
    job->options.session_seconds = job->session_s > 0 ? (unsigned)job->session_s : WEEK_S;
    job->options.deliver = deliver;
    job->options.wake = wake;
    job->options.context = job;
    job->options.log = print_log;
    job->options.log_context = job;
    return status;
}

static int run(int argc, char **argv)
{
    static struct job job;
    int status = parse(argc, argv, &job);
    if (status >= 0)
        return status;
    status = set_up(&job);
    if (status != CLI_OK)
        return status;
    status = open_descriptors(&job);
    if (status == CLI_OK)
        status = receive(&job);
    received_close(&job.received);
    explicit_bzero(job.password, sizeof job.password);
    return status;
}
