/* SPDX-License-Identifier: MIT
 *
 * real.h - a double as a JSON number from which the same 64 bits are read again.
 */
#ifndef OB_REAL_H
#define OB_REAL_H

#include <stddef.h>

#define OB_REAL_TEXT 40

/* Writes a finite number; gives the length. It always has a point or an exponent, so that it does
 * not look like an integer. */
size_t ob_real_print(double value, char text[OB_REAL_TEXT]);

#endif
