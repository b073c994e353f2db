/* SPDX-License-Identifier: MIT
 *
 * token.c - takes SQL apart. Pure functions; each piece ends at the text's NUL at the latest.
 */
#include "token.h"

#include <sqlite3.h>
#include <string.h>

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Up to behind the closing sign; a doubled one stands for itself. */
static size_t quoted(const char *sql, char close, bool doubles)
{
    size_t len = 1;
    while (sql[len] != '\0') {
        if (sql[len] == close && doubles && sql[len + 1] == close)
            len++;
        else if (sql[len] == close)
            return len + 1;
        len++;
    }
    return len;
}

static size_t comment(const char *sql)
{
    const char *end;
    if (sql[0] == '-' && sql[1] == '-') {
        end = strchr(sql, '\n');
        return end ? (size_t)(end - sql) : strlen(sql);
    }
    if (sql[0] == '/' && sql[1] == '*') {
        end = strstr(sql + 2, "*/");
        return end ? (size_t)(end - sql) + 2 : strlen(sql);
    }
    return 0;
}

static size_t word(const char *sql)
{
    size_t len = 1;
    while (is_letter(sql[len]) || is_digit(sql[len]) || sql[len] == '$')
        len++;
    return len;
}

static size_t number(const char *sql)
{
    size_t len = 1;
    while (is_letter(sql[len]) || is_digit(sql[len]) || sql[len] == '.' ||
           ((sql[len] == '+' || sql[len] == '-') && (sql[len - 1] == 'e' || sql[len - 1] == 'E')))
        len++;
    return len;
}

enum ob_token ob_token_next(const char *sql, size_t *len)
{
    *len = 0;
    if (sql[0] == '\0')
        return OB_TOKEN_END;
    *len = strspn(sql, " \t\n\r\f");
    if (*len == 0)
        *len = comment(sql);
    if (*len > 0)
        return OB_TOKEN_SPACE;
    if ((sql[0] == 'x' || sql[0] == 'X') && sql[1] == '\'') {
        *len = 1 + quoted(sql + 1, '\'', true);
        return OB_TOKEN_NUMBER;
    }
    if (sql[0] == '\'') {
        *len = quoted(sql, '\'', true);
        return OB_TOKEN_STRING;
    }
    if (sql[0] == '"' || sql[0] == '`' || sql[0] == '[') {
        *len = quoted(sql, sql[0] == '[' ? ']' : sql[0], sql[0] != '[');
        return OB_TOKEN_NAME;
    }
    if (is_digit(sql[0]) || (sql[0] == '.' && is_digit(sql[1]))) {
        *len = number(sql);
        return OB_TOKEN_NUMBER;
    }
    *len = is_letter(sql[0]) ? word(sql) : 1;
    return is_letter(sql[0]) ? OB_TOKEN_NAME : OB_TOKEN_SIGN;
}

bool ob_token_is(const char *token, size_t len, const char *name)
{
    return strlen(name) == len && sqlite3_strnicmp(token, name, (int)len) == 0;
}

bool ob_token_names(const char *token, size_t len, const char *name)
{
    char quote = token[0] == '[' ? ']' : token[0];
    if (len < 2 || (quote != '"' && quote != '`' && quote != ']'))
        return ob_token_is(token, len, name);
    size_t at = 0;
    for (size_t i = 1; i + 1 < len; i++, at++) {
        if (sqlite3_strnicmp(token + i, name + at, 1) != 0)
            return false;
        if (token[i] == quote)
            i++; /* it is doubled */
    }
    return name[at] == '\0';
}
