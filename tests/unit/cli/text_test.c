#include "server/cli/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int64_t duration(const char *s)
{
    int64_t ms = -1;

    return pl_cli_parse_duration(s, &ms) ? ms : -1;
}

static void durations_have_units_and_seconds_without_one(void **state)
{
    (void)state;
    assert_int_equal(duration("500ms"), 500);
    assert_int_equal(duration("30"), 30000);
    assert_int_equal(duration("30s"), 30000);
    assert_int_equal(duration("15m"), 900000);
    assert_int_equal(duration("1h"), 3600000);
    assert_int_equal(duration("2d"), 172800000);
}

static void what_is_no_duration_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "h",
                                        "0",
                                        "0s",
                                        "-1s",
                                        "1.5h",
                                        "1 h",
                                        "1hh",
                                        "1h30m",
                                        "1H",
                                        "4000d",
                                        "99999999999999999999s",
                                        "9223372036854775807d"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(duration(texts[i]), -1);
    }
}

static char out[PL_CLI_TEXT_SIZE];

static const char *uptime(double s)
{
    pl_cli_format_uptime(s, out);
    return out;
}

static void uptimes_show_their_two_largest_units(void **state)
{
    (void)state;
    assert_string_equal(uptime(0), "0s");
    assert_string_equal(uptime(59.9), "59s");
    assert_string_equal(uptime(61), "1m 1s");
    assert_string_equal(uptime(3720), "1h 2m");
    assert_string_equal(uptime(90000), "1d 1h");
    assert_string_equal(uptime(-5), "0s");
}

static const char *count(double n)
{
    pl_cli_format_count(n, out);
    return out;
}

static void counts_are_grouped_by_thousands(void **state)
{
    (void)state;
    assert_string_equal(count(0), "0");
    assert_string_equal(count(999), "999");
    assert_string_equal(count(1000), "1 000");
    assert_string_equal(count(1234567), "1 234 567");
    assert_string_equal(count(1e17), "100 000 000 000 000 000");
    assert_string_equal(count(1e300), "1e+300");
}

static const char *rate(double n)
{
    pl_cli_format_rate(n, out);
    return out;
}

static void rates_have_as_many_digits_as_help(void **state)
{
    (void)state;
    assert_string_equal(rate(0), "0");
    assert_string_equal(rate(0.25), "0.25");
    assert_string_equal(rate(12.34), "12.3");
    assert_string_equal(rate(1234.4), "1 234");
}

static const char *bytes(double n)
{
    pl_cli_format_bytes(n, out);
    return out;
}

static void bytes_climb_through_their_units(void **state)
{
    (void)state;
    assert_string_equal(bytes(0), "0 B");
    assert_string_equal(bytes(1023), "1023 B");
    assert_string_equal(bytes(1536), "1.5 KiB");
    assert_string_equal(bytes(200.0 * 1024 * 1024), "200 MiB");
    assert_string_equal(bytes(3e15), "2728 TiB");
}

static const char *seconds(double s)
{
    pl_cli_format_seconds(s, out);
    return out;
}

static void times_are_shown_in_a_fitting_unit(void **state)
{
    (void)state;
    assert_string_equal(seconds(0.00025), "250 us");
    assert_string_equal(seconds(0.0125), "12.5 ms");
    assert_string_equal(seconds(3), "3.0 s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_have_units_and_seconds_without_one),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test(uptimes_show_their_two_largest_units),
        cmocka_unit_test(counts_are_grouped_by_thousands),
        cmocka_unit_test(rates_have_as_many_digits_as_help),
        cmocka_unit_test(bytes_climb_through_their_units),
        cmocka_unit_test(times_are_shown_in_a_fitting_unit),
    };

    return cmocka_run_group_tests_name("cli/text", tests, NULL, NULL);
}
