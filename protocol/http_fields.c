#include "protocol/http.h"

#include <string.h>

#include "protocol/http_priv.h"

static char to_lower(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return (char)(c | 0x20);
    }
    return c;
}

bool pl_http__is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool pl_http__is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool pl_http__is_text(char c)
{
    return ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t';
}

int pl_http__hex_digit(char c)
{
    const char lower = to_lower(c);

    if (pl_http__is_digit(c)) {
        return c - '0';
    }
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool is_token_char(char c)
{
    const char lower = to_lower(c);

    if ((lower >= 'a' && lower <= 'z') || pl_http__is_digit(c)) {
        return true;
    }
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

bool pl_http__is_token(struct pl_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token_char(s.s[i])) {
            return false;
        }
    }
    return s.len > 0;
}

struct pl_str pl_http__trim(struct pl_str s)
{
    while (s.len > 0 && pl_http__is_blank(s.s[0])) {
        s.s++;
        s.len--;
    }
    while (s.len > 0 && pl_http__is_blank(s.s[s.len - 1])) {
        s.len--;
    }
    return s;
}

bool pl_http__starts_with(struct pl_str s, const char *lower)
{
    size_t i = 0;

    while (lower[i] != '\0' && i < s.len && to_lower(s.s[i]) == lower[i]) {
        i++;
    }
    return lower[i] == '\0';
}

bool pl_http__equals(struct pl_str s, const char *lower)
{
    return strlen(lower) == s.len && pl_http__starts_with(s, lower);
}

struct pl_str pl_http__take_until(struct pl_str *s, char delimiter)
{
    const char *end = s->len > 0 ? memchr(s->s, delimiter, s->len) : NULL;
    struct pl_str taken = *s;

    if (end == NULL) {
        *s = (struct pl_str){"", 0};
        return taken;
    }
    taken.len = (size_t)(end - s->s);
    s->s = end + 1;
    s->len -= taken.len + 1;
    return taken;
}

bool pl_http__list_next(struct pl_http__list *it, struct pl_str *ret)
{
    for (;;) {
        while (it->rest.len > 0) {
            struct pl_str item = pl_http__trim(pl_http__take_until(&it->rest, ','));

            if (item.len > 0) {
                *ret = item;
                return true;
            }
        }
        if (it->next == it->head->header_count) {
            return false;
        }
        if (pl_http__equals(it->head->headers[it->next].name, it->name)) {
            it->rest = it->head->headers[it->next].value;
        }
        it->next++;
    }
}

const struct pl_str *pl_http_header(const struct pl_http_head *h, const char *name)
{
    for (size_t i = 0; i < h->header_count; i++) {
        if (pl_http__equals(h->headers[i].name, name)) {
            return &h->headers[i].value;
        }
    }
    return NULL;
}

size_t pl_http_header_count(const struct pl_http_head *h, const char *name)
{
    size_t count = 0;

    for (size_t i = 0; i < h->header_count; i++) {
        count += pl_http__equals(h->headers[i].name, name);
    }
    return count;
}

bool pl_http_header_has_token(const struct pl_http_head *h, const char *name, const char *token)
{
    struct pl_http__list it = {.head = h, .name = name};
    struct pl_str item;

    while (pl_http__list_next(&it, &item)) {
        if (pl_http__equals(item, token)) {
            return true;
        }
    }
    return false;
}
