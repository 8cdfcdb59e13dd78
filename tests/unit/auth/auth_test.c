#include "tests/unit/auth/signer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void nothing_configured_is_no_key_at_all(void **state)
{
    struct pl_auth *a = AUTH("auth.leeway=30s");

    (void)state;
    assert_false(pl_auth_has_jwt_key(a));
    assert_false(pl_auth_has_api_key(a));
    assert_int_equal(pl_auth_api_key(a, PL_LIT("")), -1);
    assert_int_equal(pl_auth_api_key(a, PL_LIT("x")), -1);
    pl_auth_free(a);
}

static void an_api_key_is_found_by_its_exact_text_and_answers_its_index(void **state)
{
    struct pl_auth *a = AUTH("auth.api_key=first-key", "auth.api_key=second-key-is-longer");

    (void)state;
    assert_true(pl_auth_has_api_key(a));
    assert_false(pl_auth_has_jwt_key(a));
    assert_int_equal(pl_auth_api_key(a, PL_LIT("first-key")), 0);
    assert_int_equal(pl_auth_api_key(a, PL_LIT("second-key-is-longer")), 1);
    assert_int_equal(pl_auth_api_key(a, PL_LIT("First-key")), -1);
    pl_auth_free(a);
}

static void no_prefix_extension_or_empty_text_passes_for_an_api_key(void **state)
{
    struct pl_auth *a = AUTH("auth.api_key=first-key");
    static const char long_key[] = "first-key-and-more";

    (void)state;
    for (size_t len = 0; len < sizeof(long_key); len++) {
        assert_int_equal(pl_auth_api_key(a, (struct pl_str){long_key, len}), len == 9 ? 0 : -1);
    }
    assert_int_equal(pl_auth_api_key(a, (struct pl_str){"first-key\0", 10}), -1);
    pl_auth_free(a);
}

static void an_empty_api_key_counts_as_none(void **state)
{
    struct pl_auth *a = AUTH("auth.api_key=");

    (void)state;
    assert_false(pl_auth_has_api_key(a));
    assert_int_equal(pl_auth_api_key(a, PL_LIT("")), -1);
    pl_auth_free(a);
}

static void freeing_nothing_is_harmless(void **state)
{
    (void)state;
    pl_auth_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_configured_is_no_key_at_all),
        cmocka_unit_test(an_api_key_is_found_by_its_exact_text_and_answers_its_index),
        cmocka_unit_test(no_prefix_extension_or_empty_text_passes_for_an_api_key),
        cmocka_unit_test(an_empty_api_key_counts_as_none),
        cmocka_unit_test(freeing_nothing_is_harmless),
    };

    return cmocka_run_group_tests_name("auth/auth", tests, NULL, NULL);
}
