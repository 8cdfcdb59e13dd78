#include "server/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/alloc.h"

enum {
    LIMIT = 1600
};

static int enough_again(void **state)
{
    (void)state;
    pl_memory_judge(0, 0);
    return 0;
}

static void expect(uint64_t resident, enum pl_memory state)
{
    pl_memory_judge(resident, LIMIT);
    assert_int_equal(pl_memory_state, state);
}

static void without_a_limit_there_is_always_enough(void **state)
{
    (void)state;
    pl_memory_judge(UINT64_MAX, 0);
    assert_int_equal(pl_memory_state, PL_MEMORY_ENOUGH);
}

static void it_is_short_from_the_limit_until_a_sixteenth_below(void **state)
{
    (void)state;
    expect(LIMIT - 1, PL_MEMORY_ENOUGH);
    expect(LIMIT, PL_MEMORY_SHORT);
    expect(LIMIT - 100, PL_MEMORY_SHORT);
    expect(LIMIT - 101, PL_MEMORY_ENOUGH);
    expect(LIMIT - 1, PL_MEMORY_ENOUGH);
}

static void it_is_out_from_an_eighth_above_until_the_limit(void **state)
{
    (void)state;
    expect(LIMIT + 199, PL_MEMORY_SHORT);
    expect(LIMIT + 200, PL_MEMORY_OUT);
    expect(LIMIT, PL_MEMORY_OUT);
    expect(LIMIT - 1, PL_MEMORY_SHORT);
    expect(LIMIT + 200, PL_MEMORY_OUT);
    expect(0, PL_MEMORY_ENOUGH);
}

static void a_limit_that_is_taken_away_ends_it(void **state)
{
    (void)state;
    expect(2 * LIMIT, PL_MEMORY_OUT);
    pl_memory_judge((uint64_t)2 * LIMIT, 0);
    assert_int_equal(pl_memory_state, PL_MEMORY_ENOUGH);
}

static void what_is_used_is_resident(void **state)
{
    const size_t size = (size_t)64 << 20;
    const uint64_t before = pl_memory_resident();
    char *p = pl_alloc(size);

    (void)state;
    assert_true(before > 0);
    memset(p, 1, size);
    assert_true(pl_memory_resident() >= before + size / 2);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_a_limit_there_is_always_enough, enough_again),
        cmocka_unit_test_setup(it_is_short_from_the_limit_until_a_sixteenth_below, enough_again),
        cmocka_unit_test_setup(it_is_out_from_an_eighth_above_until_the_limit, enough_again),
        cmocka_unit_test_setup(a_limit_that_is_taken_away_ends_it, enough_again),
        cmocka_unit_test(what_is_used_is_resident),
    };

    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
