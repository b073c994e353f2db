/* SPDX-License-Identifier: MIT
 *
 * proxy.h - a bad network between a client and the broker: cuts, stalls, refuses.
 *
 * A thread that passes bytes between its own free loopback port and the broker's. It takes from one
 * side only what the other side has room for, so nothing but the two kernels buffers. A cut resets
 * both sides, a hang-up ends them in order, and both throw away what was on its way. Each call
 * returns when it has taken effect, which takes microseconds: a test may cut thousands of times.
 */
#ifndef OUTBOX_TESTS_PROXY_H
#define OUTBOX_TESTS_PROXY_H

typedef struct proxy proxy;

typedef enum proxy_mood {
    PROXY_PASS,     /* everything goes through */
    PROXY_STALL,    /* connections stay, and new ones are taken, but no byte moves */
    PROXY_REFUSE,   /* new connections are ended at once, as if no broker was there */
    PROXY_OLD,      /* as a broker of 2014: answers MQTT 5 in the manner of 3.1.1, and hangs up */
    PROXY_NOT_FIVE, /* answers MQTT 5 with "unsupported protocol version", and hangs up */
} proxy_mood;

proxy *proxy_start(unsigned broker_port);
void proxy_stop(proxy *p);

unsigned proxy_port(const proxy *p);

void proxy_set(proxy *p, proxy_mood mood);

/* Resets every connection; what proxy_cut_after() planned is off. */
void proxy_cut(proxy *p);

/* The same by FIN: to each side it looks as if the other had ended the connection in order. */
void proxy_hang_up(proxy *p);

/* Will reset every connection, or end it by FIN, when the clients have sent `bytes` more bytes. */
void proxy_cut_after(proxy *p, unsigned long bytes);
void proxy_hang_up_after(proxy *p, unsigned long bytes);

/* Cuts and hang-ups that hit at least one connection, and connections taken, since the start. */
unsigned proxy_cuts(proxy *p);
unsigned proxy_connections(proxy *p);

/* Waits until there were so many; fails the test when that takes more than a minute. */
void proxy_await_cuts(proxy *p, unsigned cuts);
void proxy_await_connections(proxy *p, unsigned connections);

#endif
