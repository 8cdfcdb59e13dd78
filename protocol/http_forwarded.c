#include <string.h>

#include "protocol/http_priv.h"

/* Takes what lies behind the last comma (all of it when there is none) off the end of *s. */
static struct pl_str take_last(struct pl_str *s)
{
    size_t at = s->len;
    struct pl_str taken;

    while (at > 0 && s->s[at - 1] != ',') {
        at--;
    }
    taken = (struct pl_str){s->s + at, s->len - at};
    s->len = at > 0 ? at - 1 : 0;
    return pl_http__trim(taken);
}

/* An address, or with the port that some proxies add: 192.0.2.1:80, [2001:db8::1], with :80. */
static bool parse_forwarded(struct pl_str s, struct pl_address *ret)
{
    const char *end = s.len > 0 ? memchr(s.s, ']', s.len) : NULL;
    const char *colon = s.len > 0 ? memchr(s.s, ':', s.len) : NULL;

    if (end != NULL && s.s[0] == '[') {
        return pl_address_parse(s.s + 1, (size_t)(end - s.s) - 1, ret);
    }
    if (colon != NULL && memchr(colon + 1, ':', s.len - (size_t)(colon + 1 - s.s)) == NULL) {
        return pl_address_parse(s.s, (size_t)(colon - s.s), ret);
    }
    return pl_address_parse(s.s, s.len, ret);
}

bool pl_http_forwarded_for(const struct pl_http_head *h, const struct pl_networks *trusted,
                           struct pl_address *ret)
{
    bool found = false;

    for (size_t i = h->header_count; i-- > 0;) {
        struct pl_str rest = h->headers[i].value;

        if (!pl_http__equals(h->headers[i].name, "x-forwarded-for")) {
            continue;
        }
        while (rest.len > 0) {
            const struct pl_str item = take_last(&rest);

            if (item.len == 0) {
                continue;
            }
            /* An entry that is no address was written by one who does not say: who wrote the entry
             * behind it is the nearest that is known. */
            if (!parse_forwarded(item, ret)) {
                return found;
            }
            found = true;
            if (!pl_networks_have(trusted, ret)) {
                return true;
            }
        }
    }
    return found;
}
