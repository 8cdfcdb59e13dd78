#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "tests/unit/auth/signer.h"

static struct pl_str channels[] = {PL_LIT("community:42"), PL_LIT("community:43"),
                                   PL_LIT("room:7")};
static const struct pl_membership membership = {.channels = channels, .channel_count = 3};

static struct pl_mint mint_for(int64_t ttl_s, bool may_publish)
{
    return (struct pl_mint){PL_LIT("ann"), &membership, may_publish, ttl_s};
}

static void a_minted_token_verifies_with_the_same_keys_and_says_what_it_was_told(void **state)
{
    struct pl_auth *a = AUTH("auth.jwt_key=" SECRET);
    struct pl_mint m = mint_for(3600, true);
    struct pl_claims c;
    char *token;

    (void)state;
    assert_int_equal(pl_auth_mint(a, &m, NOW_MS + 999, &token), 0);
    assert_int_equal(verify_once(a, token, NOW_MS + 999), 0);
    c = last_claims();
    assert_true(pl_str_eq(c.user_id, PL_LIT("ann")));
    assert_int_equal(c.iat_ms, NOW_MS);
    assert_int_equal(c.exp_ms, NOW_MS + 3600 * 1000);
    assert_true(c.may_publish);
    assert_int_equal(c.membership.channel_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(pl_str_eq(c.membership.channels[i], channels[i]));
    }
    assert_false(c.membership.has_narrowing);
    forget_last();
    pl_auth_free(a);
}

static void the_right_to_publish_is_only_there_when_asked_for(void **state)
{
    struct pl_auth *a = AUTH("auth.jwt_key=" SECRET);
    struct pl_mint m = mint_for(60, false);
    char *token;

    (void)state;
    assert_int_equal(pl_auth_mint(a, &m, NOW_MS, &token), 0);
    assert_int_equal(verify_once(a, token, NOW_MS), 0);
    assert_false(last_claims().may_publish);
    forget_last();
    pl_auth_free(a);
}

static void the_first_key_signs_and_its_kid_is_named(void **state)
{
    struct pl_auth *a = AUTH("auth.jwt_key=kid:new " SECRET, "auth.jwt_key=kid:old " SECRET2);
    struct pl_auth *only_new = AUTH("auth.jwt_key=kid:new " SECRET);
    struct pl_mint m = mint_for(60, false);
    char *token;

    (void)state;
    assert_int_equal(pl_auth_mint(a, &m, NOW_MS, &token), 0);
    assert_int_equal(verify_once(only_new, token, NOW_MS), 0);
    forget_last();
    pl_auth_free(a);
    pl_auth_free(only_new);
}

static void every_hmac_algorithm_signs(void **state)
{
    struct pl_auth *by_alg[] = {AUTH("auth.jwt_key=" SECRET, "auth.jwt_algorithm=HS384"),
                                AUTH("auth.jwt_key=" SECRET, "auth.jwt_algorithm=HS512")};
    struct pl_mint m = mint_for(60, false);
    char *token;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pl_auth_mint(by_alg[i], &m, NOW_MS, &token), 0);
        assert_int_equal(verify_at(by_alg[i], token, NOW_MS), 0);
        assert_int_equal(verify_once(by_alg[1 - i], token, NOW_MS), PL_ERR_TOKEN_INVALID);
    }
    forget_last();
    pl_auth_free(by_alg[0]);
    pl_auth_free(by_alg[1]);
}

static void nothing_is_minted_without_a_secret_or_for_too_long(void **state)
{
    struct pl_auth *none = AUTH("auth.leeway=30s");
    struct pl_auth *public_key =
        AUTH("auth.jwt_algorithm=RS256", "auth.jwt_key_file=" KEYS_DIR "/rsa.pub.pem");
    struct pl_auth *short_lived = AUTH("auth.jwt_key=" SECRET, "auth.max_token_ttl=1h");
    struct pl_mint m = mint_for(3601, false);
    char *token = NULL;

    (void)state;
    assert_int_equal(pl_auth_mint(none, &m, NOW_MS, &token), PL_ERR_INVALID);
    assert_int_equal(pl_auth_mint(public_key, &m, NOW_MS, &token), PL_ERR_INVALID);
    assert_int_equal(pl_auth_mint(short_lived, &m, NOW_MS, &token), PL_ERR_INVALID);
    assert_null(token);
    pl_auth_free(none);
    pl_auth_free(public_key);
    pl_auth_free(short_lived);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minted_token_verifies_with_the_same_keys_and_says_what_it_was_told),
        cmocka_unit_test(the_right_to_publish_is_only_there_when_asked_for),
        cmocka_unit_test(the_first_key_signs_and_its_kid_is_named),
        cmocka_unit_test(every_hmac_algorithm_signs),
        cmocka_unit_test(nothing_is_minted_without_a_secret_or_for_too_long),
    };

    return cmocka_run_group_tests_name("auth/mint", tests, NULL, NULL);
}
