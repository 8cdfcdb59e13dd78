#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <msgpack.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "tests/unit/protocol/values.h"

/* {"id": 7, "a": [null, true, -33, 1.5, 70000, "€"], "": {}} */
static const char message[] = "\x83\xa2id\x07\xa1"
                              "a\x96\xc0\xc3\xd0\xdf\xcb\x3f\xf8\0\0\0\0\0\0\xce\0\x01\x11\x70"
                              "\xa3\xe2\x82\xac\xa0\x80";
enum {
    MESSAGE_LEN = sizeof(message) - 1
};

static void decodes_to(const char *bytes, size_t len, const char *json)
{
    struct pl_arena arena = {0};
    struct pl_buf out = {0};
    const struct pl_value *v = NULL;

    assert_int_equal(decode_exactly(PL_MSGPACK, bytes, len, &arena, &v, NULL), 0);
    encode(PL_JSON, v, &out);
    assert_string_equal(pl_buf_cstr(&out), json);
    pl_buf_done(&out);
    pl_arena_done(&arena);
}

static void is_refused(const char *bytes, size_t len, int status, const char *text)
{
    struct pl_arena arena = {0};
    struct pl_decode_error err = {0};
    const struct pl_value *v = NULL;

    assert_int_equal(decode_exactly(PL_MSGPACK, bytes, len, &arena, &v, &err), status);
    assert_string_equal(err.text, text);
    assert_true(err.offset <= len);
    assert_null(v);
    pl_arena_done(&arena);
}

#define REFUSED(bytes, status, text) is_refused(bytes, sizeof(bytes) - 1, status, text)
#define DECODES(bytes, json)         decodes_to(bytes, sizeof(bytes) - 1, json)

static const char cut_short[] = "the message ends before its value does";
static const char beyond[] = "an integer beyond 2^53-1";

static void a_message_is_decoded_whole_and_in_order(void **state)
{
    (void)state;
    DECODES(message, "{\"id\":7,\"a\":[null,true,-33,1.5,70000,\"\xe2\x82\xac\"],\"\":{}}");
}

static void every_prefix_of_a_message_is_refused(void **state)
{
    (void)state;
    for (size_t len = 0; len < MESSAGE_LEN; len++) {
        is_refused(message, len, PL_ERR_MALFORMED, cut_short);
    }
}

static void every_corruption_of_a_byte_decodes_or_is_refused(void **state)
{
    (void)state;
    for (size_t at = 0; at < MESSAGE_LEN; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            struct pl_arena arena = {0};
            struct pl_decode_error err = {0};
            const struct pl_value *v = NULL;
            char copy[MESSAGE_LEN];
            int status;

            memcpy(copy, message, sizeof(copy));
            copy[at] = (char)byte;
            status = decode_exactly(PL_MSGPACK, copy, sizeof(copy), &arena, &v, &err);
            if (status != 0) {
                assert_true(status == PL_ERR_MALFORMED || status == PL_ERR_UTF8);
                assert_true(err.text[0] != '\0' && err.offset <= sizeof(copy));
            }
            pl_arena_done(&arena);
        }
    }
}

static void integers_of_any_width_are_accepted(void **state)
{
    (void)state;
    DECODES("\x7f", "127");
    DECODES("\xe0", "-32");
    DECODES("\xff", "-1");
    DECODES("\xcc\x05", "5");
    DECODES("\xcd\xff\xff", "65535");
    DECODES("\xce\xff\xff\xff\xff", "4294967295");
    DECODES("\xcf\0\0\0\0\0\0\0\x01", "1");
    DECODES("\xd0\x80", "-128");
    DECODES("\xd1\x80\0", "-32768");
    DECODES("\xd2\x80\0\0\0", "-2147483648");
    DECODES("\xd3\xff\xff\xff\xff\xff\xff\xff\xff", "-1");
}

static void integers_end_at_2_to_the_53_minus_1(void **state)
{
    (void)state;
    DECODES("\xcf\0\x1f\xff\xff\xff\xff\xff\xff", "9007199254740991");
    DECODES("\xd3\xff\xe0\0\0\0\0\0\x01", "-9007199254740991");
    REFUSED("\xcf\0\x20\0\0\0\0\0\0", PL_ERR_MALFORMED, beyond);
    REFUSED("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", PL_ERR_MALFORMED, beyond);
    REFUSED("\xd3\xff\xe0\0\0\0\0\0\0", PL_ERR_MALFORMED, beyond);
    REFUSED("\xd3\0\x20\0\0\0\0\0\0", PL_ERR_MALFORMED, beyond);
    REFUSED("\x91\xd3\x80\0\0\0\0\0\0\0", PL_ERR_MALFORMED, beyond);
}

static void reals_are_finite(void **state)
{
    (void)state;
    DECODES("\xca\x3f\xc0\0\0", "1.5");
    DECODES("\xcb\x3f\xf0\0\0\0\0\0\0", "1.0");
    REFUSED("\xca\x7f\xc0\0\0", PL_ERR_MALFORMED, "a number that is not finite");
    REFUSED("\xca\xff\x80\0\0", PL_ERR_MALFORMED, "a number that is not finite");
    REFUSED("\xcb\x7f\xf8\0\0\0\0\0\0", PL_ERR_MALFORMED, "a number that is not finite");
    REFUSED("\xcb\x7f\xf0\0\0\0\0\0\0", PL_ERR_MALFORMED, "a number that is not finite");
}

static void nesting_ends_at_32(void **state)
{
    struct pl_arena arena = {0};
    const struct pl_value *v;
    char deep[34];

    (void)state;
    memset(deep, '\x91', sizeof(deep));
    deep[32] = '\xc0';
    assert_int_equal(decode_exactly(PL_MSGPACK, deep, 33, &arena, &v, NULL), 0);
    pl_arena_done(&arena);
    deep[32] = '\x90';
    is_refused(deep, 33, PL_ERR_MALFORMED, "nested deeper than 32");
}

static void a_nesting_bomb_is_refused(void **state)
{
    enum {
        LEN = 1 << 20
    };
    char *bomb = malloc(LEN);

    (void)state;
    memset(bomb, '\x91', LEN);
    is_refused(bomb, LEN, PL_ERR_MALFORMED, "nested deeper than 32");
    free(bomb);
}

static void bin_and_ext_are_refused(void **state)
{
    const char types[] = "\xc4\xc5\xc6\xc7\xc8\xc9\xd4\xd5\xd6\xd7\xd8";

    (void)state;
    for (size_t i = 0; i < sizeof(types) - 1; i++) {
        char bytes[24] = {types[i]};

        is_refused(bytes, sizeof(bytes), PL_ERR_MALFORMED, "bin and ext are not accepted");
    }
    REFUSED("\xc1", PL_ERR_MALFORMED, "not MessagePack");
}

/* Taking 4294967295 values' worth of memory would end this process. */
static void a_huge_declared_length_is_refused_before_memory_is_taken(void **state)
{
    const struct {
        const char *bytes;
        size_t len;
    } huge[] = {
        {"\xdd\xff\xff\xff\xff", 5},
        {"\xdf\xff\xff\xff\xff", 5},
        {"\xdb\xff\xff\xff\xff", 5},
        {"\xdc\xff\xff\xc0", 4},
        {"\xde\xff\xff\xa0", 4},
        {"\xda\xff\xffx", 4},
        {"\x92\xc0", 2},
        {"\x81\xa0", 2},
        {"\xa2x", 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
        is_refused(huge[i].bytes, huge[i].len, PL_ERR_MALFORMED, cut_short);
    }
}

/* Each of two nested arrays promises nearly all the bytes of the message: together that is refused. */
static void nested_promises_are_added_up(void **state)
{
    enum {
        LEN = 4096
    };
    char bytes[LEN];

    (void)state;
    memset(bytes, '\xc0', sizeof(bytes));
    for (size_t i = 0; i < 2; i++) {
        memcpy(bytes + 3 * i, "\xdc\x0f\xf0", 3);
    }
    is_refused(bytes, sizeof(bytes), PL_ERR_MALFORMED, cut_short);
}

static void keys_are_text_without_u0000(void **state)
{
    (void)state;
    REFUSED("\x81\x01\x02", PL_ERR_MALFORMED, "a key is not a str");
    REFUSED("\x81\xc0\x02", PL_ERR_MALFORMED, "a key is not a str");
    REFUSED("\x81\xa1\0\x02", PL_ERR_MALFORMED, "a key holds U+0000");
    DECODES("\xa1\0", "\"\\u0000\"");
}

static void a_key_appears_once_in_a_map(void **state)
{
    (void)state;
    REFUSED("\x82\xa1"
            "a\x01\xa1"
            "a\x02",
            PL_ERR_MALFORMED, "a key appears twice in one map");
    DECODES("\x82\xa1"
            "a\x01\xa1"
            "b\x81\xa1"
            "a\x02",
            "{\"a\":1,\"b\":{\"a\":2}}");
}

/* {"000000": nil, ...}; with twice, the last key is the first again. */
static void append_big_map(struct pl_buf *out, unsigned count, bool twice)
{
    pl_buf_append_byte(out, 0xdf);
    for (int shift = 24; shift >= 0; shift -= 8) {
        pl_buf_append_byte(out, (uint8_t)(count >> shift));
    }
    for (unsigned i = 0; i < count; i++) {
        pl_buf_printf(out, "\xa6%06u\xc0", twice && i == count - 1 ? 0 : i);
    }
}

static void a_hundred_thousand_keys_are_compared_quickly(void **state)
{
    struct pl_arena arena = {0};
    struct pl_buf big = {0};
    const struct pl_value *v = NULL;
    clock_t start = clock();

    (void)state;
    append_big_map(&big, 100000, false);
    assert_int_equal(decode_exactly(PL_MSGPACK, big.data, big.len, &arena, &v, NULL), 0);
    assert_int_equal(v->u.map.count, 100000);
    pl_arena_done(&arena);
    big.len = 0;
    append_big_map(&big, 100000, true);
    is_refused((const char *)big.data, big.len, PL_ERR_MALFORMED, "a key appears twice in one map");
    pl_buf_done(&big);
    /* Processor time: 5 thousand million comparisons take far longer, under any sanitizer. */
    assert_true(clock() - start < 4 * CLOCKS_PER_SEC);
}

static void text_is_valid_utf8(void **state)
{
    (void)state;
    REFUSED("\xa1\xff", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("\xa2\xc0\x80", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("\xa3\xed\xa0\x80", PL_ERR_UTF8, "text is not valid UTF-8");
    REFUSED("\x81\xa2\xe2\x82\xc0", PL_ERR_UTF8, "text is not valid UTF-8");
}

static void bytes_behind_the_value_are_refused(void **state)
{
    (void)state;
    REFUSED("\xc0\xc0", PL_ERR_MALFORMED, "bytes follow the value");
}

static void the_offset_of_an_error_points_at_the_byte(void **state)
{
    struct pl_arena arena = {0};
    struct pl_decode_error err = {0};
    const struct pl_value *v;

    (void)state;
    assert_true(pl_decode(PL_MSGPACK,
                          "\x92\xa3"
                          "ab\xff\xc0",
                          6, &arena, &v, &err) < 0);
    assert_int_equal(err.offset, 4);
    pl_arena_done(&arena);
}

static void writes(int64_t n, const char *bytes, size_t len)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, PL_MSGPACK, &out);
    pl_write_int(&w, n);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, bytes, len);
    pl_buf_done(&out);
}

static void integers_are_written_in_the_shortest_form(void **state)
{
    (void)state;
    writes(0, "\0", 1);
    writes(127, "\x7f", 1);
    writes(128, "\xcc\x80", 2);
    writes(256, "\xcd\x01\0", 3);
    writes(65536, "\xce\0\x01\0\0", 5);
    writes(INT64_C(4294967296), "\xcf\0\0\0\x01\0\0\0\0", 9);
    writes(-32, "\xe0", 1);
    writes(-33, "\xd0\xdf", 2);
    writes(-129, "\xd1\xff\x7f", 3);
    writes(-32769, "\xd2\xff\xff\x7f\xff", 5);
    writes(INT64_C(-2147483649), "\xd3\xff\xff\xff\xff\x7f\xff\xff\xff", 9);
}

/* The library's own unpacker is a reader that Parley did not write. */
static void what_is_written_is_read_by_another_reader(void **state)
{
    struct pl_buf out = {0};
    struct pl_writer w;
    msgpack_unpacked unpacked;
    const msgpack_object *list;
    size_t offset = 0;

    (void)state;
    pl_writer_init(&w, PL_MSGPACK, &out);
    pl_write_map(&w, 2);
    pl_write_key(&w, "list");
    pl_write_array(&w, 5);
    pl_write_int(&w, -7);
    pl_write_real(&w, 2.0);
    pl_write_bool(&w, false);
    pl_write_null(&w);
    pl_write_cstr(&w, "text");
    pl_write_key(&w, "raw");
    pl_write_raw(&w, "\x93\x01\x02\x03", 4);
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)out.data, out.len, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, out.len);
    assert_int_equal(unpacked.data.type, MSGPACK_OBJECT_MAP);
    assert_int_equal(unpacked.data.via.map.size, 2);
    list = unpacked.data.via.map.ptr[0].val.via.array.ptr;
    assert_int_equal(list[0].via.i64, -7);
    assert_int_equal(list[1].type, MSGPACK_OBJECT_FLOAT64);
    assert_int_equal(list[2].type, MSGPACK_OBJECT_BOOLEAN);
    assert_int_equal(list[3].type, MSGPACK_OBJECT_NIL);
    assert_memory_equal(list[4].via.str.ptr, "text", 4);
    assert_int_equal(unpacked.data.via.map.ptr[1].val.via.array.size, 3);
    msgpack_unpacked_destroy(&unpacked);
    pl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_decoded_whole_and_in_order),
        cmocka_unit_test(every_prefix_of_a_message_is_refused),
        cmocka_unit_test(every_corruption_of_a_byte_decodes_or_is_refused),
        cmocka_unit_test(integers_of_any_width_are_accepted),
        cmocka_unit_test(integers_end_at_2_to_the_53_minus_1),
        cmocka_unit_test(reals_are_finite),
        cmocka_unit_test(nesting_ends_at_32),
        cmocka_unit_test(a_nesting_bomb_is_refused),
        cmocka_unit_test(bin_and_ext_are_refused),
        cmocka_unit_test(a_huge_declared_length_is_refused_before_memory_is_taken),
        cmocka_unit_test(nested_promises_are_added_up),
        cmocka_unit_test(keys_are_text_without_u0000),
        cmocka_unit_test(a_key_appears_once_in_a_map),
        cmocka_unit_test(a_hundred_thousand_keys_are_compared_quickly),
        cmocka_unit_test(text_is_valid_utf8),
        cmocka_unit_test(bytes_behind_the_value_are_refused),
        cmocka_unit_test(the_offset_of_an_error_points_at_the_byte),
        cmocka_unit_test(integers_are_written_in_the_shortest_form),
        cmocka_unit_test(what_is_written_is_read_by_another_reader),
    };

    return cmocka_run_group_tests_name("protocol/msgpack", tests, NULL, NULL);
}
