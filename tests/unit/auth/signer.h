#ifndef PL_TESTS_AUTH_SIGNER_H
#define PL_TESTS_AUTH_SIGNER_H

#include "server/auth/auth.h"

/* An issuer of tokens that shares no code with the layer under test: header and payload are
 * written as the test likes, OpenSSL signs. Keys are files under keys/, made for these tests.
 * Anything that goes wrong in here fails the test. */

#define SECRET  "one secret of more than 32 bytes: 0123456789"
#define SECRET2 "another one of more than 32 bytes: 987654321"
#define NOW_S   INT64_C(1800000000)
#define NOW_MS  (NOW_S * 1000)

/* sub 7, exp in an hour, community 42 */
#define GOOD_CLAIMS "{\"sub\":\"7\",\"exp\":1800003600,\"iat\":1800000000,\"communities\":[42]}"

/* hash: "SHA256", "SHA384", "SHA512". malloc'ed. */
char *sign_hmac(const char *header, const char *payload, const char *hash, const char *secret);
char *sign_pem(const char *header, const char *payload, const char *hash, const char *key_file);
char *unsigned_token(const char *header, const char *payload); /* ends with the second dot */
char *read_key(const char *key_file);                          /* malloc'ed text */

/* A pl_auth with these options ("auth.jwt_key=…"), NULL-terminated. It must load. */
struct pl_auth *auth_with(const char *const *set);
/* The same that must not load: the result is the error's text, valid until the next call. */
const char *auth_error_with(const char *const *set);
#define AUTH(...)       auth_with((const char *const[]){__VA_ARGS__, NULL})
#define AUTH_ERROR(...) auth_error_with((const char *const[]){__VA_ARGS__, NULL})

/* pl_auth_verify with an arena of its own: the status; claims and reason are valid until the next
 * call. Every refusal is checked to come with a reason. */
struct pl_claims last_claims(void);
const char *last_reason(void);
int verify_at(struct pl_auth *a, const char *token, int64_t now_ms);
int verify_bytes(struct pl_auth *a, const char *token, size_t len, int64_t now_ms);
/* As verify_at; frees the token. */
int verify_once(struct pl_auth *a, char *token, int64_t now_ms);
void forget_last(void); /* frees the arena, for leak checks at the end of a test */

#endif
