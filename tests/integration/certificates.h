/* SPDX-License-Identifier: MIT
 *
 * certificates.h - authorities, certificates and keys for one test, made when it runs.
 *
 *   ca.pem                      the authority that the test trusts
 *   server.pem    server.key    by it, for localhost and 127.0.0.1
 *   stranger.pem  stranger.key  by it, for another host
 *   client.pem    client.key    by it, for a client
 *   other_ca.pem                an authority that signed none of them
 */
#ifndef OUTBOX_TESTS_CERTIFICATES_H
#define OUTBOX_TESTS_CERTIFICATES_H

/* Makes all of them in `folder` with the openssl command. */
void certificates_make(const char *folder);

#endif
