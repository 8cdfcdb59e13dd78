#ifndef PL_PROTOCOL_HTTP_H
#define PL_PROTOCOL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"
#include "server/base/address.h"

/* HTTP/1.1 request heads and bodies (RFC 9110, 9112), pure: bytes in, structs out. Strict where
 * leniency lets two parsers disagree (request smuggling), so refused with an error, after which the
 * connection must be closed: bare CR or LF, obs-fold, blanks before a colon or around the header
 * name, any control byte in a value, an empty or non-token header name, repeated or conflicting
 * Content-Length, Content-Length together with Transfer-Encoding, any Transfer-Encoding but exactly
 * "chunked", Transfer-Encoding in HTTP/1.0, more than one Host, none in HTTP/1.1, a Host that
 * cannot be one, targets that are not origin-form ("*" only for OPTIONS; absolute-form is accepted
 * if it names the host of Host, and reduced to its path), "#" or any byte outside 0x21..0x7e in the
 * target. One empty line (CRLF) before a request line is skipped. */

enum pl_http_method {
    PL_HTTP_GET,
    PL_HTTP_HEAD,
    PL_HTTP_POST,
    PL_HTTP_PUT,
    PL_HTTP_DELETE,
    PL_HTTP_PATCH,
    PL_HTTP_OPTIONS,
    PL_HTTP_OTHER, /* a valid token that is none of these */
};

enum {
    PL_HTTP_MAX_HEADERS = 64
};

struct pl_http_header {
    struct pl_str name, value; /* value without surrounding blanks */
};

struct pl_http_head {
    enum pl_http_method method;
    struct pl_str path;  /* before '?', as sent (not percent-decoded) */
    struct pl_str query; /* after '?'; len 0: none */
    int minor;           /* HTTP/1.<minor>: 0 or 1 */
    bool keep_alive;     /* by version and Connection */
    bool expect_continue;
    bool chunked;
    bool has_content_length;
    uint64_t content_length; /* 0 when absent */
    struct pl_http_header headers[PL_HTTP_MAX_HEADERS];
    size_t header_count;
};

enum {
    PL_HTTP_MORE = 1
};

/* Parses the head at the start of [data, data+len). 0: *ret is set, pointing into data, and
 * *ret_size is the head's size (the body begins there). PL_HTTP_MORE: not whole yet, nothing wrong
 * so far. Errors, found at the latest when their line is whole (what concerns several lines: when
 * the head is): PL_ERR_PROTOCOL (400), PL_ERR_URI_TOO_LONG (request line beyond max / 2),
 * PL_ERR_HEADERS_TOO_BIG (more than max bytes or PL_HTTP_MAX_HEADERS), PL_ERR_HTTP_VERSION (505),
 * PL_ERR_NOT_IMPLEMENTED (an unknown transfer coding). *ret_reason, if not NULL, gets a static
 * sentence on any error. The first wrong line decides, so the answer does not depend on how the
 * bytes were cut. scanned: bytes already looked at in an earlier call with the same start that
 * returned PL_HTTP_MORE (0 at first), so that a head that drips in costs O(n). */
int pl_http_parse_head(const char *data, size_t len, size_t scanned, size_t max,
                       struct pl_http_head *ret, size_t *ret_size, const char **ret_reason);

/* The first header of that name (case-insensitive; name in lower case), or NULL. */
const struct pl_str *pl_http_header(const struct pl_http_head *h, const char *name);
/* How many headers have that name. */
size_t pl_http_header_count(const struct pl_http_head *h, const char *name);
/* Does a comma-separated header, in any of its occurrences, hold this token? (case-insensitive;
 * name and token in lower case) */
bool pl_http_header_has_token(const struct pl_http_head *h, const char *name, const char *token);

/* Whose request this is, by the X-Forwarded-For of a trusted proxy: read from the right, over all its
 * lines, the first address that is no trusted proxy's; if all are, the leftmost. An entry that is no
 * address ends it at the one behind. False: there is none to read. */
bool pl_http_forwarded_for(const struct pl_http_head *h, const struct pl_networks *trusted,
                           struct pl_address *ret);

/* The value of the first `name=` in a query string or form, percent-decoded ('+' is a blank) into
 * the arena. false: absent. *ret_bad: present, but the escapes are malformed or decode to invalid
 * UTF-8 or a control byte; then *ret is not set. Names are compared as sent. */
bool pl_http_query_get(struct pl_str query, const char *name, struct pl_arena *a,
                       struct pl_str *ret, bool *ret_bad);

/* The body of a request. Fed with bytes as they come; appends decoded bytes to out. */
struct pl_http_body {
    uint64_t left;  /* of the content or the chunk */
    uint64_t max;   /* decoded bytes allowed */
    uint64_t total; /* decoded so far */
    uint8_t state;
    uint8_t line_len; /* chunk-size line or trailer line so far, bounded */
    bool chunked;
};
void pl_http_body_init(struct pl_http_body *b, const struct pl_http_head *h, uint64_t max);
/* 0 when the body is whole, PL_HTTP_MORE when bytes are missing, PL_ERR_TOO_BIG (also at once for a
 * declared length beyond max), PL_ERR_PROTOCOL for bad chunking (sizes are bare hex, at most 8
 * digits; chunk extensions and trailers are accepted, bounded and ignored; bare LF is refused).
 * An error stays. *ret_used is how many of the bytes belong to the body. */
int pl_http_body_feed(struct pl_http_body *b, const void *data, size_t len, struct pl_buf *out,
                      size_t *ret_used);

/* Is this a WebSocket handshake (RFC 6455, 4.2.1)? PL_OK: exactly GET, HTTP/1.1, one Host,
 * Upgrade: websocket, Connection with upgrade, version 13, one key of 24 base64 characters that
 * decodes to 16 bytes, no body, no other Upgrade. 1 (PL_HTTP_MORE) means: it does not ask for an
 * upgrade to websocket at all. PL_ERR_PROTOCOL: it does, but wrongly; *ret_reason says how.
 * Wrong too, since libwebsockets dies on it: Sec-WebSocket-Extensions of more than 255 bytes in
 * all, or more than 4 times. */
int pl_http_websocket_handshake(const struct pl_http_head *h, const char **ret_reason);

/* The subprotocol to answer (the client's first known parley.v1.*): 0 and *ret_codec, *ret_name (""
 * when the client offered none at all; then JSON), or PL_ERR_PROTOCOL if it offered only unknown
 * ones. "bearer.<token>" entries are never selected and do not count as unknown; the first one's
 * token is *ret_token (len 0: none). */
int pl_http_websocket_subprotocol(const struct pl_http_head *h, enum pl_codec *ret_codec,
                                  const char **ret_name, struct pl_str *ret_token);

/* The codec to answer in: PL_MSGPACK if Accept names one of its two types with a weight above 0
 * that is not below the one of application/json; else PL_JSON. */
enum pl_codec pl_http_accept_codec(const struct pl_http_head *h);
/* Does Accept-Encoding name gzip (or "*", and gzip not at all) with a weight above 0? */
bool pl_http_accepts_gzip(const struct pl_http_head *h);
/* The codec of the body, by Content-Type without its parameters: absent, application/json,
 * text/plain (sendBeacon) and application/x-www-form-urlencoded (curl -d) are JSON;
 * application/msgpack, application/vnd.msgpack; anything else, or more than one Content-Type, is
 * PL_ERR_MEDIA_TYPE. */
int pl_http_body_codec(const struct pl_http_head *h, enum pl_codec *ret);

/* Is the host[:port] of an Origin, as browsers send it ("https://scicommons.org": lower case, no
 * path), exactly the Host header's, and its scheme http or https? */
bool pl_http_origin_same_host(struct pl_str origin, struct pl_str host);
/* http://localhost, 127.0.0.1 or [::1] with any port. */
bool pl_http_origin_is_localhost(struct pl_str origin);

/* "OK", "Not Found", …; "Unknown" for others. */
const char *pl_http_reason(int http_status);

#endif
