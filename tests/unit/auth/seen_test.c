#include "server/auth/auth_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct pl_str str(const char *s)
{
    return (struct pl_str){s, strlen(s)};
}

static void a_token_is_known_after_it_was_added_and_no_other_is(void **state)
{
    struct pl_auth__seen s;

    (void)state;
    pl_auth__seen_init(&s, 10);
    assert_false(pl_auth__seen_find(&s, str("a.b.c")));
    pl_auth__seen_add(&s, str("a.b.c"));
    assert_true(pl_auth__seen_find(&s, str("a.b.c")));
    assert_false(pl_auth__seen_find(&s, str("a.b.d")));
    assert_false(pl_auth__seen_find(&s, str("a.b.")));
    pl_auth__seen_done(&s);
}

static void adding_twice_holds_it_once(void **state)
{
    struct pl_auth__seen s;

    (void)state;
    pl_auth__seen_init(&s, 10);
    pl_auth__seen_add(&s, str("a"));
    pl_auth__seen_add(&s, str("a"));
    assert_int_equal(s.map.count, 1);
    pl_auth__seen_done(&s);
}

static void the_least_recently_used_makes_room(void **state)
{
    struct pl_auth__seen s;

    (void)state;
    pl_auth__seen_init(&s, 2);
    pl_auth__seen_add(&s, str("a"));
    pl_auth__seen_add(&s, str("b"));
    assert_true(pl_auth__seen_find(&s, str("a")));
    pl_auth__seen_add(&s, str("c"));
    assert_int_equal(s.map.count, 2);
    assert_true(pl_auth__seen_find(&s, str("a")));
    assert_false(pl_auth__seen_find(&s, str("b")));
    assert_true(pl_auth__seen_find(&s, str("c")));
    pl_auth__seen_done(&s);
}

static void the_longest_token_fits(void **state)
{
    static char token[PL_AUTH__TOKEN_MAX];
    struct pl_auth__seen s;

    (void)state;
    memset(token, 'x', sizeof(token));
    pl_auth__seen_init(&s, 2);
    pl_auth__seen_add(&s, (struct pl_str){token, sizeof(token)});
    assert_true(pl_auth__seen_find(&s, (struct pl_str){token, sizeof(token)}));
    assert_false(pl_auth__seen_find(&s, (struct pl_str){token, sizeof(token) - 1}));
    pl_auth__seen_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_known_after_it_was_added_and_no_other_is),
        cmocka_unit_test(adding_twice_holds_it_once),
        cmocka_unit_test(the_least_recently_used_makes_room),
        cmocka_unit_test(the_longest_token_fits),
    };

    return cmocka_run_group_tests_name("auth/seen", tests, NULL, NULL);
}
