#include "server/auth/auth.h"

#include <stdlib.h>
#include <string.h>

#include "server/auth/auth_priv.h"
#include "server/base/alloc.h"

enum {
    SEEN_MAX = 10000
};

static void load_api_keys(const struct pl_strings *entries, struct pl_auth__keys *keys)
{
    keys->items = pl_alloc((entries->count + 1) * sizeof(*keys->items));
    for (size_t i = 0; i < entries->count; i++) {
        if (*entries->items[i]) {
            keys->items[keys->count++] = (struct pl_auth__key){
                .bytes = pl_strdup(entries->items[i]),
                .len = strlen(entries->items[i]),
            };
        }
    }
}

/* OpenSSL loads its algorithms at its first signature: let that be now, and not while the first client
 * waits. Asymmetric keys have been read with it already. */
static void load_algorithms(const struct pl_auth *a)
{
    if (a->keys.count > 0 && pl_auth__is_hmac(a->algorithm)) {
        free(pl_auth__jwt_sign("{}", a->algorithm, &a->keys.items[0]));
    }
}

int pl_auth_new(const struct pl_config *cfg, struct pl_auth **ret, struct pl_auth_error *err)
{
    struct pl_auth *a = pl_alloc(sizeof(*a));
    int rc = pl_auth__keys_load(cfg, &a->keys, err);

    pl_auth__seen_init(&a->seen, SEEN_MAX);
    if (rc != 0) {
        pl_auth_free(a);
        return rc;
    }
    load_api_keys(&cfg->auth_api_key, &a->api_keys);
    a->algorithm = cfg->auth_jwt_algorithm;
    a->leeway_ms = cfg->auth_leeway;
    a->max_ttl_ms = cfg->auth_max_token_ttl;
    a->limits = (struct pl_request_limits){
        .channels = (size_t)cfg->limits_channels_per_user,
        .topics = (size_t)cfg->limits_topics_per_queue,
    };
    load_algorithms(a);
    *ret = a;
    return 0;
}

void pl_auth_free(struct pl_auth *a)
{
    if (!a) {
        return;
    }
    pl_auth__keys_done(&a->keys);
    pl_auth__keys_done(&a->api_keys);
    pl_auth__seen_done(&a->seen);
    free(a);
}

bool pl_auth_has_jwt_key(const struct pl_auth *a)
{
    return a->keys.count > 0;
}

bool pl_auth_has_api_key(const struct pl_auth *a)
{
    return a->api_keys.count > 0;
}

/* Time depends on the two lengths, never on where the texts differ. */
static bool same_secret(const struct pl_auth__key *key, struct pl_str given)
{
    size_t differences = key->len ^ given.len;

    for (size_t i = 0; i < key->len; i++) {
        differences |= (size_t)(uint8_t)(key->bytes[i] ^ (i < given.len ? given.s[i] : 0));
    }
    return differences == 0;
}

int pl_auth_api_key(const struct pl_auth *a, struct pl_str key)
{
    int found = -1;

    for (size_t i = 0; i < a->api_keys.count; i++) {
        if (same_secret(&a->api_keys.items[i], key)) {
            found = (int)i;
        }
    }
    return found;
}
