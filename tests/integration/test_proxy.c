/* SPDX-License-Identifier: MIT
 *
 * test_proxy.c - the bad network of the other tests: that it is as bad as it says, and fast.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy.h"
#include "scripted_broker.h"

#define CUTS 1000u
#define PATIENCE_MS 20000

typedef struct line {
    scripted_broker *broker;
    proxy *proxy;
    int client; /* -1: none */
} line;

static int set_up(void **state)
{
    static const scripted_rules silent = {.puback_reason = SCRIPTED_NO_PUBACK};
    static line l;
    l.broker = scripted_broker_start(&silent);
    l.proxy = proxy_start(scripted_broker_port(l.broker));
    l.client = -1;
    *state = &l;
    return 0;
}

static int tear_down(void **state)
{
    line *l = *state;
    if (l->client >= 0)
        (void)close(l->client);
    proxy_stop(l->proxy);
    scripted_broker_stop(l->broker);
    return 0;
}

/* Returns when the connection is there on both sides of the proxy. */
static void connect_client(line *l)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)proxy_port(l->proxy)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    unsigned before = proxy_connections(l->proxy);
    l->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(l->client >= 0);
    assert_int_equal(connect(l->client, (struct sockaddr *)&address, sizeof(address)), 0);
    proxy_await_connections(l->proxy, before + 1);
}

/* What recv() of the client says once there is something to say: 0, or -1 and errno. */
static ssize_t end_of_client(line *l)
{
    struct pollfd readable = {.fd = l->client, .events = POLLIN};
    char byte;
    assert_int_equal(poll(&readable, 1, PATIENCE_MS), 1);
    ssize_t got = recv(l->client, &byte, 1, 0);
    int error = errno;
    assert_int_equal(close(l->client), 0);
    l->client = -1;
    errno = error;
    return got;
}

static void test_a_cut_resets_the_connection(void **state)
{
    line *l = *state;
    connect_client(l);
    proxy_cut(l->proxy);
    assert_int_equal(end_of_client(l), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(proxy_cuts(l->proxy), 1);
}

static void test_a_hang_up_ends_the_connection_in_order(void **state)
{
    line *l = *state;
    connect_client(l);
    proxy_hang_up(l->proxy);
    assert_int_equal(end_of_client(l), 0);
    assert_int_equal(proxy_cuts(l->proxy), 1);
}

static void test_a_hang_up_is_no_reset_although_bytes_were_on_their_way(void **state)
{
    line *l = *state;
    connect_client(l);
    proxy_set(l->proxy, PROXY_STALL);
    assert_int_equal(send(l->client, "not read", 8, MSG_NOSIGNAL), 8);
    proxy_hang_up(l->proxy);
    assert_int_equal(end_of_client(l), 0);
}

/* The moments: before, within and after a packet of random size, of which nobody waits for the
 * arrival. */
static void test_a_thousand_cuts_at_random_moments_are_possible(void **state)
{
    line *l = *state;
    char bytes[2048] = {0x30}; /* begins a PUBLISH that is never complete */
    unsigned seed = 7;
    memset(bytes + 1, 0x7f, 1);
    for (unsigned i = 0; i < CUTS; i++) {
        connect_client(l);
        size_t size = (size_t)rand_r(&seed) % 100;
        assert_int_equal(send(l->client, bytes, size, MSG_NOSIGNAL), size);
        int resets = rand_r(&seed) % 2;
        if (resets)
            proxy_cut(l->proxy);
        else
            proxy_hang_up(l->proxy);
        /* What was sent may reach the proxy's machine after its FIN, which then answers by RST. */
        ssize_t end = end_of_client(l);
        assert_true(end == -1 || (end == 0 && !resets));
    }
    assert_int_equal(proxy_cuts(l->proxy), CUTS);
    assert_int_equal(proxy_connections(l->proxy), CUTS);
    scripted_broker_await_ends(l->broker, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_cut_resets_the_connection),
        TEST(test_a_hang_up_ends_the_connection_in_order),
        TEST(test_a_hang_up_is_no_reset_although_bytes_were_on_their_way),
        TEST(test_a_thousand_cuts_at_random_moments_are_possible),
    };
    return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}
