#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "tests/unit/protocol/values.h"

static const char publish[] =
    "{\"op\":\"publish\",\"id\":\"a-1\",\"type\":\"new_comment\",\"data\":{\"article_id\":789,"
    "\"community_id\":42,\"text\":\"h\\u00e9 \xe2\x82\xac \\ud83d\\ude00\",\"score\":-1.5e3,"
    "\"ok\":true,\"none\":null},\"community_ids\":[42,43]}";

static void decodes_to(const char *json, size_t len, const char *written)
{
    struct pl_arena arena = {0};
    struct pl_buf out = {0};
    const struct pl_value *v = NULL;

    assert_int_equal(decode_exactly(PL_JSON, json, len, &arena, &v, NULL), 0);
    encode(PL_JSON, v, &out);
    assert_string_equal(pl_buf_cstr(&out), written);
    pl_buf_done(&out);
    pl_arena_done(&arena);
}

static void is_refused(const char *json, size_t len, int status, const char *text)
{
    struct pl_arena arena = {0};
    struct pl_decode_error err = {0};
    const struct pl_value *v = NULL;

    assert_int_equal(decode_exactly(PL_JSON, json, len, &arena, &v, &err), status);
    assert_string_equal(err.text, text);
    assert_true(err.offset <= len);
    assert_null(v);
    pl_arena_done(&arena);
}

#define REFUSED(json, status, text) is_refused(json, sizeof(json) - 1, status, text)
#define DECODES(json, written)      decodes_to(json, sizeof(json) - 1, written)

static void a_message_is_decoded_whole_and_in_order(void **state)
{
    (void)state;
    DECODES(
        publish,
        "{\"op\":\"publish\",\"id\":\"a-1\",\"type\":\"new_comment\",\"data\":{\"article_id\":789,"
        "\"community_id\":42,\"text\":\"h\xc3\xa9 \xe2\x82\xac "
        "\xf0\x9f\x98\x80\",\"score\":-1500.0,"
        "\"ok\":true,\"none\":null},\"community_ids\":[42,43]}");
    DECODES(" [ 1 , { } ]\r\n\t", "[1,{}]");
}

static void every_prefix_of_a_message_is_refused(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof(publish) - 1; len++) {
        struct pl_arena arena = {0};
        const struct pl_value *v = NULL;

        assert_true(decode_exactly(PL_JSON, publish, len, &arena, &v, NULL) < 0);
        pl_arena_done(&arena);
    }
}

static void every_corruption_of_a_byte_decodes_or_is_refused(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof(publish) - 1; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            struct pl_arena arena = {0};
            struct pl_decode_error err = {0};
            const struct pl_value *v = NULL;
            char copy[sizeof(publish)];
            int status;

            memcpy(copy, publish, sizeof(copy));
            copy[at] = (char)byte;
            status = decode_exactly(PL_JSON, copy, sizeof(copy) - 1, &arena, &v, &err);
            if (status != 0) {
                assert_true(status == PL_ERR_MALFORMED || status == PL_ERR_UTF8);
                assert_true(err.text[0] != '\0' && err.offset < sizeof(copy));
            }
            pl_arena_done(&arena);
        }
    }
}

static void numbers_without_fraction_or_exponent_are_integers(void **state)
{
    (void)state;
    DECODES("[0,-0,7,-7,1.0,1e0,1E+2,-0.0]", "[0,0,7,-7,1.0,1.0,100.0,-0.0]");
}

static void integers_end_at_2_to_the_53_minus_1(void **state)
{
    (void)state;
    DECODES("[9007199254740991,-9007199254740991]", "[9007199254740991,-9007199254740991]");
    REFUSED("9007199254740992", PL_ERR_MALFORMED, "an integer beyond 2^53-1");
    REFUSED("[-9007199254740992]", PL_ERR_MALFORMED, "an integer beyond 2^53-1");
    REFUSED("{\"a\":18446744073709551616}", PL_ERR_MALFORMED, "an integer beyond 2^53-1");
    REFUSED("-99999999999999999999999", PL_ERR_MALFORMED, "an integer beyond 2^53-1");
}

static void reals_are_finite(void **state)
{
    (void)state;
    REFUSED("1e999", PL_ERR_MALFORMED, "a number that is not finite");
    REFUSED("-1e999", PL_ERR_MALFORMED, "a number that is not finite");
    REFUSED("NaN", PL_ERR_MALFORMED, "not JSON");
    REFUSED("Infinity", PL_ERR_MALFORMED, "not JSON");
}

static void reals_are_written_in_the_fewest_digits_that_read_back_equal(void **state)
{
    (void)state;
    DECODES("[0.1,0.30000000000000004,1e15,1e16,123456789012345678.0,1e22]",
            "[0.1,0.30000000000000004,1e+15,1e+16,1.2345678901234568e+17,1e+22]");
}

static void nesting_ends_at_32(void **state)
{
    char deep[2 * 40 + 1];

    (void)state;
    for (int depth = 1; depth <= 33; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        if (depth <= PL_MAX_DEPTH) {
            struct pl_arena arena = {0};
            const struct pl_value *v;

            assert_int_equal(decode_exactly(PL_JSON, deep, 2 * (size_t)depth, &arena, &v, NULL), 0);
            pl_arena_done(&arena);
        } else {
            is_refused(deep, 2 * (size_t)depth, PL_ERR_MALFORMED, "nested deeper than 32");
        }
    }
}

static void a_nesting_bomb_is_refused(void **state)
{
    enum {
        LEN = 1 << 20
    };
    char *bomb = malloc(LEN);

    (void)state;
    memset(bomb, '[', LEN);
    is_refused(bomb, LEN, PL_ERR_MALFORMED, "nested deeper than 32");
    free(bomb);
}

static void a_key_appears_once_in_a_map(void **state)
{
    (void)state;
    REFUSED("{\"a\":1,\"b\":2,\"a\":1}", PL_ERR_MALFORMED, "a key appears twice in one map");
    REFUSED("[{\"\\u0061\":1,\"a\":2}]", PL_ERR_MALFORMED, "a key appears twice in one map");
    DECODES("[{\"a\":1},{\"a\":{\"a\":1}}]", "[{\"a\":1},{\"a\":{\"a\":1}}]");
}

static void a_hundred_thousand_keys_are_compared_quickly(void **state)
{
    struct pl_arena arena = {0};
    struct pl_buf big = {0};
    const struct pl_value *v = NULL;
    clock_t start = clock();

    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        pl_buf_printf(&big, "%c\"%u\":0", i == 0 ? '{' : ',', i);
    }
    pl_buf_append_str(&big, "}");
    assert_int_equal(decode_exactly(PL_JSON, big.data, big.len, &arena, &v, NULL), 0);
    assert_int_equal(v->u.map.count, 100000);
    pl_arena_done(&arena);
    big.len--;
    pl_buf_append_str(&big, ",\"0\":0}");
    is_refused((const char *)big.data, big.len, PL_ERR_MALFORMED, "a key appears twice in one map");
    pl_buf_done(&big);
    /* Processor time: 5 thousand million comparisons take far longer, under any sanitizer. */
    assert_true(clock() - start < 4 * CLOCKS_PER_SEC);
}

static void u0000_is_text_but_not_in_a_key(void **state)
{
    (void)state;
    DECODES("\"a\\u0000b\"", "\"a\\u0000b\"");
    REFUSED("{\"a\\u0000\":1}", PL_ERR_MALFORMED, "a key holds U+0000");
    REFUSED("\"a\0b\"", PL_ERR_MALFORMED, "not JSON");
}

static void invalid_utf8_is_told_apart_from_bad_syntax(void **state)
{
    (void)state;
    REFUSED("\"\xff\"", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("\"\xc0\x80\"", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("\"\xed\xa0\x80\"", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("\"\xf4\x90\x80\x80\"", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("{\"\xe2\x82\":1}", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("\"\xe2\x82", PL_ERR_UTF8, "text is not valid UTF-8");
}

static void escaped_surrogates_come_in_pairs(void **state)
{
    (void)state;
    DECODES("\"\\uD83D\\uDE00\"", "\"\xf0\x9f\x98\x80\"");
    REFUSED("\"\\ud83d\"", PL_ERR_MALFORMED, "not JSON");
    REFUSED("\"\\ude00\"", PL_ERR_MALFORMED, "not JSON");
    REFUSED("\"\\ud83d\\ud83d\"", PL_ERR_MALFORMED, "not JSON");
    REFUSED("\"\\ud83dx\"", PL_ERR_MALFORMED, "not JSON");
}

static void what_rfc_8259_does_not_have_is_refused(void **state)
{
    (void)state;
    REFUSED("", PL_ERR_MALFORMED, "the message ends before its value does");
    REFUSED("{\"a\":", PL_ERR_MALFORMED, "the message ends before its value does");
    REFUSED("1 2", PL_ERR_MALFORMED, "bytes follow the value");
    REFUSED("{}\0", PL_ERR_MALFORMED, "bytes follow the value");
    REFUSED("[1,]", PL_ERR_MALFORMED, "not JSON");
    REFUSED("{a:1}", PL_ERR_MALFORMED, "not JSON");
    REFUSED("'a'", PL_ERR_MALFORMED, "not JSON");
    REFUSED("01", PL_ERR_MALFORMED, "not JSON");
    REFUSED("+1", PL_ERR_MALFORMED, "not JSON");
    REFUSED(".5", PL_ERR_MALFORMED, "not JSON");
    REFUSED("1.", PL_ERR_MALFORMED, "not JSON");
    REFUSED("\"\t\"", PL_ERR_MALFORMED, "not JSON");
    REFUSED("\"\\x\"", PL_ERR_MALFORMED, "not JSON");
    REFUSED("[1 /* two */]", PL_ERR_MALFORMED, "not JSON");
    REFUSED("\xef\xbb\xbf{}", PL_ERR_MALFORMED, "not JSON");
}

static void the_text_of_an_error_holds_nothing_of_the_payload(void **state)
{
    struct pl_arena arena = {0};
    struct pl_decode_error err = {0};
    const struct pl_value *v;

    (void)state;
    assert_true(pl_decode(PL_JSON, "[secret]", 8, &arena, &v, &err) < 0);
    assert_null(strstr(err.text, "secret"));
    assert_true(err.offset >= 1 && err.offset <= 8);
    pl_arena_done(&arena);
}

static void only_what_must_be_is_escaped(void **state)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    (void)state;
    pl_writer_init(&w, PL_JSON, &out);
    pl_write_str(&w, PL_LIT("\"\\\b\f\n\r\t\x01\x1f\0/<>&\x7f\xe2\x80\xa8"));
    assert_string_equal(pl_buf_cstr(&out),
                        "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\\u0000/<>&\x7f\xe2\x80\xa8\"");
    pl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_decoded_whole_and_in_order),
        cmocka_unit_test(every_prefix_of_a_message_is_refused),
        cmocka_unit_test(every_corruption_of_a_byte_decodes_or_is_refused),
        cmocka_unit_test(numbers_without_fraction_or_exponent_are_integers),
        cmocka_unit_test(integers_end_at_2_to_the_53_minus_1),
        cmocka_unit_test(reals_are_finite),
        cmocka_unit_test(reals_are_written_in_the_fewest_digits_that_read_back_equal),
        cmocka_unit_test(nesting_ends_at_32),
        cmocka_unit_test(a_nesting_bomb_is_refused),
        cmocka_unit_test(a_key_appears_once_in_a_map),
        cmocka_unit_test(a_hundred_thousand_keys_are_compared_quickly),
        cmocka_unit_test(u0000_is_text_but_not_in_a_key),
        cmocka_unit_test(invalid_utf8_is_told_apart_from_bad_syntax),
        cmocka_unit_test(escaped_surrogates_come_in_pairs),
        cmocka_unit_test(what_rfc_8259_does_not_have_is_refused),
        cmocka_unit_test(the_text_of_an_error_holds_nothing_of_the_payload),
        cmocka_unit_test(only_what_must_be_is_escaped),
    };

    return cmocka_run_group_tests_name("protocol/json", tests, NULL, NULL);
}
