#include "protocol/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void every_row_is_found_by_its_own_value(void **state)
{
    (void)state;
#define PL_STATUS(name, value, http, close, client, code, text) \
    assert_string_equal(pl_status_code(PL_##name), code);       \
    assert_string_equal(pl_status_text(PL_##name), text);       \
    assert_int_equal(pl_status_http(PL_##name), http);          \
    assert_int_equal(pl_status_close_code(PL_##name), close);   \
    assert_int_equal(pl_status_client(PL_##name), PL_CLIENT_##client);
#include "protocol/status.def"
#undef PL_STATUS
}

static void unknown_statuses_are_a_retryable_server_error(void **state)
{
    (void)state;
    assert_int_equal(pl_status_http(1), 500);
    assert_int_equal(pl_status_close_code(-999), 1011);
    assert_int_equal(pl_status_client(INT32_MIN), PL_CLIENT_BACKOFF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_found_by_its_own_value),
        cmocka_unit_test(unknown_statuses_are_a_retryable_server_error),
    };

    return cmocka_run_group_tests_name("protocol/status", tests, NULL, NULL);
}
