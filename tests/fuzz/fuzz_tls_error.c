/* SPDX-License-Identifier: MIT
 *
 * fuzz_tls_error.c - any line as one of OpenSSL's errors, which may quote what the server sent.
 *
 * What the port keeps of it for people lies within the line, is not empty and has no colon. Over
 * Paho it is the only text from the network that the port takes apart: Paho parses the packets, and
 * gives their reason codes as numbers. For those of the stream link see fuzz_mqtt.c.
 */
#include "fuzz.h"

static void keep_note(void *ticket, const char *text, size_t length);

/* The function is the port's own; so the port's file becomes part of this one. */
#define outbox_paho_queue_note keep_note
#include "paho_handle.c" // NOLINT(bugprone-suspicious-include)
#undef outbox_paho_queue_note

struct line {
    const char *bytes;
    size_t len;
};

void fuzz_prepare(void)
{
}

void fuzz_seeds(void)
{
    static const char *const lines[] = {
        "140:error:0A000086:SSL routines:tls_post_process:certificate verify failed:s.c:1889:",
        "1:error:0:lib:PEM lib:PEM lib:file:1:data\n",
        "a:b:c:d:e:",
        ":::::::",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        fuzz_seed(lines[i], strlen(lines[i]));
}

static void keep_note(void *ticket, const char *text, size_t length)
{
    const struct line *line = ticket;
    bool within = text >= line->bytes && text + length <= line->bytes + line->len;
    must(length > 0, "a note has words");
    must(memchr(text, ':', length) == NULL, "a note is one part of the line");
    must(within || strncmp(text, "a certificate", 13) == 0, "a note is part of the line");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    char *copy = fuzz_bytes(&input, &size, false);
    struct line line = {copy, size};
    must(on_tls_error(copy, size, &line) == 1, "OpenSSL goes on with its next line");
    free(copy);
    return 0;
}
