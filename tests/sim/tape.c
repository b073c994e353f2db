/* SPDX-License-Identifier: MIT
 *
 * tape.c - recorded answers: in memory and as text that survives in version control.
 *
 * One answer a line, "tag bound value"; "(" and ")" stand around answers that belong together.
 */
#include "choose.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[TAGS] = {
    [TAG_CONFIG] = "config", [TAG_TIME] = "time",       [TAG_APP] = "app",
    [TAG_LINK] = "link",     [TAG_BROKER] = "broker",   [TAG_NEMESIS] = "nemesis",
    [TAG_POWER] = "power",   [TAG_DAMAGE] = "damage",   [TAG_PORT] = "port",
    [TAG_LANE] = "lane",     [TAG_FEATURE] = "feature", [TAG_CHANGE] = "change",
};

void tape_add(struct tape *tape, struct choice choice)
{
    if (tape->count == tape->capacity) {
        tape->capacity = tape->capacity ? 2 * tape->capacity : 256;
        tape->choices = realloc(tape->choices, tape->capacity * sizeof *tape->choices);
        if (!tape->choices)
            abort();
    }
    tape->choices[tape->count++] = choice;
}

void tape_copy(struct tape *to, const struct tape *from)
{
    memset(to, 0, sizeof *to);
    for (size_t i = 0; i < from->count; i++)
        tape_add(to, from->choices[i]);
}

void tape_free(struct tape *tape)
{
    free(tape->choices);
    memset(tape, 0, sizeof *tape);
}

bool tape_write(const char *path, const struct tape_header *header, const struct tape *tape)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    bool good = fprintf(file,
                        "outbox-tape 1\nprofile %s\nseed %" PRIu64 "\noperations %" PRIu32
                        "\ninvariant %s\n",
                        header->profile, header->seed, header->operations, header->invariant) > 0;
    for (size_t i = 0; i < tape->count && good; i++) {
        const struct choice *choice = &tape->choices[i];
        if (choice->tag >= 0)
            good = fprintf(file, "%s %" PRIu32 " %" PRIu32 "\n", names[choice->tag], choice->bound,
                           choice->value) > 0;
        else
            good = fputs(choice->tag == CHOICE_BEGIN ? "(\n" : ")\n", file) >= 0;
    }
    return fclose(file) == 0 && good;
}

static bool read_line(char *line, struct tape *tape)
{
    char name[16];
    struct choice choice = {.tag = 0};
    if (line[0] == '(' || line[0] == ')') {
        choice.tag = line[0] == '(' ? CHOICE_BEGIN : CHOICE_END;
        tape_add(tape, choice);
        return true;
    }
    if (sscanf(line, "%15s %" SCNu32 " %" SCNu32, name, &choice.bound, &choice.value) != 3)
        return false;
    for (int tag = 0; tag < TAGS; tag++) {
        if (strcmp(name, names[tag]) == 0) {
            choice.tag = (int16_t)tag;
            tape_add(tape, choice);
            return true;
        }
    }
    return false;
}

bool tape_read(const char *path, struct tape_header *header, struct tape *tape)
{
    char line[128];
    FILE *file = fopen(path, "r");
    memset(tape, 0, sizeof *tape);
    if (!file)
        return false;
    bool good =
        fscanf(file,
               "outbox-tape 1 profile %15s seed %" SCNu64 " operations %" SCNu32 " invariant %7s ",
               header->profile, &header->seed, &header->operations, header->invariant) == 4;
    while (good && fgets(line, sizeof line, file))
        good = read_line(line, tape);
    good = fclose(file) == 0 && good;
    if (!good)
        tape_free(tape);
    return good;
}
