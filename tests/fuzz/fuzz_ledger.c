/* SPDX-License-Identifier: MIT
 *
 * fuzz_ledger.c - any text as the tombstone's ledger, and any numbers as a ledger.
 *
 * A text that is believed says the same when it is printed and read again, is JSON for SQLite too,
 * and can be counted on. A ledger for which the law holds reads back as it was printed. All other
 * texts are refused; what they would have said is of no use to anybody.
 */
#include "fuzz.h"
#include "ledger.h"
#include "text.h"

#include <outbox/outbox.h>
#include <stdlib.h>
#include <string.h>

void fuzz_prepare(void)
{
}

void fuzz_seeds(void)
{
    static const char *const seeds[] = {
        "t{\"base\":0,\"last\":0,\"delivered\":0,\"expired\":0,\"evicted\":0,\"superseded\":0,"
        "\"dead\":0,\"holes\":0}",
        "t{\"base\":-100,\"last\":140,\"delivered\":220,\"expired\":1,\"evicted\":2,"
        "\"superseded\":3,\"dead\":4,\"holes\":11}",
        "t{\"base\":7,\"last\":9,\"delivered\":2,\"expired\":0,\"evicted\":0,\"superseded\":0,"
        "\"dead\":0,\"holes\":0,\"late\":[1,{\"x\":\"\\u0041\"}]}",
        "o0123456789012345678901234567890123456789012345678901234567890,\"x\":1",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        fuzz_seed(seeds[i], strlen(seeds[i]));
}

static bool is_same(const struct ob_ledger *a, const struct ob_ledger *b)
{
    return a->id == b->id && a->base == b->base && a->last == b->last &&
           memcmp(a->count, b->count, sizeof a->count) == 0 && a->holes == b->holes &&
           strcmp(a->extra, b->extra) == 0;
}

static void check_print(const struct ob_ledger *ledger)
{
    char text[OB_LEDGER_TEXT], second[OB_LEDGER_TEXT];
    struct ob_ledger again;
    size_t len = ob_ledger_print(ledger, text);
    must(len == strlen(text), "the length is that of the text");
    must(ob_ledger_parse(&again, ledger->id, text, len), "what was printed is believed");
    must(is_same(ledger, &again), "what was printed reads back");
    must(ob_ledger_print(&again, second) == len && memcmp(text, second, len) == 0,
         "printed twice it is the same");
    must(ob_json_is_value(text, len), "what was printed is JSON");
    must(ob_ledger_follows(&again, ledger), "a ledger follows itself");
    must(!ob_ledger_parse(&again, ledger->id + 1, text, len), "it is of one id alone");
}

/* As a settle does it. */
static void count_on(struct ob_ledger ledger)
{
    char text[OB_LEDGER_TEXT];
    struct ob_ledger before = ledger;
    for (int i = 0; i < OB_OUTCOMES && ledger.id < OUTBOX_ID_MAX; i++) {
        ledger.count[i]++;
        ledger.id++;
        ledger.last = ledger.id;
        must(ob_ledger_holds(&ledger), "the law holds behind each event that left");
        must(ob_ledger_follows(&ledger, &before), "a ledger follows what it was counted on from");
        (void)ob_ledger_print(&ledger, text);
    }
}

/* The id that the law asks for, so that texts come through which a blind guess would never hit. */
static int64_t id_of(const char *text, size_t len)
{
    uint64_t sum = 0, number = 0, sign = 1;
    int numbers = 0;
    for (size_t i = 0; i < len && numbers < 8; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (digit)
            number = number * 10 + (uint64_t)(text[i] - '0');
        else if (text[i] == '-')
            sign = UINT64_MAX;
        else if (text[i] == ',' || text[i] == '}') {
            sum += numbers++ == 1 ? 0 : sign * number; /* the second is not part of the sum */
            number = 0;
            sign = 1;
        }
    }
    return (int64_t)sum;
}

static void try_text(struct fuzz_input *input)
{
    struct ob_ledger ledger;
    size_t len = (size_t)(input->end - input->at);
    char *text = fuzz_bytes(input, &len, false);
    if (ob_ledger_parse(&ledger, id_of(text, len), text, len)) {
        must(ob_json_is_value(text, len), "what is believed is JSON");
        check_print(&ledger);
        count_on(ledger);
    }
    (void)ob_ledger_parse(&ledger, INT64_MIN, text, len);
    (void)ob_ledger_parse(&ledger, INT64_MAX, text, len);
    free(text);
}

static void try_numbers(struct fuzz_input *input)
{
    struct ob_ledger ledger = {0};
    int shift = (int)(fuzz_number(input, 1) % 64);
    for (int i = 0; i < OB_OUTCOMES; i++)
        ledger.count[i] = (int64_t)(fuzz_number(input, 8) >> shift);
    ledger.holes = (int64_t)(fuzz_number(input, 8) >> shift);
    ledger.id = (int64_t)fuzz_number(input, 7);
    ledger.last = (int64_t)fuzz_number(input, 7);
    uint64_t sum = (uint64_t)ledger.holes;
    for (int i = 0; i < OB_OUTCOMES; i++)
        sum += (uint64_t)ledger.count[i];
    ledger.base = (int64_t)((uint64_t)ledger.id - sum);
    if (!ob_ledger_holds(&ledger))
        return;
    char text[OB_LEDGER_TEXT];
    struct ob_ledger again;
    size_t len = ob_ledger_print(&ledger, text);
    /* Beyond what is believed there is only what was counted on from there. */
    if (ob_ledger_parse(&again, ledger.id, text, len))
        check_print(&ledger);
    else
        must(ob_ledger_total(&ledger) > (int64_t)1 << 56 || ledger.holes > (int64_t)1 << 56 ||
                 ledger.base < -((int64_t)1 << 56),
             "what was printed is believed, up to the limit");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, data + size};
    if (fuzz_number(&input, 1) % 2 == 0)
        try_text(&input);
    else
        try_numbers(&input);
    return 0;
}
