#include "server/auth/auth_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool decodes(const char *text, const char *expected)
{
    uint8_t out[64];
    size_t len = 99;

    return pl_auth__base64url_decode((struct pl_str){text, strlen(text)}, out, &len) &&
           len == strlen(expected) && memcmp(out, expected, len) == 0;
}

static bool is_refused(const char *text)
{
    uint8_t out[64];
    size_t len;

    return !pl_auth__base64url_decode((struct pl_str){text, strlen(text)}, out, &len);
}

static void every_length_decodes_without_padding(void **state)
{
    (void)state;
    assert_true(decodes("", ""));
    assert_true(decodes("Zg", "f"));
    assert_true(decodes("Zm8", "fo"));
    assert_true(decodes("Zm9v", "foo"));
    assert_true(decodes("Zm9vYmFy", "foobar"));
    assert_true(decodes("-_-_", "\xfb\xff\xbf"));
}

static void the_standard_alphabet_padding_and_blanks_are_refused(void **state)
{
    (void)state;
    assert_true(is_refused("+/+/"));
    assert_true(is_refused("Zg=="));
    assert_true(is_refused("Zm9v\n"));
    assert_true(is_refused("Zm 9v"));
    assert_true(is_refused("Zm9\xc3"));
}

static void a_lone_last_digit_is_refused(void **state)
{
    (void)state;
    assert_true(is_refused("Z"));
    assert_true(is_refused("A"));
    assert_true(is_refused("Zm9vA"));
}

static void a_second_spelling_of_the_same_bytes_is_refused(void **state)
{
    (void)state;
    assert_true(is_refused("Zh"));
    assert_true(is_refused("Zm9"));
    assert_true(is_refused("AAB"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_decodes_without_padding),
        cmocka_unit_test(the_standard_alphabet_padding_and_blanks_are_refused),
        cmocka_unit_test(a_lone_last_digit_is_refused),
        cmocka_unit_test(a_second_spelling_of_the_same_bytes_is_refused),
    };

    return cmocka_run_group_tests_name("auth/base64url", tests, NULL, NULL);
}
