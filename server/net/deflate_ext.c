#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/net/net_priv.h"

/* The extension that libwebsockets brings keeps 100 KB per connection and can be crashed from
 * outside; this one only answers the handshake. Messages are inflated whole by ws_receive.c and
 * frames are deflated once for everybody (protocol/frame.h), so neither needs a state here.
 * libwebsockets echoes an option of this list when the client's offer holds it; the offer it
 * reads is our own (http_upgrade.c), which is how an option can carry a value. */
static const struct lws_ext_options echoed[] = {
    {"server_no_context_takeover", EXTARG_NONE},
    {"client_no_context_takeover", EXTARG_NONE},
    {"server_max_window_bits=15", EXTARG_NONE},
    {NULL, EXTARG_NONE},
};

static int on_extension(struct lws_context *context, const struct lws_extension *ext,
                        struct lws *wsi, enum lws_extension_callback_reasons reason, void *user,
                        void *in, size_t len)
{
    (void)context, (void)ext, (void)wsi, (void)len;
    if (reason == LWS_EXT_CB_CONSTRUCT) {
        *(void **)user = NULL;
        if (in) {
            *(const struct lws_ext_options **)in = echoed;
        }
    }
    return 0; /* for payload: pass it on as it is */
}

const struct lws_extension pl_deflate__extensions[] = {
    {"permessage-deflate", on_extension, "permessage-deflate"},
    {NULL, NULL, NULL},
};

static struct pl_str trimmed(const char *s, const char *end)
{
    while (s < end && (*s == ' ' || *s == '\t')) {
        s++;
    }
    while (s < end && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    return (struct pl_str){s, (size_t)(end - s)};
}

/* Cuts the next piece off at the separator. */
static struct pl_str next_piece(struct pl_str *rest, char separator)
{
    const char *end = rest->s + rest->len;
    const char *at = rest->len > 0 ? memchr(rest->s, separator, rest->len) : NULL;
    struct pl_str piece = trimmed(rest->s, at ? at : end);

    *rest = at ? (struct pl_str){at + 1, (size_t)(end - at - 1)} : (struct pl_str){end, 0};
    return piece;
}

static bool is(struct pl_str s, const char *name)
{
    return s.len == strlen(name) && strncasecmp(s.s, name, s.len) == 0;
}

/* 8..15 in plain digits, quoted or not; else 0. */
static int window_bits(struct pl_str value)
{
    if (value.len >= 2 && value.s[0] == '"' && value.s[value.len - 1] == '"') {
        value = (struct pl_str){value.s + 1, value.len - 2};
    }
    if (value.len == 1 && (value.s[0] == '8' || value.s[0] == '9')) {
        return value.s[0] - '0';
    }
    if (value.len == 2 && value.s[0] == '1' && value.s[1] >= '0' && value.s[1] <= '5') {
        return 10 + value.s[1] - '0';
    }
    return 0;
}

enum {
    SERVER_TAKEOVER = 1,
    CLIENT_TAKEOVER = 2,
    SERVER_WINDOW = 4,
    CLIENT_WINDOW = 8
};

/* Which parameter, with a value it may have; 0 declines the offer (RFC 7692, 7.1). A window
 * below 2^15 for what the server sends would need frames of its own, so it is declined: the
 * messages then go plain. */
static int parameter(struct pl_str text)
{
    bool has_value = text.len > 0 && memchr(text.s, '=', text.len) != NULL;
    struct pl_str value = text, name = next_piece(&value, '=');

    value = trimmed(value.s, value.s + value.len);
    if (is(name, "server_no_context_takeover")) {
        return has_value ? 0 : SERVER_TAKEOVER;
    }
    if (is(name, "client_no_context_takeover")) {
        return has_value ? 0 : CLIENT_TAKEOVER;
    }
    if (is(name, "server_max_window_bits")) {
        return window_bits(value) == 15 ? SERVER_WINDOW : 0;
    }
    if (is(name, "client_max_window_bits")) {
        return !has_value || window_bits(value) ? CLIENT_WINDOW : 0;
    }
    return 0;
}

static bool offer_is_acceptable(struct pl_str offer, bool *ret_window_bits)
{
    int seen = 0;

    if (!is(next_piece(&offer, ';'), "permessage-deflate")) {
        return false;
    }
    while (offer.len > 0) {
        int p = parameter(next_piece(&offer, ';'));

        if (p == 0 || (seen & p)) {
            return false;
        }
        seen |= p;
    }
    *ret_window_bits = seen & SERVER_WINDOW;
    return true;
}

bool pl_deflate__offered(const struct pl_http_head *head, bool *ret_window_bits)
{
    for (size_t i = 0; i < head->header_count; i++) {
        struct pl_str offers = head->headers[i].value;

        if (!is(head->headers[i].name, "sec-websocket-extensions")) {
            continue;
        }
        while (offers.len > 0) {
            if (offer_is_acceptable(next_piece(&offers, ','), ret_window_bits)) {
                return true;
            }
        }
    }
    return false;
}
