#include <string.h>

#include "protocol/status.h"
#include "server/auth/auth_priv.h"

static bool is_community(struct pl_str channel, struct pl_str *ret_id)
{
    static const char prefix[] = "community:";
    size_t len = sizeof(prefix) - 1;

    if (channel.len <= len || memcmp(channel.s, prefix, len) != 0) {
        return false;
    }
    *ret_id = (struct pl_str){channel.s + len, channel.len - len};
    return true;
}

static void write_communities(struct pl_writer *w, const struct pl_membership *m, size_t count)
{
    struct pl_str id;

    pl_write_key(w, "communities");
    pl_write_array(w, count);
    for (size_t i = 0; i < m->channel_count; i++) {
        if (is_community(m->channels[i], &id)) {
            pl_write_raw(w, id.s, id.len);
        }
    }
}

static void write_channels(struct pl_writer *w, const struct pl_membership *m, size_t count)
{
    struct pl_str unused;

    pl_write_key(w, "channels");
    pl_write_array(w, count);
    for (size_t i = 0; i < m->channel_count; i++) {
        if (!is_community(m->channels[i], &unused)) {
            pl_write_str(w, m->channels[i]);
        }
    }
}

static void write_claims(struct pl_buf *out, const struct pl_mint *mint, int64_t now_s)
{
    size_t communities = 0, channels;
    struct pl_writer w;
    struct pl_str id;

    for (size_t i = 0; i < mint->membership->channel_count; i++) {
        communities += is_community(mint->membership->channels[i], &id);
    }
    channels = mint->membership->channel_count - communities;
    pl_writer_init(&w, PL_JSON, out);
    pl_write_map(&w, 4 + (channels > 0) + mint->may_publish);
    pl_write_key(&w, "sub");
    pl_write_str(&w, mint->user_id);
    pl_write_key(&w, "iat");
    pl_write_int(&w, now_s);
    pl_write_key(&w, "exp");
    pl_write_int(&w, now_s + mint->ttl_s);
    write_communities(&w, mint->membership, communities);
    if (channels > 0) {
        write_channels(&w, mint->membership, channels);
    }
    if (mint->may_publish) {
        pl_write_key(&w, "scope");
        pl_write_cstr(&w, "publish");
    }
}

int pl_auth_mint(const struct pl_auth *a, const struct pl_mint *m, int64_t now_unix_ms,
                 char **ret_token)
{
    struct pl_buf json = {0};
    char *token;

    if (a->keys.count == 0 || !pl_auth__is_hmac(a->algorithm) || m->ttl_s > a->max_ttl_ms / 1000) {
        return PL_ERR_INVALID;
    }
    write_claims(&json, m, now_unix_ms / 1000);
    token = pl_auth__jwt_sign(pl_buf_cstr(&json), a->algorithm, &a->keys.items[0]);
    pl_buf_done(&json);
    if (!token) {
        return PL_ERR_INVALID;
    }
    *ret_token = token;
    return 0;
}
