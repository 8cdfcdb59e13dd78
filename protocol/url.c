#include "protocol/url.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char usual[] = "a URL such as http://127.0.0.1:8888 is expected";

static bool begins(const char *text, const char *scheme)
{
    return strncasecmp(text, scheme, strlen(scheme)) == 0;
}

static bool copy(char *out, size_t size, const char *from, size_t len)
{
    if (len >= size) {
        return false;
    }
    memcpy(out, from, len);
    out[len] = '\0';
    return true;
}

/* ":8888", or nothing. */
static const char *parse_port(const char *from, const char *end, struct pl_url *u)
{
    unsigned long port;
    char *stop;

    if (from == end) {
        strcpy(u->port, u->tls ? "443" : "80");
        return NULL;
    }
    if (*from != ':' || !copy(u->port, sizeof(u->port), from + 1, (size_t)(end - from - 1))) {
        return usual;
    }
    port = strtoul(u->port, &stop, 10);
    if (u->port[0] < '0' || u->port[0] > '9' || *stop || port == 0 || port > 65535) {
        return "the URL's port must be a number from 1 to 65535";
    }
    return NULL;
}

static const char *parse_authority(const char *from, const char *end, struct pl_url *u)
{
    bool bracket = *from == '[';
    const char *stop =
        bracket ? memchr(from, ']', (size_t)(end - from)) : memchr(from, ':', (size_t)(end - from));
    const char *host = bracket ? from + 1 : from;
    const char *host_end = stop ? stop : end;

    if (memchr(from, '@', (size_t)(end - from))) {
        return "a URL with a user name is not taken: use --api-key or --token";
    }
    if ((bracket && !stop) || host_end == host ||
        !copy(u->authority, sizeof(u->authority), from, (size_t)(end - from)) ||
        !copy(u->host, sizeof(u->host), host, (size_t)(host_end - host))) {
        return usual;
    }
    return parse_port(bracket ? stop + 1 : host_end, end, u);
}

/* The URL ends in a request line: nothing in it may end that line. */
static bool is_printable(const char *text)
{
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

const char *pl_url_parse(const char *text, struct pl_url *ret)
{
    if (begins(text, "https:") || begins(text, "wss:")) {
        return "TLS is not spoken here: give the http:// address of the server itself, behind the "
               "TLS proxy";
    }
    return pl_url_parse_public(text, ret);
}

const char *pl_url_parse_public(const char *text, struct pl_url *ret)
{
    const char *from, *end, *reason;
    size_t prefix_len;

    ret->tls = begins(text, "https://") || begins(text, "wss://");
    if (!is_printable(text) || (!ret->tls && !begins(text, "http://") && !begins(text, "ws://"))) {
        return usual;
    }
    from = strstr(text, "//") + 2;
    end = from + strcspn(from, "/?#");
    reason = parse_authority(from, end, ret);
    if (reason) {
        return reason;
    }
    prefix_len = strcspn(end, "?#");
    if (end[prefix_len]) {
        return "a URL with ? or # is not taken: give the server's address alone";
    }
    while (prefix_len > 0 && end[prefix_len - 1] == '/') {
        prefix_len--;
    }
    return copy(ret->prefix, sizeof(ret->prefix), end, prefix_len) ? NULL : usual;
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void pl_url_append_query_value(struct pl_buf *out, struct pl_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (is_unreserved(value.s[i])) {
            pl_buf_append_byte(out, (uint8_t)value.s[i]);
        } else {
            pl_buf_printf(out, "%%%02X", (unsigned)(uint8_t)value.s[i]);
        }
    }
}
