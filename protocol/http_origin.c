#include "protocol/http.h"

#include <string.h>

#include "protocol/http_priv.h"

static bool skip(struct pl_str *s, const char *prefix)
{
    const size_t len = strlen(prefix);

    if (s->len < len || memcmp(s->s, prefix, len) != 0) {
        return false;
    }
    s->s += len;
    s->len -= len;
    return true;
}

bool pl_http_origin_same_host(struct pl_str origin, struct pl_str host)
{
    if (!skip(&origin, "https://") && !skip(&origin, "http://")) {
        return false;
    }
    return host.len > 0 && pl_str_eq(origin, host);
}

/* "" or ":1" to ":65535". */
static bool is_port_or_nothing(struct pl_str s)
{
    int port = 0;

    if (s.len == 0) {
        return true;
    }
    if (s.s[0] != ':' || s.len < 2 || s.len > 6) {
        return false;
    }
    for (size_t i = 1; i < s.len; i++) {
        if (!pl_http__is_digit(s.s[i])) {
            return false;
        }
        port = port * 10 + (s.s[i] - '0');
    }
    return port >= 1 && port <= 65535;
}

bool pl_http_origin_is_localhost(struct pl_str origin)
{
    if (!skip(&origin, "http://")) {
        return false;
    }
    if (!skip(&origin, "localhost") && !skip(&origin, "127.0.0.1") && !skip(&origin, "[::1]")) {
        return false;
    }
    return is_port_or_nothing(origin);
}
