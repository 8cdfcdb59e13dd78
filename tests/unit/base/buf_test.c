#include "server/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void empty_holds_no_memory(void **state)
{
    struct pl_buf b = {0};

    (void)state;
    pl_buf_append(&b, NULL, 0);
    pl_buf_reserve(&b, 0);
    assert_string_equal(pl_buf_cstr(&b), "");
    assert_null(b.data);
    assert_int_equal(b.cap, 0);
    pl_buf_done(&b);
}

static void appends_in_order_while_growing(void **state)
{
    struct pl_buf b = {0};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        pl_buf_append_byte(&b, (uint8_t)i);
    }
    pl_buf_append_str(&b, "end");
    assert_int_equal(b.len, 1003);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(b.data[i], i & 0xff);
    }
    assert_memory_equal(b.data + 1000, "end", 3);
    pl_buf_done(&b);
    assert_null(b.data);
    pl_buf_append_str(&b, "again");
    assert_string_equal(pl_buf_cstr(&b), "again");
    pl_buf_done(&b);
}

static void reserve_makes_room_and_keeps_the_content(void **state)
{
    struct pl_buf b = {0};

    (void)state;
    pl_buf_append_str(&b, "x");
    pl_buf_reserve(&b, 5000);
    assert_true(b.cap - b.len >= 5000);
    assert_int_equal(b.len, 1);
    assert_int_equal(b.data[0], 'x');
    pl_buf_done(&b);
}

static void printf_appends_short_and_long_text(void **state)
{
    struct pl_buf b = {0};
    char expected[400];

    (void)state;
    memset(expected, ' ', sizeof(expected));
    expected[399] = '\0';
    expected[398] = '7';
    pl_buf_printf(&b, "%d-%s", 1, "a");
    pl_buf_printf(&b, "%399d", 7);
    assert_memory_equal(pl_buf_cstr(&b), "1-a", 3);
    assert_string_equal(pl_buf_cstr(&b) + 3, expected);
    assert_int_equal(b.len, 402);
    pl_buf_done(&b);
}

static void cstr_does_not_count_its_nul_at_any_length(void **state)
{
    struct pl_buf b = {0};

    (void)state;
    for (size_t len = 1; len < 300; len++) {
        pl_buf_append_byte(&b, 'x');
        assert_int_equal(strlen(pl_buf_cstr(&b)), len);
        assert_int_equal(b.len, len);
    }
    pl_buf_done(&b);
}

static void consume_drops_the_front_and_frees_when_all_is_gone(void **state)
{
    struct pl_buf b = {0};

    (void)state;
    pl_buf_append_str(&b, "abcdef");
    pl_buf_consume(&b, 0);
    pl_buf_consume(&b, 2);
    assert_string_equal(pl_buf_cstr(&b), "cdef");
    pl_buf_consume(&b, 4);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    pl_buf_consume(&b, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_holds_no_memory),
        cmocka_unit_test(appends_in_order_while_growing),
        cmocka_unit_test(reserve_makes_room_and_keeps_the_content),
        cmocka_unit_test(printf_appends_short_and_long_text),
        cmocka_unit_test(cstr_does_not_count_its_nul_at_any_length),
        cmocka_unit_test(consume_drops_the_front_and_frees_when_all_is_gone),
    };

    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
