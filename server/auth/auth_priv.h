#ifndef PL_AUTH_AUTH_PRIV_H
#define PL_AUTH_AUTH_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/auth/auth.h"
#include "server/base/list.h"
#include "server/base/map.h"

enum {
    PL_AUTH__TOKEN_MAX = 8192
};

struct pl_auth__key {
    char *kid; /* NULL: for tokens that name no key we know */
    char *bytes;
    size_t len;
};

/* keys.c: what the options name, checked against the algorithm. */
struct pl_auth__keys {
    struct pl_auth__key *items;
    size_t count;
};
int pl_auth__keys_load(const struct pl_config *cfg, struct pl_auth__keys *ret,
                       struct pl_auth_error *err);
void pl_auth__keys_done(struct pl_auth__keys *k); /* wipes them */

/* seen.c: tokens whose signature was found good, the most recently used `max` of them. Tokens are
 * known by 128 bits of a keyed hash (seeded per process), so nobody outside can look for one that
 * collides. */
struct pl_auth__seen {
    struct pl_map map;
    struct pl_list lru; /* oldest first */
    uint32_t max;
};
void pl_auth__seen_init(struct pl_auth__seen *s, uint32_t max);
void pl_auth__seen_done(struct pl_auth__seen *s);
bool pl_auth__seen_find(struct pl_auth__seen *s, struct pl_str token);
void pl_auth__seen_add(struct pl_auth__seen *s,
                       struct pl_str token); /* harmless when it is there already */

struct pl_auth {
    int algorithm; /* enum pl_algorithm */
    struct pl_auth__keys keys;
    struct pl_auth__keys api_keys; /* without kid */
    int64_t leeway_ms, max_ttl_ms;
    struct pl_request_limits limits;
    struct pl_auth__seen seen; /* unused with HS*: checking is as cheap as remembering */
};

static inline bool pl_auth__is_hmac(int algorithm)
{
    return algorithm <= PL_ALG_HS512;
}

/* base64url.c: RFC 4648 section 5 without padding, canonical: one text per value. False on
 * anything else. out has room for in.len / 4 * 3 + 2 bytes. */
bool pl_auth__base64url_decode(struct pl_str in, uint8_t *out, size_t *ret_len);

/* jwt.c: the two things libjwt does here. token is NUL-terminated, its three parts are base64url
 * and its header names exactly this algorithm: the caller has checked. */
bool pl_auth__jwt_signature_good(const char *token, int algorithm, const struct pl_auth__key *key);
/* A malloc'ed token, or NULL. */
char *pl_auth__jwt_sign(const char *claims_json, int algorithm, const struct pl_auth__key *key);

/* claims.c: the payload's members, checked. 0, or a status and reason as pl_auth_verify returns
 * them. */
int pl_auth__claims_read(const struct pl_auth *a, const struct pl_value *payload,
                         int64_t now_unix_ms, struct pl_arena *arena, struct pl_claims *ret,
                         const char **ret_reason);

#endif
