#ifndef PL_CLI_BACKEND_H
#define PL_CLI_BACKEND_H

#include "server/cli/args.h"
#include "server/cli/response.h"

/* POSTs JSON as a backend does, with the API key of --api-key or the configuration; head_lines:
 * further header lines, each ended by CRLF; NULL: none. Tried again while the server says 503 or
 * 429: whoever calls sees to it that a second copy is harmless. 0 and an answer with status 200,
 * which the caller ends, or an exit status after saying why. */
int pl_cli_backend_post(const struct pl_cli_args *args, const char *target, struct pl_str json,
                        const char *head_lines, struct pl_cli_response *ret);

/* An integer of the answer's body. 0, or PL_CLI_FAILED after saying that there is none. */
int pl_cli_backend_integer(const struct pl_cli_args *args, const struct pl_cli_response *r,
                           const char *key, int64_t *ret);

#endif
