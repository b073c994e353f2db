/* SPDX-License-Identifier: MIT
 *
 * test_url.c - the broker's URL: what is taken, what is refused, and with which words. [start-3]
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <outbox/outbox.h>
#include <stdio.h>
#include <string.h>

#include "url.h"

static outbox_url url;
static char sentence[160];

static void accepts(const char *text)
{
    memset(&url, 0xaa, sizeof(url));
    sentence[0] = '\0';
    if (outbox_url_parse(text, &url, sentence, sizeof(sentence)) != OUTBOX_OK)
        fail_msg("%s was refused: %s", text, sentence);
}

/* The sentence must hold `hint` and nothing of the URL's password, which is always "secret". */
static void refuses(const char *text, const char *hint)
{
    static const outbox_url empty;
    memset(&url, 0xaa, sizeof(url));
    sentence[0] = '\0';
    if (outbox_url_parse(text, &url, sentence, sizeof(sentence)) != OUTBOX_BAD_URL)
        fail_msg("%s was accepted", text);
    if (strstr(sentence, hint) == NULL)
        fail_msg("%s: the sentence lacks '%s': %s", text, hint, sentence);
    assert_null(strstr(sentence, "secret"));
    assert_memory_equal(&url, &empty, sizeof(url));
}

static void test_a_host_alone_gets_the_usual_port(void **state)
{
    (void)state;
    accepts("mqtt://localhost");
    assert_string_equal(url.host, "localhost");
    assert_int_equal(url.port, 1883);
    assert_int_equal(url.tls, 0);
    assert_string_equal(url.username, "");
    assert_string_equal(url.password, "");
}

static void test_mqtts_means_tls_and_its_usual_port(void **state)
{
    (void)state;
    accepts("mqtts://broker.example.org");
    assert_int_equal(url.tls, 1);
    assert_int_equal(url.port, 8883);
}

static void test_the_scheme_may_be_in_capitals(void **state)
{
    (void)state;
    accepts("MQTTS://h");
    assert_int_equal(url.tls, 1);
    accepts("Mqtt://h");
    assert_int_equal(url.tls, 0);
}

static void test_a_port_replaces_the_usual_one(void **state)
{
    (void)state;
    accepts("mqtt://192.0.2.7:1");
    assert_string_equal(url.host, "192.0.2.7");
    assert_int_equal(url.port, 1);
    accepts("mqtts://h:65535");
    assert_int_equal(url.port, 65535);
    accepts("mqtt://h:00443");
    assert_int_equal(url.port, 443);
}

static void test_an_empty_path_is_allowed(void **state)
{
    (void)state;
    accepts("mqtt://h/");
    assert_string_equal(url.host, "h");
    accepts("mqtt://h:5/");
    assert_int_equal(url.port, 5);
}

static void test_an_ipv6_address_loses_its_brackets(void **state)
{
    (void)state;
    accepts("mqtt://[::1]");
    assert_string_equal(url.host, "::1");
    assert_int_equal(url.port, 1883);
    accepts("mqtts://u:p@[2001:db8::7]:99/");
    assert_string_equal(url.host, "2001:db8::7");
    assert_int_equal(url.port, 99);
    assert_string_equal(url.username, "u");
}

static void test_user_and_password_are_decoded(void **state)
{
    (void)state;
    accepts("mqtt://me%40home:p%3a%2F%25+!@h");
    assert_string_equal(url.username, "me@home");
    assert_string_equal(url.password, "p:/%+!");
    accepts("mqtt://gr%C3%BC%c3%9f@h");
    assert_string_equal(url.username, "gr\xc3\xbc\xc3\x9f");
    assert_string_equal(url.password, "");
}

static void test_a_password_may_hold_colons_and_bytes_that_are_no_utf8(void **state)
{
    (void)state;
    accepts("mqtt://u:a:b:%ff@h");
    assert_string_equal(url.password, "a:b:\xff");
}

static void test_an_empty_password_is_none(void **state)
{
    (void)state;
    accepts("mqtt://u:@h");
    assert_string_equal(url.username, "u");
    assert_string_equal(url.password, "");
}

static void test_nothing_is_refused(void **state)
{
    (void)state;
    refuses(NULL, "write mqtt://host:port");
    refuses("", "write mqtt://host:port");
}

static void test_other_schemes_are_refused(void **state)
{
    (void)state;
    static const char *const others[] = {
        "localhost", "localhost:1883", "tcp://h", "ssl://h",    "ws://h",     "http://h",
        "mqtt:h",    "mqtt:/h",        "://h",    " mqtt://h",  "mqttss://h", "mqtt//h",
        "wss://h",   "mqtt+ssl://h",   "[::1]",   "user@h:1883"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        refuses(others[i], "must begin with mqtt://");
}

static void test_a_missing_host_is_refused(void **state)
{
    (void)state;
    refuses("mqtt://", "the host is missing");
    refuses("mqtt:///", "the host is missing");
    refuses("mqtt://:1883", "the host is missing");
    refuses("mqtt://u:secret@", "the host is missing");
    refuses("mqtt://u:secret@:1", "the host is missing");
}

static void test_a_port_that_is_no_port_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "mqtt://h:",    "mqtt://h:0",     "mqtt://h:65536",
        "mqtt://h:-1",  "mqtt://h:+1",    "mqtt://h:1883x",
        "mqtt://h: 1",  "mqtt://h:1e3",   "mqtt://h:99999999999999999999",
        "mqtt://h:0x5", "mqtt://[::1]:a", "mqtt://[::1]:"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuses(bad[i], "1 to 65535");
}

static void test_a_path_a_query_and_a_fragment_are_refused(void **state)
{
    (void)state;
    refuses("mqtt://h/topic", "nothing may follow the port");
    refuses("mqtt://h//", "nothing may follow the port");
    refuses("mqtt://h/?a=b", "nothing may follow the port");
    refuses("mqtt://h?clientid=7", "nothing may follow the port");
    refuses("mqtt://h#part", "nothing may follow the port");
}

static void test_a_password_with_raw_separators_is_refused_with_their_codes(void **state)
{
    (void)state;
    refuses("mqtt://u:sec/secret@h", "%2F");
    refuses("mqtt://u:sec?secret@h", "%3F");
    refuses("mqtt://u:sec#secret@h", "%23");
    refuses("mqtt://u:sec@secret@h", "%40");
}

static void test_a_malformed_escape_is_refused(void **state)
{
    (void)state;
    refuses("mqtt://u:%secret@h", "write %25");
    refuses("mqtt://u:secret%@h", "write %25");
    refuses("mqtt://u:secret%4@h", "write %25");
    refuses("mqtt://u%g1:secret@h", "write %25");
    refuses("mqtt://u:secret%00@h", "zero byte");
    refuses("mqtt://%00@h", "zero byte");
}

static void test_characters_that_must_be_escaped_are_refused(void **state)
{
    (void)state;
    refuses("mqtt://u:sec ret@h", "%40 for @");
    refuses("mqtt://u:\"secret\"@h", "%40 for @");
    refuses("mqtt://gr\xc3\xbc\xc3\x9f:secret@h", "%40 for @");
    refuses("mqtt://u:secret\n@h", "%40 for @");
}

static void test_a_password_without_a_user_is_refused(void **state)
{
    (void)state;
    refuses("mqtt://:secret@h", "the user name in front of @ is empty");
    refuses("mqtt://@h", "the user name in front of @ is empty");
}

static void test_a_user_that_is_no_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"mqtt://%ff@h",          "mqtt://%c3@h",
                                      "mqtt://%c0%80@h",       "mqtt://%e0%80%80@h",
                                      "mqtt://%ed%a0%80@h",    "mqtt://%f4%90%80%80@h",
                                      "mqtt://%f8%88%80%80@h", "mqtt://%80@h"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuses(bad[i], "not UTF-8");
}

static void test_a_host_with_odd_characters_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"mqtt://a b",   "mqtt://h\n",      "mqtt://a,b",
                                      "mqtt://a%2eb", "mqtt://\xc3\xbc", "mqtt://a\\b",
                                      "mqtt://a]",    "mqtt://a[::1]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&url, 0xaa, sizeof(url));
        assert_int_equal(outbox_url_parse(bad[i], &url, sentence, sizeof(sentence)),
                         OUTBOX_BAD_URL);
    }
    refuses("mqtt://a b", "no host name has");
}

static void test_an_ipv6_address_without_brackets_is_refused(void **state)
{
    (void)state;
    refuses("mqtt://::1", "in brackets");
    refuses("mqtt://2001:db8::7:1883", "in brackets");
}

static void test_brackets_hold_an_ipv6_address_and_nothing_else(void **state)
{
    (void)state;
    refuses("mqtt://[::1", "not closed");
    refuses("mqtt://[]", "[2001:db8::1]");
    refuses("mqtt://[localhost]", "[2001:db8::1]");
    refuses("mqtt://[127.0.0.1]", "[2001:db8::1]");
    refuses("mqtt://[::1]x", "[address]:port");
    refuses("mqtt://[::1]1883", "[address]:port");
    refuses("mqtt://[fe80::1%25eth0]", "zone");
    refuses("mqtt://[fe80::1%eth0]:1883", "zone");
}

/* Fills `text` with a URL of `length` times the letter in the place of %s. */
static void make_long(char *text, size_t size, const char *head, size_t length, const char *tail)
{
    size_t used = strlen(head);
    assert_true(used + length + strlen(tail) < size);
    memcpy(text, head, used);
    memset(text + used, 'a', length);
    memcpy(text + used + length, tail, strlen(tail) + 1);
}

static void test_each_part_has_a_greatest_length(void **state)
{
    (void)state;
    char text[2048];
    make_long(text, sizeof(text), "mqtt://", 253, "");
    accepts(text);
    assert_int_equal(strlen(url.host), 253);
    make_long(text, sizeof(text), "mqtt://", 254, "");
    refuses(text, "253 bytes");
    make_long(text, sizeof(text), "mqtt://", 255, "@h");
    accepts(text);
    make_long(text, sizeof(text), "mqtt://", 256, "@h");
    refuses(text, "too long for a URL");
    make_long(text, sizeof(text), "mqtt://u:", 1023, "@h");
    accepts(text);
    make_long(text, sizeof(text), "mqtt://u:", 1024, "@h");
    refuses(text, "too long for a URL");
    make_long(text, sizeof(text), "mqtt://[", 300, "]");
    refuses(text, "[2001:db8::1]");
}

static void test_the_sentence_is_cut_to_its_buffer(void **state)
{
    (void)state;
    char small[8] = "xxxxxxx";
    assert_int_equal(outbox_url_parse("no", &url, small, sizeof(small)), OUTBOX_BAD_URL);
    assert_int_equal(strlen(small), 7);
    assert_int_equal(outbox_url_parse("no", &url, NULL, 0), OUTBOX_BAD_URL);
}

static void test_utf8_is_told_from_other_bytes(void **state)
{
    (void)state;
    assert_true(outbox_linux_is_utf8(""));
    assert_true(outbox_linux_is_utf8("a\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"));
    assert_true(outbox_linux_is_utf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80"));
    static const char *const bad[] = {"\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xff",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "a\xc2z"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(outbox_linux_is_utf8(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_host_alone_gets_the_usual_port),
        cmocka_unit_test(test_mqtts_means_tls_and_its_usual_port),
        cmocka_unit_test(test_the_scheme_may_be_in_capitals),
        cmocka_unit_test(test_a_port_replaces_the_usual_one),
        cmocka_unit_test(test_an_empty_path_is_allowed),
        cmocka_unit_test(test_an_ipv6_address_loses_its_brackets),
        cmocka_unit_test(test_user_and_password_are_decoded),
        cmocka_unit_test(test_a_password_may_hold_colons_and_bytes_that_are_no_utf8),
        cmocka_unit_test(test_an_empty_password_is_none),
        cmocka_unit_test(test_nothing_is_refused),
        cmocka_unit_test(test_other_schemes_are_refused),
        cmocka_unit_test(test_a_missing_host_is_refused),
        cmocka_unit_test(test_a_port_that_is_no_port_is_refused),
        cmocka_unit_test(test_a_path_a_query_and_a_fragment_are_refused),
        cmocka_unit_test(test_a_password_with_raw_separators_is_refused_with_their_codes),
        cmocka_unit_test(test_a_malformed_escape_is_refused),
        cmocka_unit_test(test_characters_that_must_be_escaped_are_refused),
        cmocka_unit_test(test_a_password_without_a_user_is_refused),
        cmocka_unit_test(test_a_user_that_is_no_utf8_is_refused),
        cmocka_unit_test(test_a_host_with_odd_characters_is_refused),
        cmocka_unit_test(test_an_ipv6_address_without_brackets_is_refused),
        cmocka_unit_test(test_brackets_hold_an_ipv6_address_and_nothing_else),
        cmocka_unit_test(test_each_part_has_a_greatest_length),
        cmocka_unit_test(test_the_sentence_is_cut_to_its_buffer),
        cmocka_unit_test(test_utf8_is_told_from_other_bytes),
    };
    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
