#include "server/base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    struct pl_list node;
    int value;
};

static struct pl_list head;
static struct item items[4];

static int setup(void **state)
{
    (void)state;
    pl_list_init(&head);
    for (int i = 0; i < 4; i++) {
        items[i].value = i + 1;
        pl_list_init(&items[i].node);
    }
    return 0;
}

/* The values in order, as decimal digits. */
static int digits_of(const struct pl_list *list)
{
    int digits = 0;

    pl_list_foreach(it, list) {
        digits = digits * 10 + pl_container_of(it, struct item, node)->value;
    }
    return digits;
}

static void appends_at_the_end(void **state)
{
    (void)state;
    assert_true(pl_list_empty(&head));
    pl_list_append(&head, &items[0].node);
    pl_list_append(&head, &items[1].node);
    assert_false(pl_list_empty(&head));
    assert_int_equal(digits_of(&head), 12);
}

static void removing_twice_is_harmless(void **state)
{
    (void)state;
    pl_list_append(&head, &items[0].node);
    pl_list_append(&head, &items[1].node);
    pl_list_remove(&items[0].node);
    pl_list_remove(&items[0].node);
    assert_int_equal(digits_of(&head), 2);
}

static void splice_moves_all_behind_the_rest(void **state)
{
    struct pl_list other;

    (void)state;
    pl_list_init(&other);
    pl_list_append(&head, &items[0].node);
    pl_list_splice(&head, &other);
    assert_int_equal(digits_of(&head), 1);
    pl_list_append(&other, &items[1].node);
    pl_list_append(&other, &items[2].node);
    pl_list_splice(&head, &other);
    assert_int_equal(digits_of(&head), 123);
    assert_true(pl_list_empty(&other));
}

static void a_safe_loop_may_remove_what_it_is_given(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        pl_list_append(&head, &items[i].node);
    }
    pl_list_foreach_safe(it, &head) {
        if (pl_container_of(it, struct item, node)->value % 2 == 0) {
            pl_list_remove(it);
        }
    }
    assert_int_equal(digits_of(&head), 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(appends_at_the_end, setup),
        cmocka_unit_test_setup(removing_twice_is_harmless, setup),
        cmocka_unit_test_setup(splice_moves_all_behind_the_rest, setup),
        cmocka_unit_test_setup(a_safe_loop_may_remove_what_it_is_given, setup),
    };

    return cmocka_run_group_tests_name("base/list", tests, NULL, NULL);
}
