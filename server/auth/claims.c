#include <string.h>

#include "protocol/status.h"
#include "server/auth/auth_priv.h"

/* The end of the year 9999. A time beyond it was meant in milliseconds. */
static const int64_t max_s = 253402300799;

enum time_claim {
    TIME_GOOD,
    TIME_ABSENT,
    TIME_BAD
};

/* Seconds since 1970, with a fraction or without (RFC 7519: NumericDate), to the nearest
 * millisecond. */
static enum time_claim read_time(const struct pl_value *payload, const char *name, int64_t *ret_ms)
{
    const struct pl_value *v = pl_value_get(payload, name);

    if (!v) {
        return TIME_ABSENT;
    }
    if (v->type == PL_INT_VALUE && v->u.integer >= 0 && v->u.integer <= max_s) {
        *ret_ms = v->u.integer * 1000;
        return TIME_GOOD;
    }
    if (v->type == PL_REAL && v->u.real >= 0 && v->u.real <= (double)max_s) {
        *ret_ms = (int64_t)(v->u.real * 1000 + 0.5);
        return TIME_GOOD;
    }
    return TIME_BAD;
}

struct times {
    int64_t exp_ms, iat_ms, nbf_ms; /* iat -1, nbf 0: absent */
};

static const char *read_times(const struct pl_value *payload, struct times *t)
{
    t->iat_ms = -1;
    t->nbf_ms = 0;
    switch (read_time(payload, "exp", &t->exp_ms)) {
    case TIME_ABSENT:
        return "the token has no exp: say when it expires, in seconds since 1970";
    case TIME_BAD:
        return "the token's exp must be a number of seconds (not milliseconds) since 1970";
    case TIME_GOOD:
        break;
    }
    if (read_time(payload, "iat", &t->iat_ms) == TIME_BAD) {
        return "the token's iat must be a number of seconds (not milliseconds) since 1970";
    }
    if (read_time(payload, "nbf", &t->nbf_ms) == TIME_BAD) {
        return "the token's nbf must be a number of seconds (not milliseconds) since 1970";
    }
    return NULL;
}

static int check_times(const struct pl_auth *a, const struct times *t, int64_t now_ms,
                       const char **ret_reason)
{
    /* Without iat the token may have been made at any time up to now: what is left of its life is
     * the least it was given. */
    int64_t from_ms = t->iat_ms >= 0 ? t->iat_ms : now_ms;

    if (t->exp_ms - from_ms > a->max_ttl_ms) {
        *ret_reason = "the token lives too long: exp - iat is beyond auth.max_token_ttl";
        return PL_ERR_TOKEN_INVALID;
    }
    if (t->nbf_ms > now_ms + a->leeway_ms) {
        *ret_reason = "the token is not valid yet (nbf): check the clocks";
        return PL_ERR_TOKEN_INVALID;
    }
    if (t->iat_ms > now_ms + a->leeway_ms) {
        *ret_reason = "the token comes from the future (iat): check the clocks";
        return PL_ERR_TOKEN_INVALID;
    }
    if (now_ms >= t->exp_ms + a->leeway_ms) {
        *ret_reason = "the token has expired: get a new one";
        return PL_ERR_TOKEN_EXPIRED;
    }
    return 0;
}

static const char *read_membership(const struct pl_auth *a, const struct pl_value *payload,
                                   struct pl_arena *arena, struct pl_membership *ret)
{
    struct pl_request_error ignored;
    int rc = pl_parse_membership(payload, "communities", arena, &a->limits, ret, &ignored);

    if (rc == PL_ERR_NO_CHANNEL) {
        return "the token has neither communities nor channels";
    }
    if (rc == PL_ERR_TOO_BIG) {
        return "the token has more communities, channels or subscriptions than this server takes";
    }
    return rc == 0 ? NULL
                   : "the token's communities must be an array of integers, channels an array of "
                     "names, "
                     "subscriptions an array of {community_id, article_ids}";
}

static bool has_word(struct pl_str text, const char *word)
{
    size_t word_len = strlen(word);

    for (size_t i = 0; i < text.len; i++) {
        size_t start = i;

        while (i < text.len && text.s[i] != ' ') {
            i++;
        }
        if (i - start == word_len && memcmp(text.s + start, word, word_len) == 0) {
            return true;
        }
    }
    return false;
}

/* OAuth writes scopes as one string (RFC 8693), others as an array. */
static const char *read_scope(const struct pl_value *payload, bool *ret_may_publish)
{
    static const char *const wrong = "the token's scope must be a string or an array of strings";
    const struct pl_value *v = pl_value_get(payload, "scope");

    *ret_may_publish = false;
    if (!v) {
        return NULL;
    }
    if (v->type == PL_STRING) {
        *ret_may_publish = has_word(v->u.string, "publish");
        return NULL;
    }
    if (v->type != PL_ARRAY) {
        return wrong;
    }
    for (size_t i = 0; i < v->u.array.count; i++) {
        const struct pl_value *item = &v->u.array.items[i];

        if (item->type != PL_STRING) {
            return wrong;
        }
        *ret_may_publish = *ret_may_publish || pl_str_eq(item->u.string, PL_LIT("publish"));
    }
    return NULL;
}

static const char *read_shape(const struct pl_auth *a, const struct pl_value *payload,
                              struct pl_arena *arena, struct pl_claims *c, struct times *t)
{
    const struct pl_value *sub = pl_value_get(payload, "sub");
    const char *reason;

    if (!sub) {
        return "the token has no sub: name the user in it";
    }
    if (pl_parse_user_id(sub, arena, &c->user_id) != 0) {
        return "the token's sub must be an integer or a string of 1 to 128 bytes";
    }
    reason = read_times(payload, t);
    if (!reason) {
        reason = read_membership(a, payload, arena, &c->membership);
    }
    return reason ? reason : read_scope(payload, &c->may_publish);
}

int pl_auth__claims_read(const struct pl_auth *a, const struct pl_value *payload,
                         int64_t now_unix_ms, struct pl_arena *arena, struct pl_claims *ret,
                         const char **ret_reason)
{
    struct pl_claims c = {.iat_ms = -1};
    struct times t;
    const char *reason = read_shape(a, payload, arena, &c, &t);
    int rc;

    if (reason) {
        *ret_reason = reason;
        return PL_ERR_TOKEN_INVALID;
    }
    rc = check_times(a, &t, now_unix_ms, ret_reason);
    if (rc != 0) {
        return rc;
    }
    c.exp_ms = t.exp_ms;
    c.iat_ms = t.iat_ms;
    *ret = c;
    return 0;
}
