#include "server/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void check(int64_t unix_ms, const char *expected)
{
    char out[PL_RFC3339_SIZE];

    pl_format_rfc3339(unix_ms, out);
    assert_string_equal(out, expected);
}

static void writes_dates_with_milliseconds_in_utc(void **state)
{
    (void)state;
    check(0, "1970-01-01T00:00:00.000Z");
    check(1795170600007, "2026-11-20T10:30:00.007Z");
    check(951782399999, "2000-02-28T23:59:59.999Z");
}

static void writes_dates_before_1970(void **state)
{
    (void)state;
    check(-1, "1969-12-31T23:59:59.999Z");
    check(-1000, "1969-12-31T23:59:59.000Z");
}

static void keeps_to_four_digit_years(void **state)
{
    (void)state;
    check(INT64_MAX, "9999-12-31T23:59:59.999Z");
    check(INT64_MIN, "0000-01-01T00:00:00.000Z");
}

/* The clocks themselves are not tested against anything, only against each other. */
static void clocks_agree_on_units_and_do_not_go_back(void **state)
{
    uint64_t before_us = pl_clock_mono_us();
    uint64_t ms = pl_clock_mono_ms();
    uint64_t after_us = pl_clock_mono_us();

    (void)state;
    assert_true(before_us / 1000 <= ms && ms <= after_us / 1000);
    assert_true(pl_clock_unix_ms() > INT64_C(1600000000000));
}

static void random_bytes_fill_all_and_nothing_else(void **state)
{
    uint8_t a[4098] = {0};
    uint8_t b[4098] = {0};

    (void)state;
    pl_random_bytes(a + 1, 4096);
    pl_random_bytes(b + 1, 4096);
    assert_memory_not_equal(a + 1, b + 1, 4096);
    assert_memory_not_equal(a + 4081, b + 4081, 16);
    assert_int_equal(a[0] | a[4097], 0);
    pl_random_bytes(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_dates_with_milliseconds_in_utc),
        cmocka_unit_test(writes_dates_before_1970),
        cmocka_unit_test(keeps_to_four_digit_years),
        cmocka_unit_test(clocks_agree_on_units_and_do_not_go_back),
        cmocka_unit_test(random_bytes_fill_all_and_nothing_else),
    };

    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
