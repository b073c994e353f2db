/* SPDX-License-Identifier: MIT
 *
 * token.h - SQL in pieces, as far as one must know them to exchange names in an expression.
 */
#ifndef OB_TOKEN_H
#define OB_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

enum ob_token {
    OB_TOKEN_END,
    OB_TOKEN_SPACE, /* comments too */
    OB_TOKEN_NAME,  /* a word, or a name in "", `` or [] */
    OB_TOKEN_STRING,
    OB_TOKEN_NUMBER, /* and x'00' */
    OB_TOKEN_SIGN    /* one character of all else */
};

/* The piece at the start of the text, and its length in bytes. */
enum ob_token ob_token_next(const char *sql, size_t *len);

/* Whether a piece is this word, in any case of letters, or names this, without its quotes. */
bool ob_token_is(const char *token, size_t len, const char *word);
bool ob_token_names(const char *token, size_t len, const char *name);

#endif
