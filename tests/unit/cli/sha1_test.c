#include "server/cli/sha1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void assert_sha1(const char *text, size_t len, const char *expected_hex)
{
    char hex[41];
    uint8_t out[20];

    pl_cli_sha1(text, len, out);
    for (int i = 0; i < 20; i++) {
        snprintf(hex + 2 * i, 3, "%02x", out[i]);
    }
    assert_string_equal(hex, expected_hex);
}

static void the_examples_of_the_standard_come_out(void **state)
{
    static char million[1000000];

    (void)state;
    memset(million, 'a', sizeof(million));
    assert_sha1("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_sha1("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    assert_sha1(million, sizeof(million), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

static void lengths_around_a_block_are_padded_right(void **state)
{
    static const struct {
        size_t len;
        const char *hex;
    } cases[] = {{55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"},
                 {56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"},
                 {63, "03f09f5b158a7a8cdad920bddc29b81c18a551f5"},
                 {64, "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
                 {65, "11655326c708d70319be2610e8a57d9a5b959d3b"}};
    char text[65];

    (void)state;
    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_sha1(text, cases[i].len, cases[i].hex);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_standard_come_out),
        cmocka_unit_test(lengths_around_a_block_are_padded_right),
    };

    return cmocka_run_group_tests_name("cli/sha1", tests, NULL, NULL);
}
