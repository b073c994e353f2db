/* SPDX-License-Identifier: MIT
 *
 * test_flash.c - the flash log and its VFS beside power cuts: flashes that fail, wear, room,
 * settings that would not be atomic, and what an event costs.
 */
#include "device.h"

#include "unit/support.h"

#include <stdio.h>
#include <string.h>

static struct device device;

static void begin(const struct settings *settings)
{
    device_init(&device, settings, "a");
    if (!device_start(&device))
        fail_msg("the device does not start: %d %s", device.last_code,
                 device.db ? sqlite3_errmsg(device.db) : "");
}

static int end(void **state)
{
    (void)state;
    device_free(&device);
    return 0;
}

static void work(int transactions)
{
    for (int i = 0; i < transactions; i++)
        if (!device_work(&device))
            fail_msg("transaction %d: %d %s", i, device.last_code, sqlite3_errmsg(device.db));
}

static outbox_flash_statistics stats(void)
{
    outbox_flash_statistics now;
    outbox_flash_stats(device.log, &now);
    return now;
}

static bool reported(outbox_flash_trouble trouble)
{
    return device.troubles >> trouble & 1;
}

static void assert_sound(void)
{
    device_stop(&device);
    device.settings.ballast = 0;
    const char *wrong = device_judge(&device);
    if (wrong)
        fail_msg("%s", wrong);
}

/* ---- What an event costs --------------------------------------------------------------------- */

/* Only the outbox: what the application's own row costs is its own affair. */
static double bytes_per_event(int per_transaction, int transactions)
{
    struct settings settings = device_settings();
    settings.sectors = 128;
    settings.per_transaction = per_transaction;
    settings.only_events = true;
    begin(&settings);
    work(transactions / 4);
    assert_true(device_drain(&device));
    const uint64_t before = device.nor.programmed;
    work(transactions);
    assert_true(device_drain(&device));
    const double bytes =
        (double)(device.nor.programmed - before) / (per_transaction * transactions);
    outbox_flash_statistics now = stats();
    print_message("flash: %.0f bytes per event, put to settled, %d in a transaction; "
                  "%.2f erases per event\n",
                  bytes, per_transaction, (double)now.erases / (per_transaction * transactions));
    return bytes;
}

static void test_an_event_alone_costs_at_most_1400_bytes_of_flash(void **state)
{
    (void)state;
    assert_true(bytes_per_event(1, 1000) <= 1400);
}

static void test_one_of_ten_events_costs_at_most_450_bytes_of_flash(void **state)
{
    (void)state;
    assert_true(bytes_per_event(10, 100) <= 450);
}

/* ---- Wear ------------------------------------------------------------------------------------ */

static void test_sectors_wear_evenly_although_most_pages_lie_still(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    settings.sectors = 32;
    settings.pages = 0;
    settings.batch_pages = 32;
    settings.ballast = 40;
    settings.only_events = true;
    begin(&settings);
    work(4000);
    outbox_flash_statistics now = stats();
    print_message("wear: %u erases in 4,000 transactions, %u to %u per sector, %u of them moved "
                  "records\n",
                  now.erases, now.erases_min, now.erases_max, now.collected);
    assert_true(now.erases_max - now.erases_min <= 20);
    assert_true(now.erases_min > 20);
}

static void test_erase_counts_outlive_a_restart(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    settings.sectors = 24;
    settings.pages = 0;
    settings.batch_pages = 32;
    begin(&settings);
    work(1000);
    outbox_flash_statistics before = stats();
    assert_sound();
    assert_true(device_start(&device));
    outbox_flash_statistics after = stats();
    assert_true(after.erases_max >= before.erases_max && before.erases_max > 5);
}

/* ---- Flashes that fail ----------------------------------------------------------------------- */

static void test_a_program_that_fails_is_reported_and_its_sector_is_retired(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    settings.ballast = 20;
    begin(&settings);
    for (int i = 0; i < 20; i++) {
        device.nor.fail_at = device.nor.operations + 1 + (uint64_t)(i * 3 % 11);
        work(8);
    }
    outbox_flash_statistics now = stats();
    assert_true(reported(OUTBOX_FLASH_PROGRAM_FAILED));
    assert_true(now.sectors_retired >= 10 && now.sectors_retired <= 20);
    assert_false(reported(OUTBOX_FLASH_PAGE_DAMAGED));
    assert_sound();
    assert_true(device_start(&device));
    assert_int_equal(stats().sectors_retired, now.sectors_retired);
}

static void test_a_sector_that_takes_no_program_is_left_alone(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    settings.sectors = 32;
    settings.pages = 0;
    settings.batch_pages = 32;
    begin(&settings);
    device.nor.bad_sector = 20;
    work(1500);
    assert_int_equal(stats().sectors_retired, 1);
    assert_sound();
}

static void test_a_flash_that_wears_out_is_reported_and_reads_to_the_end(void **state)
{
    struct settings settings = device_settings();
    int done = 0;
    (void)state;
    settings.sectors = 24;
    settings.pages = 60;
    settings.batch_pages = 24;
    begin(&settings);
    device.nor.endurance = 12;
    while (done < 100000 && device_work(&device))
        done++;
    print_message("wear-out: %d transactions on 24 sectors of 12 erases, %u retired\n", done,
                  stats().sectors_retired);
    assert_true(reported(OUTBOX_FLASH_ERASE_FAILED));
    assert_true(done > 24 * 12 / 2);
    assert_true(device.last_code == SQLITE_FULL || device.last_code == SQLITE_IOERR ||
                device.last_code == OUTBOX_DISK_FULL || device.last_code == OUTBOX_SQLITE);
    assert_int_equal(device_number(&device, "SELECT max(n) FROM reading"),
                     device.history.committed);
}

static void test_a_page_that_rots_is_reported_and_not_replaced_by_an_older_one(void **state)
{
    uint8_t page[512];
    struct settings settings = device_settings();
    (void)state;
    begin(&settings);
    work(20);
    for (uint32_t at = 30; at < settings.sectors * settings.sector_size; at += 40)
        device.nor.bytes[at] &= 0xa5; /* a byte of every record, more or less */
    int damaged = 0;
    for (uint32_t i = 1; i <= outbox_flash_pages(device.log); i++)
        damaged += outbox_flash_read(device.log, i, page) == OUTBOX_FLASH_DAMAGED;
    device.nor.is_off = true;
    assert_true(damaged > 10);
    assert_true(reported(OUTBOX_FLASH_PAGE_DAMAGED));
}

/* ---- Flashes that fail while the forwarder sends --------------------------------------------- */

/* So many events wait while there is no broker; then there is one. */
static void begin_with_backlog(int events)
{
    struct settings settings = device_settings();
    begin(&settings);
    device.is_offline = true;
    work(events);
    device.is_offline = false;
}

static void assert_all_delivered(void)
{
    assert_true(device_drain(&device));
    assert_int_equal(device.history.received, device.history.committed);
    assert_sound();
}

static void test_programs_that_fail_while_forwarding_are_reported_and_all_is_delivered(void **state)
{
    (void)state;
    begin_with_backlog(120);
    for (int i = 0; i < 12; i++) {
        device.nor.fail_at = device.nor.operations + 1 + (uint64_t)(i % 4);
        device_step(&device, 6);
    }
    assert_true(reported(OUTBOX_FLASH_PROGRAM_FAILED));
    assert_true(stats().sectors_retired >= 1);
    assert_all_delivered();
}

static void fail_each_tenth_erase(void *context, const struct nor_operation *operation)
{
    static int erases;
    struct nor_sim *nor = context;
    if (operation->is_erase && ++erases % 10 == 0)
        nor->fail_at = nor->operations + 1;
}

/* Room is needed, and so erases are, where the application goes on putting. */
static void test_erases_that_fail_while_forwarding_are_reported_and_all_is_delivered(void **state)
{
    (void)state;
    begin_with_backlog(40);
    device.nor.before = fail_each_tenth_erase;
    device.nor.before_context = &device.nor;
    for (int i = 0; i < 2000 && stats().sectors_retired < 5; i++)
        work(1);
    device.nor.before = NULL;
    assert_true(reported(OUTBOX_FLASH_ERASE_FAILED));
    assert_int_equal(stats().sectors_retired, 5);
    work(20);
    assert_all_delivered();
}

static int step_code(void)
{
    uint32_t next_ms;
    device.now_ms += 20;
    return outbox_forwarder_step(device.forwarder, &next_ms);
}

static bool is_of_the_disk(int code)
{
    return code == OUTBOX_DISK_FULL || code == OUTBOX_SQLITE;
}

/* Step and put say so again and again, and nothing is changed: where the flash works again, all are
 * sent. */
static void
test_a_flash_that_takes_nothing_more_is_a_code_of_step_and_put_and_loses_nothing(void **state)
{
    const outbox_event event = {.topic = "t", .payload = "x", .payload_len = 1};
    outbox_statistics counts;
    int code = OUTBOX_OK;
    (void)state;
    begin_with_backlog(60);
    device.nor.fails_programs = device.nor.fails_erases = true;
    for (int i = 0; i < 200; i++)
        code = step_code();
    assert_true(is_of_the_disk(code));
    assert_true(reported(OUTBOX_FLASH_PROGRAM_FAILED));
    assert_true(is_of_the_disk(outbox_put(device.box, &event, NULL)));
    assert_int_equal(outbox_stats(device.box, &counts), OUTBOX_OK);
    assert_int_equal(counts.pending, 60);
    assert_true(is_of_the_disk(counts.last_error));
    assert_null(strstr(counts.last_error_text, "unable to open"));
    print_message("takes nothing more while forwarding: %s; %d of 60 were sent\n",
                  counts.last_error_text, device.history.received);
    device.nor.fails_programs = device.nor.fails_erases = false;
    assert_sound();
}

/* ---- Room ------------------------------------------------------------------------------------ */

static void test_a_full_database_refuses_and_keeps_what_it_has(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    settings.pages = 60;
    begin(&settings);
    device.is_offline = true;
    while (device_work(&device)) {
    }
    assert_true(device.last_code == OUTBOX_DISK_FULL || device.last_code == SQLITE_FULL);
    assert_true(device.history.committed > 20);
    device.history.attempted = device.history.committed;
    device.is_offline = false;
    assert_true(device_drain(&device));
    work(5);
    assert_sound();
}

static void test_a_transaction_that_changes_too_many_pages_is_refused_whole(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    settings.ballast = 40;
    settings.batch_pages = 24;
    begin(&settings);
    assert_int_equal(sqlite3_exec(device.db, "UPDATE ballast SET n = 9", NULL, NULL, NULL),
                     SQLITE_FULL);
    assert_int_equal(device_number(&device, "SELECT max(n) FROM ballast"), 0);
    work(5);
    assert_sound();
}

/* ---- Settings -------------------------------------------------------------------------------- */

static void test_pages_that_come_outside_of_a_batch_are_refused(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    begin(&settings);
    work(3);
    device_drain(&device);
    sqlite3_exec(device.db, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
    assert_false(device_work(&device));
    sqlite3_exec(device.db, "PRAGMA synchronous = EXTRA", NULL, NULL, NULL);
    work(3);
    assert_sound();
}

static void test_a_cache_that_spills_is_refused(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    settings.ballast = 40;
    begin(&settings);
    work(2);
    assert_int_equal(
        sqlite3_exec(device.db, "PRAGMA cache_size = 4; PRAGMA cache_spill = 4", NULL, NULL, NULL),
        SQLITE_OK);
    device.settings.rewrites = 20;
    assert_false(device_work(&device));
    device.settings.rewrites = 0;
    device.history.attempted = device.history.committed;
    assert_int_equal(device_number(&device, "SELECT max(n) FROM ballast"), 0);
    assert_sound();
}

static void test_a_region_that_holds_something_else_is_left_alone(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    device_init(&device, &settings, "a");
    memset(device.nor.bytes, 0x42, (size_t)3 * settings.sector_size);
    assert_false(device_start(&device));
    assert_int_equal(device.last_code, OUTBOX_FLASH_FOREIGN);
    device_stop(&device);
    assert_int_equal(device.nor.operations, 0);
    memset(device.nor.is_programmed, 1, settings.sector_size);
    assert_int_equal(outbox_flash_format(&device.nor.driver, 512), OUTBOX_FLASH_OK);
    assert_true(device_start(&device));
    work(3);
}

static void test_a_second_connection_is_refused(void **state)
{
    sqlite3 *second = NULL;
    struct settings settings = device_settings();
    (void)state;
    begin(&settings);
    assert_int_equal(sqlite3_open_v2("a", &second, SQLITE_OPEN_READWRITE, "a"), SQLITE_CANTOPEN);
    assert_int_equal(sqlite3_close(second), SQLITE_OK);
}

static void test_a_rollback_leaves_nothing(void **state)
{
    struct settings settings = device_settings();
    (void)state;
    begin(&settings);
    work(4);
    const int64_t before = device_number(&device, "SELECT sum(n) FROM reading");
    assert_int_equal(
        sqlite3_exec(device.db, "BEGIN; DELETE FROM reading; ROLLBACK", NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(device_number(&device, "SELECT sum(n) FROM reading"), before);
    assert_sound();
}

#define TEST(name) cmocka_unit_test_teardown(name, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_event_alone_costs_at_most_1400_bytes_of_flash),
        TEST(test_one_of_ten_events_costs_at_most_450_bytes_of_flash),
        TEST(test_sectors_wear_evenly_although_most_pages_lie_still),
        TEST(test_erase_counts_outlive_a_restart),
        TEST(test_a_program_that_fails_is_reported_and_its_sector_is_retired),
        TEST(test_a_sector_that_takes_no_program_is_left_alone),
        TEST(test_a_flash_that_wears_out_is_reported_and_reads_to_the_end),
        TEST(test_a_page_that_rots_is_reported_and_not_replaced_by_an_older_one),
        TEST(test_programs_that_fail_while_forwarding_are_reported_and_all_is_delivered),
        TEST(test_erases_that_fail_while_forwarding_are_reported_and_all_is_delivered),
        TEST(test_a_flash_that_takes_nothing_more_is_a_code_of_step_and_put_and_loses_nothing),
        TEST(test_a_full_database_refuses_and_keeps_what_it_has),
        TEST(test_a_transaction_that_changes_too_many_pages_is_refused_whole),
        TEST(test_pages_that_come_outside_of_a_batch_are_refused),
        TEST(test_a_cache_that_spills_is_refused),
        TEST(test_a_region_that_holds_something_else_is_left_alone),
        TEST(test_a_second_connection_is_refused),
        TEST(test_a_rollback_leaves_nothing),
    };
    device_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
