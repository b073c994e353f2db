/* SPDX-License-Identifier: MIT
 *
 * error.h - a code and its sentence, kept together from where a call failed to where it is shown.
 */
#ifndef OB_ERROR_H
#define OB_ERROR_H

#include <outbox/outbox.h>
#include <stdarg.h>

struct ob_error {
    int code;
    char sentence[200];
};

/* Each sets `error` and returns the code. ob_error_sqlite() maps SQLite's result code and adds
 * its message; `doing` says what was tried: "storing the event". */
int ob_error_set(struct ob_error *error, int code, const char *format, ...);
int ob_error_vset(struct ob_error *error, int code, const char *format, va_list arguments);
int ob_error_sqlite(struct ob_error *error, sqlite3 *db, int result, const char *doing);
void ob_error_clear(struct ob_error *error);

#endif
