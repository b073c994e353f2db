/* SPDX-License-Identifier: MIT
 *
 * fuzz.c - the seeds' folder, findings, and inputs taken apart, for every fuzz target.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *folder;
static int seeds;

void must(bool holds, const char *sentence)
{
    if (holds)
        return;
    (void)fprintf(stderr, "does not hold: %s\n", sentence);
    abort();
}

void fuzz_seed(const void *bytes, size_t len)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/seed-%02d", folder, ++seeds);
    FILE *file = fopen(path, "wb");
    must(file != NULL, "the folder of the seeds can be written");
    must(fwrite(bytes, 1, len, file) == len && fclose(file) == 0, "a seed can be written");
}

// NOLINTNEXTLINE(readability-non-const-parameter): the type is libFuzzer's
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (*argc == 3 && strcmp((*argv)[1], "--seeds") == 0) {
        folder = (*argv)[2];
        fuzz_seeds();
        exit(0);
    }
    fuzz_prepare();
    return 0;
}

uint64_t fuzz_number(struct fuzz_input *input, int bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number = number << 8 | (input->at < input->end ? *input->at++ : 0);
    return number;
}

char *fuzz_bytes(struct fuzz_input *input, size_t *len, bool ended)
{
    size_t left = (size_t)(input->end - input->at);
    if (*len > left)
        *len = left;
    size_t size = *len + (ended ? 1 : 0);
    char *copy = malloc(size > 0 ? size : 1);
    must(copy != NULL, "there is memory");
    if (*len > 0)
        memcpy(copy, input->at, *len);
    if (ended)
        copy[*len] = '\0';
    input->at += *len;
    return copy;
}
