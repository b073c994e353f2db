/* SPDX-License-Identifier: MIT
 *
 * test_tcp_stream.c - the stream link on a real socket: names, addresses, options, and a resolver
 * that hangs.
 *
 * getaddrinfo() is this file's own, so that a test says what a name leads to, and when.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link_rig.h"

/* ---- A resolver ------------------------------------------------------------------------------ */

static struct resolver {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const char *const *addresses; /* of every name, ended by NULL; NULL: no such host */
    int hangs;
    int calls, answers;
} resolver = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct addrinfo *make_address(const char *text, const char *service)
{
    struct addrinfo *made = calloc(1, sizeof(*made) + sizeof(struct sockaddr_in));
    if (made == NULL)
        return NULL;
    struct sockaddr_in *address = (struct sockaddr_in *)(void *)(made + 1);
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)atoi(service));
    (void)inet_pton(AF_INET, text, &address->sin_addr);
    made->ai_family = AF_INET;
    made->ai_socktype = SOCK_STREAM;
    made->ai_addr = (struct sockaddr *)address;
    made->ai_addrlen = sizeof(*address);
    return made;
}

/* Instead of the C library's, whose names of parameters are reserved. */
// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name)
int getaddrinfo(const char *name, const char *service, const struct addrinfo *request,
                struct addrinfo **result)
{
    struct addrinfo **last = result;
    struct in_addr address;
    *result = NULL;
    if (request->ai_flags & AI_NUMERICHOST) {
        if (inet_pton(AF_INET, name, &address) != 1)
            return EAI_NONAME;
        *result = make_address(name, service);
        return *result != NULL ? 0 : EAI_MEMORY;
    }
    (void)pthread_mutex_lock(&resolver.mutex);
    resolver.calls++;
    while (resolver.hangs)
        (void)pthread_cond_wait(&resolver.changed, &resolver.mutex);
    const char *const *addresses = resolver.addresses;
    resolver.answers++;
    (void)pthread_cond_broadcast(&resolver.changed);
    (void)pthread_mutex_unlock(&resolver.mutex);
    for (; addresses != NULL && *addresses != NULL; addresses++) {
        *last = make_address(*addresses, service);
        if (*last == NULL)
            return EAI_MEMORY;
        last = &(*last)->ai_next;
    }
    return *result != NULL ? 0 : EAI_NONAME;
}

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name)
void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static void resolve_to(const char *const *addresses, int hangs)
{
    (void)pthread_mutex_lock(&resolver.mutex);
    resolver.addresses = addresses;
    resolver.hangs = hangs;
    (void)pthread_cond_broadcast(&resolver.changed);
    (void)pthread_mutex_unlock(&resolver.mutex);
}

static int resolver_calls(void)
{
    (void)pthread_mutex_lock(&resolver.mutex);
    int calls = resolver.calls;
    (void)pthread_mutex_unlock(&resolver.mutex);
    return calls;
}

/* Until every look-up that was begun has its answer. */
static void await_answers(int calls)
{
    (void)pthread_mutex_lock(&resolver.mutex);
    while (resolver.answers < calls)
        (void)pthread_cond_wait(&resolver.changed, &resolver.mutex);
    (void)pthread_mutex_unlock(&resolver.mutex);
}

static const char *const here[] = {"127.0.0.1", NULL};

/* ---- The scene ------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    resolver.calls = resolver.answers = 0;
    resolve_to(here, 0);
    int rc = rig_set_up(state);
    rig *r = *state;
    r->options.kind = OUTBOX_LINK_STREAM;
    return rc;
}

static void begin_at_name(rig *r)
{
    char text[64];
    r->broker = scripted_broker_start(&obedient);
    (void)snprintf(text, sizeof(text), "mqtt://broker.test:%u", scripted_broker_port(r->broker));
    assert_int_equal(outbox_url_parse(text, &r->url, NULL, 0), OUTBOX_OK);
    assert_int_equal(outbox_linux_link_new(&r->options, &r->link, NULL, 0), OUTBOX_OK);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void test_a_name_is_looked_up_for_each_connection(void **state)
{
    rig *r = *state;
    begin_at_name(r);
    (void)go_online(r);
    close_link(r);
    (void)go_online(r);
    assert_int_equal(resolver_calls(), 2);
}

static void test_an_unknown_name_is_reported_and_asked_for_again(void **state)
{
    rig *r = *state;
    begin_at_name(r);
    resolve_to(NULL, 0);
    (void)open_link(r);
    assert_contains(expect(r, OUTBOX_LINK_CLOSED).sentence, "broker.test");
    resolve_to(here, 0);
    (void)go_online(r);
}

/* Everything else of the link goes on, and at most one look-up waits. */
static void test_a_resolver_that_hangs_holds_no_call_up(void **state)
{
    rig *r = *state;
    begin_at_name(r);
    resolve_to(here, 1);
    long long began = now_ms();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(open_link(r), OUTBOX_LINK_OK);
        expect_silence(r);
        assert_int_equal(publish(r, 1, &hello), OUTBOX_LINK_AGAIN);
        close_link(r);
    }
    assert_true(now_ms() - began < 10000);
    assert_int_equal(resolver_calls(), 1);
    assert_int_equal(open_link(r), OUTBOX_LINK_OK);
    resolve_to(here, 0);
    (void)expect(r, OUTBOX_LINK_OPENED);
    assert_int_equal(resolver_calls(), 1);
}

static void test_a_look_up_gives_up_with_the_connection(void **state)
{
    rig *r = *state;
    r->options.connect_timeout_ms = 300;
    begin_at_name(r);
    resolve_to(here, 1);
    (void)open_link(r);
    assert_contains(expect(r, OUTBOX_LINK_CLOSED).sentence, "no answer in time");
    resolve_to(here, 0);
    (void)go_online(r);
}

static void test_a_link_is_freed_at_once_while_the_resolver_hangs(void **state)
{
    rig *r = *state;
    begin_at_name(r);
    resolve_to(here, 1);
    (void)open_link(r);
    expect_silence(r);
    long long began = now_ms();
    outbox_linux_link_free(r->link);
    r->link = NULL;
    assert_true(now_ms() - began < 2000);
    resolve_to(here, 0); /* the look-up clears itself away */
    await_answers(1);
}

/* ---- Addresses ------------------------------------------------------------------------------- */

static void test_each_address_is_tried_in_turn(void **state)
{
    static const char *const three[] = {"127.0.0.2", "127.0.0.3", "127.0.0.1", NULL};
    rig *r = *state;
    begin_at_name(r);
    resolve_to(three, 0);
    (void)go_online(r);
}

static void test_when_no_address_answers_the_last_reason_is_told(void **state)
{
    static const char *const two[] = {"127.0.0.2", "127.0.0.3", NULL};
    rig *r = *state;
    begin_at_name(r);
    resolve_to(two, 0);
    (void)open_link(r);
    assert_contains(expect(r, OUTBOX_LINK_CLOSED).sentence, "refused");
    expect_silence(r);
}

/* A listener whose queue is full answers no SYN: the connection neither comes about nor fails. */
static void begin_black_hole(const char *address_text, unsigned port, int holes[4])
{
    const int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    assert_int_equal(inet_pton(AF_INET, address_text, &address.sin_addr), 1);
    holes[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(holes[0], SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(holes[0], (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(holes[0], 0), 0);
    for (int i = 1; i < 4; i++) {
        holes[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(holes[i], (struct sockaddr *)&address, sizeof(address));
    }
}

static void test_an_address_that_does_not_answer_gets_its_share_of_the_time_only(void **state)
{
    static const char *const two[] = {"127.0.0.9", "127.0.0.1", NULL};
    rig *r = *state;
    int holes[4];
    r->options.connect_timeout_ms = 3000;
    begin_at_name(r);
    begin_black_hole(two[0], scripted_broker_port(r->broker), holes);
    resolve_to(two, 0);
    long long began = now_ms();
    (void)go_online(r);
    assert_in_range(now_ms() - began, 1400, 2900);
    for (int i = 0; i < 4; i++)
        assert_int_equal(close(holes[i]), 0);
}

/* ---- The socket ------------------------------------------------------------------------------ */

static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t size = sizeof(value);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, option, &value, &size), 0);
    return value;
}

static void test_the_socket_is_set_up_for_short_packets_and_bad_networks(void **state)
{
    rig *r = *state;
    r->options.keep_alive_seconds = 17;
    begin_at_name(r);
    (void)go_online(r);
    int fd = outbox_linux_link_wait(r->link).fd;
    assert_true(fd >= 0);
    assert_int_equal(option_of(fd, TCP_NODELAY), 1);
    assert_int_equal(option_of(fd, TCP_USER_TIMEOUT), 17000);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    close_link(r);
    assert_int_equal(outbox_linux_link_wait(r->link).fd, -1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* What the kernel has no room for is written when it has. */
static void test_more_than_the_kernel_takes_waits_for_room(void **state)
{
    rig *r = *state;
    static char payload[300000];
    scripted_rules deaf = obedient;
    outbox_message large = hello;
    deaf.deaf = 1;
    r->options.payload_max = sizeof(payload);
    large.payload = payload;
    large.payload_len = sizeof(payload);
    begin_at_name(r);
    scripted_broker_set(r->broker, &deaf);
    (void)go_online(r);
    uint32_t sent = 0;
    while (sent < 90 && publish(r, sent, &large) == OUTBOX_LINK_OK)
        sent++;
    assert_in_range(sent, 5, 89);
    assert_true(outbox_linux_link_wait(r->link).events & POLLOUT);
    expect_silence(r);
}

/* The server's PUBACKs lie unread in the socket when it is closed; the goodbye arrives all the
 * same. */
static void test_the_goodbye_arrives_though_pubacks_are_unread(void **state)
{
    rig *r = *state;
    begin_at_name(r);
    for (unsigned i = 1; i <= 20; i++) {
        (void)go_online(r);
        for (uint32_t k = 0; k < 50; k++)
            assert_int_equal(publish(r, k, &hello), OUTBOX_LINK_OK);
        scripted_broker_await(r->broker, SCRIPTED_PUBLISH, (size_t)50 * i);
        close_link(r);
        scripted_broker_await_ends(r->broker, i);
        assert_int_equal(scripted_broker_count(r->broker, SCRIPTED_DISCONNECT), i);
    }
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, rig_tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_name_is_looked_up_for_each_connection),
        TEST(test_an_unknown_name_is_reported_and_asked_for_again),
        TEST(test_a_resolver_that_hangs_holds_no_call_up),
        TEST(test_a_look_up_gives_up_with_the_connection),
        TEST(test_a_link_is_freed_at_once_while_the_resolver_hangs),
        TEST(test_each_address_is_tried_in_turn),
        TEST(test_when_no_address_answers_the_last_reason_is_told),
        TEST(test_an_address_that_does_not_answer_gets_its_share_of_the_time_only),
        TEST(test_the_socket_is_set_up_for_short_packets_and_bad_networks),
        TEST(test_more_than_the_kernel_takes_waits_for_room),
        TEST(test_the_goodbye_arrives_though_pubacks_are_unread),
    };
    return cmocka_run_group_tests_name("tcp_stream", tests, NULL, NULL);
}
