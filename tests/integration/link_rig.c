/* SPDX-License-Identifier: MIT
 *
 * link_rig.c - a link, a scripted broker, and the calls that tests of the link are written in.
 */
#include "link_rig.h"

#include "which_link.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <outbox/outbox.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SILENCE_MS 200 /* in which nothing more may happen */

const outbox_message hello = {.topic = "a/b", .payload = "hello", .payload_len = 5};

const scripted_rules obedient = {.connack5 = {"\x20\x03\x00\x00\x00", 5},
                                 .connack3 = {"\x20\x02\x00\x00", 4}};

static void on_wake(void *context)
{
    (void)eventfd_write(((rig *)context)->wake_fd, 1);
}

static void on_log(void *context, outbox_level level, int code, const char *sentence)
{
    rig *r = context;
    size_t used = strlen(r->log);
    (void)level;
    (void)code;
    (void)snprintf(r->log + used, sizeof(r->log) - used, "%s\n", sentence);
}

int rig_set_up(void **state)
{
    rig *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -1;
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    outbox_link_kind kind = link_of_environment();
    r->probe_type = kind == OUTBOX_LINK_STREAM ? SCRIPTED_PINGREQ : SCRIPTED_UNSUBSCRIBE;
    r->options = (outbox_linux_link_options){.kind = kind,
                                             .url = &r->url,
                                             .client_id = "link",
                                             .wake = on_wake,
                                             .wake_context = r,
                                             .log = on_log,
                                             .log_context = r};
    *state = r;
    return r->wake_fd < 0 ? -1 : 0;
}

int rig_tear_down(void **state)
{
    rig *r = *state;
    outbox_linux_link_free(r->link);
    if (r->mosquitto > 0) {
        (void)kill(r->mosquitto, SIGKILL);
        (void)waitpid(r->mosquitto, NULL, 0);
    }
    if (r->broker != NULL)
        scripted_broker_stop(r->broker);
    (void)close(r->wake_fd);
    free(r);
    return 0;
}

void make_link_to(rig *r, unsigned port)
{
    char text[64], sentence[160] = "";
    (void)snprintf(text, sizeof(text), "mqtt://127.0.0.1:%u", port);
    assert_int_equal(outbox_url_parse(text, &r->url, sentence, sizeof(sentence)), OUTBOX_OK);
    int code = outbox_linux_link_new(&r->options, &r->link, sentence, sizeof(sentence));
    if (code != OUTBOX_OK)
        fail_msg("%s", sentence);
}

void begin(rig *r, const scripted_rules *rules)
{
    r->broker = scripted_broker_start(rules);
    make_link_to(r, scripted_broker_port(r->broker));
}

outbox_link_result open_link(rig *r)
{
    return r->link->methods->open(r->link);
}

void close_link(rig *r)
{
    r->link->methods->close(r->link);
}

static void flush(rig *r)
{
    if (r->link->methods->version >= 2)
        r->link->methods->flush(r->link);
}

/* As the forwarder does at the end of a step. */
outbox_link_result publish(rig *r, uint32_t token, const outbox_message *message)
{
    outbox_link_result result = r->link->methods->publish(r->link, token, message);
    flush(r);
    return result;
}

outbox_link_result probe(rig *r)
{
    return r->link->methods->probe(r->link);
}

long long now_ms(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* When the link wants to be polled. */
static long long next_of(const outbox_link *link)
{
    return link->methods->version >= 2 ? (long long)link->methods->next_ms(link) : INT32_MAX;
}

int next_within(rig *r, outbox_link_event *event, int ms)
{
    long long end = now_ms() + ms;
    while (r->link->methods->poll(r->link, event) != OUTBOX_LINK_OK) {
        long long left = end - now_ms();
        if (left <= 0)
            return 0;
        long long due = next_of(r->link);
        struct pollfd woken[2] = {{.fd = r->wake_fd, .events = POLLIN},
                                  outbox_linux_link_wait(r->link)};
        (void)poll(woken, 2, (int)(due < left ? due : left));
        eventfd_t count;
        (void)eventfd_read(r->wake_fd, &count);
    }
    return 1;
}

outbox_link_event expect(rig *r, outbox_link_event_kind kind)
{
    outbox_link_event event;
    if (!next_within(r, &event, PATIENCE_MS))
        fail_msg("no event, but kind %d was expected", (int)kind);
    if (event.kind != kind)
        fail_msg("kind %d (reason %d, %s), not %d", (int)event.kind, event.reason, event.sentence,
                 (int)kind);
    return event;
}

void expect_acked(rig *r, uint32_t token, int reason)
{
    outbox_link_event event = expect(r, OUTBOX_LINK_ACKED);
    assert_int_equal(event.token, token);
    /* Mosquitto says 0x10, no matching subscribers, which Paho does not pass on. */
    assert_int_equal(reason == 0 && event.reason == 0x10 ? 0 : event.reason, reason);
}

void expect_silence(rig *r)
{
    outbox_link_event event;
    if (next_within(r, &event, SILENCE_MS))
        fail_msg("an event of kind %d where none may come", (int)event.kind);
}

outbox_link_event go_online(rig *r)
{
    assert_int_equal(open_link(r), OUTBOX_LINK_OK);
    return expect(r, OUTBOX_LINK_OPENED);
}

void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, text);
}

unsigned keep_alive_of(scripted_packet connect)
{
    return (unsigned)(connect.bytes[10] << 8 | connect.bytes[11]);
}

int version_of(scripted_packet connect)
{
    return connect.bytes[8];
}
