#include "protocol/http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/protocol/http_helper.h"

static const char request[] =
    "GET / HTTP/1.1\r\nHost: a\r\nX-One:  b c \r\nx-one: d\r\nX-ONEs: e\r\n"
    "List: , One ,two\t,,three;q=1\r\nLIST: four\r\nEmpty:\r\n\r\n";

static void headers_are_found_in_any_case(void **state)
{
    struct pl_http_head h;

    (void)state;
    parse_good(request, &h);
    assert_str(*pl_http_header(&h, "x-one"), "b c");
    assert_str(*pl_http_header(&h, "empty"), "");
    assert_null(pl_http_header(&h, "x-on"));
    assert_null(pl_http_header(&h, ""));
}

static void headers_are_counted(void **state)
{
    struct pl_http_head h;

    (void)state;
    parse_good(request, &h);
    assert_int_equal(pl_http_header_count(&h, "x-one"), 2);
    assert_int_equal(pl_http_header_count(&h, "x-ones"), 1);
    assert_int_equal(pl_http_header_count(&h, "x-none"), 0);
}

static void tokens_are_found_in_every_occurrence_of_a_list(void **state)
{
    struct pl_http_head h;

    (void)state;
    parse_good(request, &h);
    assert_true(pl_http_header_has_token(&h, "list", "one"));
    assert_true(pl_http_header_has_token(&h, "list", "two"));
    assert_true(pl_http_header_has_token(&h, "list", "four"));
    assert_false(pl_http_header_has_token(&h, "list", "three"));
    assert_false(pl_http_header_has_token(&h, "list", "on"));
    assert_false(pl_http_header_has_token(&h, "list", "ones"));
    assert_false(pl_http_header_has_token(&h, "list", ""));
    assert_false(pl_http_header_has_token(&h, "empty", "one"));
    assert_false(pl_http_header_has_token(&h, "none", "one"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_found_in_any_case),
        cmocka_unit_test(headers_are_counted),
        cmocka_unit_test(tokens_are_found_in_every_occurrence_of_a_list),
    };

    return cmocka_run_group_tests_name("protocol/http_fields", tests, NULL, NULL);
}
