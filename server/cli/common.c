#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/clock.h"
#include "server/cli/command.h"

int pl_cli_fail(const struct pl_cli_args *args, int status, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "parley %s: ", args->command->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return status;
}

int pl_cli_load_config(const struct pl_cli_args *args, struct pl_config **ret)
{
    const char *set[PL_CLI_LIST_MAX + 1];
    struct pl_config_sources src = {.file = args->config, .set = set};
    struct pl_config_error err;
    struct pl_buf key = {0};
    int rc;

    if (args->key) {
        /* Before the others, so that it is the first key: the one that signs. */
        pl_buf_printf(&key, "auth.jwt_key=%s", args->key);
        set[src.set_count++] = pl_buf_cstr(&key);
    }
    for (size_t i = 0; i < args->set.count; i++) {
        set[src.set_count++] = args->set.items[i];
    }
    rc = pl_config_load(&src, ret, &err);
    pl_buf_done(&key);
    return rc == 0 ? 0 : pl_cli_fail(args, PL_CLI_USAGE, "%s", err.text);
}

int pl_cli_load_auth(const struct pl_cli_args *args, struct pl_auth **ret)
{
    struct pl_auth_error err;
    struct pl_config *cfg;
    int rc = pl_cli_load_config(args, &cfg);

    if (rc != 0) {
        return rc;
    }
    rc = pl_auth_new(cfg, ret, &err);
    pl_config_free(cfg);
    return rc == 0 ? 0 : pl_cli_fail(args, PL_CLI_USAGE, "%s", err.text);
}

int pl_cli_server_url(const struct pl_cli_args *args, struct pl_url *ret)
{
    const char *from_env = getenv("PARLEY_URL");
    const char *text = args->url               ? args->url
                       : from_env && *from_env ? from_env
                                               : "http://127.0.0.1:8888";
    const char *reason = pl_url_parse(text, ret);

    return reason ? pl_cli_fail(args, PL_CLI_USAGE, "%s: %s", text, reason) : 0;
}

int pl_cli_user(const struct pl_cli_args *args, struct pl_arena *arena, struct pl_str *ret)
{
    const struct pl_value v = {.type = PL_STRING, .u.string = {args->user, strlen(args->user)}};

    return pl_parse_user_id(&v, arena, ret) == 0
               ? 0
               : pl_cli_fail(args, PL_CLI_USAGE,
                             "--user: an integer or a text of 1 to 128 bytes is expected");
}

static size_t count_items(const struct pl_cli_list *l)
{
    struct pl_cli_list_pos pos = {0};
    struct pl_str item;
    size_t n = 0;

    while (pl_cli_list_next(l, &pos, &item)) {
        n++;
    }
    return n;
}

size_t pl_cli_membership_members(const struct pl_cli_args *args)
{
    return (size_t)(args->communities.count > 0) + (args->channels.count > 0);
}

static bool write_ids(const struct pl_cli_list *l, struct pl_writer *w, struct pl_str *ret_bad)
{
    struct pl_cli_list_pos pos = {0};
    struct pl_str item;
    int64_t id;

    pl_write_array(w, count_items(l));
    while (pl_cli_list_next(l, &pos, &item)) {
        if (!pl_parse_cursor(item, &id)) {
            *ret_bad = item;
            return false;
        }
        pl_write_int(w, id);
    }
    return true;
}

bool pl_cli_write_membership(const struct pl_cli_args *args, const char *ids_key,
                             struct pl_writer *w, struct pl_str *ret_bad)
{
    struct pl_cli_list_pos pos = {0};
    struct pl_str item;

    if (args->communities.count > 0) {
        pl_write_key(w, ids_key);
        if (!write_ids(&args->communities, w, ret_bad)) {
            return false;
        }
    }
    if (args->channels.count > 0) {
        pl_write_key(w, "channels");
        pl_write_array(w, count_items(&args->channels));
        while (pl_cli_list_next(&args->channels, &pos, &item)) {
            pl_write_str(w, item);
        }
    }
    return true;
}

/* By the same road as a token's claims: names are made, checked, sorted and made unique in one
 * place. */
int pl_cli_membership(const struct pl_cli_args *args, struct pl_arena *arena,
                      struct pl_membership *ret)
{
    static const struct pl_request_limits no_limits = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
    struct pl_buf json = {0};
    struct pl_request_error err;
    const struct pl_value *v;
    struct pl_str bad;
    struct pl_writer w;
    int rc = 0;

    if (pl_cli_membership_members(args) == 0) {
        return pl_cli_fail(args, PL_CLI_USAGE,
                           "--communities or --channels is missing: what may be read");
    }
    pl_writer_init(&w, PL_JSON, &json);
    pl_write_map(&w, pl_cli_membership_members(args));
    if (!pl_cli_write_membership(args, "communities", &w, &bad)) {
        rc = pl_cli_fail(args, PL_CLI_USAGE, "--communities: \"%.*s\" is not an integer",
                         (int)bad.len, bad.s);
    } else if (pl_decode(PL_JSON, json.data, json.len, arena, &v, NULL) != 0) {
        rc = pl_cli_fail(args, PL_CLI_USAGE, "--channels: not valid UTF-8");
    } else if (pl_parse_membership(v, "communities", arena, &no_limits, ret, &err) != 0) {
        rc = pl_cli_fail(args, PL_CLI_USAGE, "--%s", err.text);
    }
    pl_buf_done(&json);
    return rc;
}

static int mint_with(const struct pl_cli_args *args, const struct pl_auth *auth,
                     struct pl_arena *arena, char **ret_token)
{
    struct pl_membership membership;
    struct pl_mint mint = {
        .membership = &membership, .may_publish = !args->no_publish, .ttl_s = args->ttl_ms / 1000};
    int rc = pl_cli_user(args, arena, &mint.user_id);

    if (rc == 0) {
        rc = pl_cli_membership(args, arena, &membership);
    }
    if (rc != 0) {
        return rc;
    }
    if (!pl_auth_has_jwt_key(auth)) {
        return pl_cli_fail(
            args, PL_CLI_USAGE,
            "no key to sign with: give --key SECRET, --config FILE, --set auth.jwt_key=SECRET or "
            "PARLEY_AUTH_JWT_KEY, the one parleyd has");
    }
    if (mint.ttl_s == 0 || pl_auth_mint(auth, &mint, pl_clock_unix_ms(), ret_token) != 0) {
        return pl_cli_fail(args, PL_CLI_USAGE,
                           "no token was made: auth.jwt_algorithm must be HS256, HS384 or HS512, "
                           "and --ttl from 1s to "
                           "auth.max_token_ttl");
    }
    return 0;
}

int pl_cli_mint(const struct pl_cli_args *args, char **ret_token)
{
    struct pl_arena arena = {0};
    struct pl_auth *auth;
    int rc = pl_cli_load_auth(args, &auth);

    if (rc != 0) {
        return rc;
    }
    rc = mint_with(args, auth, &arena, ret_token);
    pl_auth_free(auth);
    pl_arena_done(&arena);
    return rc;
}

static struct pl_str text_member(const struct pl_value *v, const char *key)
{
    const struct pl_value *m = pl_value_get(v, key);

    return m && m->type == PL_STRING ? m->u.string : (struct pl_str){"", 0};
}

const char *pl_cli_describe_error(const struct pl_cli_response *r, struct pl_arena *arena,
                                  struct pl_str *ret_code)
{
    const struct pl_value *v = NULL;
    enum {
        SIZE = 512
    };
    char *text = pl_arena_alloc(arena, SIZE);
    struct pl_str code, message;

    if (pl_decode(pl_cli_response_codec(r), r->body.data, r->body.len, arena, &v, NULL) != 0) {
        v = NULL;
    }
    code = text_member(v, "code");
    message = text_member(v, "message");
    snprintf(text, SIZE, "%d%s%.*s%s%.*s", r->status, code.len ? " " : "",
             (int)(code.len < 64 ? code.len : 64), code.s, message.len ? ": " : "",
             (int)(message.len < 300 ? message.len : 300), message.s);
    if (ret_code) {
        *ret_code = code;
    }
    return text;
}
