#ifndef PL_AUTH_AUTH_H
#define PL_AUTH_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/request.h"
#include "protocol/value.h"
#include "server/base/config.h"

/* Who is asking: JSON Web Tokens of clients (RFC 7519) and API keys of backends. Holds the keys;
 * does no I/O after pl_auth_new; time is an argument.
 *
 * The algorithm is bound by configuration before a token is looked at: a token whose header names
 * any other ("none" included) is refused. At load, with HS* a PEM key as secret is refused, with
 * RS* and ES* anything but a PEM public key of the right kind (RSA of 2048 bits and more; the
 * algorithm's curve). Keys with a kid are used only for tokens that name it; a key without kid is
 * tried for tokens that name none, and for those that name an unknown one. HS secrets shorter than
 * 32 bytes load with a warning in the log (RFC 7518, 3.2). RS/ES verifications are costly, so
 * their success is remembered by token hash, for the 10 000 tokens used last; times and claims are
 * checked each time.
 *
 * auth.jwt_key is SECRET or "kid:NAME SECRET", auth.jwt_key_file PATH or "kid:NAME PATH"; a file's
 * last newline is not part of the key. Empty entries count as none. */
struct pl_auth;

struct pl_auth_error {
    char text[256]; /* names the option, never a key */
};

/* From auth.jwt_algorithm, jwt_key, jwt_key_file, api_key, leeway, max_token_ttl and the limits of
 * channels and topics; cfg is not kept. 0, or PL_ERR_INVALID and err. */
int pl_auth_new(const struct pl_config *cfg, struct pl_auth **ret, struct pl_auth_error *err);
void pl_auth_free(struct pl_auth *a); /* harmless on NULL */
bool pl_auth_has_jwt_key(const struct pl_auth *a);
bool pl_auth_has_api_key(const struct pl_auth *a);

struct pl_claims {
    struct pl_str user_id;           /* sub, normalised as pl_parse_user_id does */
    int64_t exp_ms;                  /* unix; to the nearest millisecond when exp has a fraction */
    int64_t iat_ms;                  /* unix; -1: absent */
    struct pl_membership membership; /* communities, channels, subscriptions */
    bool may_publish; /* scope (a blank-separated string or an array) holds "publish" */
};

/* 0 and claims in the arena, or PL_ERR_TOKEN_EXPIRED (exp + leeway has passed), or
 * PL_ERR_TOKEN_INVALID (everything else: malformed, signature, algorithm, a typ other than JWT,
 * crit, nbf or iat in the future by more than the leeway, no sub, no exp, neither communities nor
 * channels, a claim of a wrong type, exp - iat beyond max_token_ttl; without iat, exp - now).
 * *ret_reason: a static sentence for the client that says what to fix and nothing about keys. A
 * token longer than 8 KiB is PL_ERR_TOKEN_INVALID unread. */
int pl_auth_verify(struct pl_auth *a, struct pl_str token, int64_t now_unix_ms,
                   struct pl_arena *arena, struct pl_claims *ret, const char **ret_reason);

/* Compares with every key in constant time. -1: none; else the key's index. */
int pl_auth_api_key(const struct pl_auth *a, struct pl_str key);

/* Signs a token with the first key (jwt_key before jwt_key_file; HS* only), for `parley token` and
 * the demo of --dev. 0 and a malloc'ed string, or PL_ERR_INVALID (no key, an asymmetric algorithm,
 * or a ttl beyond max_token_ttl). membership: channels "community:N" go to `communities`, others
 * to `channels`; narrowing is not carried. iat is set to now, exp to now + ttl; both in whole
 * seconds. */
struct pl_mint {
    struct pl_str user_id;
    const struct pl_membership *membership;
    bool may_publish;
    int64_t ttl_s;
};
int pl_auth_mint(const struct pl_auth *a, const struct pl_mint *m, int64_t now_unix_ms,
                 char **ret_token);

#endif
