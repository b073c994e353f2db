/* SPDX-License-Identifier: MIT
 *
 * certificates.c - makes a small public-key world with the openssl command.
 *
 * Made anew for each test, valid for two days: nothing that could expire is kept in the sources.
 */
#include "certificates.h"

#include "child.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <stdio.h>

/* `extension` is the extension that makes it what it is, `authority` who signs: NULL for itself. */
static void make(const char *folder, const char *name, const char *extension, const char *authority)
{
    char key[64], certificate[64], subject[64], ca[64], ca_key[64];

    (void)snprintf(key, sizeof key, "%s.key", name);
    (void)snprintf(certificate, sizeof certificate, "%s.pem", name);
    (void)snprintf(subject, sizeof subject, "/CN=outbox test %s", name);
    (void)snprintf(ca, sizeof ca, "%s.pem", authority == NULL ? "" : authority);
    (void)snprintf(ca_key, sizeof ca_key, "%s.key", authority == NULL ? "" : authority);

    const char *const arguments[] = {"openssl",
                                     "req",
                                     "-x509",
                                     "-newkey",
                                     "ec",
                                     "-pkeyopt",
                                     "ec_paramgen_curve:prime256v1",
                                     "-noenc",
                                     "-days",
                                     "2",
                                     "-subj",
                                     subject,
                                     "-keyout",
                                     key,
                                     "-out",
                                     certificate,
                                     "-addext",
                                     extension,
                                     authority == NULL ? NULL : "-CA",
                                     ca,
                                     "-CAkey",
                                     ca_key,
                                     NULL};
    if (child_run(folder, "openssl.log", "openssl.log", arguments) != 0) {
        fail_msg("openssl made no certificate; see openssl.log in %s", folder);
    }
}

void certificates_make(const char *folder)
{
    make(folder, "ca", "keyUsage=keyCertSign", NULL);
    make(folder, "other_ca", "keyUsage=keyCertSign", NULL);
    make(folder, "server", "subjectAltName=DNS:localhost,IP:127.0.0.1", "ca");
    make(folder, "stranger", "subjectAltName=DNS:elsewhere.example", "ca");
    make(folder, "client", "extendedKeyUsage=clientAuth", "ca");
}
