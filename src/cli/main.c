/* SPDX-License-Identifier: MIT
 *
 * main.c - the `outbox` command: finds the verb and runs it.
 *
 * Exit status: 0 done, 1 failed with a sentence on standard error, 2 called wrongly. The verbs
 * write through SQLite's transactions only, so the command may be killed at any moment.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct cli_verb *const verbs[] = {&cli_init,   &cli_put,     &cli_forward,
                                               &cli_status, &cli_dead,    &cli_verify,
                                               &cli_epoch,  &cli_receive, &cli_capture};
#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

static int print_help(void)
{
    (void)puts("Usage: outbox VERB FILE [ARGUMENT]...\n"
               "Events in an SQLite database, sent over MQTT when the broker can be reached.\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        (void)printf("  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
    (void)puts("\n`outbox VERB --help` explains a verb; `outbox --version` tells the version.\n"
               "Exit status: 0 done, 1 failed, 2 called wrongly.");
    return CLI_OK;
}

static int print_version(void)
{
    (void)printf("outbox %s (SQLite %s)\n", OUTBOX_VERSION, sqlite3_libversion());
    return CLI_OK;
}

static int dispatch(int argc, char **argv)
{
    static char program[] = "outbox"; /* getopt's messages begin with it */
    const char *name = argc > 1 ? argv[1] : NULL;
    if (name && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0))
        return print_help();
    if (name && strcmp(name, "--version") == 0)
        return print_version();
    for (size_t i = 0; name && i < VERB_COUNT; i++)
        if (strcmp(name, verbs[i]->name) == 0) {
            argv[1] = program;
            return verbs[i]->run(argc - 1, argv + 1);
        }
    if (name)
        (void)fprintf(stderr, "outbox: there is no verb '%s'\n", name);
    else
        (void)fputs("outbox: a verb is missing\n", stderr);
    (void)fputs("Try: outbox --help\n", stderr);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    int status = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout))
        status = cli_fail("standard output: %s", strerror(errno));
    return status;
}
