#include "server/cli/metrics_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct pl_str str(const char *s)
{
    return (struct pl_str){s, strlen(s)};
}

static bool is(struct pl_str a, const char *b)
{
    return pl_str_eq(a, str(b));
}

static void samples_come_one_by_one_and_comments_do_not(void **state)
{
    struct pl_str text = str(
        "# HELP a x\n# TYPE a counter\na 1\n\nb{x=\"1\",y=\"}\"} 2.5\nc{} 1e3 1700000000\nd NaN");
    struct pl_cli_sample s;

    (void)state;
    assert_true(pl_cli_metrics_next(&text, &s));
    assert_true(is(s.name, "a") && s.labels.len == 0 && s.value == 1);
    assert_true(pl_cli_metrics_next(&text, &s));
    assert_true(is(s.name, "b") && is(s.labels, "x=\"1\",y=\"}\"") && s.value == 2.5);
    assert_true(pl_cli_metrics_next(&text, &s));
    assert_true(is(s.name, "c") && s.labels.len == 0 && s.value == 1000);
    assert_true(pl_cli_metrics_next(&text, &s));
    assert_true(is(s.name, "d") && s.value != s.value);
    assert_false(pl_cli_metrics_next(&text, &s));
}

static void lines_that_are_no_sample_are_skipped(void **state)
{
    struct pl_str text = str("a\na \na x\na{ 1\n{} 1\n 1\na{b=\"c\"}1\n<html>\ngood 1\n");
    struct pl_cli_sample s;

    (void)state;
    assert_true(pl_cli_metrics_next(&text, &s));
    assert_true(is(s.name, "good"));
    assert_false(pl_cli_metrics_next(&text, &s));
}

static void a_label_is_found_by_its_whole_name(void **state)
{
    struct pl_str v;

    (void)state;
    assert_true(pl_cli_metrics_label(str("from=\"none\",to=\"websocket\""), "to", &v));
    assert_true(is(v, "websocket"));
    assert_true(pl_cli_metrics_label(str("from=\"none\",to=\"websocket\""), "from", &v));
    assert_true(is(v, "none"));
    assert_false(pl_cli_metrics_label(str("from=\"none\""), "fro", &v));
    assert_false(pl_cli_metrics_label(str(""), "to", &v));
    assert_false(pl_cli_metrics_label(str("to="), "to", &v));
    assert_false(pl_cli_metrics_label(str("to=\"x"), "to", &v));
}

static void a_sample_is_found_by_name_and_labels(void **state)
{
    struct pl_str text = str("a{x=\"1\"} 1\na{x=\"2\"} 2\na 3\n");
    double v = 0;

    (void)state;
    assert_true(pl_cli_metrics_find(text, PL_LIT("a"), PL_LIT("x=\"2\""), &v));
    assert_true(v == 2);
    assert_true(pl_cli_metrics_find(text, PL_LIT("a"), (struct pl_str){0}, &v));
    assert_true(v == 3);
    assert_false(pl_cli_metrics_find(text, PL_LIT("a"), PL_LIT("x=\"3\""), &v));
    assert_false(pl_cli_metrics_find(text, PL_LIT("b"), (struct pl_str){0}, &v));
}

static const char older[] =
    "h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 20\nh_bucket{le=\"+Inf\"} 20\nh_count 20\n";
static const char newer[] =
    "h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 120\nh_bucket{le=\"+Inf\"} 130\nh_count 130\n";

static double quantile(const char *before, const char *after, double q)
{
    double v = -1;

    return pl_cli_metrics_quantile(str(before), str(after), "h", q, &v) ? v : -1;
}

static void quantiles_are_those_of_the_interval(void **state)
{
    (void)state;
    assert_true(quantile("", older, 0.25) == 0.5);
    assert_true(quantile("", older, 0.5) == 1);
    assert_true(quantile(older, newer, 0.5) > 1.5 && quantile(older, newer, 0.5) < 1.6);
}

static void in_the_open_bucket_only_its_lower_bound_is_known(void **state)
{
    (void)state;
    assert_true(quantile(older, newer, 0.99) == 2);
}

static void what_counted_nothing_has_no_quantile(void **state)
{
    (void)state;
    assert_true(quantile(older, older, 0.5) == -1);
    assert_true(quantile("", "", 0.5) == -1);
    assert_true(quantile(newer, older, 0.5) == -1);
    assert_true(quantile("", "h_bucket{le=\"+Inf\"} NaN\n", 0.5) == -1);
}

static void more_buckets_than_are_held_do_no_harm(void **state)
{
    char text[8192] = "";

    (void)state;
    for (int i = 1; i <= 100; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "h_bucket{le=\"%d\"} %d\n", i,
                 i);
    }
    assert_true(quantile("", text, 0.5) > 0);
}

static void the_series_of_a_histogram_are_taken_together(void **state)
{
    const struct pl_str text = PL_LIT("h_bucket{t=\"a\",le=\"1\"} 1\n"
                                      "h_bucket{t=\"a\",le=\"2\"} 1\n"
                                      "h_bucket{t=\"a\",le=\"+Inf\"} 1\n"
                                      "h_bucket{t=\"b\",le=\"1\"} 0\n"
                                      "h_bucket{t=\"b\",le=\"2\"} 3\n"
                                      "h_bucket{t=\"b\",le=\"+Inf\"} 3\n");
    double v = 0;

    (void)state;
    assert_true(pl_cli_metrics_quantile(PL_LIT(""), text, "h", 0.25, &v));
    assert_true(v == 1);
    assert_true(pl_cli_metrics_quantile(PL_LIT(""), text, "h", 1, &v));
    assert_true(v == 2);
}

static void workers_are_taken_together_or_one_by_one(void **state)
{
    static const struct pl_str text = PL_LIT("# HELP a b\n"
                                             "a{worker=\"0\",t=\"x\"} 1\n"
                                             "a{worker=\"0\",t=\"y\"} 2\n"
                                             "n{worker=\"0\"} 3\n"
                                             "realtime_bus_feed{worker=\"0\"} 2\n"
                                             "a{t=\"x\",worker=\"1\"} 10\n"
                                             "n{worker=\"1\"} 30.5\n"
                                             "realtime_bus_feed{worker=\"1\"} 1\n"
                                             "realtime_bus_breaker_state{worker=\"0\"} 2\n"
                                             "realtime_bus_breaker_state{worker=\"1\"} 0\n");
    struct pl_buf out = {0};

    (void)state;
    pl_cli_metrics_merge(text, PL_LIT(""), &out);
    assert_string_equal(pl_buf_cstr(&out),
                        "a{t=\"x\"} 11\na{t=\"y\"} 2\nn 33.5\nrealtime_bus_feed 1\n"
                        "realtime_bus_breaker_state 2\n");
    pl_buf_done(&out);
    pl_cli_metrics_merge(text, PL_LIT("1"), &out);
    assert_string_equal(pl_buf_cstr(&out), "a{t=\"x\"} 10\nn 30.5\nrealtime_bus_feed 1\n"
                                           "realtime_bus_breaker_state 0\n");
    pl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_series_of_a_histogram_are_taken_together),
        cmocka_unit_test(workers_are_taken_together_or_one_by_one),
        cmocka_unit_test(samples_come_one_by_one_and_comments_do_not),
        cmocka_unit_test(lines_that_are_no_sample_are_skipped),
        cmocka_unit_test(a_label_is_found_by_its_whole_name),
        cmocka_unit_test(a_sample_is_found_by_name_and_labels),
        cmocka_unit_test(quantiles_are_those_of_the_interval),
        cmocka_unit_test(in_the_open_bucket_only_its_lower_bound_is_known),
        cmocka_unit_test(what_counted_nothing_has_no_quantile),
        cmocka_unit_test(more_buckets_than_are_held_do_no_harm),
    };

    return cmocka_run_group_tests_name("cli/metrics_text", tests, NULL, NULL);
}
