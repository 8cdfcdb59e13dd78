#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "server/auth/auth_priv.h"
#include "server/base/alloc.h"
#include "tests/unit/auth/signer.h"

#define HS256 "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define RS256 "{\"alg\":\"RS256\",\"typ\":\"JWT\"}"
#define KEY   "auth.jwt_key=" SECRET

static void assert_invalid(struct pl_auth *a, char *token, const char *word)
{
    assert_int_equal(verify_once(a, token, NOW_MS), PL_ERR_TOKEN_INVALID);
    assert_non_null(strstr(last_reason(), word));
}

static void finish(struct pl_auth *a)
{
    forget_last();
    pl_auth_free(a);
}

static void each_hmac_verifies_under_its_own_name_only(void **state)
{
    static const char *const names[] = {"256", "384", "512"};
    char option[64], header[64], hash[16];

    (void)state;
    for (size_t bound = 0; bound < 3; bound++) {
        struct pl_auth *a;

        snprintf(option, sizeof(option), "auth.jwt_algorithm=HS%s", names[bound]);
        a = AUTH(KEY, option);
        for (size_t i = 0; i < 3; i++) {
            snprintf(header, sizeof(header), "{\"alg\":\"HS%s\"}", names[i]);
            snprintf(hash, sizeof(hash), "SHA%s", names[i]);
            assert_int_equal(verify_once(a, sign_hmac(header, GOOD_CLAIMS, hash, SECRET), NOW_MS),
                             i == bound ? 0 : PL_ERR_TOKEN_INVALID);
        }
        finish(a);
    }
}

static void the_algorithm_none_is_refused_in_every_spelling(void **state)
{
    static const char *const headers[] = {
        "{\"alg\":\"none\"}", "{\"alg\":\"None\"}", "{\"alg\":\"NONE\"}",   "{\"alg\":\"\"}",
        "{\"alg\":null}",     "{\"typ\":\"JWT\"}",  "{\"alg\":[\"HS256\"]}"};
    struct pl_auth *a = AUTH(KEY);

    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        assert_invalid(a, unsigned_token(headers[i], GOOD_CLAIMS), "alg");
        assert_invalid(a, sign_hmac(headers[i], GOOD_CLAIMS, "SHA256", SECRET), "alg");
    }
    assert_invalid(a, unsigned_token(HS256, GOOD_CLAIMS), "signature");
    finish(a);
}

/* The public key is public: were it taken as the secret of an HMAC, anybody could sign. */
static void an_hmac_made_with_the_public_key_is_refused(void **state)
{
    struct pl_auth *a =
        AUTH("auth.jwt_algorithm=RS256", "auth.jwt_key_file=" KEYS_DIR "/rsa.pub.pem");
    char *pem = read_key("rsa.pub.pem");

    (void)state;
    assert_invalid(a, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", pem), "alg");
    assert_invalid(a, sign_hmac(RS256, GOOD_CLAIMS, "SHA256", pem), "signature");
    free(pem);
    finish(a);
}

static void the_algorithms_name_is_taken_to_the_letter(void **state)
{
    struct pl_auth *a = AUTH(KEY);

    (void)state;
    assert_invalid(a, sign_hmac("{\"alg\":\"hs256\"}", GOOD_CLAIMS, "SHA256", SECRET), "alg");
    assert_invalid(a, sign_hmac("{\"alg\":\"HS256 \"}", GOOD_CLAIMS, "SHA256", SECRET), "alg");
    assert_invalid(a,
                   sign_hmac("{\"alg\":\"HS256\",\"alg\":\"none\"}", GOOD_CLAIMS, "SHA256", SECRET),
                   "JSON Web Token");
    finish(a);
}

static void headers_that_ask_for_more_than_is_done_here_are_refused(void **state)
{
    struct pl_auth *a = AUTH(KEY);

    (void)state;
    assert_invalid(
        a, sign_hmac("{\"alg\":\"HS256\",\"crit\":[\"b64\"]}", GOOD_CLAIMS, "SHA256", SECRET),
        "crit");
    assert_invalid(
        a, sign_hmac("{\"alg\":\"HS256\",\"typ\":\"JWE\"}", GOOD_CLAIMS, "SHA256", SECRET), "typ");
    assert_invalid(a, sign_hmac("{\"alg\":\"HS256\",\"typ\":1}", GOOD_CLAIMS, "SHA256", SECRET),
                   "typ");
    assert_invalid(a, sign_hmac("{\"alg\":\"HS256\",\"kid\":1}", GOOD_CLAIMS, "SHA256", SECRET),
                   "kid");
    assert_int_equal(
        verify_once(a,
                    sign_hmac("{\"alg\":\"HS256\",\"typ\":\"jwt\"}", GOOD_CLAIMS, "SHA256", SECRET),
                    NOW_MS),
        0);
    finish(a);
}

static void another_secret_is_refused(void **state)
{
    struct pl_auth *a = AUTH(KEY);

    (void)state;
    assert_invalid(a, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET2), "signature");
    assert_invalid(a, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", ""), "signature");
    finish(a);
}

static char *by_kid(const char *kid, const char *secret)
{
    char header[64];

    snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"%s\"}", kid);
    return sign_hmac(header, GOOD_CLAIMS, "SHA256", secret);
}

static void keys_are_rotated_by_their_kid(void **state)
{
    struct pl_auth *a = AUTH("auth.jwt_key=kid:new " SECRET, "auth.jwt_key=kid:old " SECRET2);

    (void)state;
    assert_int_equal(verify_once(a, by_kid("new", SECRET), NOW_MS), 0);
    assert_int_equal(verify_once(a, by_kid("old", SECRET2), NOW_MS), 0);
    assert_invalid(a, by_kid("old", SECRET), "signature");
    assert_invalid(a, by_kid("new", SECRET2), "signature");
    finish(a);
}

static void a_token_of_an_unknown_or_no_kid_needs_a_key_without_name(void **state)
{
    struct pl_auth *named = AUTH("auth.jwt_key=kid:a " SECRET);
    struct pl_auth *both = AUTH("auth.jwt_key=kid:a " SECRET, "auth.jwt_key=" SECRET2);

    (void)state;
    assert_invalid(named, by_kid("b", SECRET), "signature");
    assert_invalid(named, by_kid("", SECRET), "signature");
    assert_invalid(named, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET), "signature");
    assert_int_equal(verify_once(both, by_kid("b", SECRET2), NOW_MS), 0);
    assert_int_equal(verify_once(both, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET2), NOW_MS),
                     0);
    assert_invalid(both, by_kid("a", SECRET2), "signature");
    assert_invalid(both, by_kid("b", SECRET), "signature");
    pl_auth_free(named);
    finish(both);
}

static void of_several_keys_without_name_each_is_tried(void **state)
{
    struct pl_auth *a = AUTH(KEY, "auth.jwt_key=" SECRET2);

    (void)state;
    assert_int_equal(verify_once(a, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET), NOW_MS), 0);
    assert_int_equal(verify_once(a, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET2), NOW_MS), 0);
    finish(a);
}

static void without_a_key_no_token_is_good(void **state)
{
    struct pl_auth *a = AUTH("auth.leeway=30s");

    (void)state;
    assert_invalid(a, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET), "auth.jwt_key");
    assert_invalid(a, unsigned_token("{\"alg\":\"none\"}", GOOD_CLAIMS), "auth.jwt_key");
    finish(a);
}

static void a_token_cut_at_any_byte_is_refused(void **state)
{
    struct pl_auth *a = AUTH(KEY);
    char *token = sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET);

    (void)state;
    for (size_t len = 0; len < strlen(token); len++) {
        assert_int_equal(verify_bytes(a, token, len, NOW_MS), PL_ERR_TOKEN_INVALID);
    }
    assert_int_equal(verify_at(a, token, NOW_MS), 0);
    free(token);
    finish(a);
}

static void a_token_changed_at_any_byte_is_refused(void **state)
{
    struct pl_auth *a = AUTH(KEY);
    char *token = sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET);

    (void)state;
    for (size_t i = 0; i < strlen(token); i++) {
        static const char others[] = {'A', 'B', '.', '=', '+', ' ', '\0', '\n', '\xff'};
        char kept = token[i];
        size_t len = strlen(token);

        for (size_t j = 0; j < sizeof(others); j++) {
            token[i] = others[j];
            assert_int_equal(verify_bytes(a, token, len, NOW_MS),
                             others[j] == kept ? 0 : PL_ERR_TOKEN_INVALID);
        }
        token[i] = kept;
    }
    free(token);
    finish(a);
}

static void what_is_not_three_base64url_parts_is_refused(void **state)
{
    static const char *const texts[] = {"",   ".",    "..",      "...",         "a.b.c",
                                        "{}", "a.b.", "e30.e30", "e30.e30.e30", "e30.e30.e30.e30"};
    struct pl_auth *a = AUTH(KEY);
    char *token = sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET), padded[1024];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(verify_at(a, texts[i], NOW_MS), PL_ERR_TOKEN_INVALID);
    }
    snprintf(padded, sizeof(padded), "%s=", token);
    assert_invalid(a, pl_strdup(padded), "base64url");
    snprintf(padded, sizeof(padded), "%s.e30", token);
    assert_invalid(a, pl_strdup(padded), "base64url");
    snprintf(padded, sizeof(padded), " %s", token);
    assert_invalid(a, pl_strdup(padded), "base64url");
    free(token);
    finish(a);
}

/* A token of exactly this many bytes, or one or two less: base64 cannot hit every length. */
static char *token_of_about(size_t bytes)
{
    size_t around = strlen("..") + 27 + 43, fill;
    char payload[8192];

    fill = (bytes - around) * 3 / 4 -
           strlen("{\"sub\":7,\"x\":\"\",\"exp\":1800003600,\"communities\":[]}");
    snprintf(payload, sizeof(payload),
             "{\"sub\":7,\"x\":\"%0*d\",\"exp\":1800003600,\"communities\":[]}", (int)fill, 0);
    return sign_hmac("{\"alg\":\"HS256\"}", payload, "SHA256", SECRET);
}

static void a_token_longer_than_8192_bytes_is_refused_unread(void **state)
{
    struct pl_auth *a = AUTH(KEY);
    char *longest = token_of_about(8200 - 16), *too_long = token_of_about(8220);

    (void)state;
    assert_in_range(strlen(longest), 8150, 8192);
    assert_in_range(strlen(too_long), 8193, 8250);
    assert_int_equal(verify_once(a, longest, NOW_MS), 0);
    assert_invalid(a, too_long, "8192");
    finish(a);
}

static void deep_nesting_and_bad_text_in_a_signed_payload_are_refused(void **state)
{
    struct pl_auth *a = AUTH(KEY);
    char deep[512] = "{\"sub\":7,\"exp\":1800003600,\"communities\":[],\"x\":";

    (void)state;
    for (int i = 0; i < 40; i++) {
        strcat(deep, "[");
    }
    for (int i = 0; i < 40; i++) {
        strcat(deep, "]");
    }
    strcat(deep, "}");
    assert_invalid(a, sign_hmac(HS256, deep, "SHA256", SECRET), "JSON Web Token");
    assert_invalid(a,
                   sign_hmac(HS256, "{\"sub\":\"\xff\",\"exp\":1800003600,\"communities\":[]}",
                             "SHA256", SECRET),
                   "JSON Web Token");
    finish(a);
}

static void each_ecdsa_verifies_with_its_own_curve(void **state)
{
    static const char *const names[] = {"256", "384", "512"}, *const curves[] = {"256", "384",
                                                                                 "521"};
    char algorithm[64], key[512], header[64], hash[16], private_key[32];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct pl_auth *a;
        char *token;

        snprintf(algorithm, sizeof(algorithm), "auth.jwt_algorithm=ES%s", names[i]);
        snprintf(key, sizeof(key), "auth.jwt_key_file=%s/ec%s.pub.pem", KEYS_DIR, curves[i]);
        snprintf(header, sizeof(header), "{\"alg\":\"ES%s\"}", names[i]);
        snprintf(hash, sizeof(hash), "SHA%s", names[i]);
        snprintf(private_key, sizeof(private_key), "ec%s.pem", curves[i]);
        a = AUTH(algorithm, key);
        token = sign_pem(header, GOOD_CLAIMS, hash, private_key);
        assert_int_equal(verify_at(a, token, NOW_MS), 0);
        token[strlen(token) - 8] ^= 1;
        assert_int_equal(verify_once(a, token, NOW_MS), PL_ERR_TOKEN_INVALID);
        finish(a);
    }
}

static void a_signature_by_another_rsa_key_is_refused(void **state)
{
    struct pl_auth *right =
        AUTH("auth.jwt_algorithm=RS256", "auth.jwt_key_file=" KEYS_DIR "/rsa.pub.pem");
    struct pl_auth *wrong =
        AUTH("auth.jwt_algorithm=RS256", "auth.jwt_key_file=" KEYS_DIR "/rsa_other.pub.pem");
    char *token = sign_pem(RS256, GOOD_CLAIMS, "SHA256", "rsa.pem");

    (void)state;
    assert_int_equal(verify_at(right, token, NOW_MS), 0);
    assert_invalid(wrong, token, "signature");
    pl_auth_free(right);
    finish(wrong);
}

static void a_costly_signature_is_checked_once_and_times_always(void **state)
{
    struct pl_auth *a =
        AUTH("auth.jwt_algorithm=RS256", "auth.jwt_key_file=" KEYS_DIR "/rsa.pub.pem");
    char *token = sign_pem(RS256, GOOD_CLAIMS, "SHA256", "rsa.pem");

    (void)state;
    assert_int_equal(verify_at(a, token, NOW_MS), 0);
    assert_int_equal(a->seen.map.count, 1);
    /* With the key spoilt, only what is remembered can still be good. */
    memset(a->keys.items[0].bytes, 'x', a->keys.items[0].len);
    assert_int_equal(verify_at(a, token, NOW_MS), 0);
    assert_int_equal(last_claims().exp_ms, NOW_MS + 3600000);
    assert_int_equal(verify_at(a, token, NOW_MS + 3630000), PL_ERR_TOKEN_EXPIRED);
    token[strlen(token) - 8] ^= 1;
    assert_invalid(a, token, "signature");
    assert_int_equal(a->seen.map.count, 1);
    finish(a);
}

static void cheap_signatures_are_not_remembered(void **state)
{
    struct pl_auth *a = AUTH(KEY);

    (void)state;
    assert_int_equal(verify_once(a, sign_hmac(HS256, GOOD_CLAIMS, "SHA256", SECRET), NOW_MS), 0);
    assert_int_equal(a->seen.map.count, 0);
    finish(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_hmac_verifies_under_its_own_name_only),
        cmocka_unit_test(the_algorithm_none_is_refused_in_every_spelling),
        cmocka_unit_test(an_hmac_made_with_the_public_key_is_refused),
        cmocka_unit_test(the_algorithms_name_is_taken_to_the_letter),
        cmocka_unit_test(headers_that_ask_for_more_than_is_done_here_are_refused),
        cmocka_unit_test(another_secret_is_refused),
        cmocka_unit_test(keys_are_rotated_by_their_kid),
        cmocka_unit_test(a_token_of_an_unknown_or_no_kid_needs_a_key_without_name),
        cmocka_unit_test(of_several_keys_without_name_each_is_tried),
        cmocka_unit_test(without_a_key_no_token_is_good),
        cmocka_unit_test(a_token_cut_at_any_byte_is_refused),
        cmocka_unit_test(a_token_changed_at_any_byte_is_refused),
        cmocka_unit_test(what_is_not_three_base64url_parts_is_refused),
        cmocka_unit_test(a_token_longer_than_8192_bytes_is_refused_unread),
        cmocka_unit_test(deep_nesting_and_bad_text_in_a_signed_payload_are_refused),
        cmocka_unit_test(each_ecdsa_verifies_with_its_own_curve),
        cmocka_unit_test(a_signature_by_another_rsa_key_is_refused),
        cmocka_unit_test(a_costly_signature_is_checked_once_and_times_always),
        cmocka_unit_test(cheap_signatures_are_not_remembered),
    };

    return cmocka_run_group_tests_name("auth/verify", tests, NULL, NULL);
}
