/* SPDX-License-Identifier: MIT
 *
 * fuzz.h - what the fuzz targets share. A target is one file, linked with libFuzzer's main().
 *
 * It has the three functions below. A target called with `--seeds FOLDER` writes its first inputs
 * there and ends, so that no file of bytes needs to be kept.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of each target. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_seeds(void);   /* calls fuzz_seed() for each */
void fuzz_prepare(void); /* once, before the first input */

/* Of fuzz.c. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
void fuzz_seed(const void *bytes, size_t len);

/* Ends the process with this sentence, which makes the input a finding, unless `holds`. */
void must(bool holds, const char *sentence);

/* Takes an input apart from the front; gives zeros where it has ended. */
struct fuzz_input {
    const uint8_t *at, *end;
};
uint64_t fuzz_number(struct fuzz_input *input, int bytes);

/* A copy of the next `len` bytes, or as many as there are, in memory of just that size and a NUL if
 * `ended`, so that AddressSanitizer sees each step too far. To be freed. */
char *fuzz_bytes(struct fuzz_input *input, size_t *len, bool ended);

#endif
