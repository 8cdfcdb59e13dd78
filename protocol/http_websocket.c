#include "protocol/http.h"

#include <string.h>

#include "protocol/http_priv.h"
#include "protocol/status.h"

/* libwebsockets copies the extension offers into 256 bytes and aborts on what does not fit. */
enum {
    MAX_EXTENSIONS_LEN = 255,
    MAX_EXTENSIONS_HEADERS = 4,
    KEY_LEN = 24
};

static const struct pl_str bearer = {"bearer.", 7};

static bool has_once(const struct pl_http_head *h, const char *name, const char *lower)
{
    const struct pl_str *value = pl_http_header(h, name);

    return value != NULL && pl_http_header_count(h, name) == 1 && pl_http__equals(*value, lower);
}

static bool is_base64_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || pl_http__is_digit(c) || c == '+' ||
           c == '/';
}

/* 22 characters carry the 16 bytes, two pad. */
static bool has_one_key(const struct pl_http_head *h)
{
    const struct pl_str *key = pl_http_header(h, "sec-websocket-key");

    if (key == NULL || pl_http_header_count(h, "sec-websocket-key") != 1 || key->len != KEY_LEN) {
        return false;
    }
    for (size_t i = 0; i < KEY_LEN - 2; i++) {
        if (!is_base64_char(key->s[i])) {
            return false;
        }
    }
    return memcmp(key->s + KEY_LEN - 2, "==", 2) == 0;
}

static bool extensions_fit(const struct pl_http_head *h)
{
    size_t count = 0, len = 0;

    for (size_t i = 0; i < h->header_count; i++) {
        if (pl_http__equals(h->headers[i].name, "sec-websocket-extensions")) {
            count++;
            len += h->headers[i].value.len;
        }
    }
    return count <= MAX_EXTENSIONS_HEADERS && len + count <= MAX_EXTENSIONS_LEN + 1;
}

static const char *handshake_fault(const struct pl_http_head *h)
{
    if (!has_once(h, "upgrade", "websocket")) {
        return "Upgrade must be exactly websocket";
    }
    if (h->method != PL_HTTP_GET || h->minor != 1) {
        return "a WebSocket handshake is a GET of HTTP/1.1";
    }
    if (pl_http_header_count(h, "host") != 1) {
        return "exactly one Host header is needed";
    }
    if (h->chunked || h->content_length > 0) {
        return "a WebSocket handshake has no body";
    }
    if (!pl_http_header_has_token(h, "connection", "upgrade")) {
        return "Connection must hold upgrade";
    }
    if (!has_once(h, "sec-websocket-version", "13")) {
        return "Sec-WebSocket-Version must be 13";
    }
    if (!has_one_key(h)) {
        return "Sec-WebSocket-Key must be 16 bytes in base64";
    }
    return extensions_fit(h) ? NULL : "Sec-WebSocket-Extensions is too long";
}

int pl_http_websocket_handshake(const struct pl_http_head *h, const char **ret_reason)
{
    const char *fault;

    if (!pl_http_header_has_token(h, "upgrade", "websocket")) {
        return PL_HTTP_MORE;
    }
    fault = handshake_fault(h);
    if (fault == NULL) {
        return PL_OK;
    }
    if (ret_reason != NULL) {
        *ret_reason = fault;
    }
    return PL_ERR_PROTOCOL;
}

static const char *known_subprotocol(struct pl_str s, enum pl_codec *ret_codec)
{
    static const char *const names[PL_CODEC_COUNT] = {
        [PL_JSON] = "parley.v1.json",
        [PL_MSGPACK] = "parley.v1.msgpack",
    };

    for (int i = 0; i < PL_CODEC_COUNT; i++) {
        if (strlen(names[i]) == s.len && memcmp(names[i], s.s, s.len) == 0) {
            *ret_codec = (enum pl_codec)i;
            return names[i];
        }
    }
    return NULL;
}

int pl_http_websocket_subprotocol(const struct pl_http_head *h, enum pl_codec *ret_codec,
                                  const char **ret_name, struct pl_str *ret_token)
{
    struct pl_http__list it = {.head = h, .name = "sec-websocket-protocol"};
    struct pl_str item, token = {"", 0};
    enum pl_codec codec = PL_JSON;
    const char *name = NULL;
    bool unknown = false;

    while (pl_http__list_next(&it, &item)) {
        if (item.len >= bearer.len && memcmp(item.s, bearer.s, bearer.len) == 0) {
            if (token.len == 0) {
                token = (struct pl_str){item.s + bearer.len, item.len - bearer.len};
            }
        } else if (name == NULL) {
            name = known_subprotocol(item, &codec);
            unknown = unknown || name == NULL;
        }
    }
    if (name == NULL && unknown) {
        return PL_ERR_PROTOCOL;
    }
    *ret_codec = codec;
    *ret_name = name != NULL ? name : "";
    *ret_token = token;
    return PL_OK;
}
