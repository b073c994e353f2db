/* SPDX-License-Identifier: MIT
 *
 * test_conformance.c - the suite for ports (tests/conformance) over what this project has: the
 * simulated flash, the fake link, the stream link, the fake clock; and over ports with a fault,
 * which it must find.
 */
#include "fake_stream.h"
#include "support.h"

#include "conformance/conformance.h"
#include "firmware/nor_sim.h"

#include <outbox/stream.h>
#include <stdlib.h>
#include <string.h>

static void expect_sound(const char *wrong)
{
    if (wrong)
        fail_msg("it does not hold that %s", wrong);
}

static void expect_broken(const char *wrong, const char *words)
{
    assert_non_null(wrong);
    if (!strstr(wrong, words))
        fail_msg("'%s' is found broken, not '%s'", wrong, words);
}

/* ---- Flash ----------------------------------------------------------------------------------- */

enum fault { ERASES_ALL_BUT_ONE, ERASES_ANOTHER, WRAPS_AT_A_PAGE, STOPS_AT_A_PAGE, READS_WORDS };

/* A driver with a fault, before the simulated flash, whose own rules it goes around. */
static struct {
    struct nor_sim nor;
    enum fault fault;
} faulty;

static int faulty_read(void *context, uint32_t offset, void *data, size_t size)
{
    (void)context;
    if (faulty.fault == READS_WORDS)
        offset &= ~UINT32_C(3);
    return faulty.nor.driver.read(&faulty.nor, offset, data, size);
}

static int faulty_program(void *context, uint32_t offset, const void *data, size_t size)
{
    const uint8_t *from = data;
    const uint32_t page = offset / 256 * 256;
    (void)context;
    for (size_t i = 0; i < size; i++)
        if (offset + i < page + 256 || faulty.fault == ERASES_ANOTHER)
            faulty.nor.bytes[offset + i] &= from[i];
        else if (faulty.fault == WRAPS_AT_A_PAGE)
            faulty.nor.bytes[page + (offset + i) % 256] &= from[i];
    return 0;
}

static int faulty_erase(void *context, uint32_t sector)
{
    const uint32_t size = faulty.nor.driver.sector_size;
    (void)context;
    if (faulty.fault == ERASES_ANOTHER && sector > 0)
        (void)faulty.nor.driver.erase(&faulty.nor, sector - 1);
    int result = faulty.nor.driver.erase(&faulty.nor, sector);
    if (faulty.fault == ERASES_ALL_BUT_ONE)
        faulty.nor.bytes[(size_t)sector * size + size - 1] = 0x7f;
    return result;
}

static int faulty_sync(void *context)
{
    (void)context;
    return 0;
}

static void expect_fault(enum fault fault, const char *words)
{
    nor_init(&faulty.nor, 4096, 16, 1);
    faulty.fault = fault;
    outbox_flash_driver driver = faulty.nor.driver;
    driver.read = faulty_read;
    driver.program = faulty_program;
    driver.erase = faulty_erase;
    driver.sync = faulty_sync;
    expect_broken(conform_flash(&driver), words);
    nor_free(&faulty.nor);
}

static void test_the_simulated_flash_keeps_the_promises_of_a_driver(void **state)
{
    static const uint32_t units[] = {1, 2, 8, 32, 64};
    (void)state;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct nor_sim nor;
        nor_init(&nor, i == 0 ? 1024 : 4096, 16, units[i]);
        expect_sound(conform_flash(&nor.driver));
        nor_free(&nor);
    }
}

static void test_faults_of_a_flash_driver_are_found(void **state)
{
    (void)state;
    expect_fault(ERASES_ALL_BUT_ONE, "an erased sector reads as 0xff");
    expect_fault(READS_WORDS, "program changes its own bytes");
    expect_fault(STOPS_AT_A_PAGE, "a longer program changes its own bytes, all of them");
    expect_fault(WRAPS_AT_A_PAGE, "a longer program changes its own bytes, all of them");
    expect_fault(ERASES_ANOTHER, "erase leaves other sectors alone");
}

static void test_numbers_that_no_flash_has_are_found(void **state)
{
    struct nor_sim nor;
    (void)state;
    nor_init(&nor, 4096, 16, 1);
    nor.driver.program_unit = 3;
    expect_broken(conform_flash(&nor.driver), "three numbers");
    nor.driver.program_unit = 1;
    nor.driver.sync = NULL;
    expect_broken(conform_flash(&nor.driver), "no function is NULL");
    nor_free(&nor);
}

/* ---- Clock ----------------------------------------------------------------------------------- */

static void pass(void *context, unsigned ms)
{
    ((struct fake_port *)context)->now_ms += ms;
}

static void pass_in_seconds(void *context, unsigned ms)
{
    ((struct fake_port *)context)->now_ms += ms / 1000;
}

static void pass_in_microseconds(void *context, unsigned ms)
{
    ((struct fake_port *)context)->now_ms += ms * 1000;
}

static uint32_t backwards(void *context)
{
    return ((struct fake_port *)context)->now_ms--;
}

static void test_a_clock_is_judged_also_where_it_wraps(void **state)
{
    struct fake_port fake;
    (void)state;
    fake_port_init(&fake);
    fake.now_ms = UINT32_MAX - 300;
    expect_sound(conform_clock(&fake.port, pass, &fake));
    expect_broken(conform_clock(&fake.port, pass_in_seconds, &fake), "goes on");
    expect_broken(conform_clock(&fake.port, pass_in_microseconds, &fake), "not something shorter");
    fake.port.now_ms = backwards;
    expect_broken(conform_clock(&fake.port, pass, &fake), "never goes back");
}

/* ---- The fake link --------------------------------------------------------------------------- */

static struct fake_link fake_link;
static int acked, acks_for_each;

static void serve_fake(void *context)
{
    (void)context;
    if (!fake_link.is_open)
        acked = fake_link.sent_count;
    else if (fake_link.answered != fake_link.opens)
        fake_link_opened(&fake_link, 100);
    for (; acked < fake_link.sent_count; acked++)
        for (int i = 0; i < acks_for_each; i++)
            fake_link_acked(&fake_link, fake_link.sent[acked].token, 0);
    if (fake_link.is_probed)
        fake_link_alive(&fake_link);
}

static void hang_up_fake(void *context)
{
    (void)context;
    fake_link_hung_up(&fake_link, "the server ended it");
}

static const struct conformance_server fake_server = {NULL, serve_fake, hang_up_fake, 20};

static const char *judge_fake(int acks)
{
    fake_link_init(&fake_link);
    acked = 0;
    acks_for_each = acks;
    return conform_link(&fake_link.link, &fake_server);
}

static void test_the_fake_link_keeps_the_promises_of_a_link(void **state)
{
    (void)state;
    expect_sound(judge_fake(1));
}

static void test_faults_of_a_link_are_found(void **state)
{
    (void)state;
    expect_broken(judge_fake(0), "each publish is followed by its ACKED");
    expect_broken(judge_fake(2), "one ACKED only");
}

/* ---- The stream link ------------------------------------------------------------------------- */

static struct fake_stream stream;
static struct fake_port port;

/* Answers one packet of the client's, if a whole one is there. */
static bool answer(void)
{
    const uint8_t *packet = stream.out + stream.out_seen;
    const size_t left = stream.out_size - stream.out_seen;
    if (left < 2)
        return false;
    assert_true(packet[1] < 128); /* all of them are short */
    const size_t size = 2u + packet[1];
    if (left < size)
        return false;
    stream.out_seen += size;
    if (packet[0] == 0x10)
        SAY(&stream, "\x20\x03\x00\x00\x00");
    if (packet[0] == 0x32) {
        const uint8_t *id = packet + 4 + (packet[2] << 8 | packet[3]);
        const uint8_t puback[] = {0x40, 2, id[0], id[1]};
        for (int i = 0; i < acks_for_each; i++)
            fake_stream_say(&stream, puback, sizeof puback);
    }
    if (packet[0] == 0xc0)
        SAY(&stream, "\xd0\x00");
    return true;
}

static void serve_stream(void *context)
{
    (void)context;
    port.now_ms += 5;
    if (!stream.is_open)
        stream.out_seen = stream.out_size;
    while (answer()) {
    }
}

static void hang_up_stream(void *context)
{
    (void)context;
    stream.in_end = OUTBOX_STREAM_ENDED;
}

static const struct conformance_server stream_server = {NULL, serve_stream, hang_up_stream, 20};

static void judge_stream(size_t piece, int acks)
{
    static const outbox_stream_link_config config = {.client_id = "c"};
    char sentence[160] = "";
    outbox_link *link;
    fake_stream_init(&stream);
    fake_port_init(&port);
    stream.piece = piece;
    acks_for_each = acks;
    const size_t size = outbox_stream_link_size(&config);
    void *memory = malloc(size);
    assert_non_null(memory);
    if (outbox_stream_link_init(memory, size, &stream.stream, &port.port, &config, &link, sentence,
                                sizeof sentence) != OUTBOX_OK)
        fail_msg("%s", sentence);
    expect_sound(conform_link(link, &stream_server));
    free(memory);
}

static void test_the_stream_link_keeps_the_promises_of_a_link(void **state)
{
    (void)state;
    judge_stream(0, 1);
}

static void test_the_stream_link_keeps_them_byte_by_byte(void **state)
{
    (void)state;
    judge_stream(1, 1);
}

/* [stream-4] */
static void test_the_stream_link_keeps_them_where_the_server_repeats_each_puback(void **state)
{
    (void)state;
    judge_stream(0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_simulated_flash_keeps_the_promises_of_a_driver),
        cmocka_unit_test(test_faults_of_a_flash_driver_are_found),
        cmocka_unit_test(test_numbers_that_no_flash_has_are_found),
        cmocka_unit_test(test_a_clock_is_judged_also_where_it_wraps),
        cmocka_unit_test(test_the_fake_link_keeps_the_promises_of_a_link),
        cmocka_unit_test(test_faults_of_a_link_are_found),
        cmocka_unit_test(test_the_stream_link_keeps_the_promises_of_a_link),
        cmocka_unit_test(test_the_stream_link_keeps_them_byte_by_byte),
        cmocka_unit_test(test_the_stream_link_keeps_them_where_the_server_repeats_each_puback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
