/* SPDX-License-Identifier: MIT
 *
 * proxy.c - passes bytes between clients and a broker, in a thread, until told to be unkind.
 *
 * The thread owns every socket. An order is left under the mutex, the thread is woken through
 * `wake`, and the caller waits until `done` has reached the number of its order. Each connection
 * has one buffer per direction; a side is read only while the buffer from it is empty.
 */
#include "proxy.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 32
#define PATIENCE_S 60
#define NO_CUT_PLANNED (~0UL)

enum { CLIENT, BROKER, SIDES };

typedef enum ending { NOT_YET, BY_FIN, BY_RESET } ending;

typedef struct flow {
    unsigned char bytes[16384];
    size_t start, end; /* what is not written yet */
} flow;

typedef struct pair {
    int fd[SIDES];    /* -1: this place is free */
    flow from[SIDES]; /* what came from that side */
    int greeted;      /* the client's first bytes were looked at */
} pair;

struct proxy {
    unsigned port, broker_port;
    int listener, wake;
    pthread_t thread;
    pair pairs[PAIRS_MAX]; /* the thread's alone */

    pthread_mutex_t mutex; /* for what follows */
    pthread_cond_t change;
    unsigned ordered, done; /* numbers of orders */
    int end;                /* orders */
    ending cut;
    proxy_mood mood;
    unsigned long bytes_until_cut;
    ending planned; /* how it will be then */
    unsigned cuts, connections;
};

/* What the thread knows of its orders during one round. */
typedef struct round {
    proxy_mood mood;
    ending cut, planned;
    int end;
    unsigned order;
    unsigned long bytes_until_cut;
} round;

static struct sockaddr_in loopback(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void lock(proxy *p)
{
    int rc = pthread_mutex_lock(&p->mutex);
    assert(rc == 0);
    (void)rc;
}

static void unlock(proxy *p)
{
    int rc = pthread_mutex_unlock(&p->mutex);
    assert(rc == 0);
    (void)rc;
}

/* ---- Connections ----------------------------------------------------------------------------- */

/* A reset makes the peers see a broken connection instead of an orderly end. */
static void close_pair(pair *connection, ending how)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    for (int side = 0; side < SIDES; side++) {
        int fd = connection->fd[side];
        if (fd < 0) {
            continue;
        }
        if (how == BY_RESET) {
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        } else {
            (void)shutdown(fd, SHUT_WR); /* close() alone resets when something was not read */
        }
        (void)close(fd);
        connection->fd[side] = -1;
    }
}

static pair *free_pair(proxy *p)
{
    for (int i = 0; i < PAIRS_MAX; i++) {
        if (p->pairs[i].fd[CLIENT] < 0) {
            return &p->pairs[i];
        }
    }
    return NULL;
}

static int connect_broker(const proxy *p)
{
    struct sockaddr_in address = loopback(p->broker_port);
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        return -1;
    }
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return fd;
}

static void accept_client(proxy *p, const round *now)
{
    int on = 1;
    int client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    pair *connection = free_pair(p);

    if (client < 0) {
        return;
    }
    int broker = now->mood == PROXY_REFUSE || connection == NULL ? -1 : connect_broker(p);
    if (broker < 0) {
        (void)close(client);
        return;
    }
    (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    memset(connection, 0, sizeof *connection);
    connection->fd[CLIENT] = client;
    connection->fd[BROKER] = broker;
    lock(p);
    p->connections++;
    (void)pthread_cond_broadcast(&p->change);
    unlock(p);
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* The protocol level of a CONNECT packet: 4 is MQTT 3.1.1, 5 is MQTT 5; 0 when it is not one. */
static int protocol_level(const flow *from)
{
    const unsigned char *packet = from->bytes;
    size_t i = 1;

    if (from->end < 12 || packet[0] != 0x10) {
        return 0;
    }
    while (i < 5 && (packet[i] & 0x80) != 0) {
        i++; /* remaining length: the last byte has no continuation bit */
    }
    return memcmp(packet + i + 1, "\0\4MQTT", 6) == 0 ? packet[i + 7] : 0;
}

/* Returns non-zero when the client was sent away for the version that it speaks. */
static int sent_away(pair *connection, proxy_mood mood)
{
    static const unsigned char old[] = {0x20, 2, 0, 1};
    static const unsigned char not_five[] = {0x20, 3, 0, 0x84, 0};

    if (connection->greeted) {
        return 0;
    }
    connection->greeted = 1;
    if (protocol_level(&connection->from[CLIENT]) != 5) {
        return 0;
    }
    if (mood == PROXY_OLD) {
        (void)send(connection->fd[CLIENT], old, sizeof old, MSG_NOSIGNAL);
    } else if (mood == PROXY_NOT_FIVE) {
        (void)send(connection->fd[CLIENT], not_five, sizeof not_five, MSG_NOSIGNAL);
    } else {
        return 0;
    }
    return 1;
}

/* Returns 0 when the connection has ended. */
static int take_bytes(pair *connection, int side, round *now)
{
    flow *from = &connection->from[side];
    ssize_t count = recv(connection->fd[side], from->bytes, sizeof from->bytes, MSG_DONTWAIT);

    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 1;
    }
    if (count <= 0) {
        return 0;
    }
    from->start = 0;
    from->end = (size_t)count;
    if (side == CLIENT && now->bytes_until_cut != NO_CUT_PLANNED) {
        now->bytes_until_cut -= from->end < now->bytes_until_cut ? from->end : now->bytes_until_cut;
    }
    return side != CLIENT || !sent_away(connection, now->mood);
}

/* Returns 0 when the connection has ended. */
static int pass_bytes(pair *connection, int side)
{
    flow *from = &connection->from[side];
    int other = side == CLIENT ? BROKER : CLIENT;
    ssize_t count = send(connection->fd[other], from->bytes + from->start, from->end - from->start,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

    if (count < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    from->start += (size_t)count;
    if (from->start == from->end) {
        from->start = from->end = 0;
    }
    return 1;
}

static void serve_pair(pair *connection, const struct pollfd *polled, round *now)
{
    int alive = 1;

    for (int side = 0; side < SIDES && alive; side++) {
        int empty = connection->from[side].end == 0;
        if (empty && (polled[side].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            alive = take_bytes(connection, side, now);
        }
        if (alive && connection->from[side].end > 0) {
            alive = pass_bytes(connection, side);
        }
    }
    if (!alive) {
        close_pair(connection, BY_FIN);
    }
}

/* ---- The thread ------------------------------------------------------------------------------ */

/* Asks for what can go on; in a stall that is nothing. Returns the number of places filled. */
static nfds_t fill_poll(const proxy *p, proxy_mood mood, struct pollfd *polled)
{
    polled[0] = (struct pollfd){.fd = p->wake, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = p->listener, .events = POLLIN};
    for (int i = 0; i < PAIRS_MAX; i++) {
        for (int side = 0; side < SIDES; side++) {
            const pair *connection = &p->pairs[i];
            int other = side == CLIENT ? BROKER : CLIENT;
            int events = (connection->from[side].end == 0 ? POLLIN : 0) |
                         (connection->from[other].end > 0 ? POLLOUT : 0);
            /* poll() leaves out what has a negative number. */
            polled[2 + SIDES * i + side] = (struct pollfd){
                .fd = mood == PROXY_STALL ? -1 : connection->fd[side], .events = (short)events};
        }
    }
    return 2 + SIDES * PAIRS_MAX;
}

static void take_orders(proxy *p, round *now)
{
    lock(p);
    *now = (round){.mood = p->mood,
                   .cut = p->cut,
                   .planned = p->planned,
                   .end = p->end,
                   .order = p->ordered,
                   .bytes_until_cut = p->bytes_until_cut};
    p->cut = NOT_YET;
    unlock(p);
}

static unsigned cut_all(proxy *p, ending how)
{
    unsigned hit = 0;

    for (int i = 0; i < PAIRS_MAX; i++) {
        hit += p->pairs[i].fd[CLIENT] >= 0;
        close_pair(&p->pairs[i], how);
    }
    return hit > 0;
}

/* Carries the orders out, except for the end, and reports them done. */
static void obey(proxy *p, round *now)
{
    unsigned hit = 0;

    if (now->end) {
        now->cut = BY_RESET;
    }
    if (now->cut != NOT_YET) {
        hit = cut_all(p, now->cut);
    }

    lock(p);
    p->cuts += hit;
    p->done = now->order;
    (void)pthread_cond_broadcast(&p->change);
    unlock(p);
}

static void report_bytes(proxy *p, const round *now)
{
    int due = now->bytes_until_cut == 0;
    unsigned hit = due ? cut_all(p, now->planned) : 0;

    lock(p);
    /* A new order may have come meanwhile; it starts its own count. */
    if (p->ordered == now->order) {
        p->bytes_until_cut = due ? NO_CUT_PLANNED : now->bytes_until_cut;
    }
    p->cuts += hit;
    (void)pthread_cond_broadcast(&p->change);
    unlock(p);
}

static void *run(void *context)
{
    proxy *p = context;
    struct pollfd polled[2 + SIDES * PAIRS_MAX];
    uint64_t woken = 0;
    round now;

    for (take_orders(p, &now); !now.end; take_orders(p, &now)) {
        obey(p, &now);
        nfds_t count = fill_poll(p, now.mood, polled);
        if (poll(polled, count, -1) < 0) {
            assert(errno == EINTR);
            continue;
        }
        if ((polled[0].revents & POLLIN) != 0) {
            (void)!read(p->wake, &woken, sizeof woken);
            continue; /* look at the orders before any byte moves */
        }
        for (int i = 0; i < PAIRS_MAX; i++) {
            if (polled[2 + SIDES * i].fd >= 0) {
                serve_pair(&p->pairs[i], &polled[2 + SIDES * i], &now);
            }
        }
        report_bytes(p, &now);
        if ((polled[1].revents & POLLIN) != 0) {
            accept_client(p, &now);
        }
    }
    obey(p, &now);
    return NULL;
}

/* ---- Orders ---------------------------------------------------------------------------------- */

/* Called with the mutex held: wakes the thread and waits until it has obeyed; gives the mutex
 * back. */
static void await_obedience(proxy *p)
{
    uint64_t one = 1;
    unsigned order = ++p->ordered;

    assert_int_equal(write(p->wake, &one, sizeof one), sizeof one);
    while (p->done != order) {
        assert_int_equal(pthread_cond_wait(&p->change, &p->mutex), 0);
    }
    unlock(p);
}

void proxy_set(proxy *p, proxy_mood mood)
{
    lock(p);
    p->mood = mood;
    await_obedience(p);
}

static void cut_by(proxy *p, ending how)
{
    lock(p);
    p->cut = how;
    p->bytes_until_cut = NO_CUT_PLANNED;
    await_obedience(p);
}

void proxy_cut(proxy *p)
{
    cut_by(p, BY_RESET);
}

void proxy_hang_up(proxy *p)
{
    cut_by(p, BY_FIN);
}

static void plan(proxy *p, unsigned long bytes, ending how)
{
    lock(p);
    p->bytes_until_cut = bytes;
    p->planned = how;
    await_obedience(p);
}

void proxy_cut_after(proxy *p, unsigned long bytes)
{
    plan(p, bytes, BY_RESET);
}

void proxy_hang_up_after(proxy *p, unsigned long bytes)
{
    plan(p, bytes, BY_FIN);
}

unsigned proxy_cuts(proxy *p)
{
    lock(p);
    unsigned cuts = p->cuts;
    unlock(p);
    return cuts;
}

/* Waits until a counter, which is under the mutex, has reached a number. */
static void await_count(proxy *p, const unsigned *counter, unsigned wanted)
{
    struct timespec deadline;
    int rc = 0;

    assert_int_equal(clock_gettime(CLOCK_REALTIME, &deadline), 0);
    deadline.tv_sec += PATIENCE_S;
    lock(p);
    while (*counter < wanted && rc == 0) {
        rc = pthread_cond_timedwait(&p->change, &p->mutex, &deadline);
    }
    unsigned seen = *counter;
    unlock(p);
    assert_in_range(seen, wanted, UINT_MAX);
}

void proxy_await_cuts(proxy *p, unsigned cuts)
{
    await_count(p, &p->cuts, cuts);
}

void proxy_await_connections(proxy *p, unsigned connections)
{
    await_count(p, &p->connections, connections);
}

unsigned proxy_connections(proxy *p)
{
    lock(p);
    unsigned connections = p->connections;
    unlock(p);
    return connections;
}

unsigned proxy_port(const proxy *p)
{
    return p->port;
}

/* ---- Start and stop -------------------------------------------------------------------------- */

static void listen_somewhere(proxy *p)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;

    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->listener >= 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(p->listener, 16), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &size), 0);
    p->port = ntohs(address.sin_port);
}

proxy *proxy_start(unsigned broker_port)
{
    proxy *p = calloc(1, sizeof *p);

    assert_non_null(p);
    p->broker_port = broker_port;
    p->bytes_until_cut = NO_CUT_PLANNED;
    for (int i = 0; i < PAIRS_MAX; i++) {
        p->pairs[i].fd[CLIENT] = p->pairs[i].fd[BROKER] = -1;
    }
    listen_somewhere(p);
    p->wake = eventfd(0, EFD_CLOEXEC);
    assert_true(p->wake >= 0);
    assert_int_equal(pthread_mutex_init(&p->mutex, NULL), 0);
    assert_int_equal(pthread_cond_init(&p->change, NULL), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
    return p;
}

void proxy_stop(proxy *p)
{
    lock(p);
    p->end = 1;
    await_obedience(p);
    assert_int_equal(pthread_join(p->thread, NULL), 0);
    assert_int_equal(close(p->listener), 0);
    assert_int_equal(close(p->wake), 0);
    assert_int_equal(pthread_mutex_destroy(&p->mutex), 0);
    assert_int_equal(pthread_cond_destroy(&p->change), 0);
    free(p);
}
