#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "tests/unit/auth/signer.h"

#define EXP  "\"exp\":1800003600"
#define REST EXP ",\"communities\":[42]}"

static struct pl_auth *a;

static int claim_at(const char *payload, int64_t now_ms)
{
    return verify_once(a, sign_hmac("{\"alg\":\"HS256\"}", payload, "SHA256", SECRET), now_ms);
}

static int claim(const char *payload)
{
    return claim_at(payload, NOW_MS);
}

#define ASSERT_REFUSED(payload, word)                           \
    do {                                                        \
        assert_int_equal(claim(payload), PL_ERR_TOKEN_INVALID); \
        assert_non_null(strstr(last_reason(), word));           \
    } while (0)

static void a_user_is_an_integer_or_a_text_and_both_spellings_are_one(void **state)
{
    (void)state;
    assert_int_equal(claim("{\"sub\":7," REST), 0);
    assert_true(pl_str_eq(last_claims().user_id, PL_LIT("7")));
    assert_int_equal(claim("{\"sub\":\"7\"," REST), 0);
    assert_true(pl_str_eq(last_claims().user_id, PL_LIT("7")));
    assert_int_equal(claim("{\"sub\":\"ann@example.org\"," REST), 0);
    assert_true(pl_str_eq(last_claims().user_id, PL_LIT("ann@example.org")));
}

static void a_token_without_a_user_is_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("{" REST, "sub");
    ASSERT_REFUSED("{\"sub\":null," REST, "sub");
    ASSERT_REFUSED("{\"sub\":\"\"," REST, "sub");
    ASSERT_REFUSED("{\"sub\":1.5," REST, "sub");
    ASSERT_REFUSED("{\"sub\":[7]," REST, "sub");
}

static void a_token_without_an_end_is_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("{\"sub\":7,\"communities\":[42]}", "exp");
    ASSERT_REFUSED("{\"sub\":7,\"exp\":\"1800003600\",\"communities\":[42]}", "exp");
    ASSERT_REFUSED("{\"sub\":7,\"exp\":null,\"communities\":[42]}", "exp");
    ASSERT_REFUSED("{\"sub\":7,\"exp\":-1,\"communities\":[42]}", "exp");
    ASSERT_REFUSED("{\"sub\":7,\"exp\":1e300,\"communities\":[42]}", "exp");
}

static void times_in_milliseconds_are_told_apart(void **state)
{
    (void)state;
    ASSERT_REFUSED("{\"sub\":7,\"exp\":1800003600000,\"communities\":[42]}", "milliseconds");
    ASSERT_REFUSED("{\"sub\":7,\"iat\":1800000000000," REST, "milliseconds");
    ASSERT_REFUSED("{\"sub\":7,\"nbf\":1800000000000.5," REST, "milliseconds");
}

static void a_token_ends_when_exp_and_leeway_have_passed(void **state)
{
    const char *payload = "{\"sub\":7," REST;
    int64_t end_ms = INT64_C(1800003600) * 1000 + 30000;

    (void)state;
    assert_int_equal(claim_at(payload, end_ms - 1), 0);
    assert_int_equal(last_claims().exp_ms, INT64_C(1800003600000));
    assert_int_equal(claim_at(payload, end_ms), PL_ERR_TOKEN_EXPIRED);
    assert_non_null(strstr(last_reason(), "expired"));
    assert_int_equal(claim_at("{\"sub\":7,\"exp\":0,\"communities\":[]}", NOW_MS),
                     PL_ERR_TOKEN_EXPIRED);
}

static void fractions_of_seconds_are_kept_to_the_millisecond(void **state)
{
    (void)state;
    assert_int_equal(
        claim("{\"sub\":7,\"exp\":1800000000.25,\"iat\":1799999999.123,\"communities\":[42]}"), 0);
    assert_int_equal(last_claims().exp_ms, NOW_MS + 250);
    assert_int_equal(last_claims().iat_ms, NOW_MS - 877);
    assert_int_equal(claim("{\"sub\":7,\"exp\":1.8000036e9,\"communities\":[42]}"), 0);
    assert_int_equal(last_claims().exp_ms, NOW_MS + 3600000);
}

static void a_token_begins_at_nbf_less_the_leeway(void **state)
{
    (void)state;
    assert_int_equal(claim("{\"sub\":7,\"nbf\":1800000030," REST), 0);
    ASSERT_REFUSED("{\"sub\":7,\"nbf\":1800000030.001," REST, "nbf");
    ASSERT_REFUSED("{\"sub\":7,\"nbf\":\"soon\"," REST, "nbf");
}

static void iat_is_optional_and_not_in_the_future(void **state)
{
    (void)state;
    assert_int_equal(claim("{\"sub\":7," REST), 0);
    assert_int_equal(last_claims().iat_ms, -1);
    assert_int_equal(claim("{\"sub\":7,\"iat\":1800000030," REST), 0);
    ASSERT_REFUSED("{\"sub\":7,\"iat\":1800000031," REST, "iat");
    ASSERT_REFUSED("{\"sub\":7,\"iat\":true," REST, "iat");
}

static void a_token_lives_at_most_max_token_ttl(void **state)
{
    (void)state;
    assert_int_equal(claim("{\"sub\":7,\"iat\":1800000000,\"exp\":1800086400,\"communities\":[]}"),
                     0);
    ASSERT_REFUSED("{\"sub\":7,\"iat\":1800000000,\"exp\":1800086401,\"communities\":[]}",
                   "max_token_ttl");
    assert_int_equal(claim("{\"sub\":7,\"exp\":1800086400,\"communities\":[]}"), 0);
    ASSERT_REFUSED("{\"sub\":7,\"exp\":1800086401,\"communities\":[]}", "max_token_ttl");
}

static void communities_and_channels_may_stand_together_or_alone(void **state)
{
    struct pl_membership m;

    (void)state;
    assert_int_equal(claim("{\"sub\":7," EXP ",\"communities\":[43,42],\"channels\":[\"room:7\"]}"),
                     0);
    m = last_claims().membership;
    assert_int_equal(m.channel_count, 3);
    assert_true(pl_str_eq(m.channels[0], PL_LIT("community:42")));
    assert_true(pl_str_eq(m.channels[1], PL_LIT("community:43")));
    assert_true(pl_str_eq(m.channels[2], PL_LIT("room:7")));
    assert_int_equal(claim("{\"sub\":7," EXP ",\"channels\":[\"room:7\"]}"), 0);
    assert_int_equal(claim("{\"sub\":7," EXP ",\"communities\":[]}"), 0);
    assert_int_equal(last_claims().membership.channel_count, 0);
}

static void a_token_that_grants_nothing_readable_is_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("{\"sub\":7," EXP "}", "neither");
    ASSERT_REFUSED("{\"sub\":7," EXP ",\"communities\":42}", "communities");
    ASSERT_REFUSED("{\"sub\":7," EXP ",\"communities\":[\"x\"]}", "communities");
    ASSERT_REFUSED("{\"sub\":7," EXP ",\"channels\":[\"control\"]}", "channels");
    ASSERT_REFUSED("{\"sub\":7," EXP ",\"communities\":[1],\"subscriptions\":{}}", "subscriptions");
}

static void more_channels_than_a_user_may_have_are_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("{\"sub\":7," EXP ",\"communities\":[1,2,3,4,5]}", "more");
}

static void narrowing_travels_in_subscriptions(void **state)
{
    (void)state;
    assert_int_equal(claim("{\"sub\":7," EXP ",\"communities\":[42],"
                           "\"subscriptions\":[{\"community_id\":42,\"article_ids\":[789]}]}"),
                     0);
    assert_true(last_claims().membership.has_narrowing);
    assert_int_equal(last_claims().membership.narrowing_count, 1);
    assert_true(pl_str_eq(last_claims().membership.narrowing[0].topics[0], PL_LIT("789")));
}

static bool may_publish(const char *scope)
{
    char payload[256] = "{\"sub\":7,\"scope\":";

    strcat(payload, scope);
    strcat(payload, "," REST);
    assert_int_equal(claim(payload), 0);
    return last_claims().may_publish;
}

static void the_scope_publish_is_a_whole_word_in_a_text_or_an_array(void **state)
{
    (void)state;
    assert_true(may_publish("\"publish\""));
    assert_true(may_publish("\"read publish\""));
    assert_true(may_publish("\"publish  read\""));
    assert_true(may_publish("[\"read\",\"publish\"]"));
    assert_false(may_publish("\"\""));
    assert_false(may_publish("\"publisher\""));
    assert_false(may_publish("\"republish pub lish\""));
    assert_false(may_publish("[\"read publish\"]"));
    assert_false(may_publish("[]"));
}

static void a_scope_of_a_wrong_type_is_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("{\"sub\":7,\"scope\":true," REST, "scope");
    ASSERT_REFUSED("{\"sub\":7,\"scope\":[\"publish\",1]," REST, "scope");
    ASSERT_REFUSED("{\"sub\":7,\"scope\":null," REST, "scope");
}

static void a_payload_that_is_no_map_or_says_a_thing_twice_is_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("[]", "JSON Web Token");
    ASSERT_REFUSED("7", "JSON Web Token");
    ASSERT_REFUSED("", "JSON Web Token");
    ASSERT_REFUSED("{\"sub\":7,\"sub\":8," REST, "JSON Web Token");
}

static int make_auth(void **state)
{
    (void)state;
    a = AUTH("auth.jwt_key=" SECRET, "limits.channels_per_user=4");
    return 0;
}

static int free_auth(void **state)
{
    (void)state;
    forget_last();
    pl_auth_free(a);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_is_an_integer_or_a_text_and_both_spellings_are_one),
        cmocka_unit_test(a_token_without_a_user_is_refused),
        cmocka_unit_test(a_token_without_an_end_is_refused),
        cmocka_unit_test(times_in_milliseconds_are_told_apart),
        cmocka_unit_test(a_token_ends_when_exp_and_leeway_have_passed),
        cmocka_unit_test(fractions_of_seconds_are_kept_to_the_millisecond),
        cmocka_unit_test(a_token_begins_at_nbf_less_the_leeway),
        cmocka_unit_test(iat_is_optional_and_not_in_the_future),
        cmocka_unit_test(a_token_lives_at_most_max_token_ttl),
        cmocka_unit_test(communities_and_channels_may_stand_together_or_alone),
        cmocka_unit_test(a_token_that_grants_nothing_readable_is_refused),
        cmocka_unit_test(more_channels_than_a_user_may_have_are_refused),
        cmocka_unit_test(narrowing_travels_in_subscriptions),
        cmocka_unit_test(the_scope_publish_is_a_whole_word_in_a_text_or_an_array),
        cmocka_unit_test(a_scope_of_a_wrong_type_is_refused),
        cmocka_unit_test(a_payload_that_is_no_map_or_says_a_thing_twice_is_refused),
    };

    return cmocka_run_group_tests_name("auth/claims", tests, make_auth, free_auth);
}
