#include "server/auth/auth_priv.h"

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool pl_auth__base64url_decode(struct pl_str in, uint8_t *out, size_t *ret_len)
{
    uint32_t bits = 0;
    unsigned held = 0; /* of bits, not yet written */
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++) {
        int d = digit_of(in.s[i]);

        if (d < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (uint8_t)(bits >> held);
            bits &= (1U << held) - 1;
        }
    }
    /* A lone last digit holds no byte, and left-over bits that are not zero would be a second
     * spelling. */
    if (held == 6 || bits != 0) {
        return false;
    }
    *ret_len = n;
    return true;
}
