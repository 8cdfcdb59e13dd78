#include <string.h>
#include <strings.h>

#include "protocol/status.h"
#include "server/auth/auth_priv.h"

/* The three parts of a compact JWS, as they came and (but for the signature, which is libjwt's)
 * decoded. */
struct token {
    struct pl_str whole;
    struct pl_str kid; /* s NULL: absent */
    const struct pl_value *header, *payload;
};

static bool decode_part(struct pl_str part, struct pl_arena *arena, const struct pl_value **ret)
{
    uint8_t *bytes = pl_arena_alloc(arena, part.len / 4 * 3 + 2);
    size_t len;

    return pl_auth__base64url_decode(part, bytes, &len) &&
           pl_decode(PL_JSON, bytes, len, arena, ret, NULL) == 0 && (*ret)->type == PL_MAP;
}

static const char *decode_token(struct pl_str text, struct pl_arena *arena, struct token *t)
{
    static const char *const malformed =
        "not a JSON Web Token: three base64url parts with a dot between each are expected";
    const char *end = text.s + text.len;
    const char *dot1 = memchr(text.s, '.', text.len);
    const char *dot2 = dot1 ? memchr(dot1 + 1, '.', (size_t)(end - dot1 - 1)) : NULL;
    uint8_t *unused;
    size_t len;

    if (!dot2) {
        return malformed;
    }
    unused = pl_arena_alloc(arena, text.len);
    if (!pl_auth__base64url_decode((struct pl_str){dot2 + 1, (size_t)(end - dot2 - 1)}, unused,
                                   &len) ||
        !decode_part((struct pl_str){text.s, (size_t)(dot1 - text.s)}, arena, &t->header) ||
        !decode_part((struct pl_str){dot1 + 1, (size_t)(dot2 - dot1 - 1)}, arena, &t->payload)) {
        return malformed;
    }
    t->whole = text;
    return NULL;
}

static bool is_string(const struct pl_value *v)
{
    return v && v->type == PL_STRING;
}

/* Everything that libjwt would take from the header is settled here, before it sees the token. */
static const char *check_header(const struct pl_auth *a, struct token *t)
{
    const struct pl_value *alg = pl_value_get(t->header, "alg");
    const struct pl_value *typ = pl_value_get(t->header, "typ");
    const struct pl_value *kid = pl_value_get(t->header, "kid");
    const char *bound = pl_algorithm_name(a->algorithm);

    if (!is_string(alg) || !pl_str_eq(alg->u.string, (struct pl_str){bound, strlen(bound)})) {
        return "the token's alg is not the one this server is set to (auth.jwt_algorithm)";
    }
    if (typ && (!is_string(typ) || typ->u.string.len != 3 ||
                strncasecmp(typ->u.string.s, "JWT", 3) != 0)) {
        return "the token's typ must be JWT or absent";
    }
    if (pl_value_get(t->header, "crit")) {
        return "the token's crit asks for an extension that is not known here";
    }
    if (kid && !is_string(kid)) {
        return "the token's kid must be a string";
    }
    t->kid = kid ? kid->u.string : (struct pl_str){0};
    return NULL;
}

static bool key_has_kid(const struct pl_auth__key *key, struct pl_str kid)
{
    return key->kid && kid.s && pl_str_eq(kid, (struct pl_str){key->kid, strlen(key->kid)});
}

static bool kid_is_known(const struct pl_auth__keys *keys, struct pl_str kid)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (key_has_kid(&keys->items[i], kid)) {
            return true;
        }
    }
    return false;
}

/* A token that names a key of ours is checked with that one alone; any other with those that have
 * no name. */
static bool signature_is_good(const struct pl_auth *a, const struct token *t)
{
    bool named = kid_is_known(&a->keys, t->kid);
    char text[PL_AUTH__TOKEN_MAX + 1];

    memcpy(text, t->whole.s, t->whole.len);
    text[t->whole.len] = '\0';
    for (size_t i = 0; i < a->keys.count; i++) {
        const struct pl_auth__key *key = &a->keys.items[i];
        bool eligible = named ? key_has_kid(key, t->kid) : !key->kid;

        if (eligible && pl_auth__jwt_signature_good(text, a->algorithm, key)) {
            return true;
        }
    }
    return false;
}

static const char *check_signature(struct pl_auth *a, const struct token *t)
{
    bool remember = !pl_auth__is_hmac(a->algorithm);

    if (remember && pl_auth__seen_find(&a->seen, t->whole)) {
        return NULL;
    }
    if (!signature_is_good(a, t)) {
        return "the token's signature does not fit any key it may be signed with here";
    }
    if (remember) {
        pl_auth__seen_add(&a->seen, t->whole);
    }
    return NULL;
}

static const char *open_token(struct pl_auth *a, struct pl_str text, struct pl_arena *arena,
                              struct token *t)
{
    const char *reason;

    if (text.len == 0) {
        return "the token is empty";
    }
    if (text.len > PL_AUTH__TOKEN_MAX) {
        return "the token is longer than 8192 bytes";
    }
    if (a->keys.count == 0) {
        return "this server has no key for tokens (auth.jwt_key)";
    }
    reason = decode_token(text, arena, t);
    if (!reason) {
        reason = check_header(a, t);
    }
    return reason ? reason : check_signature(a, t);
}

int pl_auth_verify(struct pl_auth *a, struct pl_str token, int64_t now_unix_ms,
                   struct pl_arena *arena, struct pl_claims *ret, const char **ret_reason)
{
    struct token t = {0};
    const char *reason = open_token(a, token, arena, &t);

    if (reason) {
        *ret_reason = reason;
        return PL_ERR_TOKEN_INVALID;
    }
    return pl_auth__claims_read(a, t.payload, now_unix_ms, arena, ret, ret_reason);
}
