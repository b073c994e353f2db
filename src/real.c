/* SPDX-License-Identifier: MIT
 *
 * real.c - prints a double exactly, with whole numbers only.
 *
 * SQLite's own conversion differs between versions and between machines with and without a long
 * double, and that of libc heeds the locale. A double is m * 2^e; that is a whole number, or one
 * over a power of ten, so all its digits can be counted out. Seventeen of them, rounded, name one
 * double only. Where fifteen do, these are printed. Nothing is kept.
 */
#include "real.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    LIMB = 1000000000, /* a limb has nine decimal digits */
    LIMBS = 90,        /* the smallest double has 767 digits */
    DIGITS = 17,
    SHORT_DIGITS = 15,
    TENS_MAX = 22 /* powers of ten up to here are doubles without rounding */
};

struct whole {
    uint32_t limb[LIMBS]; /* the lowest first */
    int count;
};

static void multiply(struct whole *whole, uint32_t factor)
{
    uint64_t carry = 0;
    for (int i = 0; i < whole->count; i++) {
        carry += (uint64_t)whole->limb[i] * factor;
        whole->limb[i] = (uint32_t)(carry % LIMB);
        carry /= LIMB;
    }
    for (; carry > 0; carry /= LIMB) {
        assert(whole->count < LIMBS);
        whole->limb[whole->count++] = (uint32_t)(carry % LIMB);
    }
}

static void multiply_often(struct whole *whole, uint32_t base, int times)
{
    while (times > 0) {
        uint32_t factor = 1;
        for (; times > 0 && factor < UINT32_MAX / base; times--)
            factor *= base;
        multiply(whole, factor);
    }
}

/* The number without its sign: the digits of a whole number over 10^*tens. */
static void split_double(double value, struct whole *whole, int *tens)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t mantissa = bits & ((UINT64_C(1) << 52) - 1);
    int exponent = (int)(bits >> 52 & 0x7ff);
    if (exponent > 0)
        mantissa |= UINT64_C(1) << 52;
    else
        exponent = 1;
    exponent -= 1075;
    while (exponent < 0 && mantissa % 2 == 0) {
        mantissa /= 2;
        exponent++;
    }
    *whole = (struct whole){{0}, 0};
    for (; mantissa > 0; mantissa /= LIMB)
        whole->limb[whole->count++] = (uint32_t)(mantissa % LIMB);
    *tens = exponent < 0 ? -exponent : 0;
    multiply_often(whole, exponent < 0 ? 5 : 2, exponent < 0 ? -exponent : exponent);
}

/* The first digits as a number of DIGITS digits, rounded, and how many places the point stands
 * behind the first one. */
static uint64_t lead(const struct whole *whole, int tens, int *exponent)
{
    uint64_t number = 0;
    int digits = 0;
    uint32_t next = 0;
    for (int i = whole->count - 1; i >= 0; i--) {
        uint32_t unit = LIMB / 10, rest = whole->limb[i];
        for (int j = 0; j<9; j++, rest %= unit, unit = unit> 1 ? unit / 10 : 1) {
            uint32_t digit = rest / unit;
            if (digits == 0 && digit == 0)
                continue;
            if (digits < DIGITS)
                number = number * 10 + digit;
            else if (digits == DIGITS)
                next = digit;
            digits++;
        }
    }
    *exponent = digits - 1 - tens;
    for (int i = digits; i < DIGITS; i++)
        number *= 10;
    return number + (next >= 5); /* a tie names the same double either way */
}

/* With so few digits and so small a power of ten, both are exact and the one operation on them is
 * rounded as a reader of the number rounds. */
static bool is_short(double value, uint64_t number, int tens)
{
    static const double powers[TENS_MAX + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (tens < -TENS_MAX || tens > TENS_MAX)
        return false;
    volatile double read = (double)number; /* no wider register may hold it */
    if (tens < 0)
        read /= powers[-tens];
    else
        read *= powers[tens];
    return read == value;
}

static uint64_t shorten(double value, uint64_t number, int exponent)
{
    uint64_t fewer = (number + 50) / 100;
    return is_short(value, fewer, exponent - (SHORT_DIGITS - 1)) ? fewer * 100 : number;
}

/* Digits with the point behind `whole` of them, without zeros at the end. */
static size_t place(char *text, const char *digits, int whole)
{
    size_t len = strlen(digits), used = 0;
    while (len > 1 && digits[len - 1] == '0')
        len--;
    if (whole <= 0) {
        text[used++] = '0';
        text[used++] = '.';
        for (; whole < 0; whole++)
            text[used++] = '0';
        for (size_t i = 0; i < len; i++)
            text[used++] = digits[i];
        return used;
    }
    for (size_t i = 0; i < (size_t)whole; i++)
        text[used++] = digits[i]; /* never more than there are */
    text[used++] = '.';
    if (len <= (size_t)whole) {
        text[used++] = '0';
        return used;
    }
    for (size_t i = (size_t)whole; i < len; i++)
        text[used++] = digits[i];
    return used;
}

size_t ob_real_print(double value, char text[OB_REAL_TEXT])
{
    char digits[DIGITS + 4];
    struct whole whole;
    int tens, exponent;
    uint64_t bits;
    size_t used = 0;
    memcpy(&bits, &value, sizeof bits);
    if (bits >> 63)
        text[used++] = '-';
    if (bits << 1 == 0) {
        memcpy(text + used, "0.0", 4);
        return used + 3;
    }
    value = value < 0 ? -value : value;
    split_double(value, &whole, &tens);
    uint64_t number = lead(&whole, tens, &exponent);
    number = shorten(value, number, exponent);
    if (number >= UINT64_C(100000000000000000)) { /* it was rounded up to one digit more */
        number /= 10;
        exponent++;
    }
    sqlite3_snprintf((int)sizeof digits, digits, "%llu", (unsigned long long)number);
    bool is_plain = exponent >= -5 && exponent < DIGITS - 1;
    used += place(text + used, digits, is_plain ? exponent + 1 : 1);
    text[used] = '\0';
    if (!is_plain) {
        sqlite3_snprintf(8, text + used, "e%+d", exponent);
        used += strlen(text + used);
    }
    return used;
}
