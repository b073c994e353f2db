/* SPDX-License-Identifier: MIT
 *
 * fuzz_mqtt.c - any bytes, in any pieces, as what a server sends to the stream link.
 *
 * Twice: to the decoder alone, whole and in pieces, which must come to the same packets and the
 * same end; and to a link that publishes, pings and lets time pass meanwhile. There every event
 * must be one that port.h allows at that moment, no token may be acknowledged that was not
 * published or was acknowledged before, and what the link writes must be whole packets of a
 * publisher.
 */
#include "fuzz.h"
#include "mqtt_decode.h"

#include <outbox/stream.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 4
#define ROUNDS 2000

/* The stream, and the server's opinion of what is written to it. */
struct server {
    outbox_stream stream;
    struct fuzz_input input;
    bool is_open;
    uint32_t now_ms;
    uint8_t last[16]; /* of what was written: the beginning of a packet */
    size_t last_size, body_left;
};

static struct server server;

void fuzz_prepare(void)
{
}

void fuzz_seeds(void)
{
    static const char *const seeds[] = {
        "\x05\x00\x20\x03\x00\x00\x01",     "\x05\x10\x20\x06\x00\x00\x03\x21\x00\x02",
        "\x04\x01\x20\x02\x00\x01",         "\x05\x03\xe0\x02\x8b\x01",
        "\x05\xff\x40\x02\x00\x01\xd0\x01",
    };
    static const char connack[] = "\x05\x05\x20\x0d\x00\x00\x0a\x21\x00\x07\x27\x00\x01\x00\x02\x24"
                                  "\x01\x40\x04\x00\x01\x87\x00\xd0\x00\x30\x06\x00\x01t\x00hi"
                                  "\xe0\x0b\x9d\x09\x1c\x00\x01h\x1f\x00\x02no";
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        fuzz_seed(seeds[i], strlen(seeds[i]));
    fuzz_seed(connack, sizeof connack - 1);
}

/* ---- The decoder alone ----------------------------------------------------------------------- */

struct outcome {
    size_t packets, at;
    bool is_broken;
    uint64_t digest;
};

static void note(struct outcome *outcome, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        outcome->digest = (outcome->digest ^ at[i]) * UINT64_C(1099511628211);
}

static struct outcome decode(const uint8_t *bytes, size_t size, int version, size_t piece)
{
    struct ob_mqtt_decoder decoder;
    struct outcome outcome = {.digest = 1};
    ob_mqtt_decoder_start(&decoder, version);
    while (outcome.at < size && !outcome.is_broken) {
        size_t given = size - outcome.at < piece ? size - outcome.at : piece, taken = 0;
        enum ob_mqtt_verdict verdict = ob_mqtt_decode(&decoder, bytes + outcome.at, given, &taken);
        must(taken >= 1 && taken <= given, "some bytes are taken, and no more than there are");
        must(verdict != OB_MQTT_MORE || taken == given, "for more, all bytes are taken");
        outcome.at += taken;
        if (verdict == OB_MQTT_PACKET) {
            const struct ob_mqtt_packet *packet = &decoder.packet;
            outcome.packets++;
            must(memchr(packet->text, '\0', sizeof packet->text) != NULL, "the text has an end");
            must(packet->receive_maximum > 0, "the receive maximum is not 0");
            note(&outcome, &packet->id, sizeof packet->id);
            note(&outcome, &packet->reason, sizeof packet->reason);
            note(&outcome, packet->text, strlen(packet->text));
        } else if (verdict == OB_MQTT_BROKEN) {
            outcome.is_broken = true;
            must(decoder.why != NULL && (decoder.reason == 0x81 || decoder.reason == 0x82),
                 "what is broken has a reason and a sentence");
        }
    }
    return outcome;
}

static void decode_twice(const uint8_t *bytes, size_t size, int version, size_t piece)
{
    struct outcome whole = decode(bytes, size, version, size > 0 ? size : 1);
    struct outcome pieces = decode(bytes, size, version, piece);
    must(whole.packets == pieces.packets && whole.at == pieces.at &&
             whole.is_broken == pieces.is_broken && whole.digest == pieces.digest,
         "pieces do not matter");
}

/* ---- The link -------------------------------------------------------------------------------- */

static outbox_stream_result on_open(outbox_stream *stream)
{
    (void)stream;
    server.is_open = true;
    server.last_size = server.body_left = 0;
    return OUTBOX_STREAM_OK;
}

/* Follows packets by their lengths; a publisher sends four types. */
static void check_written(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (server.body_left > 0) {
            server.body_left--;
            continue;
        }
        server.last[server.last_size++] = bytes[i];
        if (server.last_size == 1) {
            unsigned first = bytes[i];
            must(first == 0x10 || first == 0x32 || first == 0xc0 || first == 0xe0,
                 "a publisher sends CONNECT, PUBLISH, PINGREQ and DISCONNECT");
            continue;
        }
        must(server.last_size <= 5, "a length has at most four bytes");
        if (bytes[i] & 0x80)
            continue;
        for (size_t k = 1; k < server.last_size; k++)
            server.body_left |= (size_t)(server.last[k] & 0x7f) << (7 * (k - 1));
        server.last_size = 0;
    }
}

static outbox_stream_result on_write(outbox_stream *stream, const void *bytes, size_t size,
                                     size_t *count)
{
    (void)stream;
    uint64_t choice = fuzz_number(&server.input, 1);
    must(server.is_open && size > 0, "bytes are written to an open stream");
    if (choice >= 0xfc)
        return OUTBOX_STREAM_AGAIN;
    if (choice >= 0xfa)
        return choice == 0xfa ? OUTBOX_STREAM_ENDED : OUTBOX_STREAM_FAILED;
    *count = choice > 0 && choice < size ? (size_t)choice : size;
    check_written(bytes, *count);
    return OUTBOX_STREAM_OK;
}

static outbox_stream_result on_read(outbox_stream *stream, void *bytes, size_t size, size_t *count)
{
    (void)stream;
    must(server.is_open && size > 0, "bytes are read from an open stream");
    if (server.input.at == server.input.end)
        return OUTBOX_STREAM_ENDED;
    size_t given = (size_t)fuzz_number(&server.input, 1) % 32;
    size_t left = (size_t)(server.input.end - server.input.at);
    if (given == 0 || left == 0)
        return OUTBOX_STREAM_AGAIN;
    if (given > left)
        given = left;
    if (given > size)
        given = size;
    memcpy(bytes, server.input.at, given);
    server.input.at += given;
    *count = given;
    return OUTBOX_STREAM_OK;
}

static void on_close(outbox_stream *stream)
{
    (void)stream;
    server.is_open = false;
}

static uint32_t now_ms(void *context)
{
    (void)context;
    return server.now_ms;
}

static const outbox_stream_methods stream_methods = {
    .version = 1, .open = on_open, .write = on_write, .read = on_read, .close = on_close};

struct driver {
    outbox_link *link;
    bool is_online;
    bool in_flight[256]; /* by token */
    uint8_t next_token;
    bool is_probed;
};

/* Returns false when the connection has ended. */
static bool take_event(struct driver *driver, const outbox_link_event *event)
{
    switch (event->kind) {
    case OUTBOX_LINK_OPENED:
        must(!driver->is_online, "it is opened once");
        must(event->receive_maximum > 0, "the receive maximum is not 0");
        must(event->protocol == 4 || event->protocol == 5, "the protocol is known");
        driver->is_online = true;
        return true;
    case OUTBOX_LINK_ACKED:
        must(driver->is_online && event->token < 256 && driver->in_flight[event->token],
             "what is acknowledged was in flight");
        driver->in_flight[event->token] = false;
        return true;
    case OUTBOX_LINK_ALIVE:
        must(driver->is_online && driver->is_probed, "a sign of life was asked for");
        driver->is_probed = false;
        return true;
    case OUTBOX_LINK_CLOSED:
        must(event->by_peer == 0 || driver->is_online, "who was never there hangs up on nobody");
        must(memchr(event->sentence, '\0', sizeof event->sentence) != NULL &&
                 event->sentence[0] != '\0',
             "the end has a sentence");
        must(!server.is_open, "the stream is closed with the link");
        return false;
    }
    must(false, "the event is of a known kind");
    return false;
}

static void act(struct driver *driver)
{
    static const outbox_message message = {.topic = "t", .payload = "x", .payload_len = 1};
    const outbox_link_methods *methods = driver->link->methods;
    uint64_t choice = fuzz_number(&server.input, 1);
    if (choice < 128 && !driver->in_flight[driver->next_token]) {
        if (methods->publish(driver->link, driver->next_token, &message) == OUTBOX_LINK_OK) {
            must(driver->is_online, "nothing is taken before the connection is up");
            driver->in_flight[driver->next_token++] = true;
        }
    } else if (choice < 160) {
        if (methods->probe(driver->link) == OUTBOX_LINK_OK) {
            must(!driver->is_probed, "one probe is under way at a time");
            driver->is_probed = true;
        }
    } else if (choice < 192) {
        methods->flush(driver->link);
    } else {
        uint32_t due = methods->next_ms(driver->link);
        server.now_ms += due < 60000 ? due : (uint32_t)choice * 10;
    }
}

static void run_link(int version)
{
    static _Alignas(16) char memory[8192];
    static const outbox_port port = {.version = 1, .now_ms = now_ms};
    const outbox_stream_link_config config = {.client_id = "f",
                                              .protocol = version == 5 ? 0 : 4,
                                              .window = WINDOW,
                                              .send_buffer = 256,
                                              .receive_buffer = 16};
    struct driver driver = {0};
    server.stream.methods = &stream_methods;
    must(outbox_stream_link_size(&config) <= sizeof memory, "the link fits");
    must(outbox_stream_link_init(memory, sizeof memory, &server.stream, &port, &config,
                                 &driver.link, NULL, 0) == OUTBOX_OK,
         "the link is made");
    must(driver.link->methods->open(driver.link) == OUTBOX_LINK_OK, "it opens");
    for (int i = 0; i < ROUNDS; i++) {
        outbox_link_event event;
        if (driver.link->methods->poll(driver.link, &event) == OUTBOX_LINK_OK) {
            if (!take_event(&driver, &event))
                break;
        } else {
            act(&driver);
        }
    }
    driver.link->methods->close(driver.link);
    must(!server.is_open, "close closes the stream");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    int version = fuzz_number(&input, 1) % 2 == 0 ? 4 : 5;
    size_t piece = (size_t)fuzz_number(&input, 1) % 8 + 1;
    size_t length = (size_t)(input.end - input.at);
    struct fuzz_input copy_of = input;
    char *copy = fuzz_bytes(&copy_of, &length, false);
    decode_twice((const uint8_t *)copy, length, version, piece);
    memset(&server, 0, sizeof server);
    server.input = (struct fuzz_input){(const uint8_t *)copy, (const uint8_t *)copy + length};
    run_link(version);
    free(copy);
    return 0;
}
