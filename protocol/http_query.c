#include "protocol/http.h"

#include <string.h>

#include "protocol/http_priv.h"
#include "protocol/utf8.h"

/* One byte of the value, from one or three of text. -1: a malformed escape. */
static int next_byte(struct pl_str *text)
{
    const char c = text->s[0];
    size_t used = 1;
    int byte = (unsigned char)c;

    if (c == '+') {
        byte = ' ';
    } else if (c == '%') {
        const int high = text->len >= 3 ? pl_http__hex_digit(text->s[1]) : -1;
        const int low = text->len >= 3 ? pl_http__hex_digit(text->s[2]) : -1;

        if (high < 0 || low < 0) {
            return -1;
        }
        byte = high * 16 + low;
        used = 3;
    }
    text->s += used;
    text->len -= used;
    return byte;
}

static bool decode(struct pl_str text, struct pl_arena *a, struct pl_str *ret)
{
    char *out;
    size_t len = 0;

    if (text.len == 0) {
        *ret = (struct pl_str){"", 0};
        return true;
    }
    out = pl_arena_alloc(a, text.len);
    while (text.len > 0) {
        const int byte = next_byte(&text);

        if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
        out[len++] = (char)byte;
    }
    if (!pl_utf8_valid(out, len)) {
        return false;
    }
    *ret = (struct pl_str){out, len};
    return true;
}

bool pl_http_query_get(struct pl_str query, const char *name, struct pl_arena *a,
                       struct pl_str *ret, bool *ret_bad)
{
    *ret_bad = false;
    while (query.len > 0) {
        struct pl_str pair = pl_http__take_until(&query, '&');
        const bool has_value = pair.len > 0 && memchr(pair.s, '=', pair.len) != NULL;
        const struct pl_str key = pl_http__take_until(&pair, '=');

        if (has_value && key.len == strlen(name) && memcmp(key.s, name, key.len) == 0) {
            *ret_bad = !decode(pair, a, ret);
            return true;
        }
    }
    return false;
}
