/* SPDX-License-Identifier: MIT
 *
 * test_link_process.c - the link in its process: signals, environment, other links, options.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <dirent.h>
#include <outbox/outbox.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link_rig.h"
#include "paho_signals.h"

/* ---- The application's process --------------------------------------------------------------- */

static void handler(int number)
{
    (void)number;
}

static void assert_disposition(const struct sigaction *expected)
{
    struct sigaction now;
    assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0);
    assert_true(now.sa_handler == expected->sa_handler);
    assert_int_equal(now.sa_flags, expected->sa_flags);
    for (int number = 1; number < 32; number++)
        assert_int_equal(sigismember(&now.sa_mask, number),
                         sigismember(&expected->sa_mask, number));
}

static void test_the_disposition_of_sigpipe_stays_as_it_was(void **state)
{
    rig *r = *state;
    static void (*const dispositions[])(int) = {SIG_DFL, SIG_IGN, handler};
    struct sigaction before, now, set = {.sa_flags = SA_RESTART};
    assert_int_equal(sigaddset(&set.sa_mask, SIGUSR1), 0);
    assert_int_equal(sigaction(SIGPIPE, NULL, &before), 0);
    begin(r, &obedient);
    for (size_t i = 0; i < 3; i++) {
        set.sa_handler = dispositions[i];
        assert_int_equal(sigaction(SIGPIPE, &set, NULL), 0);
        assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0);
        (void)go_online(r);
        assert_disposition(&now);
        close_link(r);
        assert_disposition(&now);
    }
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
}

/* With the default disposition a single unguarded write would end this process. */
static void test_a_broken_connection_does_not_kill_the_process(void **state)
{
    rig *r = *state;
    struct sigaction before, set = {.sa_handler = SIG_DFL};
    sigset_t pending;
    assert_int_equal(sigaction(SIGPIPE, &set, &before), 0);
    begin(r, &obedient);
    for (int round = 0; round < 3; round++) {
        (void)go_online(r);
        scripted_broker_cut(r->broker);
        for (uint32_t i = 0; i < 100; i++)
            if (publish(r, i, &hello) == OUTBOX_LINK_DOWN)
                break;
        scripted_broker_await_ends(r->broker, (unsigned)round + 1);
        close_link(r);
        assert_int_equal(sigpending(&pending), 0);
        assert_int_equal(sigismember(&pending, SIGPIPE), 0);
    }
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
}

/* Whether SIGPIPE is pending after one came while Paho was called, and before if so wanted. */
static int pipe_is_left(int pending_before)
{
    struct sigaction before, set = {.sa_handler = SIG_DFL};
    sigset_t only_pipe, mask, pending;
    outbox_paho_signals held;
    int number = 0;
    assert_int_equal(sigaction(SIGPIPE, &set, &before), 0);
    assert_int_equal(sigemptyset(&only_pipe), 0);
    assert_int_equal(sigaddset(&only_pipe, SIGPIPE), 0);
    assert_int_equal(pthread_sigmask(pending_before ? SIG_BLOCK : SIG_UNBLOCK, &only_pipe, &mask),
                     0);
    if (pending_before)
        assert_int_equal(pthread_kill(pthread_self(), SIGPIPE), 0);
    outbox_paho_signals_hold(&held);
    assert_int_equal(pthread_kill(pthread_self(), SIGPIPE), 0);
    outbox_paho_signals_release(&held);
    assert_int_equal(sigpending(&pending), 0);
    int left = sigismember(&pending, SIGPIPE);
    if (left)
        assert_int_equal(sigwait(&only_pipe, &number), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, NULL), 0);
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    return left;
}

static void test_a_sigpipe_that_paho_raised_in_our_thread_is_taken_away(void **state)
{
    (void)state;
    assert_int_equal(pipe_is_left(0), 0);
}

static void test_a_sigpipe_that_waited_before_goes_on_waiting(void **state)
{
    (void)state;
    assert_int_equal(pipe_is_left(1), 1);
}

/* Blocked signals of a thread, from /proc. */
static unsigned long long blocked_signals(const char *thread)
{
    char path[300], line[128];
    unsigned long long mask = 0;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", thread);
    FILE *status = fopen(path, "r");
    while (status != NULL && fgets(line, sizeof(line), status) != NULL)
        if (strncmp(line, "SigBlk:", 7) == 0)
            mask = strtoull(line + 7, NULL, 16);
    if (status != NULL)
        (void)fclose(status);
    return mask;
}

static int is_of_paho(const char *thread)
{
    char path[300], name[32] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", thread);
    FILE *comm = fopen(path, "r");
    if (comm == NULL)
        return 0;
    int read = fgets(name, sizeof(name), comm) != NULL;
    (void)fclose(comm);
    return read && strncmp(name, "MQTTAsync", 9) == 0;
}

static void test_no_signal_is_handled_on_a_thread_of_paho(void **state)
{
    rig *r = *state;
    sigset_t before, after;
    ONLY_OVER(r, OUTBOX_LINK_PAHO);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    begin(r, &obedient);
    (void)go_online(r);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    for (int number = 1; number < 32; number++)
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
    const int signals[] = {SIGPIPE, SIGTERM, SIGINT, SIGUSR1, SIGALRM, SIGCHLD};
    int threads = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (const struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        if (!is_of_paho(task->d_name))
            continue;
        unsigned long long mask = blocked_signals(task->d_name);
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
            assert_true((mask >> (signals[i] - 1) & 1) == 1);
        assert_true((mask >> (SIGSEGV - 1) & 1) == 0);
        threads++;
    }
    assert_int_equal(closedir(tasks), 0);
    assert_int_equal(threads, 2);
}

static void set_variable(const char *name, unsigned port)
{
    char value[64];
    (void)snprintf(value, sizeof(value), "http://127.0.0.1:%u", port);
    assert_int_equal(setenv(name, value, 1), 0);
}

/* Paho 1.3.12 sends MQTT to a proxy of the environment; then we do not connect. Later ones do not
 * look at it. Never is anything sent there. */
static void test_http_proxy_in_the_environment_diverts_nothing(void **state)
{
    rig *r = *state;
    scripted_broker *proxy = scripted_broker_start(&obedient);
    begin(r, &obedient);
    set_variable("http_proxy", scripted_broker_port(proxy));
    (void)open_link(r);
    outbox_link_event event;
    assert_true(next_within(r, &event, PATIENCE_MS));
    assert_int_equal(unsetenv("http_proxy"), 0);
    if (event.kind == OUTBOX_LINK_CLOSED)
        assert_contains(event.sentence, "unset http_proxy");
    else
        assert_int_equal(event.kind, OUTBOX_LINK_OPENED);
    expect_silence(r);
    assert_int_equal(scripted_broker_connections(proxy), 0);
    scripted_broker_stop(proxy);
    (void)go_online(r); /* without the variable */
}

static void test_https_proxy_does_not_matter_without_tls(void **state)
{
    rig *r = *state;
    begin(r, &obedient);
    set_variable("https_proxy", 1);
    outbox_link_event event = go_online(r);
    assert_int_equal(unsetenv("https_proxy"), 0);
    assert_int_equal(event.protocol, 5);
}

/* ---- Making a link --------------------------------------------------------------------------- */

static void refuses(rig *r, int code, const char *hint)
{
    char sentence[160] = "";
    outbox_link *link = (outbox_link *)r;
    assert_int_equal(outbox_linux_link_new(&r->options, &link, sentence, sizeof(sentence)), code);
    assert_null(link);
    assert_contains(sentence, hint);
    const outbox_url *url = r->options.url;
    outbox_link_kind kind = r->options.kind;
    r->options = (outbox_linux_link_options){.kind = kind, .url = url, .client_id = "link"};
}

static void test_options_out_of_range_are_refused_with_a_sentence(void **state)
{
    rig *r = *state;
    assert_int_equal(outbox_url_parse("mqtt://h", &r->url, NULL, 0), OUTBOX_OK);
    r->options.client_id = NULL;
    refuses(r, OUTBOX_MISUSE, "client id");
    r->options.client_id = "";
    refuses(r, OUTBOX_MISUSE, "client id");
    r->options.client_id = "\xff";
    refuses(r, OUTBOX_MISUSE, "client id");
    r->options.protocol = 3;
    refuses(r, OUTBOX_MISUSE, "protocol");
    r->options.window = 1001;
    refuses(r, OUTBOX_MISUSE, "window");
    r->options.keep_alive_seconds = 65536;
    refuses(r, OUTBOX_MISUSE, "keep-alive");
    r->options.username = "\xc3";
    refuses(r, OUTBOX_MISUSE, "UTF-8");
    r->options.password = "p";
    refuses(r, OUTBOX_MISUSE, "without a user name");
    r->options.key_file = "/dev/null";
    refuses(r, OUTBOX_MISUSE, "without its certificate");
    r->options.ca_file = "/dev/null";
    refuses(r, OUTBOX_BAD_URL, "mqtts://");
    r->options.insecure = 1;
    refuses(r, OUTBOX_BAD_URL, "mqtts://");
    assert_int_equal(outbox_url_parse("mqtts://h", &r->url, NULL, 0), OUTBOX_OK);
    r->options.ca_file = "/no/such/file";
    refuses(r, OUTBOX_SYSTEM, "/no/such/file");
}

static void test_freeing_no_link_is_allowed(void **state)
{
    (void)state;
    outbox_linux_link_free(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_the_disposition_of_sigpipe_stays_as_it_was),
        TEST(test_a_broken_connection_does_not_kill_the_process),
        TEST(test_a_sigpipe_that_paho_raised_in_our_thread_is_taken_away),
        TEST(test_a_sigpipe_that_waited_before_goes_on_waiting),
        TEST(test_no_signal_is_handled_on_a_thread_of_paho),
        TEST(test_http_proxy_in_the_environment_diverts_nothing),
        TEST(test_https_proxy_does_not_matter_without_tls),
        TEST(test_options_out_of_range_are_refused_with_a_sentence),
        TEST(test_freeing_no_link_is_allowed),
    };
    return cmocka_run_group_tests_name("link_process", tests, NULL, NULL);
}
