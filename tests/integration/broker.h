/* SPDX-License-Identifier: MIT
 *
 * broker.h - a real mosquitto for a test, on free ports of the loopback interface.
 *
 * It listens twice: at `port` with the settings that the test gives, and at `inner_port` without
 * TLS, password or access rules, for the recorder, so that it sees what arrived in every test. Both
 * numbers stay reserved, and the same, from broker_reserve() to broker_release(), also while the
 * broker is down: nobody else gets them, and no client can connect to itself there.
 */
#ifndef OUTBOX_TESTS_BROKER_H
#define OUTBOX_TESTS_BROKER_H

#include <sys/types.h>

typedef struct broker {
    const char *folder; /* where its configuration, its log and its store are */
    unsigned port, inner_port;
    int holders[2]; /* sockets that reserve the ports */
    pid_t pid;      /* 0: not running */
} broker;

/* Lines of mosquitto.conf, to be put together. Names of files are relative to the folder. */
#define BROKER_OPEN "allow_anonymous true\n"
#define BROKER_PERSISTENT "persistence true\npersistence_location ./\n"

void broker_reserve(broker *b, const char *folder);
void broker_release(broker *b);

/* Starts with these lines and returns when it takes connections. */
void broker_start(broker *b, const char *settings);

/* Starts again as it was. */
void broker_restart(broker *b);

/* SIGTERM: says goodbye to its clients and, if persistent, saves what it has acknowledged. */
void broker_terminate(broker *b);

/* SIGKILL: a power cut of the broker. Forgets what it acknowledged since it was started. */
void broker_kill(broker *b);

/* SIGHUP: reads passwords and access rules again. Returns when that has been done. */
void broker_reload(broker *b);

/* SIGSTOP and SIGCONT: it keeps its connections and answers nothing. */
void broker_freeze(broker *b);
void broker_thaw(broker *b);

/* Waits until the broker's log has `text` at or after the place `from`. Returns the place behind
 * the found text. Fails the test after some seconds. */
long broker_await_log(const broker *b, const char *text, long from);

#endif
