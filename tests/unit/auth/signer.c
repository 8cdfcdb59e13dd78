#include "tests/unit/auth/signer.h"

#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/buf.h"

static void append_base64url(struct pl_buf *out, const void *data, size_t len)
{
    size_t text_len = (len + 2) / 3 * 4;
    uint8_t *text = pl_alloc(text_len + 1);

    EVP_EncodeBlock(text, data, (int)len);
    for (size_t i = 0; i < text_len && text[i] != '='; i++) {
        pl_buf_append_byte(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    }
    free(text);
}

static void append_input(struct pl_buf *out, const char *header, const char *payload)
{
    append_base64url(out, header, strlen(header));
    pl_buf_append_byte(out, '.');
    append_base64url(out, payload, strlen(payload));
}

static char *finish(struct pl_buf *b)
{
    char *s = pl_strdup(pl_buf_cstr(b));

    pl_buf_done(b);
    return s;
}

char *unsigned_token(const char *header, const char *payload)
{
    struct pl_buf b = {0};

    append_input(&b, header, payload);
    pl_buf_append_byte(&b, '.');
    return finish(&b);
}

char *sign_hmac(const char *header, const char *payload, const char *hash, const char *secret)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_len;
    struct pl_buf b = {0};

    append_input(&b, header, payload);
    assert_non_null(HMAC(EVP_get_digestbyname(hash), secret, (int)strlen(secret), b.data, b.len,
                         mac, &mac_len));
    pl_buf_append_byte(&b, '.');
    append_base64url(&b, mac, mac_len);
    return finish(&b);
}

/* JWS wants r and s of an ECDSA signature side by side, not in DER (RFC 7518, 3.4). */
static void append_ecdsa(struct pl_buf *b, const uint8_t *der, size_t der_len, int bits)
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)der_len);
    int half = (bits + 7) / 8;
    uint8_t raw[2 * 66];

    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, half), half);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + half, half), half);
    append_base64url(b, raw, 2 * (size_t)half);
    ECDSA_SIG_free(sig);
}

char *sign_pem(const char *header, const char *payload, const char *hash, const char *key_file)
{
    char *pem = read_key(key_file);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct pl_buf b = {0};
    uint8_t sig[1024];
    size_t sig_len = sizeof(sig);

    append_input(&b, header, payload);
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_get_digestbyname(hash), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, sig, &sig_len, b.data, b.len), 1);
    pl_buf_append_byte(&b, '.');
    if (EVP_PKEY_base_id(key) == EVP_PKEY_EC) {
        append_ecdsa(&b, sig, sig_len, EVP_PKEY_bits(key));
    } else {
        append_base64url(&b, sig, sig_len);
    }
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    BIO_free(bio);
    free(pem);
    return finish(&b);
}

char *read_key(const char *key_file)
{
    char path[512], text[8192];
    size_t len;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", KEYS_DIR, key_file);
    f = fopen(path, "r");
    assert_non_null(f);
    len = fread(text, 1, sizeof(text), f);
    fclose(f);
    return pl_strndup(text, len);
}

static const char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

static int new_auth(const char *const *set, struct pl_auth **ret, struct pl_auth_error *err)
{
    struct pl_config_sources src = {.set = set, .getenv_fn = no_environment};
    struct pl_config_error config_error;
    struct pl_config *cfg;
    int rc;

    while (set[src.set_count]) {
        src.set_count++;
    }
    if (pl_config_load(&src, &cfg, &config_error) != 0) {
        fail_msg("%s", config_error.text);
    }
    rc = pl_auth_new(cfg, ret, err);
    pl_config_free(cfg);
    return rc;
}

struct pl_auth *auth_with(const char *const *set)
{
    struct pl_auth_error err = {""};
    struct pl_auth *a = NULL;

    if (new_auth(set, &a, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return a;
}

const char *auth_error_with(const char *const *set)
{
    static struct pl_auth_error err;
    struct pl_auth *a = NULL;

    err.text[0] = '\0';
    assert_int_equal(new_auth(set, &a, &err), PL_ERR_INVALID);
    assert_null(a);
    return err.text;
}

static struct pl_arena arena;
static struct pl_claims claims;
static const char *reason;

struct pl_claims last_claims(void)
{
    return claims;
}

const char *last_reason(void)
{
    return reason;
}

void forget_last(void)
{
    pl_arena_done(&arena);
}

int verify_bytes(struct pl_auth *a, const char *token, size_t len, int64_t now_ms)
{
    int rc;

    pl_arena_done(&arena);
    memset(&claims, 0xee, sizeof(claims));
    reason = NULL;
    rc = pl_auth_verify(a, (struct pl_str){token, len}, now_ms, &arena, &claims, &reason);
    if (rc != 0) {
        assert_non_null(reason);
    }
    return rc;
}

int verify_at(struct pl_auth *a, const char *token, int64_t now_ms)
{
    return verify_bytes(a, token, strlen(token), now_ms);
}

int verify_once(struct pl_auth *a, char *token, int64_t now_ms)
{
    int rc = verify_at(a, token, now_ms);

    free(token);
    return rc;
}
