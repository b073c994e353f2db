/* SPDX-License-Identifier: MIT
 *
 * link.c - the promises of outbox_link, port.h, that hold over any server that behaves.
 */
#include "conformance.h"

#include <stdbool.h>
#include <string.h>

enum { MESSAGES = 20, FIRST_TOKEN = 70000 };

struct session {
    outbox_link *link;
    const struct conformance_server *server;
};

static bool poll(const struct session *s, outbox_link_event *event)
{
    memset(event, 0, sizeof *event);
    return s->link->methods->poll(s->link, event) == OUTBOX_LINK_OK;
}

static void flush(const struct session *s)
{
    if (s->link->methods->version >= 2 && s->link->methods->flush)
        s->link->methods->flush(s->link);
}

/* Waits for any event. False: none came. */
static bool await(const struct session *s, outbox_link_event *event)
{
    for (unsigned i = 0; i < s->server->rounds; i++) {
        if (poll(s, event))
            return true;
        flush(s);
        s->server->serve(s->server->context);
    }
    return poll(s, event);
}

static bool is_silent(const struct session *s)
{
    outbox_link_event event;
    for (int i = 0; i < 5; i++) {
        if (poll(s, &event))
            return false;
        s->server->serve(s->server->context);
    }
    return true;
}

static const char *opens(const struct session *s)
{
    outbox_link_event event;
    if (s->link->methods->open(s->link) != OUTBOX_LINK_OK)
        return "open begins to connect";
    if (!await(s, &event) || event.kind != OUTBOX_LINK_OPENED)
        return "the first event after open is OPENED, where the server accepts";
    if (event.receive_maximum == 0)
        return "the Receive Maximum in OPENED is never 0";
    if (event.protocol != 4 && event.protocol != 5)
        return "the protocol in OPENED is 4 or 5";
    return NULL;
}

/* The message's memory is the caller's again as soon as publish has returned. */
static outbox_link_result publish(const struct session *s, uint32_t token)
{
    char topic[] = "conformance/topic", payload[] = "0123456789";
    const outbox_message message = {
        .topic = topic, .payload = payload, .payload_len = sizeof payload - 1};
    const outbox_link_result result = s->link->methods->publish(s->link, token, &message);
    memset(topic, '#', sizeof topic);
    memset(payload, '#', sizeof payload);
    return result;
}

static const char *acknowledges(const struct session *s)
{
    bool is_acked[MESSAGES] = {false};
    outbox_link_event event;
    for (uint32_t i = 0; i < MESSAGES; i++)
        if (publish(s, FIRST_TOKEN + i) != OUTBOX_LINK_OK)
            return "publish takes a few small messages on an open connection";
    for (int acked = 0; acked < MESSAGES; acked++) {
        if (!await(s, &event) || event.kind != OUTBOX_LINK_ACKED)
            return "each publish is followed by its ACKED";
        if (event.token < FIRST_TOKEN || event.token >= FIRST_TOKEN + MESSAGES)
            return "ACKED has the token of a publish";
        if (is_acked[event.token - FIRST_TOKEN])
            return "a publish has one ACKED only";
        if (event.reason >= 0x80)
            return "the server takes the message: let it allow conformance/topic";
        is_acked[event.token - FIRST_TOKEN] = true;
    }
    return is_silent(s) ? NULL : "nothing follows where nothing was asked";
}

static const char *probes(const struct session *s)
{
    outbox_link_event event;
    for (int i = 0; i < 2; i++) {
        const outbox_link_result result = s->link->methods->probe(s->link);
        if (result == OUTBOX_LINK_AGAIN && i == 0)
            return NULL; /* it cannot probe */
        if (result != OUTBOX_LINK_OK)
            return "a link that probes once can probe again";
        if (s->link->methods->probe(s->link) != OUTBOX_LINK_AGAIN)
            return "a second probe before the ALIVE of the first one is AGAIN";
        if (!await(s, &event) || event.kind != OUTBOX_LINK_ALIVE)
            return "a probe is followed by ALIVE";
    }
    return NULL;
}

static const char *closes(const struct session *s)
{
    (void)publish(s, 1);
    flush(s);
    s->link->methods->close(s->link);
    s->link->methods->close(s->link);
    return is_silent(s) ? NULL : "after close no event comes, and close may be called twice";
}

static const char *ends_by_peer(const struct session *s)
{
    outbox_link_event event;
    if (!s->server->hang_up)
        return NULL;
    s->server->hang_up(s->server->context);
    if (!await(s, &event) || event.kind != OUTBOX_LINK_CLOSED)
        return "where the server hangs up, CLOSED comes";
    if (!memchr(event.sentence, '\0', sizeof event.sentence) || event.sentence[0] == '\0')
        return "CLOSED says why, in a sentence";
    if (!is_silent(s))
        return "after CLOSED nothing follows until the next open";
    return NULL;
}

static const char *has_its_methods(const outbox_link *link)
{
    const outbox_link_methods *methods = link->methods;
    if (methods->version < 1 || !methods->open || !methods->publish || !methods->poll ||
        !methods->close || !methods->probe)
        return "the version is 1 or more, and none of the first five functions is NULL";
    return NULL;
}

const char *conform_link(outbox_link *link, const struct conformance_server *server)
{
    const struct session s = {link, server};
    const char *wrong = has_its_methods(link);
    if (wrong)
        return wrong;
    link->methods->close(link);
    if (!is_silent(&s))
        return "before the first open no event comes, and close is allowed";
    for (int i = 0; i < 2 && !wrong; i++) {
        wrong = opens(&s);
        if (!wrong)
            wrong = acknowledges(&s);
        if (!wrong)
            wrong = probes(&s);
        if (!wrong)
            wrong = closes(&s);
    }
    if (!wrong)
        wrong = opens(&s);
    if (!wrong)
        wrong = ends_by_peer(&s);
    link->methods->close(link);
    return wrong;
}
