#include "server/base/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    NOW_MS = 5000
};

static unsigned take_all(struct pl_rate *r, uint32_t per_s, uint32_t burst, uint64_t now_ms)
{
    unsigned n = 0;

    while (n < 1000 && pl_rate_take(r, 1, per_s, burst, now_ms)) {
        n++;
    }
    return n;
}

static void a_fresh_bucket_gives_a_burst_and_no_more(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    assert_int_equal(take_all(&r, 10, 20, NOW_MS), 20);
    assert_false(pl_rate_take(&r, 1, 10, 20, NOW_MS));
}

static void one_more_comes_with_every_interval(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    (void)take_all(&r, 10, 20, NOW_MS);
    assert_false(pl_rate_take(&r, 1, 10, 20, NOW_MS + 99));
    assert_true(pl_rate_take(&r, 1, 10, 20, NOW_MS + 100));
    assert_false(pl_rate_take(&r, 1, 10, 20, NOW_MS + 100));
    assert_int_equal(take_all(&r, 10, 20, NOW_MS + 600), 5);
}

static void a_refusal_costs_nothing(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    (void)take_all(&r, 1, 1, NOW_MS);
    for (unsigned ms = 0; ms < 1000; ms++) {
        assert_false(pl_rate_take(&r, 1, 1, 1, NOW_MS + ms));
    }
    assert_true(pl_rate_take(&r, 1, 1, 1, NOW_MS + 1000));
}

static void a_long_rest_saves_up_one_burst(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    (void)take_all(&r, 10, 20, NOW_MS);
    assert_int_equal(take_all(&r, 10, 20, NOW_MS + UINT64_C(1000000000)), 20);
}

static void a_changed_limit_counts_at_once(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    assert_int_equal(take_all(&r, 10, 10, NOW_MS), 10);
    assert_int_equal(take_all(&r, 10, 30, NOW_MS), 20);
    assert_false(pl_rate_take(&r, 1, 1, 1, NOW_MS));
}

static void a_clock_that_goes_back_gives_nothing(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    assert_int_equal(take_all(&r, 10, 20, NOW_MS), 20);
    assert_false(pl_rate_take(&r, 1, 10, 20, NOW_MS - 3000));
    assert_false(pl_rate_take(&r, 1, 10, 20, NOW_MS));
    assert_int_equal(take_all(&r, 10, 20, NOW_MS + 100), 1);
}

static void the_fastest_configurable_rate_is_a_rate(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    assert_true(pl_rate_take(&r, 1, 1000000, 2000000, NOW_MS));
    for (unsigned i = 1; i < 2000000; i++) {
        (void)pl_rate_take(&r, 1, 1000000, 2000000, NOW_MS);
    }
    assert_false(pl_rate_take(&r, 1, 1000000, 2000000, NOW_MS));
    assert_true(pl_rate_take(&r, 1, 1000000, 2000000, NOW_MS + 1));
}

static void several_are_taken_at_once_or_none(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    assert_true(pl_rate_take(&r, 15, 10, 20, NOW_MS));
    assert_false(pl_rate_take(&r, 6, 10, 20, NOW_MS));
    assert_true(pl_rate_take(&r, 5, 10, 20, NOW_MS));
    assert_false(pl_rate_take(&r, 1, 10, 20, NOW_MS));
}

static void more_than_a_burst_takes_a_full_bucket(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    assert_true(pl_rate_take(&r, 1000, 10, 20, NOW_MS));
    assert_false(pl_rate_take(&r, 1000, 10, 20, NOW_MS + 1999));
    assert_true(pl_rate_take(&r, 1000, 10, 20, NOW_MS + 2000));
}

static void bytes_by_the_gibibyte_are_counted(void **state)
{
    enum {
        RATE = 1 << 30
    };
    struct pl_rate r = {0};

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_true(pl_rate_take(&r, RATE / 2, RATE, 2u * RATE, NOW_MS));
    }
    assert_false(pl_rate_take(&r, 1000, RATE, 2u * RATE, NOW_MS));
    assert_true(pl_rate_take(&r, RATE / 2, RATE, 2u * RATE, NOW_MS + 500));
}

static void a_bucket_is_full_again_after_its_time(void **state)
{
    struct pl_rate r = {0};

    (void)state;
    assert_true(pl_rate_is_full(&r, NOW_MS));
    assert_true(pl_rate_take(&r, 1, 10, 20, NOW_MS));
    assert_false(pl_rate_is_full(&r, NOW_MS + 99));
    assert_true(pl_rate_is_full(&r, NOW_MS + 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_bucket_gives_a_burst_and_no_more),
        cmocka_unit_test(one_more_comes_with_every_interval),
        cmocka_unit_test(a_refusal_costs_nothing),
        cmocka_unit_test(a_long_rest_saves_up_one_burst),
        cmocka_unit_test(a_changed_limit_counts_at_once),
        cmocka_unit_test(a_clock_that_goes_back_gives_nothing),
        cmocka_unit_test(the_fastest_configurable_rate_is_a_rate),
        cmocka_unit_test(several_are_taken_at_once_or_none),
        cmocka_unit_test(more_than_a_burst_takes_a_full_bucket),
        cmocka_unit_test(bytes_by_the_gibibyte_are_counted),
        cmocka_unit_test(a_bucket_is_full_again_after_its_time),
    };

    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
