#include "protocol/http.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "protocol/status.h"

static void every_status_of_ours_has_a_reason(void **state)
{
    (void)state;
#define PL_STATUS(name, value, http, close, client, code, text) \
    assert_string_not_equal(pl_http_reason(http), "Unknown");
#include "protocol/status.def"
#undef PL_STATUS
    assert_string_equal(pl_http_reason(200), "OK");
    assert_string_equal(pl_http_reason(404), "Not Found");
    assert_string_equal(pl_http_reason(101), "Switching Protocols");
}

static void other_statuses_are_unknown(void **state)
{
    (void)state;
    assert_string_equal(pl_http_reason(299), "Unknown");
    assert_string_equal(pl_http_reason(0), "Unknown");
    assert_string_equal(pl_http_reason(INT_MIN), "Unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_of_ours_has_a_reason),
        cmocka_unit_test(other_statuses_are_unknown),
    };

    return cmocka_run_group_tests_name("protocol/http_reason", tests, NULL, NULL);
}
