/* SPDX-License-Identifier: MIT
 *
 * recorder.h - a recipient that keeps all that it ever got, as rows that a test can query.
 *
 * It is mosquitto_sub, a process with none of our code in it, subscribed at QoS 1 in a session that
 * the broker keeps. So it misses nothing when the broker is restarted with its store, or the
 * connection is lost; as at every recipient at QoS 1 a message may come twice then. Its lines go to
 * a file, and from there to this table of a database in memory, in the order of arrival:
 *
 *   arrival(n            1, 2, 3 ... in the order of arrival
 *           id           the event's number, from the JSON document or the user properties
 *           topic, payload, qos, retain, utf8 (payload format indicator), content_type
 *           expiry       what is left of it, in seconds; NULL: none
 *           properties   MQTT 5 user properties, as "name:value name:value"
 *           event        the payload as text if it is a JSON object, else NULL
 *           at_ns)       wall time of the arrival in ns
 *
 *   first(id, n)         the first arrival of each id
 *
 * and the function unbase64(text). Waiting is done by inotify on the file.
 */
#ifndef OUTBOX_TESTS_RECORDER_H
#define OUTBOX_TESTS_RECORDER_H

#include <stdint.h>

typedef struct recorder recorder;

/* Subscribes to `filter` and returns when the broker has confirmed it. */
recorder *recorder_start(const char *folder, unsigned port, const char *filter);
void recorder_stop(recorder *r);

/* After the broker has lost its sessions: returns when the subscription is in place again. */
void recorder_subscribe_again(recorder *r);

/* Takes what arrives during `ms`. */
void recorder_follow(recorder *r, int ms);

/* Takes what arrives until the query's number is at least `wanted`; fails the test when it is not
 * within a minute. */
void recorder_await(recorder *r, const char *query, int64_t wanted);

/* The first column of a query's first row, of what was taken so far; 0 and "" for NULL or no row.
 * The text is valid until the next call. */
int64_t recorder_number(recorder *r, const char *query);
const char *recorder_text(recorder *r, const char *query);

/* Runs a statement, such as ATTACH, on the recorder's database. */
void recorder_run(recorder *r, const char *sql);

#endif
