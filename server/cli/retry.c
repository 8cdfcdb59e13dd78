#include "server/cli/retry.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static uint64_t retry_after_of(const char *reason)
{
    static const char key[] = ";retry_after_ms=";
    const char *at = strstr(reason, key);
    unsigned long long ms;

    if (!at || at[sizeof(key) - 1] < '0' || at[sizeof(key) - 1] > '9') {
        return 0;
    }
    ms = strtoull(at + sizeof(key) - 1, NULL, 10);
    return ms < 86400000 ? ms : 86400000;
}

enum pl_cli_advice pl_cli_advice_of_close(int close_code, const char *reason,
                                          uint64_t *ret_retry_after_ms)
{
    static const struct {
        int code;
        enum pl_cli_advice advice;
    } table[] = {
        {4401, PL_CLI_TOKEN},    {4403, PL_CLI_STOP}, {4404, PL_CLI_REGISTER},
        {4408, PL_CLI_BACK_OFF}, {4409, PL_CLI_STOP}, {4429, PL_CLI_BACK_OFF},
        {4400, PL_CLI_ONCE},     {4413, PL_CLI_ONCE}, {1002, PL_CLI_ONCE},
        {1007, PL_CLI_ONCE},     {1009, PL_CLI_ONCE},
    };

    *ret_retry_after_ms = retry_after_of(reason);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].code == close_code) {
            return table[i].advice;
        }
    }
    return close_code >= 4400 && close_code <= 4499 ? PL_CLI_STOP : PL_CLI_BACK_OFF;
}

enum pl_cli_advice pl_cli_advice_of_http(int http_status, struct pl_str code)
{
    switch (http_status) {
    case 401:
        return PL_CLI_TOKEN;
    case 404:
        return pl_str_eq(code, PL_LIT("queue_not_found")) ? PL_CLI_REGISTER : PL_CLI_STOP;
    case 408:
    case 429:
        return PL_CLI_BACK_OFF;
    default:
        return http_status >= 500 ? PL_CLI_BACK_OFF : PL_CLI_STOP;
    }
}

uint64_t pl_cli_backoff_ms(unsigned attempt, uint64_t random)
{
    uint64_t most_ms = attempt >= 6 ? 30000 : UINT64_C(500) << attempt;

    return random % (most_ms + 1);
}
