#include "server/cli/nodes_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const int64_t now_ms = 1800000000000;

static struct pl_buf out;

/* name, JSON, name, JSON, … */
static const char *render(const char *const *texts, size_t count, bool all, bool json,
                          size_t expected)
{
    struct pl_value items[16], pairs = {.type = PL_ARRAY, .u.array = {items, count}};
    const struct pl_cli_nodes n = {&pairs, now_ms, all, json};

    for (size_t i = 0; i < count; i++) {
        items[i] = (struct pl_value){.type = PL_STRING, .u.string = {texts[i], strlen(texts[i])}};
    }
    pl_buf_done(&out);
    assert_int_equal(pl_cli_nodes_render(&n, &out), expected);
    return pl_buf_cstr(&out);
}
#define RENDER(all, json, expected, ...)       \
    render((const char *const[]){__VA_ARGS__}, \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), all, json, expected)

static int free_text(void **state)
{
    (void)state;
    pl_buf_done(&out);
    return 0;
}

static const char there[] = "{\"address\":\"10.0.0.1:8888\",\"started\":1799999000000,"
                            "\"version\":\"1.2.3\",\"queues\":1203,\"applied\":1843200000000000,"
                            "\"until\":1800000020000}";
static const char silent[] = "{\"address\":\"10.0.0.2:8888\",\"started\":1799999000000,"
                             "\"version\":\"1.2.3\",\"queues\":5,\"applied\":7,"
                             "\"until\":1799999820000}";

static void a_node_is_a_row_under_its_titles(void **state)
{
    const char *text = RENDER(false, false, 1, "web-1", there);

    (void)state;
    assert_string_equal(text,
                        "NODE   ADDRESS        VERSION  UP       QUEUES  APPLIED           STATE\n"
                        "web-1  10.0.0.1:8888  1.2.3    16m 40s  1203    1843200000000000  up\n");
}

static void one_that_is_silent_is_left_out_or_shown_as_gone(void **state)
{
    const char *text = RENDER(false, false, 1, "web-2", silent, "web-1", there);

    (void)state;
    assert_null(strstr(text, "web-2"));
    text = RENDER(true, false, 2, "web-2", silent, "web-1", there);
    assert_non_null(strstr(text, "web-2  10.0.0.2:8888  1.2.3    -        5       7 "));
    assert_non_null(strstr(text, "gone 3m 0s\n"));
}

static void nodes_are_sorted_by_name(void **state)
{
    const char *text = RENDER(false, false, 3, "c", there, "a", there, "b", there);

    (void)state;
    assert_true(strstr(text, "\na ") < strstr(text, "\nb "));
    assert_true(strstr(text, "\nb ") < strstr(text, "\nc "));
}

static void json_is_a_line_per_node_with_all_it_says(void **state)
{
    const char *text = RENDER(true, true, 2, "b", "{\"until\":1,\"later\":[1],\"node\":\"x\"}", "a",
                              "{\"until\":1800000000001}");

    (void)state;
    assert_string_equal(text, "{\"node\":\"a\",\"gone\":false,\"until\":1800000000001}\n"
                              "{\"node\":\"b\",\"gone\":true,\"until\":1,\"later\":[1]}\n");
}

static void what_is_not_understood_is_shown_with_the_gone(void **state)
{
    const char *text = RENDER(false, false, 1, "a", "[1]", "b", "{", "c", there);

    (void)state;
    assert_null(strstr(text, "not understood"));
    text = RENDER(true, false, 3, "a", "[1]", "b", "{", "c", "{}");
    assert_non_null(strstr(text, "a     -        -        -   -       -        not understood\n"));
    assert_non_null(strstr(text, "\nb "));
    assert_non_null(strstr(text, "-\n")); /* gone since nobody knows when */
    text = RENDER(true, true, 1, "a", "[1]");
    assert_string_equal(text, "{\"node\":\"a\",\"gone\":true}\n");
}

static void texts_of_others_give_a_terminal_no_orders(void **state)
{
    const char *text = RENDER(false, false, 1, "a\033[2J",
                              "{\"address\":\"\\u001b]0;x\",\"until\":1900000000000}");

    (void)state;
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "a?[2J"));
    text = RENDER(false, true, 1, "a\xff", "{\"until\":1900000000000}");
    assert_non_null(strstr(text, "\"a?\""));
}

static void nobody_is_no_table(void **state)
{
    const struct pl_value nil = {.type = PL_NULL};

    (void)state;
    assert_string_equal(RENDER(false, false, 0, "a", silent), "");
    pl_buf_done(&out);
    assert_int_equal(pl_cli_nodes_render(&(struct pl_cli_nodes){&nil, now_ms, true, false}, &out),
                     0);
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_a_row_under_its_titles),
        cmocka_unit_test(one_that_is_silent_is_left_out_or_shown_as_gone),
        cmocka_unit_test(nodes_are_sorted_by_name),
        cmocka_unit_test(json_is_a_line_per_node_with_all_it_says),
        cmocka_unit_test(what_is_not_understood_is_shown_with_the_gone),
        cmocka_unit_test(texts_of_others_give_a_terminal_no_orders),
        cmocka_unit_test(nobody_is_no_table),
    };

    return cmocka_run_group_tests_name("cli/nodes_view", tests, NULL, free_text);
}
