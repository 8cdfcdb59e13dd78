#include "server/cli/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static enum pl_cli_advice close_advice(int code)
{
    uint64_t ignored;

    return pl_cli_advice_of_close(code, "", &ignored);
}

static void every_close_code_of_the_protocol_has_its_advice(void **state)
{
    static const int back_off[] = {4408, 4429, 1000, 1001, 1005, 1006,
                                   1011, 1012, 1013, 4000, 3000};
    static const int stop[] = {4403, 4409, 4405, 4499};
    static const int once[] = {4400, 4413, 1002, 1007, 1009};

    (void)state;
    for (size_t i = 0; i < sizeof(back_off) / sizeof(int); i++) {
        assert_int_equal(close_advice(back_off[i]), PL_CLI_BACK_OFF);
    }
    for (size_t i = 0; i < sizeof(stop) / sizeof(int); i++) {
        assert_int_equal(close_advice(stop[i]), PL_CLI_STOP);
    }
    for (size_t i = 0; i < sizeof(once) / sizeof(int); i++) {
        assert_int_equal(close_advice(once[i]), PL_CLI_ONCE);
    }
    assert_int_equal(close_advice(4401), PL_CLI_TOKEN);
    assert_int_equal(close_advice(4404), PL_CLI_REGISTER);
}

static uint64_t retry_after(const char *reason)
{
    uint64_t ms = 99;

    pl_cli_advice_of_close(1013, reason, &ms);
    return ms;
}

static void the_reason_may_name_a_time(void **state)
{
    (void)state;
    assert_int_equal(retry_after("overloaded;retry_after_ms=1500"), 1500);
    assert_int_equal(retry_after("overloaded"), 0);
    assert_int_equal(retry_after(""), 0);
    assert_int_equal(retry_after("x;retry_after_ms="), 0);
    assert_int_equal(retry_after("x;retry_after_ms=-5"), 0);
    assert_int_equal(retry_after("x;retry_after_ms=99999999999999999999999"), 86400000);
}

static void http_statuses_have_the_advice_of_their_close_codes(void **state)
{
    (void)state;
    assert_int_equal(pl_cli_advice_of_http(401, PL_LIT("token_expired")), PL_CLI_TOKEN);
    assert_int_equal(pl_cli_advice_of_http(404, PL_LIT("queue_not_found")), PL_CLI_REGISTER);
    assert_int_equal(pl_cli_advice_of_http(404, PL_LIT("not_found")), PL_CLI_STOP);
    assert_int_equal(pl_cli_advice_of_http(409, PL_LIT("replaced")), PL_CLI_STOP);
    assert_int_equal(pl_cli_advice_of_http(403, PL_LIT("")), PL_CLI_STOP);
    assert_int_equal(pl_cli_advice_of_http(410, PL_LIT("")), PL_CLI_STOP);
    assert_int_equal(pl_cli_advice_of_http(400, PL_LIT("")), PL_CLI_STOP);
    assert_int_equal(pl_cli_advice_of_http(408, PL_LIT("")), PL_CLI_BACK_OFF);
    assert_int_equal(pl_cli_advice_of_http(429, PL_LIT("")), PL_CLI_BACK_OFF);
    assert_int_equal(pl_cli_advice_of_http(500, PL_LIT("")), PL_CLI_BACK_OFF);
    assert_int_equal(pl_cli_advice_of_http(503, PL_LIT("")), PL_CLI_BACK_OFF);
}

static void waits_are_random_up_to_a_bound_that_doubles(void **state)
{
    static const uint64_t bounds_ms[] = {500, 1000, 2000, 4000, 8000, 16000, 30000, 30000};

    (void)state;
    for (unsigned attempt = 0; attempt < 8; attempt++) {
        assert_int_equal(pl_cli_backoff_ms(attempt, bounds_ms[attempt]), bounds_ms[attempt]);
        assert_int_equal(pl_cli_backoff_ms(attempt, bounds_ms[attempt] + 1), 0);
        assert_true(pl_cli_backoff_ms(attempt, UINT64_MAX) <= bounds_ms[attempt]);
    }
    assert_true(pl_cli_backoff_ms(UINT32_MAX, UINT64_MAX) <= 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_close_code_of_the_protocol_has_its_advice),
        cmocka_unit_test(the_reason_may_name_a_time),
        cmocka_unit_test(http_statuses_have_the_advice_of_their_close_codes),
        cmocka_unit_test(waits_are_random_up_to_a_bound_that_doubles),
    };

    return cmocka_run_group_tests_name("cli/retry", tests, NULL, NULL);
}
