#include "server/app/workers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct pl_workers w;
static uint64_t now;
static int next_pid, started, left, left_at_once;
static bool cannot_start;

static int start(void *arg, unsigned slot)
{
    (void)arg, (void)slot;
    started++;
    return cannot_start ? -1 : next_pid++;
}

static void leave(void *arg, unsigned slot, bool at_once)
{
    (void)arg;
    assert_int_equal(w.slots[slot].state, PL_WORKER_LEAVING);
    left += !at_once;
    left_at_once += at_once;
}

static const struct pl_workers_ops ops = {start, leave};

static int reset(void **state)
{
    (void)state;
    now = 1000;
    next_pid = 100;
    started = left = left_at_once = 0;
    cannot_start = false;
    pl_workers_init(&w, &ops, NULL);
    return 0;
}

static void begin(unsigned count)
{
    assert_true(pl_workers_begin(&w, count, now));
    pl_workers_run(&w, now);
}

/* Everybody that starts serves; the last one completes its generation. */
static void all_serve(void)
{
    bool complete = false;

    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (w.slots[i].state == PL_WORKER_STARTING) {
            assert_false(complete);
            complete = pl_workers_serving(&w, i);
        }
    }
    assert_true(complete);
}

static void a_generation_starts_at_once(void **state)
{
    (void)state;
    begin(3);
    assert_int_equal(started, 3);
    assert_int_equal(pl_workers_wait_ms(&w, now), -1);
    assert_int_equal(pl_workers_count(&w, PL_WORKER_STARTING), 3);
    all_serve();
    assert_int_equal(pl_workers_count(&w, PL_WORKER_SERVING), 3);
    assert_int_equal(left + left_at_once, 0);
}

static void the_old_leave_when_all_the_new_serve(void **state)
{
    (void)state;
    begin(2);
    all_serve();
    begin(2);
    assert_int_equal(w.slots[2].state, PL_WORKER_STARTING);
    assert_false(pl_workers_serving(&w, 2));
    assert_int_equal(left, 0);
    assert_true(pl_workers_serving(&w, 3));
    assert_int_equal(left, 2);
    assert_int_equal(pl_workers_ended(&w, w.slots[0].pid, now), 0);
    assert_int_equal(w.slots[0].state, PL_WORKER_NONE);
    assert_int_equal(pl_workers_wait_ms(&w, now), -1);
}

static void the_old_stay_while_the_new_fail(void **state)
{
    (void)state;
    begin(2);
    all_serve();
    begin(2);
    (void)pl_workers_serving(&w, 2);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pl_workers_ended(&w, w.slots[3].pid, now), 3);
        now += 10000;
        pl_workers_run(&w, now);
        assert_int_equal(w.slots[3].state, PL_WORKER_STARTING);
    }
    assert_int_equal(left + left_at_once, 0);
    assert_int_equal(pl_workers_count(&w, PL_WORKER_SERVING), 3);
}

static void who_never_served_goes_when_the_next_begins(void **state)
{
    (void)state;
    begin(1);
    all_serve();
    begin(1);
    begin(1);
    assert_int_equal(w.slots[0].state, PL_WORKER_SERVING);
    assert_int_equal(w.slots[1].state, PL_WORKER_LEAVING);
    assert_int_equal(left_at_once, 1);
    assert_true(pl_workers_serving(&w, 2));
    assert_int_equal(w.slots[0].state, PL_WORKER_LEAVING);
}

static void one_that_ends_is_replaced_at_once(void **state)
{
    (void)state;
    begin(2);
    all_serve();
    now += 100;
    assert_int_equal(pl_workers_ended(&w, 101, now), 1);
    assert_int_equal(pl_workers_wait_ms(&w, now), 0);
    pl_workers_run(&w, now);
    assert_int_equal(w.slots[1].pid, 102);
    assert_true(pl_workers_serving(&w, 1));
}

static void those_that_end_early_are_replaced_ever_more_slowly(void **state)
{
    static const int pauses[] = {0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};

    (void)state;
    begin(1);
    for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
        (void)pl_workers_ended(&w, w.slots[0].pid, now);
        assert_int_equal(pl_workers_wait_ms(&w, now), pauses[i]);
        now += (uint64_t)pauses[i];
        pl_workers_run(&w, now);
        assert_int_equal(w.slots[0].state, PL_WORKER_STARTING);
    }
    now += 10000; /* it held */
    (void)pl_workers_ended(&w, w.slots[0].pid, now);
    assert_int_equal(pl_workers_wait_ms(&w, now), 0);
}

static void one_that_cannot_be_started_is_tried_again(void **state)
{
    (void)state;
    cannot_start = true;
    begin(1);
    pl_workers_run(&w, now);
    assert_int_equal(started, 2);
    assert_int_equal(pl_workers_wait_ms(&w, now), 100);
    cannot_start = false;
    now += 100;
    pl_workers_run(&w, now);
    all_serve();
}

static void a_stranger_is_not_ours(void **state)
{
    (void)state;
    begin(1);
    assert_int_equal(pl_workers_ended(&w, 4711, now), -1);
}

static void stopping_replaces_nobody(void **state)
{
    (void)state;
    begin(3);
    all_serve();
    (void)pl_workers_ended(&w, 102, now);
    pl_workers_stop(&w, false);
    assert_int_equal(left, 2);
    assert_int_equal(pl_workers_wait_ms(&w, now), -1);
    pl_workers_stop(&w, true);
    assert_int_equal(left_at_once, 2);
    (void)pl_workers_ended(&w, 100, now);
    (void)pl_workers_ended(&w, 101, now);
    assert_int_equal(pl_workers_running(&w), 0);
    assert_int_equal(pl_workers_wait_ms(&w, now), -1);
}

static void the_adopted_leave_when_the_new_serve(void **state)
{
    (void)state;
    pl_workers_adopt(&w, 0, 50, PL_WORKER_SERVING, now);
    pl_workers_adopt(&w, 1, 51, PL_WORKER_LEAVING, now);
    begin(1);
    assert_int_equal(w.slots[2].state, PL_WORKER_STARTING);
    assert_int_equal(left, 0);
    assert_true(pl_workers_serving(&w, 2));
    assert_int_equal(left, 1);
    assert_int_equal(pl_workers_ended(&w, 50, now), 0);
    assert_int_equal(pl_workers_ended(&w, 51, now), 1);
    assert_int_equal(pl_workers_running(&w), 1);
}

static void too_many_generations_hurry_the_leaving(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        begin(PL_WORKERS_MAX);
        all_serve();
    }
    assert_int_equal(left, 3 * PL_WORKERS_MAX);
    assert_false(pl_workers_begin(&w, 1, now));
    assert_int_equal(left_at_once, 3 * PL_WORKERS_MAX);
    (void)pl_workers_ended(&w, 100, now);
    begin(1);
    all_serve();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_generation_starts_at_once, reset),
        cmocka_unit_test_setup(the_old_leave_when_all_the_new_serve, reset),
        cmocka_unit_test_setup(the_old_stay_while_the_new_fail, reset),
        cmocka_unit_test_setup(who_never_served_goes_when_the_next_begins, reset),
        cmocka_unit_test_setup(one_that_ends_is_replaced_at_once, reset),
        cmocka_unit_test_setup(those_that_end_early_are_replaced_ever_more_slowly, reset),
        cmocka_unit_test_setup(one_that_cannot_be_started_is_tried_again, reset),
        cmocka_unit_test_setup(a_stranger_is_not_ours, reset),
        cmocka_unit_test_setup(stopping_replaces_nobody, reset),
        cmocka_unit_test_setup(the_adopted_leave_when_the_new_serve, reset),
        cmocka_unit_test_setup(too_many_generations_hurry_the_leaving, reset),
    };

    return cmocka_run_group_tests_name("app/workers", tests, NULL, NULL);
}
