#include "protocol/timestamp_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool timestamp(const char *s)
{
    return pl_timestamp__valid((struct pl_str){s, strlen(s)});
}

static void rfc_3339_times_are_valid(void **state)
{
    const char *const good[] = {
        "2026-11-20T10:30:00Z",           "2026-11-20T10:30:00.1Z",
        "2026-11-20t10:30:00.123456789z", "2026-11-20T10:30:00.123456+05:30",
        "2026-11-20T23:59:60-23:59",      "2024-02-29T00:00:00Z",
        "2000-02-29T00:00:00Z",           "0000-12-31T00:00:00+00:00",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(timestamp(good[i]));
    }
}

static void everything_else_is_not(void **state)
{
    const char *const bad[] = {
        "",
        "now",
        "2026-11-20",
        "2026-11-20T10:30:00",
        "2026-11-20 10:30:00Z",
        "2026-11-20T10:30Z",
        "2026-11-20T10:30:00.Z",
        "2026-11-20T10:30:00.1234567890Z",
        "2026-11-20T10:30:00ZZ",
        "2026-11-20T10:30:00+0530",
        "2026-11-20T10:30:00+24:00",
        "2026-11-20T10:30:00+05:60",
        "2026-13-20T10:30:00Z",
        "2026-00-20T10:30:00Z",
        "2026-11-31T10:30:00Z",
        "2026-11-00T10:30:00Z",
        "2023-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T10:60:00Z",
        "2026-11-20T10:30:61Z",
        "1795170600",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(timestamp(bad[i]));
    }
}

static void no_prefix_of_a_time_is_one(void **state)
{
    const char whole[] = "2026-11-20T10:30:00.123+05:30";

    (void)state;
    for (size_t len = 0; len < sizeof(whole) - 1; len++) {
        assert_false(pl_timestamp__valid((struct pl_str){whole, len}));
    }
}

static void a_traceparent_is_as_w3c_has_it(void **state)
{
    const char good[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const struct {
        size_t at;
        const char *with;
    } bad[] = {
        {0, "ff"},
        {0, "g0"},
        {2, "_"},
        {3, "A"},
        {35, "_"},
        {52, "_"},
        {54, "x"},
        {3, "00000000000000000000000000000000"},
        {36, "0000000000000000"},
    };

    (void)state;
    assert_true(pl_traceparent__valid((struct pl_str){good, sizeof(good) - 1}));
    assert_false(pl_traceparent__valid((struct pl_str){good, sizeof(good) - 2}));
    assert_false(pl_traceparent__valid((struct pl_str){good, sizeof(good)}));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char copy[sizeof(good)];

        memcpy(copy, good, sizeof(copy));
        memcpy(copy + bad[i].at, bad[i].with, strlen(bad[i].with));
        assert_false(pl_traceparent__valid((struct pl_str){copy, sizeof(copy) - 1}));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc_3339_times_are_valid),
        cmocka_unit_test(everything_else_is_not),
        cmocka_unit_test(no_prefix_of_a_time_is_one),
        cmocka_unit_test(a_traceparent_is_as_w3c_has_it),
    };

    return cmocka_run_group_tests_name("protocol/timestamp", tests, NULL, NULL);
}
