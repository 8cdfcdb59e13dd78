#ifndef PL_CLI_RETRY_H
#define PL_CLI_RETRY_H

#include <stdint.h>

#include "protocol/value.h"

/* What a client does after a link ended (the protocol page's table of close codes), and when.
 * Pure. */
enum pl_cli_advice {
    PL_CLI_BACK_OFF, /* again, same queue, with full jitter */
    PL_CLI_TOKEN,    /* a new token, same queue, once */
    PL_CLI_REGISTER, /* a new queue */
    PL_CLI_ONCE,     /* a bug: once more, then stop */
    PL_CLI_STOP,
};

/* reason: "code" or "code;retry_after_ms=N". *ret_retry_after_ms: 0 when none is named. */
enum pl_cli_advice pl_cli_advice_of_close(int close_code, const char *reason,
                                          uint64_t *ret_retry_after_ms);

/* code: of the error body; may be empty. */
enum pl_cli_advice pl_cli_advice_of_http(int http_status, struct pl_str code);

/* How long to wait before the attempt-th try in a row that failed (0: the first): a random time
 * below min(30 s, 0.5 s * 2^attempt). */
uint64_t pl_cli_backoff_ms(unsigned attempt, uint64_t random);

#endif
