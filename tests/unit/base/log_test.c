#include "server/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/log_priv.h"

static const int64_t noon_ms = 1795176000123; /* 2026-11-20T12:00:00.123Z */

static char last[1024];
static unsigned lines;

static void keep(const char *line, void *arg)
{
    assert_ptr_equal(arg, last);
    snprintf(last, sizeof(last), "%s", line);
    lines++;
}

static int setup(void **state)
{
    (void)state;
    last[0] = '\0';
    lines = 0;
    pl_log_redirect(keep, last);
    pl_log_setup(PL_LOG_INFO, PL_LOG_KV);
    return 0;
}

static int restore(void **state)
{
    (void)state;
    pl_log_redirect(NULL, NULL);
    return 0;
}

static void write_at(uint64_t mono_ms, const char *event, struct pl_field field)
{
    pl_log__write_at(noon_ms, mono_ms, PL_LOG_WARN, event, &field, 1);
}

static void a_record_is_one_line_of_key_and_value(void **state)
{
    const struct pl_field fields[] = {PL_STR("address", "127.0.0.1:80"), PL_INT("port", -5)};

    (void)state;
    pl_log__write_at(noon_ms, 0, PL_LOG_INFO, "listening", fields, 2);
    assert_string_equal(last, "time=2026-11-20T12:00:00.123Z level=info event=listening "
                              "address=127.0.0.1:80 port=-5");
}

static void a_value_is_quoted_when_it_must_be(void **state)
{
    static const struct {
        const char *value, *written;
    } cases[] = {
        {"plain/1.0", "v=plain/1.0"},
        {NULL, "v=\"\""},
        {"", "v=\"\""},
        {"a b", "v=\"a b\""},
        {"a=b", "v=\"a=b\""},
        {"say \"x\" \\", "v=\"say \\\"x\\\" \\\\\""},
        {"x\ny\tz\x1b[", "v=\"x\\ny\\u0009z\\u001b[\""},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
         "v=\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\xc2\x9b"
         "31m\x7f",
         "v=\"\\u009b31m\\u007f\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_at(i * 10000, "e", PL_STR("v", cases[i].value));
        assert_string_equal(strstr(last, "v="), cases[i].written);
    }
}

static void json_is_one_escaped_object(void **state)
{
    const struct pl_field fields[] = {PL_STR("path", "/a \"b\"\n"), PL_INT("n", INT64_MIN)};

    (void)state;
    pl_log_setup(PL_LOG_INFO, PL_LOG_JSON);
    pl_log__write_at(noon_ms, 0, PL_LOG_ERROR, "failed", fields, 2);
    assert_string_equal(last, "{\"time\":\"2026-11-20T12:00:00.123Z\",\"level\":\"error\","
                              "\"event\":\"failed\",\"path\":\"/a \\\"b\\\"\\n\","
                              "\"n\":-9223372036854775808}");
}

static void what_is_not_utf8_is_replaced(void **state)
{
    static const char *const bad[] = {
        "\x80", "\xc1", "\xf5", "\xe2\x82", "\xff",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        write_at(i * 10000, "e", PL_STR("v", bad[i]));
        assert_memory_equal(strstr(last, "v="), "v=\"\xef\xbf\xbd", 6);
        assert_null(strstr(last, bad[i]));
    }
    write_at(90000, "e", PL_STR("v", "\xe0\x80\x80")); /* overlong */
    assert_null(strstr(last, "\xe0"));
    write_at(100000, "e", PL_STR("v", "\xed\xa0\x80")); /* surrogate */
    assert_null(strstr(last, "\xed"));
    write_at(110000, "e", PL_STR("v", "\xf4\x90\x80\x80")); /* beyond U+10FFFF */
    assert_null(strstr(last, "\xf4"));
}

static void records_below_the_level_are_not_written(void **state)
{
    (void)state;
    pl_log(PL_LOG_DEBUG, "detail", PL_INT("n", 1));
    assert_int_equal(lines, 0);
    pl_log(PL_LOG_INFO, "news", PL_INT("n", 1));
    assert_int_equal(lines, 1);
    pl_log_setup(PL_LOG_OFF, PL_LOG_KV);
    pl_log(PL_LOG_ERROR, "trouble", PL_INT("n", 1));
    assert_int_equal(lines, 1);
}

static void repeats_within_a_second_are_counted(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        write_at(5000 + i, "flood", PL_INT("n", i));
    }
    assert_int_equal(lines, 5);
    assert_null(strstr(last, "repeated"));
    write_at(5999, "flood", PL_INT("n", 100));
    assert_int_equal(lines, 5);
    write_at(6000, "flood", PL_INT("n", 101));
    assert_int_equal(lines, 6);
    assert_non_null(strstr(last, "n=101 repeated=96"));
    write_at(6001, "flood", PL_INT("n", 102));
    assert_null(strstr(last, "repeated"));
}

static void other_events_and_levels_are_counted_apart(void **state)
{
    const struct pl_field field = PL_INT("n", 1);

    (void)state;
    for (uint64_t i = 0; i < 20; i++) {
        write_at(5000, "a", field);
        write_at(5000, "b", field);
        pl_log__write_at(noon_ms, 5000, PL_LOG_ERROR, "a", &field, 1);
    }
    assert_int_equal(lines, 15);
}

static unsigned reported;

static void add_up(const char *line, void *arg)
{
    const char *repeated = strstr(line, "repeated=");
    unsigned count = 0;

    (void)arg;
    if (repeated && sscanf(repeated, "repeated=%u", &count) == 1) {
        reported += count;
    }
}

/* More events than are remembered: none of the counts is lost. */
static void a_forgotten_event_still_reports_its_count(void **state)
{
    (void)state;
    reported = 0;
    pl_log_redirect(add_up, NULL);
    for (int round = 0; round < 2; round++) {
        for (int e = 0; e < 200; e++) {
            char event[16];

            snprintf(event, sizeof(event), "event_%d", e);
            for (int i = 0; i < 7; i++) {
                write_at(5000 + 5000 * (uint64_t)round, event, PL_INT("n", 1));
            }
        }
    }
    assert_true(reported >= 400);
}

static void without_a_redirect_lines_go_to_stderr(void **state)
{
    int kept = dup(STDERR_FILENO);
    int fds[2];
    ssize_t len;

    (void)state;
    pl_log_redirect(NULL, NULL);
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    pl_log(PL_LOG_ERROR, "failed", PL_INT("n", 1));
    dup2(kept, STDERR_FILENO);
    len = read(fds[0], last, sizeof(last) - 1);
    close(kept);
    close(fds[0]);
    close(fds[1]);
    assert_true(len > 0);
    last[len] = '\0';
    assert_string_equal(strstr(last, " level="), " level=error event=failed n=1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_record_is_one_line_of_key_and_value, setup, restore),
        cmocka_unit_test_setup_teardown(a_value_is_quoted_when_it_must_be, setup, restore),
        cmocka_unit_test_setup_teardown(json_is_one_escaped_object, setup, restore),
        cmocka_unit_test_setup_teardown(what_is_not_utf8_is_replaced, setup, restore),
        cmocka_unit_test_setup_teardown(records_below_the_level_are_not_written, setup, restore),
        cmocka_unit_test_setup_teardown(repeats_within_a_second_are_counted, setup, restore),
        cmocka_unit_test_setup_teardown(other_events_and_levels_are_counted_apart, setup, restore),
        cmocka_unit_test_setup_teardown(a_forgotten_event_still_reports_its_count, setup, restore),
        cmocka_unit_test_setup_teardown(without_a_redirect_lines_go_to_stderr, setup, restore),
    };

    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
