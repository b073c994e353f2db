/* SPDX-License-Identifier: MIT
 *
 * scripted_broker.c - an MQTT broker that does what a test tells it, right or wrong.
 *
 * The thread sleeps in poll() on the listening socket, the connection and an eventfd for orders. It
 * alone touches the sockets. What it has read, and the rules, are under a mutex. Packets are kept
 * until the end, so pointers into them stay good.
 */
#include "scripted_broker.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PACKETS_MAX 4096
#define PATIENCE_S 20

struct scripted_broker {
    int listener, orders, client; /* client: the thread's, -1 when there is none */
    unsigned port;
    pthread_t thread;
    unsigned char *buffer; /* the thread's: what was read and is no whole packet yet */
    size_t used, room;
    int version, deaf;  /* of the connection */
    unsigned publishes; /* on the connection */

    pthread_mutex_t mutex; /* for what follows */
    pthread_cond_t changed;
    scripted_rules rules;
    int ending, cutting;
    unsigned connections, ends;
    scripted_packet packets[PACKETS_MAX];
    size_t count;
};

static void lock(scripted_broker *b)
{
    int rc = pthread_mutex_lock(&b->mutex);
    assert(rc == 0);
    (void)rc;
}

static void unlock(scripted_broker *b)
{
    int rc = pthread_mutex_unlock(&b->mutex);
    assert(rc == 0);
    (void)rc;
}

static void wake_waiters(scripted_broker *b)
{
    (void)pthread_cond_broadcast(&b->changed); /* cannot fail */
}

/* ---- The connection: on the thread ----------------------------------------------------------- */

static void hang_up(scripted_broker *b)
{
    static const struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (b->client < 0)
        return;
    lock(b);
    int reset = b->rules.reset;
    unlock(b);
    if (reset)
        (void)setsockopt(b->client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    (void)close(b->client);
    b->client = -1;
    b->used = 0;
    lock(b);
    b->ends++;
    wake_waiters(b);
    unlock(b);
}

/* A client that has gone away is found when it is read from. */
static void answer(scripted_broker *b, const void *bytes, size_t size)
{
    if (b->client >= 0 && size > 0)
        (void)send(b->client, bytes, size, MSG_NOSIGNAL);
}

static void on_connect(scripted_broker *b, const scripted_rules *rules, const unsigned char *packet)
{
    /* fixed header 2, name 6, level 1; no CONNECT of the tests is longer than 127 bytes */
    b->version = packet[8];
    b->publishes = 0;
    scripted_bytes connack = b->version == 5 ? rules->connack5 : rules->connack3;
    answer(b, connack.bytes, connack.size);
    b->deaf = rules->deaf;
    if (rules->hang_up)
        hang_up(b);
}

static void on_publish(scripted_broker *b, const scripted_rules *rules, const unsigned char *packet,
                       unsigned connection)
{
    size_t at = 1;
    while (packet[at++] & 0x80) {
    }
    const unsigned char *topic = packet + at + 2;
    size_t topic_size = (size_t)(packet[at] << 8 | packet[at + 1]);
    at += 2 + topic_size;
    unsigned number = ++b->publishes;
    int is_poison = rules->poison != NULL && strlen(rules->poison) == topic_size &&
                    memcmp(rules->poison, topic, topic_size) == 0;
    int is_cut = rules->cut_after != 0 && number >= rules->cut_after &&
                 (rules->cut_connection == 0 || rules->cut_connection == connection);
    if (is_poison || is_cut) {
        hang_up(b);
        return;
    }
    if (rules->farewell_after != 0 && number >= rules->farewell_after) {
        answer(b, rules->farewell.bytes, rules->farewell.size);
        hang_up(b);
        return;
    }
    int reason = (int)number <= rules->acknowledge_first ? 0 : rules->puback_reason;
    unsigned char puback[5] = {0x40, 2, packet[at], packet[at + 1], (unsigned char)reason};
    if (reason > 0)
        puback[1] = 3;
    if (reason != SCRIPTED_NO_PUBACK)
        answer(b, puback, 2 + (size_t)puback[1]);
}

static void on_unsubscribe(scripted_broker *b, const scripted_rules *rules,
                           const unsigned char *packet)
{
    /* fixed header 2; no UNSUBSCRIBE of the tests is longer than 127 bytes */
    unsigned char unsuback[64] = {0xb0, 2, packet[2], packet[3]};
    scripted_bytes tail = rules->unsuback5_tail;
    if (rules->no_sign_of_life)
        return;
    if (tail.size == 0)
        tail = SCRIPTED("\x00\x11"); /* no properties; no subscription existed */
    if (b->version == 5) {
        assert(tail.size <= sizeof(unsuback) - 4);
        memcpy(unsuback + 4, tail.bytes, tail.size);
        unsuback[1] = (unsigned char)(2 + tail.size);
    }
    answer(b, unsuback, 2 + (size_t)unsuback[1]);
}

/* Keeps the packet and answers it. */
static void take_packet(scripted_broker *b, const unsigned char *bytes, size_t size)
{
    unsigned char *kept = malloc(size);
    assert(kept != NULL);
    memcpy(kept, bytes, size);
    lock(b);
    assert(b->count < PACKETS_MAX);
    unsigned connection = b->connections;
    b->packets[b->count++] =
        (scripted_packet){.connection = connection, .size = size, .bytes = kept};
    scripted_rules rules = b->rules;
    wake_waiters(b);
    unlock(b);
    if (kept[0] >> 4 == SCRIPTED_CONNECT)
        on_connect(b, &rules, kept);
    else if (kept[0] >> 4 == SCRIPTED_PUBLISH)
        on_publish(b, &rules, kept, connection);
    else if (kept[0] >> 4 == SCRIPTED_UNSUBSCRIBE)
        on_unsubscribe(b, &rules, kept);
    else if (kept[0] >> 4 == SCRIPTED_PINGREQ && !rules.no_sign_of_life)
        answer(b, "\xd0\x00", 2);
}

/* Size of the packet at the front of the buffer, or 0 when it is not complete. */
static size_t whole_packet(const scripted_broker *b)
{
    size_t length = 0, at = 1;
    unsigned shift = 0;
    do {
        if (at >= b->used || at > 4)
            return 0;
        length |= (size_t)(b->buffer[at] & 0x7f) << shift;
        shift += 7;
    } while (b->buffer[at++] & 0x80);
    return b->used >= at + length ? at + length : 0;
}

static void read_client(scripted_broker *b)
{
    if (b->room - b->used < 65536) {
        b->room += 1u << 20;
        b->buffer = realloc(b->buffer, b->room);
        assert(b->buffer != NULL);
    }
    ssize_t got = recv(b->client, b->buffer + b->used, b->room - b->used, 0);
    if (got <= 0) {
        hang_up(b);
        return;
    }
    b->used += (size_t)got;
    for (size_t size = whole_packet(b); size > 0 && b->client >= 0; size = whole_packet(b)) {
        take_packet(b, b->buffer, size);
        if (b->client < 0)
            return;
        b->used -= size;
        memmove(b->buffer, b->buffer + size, b->used);
    }
}

static void take_client(scripted_broker *b)
{
    b->client = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC);
    if (b->client < 0)
        return; /* it has gone again */
    b->deaf = 0;
    lock(b);
    b->connections++;
    wake_waiters(b);
    unlock(b);
}

/* Returns non-zero when it is time to end. */
static int take_orders(scripted_broker *b)
{
    eventfd_t number;
    (void)eventfd_read(b->orders, &number); /* EAGAIN: no order */
    lock(b);
    int ending = b->ending, cutting = b->cutting;
    b->cutting = 0;
    unlock(b);
    if (ending || cutting)
        hang_up(b);
    return ending;
}

static void *run(void *context)
{
    scripted_broker *b = context;
    while (!take_orders(b)) {
        struct pollfd wait_for[2] = {
            {.fd = b->orders, .events = POLLIN},
            {.fd = b->client < 0 ? b->listener : b->client, .events = POLLIN}};
        nfds_t count = b->client >= 0 && b->deaf ? 1 : 2;
        int ready = poll(wait_for, count, -1);
        assert(ready > 0 || errno == EINTR);
        if (ready > 0 && count == 2 && wait_for[1].revents != 0) {
            if (b->client < 0)
                take_client(b);
            else
                read_client(b);
        }
    }
    return NULL;
}

/* ---- For the test ---------------------------------------------------------------------------- */

static void listen_somewhere(scripted_broker *b)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(b->listener >= 0);
    assert_int_equal(bind(b->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(b->listener, 16), 0);
    assert_int_equal(getsockname(b->listener, (struct sockaddr *)&address, &size), 0);
    b->port = ntohs(address.sin_port);
}

scripted_rules scripted_poisoned(const char *topic)
{
    return (scripted_rules){
        .connack5 = {"\x20\x02\x00\x01", 4}, .connack3 = SCRIPTED_CONNACK3, .poison = topic};
}

scripted_broker *scripted_broker_start(const scripted_rules *rules)
{
    scripted_broker *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    pthread_condattr_t attributes;
    assert_int_equal(pthread_condattr_init(&attributes), 0);
    assert_int_equal(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC), 0);
    assert_int_equal(pthread_cond_init(&b->changed, &attributes), 0);
    assert_int_equal(pthread_condattr_destroy(&attributes), 0);
    assert_int_equal(pthread_mutex_init(&b->mutex, NULL), 0);
    b->client = -1;
    b->rules = *rules;
    listen_somewhere(b);
    b->orders = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(b->orders >= 0);
    assert_int_equal(pthread_create(&b->thread, NULL, run, b), 0);
    return b;
}

static void order(scripted_broker *b, int *what)
{
    lock(b);
    *what = 1;
    unlock(b);
    assert_int_equal(eventfd_write(b->orders, 1), 0);
}

void scripted_broker_stop(scripted_broker *b)
{
    order(b, &b->ending);
    assert_int_equal(pthread_join(b->thread, NULL), 0);
    (void)close(b->listener);
    (void)close(b->orders);
    for (size_t i = 0; i < b->count; i++)
        free((void *)(uintptr_t)b->packets[i].bytes);
    free(b->buffer);
    assert_int_equal(pthread_mutex_destroy(&b->mutex), 0);
    assert_int_equal(pthread_cond_destroy(&b->changed), 0);
    free(b);
}

unsigned scripted_broker_port(const scripted_broker *b)
{
    return b->port;
}

void scripted_broker_set(scripted_broker *b, const scripted_rules *rules)
{
    lock(b);
    b->rules = *rules;
    unlock(b);
}

void scripted_broker_cut(scripted_broker *b)
{
    order(b, &b->cutting);
}

/* Under the mutex. */
static size_t count_locked(const scripted_broker *b, int type)
{
    size_t count = 0;
    for (size_t i = 0; i < b->count; i++)
        count += b->packets[i].bytes[0] >> 4 == type;
    return count;
}

static struct timespec deadline(void)
{
    struct timespec at;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &at), 0);
    at.tv_sec += PATIENCE_S;
    return at;
}

void scripted_broker_await(scripted_broker *b, int type, size_t count)
{
    struct timespec until = deadline();
    int rc = 0;
    lock(b);
    while (count_locked(b, type) < count && rc == 0)
        rc = pthread_cond_timedwait(&b->changed, &b->mutex, &until);
    size_t seen = count_locked(b, type);
    unlock(b);
    if (seen < count)
        fail_msg("%zu packets of type %d arrived, not %zu", seen, type, count);
}

void scripted_broker_await_ends(scripted_broker *b, unsigned count)
{
    struct timespec until = deadline();
    int rc = 0;
    lock(b);
    while (b->ends < count && rc == 0)
        rc = pthread_cond_timedwait(&b->changed, &b->mutex, &until);
    unsigned seen = b->ends;
    unlock(b);
    if (seen < count)
        fail_msg("%u connections ended, not %u", seen, count);
}

size_t scripted_broker_count(scripted_broker *b, int type)
{
    lock(b);
    size_t count = count_locked(b, type);
    unlock(b);
    return count;
}

unsigned scripted_broker_connections(scripted_broker *b)
{
    lock(b);
    unsigned connections = b->connections;
    unlock(b);
    return connections;
}

scripted_packet scripted_broker_packet(scripted_broker *b, int type, size_t index)
{
    scripted_packet found = {0};
    lock(b);
    for (size_t i = 0; i < b->count && found.bytes == NULL; i++)
        if (b->packets[i].bytes[0] >> 4 == type && index-- == 0)
            found = b->packets[i];
    unlock(b);
    assert_non_null(found.bytes);
    return found;
}

/* A Variable Byte Integer; moves `at` behind it. */
static size_t take_length(scripted_packet packet, size_t *at)
{
    size_t length = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        assert_true(*at < packet.size);
        unsigned char byte = packet.bytes[(*at)++];
        length |= (size_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            break;
    }
    return length;
}

scripted_publish scripted_broker_parse(scripted_packet packet, int version)
{
    scripted_publish p = {0};
    size_t at = 1;
    assert_int_equal(packet.bytes[0] >> 4, SCRIPTED_PUBLISH);
    p.qos = packet.bytes[0] >> 1 & 3;
    p.dup = packet.bytes[0] >> 3 & 1;
    p.retain = packet.bytes[0] & 1;
    size_t remaining = take_length(packet, &at);
    assert_int_equal(at + remaining, packet.size);
    p.topic_size = (size_t)(packet.bytes[at] << 8 | packet.bytes[at + 1]);
    p.topic = packet.bytes + at + 2;
    at += 2 + p.topic_size + (p.qos > 0 ? 2 : 0);
    if (version == 5) {
        p.properties_size = take_length(packet, &at);
        p.properties = packet.bytes + at;
        at += p.properties_size;
    }
    assert_true(at <= packet.size);
    p.payload = packet.bytes + at;
    p.payload_size = packet.size - at;
    return p;
}
