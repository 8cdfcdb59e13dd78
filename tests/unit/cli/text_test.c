#include "server/cli/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

static const char *printable(struct pl_str s)
{
    static struct pl_arena arena;
    struct pl_str clean = pl_cli_printable(s, &arena);

    snprintf(out, sizeof(out), "%.*s", (int)clean.len, clean.s);
    pl_arena_done(&arena);
    return out;
}

static void texts_without_orders_to_a_terminal_stay_as_they_are(void **state)
{
    (void)state;
    assert_string_equal(printable(PL_LIT("Grüße, web-1")), "Grüße, web-1");
    assert_string_equal(printable(PL_LIT("")), "");
    assert_string_equal(printable(PL_LIT("\xc2\xa0.")), "\xc2\xa0."); /* U+00A0 prints */
}

static void controls_and_broken_texts_become_question_marks(void **state)
{
    (void)state;
    assert_string_equal(printable(PL_LIT("a\033[2Jb")), "a?[2Jb");
    assert_string_equal(printable(PL_LIT("a\nb\x7f")), "a?b?");
    assert_string_equal(printable(PL_LIT("a\0b")), "a?b");
    assert_string_equal(printable(PL_LIT("a\x7f")), "a?");
    assert_string_equal(printable(PL_LIT("a\xc2\x9b"
                                         "b")),
                        "a??b"); /* U+009B begins an order too */
    assert_string_equal(printable(PL_LIT("a\xff"
                                         "b")),
                        "a?b");
    assert_string_equal(printable(PL_LIT("ü\xc3")), "???");
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
        cmocka_unit_test(texts_without_orders_to_a_terminal_stay_as_they_are),
        cmocka_unit_test(controls_and_broken_texts_become_question_marks),
    };

    return cmocka_run_group_tests_name("cli/text", tests, NULL, NULL);
}
