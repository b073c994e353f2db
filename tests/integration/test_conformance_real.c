/* SPDX-License-Identifier: MIT
 *
 * test_conformance_real.c - the suite for ports (tests/conformance) over what the Linux port really
 * has: each of its links, before a real mosquitto, and its clock.
 *
 * Nothing is left behind but the broker's own, so a crash has nothing to spoil.
 */
#include "harness.h"

#include "clock.h"
#include "conformance/conformance.h"
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 20, ROUNDS = 1000 }; /* twenty seconds of patience */

static void expect_sound(const char *wrong)
{
    if (wrong != NULL)
        fail_msg("it does not hold that %s", wrong);
}

/* ---- Links ----------------------------------------------------------------------------------- */

struct bench {
    scene *scene;
    outbox_link *link;
    int wake_fd;
};

static void on_wake(void *context)
{
    (void)eventfd_write(*(const int *)context, 1);
}

/* Until the link has something, or for a moment. The broker serves by itself. */
static void serve(void *context)
{
    const struct bench *bench = context;
    struct pollfd woken[2] = {{.fd = bench->wake_fd, .events = POLLIN},
                              outbox_linux_link_wait(bench->link)};
    eventfd_t count;
    (void)poll(woken, 2, LOOK_MS);
    (void)eventfd_read(bench->wake_fd, &count);
}

static void hang_up(void *context)
{
    broker_terminate(&((struct bench *)context)->scene->broker);
}

static void judge_link(scene *s, outbox_link_kind kind, int protocol)
{
    struct bench bench = {.scene = s, .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    const struct conformance_server server = {&bench, serve, hang_up, ROUNDS};
    outbox_url url;
    char sentence[160] = "";
    assert_true(bench.wake_fd >= 0);
    broker_start(&s->broker, BROKER_OPEN);
    assert_int_equal(outbox_url_parse(s->url, &url, sentence, sizeof sentence), OUTBOX_OK);
    const outbox_linux_link_options options = {.kind = kind,
                                               .url = &url,
                                               .client_id = "conformance",
                                               .protocol = protocol,
                                               .wake = on_wake,
                                               .wake_context = &bench.wake_fd};
    if (outbox_linux_link_new(&options, &bench.link, sentence, sizeof sentence) != OUTBOX_OK)
        fail_msg("%s", sentence);
    const char *wrong = conform_link(bench.link, &server);
    outbox_linux_link_free(bench.link);
    assert_int_equal(close(bench.wake_fd), 0);
    expect_sound(wrong);
}

static void test_the_link_over_paho_keeps_the_promises_of_a_link(void **state)
{
    judge_link(*state, OUTBOX_LINK_PAHO, 5);
}

static void test_the_link_over_paho_keeps_them_on_mqtt_3_1_1(void **state)
{
    judge_link(*state, OUTBOX_LINK_PAHO, 4);
}

static void test_the_stream_link_over_tcp_keeps_the_promises_of_a_link(void **state)
{
    judge_link(*state, OUTBOX_LINK_STREAM, 5);
}

static void test_the_stream_link_over_tcp_keeps_them_on_mqtt_3_1_1(void **state)
{
    judge_link(*state, OUTBOX_LINK_STREAM, 4);
}

/* ---- Clock ----------------------------------------------------------------------------------- */

static void pass(void *context, unsigned ms)
{
    struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)context;
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

static void test_the_clock_of_linux_keeps_the_promises_of_a_clock(void **state)
{
    const outbox_port port = outbox_linux_port(NULL, NULL);
    (void)state;
    expect_sound(conform_clock(&port, pass, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_the_link_over_paho_keeps_the_promises_of_a_link),
        SCENE_TEST(test_the_link_over_paho_keeps_them_on_mqtt_3_1_1),
        SCENE_TEST(test_the_stream_link_over_tcp_keeps_the_promises_of_a_link),
        SCENE_TEST(test_the_stream_link_over_tcp_keeps_them_on_mqtt_3_1_1),
        cmocka_unit_test(test_the_clock_of_linux_keeps_the_promises_of_a_clock),
    };
    return cmocka_run_group_tests_name("conformance_real", tests, NULL, NULL);
}
