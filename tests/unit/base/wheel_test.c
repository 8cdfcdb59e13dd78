#include "server/base/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    DAY_MS = 86400000,
    TIMERS = 400
};

/* Beyond the wheel's four levels. */
static const uint64_t span_ms =
    (UINT64_C(1) << (PL_WHEEL_BITS * PL_WHEEL_LEVELS)) * PL_WHEEL_TICK_MS;

static struct pl_wheel wheel;
static uint64_t now_ms; /* what advance was last told */

struct probe {
    struct pl_timer timer;
    unsigned fired;
    uint64_t fired_ms;
    struct probe *other;
};

static void note(struct pl_timer *t)
{
    struct probe *p = pl_container_of(t, struct probe, timer);

    p->fired++;
    p->fired_ms = now_ms;
}

static void advance(uint64_t to_ms)
{
    now_ms = to_ms;
    pl_wheel_advance(&wheel, to_ms);
}

static void probe_at(uint64_t due_ms, struct probe *place)
{
    *place = (struct probe){0};
    pl_timer_init(&place->timer, note);
    pl_timer_set(&wheel, &place->timer, due_ms);
}

static int start_at_1001(void **state)
{
    (void)state;
    now_ms = 1001;
    pl_wheel_init(&wheel, now_ms);
    return 0;
}

static void fires_once_not_early_and_at_most_a_tick_late(void **state)
{
    (void)state;
    for (uint64_t delay = 1; delay < 5000; delay += 37) {
        struct probe p;
        uint64_t due = now_ms + delay;

        probe_at(due, &p);
        assert_true(pl_timer_is_set(&p.timer));
        while (p.fired == 0) {
            advance(now_ms + 1);
        }
        assert_true(p.fired_ms >= due);
        assert_true(p.fired_ms <= due + PL_WHEEL_TICK_MS);
        assert_false(pl_timer_is_set(&p.timer));
        advance(now_ms + 5000);
        assert_int_equal(p.fired, 1);
    }
}

static void the_past_is_due_at_the_next_advance(void **state)
{
    struct probe p;

    (void)state;
    probe_at(3, &p);
    assert_int_equal(pl_wheel_next_ms(&wheel, now_ms), 0);
    advance(now_ms);
    assert_int_equal(p.fired, 1);
}

static void time_does_not_go_back(void **state)
{
    struct probe p;

    (void)state;
    probe_at(2000, &p);
    advance(500);
    assert_int_equal(p.fired, 0);
    advance(2008);
    assert_int_equal(p.fired, 1);
}

static void setting_again_moves_and_cancelling_forgets(void **state)
{
    struct probe p;

    (void)state;
    probe_at(2000, &p);
    pl_timer_set(&wheel, &p.timer, 4000);
    assert_int_equal(wheel.count, 1);
    advance(3999);
    assert_int_equal(p.fired, 0);
    pl_timer_cancel(&wheel, &p.timer);
    pl_timer_cancel(&wheel, &p.timer);
    assert_int_equal(wheel.count, 0);
    assert_false(pl_timer_is_set(&p.timer));
    advance(DAY_MS);
    assert_int_equal(p.fired, 0);
}

static void times_beyond_the_span_fire_when_due(void **state)
{
    struct probe near_end;
    struct probe beyond;
    struct probe never;

    (void)state;
    probe_at(now_ms + span_ms - 1, &near_end);
    probe_at(now_ms + 5 * span_ms + 12345, &beyond);
    probe_at(UINT64_MAX, &never);
    advance(now_ms + span_ms - 2);
    assert_int_equal(near_end.fired, 0);
    advance(1001 + span_ms + PL_WHEEL_TICK_MS);
    assert_int_equal(near_end.fired, 1);
    advance(1001 + 5 * span_ms + 12344);
    assert_int_equal(beyond.fired, 0);
    advance(1001 + 5 * span_ms + 12345 + PL_WHEEL_TICK_MS);
    assert_int_equal(beyond.fired, 1);
    assert_int_equal(never.fired, 0);
}

/* A random walk against the plain definition, with steps from 1 ms to a day. */
static void agrees_with_a_plain_list_of_due_times(void **state)
{
    static struct probe probes[TIMERS];
    uint32_t seed = 1;

    (void)state;
    for (int i = 0; i < TIMERS; i++) {
        probe_at(now_ms + (UINT64_C(1) << (i % 40)) + (uint64_t)i, &probes[i]);
    }
    while (wheel.count > 0) {
        uint64_t before = now_ms;

        seed = seed * 1664525 + 1013904223;
        advance(now_ms + 1 + (seed >> (8 + seed % 24)));
        if (pl_wheel_next_ms(&wheel, now_ms) > DAY_MS) {
            advance(now_ms + (uint64_t)pl_wheel_next_ms(&wheel, now_ms) / 2);
        }
        for (int i = 0; i < TIMERS; i++) {
            const struct probe *p = &probes[i];
            uint64_t due = p->timer.due_ms;

            assert_true(p->fired <= 1);
            assert_true(p->fired ? p->fired_ms >= due : now_ms < due + PL_WHEEL_TICK_MS);
            assert_true(p->fired_ms <= before || due + PL_WHEEL_TICK_MS > before);
        }
    }
}

static struct probe *order[3];
static unsigned order_count;

static void note_order(struct pl_timer *t)
{
    order[order_count++] = pl_container_of(t, struct probe, timer);
}

static void fires_in_order_of_ticks_over_a_long_jump(void **state)
{
    struct probe p[3];

    (void)state;
    order_count = 0;
    for (int i = 0; i < 3; i++) {
        pl_timer_init(&p[i].timer, note_order);
    }
    pl_timer_set(&wheel, &p[0].timer, 900000);
    pl_timer_set(&wheel, &p[1].timer, 1100);
    pl_timer_set(&wheel, &p[2].timer, 60000);
    advance(DAY_MS);
    assert_int_equal(order_count, 3);
    assert_ptr_equal(order[0], &p[1]);
    assert_ptr_equal(order[1], &p[2]);
    assert_ptr_equal(order[2], &p[0]);
}

static void set_again_in_the_past(struct pl_timer *t)
{
    note(t);
    pl_timer_set(&wheel, t, 0);
}

static void a_callback_that_sets_itself_in_the_past_waits_for_the_next_advance(void **state)
{
    struct probe p = {0};

    (void)state;
    pl_timer_init(&p.timer, set_again_in_the_past);
    pl_timer_set(&wheel, &p.timer, 2000);
    advance(DAY_MS);
    assert_int_equal(p.fired, 1);
    advance(DAY_MS);
    assert_int_equal(p.fired, 2);
    assert_int_equal(wheel.count, 1);
}

static void cancel_the_other(struct pl_timer *t)
{
    struct probe *p = pl_container_of(t, struct probe, timer);

    note(t);
    pl_timer_cancel(&wheel, &p->other->timer);
}

static void a_callback_may_cancel_one_that_is_due_too(void **state)
{
    struct probe a = {0};
    struct probe b = {0};

    (void)state;
    a.other = &b;
    b.other = &a;
    pl_timer_init(&a.timer, cancel_the_other);
    pl_timer_init(&b.timer, cancel_the_other);
    pl_timer_set(&wheel, &a.timer, 2000);
    pl_timer_set(&wheel, &b.timer, 2000);
    advance(3000);
    assert_int_equal(a.fired + b.fired, 1);
    assert_int_equal(wheel.count, 0);
}

static void postpone_the_other(struct pl_timer *t)
{
    struct probe *p = pl_container_of(t, struct probe, timer);

    pl_timer_set(&wheel, &p->other->timer, now_ms + 1000);
}

static void a_callback_may_postpone_one_that_is_due_too(void **state)
{
    struct probe a = {0};
    struct probe b = {0};

    (void)state;
    a.other = &b;
    pl_timer_init(&a.timer, postpone_the_other);
    pl_timer_init(&b.timer, note);
    pl_timer_set(&wheel, &a.timer, 2000);
    pl_timer_set(&wheel, &b.timer, 2000);
    advance(3000);
    assert_int_equal(b.fired, 0);
    advance(4000 + PL_WHEEL_TICK_MS);
    assert_int_equal(b.fired, 1);
}

static void free_owner(struct pl_timer *t)
{
    free(pl_container_of(t, struct probe, timer));
}

static void a_callback_may_free_its_owner(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        struct probe *p = calloc(1, sizeof(*p));

        assert_non_null(p);
        pl_timer_init(&p->timer, free_owner);
        pl_timer_set(&wheel, &p->timer, 2000);
    }
    advance(3000);
    assert_int_equal(wheel.count, 0);
}

static void next_is_never_late_and_waking_then_is_enough(void **state)
{
    (void)state;
    assert_true(pl_wheel_next_ms(&wheel, now_ms) == INT64_MAX);
    for (uint64_t delay = 1; delay < UINT64_C(1) << 40; delay = delay * 3 + 1) {
        struct probe p;
        unsigned wakes = 0;
        uint64_t due = now_ms + delay;

        probe_at(due, &p);
        while (p.fired == 0) {
            int64_t wait = pl_wheel_next_ms(&wheel, now_ms);

            assert_true(wait > 0 && now_ms + (uint64_t)wait <= due + PL_WHEEL_TICK_MS);
            advance(now_ms + (uint64_t)wait);
            wakes++;
        }
        assert_true(wakes <= UINT64_C(2) * PL_WHEEL_LEVELS + delay / span_ms);
    }
}

static void next_forgets_what_was_cancelled(void **state)
{
    struct probe a;
    struct probe b;

    (void)state;
    probe_at(2000, &a);
    probe_at(2600, &b);
    pl_timer_cancel(&wheel, &a.timer);
    assert_true(pl_wheel_next_ms(&wheel, now_ms) > 1000);
    pl_timer_cancel(&wheel, &b.timer);
    assert_true(pl_wheel_next_ms(&wheel, now_ms) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fires_once_not_early_and_at_most_a_tick_late, start_at_1001),
        cmocka_unit_test_setup(the_past_is_due_at_the_next_advance, start_at_1001),
        cmocka_unit_test_setup(time_does_not_go_back, start_at_1001),
        cmocka_unit_test_setup(setting_again_moves_and_cancelling_forgets, start_at_1001),
        cmocka_unit_test_setup(times_beyond_the_span_fire_when_due, start_at_1001),
        cmocka_unit_test_setup(agrees_with_a_plain_list_of_due_times, start_at_1001),
        cmocka_unit_test_setup(fires_in_order_of_ticks_over_a_long_jump, start_at_1001),
        cmocka_unit_test_setup(a_callback_that_sets_itself_in_the_past_waits_for_the_next_advance,
                               start_at_1001),
        cmocka_unit_test_setup(a_callback_may_cancel_one_that_is_due_too, start_at_1001),
        cmocka_unit_test_setup(a_callback_may_postpone_one_that_is_due_too, start_at_1001),
        cmocka_unit_test_setup(a_callback_may_free_its_owner, start_at_1001),
        cmocka_unit_test_setup(next_is_never_late_and_waking_then_is_enough, start_at_1001),
        cmocka_unit_test_setup(next_forgets_what_was_cancelled, start_at_1001),
    };

    return cmocka_run_group_tests_name("base/wheel", tests, NULL, NULL);
}
