#include <jwt.h>
#include <stdlib.h>

#include "server/auth/auth_priv.h"

static const jwt_alg_t algorithms[] = {
    [PL_ALG_HS256] = JWT_ALG_HS256, [PL_ALG_HS384] = JWT_ALG_HS384, [PL_ALG_HS512] = JWT_ALG_HS512,
    [PL_ALG_RS256] = JWT_ALG_RS256, [PL_ALG_RS384] = JWT_ALG_RS384, [PL_ALG_RS512] = JWT_ALG_RS512,
    [PL_ALG_ES256] = JWT_ALG_ES256, [PL_ALG_ES384] = JWT_ALG_ES384, [PL_ALG_ES512] = JWT_ALG_ES512,
};

bool pl_auth__jwt_signature_good(const char *token, int algorithm, const struct pl_auth__key *key)
{
    jwt_t *jwt = NULL;
    bool good;

    /* libjwt verifies with the algorithm that the token names, whatever the key is: the second
     * condition only repeats what our caller has made sure of. */
    good = jwt_decode(&jwt, token, (const unsigned char *)key->bytes, (int)key->len) == 0 &&
           jwt_get_alg(jwt) == algorithms[algorithm];
    jwt_free(jwt);
    return good;
}

char *pl_auth__jwt_sign(const char *claims_json, int algorithm, const struct pl_auth__key *key)
{
    jwt_t *jwt = NULL;
    char *token = NULL;

    if (jwt_new(&jwt) != 0) {
        return NULL;
    }
    if (jwt_add_grants_json(jwt, claims_json) == 0 &&
        (!key->kid || jwt_add_header(jwt, "kid", key->kid) == 0) &&
        jwt_set_alg(jwt, algorithms[algorithm], (const unsigned char *)key->bytes, (int)key->len) ==
            0) {
        token = jwt_encode_str(jwt);
    }
    jwt_free(jwt);
    return token;
}
