#include "protocol/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/protocol/values.h"

static const struct pl_value *must_decode(struct pl_arena *a, const char *json)
{
    const struct pl_value *v = NULL;

    assert_int_equal(decode_exactly(PL_JSON, json, strlen(json), a, &v, NULL), 0);
    return v;
}

static void the_arena_gives_aligned_memory_that_does_not_overlap(void **state)
{
    enum {
        COUNT = 300
    };
    struct pl_arena arena = {0};
    unsigned char *blocks[COUNT];

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = pl_arena_alloc(&arena, i * 7);
        assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
        memset(blocks[i], (int)(i & 0xff), i * 7);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t j = 0; j < i * 7; j++) {
            assert_int_equal(blocks[i][j], i & 0xff);
        }
    }
    pl_arena_done(&arena);
}

static void the_arena_holds_blocks_larger_than_its_chunks(void **state)
{
    struct pl_arena arena = {0};

    (void)state;
    memset(pl_arena_alloc(&arena, 1 << 20), 1, 1 << 20);
    memset(pl_arena_alloc(&arena, 3), 2, 3);
    pl_arena_done(&arena);
}

static void an_arena_may_be_freed_unused_and_twice(void **state)
{
    struct pl_arena arena = {0};

    (void)state;
    pl_arena_done(&arena);
    (void)pl_arena_alloc(&arena, 1);
    pl_arena_done(&arena);
    pl_arena_done(&arena);
    assert_null(arena.chunks);
}

static void strings_are_equal_by_length_and_bytes(void **state)
{
    (void)state;
    assert_true(pl_str_eq(PL_LIT("ab"), PL_LIT("ab")));
    assert_false(pl_str_eq(PL_LIT("ab"), PL_LIT("abc")));
    assert_false(pl_str_eq(PL_LIT("ab"), PL_LIT("aB")));
    assert_false(pl_str_eq(PL_LIT("a\0b"), PL_LIT("a\0c")));
    assert_true(pl_str_eq((struct pl_str){0}, PL_LIT("")));
}

static void get_finds_a_member_of_a_map_and_nothing_else(void **state)
{
    struct pl_arena arena = {0};
    const struct pl_value *v = must_decode(&arena, "{\"a\":1,\"ab\":2}");

    (void)state;
    assert_int_equal(pl_value_get(v, "ab")->u.integer, 2);
    assert_null(pl_value_get(v, "b"));
    assert_null(pl_value_get(pl_value_get(v, "a"), "a"));
    assert_null(pl_value_get(NULL, "a"));
    pl_arena_done(&arena);
}

static void errors_need_not_be_asked_for(void **state)
{
    struct pl_arena arena = {0};
    const struct pl_value *v = NULL;

    (void)state;
    assert_true(pl_decode(PL_JSON, "{", 1, &arena, &v, NULL) < 0);
    assert_true(pl_decode(PL_MSGPACK, NULL, 0, &arena, &v, NULL) < 0);
    assert_null(v);
    pl_arena_done(&arena);
}

static void the_writer_counts_and_closes(void **state)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    (void)state;
    pl_writer_init(&w, PL_JSON, &out);
    pl_write_map(&w, 4);
    pl_write_key(&w, "none");
    pl_write_array(&w, 0);
    pl_write_key(&w, "list");
    pl_write_array(&w, 3);
    pl_write_int(&w, -1);
    pl_write_map(&w, 0);
    pl_write_raw(&w, "{\"raw\":true}", 12);
    pl_write_key_str(&w, PL_LIT("s"));
    pl_write_cstr(&w, "x");
    pl_write_key(&w, "last");
    pl_write_array(&w, 1);
    pl_write_array(&w, 1);
    pl_write_null(&w);
    assert_int_equal(w.depth, 0);
    assert_string_equal(
        pl_buf_cstr(&out),
        "{\"none\":[],\"list\":[-1,{},{\"raw\":true}],\"s\":\"x\",\"last\":[[null]]}");
    pl_buf_done(&out);
}

static void the_writer_nests_deeper_than_a_decoded_value_may(void **state)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    (void)state;
    pl_writer_init(&w, PL_MSGPACK, &out);
    for (int i = 0; i < PL_MAX_DEPTH + 8; i++) {
        pl_write_array(&w, 1);
    }
    pl_write_bool(&w, true);
    assert_int_equal(w.depth, 0);
    assert_int_equal(out.len, PL_MAX_DEPTH + 8 + 1);
    pl_buf_done(&out);
}

static void round_trip(const char *json)
{
    struct pl_arena arena = {0};
    struct pl_buf packed = {0}, text = {0};
    const struct pl_value *v = must_decode(&arena, json), *again = NULL;

    encode(PL_MSGPACK, v, &packed);
    assert_int_equal(decode_exactly(PL_MSGPACK, packed.data, packed.len, &arena, &again, NULL), 0);
    assert_true(value_equal(v, again));
    encode(PL_JSON, again, &text);
    assert_string_equal(pl_buf_cstr(&text), json);
    pl_buf_done(&packed);
    pl_buf_done(&text);
    pl_arena_done(&arena);
}

static void json_survives_the_way_through_messagepack(void **state)
{
    const char *const texts[] = {
        "null",
        "[true,false,null]",
        "{}",
        "[]",
        "\"\"",
        "[0,127,128,255,256,65535,65536,4294967295,4294967296,9007199254740991]",
        "[-1,-32,-33,-128,-129,-32768,-32769,-2147483648,-2147483649,-9007199254740991]",
        "[1.0,-0.0,0.1,1.5,1e-07,1e+300,5e-324,1.7976931348623157e+308,0.30000000000000004]",
        "\"\\u0000 \\b\\f\\n\\r\\t \\\" \\\\ / \x7f \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"",
        "{\"b\":1,\"a\":{\"\":[{\"x\":[[]]}]},\"\xc3\xa9\":\"y\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        round_trip(texts[i]);
    }
}

static void strings_and_lists_of_every_length_class_survive(void **state)
{
    const size_t lengths[] = {0, 15, 16, 31, 32, 255, 256, 65535, 65536};

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct pl_buf text = {0};

        pl_buf_append_str(&text, "[\"");
        for (size_t j = 0; j < lengths[i]; j++) {
            pl_buf_append_byte(&text, 'a');
        }
        pl_buf_append_str(&text, "\",[");
        for (size_t j = 0; j < lengths[i]; j++) {
            pl_buf_append_str(&text, j == 0 ? "1" : ",1");
        }
        pl_buf_append_str(&text, "],{");
        for (size_t j = 0; j < lengths[i]; j++) {
            pl_buf_printf(&text, "%s\"%zu\":0", j == 0 ? "" : ",", j);
        }
        pl_buf_append_str(&text, "}]");
        round_trip(pl_buf_cstr(&text));
        pl_buf_done(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_arena_gives_aligned_memory_that_does_not_overlap),
        cmocka_unit_test(the_arena_holds_blocks_larger_than_its_chunks),
        cmocka_unit_test(an_arena_may_be_freed_unused_and_twice),
        cmocka_unit_test(strings_are_equal_by_length_and_bytes),
        cmocka_unit_test(get_finds_a_member_of_a_map_and_nothing_else),
        cmocka_unit_test(errors_need_not_be_asked_for),
        cmocka_unit_test(the_writer_counts_and_closes),
        cmocka_unit_test(the_writer_nests_deeper_than_a_decoded_value_may),
        cmocka_unit_test(json_survives_the_way_through_messagepack),
        cmocka_unit_test(strings_and_lists_of_every_length_class_survive),
    };

    return cmocka_run_group_tests_name("protocol/value", tests, NULL, NULL);
}
