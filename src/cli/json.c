/* SPDX-License-Identifier: MIT
 *
 * json.c - prints what is stored as JSON: text as a string, bytes as base64 (RFC 8259, RFC 4648).
 *
 * Keeps nothing. Rows of other writers may hold anything, so text that is not UTF-8 counts as
 * bytes.
 */
#include "cli.h"

#include "../text.h"

#include <stdio.h>
#include <string.h>

void cli_json_string(const char *bytes, size_t len)
{
    (void)putchar('"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\')
            (void)printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            (void)printf("\\u%04x", c);
        else
            (void)putchar(c);
    }
    (void)putchar('"');
}

static void print_base64(const unsigned char *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (void)putchar('"');
    for (size_t i = 0; i < len; i += 3) {
        size_t rest = len - i;
        unsigned bits = (unsigned)bytes[i] << 16 | (rest > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                        (rest > 2 ? bytes[i + 2] : 0);
        (void)putchar(digits[bits >> 18]);
        (void)putchar(digits[bits >> 12 & 63]);
        (void)putchar(rest > 1 ? digits[bits >> 6 & 63] : '=');
        (void)putchar(rest > 2 ? digits[bits & 63] : '=');
    }
    (void)putchar('"');
}

void cli_json_column(const char *name, sqlite3_stmt *statement, int column)
{
    int storage = sqlite3_column_type(statement, column);
    const char *bytes = NULL;
    if (storage == SQLITE_BLOB)
        bytes = sqlite3_column_blob(statement, column);
    else if (storage != SQLITE_NULL)
        bytes = (const char *)sqlite3_column_text(statement, column);
    size_t len = (size_t)sqlite3_column_bytes(statement, column);
    bool is_text = storage == SQLITE_TEXT && bytes && ob_text_is_utf8(bytes, len);
    bool is_number = storage == SQLITE_INTEGER || storage == SQLITE_FLOAT;
    (void)printf("\"%s%s\":", name,
                 storage == SQLITE_NULL || is_number || is_text ? "" : "_base64");
    if (storage == SQLITE_NULL)
        (void)fputs("null", stdout);
    else if (is_number) /* an infinity is no number in JSON */
        (void)fputs(bytes && strpbrk(bytes, "Ii") == NULL ? bytes : "null", stdout);
    else if (is_text)
        cli_json_string(bytes, len);
    else
        print_base64((const unsigned char *)bytes, bytes ? len : 0);
}
