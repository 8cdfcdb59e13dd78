#include "protocol/http.h"

#include "protocol/http_priv.h"
#include "protocol/status.h"
#include "server/base/buf.h"

enum {
    MAX_LINE = 255,
    MAX_TRAILERS = 4096,
    MAX_SIZE_DIGITS = 8
};

enum body_state {
    BODY_WHOLE,
    BODY_TOO_BIG,
    BODY_BAD,
    BODY_CONTENT,   /* left: bytes to come */
    BODY_SIZE,      /* left: the size so far; line_len: its digits */
    BODY_EXTENSION, /* line_len counts on */
    BODY_SIZE_LF,
    BODY_CHUNK, /* left: bytes to come */
    BODY_CHUNK_CR,
    BODY_CHUNK_LF,
    BODY_TRAILER, /* at or within a trailer line; left: bytes that trailers may still have */
    BODY_TRAILER_LF,
};

void pl_http_body_init(struct pl_http_body *b, const struct pl_http_head *h, uint64_t max)
{
    *b = (struct pl_http_body){.max = max, .chunked = h->chunked};
    if (h->chunked) {
        b->state = BODY_SIZE;
    } else if (h->content_length > max) {
        b->state = BODY_TOO_BIG;
    } else {
        b->left = h->content_length;
        b->state = b->left > 0 ? BODY_CONTENT : BODY_WHOLE;
    }
}

static enum body_state size_byte(struct pl_http_body *b, char c)
{
    const int digit = pl_http__hex_digit(c);

    if (digit >= 0 && b->line_len < MAX_SIZE_DIGITS) {
        b->left = b->left * 16 + (uint64_t)digit;
        b->line_len++;
        return BODY_SIZE;
    }
    if (digit >= 0 || b->line_len == 0) {
        return BODY_BAD;
    }
    if (c == ';') {
        return BODY_EXTENSION;
    }
    return c == '\r' ? BODY_SIZE_LF : BODY_BAD;
}

static enum body_state extension_byte(struct pl_http_body *b, char c)
{
    if (c == '\r') {
        return BODY_SIZE_LF;
    }
    return pl_http__is_text(c) && b->line_len++ < MAX_LINE - 1 ? BODY_EXTENSION : BODY_BAD;
}

static enum body_state size_line_end(struct pl_http_body *b, char c)
{
    b->line_len = 0;
    if (c != '\n') {
        return BODY_BAD;
    }
    if (b->left == 0) {
        b->left = MAX_TRAILERS;
        return BODY_TRAILER;
    }
    return b->left > b->max - b->total ? BODY_TOO_BIG : BODY_CHUNK;
}

static enum body_state trailer_byte(struct pl_http_body *b, char c)
{
    if (c == '\r') {
        return BODY_TRAILER_LF;
    }
    if (!pl_http__is_text(c) || b->line_len == MAX_LINE || b->left == 0) {
        return BODY_BAD;
    }
    b->line_len++;
    b->left--;
    return BODY_TRAILER;
}

static enum body_state trailer_line_end(struct pl_http_body *b, char c)
{
    const bool empty = b->line_len == 0;

    b->line_len = 0;
    if (c != '\n') {
        return BODY_BAD;
    }
    return empty ? BODY_WHOLE : BODY_TRAILER;
}

static enum body_state step(struct pl_http_body *b, char c)
{
    switch ((enum body_state)b->state) {
    case BODY_SIZE:
        return size_byte(b, c);
    case BODY_EXTENSION:
        return extension_byte(b, c);
    case BODY_SIZE_LF:
        return size_line_end(b, c);
    case BODY_CHUNK_CR:
        return c == '\r' ? BODY_CHUNK_LF : BODY_BAD;
    case BODY_CHUNK_LF:
        return c == '\n' ? BODY_SIZE : BODY_BAD;
    case BODY_TRAILER:
        return trailer_byte(b, c);
    case BODY_TRAILER_LF:
        return trailer_line_end(b, c);
    case BODY_WHOLE:
    case BODY_TOO_BIG:
    case BODY_BAD:
    case BODY_CONTENT:
    case BODY_CHUNK:
        break;
    }
    return BODY_BAD;
}

static size_t copy(struct pl_http_body *b, const char *data, size_t len, struct pl_buf *out)
{
    const size_t n = len < b->left ? len : (size_t)b->left;

    pl_buf_append(out, data, n);
    b->left -= n;
    b->total += n;
    if (b->left == 0) {
        b->state = b->chunked ? BODY_CHUNK_CR : BODY_WHOLE;
    }
    return n;
}

static int result(const struct pl_http_body *b)
{
    switch ((enum body_state)b->state) {
    case BODY_WHOLE:
        return PL_OK;
    case BODY_TOO_BIG:
        return PL_ERR_TOO_BIG;
    case BODY_BAD:
        return PL_ERR_PROTOCOL;
    case BODY_CONTENT:
    case BODY_SIZE:
    case BODY_EXTENSION:
    case BODY_SIZE_LF:
    case BODY_CHUNK:
    case BODY_CHUNK_CR:
    case BODY_CHUNK_LF:
    case BODY_TRAILER:
    case BODY_TRAILER_LF:
        break;
    }
    return PL_HTTP_MORE;
}

int pl_http_body_feed(struct pl_http_body *b, const void *data, size_t len, struct pl_buf *out,
                      size_t *ret_used)
{
    const char *bytes = data;
    size_t used = 0;

    while (used < len && result(b) == PL_HTTP_MORE) {
        if (b->state == BODY_CONTENT || b->state == BODY_CHUNK) {
            used += copy(b, bytes + used, len - used, out);
        } else {
            b->state = (uint8_t)step(b, bytes[used]);
            used++;
        }
    }
    *ret_used = used;
    return result(b);
}
