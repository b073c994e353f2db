/* SPDX-License-Identifier: MIT
 *
 * password.c - the broker's password, from where other users of the machine cannot read it.
 *
 * Everybody can read the arguments of a process, so a password in the URL is refused. Nothing is
 * stored.
 */
#include "cli.h"

#include "../../ports/linux/url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_password(const char *path, char room[CLI_PASSWORD_SIZE])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return cli_fail("%s: %s", path, strerror(errno));
    size_t length = fread(room, 1, CLI_PASSWORD_SIZE, file);
    bool failed = ferror(file) != 0;
    (void)fclose(file); /* only read from */
    if (failed)
        return cli_fail("%s: cannot be read", path);
    char *newline = memchr(room, '\n', length);
    if (newline)
        length = (size_t)(newline - room);
    if (length > 0 && room[length - 1] == '\r')
        length--;
    if (length >= CLI_PASSWORD_SIZE || memchr(room, '\0', length))
        return cli_fail("%s: the first line is too long or holds a zero byte", path);
    room[length] = '\0';
    return CLI_OK;
}

int cli_password(const char *file, char room[CLI_PASSWORD_SIZE], const char **password)
{
    if (!file) {
        *password = getenv("OUTBOX_PASSWORD");
        return CLI_OK;
    }
    *password = room;
    return read_password(file, room);
}

int cli_check_url(const struct cli_verb *verb, const char *text)
{
    char sentence[256];
    outbox_url url;
    if (outbox_url_parse(text, &url, sentence, sizeof sentence) != OUTBOX_OK)
        return cli_usage(verb, "%s", sentence);
    bool has_password = url.password[0] != '\0';
    explicit_bzero(&url, sizeof url);
    if (has_password)
        return cli_usage(verb, "a password in the URL is visible to all users; give it by "
                               "--password-file or in OUTBOX_PASSWORD");
    return CLI_OK;
}
