/* SPDX-License-Identifier: MIT
 *
 * link_rig.h - a link, a scripted broker, and the calls that tests of the link are written in.
 *
 * Each test gets a rig of its own as its state, through TEST(). OUTBOX_TEST_LINK=stream in the
 * environment makes it the stream link's; else it is Paho's. What only one of them does is tested
 * with ONLY_OVER(), which skips the test over the other.
 */
#ifndef OUTBOX_TESTS_LINK_RIG_H
#define OUTBOX_TESTS_LINK_RIG_H

#include <sys/types.h>

#include "link.h"
#include "scripted_broker.h"

typedef struct link_rig {
    scripted_broker *broker;
    outbox_link *link;
    outbox_url url;
    outbox_linux_link_options options; /* to be changed before begin() */
    int wake_fd;
    int probe_type;  /* of the packet that a probe sends */
    pid_t mosquitto; /* 0: none; killed at the end of the test */
    char log[512];   /* all lines, put together */
} rig;

#define PATIENCE_MS 20000
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

#define ONLY_OVER(r, link_kind)                                                                    \
    if ((r)->options.kind != (link_kind))                                                          \
    skip()

extern const outbox_message hello;    /* five bytes to a/b */
extern const scripted_rules obedient; /* takes both versions, acknowledges all */

int rig_set_up(void **state);
int rig_tear_down(void **state);

/* Starts a broker with these rules and makes a link to it. */
void begin(rig *r, const scripted_rules *rules);
void make_link_to(rig *r, unsigned port);

outbox_link_result open_link(rig *r);
outbox_link_result publish(rig *r, uint32_t token, const outbox_message *message);
outbox_link_result probe(rig *r);
void close_link(rig *r);

/* Polls, sleeping until the link wakes us, until an event came or the time is over (returns 0). */
int next_within(rig *r, outbox_link_event *event, int ms);

/* The next event, which must be of this kind. */
outbox_link_event expect(rig *r, outbox_link_event_kind kind);
void expect_acked(rig *r, uint32_t token, int reason);

/* No event comes in a while. */
void expect_silence(rig *r);

/* Opens and expects OPENED. */
outbox_link_event go_online(rig *r);

void assert_contains(const char *text, const char *part);
long long now_ms(void);

/* Of a CONNECT packet. */
unsigned keep_alive_of(scripted_packet connect);
int version_of(scripted_packet connect);

#endif
