#include "server/core/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/metrics.h"

static const struct pl_str sampled =
    PL_LIT("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

static int on(void **state)
{
    (void)state;
    pl_trace_setup(2);
    return 0;
}

static int off(void **state)
{
    (void)state;
    pl_trace_setup(0);
    return 0;
}

static void only_what_is_sampled_is_begun(void **state)
{
    struct pl_span s;

    (void)state;
    assert_true(pl_trace_begin(sampled, PL_SPAN_PUBLISH, 1, &s));
    assert_string_equal(s.trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_string_equal(s.parent_id, "b7ad6b7169203331");
    assert_true(pl_trace_begin(PL_LIT("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03"),
                               PL_SPAN_PUBLISH, 1, &s));
    assert_false(pl_trace_begin(PL_LIT("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
                                PL_SPAN_PUBLISH, 1, &s));
    assert_false(pl_trace_begin((struct pl_str){NULL, 0}, PL_SPAN_PUBLISH, 1, &s));
}

static void nothing_is_begun_that_nobody_exports(void **state)
{
    struct pl_span s;

    off(state);
    assert_false(pl_trace_begin(sampled, PL_SPAN_PUBLISH, 1, &s));
}

static struct pl_span span(enum pl_span_kind kind, uint64_t id)
{
    struct pl_span s;

    assert_true(pl_trace_begin(sampled, kind, 1700000000000001, &s));
    s.id = id;
    s.ended_us = 1700000000000250;
    s.event_id = 42;
    s.delivered = 7;
    return s;
}

static void what_finds_no_room_is_dropped_and_counted(void **state)
{
    struct pl_span s = span(PL_SPAN_PUBLISH, 1);
    struct pl_buf out = {0};
    uint64_t before = pl_metric_values[PL_S_SPANS_DROPPED];

    (void)state;
    for (int i = 0; i < 5; i++) {
        pl_trace_put(&s);
    }
    assert_int_equal(pl_metric_values[PL_S_SPANS_DROPPED] - before, 3);
    assert_int_equal(pl_trace_take(10, "n", &out), 2);
    pl_buf_done(&out);
    assert_int_equal(pl_trace_take(10, "n", &out), 0);
    assert_int_equal(out.len, 0);
}

static void batches_are_bounded_and_in_order(void **state)
{
    struct pl_span one = span(PL_SPAN_PUBLISH, 1), two = span(PL_SPAN_PUBLISH, 2);
    struct pl_buf out = {0};

    (void)state;
    pl_trace_put(&one);
    pl_trace_put(&two);
    assert_int_equal(pl_trace_take(1, "n", &out), 1);
    assert_non_null(strstr(pl_buf_cstr(&out), "\"spanId\":\"0000000000000001\""));
    pl_buf_done(&out);
    pl_trace_put(&one);
    assert_int_equal(pl_trace_take(1, "n", &out), 1);
    assert_non_null(strstr(pl_buf_cstr(&out), "\"spanId\":\"0000000000000002\""));
    pl_buf_done(&out);
}

static void fan_outs_end_with_their_turn(void **state)
{
    struct pl_span published = span(PL_SPAN_PUBLISH, 1), fan_out = span(PL_SPAN_FAN_OUT, 2);
    struct pl_buf out = {0};

    (void)state;
    fan_out.ended_us = 0;
    pl_trace_put(&fan_out);
    pl_trace_put(&published);
    assert_true(pl_trace_is_fanning_out());
    assert_int_equal(pl_trace_take(10, "n", &out), 0); /* in order, so the other one waits */
    pl_trace_end_fan_outs(3, 1700000000000777);
    assert_false(pl_trace_is_fanning_out());
    assert_int_equal(pl_trace_take(10, "n", &out), 2);
    assert_non_null(strstr(pl_buf_cstr(&out), "\"endTimeUnixNano\":\"1700000000000777000\""));
    assert_non_null(strstr(pl_buf_cstr(&out), "\"endTimeUnixNano\":\"1700000000000250000\""));
    assert_non_null(strstr(pl_buf_cstr(&out), "{\"intValue\":\"3\"}"));
    pl_buf_done(&out);
}

static void a_batch_is_what_a_collector_takes(void **state)
{
    struct pl_span s = span(PL_SPAN_FAN_OUT, 0xabcdef);
    struct pl_buf out = {0};

    (void)state;
    s.failed = true;
    pl_trace_put(&s);
    assert_int_equal(pl_trace_take(10, "node-1", &out), 1);
    assert_string_equal(
        pl_buf_cstr(&out),
        "{\"resourceSpans\":[{\"resource\":{\"attributes\":["
        "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"parleyd\"}},"
        "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"" PL_VERSION "\"}},"
        "{\"key\":\"service.instance.id\",\"value\":{\"stringValue\":\"node-1\"}}]},"
        "\"scopeSpans\":[{\"scope\":{\"name\":\"parley\"},\"spans\":[{"
        "\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"0000000000abcdef\","
        "\"parentSpanId\":\"b7ad6b7169203331\",\"name\":\"fan-out\",\"kind\":5,"
        "\"startTimeUnixNano\":\"1700000000000001000\",\"endTimeUnixNano\":\"1700000000000250000\","
        "\"attributes\":[{\"key\":\"parley.event_id\",\"value\":{\"intValue\":\"42\"}},"
        "{\"key\":\"parley.delivered\",\"value\":{\"intValue\":\"7\"}}],"
        "\"status\":{\"code\":2}}]}]}]}");
    pl_buf_done(&out);
}

static void the_traceparent_of_a_body_is_its_last_member(void **state)
{
#define TP "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    static const struct {
        struct pl_str body;
        size_t len;
    } cases[] = {
        {PL_LIT("{\"type\":\"t\",\"data\":{},\"traceparent\":\"" TP "\"}"), 55},
        {PL_LIT("{\"type\":\"t\",\"data\":{\"x\":1,\"traceparent\":\"" TP "\"}}"), 0},
        {PL_LIT("{\"type\":\"t\",\"data\":{\"x\":\",\\\"traceparent\\\":\\\"" TP "\"}}"), 0},
        {PL_LIT("{\"type\":\"t\",\"data\":{}}"), 0},
        {PL_LIT("{}"), 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(pl_event_traceparent(cases[i].body).len, cases[i].len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_is_sampled_is_begun, on, off),
        cmocka_unit_test_setup_teardown(nothing_is_begun_that_nobody_exports, on, off),
        cmocka_unit_test_setup_teardown(what_finds_no_room_is_dropped_and_counted, on, off),
        cmocka_unit_test_setup_teardown(batches_are_bounded_and_in_order, on, off),
        cmocka_unit_test_setup_teardown(fan_outs_end_with_their_turn, on, off),
        cmocka_unit_test_setup_teardown(a_batch_is_what_a_collector_takes, on, off),
        cmocka_unit_test(the_traceparent_of_a_body_is_its_last_member),
    };

    return cmocka_run_group_tests_name("core/trace", tests, NULL, NULL);
}
