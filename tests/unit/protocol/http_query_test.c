#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/protocol/http_helper.h"

enum outcome {
    ABSENT,
    BAD,
    FOUND
};

static enum outcome get(const char *query, size_t len, const char *name, struct pl_arena *a,
                        struct pl_str *ret)
{
    char *copy = exact_copy(query, len);
    bool bad = true;
    const bool found = pl_http_query_get((struct pl_str){copy, len}, name, a, ret, &bad);

    free(copy); /* the value lives in the arena, not here */
    assert_true(found || !bad);
    return !found ? ABSENT : bad ? BAD : FOUND;
}

static void assert_value(const char *query, const char *name, const char *expected)
{
    struct pl_arena a = {0};
    struct pl_str value;

    assert_int_equal(get(query, strlen(query), name, &a, &value), FOUND);
    assert_str(value, expected);
    pl_arena_done(&a);
}

static void assert_outcome(const char *query, const char *name, enum outcome expected)
{
    struct pl_arena a = {0};
    struct pl_str value;

    assert_int_equal(get(query, strlen(query), name, &a, &value), expected);
    pl_arena_done(&a);
}

static void a_value_is_found_by_its_whole_name(void **state)
{
    (void)state;
    assert_value("queue_id=abc&last=7", "queue_id", "abc");
    assert_value("queue_id=abc&last=7", "last", "7");
    assert_value("xa=1&a=2", "a", "2");
    assert_value("ab=1&a=2", "a", "2");
    assert_value("&&a=1&", "a", "1");
    assert_value("a=", "a", "");
    assert_value("a=b=c", "a", "b=c");
    assert_outcome("", "a", ABSENT);
    assert_outcome("a", "a", ABSENT);
    assert_outcome("a&b=1", "a", ABSENT);
    assert_outcome("A=1", "a", ABSENT);
    assert_outcome("%61=1", "a", ABSENT);
    assert_outcome("=1", "a", ABSENT);
}

static void the_first_of_several_values_counts(void **state)
{
    (void)state;
    assert_value("a=1&a=2", "a", "1");
    assert_value("a&a=2", "a", "2");
    assert_outcome("a=%&a=2", "a", BAD);
}

static void values_are_percent_decoded(void **state)
{
    (void)state;
    assert_value("a=b+c%20d%2Be%26%3d", "a", "b c d+e&=");
    assert_value("a=%c3%A9%F0%9f%98%80", "a", "\xc3\xa9\xf0\x9f\x98\x80");
}

static void malformed_escapes_are_bad(void **state)
{
    static const char *const bad[] = {"a=%",   "a=%4",   "a=x%4&b=1", "a=%4g",
                                      "a=%g4", "a=%%34", "a=%-1"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_outcome(bad[i], "a", BAD);
    }
}

static void control_bytes_and_invalid_utf8_are_bad(void **state)
{
    static const char *const bad[] = {
        "a=x%00", "a=%0d%0a", "a=%7f",       "a=%1F",  "a=\n",           "a=%ff",
        "a=%c3",  "a=%c0%80", "a=%ed%a0%80", "a=\xc3", "a=%f4%90%80%80",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_outcome(bad[i], "a", BAD);
    }
    assert_outcome("b=%00&a=1", "a", FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_found_by_its_whole_name),
        cmocka_unit_test(the_first_of_several_values_counts),
        cmocka_unit_test(values_are_percent_decoded),
        cmocka_unit_test(malformed_escapes_are_bad),
        cmocka_unit_test(control_bytes_and_invalid_utf8_are_bad),
    };

    return cmocka_run_group_tests_name("protocol/http_query", tests, NULL, NULL);
}
