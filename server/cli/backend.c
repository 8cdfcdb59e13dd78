#include "server/cli/backend.h"

#include <string.h>

#include "server/base/clock.h"
#include "server/cli/command.h"
#include "server/cli/socket.h"

enum {
    TRIES = 4
};

static int explain_refusal(const struct pl_cli_args *args, const struct pl_cli_response *r)
{
    struct pl_arena arena = {0};
    const char *what = pl_cli_describe_error(r, &arena, NULL);

    pl_cli_fail(args, PL_CLI_FAILED, "%s%s", what,
                r->status == 401   ? " (--api-key, PARLEY_AUTH_API_KEY or --config give the key)"
                : r->status == 404 ? " (with server.internal_listen set, this is done there: --url)"
                                   : "");
    pl_arena_done(&arena);
    return PL_CLI_FAILED;
}

/* May this be sent again? Its outcome is unknown or it was not taken. Sleeps as long as the server
 * asks. */
static bool may_try_again(const struct pl_cli_response *r, int tries_left)
{
    int64_t wait_ms = pl_cli_response_retry_after_ms(r);

    if (tries_left == 0 || (r->status != 503 && r->status != 429)) {
        return false;
    }
    wait_ms = wait_ms < 0 ? 1000 : wait_ms > 10000 ? 10000 : wait_ms;
    return pl_socket_sleep_until(pl_clock_mono_ms() + (uint64_t)wait_ms) == 0;
}

static int send_request(const struct pl_cli_args *args, const struct pl_url *u,
                        const struct pl_cli_request *rq, struct pl_cli_response *ret)
{
    struct pl_cli_failure failure;

    for (int tries_left = TRIES - 1;; tries_left--) {
        if (pl_cli_http(u, rq, ret, &failure) != 0) {
            return pl_cli_fail(args, PL_CLI_FAILED, "%s; is parleyd running there? (--url)",
                               failure.text);
        }
        if (ret->status == 200) {
            return 0;
        }
        if (!may_try_again(ret, tries_left)) {
            break;
        }
        pl_cli_response_done(ret);
    }
    explain_refusal(args, ret);
    pl_cli_response_done(ret);
    return PL_CLI_FAILED;
}

/* Without an API key the server decides. */
static int write_key_line(const struct pl_cli_args *args, struct pl_buf *out)
{
    struct pl_config *cfg;
    const char *key = args->api_key;
    int rc = pl_cli_load_config(args, &cfg);

    if (rc != 0) {
        return rc;
    }
    if (!key && cfg->auth_api_key.count > 0) {
        key = cfg->auth_api_key.items[0];
    }
    if (key && strpbrk(key, "\r\n")) {
        rc = pl_cli_fail(args, PL_CLI_USAGE, "--api-key: a key is one line");
    } else if (key && *key) {
        pl_buf_printf(out, "X-API-Key: %s\r\n", key);
    }
    pl_config_free(cfg);
    return rc;
}

int pl_cli_backend_post(const struct pl_cli_args *args, const char *target, struct pl_str json,
                        const char *head_lines, struct pl_cli_response *ret)
{
    struct pl_cli_request rq = {.method = "POST",
                                .target = target,
                                .content_type = "application/json",
                                .body = json,
                                .timeout_ms = 15000};
    struct pl_buf lines = {0};
    struct pl_url url;
    int rc = pl_cli_server_url(args, &url);

    if (rc == 0) {
        rc = write_key_line(args, &lines);
    }
    if (rc == 0) {
        pl_buf_append_str(&lines, head_lines ? head_lines : "");
        rq.head_lines = pl_buf_cstr(&lines);
        rc = send_request(args, &url, &rq, ret);
    }
    pl_buf_done(&lines);
    return rc;
}

int pl_cli_backend_integer(const struct pl_cli_args *args, const struct pl_cli_response *r,
                           const char *key, int64_t *ret)
{
    struct pl_arena arena = {0};
    const struct pl_value *v = NULL, *n = NULL;

    if (pl_decode(pl_cli_response_codec(r), r->body.data, r->body.len, &arena, &v, NULL) == 0) {
        n = pl_value_get(v, key);
    }
    if (!n || n->type != PL_INT_VALUE) {
        pl_cli_fail(args, PL_CLI_FAILED, "the answer has no %s: is this a Parley server?", key);
        n = NULL;
    } else {
        *ret = n->u.integer;
    }
    pl_arena_done(&arena);
    return n ? 0 : PL_CLI_FAILED;
}
