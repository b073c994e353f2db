/* SPDX-License-Identifier: MIT
 *
 * paho_link.h - the link of port.h over MQTTAsync of Eclipse Paho (libpaho-mqtt3as).
 *
 * What Paho makes unavoidable. open() and close() start and stop its threads: commonly 0.15 s, at
 * worst about 1 s. poll() does so too, once, when it has to connect again by itself (MQTT 5 is
 * refused, or the server wants a shorter keep-alive). While Paho resolves a host name, for this or
 * for any other client of the process, every call of it waits, publish() included: a resolver that
 * hangs holds the forwarder back, though not the application. Its sockets stay open in a program
 * that the process executes. Do not use a link in a forked child.
 *
 * What Paho hides. It pings by itself and tells nobody of the answer, so probe() sends an
 * UNSUBSCRIBE of "outbox/probe", a filter that was never subscribed to: the server must answer with
 * UNSUBACK (MQTT 3.1.1 and 5, 3.10.4), and a refusal in it is a sign of life as well. Paho keeps it
 * back while as many publishes are in flight as the server takes, or one is half written.
 *
 * A stream that the server has ended and a ping without an answer look alike as well. by_peer of a
 * CLOSED is non-zero after a DISCONNECT of the server; and after a loss, if the server had answered
 * (CONNACK, PUBACK, UNSUBACK) within the last half of a keep-alive and the last 15 s, because no
 * time-out is as short as that. It is zero for FIN and RST after a longer silence, sleep of the
 * device included: ask for a sign of life before what is in doubt. Three ends that come so soon are
 * taken for the server's though they are not: Paho could not read a packet of the server's, Paho
 * had no memory, or somebody on this machine destroyed the socket.
 *
 * The environment. Paho before 1.3.14 sends every connection through http_proxy (mqtt://) or
 * https_proxy (mqtts://) when that is set, which no option prevents. With such a Paho, open()
 * refuses to connect and says so; PAHO_C_CLIENT_USE_HTTP_PROXY=TRUE, which newer ones ask for as
 * well, permits it.
 */
#ifndef OUTBOX_PAHO_LINK_H
#define OUTBOX_PAHO_LINK_H

#include "link.h"

/* Options that link.c has checked. NULL: no memory, or too many links (paho_queue.h). */
outbox_link *outbox_paho_link_new(const outbox_linux_link_options *options);

/* Closes the link and frees it. Waits until wake() has returned. */
void outbox_paho_link_free(outbox_link *link);

#endif
