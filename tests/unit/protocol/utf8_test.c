#include "protocol/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The definition, spelled out: encode every code point and see what is valid. */
static size_t encode_code_point(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static void every_code_point_but_surrogates_is_valid(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        char bytes[4];
        size_t len = encode_code_point(c, bytes);

        assert_int_equal(pl_utf8_valid(bytes, len), c <= 0x10ffff && (c < 0xd800 || c > 0xdfff));
    }
}

static void a_character_cut_short_is_invalid(void **state)
{
    const uint32_t points[] = {0xe9, 0x20ac, 0x1f600};

    (void)state;
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        char bytes[4];
        size_t len = encode_code_point(points[i], bytes);

        for (size_t cut = 1; cut < len; cut++) {
            assert_int_equal(pl_utf8_valid_prefix(bytes, cut), 0);
        }
    }
}

static void overlong_forms_and_stray_bytes_are_invalid(void **state)
{
    const char *const bad[] = {"\xc0\x80",
                               "\xc1\xbf",
                               "\xe0\x80\x80",
                               "\xe0\x9f\xbf",
                               "\xf0\x8f\xbf\xbf",
                               "\xf4\x90\x80\x80",
                               "\x80",
                               "\xbf",
                               "\xfe",
                               "\xff",
                               "\xc3\x28",
                               "\xe2\x82\x28",
                               "\xf0\x9f\x98\x28"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(pl_utf8_valid(bad[i], strlen(bad[i])));
    }
}

static void the_prefix_ends_before_the_first_bad_byte_wherever_it_is(void **state)
{
    (void)state;
    for (size_t len = 1; len <= 40; len++) {
        for (size_t at = 0; at < len; at++) {
            char *text = malloc(len);

            memset(text, 'a', len);
            text[at] = (char)0xff;
            assert_int_equal(pl_utf8_valid_prefix(text, len), at);
            free(text);
        }
    }
}

static void nothing_is_valid(void **state)
{
    (void)state;
    assert_true(pl_utf8_valid("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_but_surrogates_is_valid),
        cmocka_unit_test(a_character_cut_short_is_invalid),
        cmocka_unit_test(overlong_forms_and_stray_bytes_are_invalid),
        cmocka_unit_test(the_prefix_ends_before_the_first_bad_byte_wherever_it_is),
        cmocka_unit_test(nothing_is_valid),
    };

    return cmocka_run_group_tests_name("protocol/utf8", tests, NULL, NULL);
}
