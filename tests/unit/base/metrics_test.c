#include "server/base/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct pl_buf text;

static int export(void **state)
{
    (void)state;
    pl_buf_done(&text);
    pl_metrics_export(&text);
    return 0;
}

static int done(void **state)
{
    (void)state;
    pl_buf_done(&text);
    return 0;
}

static unsigned count_of(const char *needle)
{
    unsigned count = 0;

    for (const char *s = pl_buf_cstr(&text); (s = strstr(s, needle)); s++) {
        count++;
    }
    return count;
}

static const char *const names[] = {
#define PL_METRIC(id, type, name, help) name,
#define PL_SERIES(id, series, labels)
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
};

static void every_metric_has_one_help_and_one_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char line[128];

        snprintf(line, sizeof(line), "# HELP %s ", names[i]);
        assert_int_equal(count_of(line), 1);
        snprintf(line, sizeof(line), "# TYPE %s ", names[i]);
        assert_int_equal(count_of(line), 1);
    }
    assert_int_equal(count_of("# HELP realtime_accepted_total Connections accepted.\n"), 1);
    assert_int_equal(count_of("# TYPE realtime_active_queues gauge\n"), 1);
    assert_int_equal(count_of("# TYPE realtime_accepted_total counter\n"), 1);
    assert_int_equal(count_of("# TYPE realtime_loop_lag_seconds histogram\n"), 1);
}

static void every_series_shows_its_value(void **state)
{
    pl_metric_add(PL_S_ACCEPTED, 40);
    pl_metric_add(PL_S_ACCEPTED, 2);
    pl_metric_set(PL_S_QUEUES_LONGPOLL, 7);
    pl_metric_set(PL_S_LAST_EVENT_ID, UINT64_MAX);
    export(state);
    assert_int_equal(count_of("\nrealtime_accepted_total 42\n"), 1);
    assert_int_equal(count_of("\nrealtime_active_queues{transport=\"websocket\"} 0\n"), 1);
    assert_int_equal(count_of("\nrealtime_active_queues{transport=\"longpoll\"} 7\n"), 1);
    assert_int_equal(count_of("\nrealtime_last_event_id 18446744073709551615\n"), 1);
    assert_int_equal(count_of("\nrealtime_build_info{version=\"" PL_VERSION "\"} "), 1);
}

static void a_histogram_is_cumulative_and_in_seconds(void **state)
{
    pl_metric_observe_us(PL_S_LATENCY_WEBSOCKET, 100, 3);
    pl_metric_observe_us(PL_S_LATENCY_WEBSOCKET, 101, 1);
    pl_metric_observe_us(PL_S_LATENCY_WEBSOCKET, 10000000, 1);
    pl_metric_observe_us(PL_S_LATENCY_WEBSOCKET, 60000000, 2);
    export(state);
    assert_int_equal(
        count_of(
            "realtime_delivery_latency_seconds_bucket{transport=\"websocket\",le=\"0.0001\"} 3\n"),
        1);
    assert_int_equal(
        count_of(
            "realtime_delivery_latency_seconds_bucket{transport=\"websocket\",le=\"0.00025\"} 4\n"),
        1);
    assert_int_equal(
        count_of("realtime_delivery_latency_seconds_bucket{transport=\"websocket\",le=\"5\"} 4\n"),
        1);
    assert_int_equal(
        count_of("realtime_delivery_latency_seconds_bucket{transport=\"websocket\",le=\"10\"} 5\n"),
        1);
    assert_int_equal(
        count_of(
            "realtime_delivery_latency_seconds_bucket{transport=\"websocket\",le=\"+Inf\"} 7\n"),
        1);
    assert_int_equal(
        count_of("realtime_delivery_latency_seconds_sum{transport=\"websocket\"} 130.000401\n"), 1);
    assert_int_equal(
        count_of("realtime_delivery_latency_seconds_count{transport=\"websocket\"} 7\n"), 1);
    assert_int_equal(count_of("realtime_loop_lag_seconds_count 0\n"), 1);
}

static void the_series_of_a_histogram_are_counted_apart(void **state)
{
    pl_metric_observe_us(PL_S_POLL_EMPTY, 30000000, 1);
    pl_metric_observe_us(PL_S_POLL_EVENTS, 30000001, 2);
    export(state);
    assert_int_equal(count_of("poll_duration_seconds_bucket{answer=\"empty\",le=\"30\"} 1\n"), 1);
    assert_int_equal(count_of("poll_duration_seconds_bucket{answer=\"events\",le=\"30\"} 0\n"), 1);
    assert_int_equal(count_of("poll_duration_seconds_bucket{answer=\"events\",le=\"60\"} 2\n"), 1);
    assert_int_equal(count_of("poll_duration_seconds_count{answer=\"empty\"} 1\n"), 1);
}

static void sizes_are_counted_as_they_are(void **state)
{
    pl_metric_observe_size(PL_S_BATCH_LONGPOLL, 1);
    pl_metric_observe_size(PL_S_BATCH_LONGPOLL, 4);
    pl_metric_observe_size(PL_S_BATCH_LONGPOLL, 200000);
    export(state);
    assert_int_equal(count_of("batch_events_bucket{transport=\"longpoll\",le=\"1\"} 1\n"), 1);
    assert_int_equal(count_of("batch_events_bucket{transport=\"longpoll\",le=\"3\"} 1\n"), 1);
    assert_int_equal(count_of("batch_events_bucket{transport=\"longpoll\",le=\"5\"} 2\n"), 1);
    assert_int_equal(count_of("batch_events_bucket{transport=\"longpoll\",le=\"100000\"} 2\n"), 1);
    assert_int_equal(count_of("batch_events_bucket{transport=\"longpoll\",le=\"+Inf\"} 3\n"), 1);
    assert_int_equal(count_of("batch_events_sum{transport=\"longpoll\"} 200005\n"), 1);
}

static void microseconds_are_exported_as_seconds(void **state)
{
    pl_metric_set(PL_S_CPU, 12000345);
    export(state);
    assert_int_equal(count_of("# TYPE process_cpu_seconds_total counter\n"), 1);
    assert_int_equal(count_of("process_cpu_seconds_total 12.000345\n"), 1);
}

static void sets_are_told_apart_and_go_on_from_what_they_hold(void **state)
{
    static struct pl_metrics first, second;
    const struct pl_labelled_metrics sets[] = {{"worker=\"0\"", &first}, {"worker=\"1\"", &second}};

    first.values[PL_S_ACCEPTED] = 5; /* of a process that has ended */
    first.values[PL_S_QUEUES_NONE] = 7;
    pl_metrics_use(&first);
    pl_metric_add(PL_S_ACCEPTED, 2);
    pl_metric_set(PL_S_QUEUES_WEBSOCKET, 3);
    pl_metric_observe_us(PL_S_LOOP_LAG, 200, 1);
    second.values[PL_S_ACCEPTED] = 1;
    (void)state;
    pl_buf_done(&text);
    pl_metrics_export_all(&text, sets, 2);
    assert_int_equal(count_of("# TYPE realtime_accepted_total counter\n"
                              "realtime_accepted_total{worker=\"0\"} 7\n"
                              "realtime_accepted_total{worker=\"1\"} 1\n"),
                     1);
    assert_int_equal(count_of("realtime_active_queues{worker=\"0\",transport=\"websocket\"} 3\n"),
                     1);
    assert_int_equal(count_of("realtime_active_queues{worker=\"0\",transport=\"none\"} 0\n"), 1);
    assert_int_equal(count_of("realtime_loop_lag_seconds_bucket{worker=\"0\",le=\"0.00025\"} 1\n"),
                     1);
    assert_int_equal(count_of("realtime_loop_lag_seconds_count{worker=\"1\"} 0\n"), 1);
    pl_metrics_end(&first);
    assert_int_equal(first.values[PL_S_ACCEPTED], 7);
    assert_int_equal(first.values[PL_S_QUEUES_WEBSOCKET], 0);
    assert_int_equal(first.values[PL_S_LOOP_LAG], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_metric_has_one_help_and_one_type, export, done),
        cmocka_unit_test_teardown(every_series_shows_its_value, done),
        cmocka_unit_test_teardown(a_histogram_is_cumulative_and_in_seconds, done),
        cmocka_unit_test_teardown(the_series_of_a_histogram_are_counted_apart, done),
        cmocka_unit_test_teardown(sizes_are_counted_as_they_are, done),
        cmocka_unit_test_teardown(microseconds_are_exported_as_seconds, done),
        cmocka_unit_test_teardown(sets_are_told_apart_and_go_on_from_what_they_hold, done),
    };

    return cmocka_run_group_tests_name("base/metrics", tests, NULL, NULL);
}
