/* SPDX-License-Identifier: MIT
 *
 * broker.c - starts, ends and restarts a real mosquitto.
 *
 * A port is reserved by a socket that is bound to it and never listens: bound first alone, so that
 * nobody else has it, then marked SO_REUSEADDR, so that mosquitto (which marks its own so) may
 * listen there. The kernel gives such a port to no outgoing connection.
 */
#include "broker.h"

#include "child.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 20000

/* ---- Ports ----------------------------------------------------------------------------------- */

static struct sockaddr_in loopback(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int reserve_port(unsigned *port)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int takes_connections(unsigned port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    int rc = connect(fd, (struct sockaddr *)&address, sizeof address);
    assert_int_equal(close(fd), 0);
    return rc == 0;
}

void broker_reserve(broker *b, const char *folder)
{
    b->folder = folder;
    b->pid = 0;
    b->holders[0] = reserve_port(&b->port);
    b->holders[1] = reserve_port(&b->inner_port);
}

void broker_release(broker *b)
{
    if (b->pid > 0) {
        broker_kill(b);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(close(b->holders[i]), 0);
    }
}

/* ---- Start ----------------------------------------------------------------------------------- */

static void write_configuration(const broker *b, const char *settings)
{
    char path[256];

    assert_true(snprintf(path, sizeof path, "%s/mosquitto.conf", b->folder) < (int)sizeof path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    /* `user`: started by root it would become another user, who cannot read this folder. QoS 0 is
     * kept as well for sessions whose client is not there yet, as a recorder's that has just
     * begun. */
    int written = fprintf(file,
                          "per_listener_settings true\n"
                          "user root\n"
                          "max_queued_messages 0\n"
                          "queue_qos0_messages true\n"
                          "listener %u 127.0.0.1\n"
                          "allow_anonymous true\n"
                          "listener %u 127.0.0.1\n"
                          "%s",
                          b->inner_port, b->port, settings);
    assert_true(written > 0);
    assert_int_equal(fclose(file), 0);
}

/* Both listeners are open before it reads from either, so the second one is a sign for both. */
static void await_readiness(broker *b)
{
    long long deadline = clock_ms() + PATIENCE_MS;
    child_end end = 0;

    for (int delay = 1; !takes_connections(b->port); delay = delay < 20 ? delay * 2 : 20) {
        if (child_await(b->pid, delay, &end) == 0) {
            b->pid = 0;
            fail_msg("mosquitto ended at its start with %d; see mosquitto.log in %s", end,
                     b->folder);
        }
        if (clock_ms() > deadline) {
            fail_msg("mosquitto takes no connection");
        }
    }
}

void broker_start(broker *b, const char *settings)
{
    write_configuration(b, settings);
    broker_restart(b);
}

void broker_restart(broker *b)
{
    const char *const arguments[] = {"mosquitto", "-c", "mosquitto.conf", NULL};

    assert_int_equal(b->pid, 0);
    b->pid = child_start(b->folder, "mosquitto.log", "mosquitto.log", arguments);
    await_readiness(b);
}

/* ---- End and reload -------------------------------------------------------------------------- */

static void end_with(broker *b, int signal)
{
    pid_t pid = b->pid;

    b->pid = 0;
    (void)child_stop(pid, signal);
}

void broker_terminate(broker *b)
{
    end_with(b, SIGTERM);
}

void broker_kill(broker *b)
{
    end_with(b, SIGKILL);
}

void broker_freeze(broker *b)
{
    assert_int_equal(kill(b->pid, SIGSTOP), 0);
}

void broker_thaw(broker *b)
{
    assert_int_equal(kill(b->pid, SIGCONT), 0);
}

/* ---- Log ------------------------------------------------------------------------------------- */

/* The log from the place `from`, to be freed by the caller. */
static char *read_log(const broker *b, long from)
{
    char path[256];

    assert_true(snprintf(path, sizeof path, "%s/mosquitto.log", b->folder) < (int)sizeof path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long end = ftell(file);
    assert_true(end >= from);
    assert_int_equal(fseek(file, from, SEEK_SET), 0);
    size_t size = (size_t)(end - from);
    char *text = malloc(size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, size, file), size);
    text[size] = '\0';
    assert_int_equal(fclose(file), 0);
    return text;
}

long broker_await_log(const broker *b, const char *text, long from)
{
    long long deadline = clock_ms() + PATIENCE_MS;

    for (int delay = 1;; delay = delay < 20 ? delay * 2 : 20) {
        char *log = read_log(b, from);
        const char *found = strstr(log, text);
        long place = found == NULL ? -1 : from + (long)(found - log) + (long)strlen(text);
        free(log);
        if (place >= 0) {
            return place;
        }
        if (clock_ms() > deadline) {
            fail_msg("mosquitto never logged \"%s\"", text);
        }
        pause_ms(delay);
    }
}

void broker_reload(broker *b)
{
    char *log = read_log(b, 0);
    long from = (long)strlen(log);

    free(log);
    assert_int_equal(kill(b->pid, SIGHUP), 0);
    (void)broker_await_log(b, "Reloading config.", from);
}
