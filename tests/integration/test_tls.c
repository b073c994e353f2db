/* SPDX-License-Identifier: MIT
 *
 * test_tls.c - mqtts://: who is trusted, by which name, and who may come in.
 *
 * A server that cannot prove who it is gets not one event.
 */
#include "certificates.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WITH_SERVER BROKER_OPEN "cafile ca.pem\ncertfile server.pem\nkeyfile server.key\n"
#define WITH_STRANGER BROKER_OPEN "cafile ca.pem\ncertfile stranger.pem\nkeyfile stranger.key\n"
#define CLIENT_NEEDED "require_certificate true\n"

/* Paths of this test's certificates; the strings of one call of start_tls(). */
static char path_buffers[3][128];

static const char *path(const scene *s, int buffer, const char *name)
{
    (void)snprintf(path_buffers[buffer], sizeof path_buffers[buffer], "%s/%s", s->folder, name);
    return path_buffers[buffer];
}

/* Starts broker, recorder, application and a forwarder to `host`; puts ten events. */
static app *start_tls(scene *s, const char *settings, const char *host, outbox_forwarding as)
{
    certificates_make(s->folder);
    broker_start(&s->broker, settings);
    scene_record(s);
    (void)snprintf(s->url, sizeof s->url, "mqtts://%s:%u", host, s->broker.port);
    as.broker = s->url;
    app *a = app_open(s, "WAL");
    app_start_with(a, &as);
    app_put_numbers(a, 1, 10);
    return a;
}

static void expect_delivery(scene *s, app *a)
{
    expect_numbers(s->recorder, 1, 10);
    app_flush(a);
}

/* Says why, in words, and sends nothing. */
static void expect_refusal(app *a, const char *word)
{
    outbox_statistics now = app_await(a, is_backing_off);

    assert_int_equal(now.last_error, OUTBOX_LINK);
    if (strstr(now.last_error_text, word) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", now.last_error_text, word);
    }
    assert_int_equal(now.connects, 0);
    assert_int_equal(now.published, 0);
    assert_int_equal(now.pending, 10);
}

static void test_a_trusted_server_is_served_by_its_name(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_SERVER, "localhost",
                       (outbox_forwarding){.ca_file = path(s, 0, "ca.pem")});
    expect_delivery(s, a);
}

static void test_a_trusted_server_is_served_by_its_address(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_SERVER, "127.0.0.1",
                       (outbox_forwarding){.ca_file = path(s, 0, "ca.pem")});
    expect_delivery(s, a);
}

static void test_a_server_of_an_unknown_authority_gets_nothing(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_SERVER, "localhost",
                       (outbox_forwarding){.ca_file = path(s, 0, "other_ca.pem")});
    expect_refusal(a, "certificate");
}

/* Without `ca_file` the system's authorities count, and they do not know the test's. */
static void test_a_server_that_the_system_does_not_trust_gets_nothing(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_SERVER, "localhost", (outbox_forwarding){.mode = 0});
    expect_refusal(a, "certificate");
}

static void test_a_server_of_another_name_gets_nothing(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_STRANGER, "localhost",
                       (outbox_forwarding){.ca_file = path(s, 0, "ca.pem")});
    expect_refusal(a, "TLS");
}

static void test_without_the_server_check_any_certificate_will_do(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_STRANGER, "localhost",
                       (outbox_forwarding){.insecure_no_server_check = 1});
    expect_delivery(s, a);
}

static void test_a_client_certificate_lets_us_in(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_SERVER CLIENT_NEEDED, "localhost",
                       (outbox_forwarding){.ca_file = path(s, 0, "ca.pem"),
                                           .cert_file = path(s, 1, "client.pem"),
                                           .key_file = path(s, 2, "client.key")});
    expect_delivery(s, a);
}

static void test_a_missing_client_certificate_is_reported(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_SERVER CLIENT_NEEDED, "localhost",
                       (outbox_forwarding){.ca_file = path(s, 0, "ca.pem")});
    expect_refusal(a, "");
}

/* Nobody is there whom OpenSSL could ask for the password. */
static void test_a_key_with_a_password_is_reported_and_nobody_asked_for_it(void **state)
{
    static const char *const arguments[] = {"openssl",       "ec",   "-in",        "client.key",
                                            "-aes128",       "-out", "locked.key", "-passout",
                                            "pass:a secret", NULL};
    scene *s = *state;

    certificates_make(s->folder);
    assert_int_equal(child_run(s->folder, "openssl.log", "openssl.log", arguments), 0);
    broker_start(&s->broker, WITH_SERVER CLIENT_NEEDED);
    (void)snprintf(s->url, sizeof s->url, "mqtts://localhost:%u", s->broker.port);
    app *a = app_open(s, "WAL");
    app_start_with(a, &(outbox_forwarding){.broker = s->url,
                                           .ca_file = path(s, 0, "ca.pem"),
                                           .cert_file = path(s, 1, "client.pem"),
                                           .key_file = path(s, 2, "locked.key")});
    app_put_numbers(a, 1, 10);
    expect_refusal(a, "");
}

/* TLS spoken to a listener that has none. */
static void test_a_server_without_tls_gets_nothing(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, BROKER_OPEN, "localhost",
                       (outbox_forwarding){.ca_file = path(s, 0, "ca.pem")});
    expect_refusal(a, "");
}

static void test_a_renewed_certificate_ends_the_refusal(void **state)
{
    scene *s = *state;

    app *a = start_tls(s, WITH_STRANGER, "localhost",
                       (outbox_forwarding){.ca_file = path(s, 0, "ca.pem")});
    expect_refusal(a, "TLS");

    broker_terminate(&s->broker);
    broker_start(&s->broker, WITH_SERVER);
    app_flush(a); /* perhaps before the recorder has subscribed again */
    recorder_subscribe_again(s->recorder);
    app_put_numbers(a, 11, 10);
    expect_numbers(s->recorder, 11, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_a_trusted_server_is_served_by_its_name),
        SCENE_TEST(test_a_trusted_server_is_served_by_its_address),
        SCENE_TEST(test_a_server_of_an_unknown_authority_gets_nothing),
        SCENE_TEST(test_a_server_that_the_system_does_not_trust_gets_nothing),
        SCENE_TEST(test_a_server_of_another_name_gets_nothing),
        SCENE_TEST(test_without_the_server_check_any_certificate_will_do),
        SCENE_TEST(test_a_client_certificate_lets_us_in),
        SCENE_TEST(test_a_missing_client_certificate_is_reported),
        SCENE_TEST(test_a_key_with_a_password_is_reported_and_nobody_asked_for_it),
        SCENE_TEST(test_a_server_without_tls_gets_nothing),
        SCENE_TEST(test_a_renewed_certificate_ends_the_refusal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
