#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/auth/auth_priv.h"
#include "server/base/alloc.h"
#include "server/base/log.h"

enum {
    FILE_MAX_BYTES = 16384,
    SHORT_SECRET_BYTES = 32,
    RSA_2048_MIN_DER_BYTES = 290
};

static const char kid_prefix[] = "kid:";
static const char pem_begin[] = "-----BEGIN ";

static int fail(struct pl_auth_error *err, const char *option, const char *subject,
                const char *what)
{
    snprintf(err->text, sizeof(err->text), "%s%s%s: %s", option, *subject ? " " : "", subject,
             what);
    return PL_ERR_INVALID;
}

/* Where a public key's algorithm stands in it: SubjectPublicKeyInfo begins with two nested
 * sequences and then these bytes (RFC 5280, 4.1). Looking is enough to refuse a key of another
 * kind at start, where it can be explained; libjwt parses it in full at each use, and does not
 * compare curve and algorithm. */
struct key_kind {
    const char *accepted;
    uint8_t len;
    uint8_t oid[19];
};
static const struct key_kind rsa = {
    "an RSA public key of at least 2048 bits, as PEM (-----BEGIN PUBLIC KEY-----), is expected",
    11,
    {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01}};
static const struct key_kind p256 = {
    "a P-256 public key as PEM (-----BEGIN PUBLIC KEY-----), is expected",
    19,
    {0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
     0x03, 0x01, 0x07}};
static const struct key_kind p384 = {
    "a P-384 public key as PEM (-----BEGIN PUBLIC KEY-----), is expected",
    16,
    {0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
     0x22}};
static const struct key_kind p521 = {
    "a P-521 public key as PEM (-----BEGIN PUBLIC KEY-----), is expected",
    16,
    {0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
     0x23}};

static const struct key_kind *const kinds[] = {
    [PL_ALG_RS256] = &rsa,  [PL_ALG_RS384] = &rsa,  [PL_ALG_RS512] = &rsa,
    [PL_ALG_ES256] = &p256, [PL_ALG_ES384] = &p384, [PL_ALG_ES512] = &p521,
};

/* The offset behind a sequence's tag and length; 0 if there is none at `at`. */
static size_t enter_sequence(const uint8_t *der, size_t len, size_t at)
{
    if (at + 2 > len || der[at] != 0x30) {
        return 0;
    }
    return at + 2 + (der[at + 1] & 0x80 ? der[at + 1] & 0x7f : 0);
}

static bool der_is_of_kind(const uint8_t *der, size_t len, const struct key_kind *kind)
{
    size_t at = enter_sequence(der, len, 0);

    at = at ? enter_sequence(der, len, at) : 0;
    return at && at + kind->len <= len && memcmp(der + at, kind->oid, kind->len) == 0 &&
           (kind != &rsa || len >= RSA_2048_MIN_DER_BYTES);
}

/* The base64 text between the PEM's lines as base64url: len 0 when it is no public key. */
static struct pl_str pem_body(const char *pem, char *out)
{
    static const char begin[] = "-----BEGIN PUBLIC KEY-----", end[] = "-----END PUBLIC KEY-----";
    const char *from = strstr(pem, begin);
    const char *to = from ? strstr(from, end) : NULL;
    struct pl_str body = {out, 0};

    if (!to) {
        return body;
    }
    for (const char *c = from + strlen(begin); c < to; c++) {
        if (!strchr("\r\n\t =", *c)) {
            out[body.len++] = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
        }
    }
    return body;
}

static bool pem_is_of_kind(const struct pl_auth__key *key, const struct key_kind *kind)
{
    char *text = pl_alloc(key->len + 1);
    uint8_t *der = pl_alloc(key->len + 1);
    size_t der_len = 0;
    bool ok = pl_auth__base64url_decode(pem_body(key->bytes, text), der, &der_len) &&
              der_is_of_kind(der, der_len, kind);

    free(text);
    free(der);
    return ok;
}

static int check_key(int algorithm, const struct pl_auth__key *key, const char *option,
                     const char *subject, struct pl_auth_error *err)
{
    if (key->len == 0) {
        return fail(err, option, subject, "the key is empty");
    }
    if (!pl_auth__is_hmac(algorithm)) {
        return pem_is_of_kind(key, kinds[algorithm])
                   ? 0
                   : fail(err, option, subject, kinds[algorithm]->accepted);
    }
    /* Whoever holds the public key could sign with it. */
    if (strstr(key->bytes, pem_begin)) {
        return fail(err, option, subject,
                    "a PEM key cannot be the secret of an HS algorithm: set auth.jwt_algorithm to "
                    "its RS or ES one");
    }
    if (key->len < SHORT_SECRET_BYTES) {
        pl_log(PL_LOG_WARN, "auth_short_secret", PL_STR("option", option),
               PL_INT("bytes", key->len), PL_INT("recommended", SHORT_SECRET_BYTES));
    }
    return 0;
}

/* A secret's file usually ends with the newline of the editor or of echo, which is not part of
 * it. */
static void strip_newline(struct pl_auth__key *key)
{
    if (key->len > 0 && key->bytes[key->len - 1] == '\n') {
        key->len--;
        if (key->len > 0 && key->bytes[key->len - 1] == '\r') {
            key->len--;
        }
        key->bytes[key->len] = '\0';
    }
}

static int read_key_file(const char *option, const char *path, struct pl_auth__key *key,
                         struct pl_auth_error *err)
{
    FILE *f = fopen(path, "re");
    int rc = 0;

    if (!f) {
        return fail(err, option, path, strerror(errno));
    }
    key->bytes = pl_alloc(FILE_MAX_BYTES + 1);
    key->len = fread(key->bytes, 1, FILE_MAX_BYTES, f);
    if (ferror(f)) {
        rc = fail(err, option, path, strerror(errno));
    } else if (fgetc(f) != EOF) {
        rc = fail(err, option, path, "larger than 16 KiB: not a key");
    } else if (memchr(key->bytes, '\0', key->len)) {
        rc = fail(err, option, path, "holds a NUL byte: store the secret as text");
    }
    fclose(f);
    strip_newline(key);
    return rc;
}

/* "kid:NAME REST" or REST. Returns REST, or NULL for a kid without a rest. */
static const char *split_kid(const char *entry, struct pl_auth__key *key)
{
    const char *name = entry + strlen(kid_prefix);
    const char *blank;

    if (strncmp(entry, kid_prefix, strlen(kid_prefix)) != 0) {
        return entry;
    }
    blank = strchr(name, ' ');
    if (!blank || blank == name) {
        return NULL;
    }
    key->kid = pl_strndup(name, (size_t)(blank - name));
    return blank + strspn(blank, " ");
}

static bool kid_is_taken(const struct pl_auth__keys *keys, const char *kid)
{
    for (size_t i = 0; kid && i < keys->count; i++) {
        if (keys->items[i].kid && strcmp(keys->items[i].kid, kid) == 0) {
            return true;
        }
    }
    return false;
}

struct source {
    const char *option;
    bool is_file;
};

/* The key goes into the table even when it is wrong: the table's owner frees it. */
static int add_key(struct pl_auth__keys *keys, int algorithm, const struct source *src,
                   const char *entry, struct pl_auth_error *err)
{
    struct pl_auth__key key = {0};
    const char *rest = split_kid(entry, &key);
    const char *subject = src->is_file && rest ? rest : "";
    bool taken = kid_is_taken(keys, key.kid);
    int rc = 0;

    if (rest && src->is_file) {
        rc = read_key_file(src->option, rest, &key, err);
    } else if (rest) {
        key.bytes = pl_strdup(rest);
        key.len = strlen(rest);
    }
    keys->items[keys->count++] = key;
    if (!rest) {
        return fail(err, src->option, "", "after \"kid:NAME\" a blank and the key are expected");
    }
    if (taken) {
        return fail(err, src->option, subject,
                    "this kid has another key already: every kid names one");
    }
    return rc == 0 ? check_key(algorithm, &keys->items[keys->count - 1], src->option, subject, err)
                   : rc;
}

/* An empty entry is how an environment or a file says "none". */
static int add_keys(struct pl_auth__keys *keys, int algorithm, const struct source *src,
                    const struct pl_strings *entries, struct pl_auth_error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < entries->count; i++) {
        if (*entries->items[i]) {
            rc = add_key(keys, algorithm, src, entries->items[i], err);
        }
    }
    return rc;
}

int pl_auth__keys_load(const struct pl_config *cfg, struct pl_auth__keys *ret,
                       struct pl_auth_error *err)
{
    static const struct source inline_keys = {"auth.jwt_key", false},
                               file_keys = {"auth.jwt_key_file", true};
    size_t most = cfg->auth_jwt_key.count + cfg->auth_jwt_key_file.count;
    int algorithm = cfg->auth_jwt_algorithm;
    struct pl_auth__keys keys = {0};
    int rc;

    keys.items = pl_alloc((most + 1) * sizeof(*keys.items));
    rc = add_keys(&keys, algorithm, &inline_keys, &cfg->auth_jwt_key, err);
    if (rc == 0) {
        rc = add_keys(&keys, algorithm, &file_keys, &cfg->auth_jwt_key_file, err);
    }
    if (rc != 0) {
        pl_auth__keys_done(&keys);
        return rc;
    }
    *ret = keys;
    return 0;
}

void pl_auth__keys_done(struct pl_auth__keys *k)
{
    for (size_t i = 0; i < k->count; i++) {
        if (k->items[i].bytes) {
            explicit_bzero(k->items[i].bytes, k->items[i].len);
        }
        free(k->items[i].bytes);
        free(k->items[i].kid);
    }
    free(k->items);
    *k = (struct pl_auth__keys){0};
}
