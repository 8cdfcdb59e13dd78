#include "server/cli/stats_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/metrics.h"

static const char older[] = "realtime_connections{transport=\"websocket\"} 12\n"
                            "realtime_events_published_total{source=\"backend\"} 1000\n"
                            "realtime_resumes_total{from=\"none\",to=\"websocket\"} 5\n"
                            "realtime_resumes_total{from=\"none\",to=\"longpoll\"} 0\n"
                            "realtime_bytes_sent_total{transport=\"http\"} 1024\n"
                            "realtime_build_info{version=\"1.2.3\"} 1\n";
static const char newer[] = "realtime_connections{transport=\"websocket\"} 13\n"
                            "realtime_events_published_total{source=\"backend\"} 1050\n"
                            "realtime_bytes_sent_total{transport=\"http\"} 5120\n";

static struct pl_buf out;

static const char *render(const char *before, const char *after, const char *health)
{
    const struct pl_cli_stats s = {
        {before, strlen(before)}, {after, strlen(after)}, {health, strlen(health)}, .elapsed_s = 2};

    pl_buf_done(&out);
    pl_cli_stats_render(&s, &out);
    return pl_buf_cstr(&out);
}

static int free_text(void **state)
{
    (void)state;
    pl_buf_done(&out);
    return 0;
}

static void the_first_line_tells_version_state_and_age(void **state)
{
    const char *text = render("", older, "{\"status\":\"ok\",\"uptime\":3720}");

    (void)state;
    assert_ptr_equal(strstr(text, "parleyd 1.2.3   ok, up 1h 2m\n"), text);
    text = render("", "", "junk");
    assert_ptr_equal(strstr(text, "parleyd\n"), text);
}

static void without_an_earlier_look_there_are_totals_only(void **state)
{
    const char *text = render("", older, "");

    (void)state;
    assert_non_null(strstr(text, "websocket 12\n"));
    assert_non_null(strstr(text, "backend 1 000\n"));
    assert_null(strstr(text, "/s"));
}

static void counters_show_their_rate_since_the_earlier_look(void **state)
{
    const char *text = render(older, newer, "");

    (void)state;
    assert_non_null(strstr(text, "backend 1 050 (25.0/s)"));
    assert_non_null(strstr(text, "http 5.0 KiB (2.0 KiB/s)"));
}

static void a_restarted_server_has_no_rate(void **state)
{
    const char *text = render(newer, older, "");

    (void)state;
    assert_non_null(strstr(text, "backend 1 000\n"));
}

static void long_lists_leave_out_what_is_zero(void **state)
{
    const char *text = render("", older, "");

    (void)state;
    assert_non_null(strstr(text, "none>websocket 5\n"));
    assert_null(strstr(text, "longpoll"));
}

static void the_bus_is_one_line(void **state)
{
    static const char metrics[] = "realtime_bus_breaker_state 1\n"
                                  "realtime_bus_feed 2\n"
                                  "realtime_bus_canary_seconds_bucket{le=\"0.001\"} 2\n"
                                  "realtime_bus_canary_seconds_bucket{le=\"+Inf\"} 2\n";

    (void)state;
    assert_non_null(strstr(render("", metrics, "{\"bus\":{\"type\":\"redis\"}}"),
                           "\nbus             connecting, Pub/Sub   canary p50 500 us"));
    assert_non_null(strstr(render("", metrics, ""), "\nbus             connecting, Pub/Sub"));
    assert_non_null(strstr(render("", metrics, "{\"bus\":{\"type\":\"memory\"}}"),
                           "\nbus             memory\n"));
    assert_non_null(strstr(render("", "realtime_bus_feed 7\nrealtime_bus_breaker_state -1\n", ""),
                           "\nbus             ?, ?   canary -\n"));
    assert_non_null(strstr(render("", older, ""), "\nbus             -\n"));
}

/* The rows are written by hand: a metric that was renamed would show a dash for ever. */
static void every_row_is_found_in_what_the_server_exports(void **state)
{
    struct pl_buf metrics = {0};
    const char *text;

    (void)state;
    for (int i = 0; i < PL_SERIES_COUNT; i++) {
        pl_metric_values[i] = 1;
    }
    pl_metric_observe_us(PL_S_LATENCY_WEBSOCKET, 100, 1);
    pl_metric_observe_us(PL_S_LOOP_LAG, 100, 1);
    pl_metric_observe_us(PL_S_BUS_CANARY, 100, 1);
    pl_metrics_export(&metrics);
    text = render("", pl_buf_cstr(&metrics), "");
    pl_buf_done(&metrics);
    assert_null(strstr(text, " -\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_line_tells_version_state_and_age),
        cmocka_unit_test(without_an_earlier_look_there_are_totals_only),
        cmocka_unit_test(counters_show_their_rate_since_the_earlier_look),
        cmocka_unit_test(a_restarted_server_has_no_rate),
        cmocka_unit_test(long_lists_leave_out_what_is_zero),
        cmocka_unit_test(the_bus_is_one_line),
        cmocka_unit_test(every_row_is_found_in_what_the_server_exports),
    };

    return cmocka_run_group_tests_name("cli/stats_view", tests, NULL, free_text);
}
