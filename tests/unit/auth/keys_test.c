#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/log.h"
#include "tests/unit/auth/signer.h"

#define FILE_OPTION(file) "auth.jwt_key_file=" KEYS_DIR "/" file

static char logged[512];

static void keep_line(const char *line, void *arg)
{
    (void)arg;
    snprintf(logged, sizeof(logged), "%s", line);
}

static void a_secret_files_last_newline_is_not_part_of_the_secret(void **state)
{
    struct pl_auth *a = AUTH(FILE_OPTION("hs.secret"));
    char *token =
        sign_hmac("{\"alg\":\"HS256\"}", GOOD_CLAIMS, "SHA256", "a secret of thirty-two bytes....");

    (void)state;
    assert_int_equal(verify_once(a, token, NOW_MS), 0);
    forget_last();
    pl_auth_free(a);
}

static void a_missing_key_file_is_named_with_its_option(void **state)
{
    const char *text = AUTH_ERROR(FILE_OPTION("none.pem"));

    (void)state;
    assert_non_null(strstr(text, "auth.jwt_key_file"));
    assert_non_null(strstr(text, "none.pem"));
    assert_non_null(strstr(text, "No such file"));
}

static void a_directory_or_a_device_without_end_is_no_key_file(void **state)
{
    (void)state;
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key_file=/"), "directory"));
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key_file=/dev/zero"), "larger than"));
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key_file=/dev/null"), "empty"));
}

static void a_pem_key_as_secret_of_an_hmac_is_refused(void **state)
{
    (void)state;
    assert_non_null(strstr(AUTH_ERROR(FILE_OPTION("rsa.pub.pem")), "HS"));
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key=-----BEGIN PUBLIC KEY-----"), "auth.jwt_key"));
}

static void a_key_of_another_kind_than_the_algorithm_is_refused(void **state)
{
    (void)state;
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=RS256", FILE_OPTION("ec256.pub.pem")), "RSA"));
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=RS256", FILE_OPTION("rsa1024.pub.pem")), "2048"));
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=ES256", FILE_OPTION("rsa.pub.pem")), "P-256"));
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=ES256", FILE_OPTION("ec384.pub.pem")), "P-256"));
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=ES384", FILE_OPTION("ec256.pub.pem")), "P-384"));
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=ES512", FILE_OPTION("ec256.pub.pem")), "P-521"));
}

static void a_private_key_is_refused_where_a_public_one_belongs(void **state)
{
    (void)state;
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=RS256", FILE_OPTION("rsa.pem")), "public"));
}

static void a_pem_cut_at_any_byte_is_refused(void **state)
{
    char *pem = read_key("ec256.pub.pem");
    size_t whole = strlen("-----END PUBLIC KEY-----") + (size_t)(strstr(pem, "-----END") - pem);
    char option[1024];

    (void)state;
    for (size_t len = 1; len < whole; len++) {
        snprintf(option, sizeof(option), "auth.jwt_key=%.*s", (int)len, pem);
        assert_non_null(strstr(AUTH_ERROR("auth.jwt_algorithm=ES256", option), "auth.jwt_key"));
    }
    free(pem);
}

static void an_error_never_shows_a_key(void **state)
{
    (void)state;
    assert_null(strstr(AUTH_ERROR("auth.jwt_key=kid:topsecret"), "topsecret"));
    assert_null(
        strstr(AUTH_ERROR("auth.jwt_algorithm=ES256", "auth.jwt_key=topsecret"), "topsecret"));
}

static void a_kid_without_key_or_name_is_refused(void **state)
{
    (void)state;
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key=kid:a"), "blank"));
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key=kid: " SECRET), "blank"));
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key=kid:a "), "empty"));
    assert_non_null(strstr(AUTH_ERROR("auth.jwt_key_file=kid:a"), "auth.jwt_key_file"));
}

static void one_kid_cannot_name_two_keys(void **state)
{
    (void)state;
    assert_non_null(
        strstr(AUTH_ERROR("auth.jwt_key=kid:a " SECRET, "auth.jwt_key=kid:a " SECRET2), "kid"));
}

static void a_secret_may_hold_blanks_and_file_names_may_carry_a_kid(void **state)
{
    struct pl_auth *a =
        AUTH("auth.jwt_key_file=kid:f " KEYS_DIR "/hs.secret", "auth.jwt_key=kid:b b c d");

    (void)state;
    assert_int_equal(
        verify_once(a,
                    sign_hmac("{\"alg\":\"HS256\",\"kid\":\"b\"}", GOOD_CLAIMS, "SHA256", "b c d"),
                    NOW_MS),
        0);
    assert_int_equal(verify_once(a,
                                 sign_hmac("{\"alg\":\"HS256\",\"kid\":\"f\"}", GOOD_CLAIMS,
                                           "SHA256", "a secret of thirty-two bytes...."),
                                 NOW_MS),
                     0);
    forget_last();
    pl_auth_free(a);
}

static void a_short_secret_loads_with_a_warning_that_does_not_show_it(void **state)
{
    (void)state;
    logged[0] = '\0';
    pl_auth_free(AUTH("auth.jwt_key=" SECRET));
    assert_string_equal(logged, "");
    pl_auth_free(AUTH("auth.jwt_key=topsecret"));
    assert_non_null(strstr(logged, "auth_short_secret"));
    assert_non_null(strstr(logged, "auth.jwt_key"));
    assert_null(strstr(logged, "topsecret"));
}

static int redirect_log(void **state)
{
    (void)state;
    pl_log_redirect(keep_line, NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_files_last_newline_is_not_part_of_the_secret),
        cmocka_unit_test(a_missing_key_file_is_named_with_its_option),
        cmocka_unit_test(a_directory_or_a_device_without_end_is_no_key_file),
        cmocka_unit_test(a_pem_key_as_secret_of_an_hmac_is_refused),
        cmocka_unit_test(a_key_of_another_kind_than_the_algorithm_is_refused),
        cmocka_unit_test(a_private_key_is_refused_where_a_public_one_belongs),
        cmocka_unit_test(a_pem_cut_at_any_byte_is_refused),
        cmocka_unit_test(an_error_never_shows_a_key),
        cmocka_unit_test(a_kid_without_key_or_name_is_refused),
        cmocka_unit_test(one_kid_cannot_name_two_keys),
        cmocka_unit_test(a_short_secret_loads_with_a_warning_that_does_not_show_it),
        cmocka_unit_test(a_secret_may_hold_blanks_and_file_names_may_carry_a_kid),
    };

    return cmocka_run_group_tests_name("auth/keys", tests, redirect_log, NULL);
}
