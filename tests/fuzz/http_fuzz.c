#include <stdlib.h>
#include <string.h>

#include "protocol/http.h"
#include "server/base/alloc.h"
#include "server/base/buf.h"

/* A request fed whole and fed in pieces must be understood alike. The first byte of the input is the size of the
 * pieces, the rest is what the peer sends. */

enum {
    MAX_HEAD = 2048,
    MAX_BODY = 1024
};

struct outcome {
    int head_err, body_err;
    size_t head_size, body_used;
    struct pl_http_head head;
    struct pl_buf body;
};

static int parse_head(const char *bytes, size_t len, size_t scanned, struct outcome *o)
{
    const char *reason = NULL;
    const int err =
        pl_http_parse_head(bytes, len, scanned, MAX_HEAD, &o->head, &o->head_size, &reason);

    PL_ASSERT(err >= 0 || reason != NULL);
    PL_ASSERT(err != 0 || o->head_size <= len);
    return err;
}

static struct outcome feed(const char *bytes, size_t len, size_t step)
{
    struct outcome o = {0};
    struct pl_http_body b;
    size_t have = step < len ? step : len;

    o.head_err = parse_head(bytes, have, 0, &o);
    while (o.head_err == PL_HTTP_MORE && have < len) {
        const size_t scanned = have;

        have = len - have < step ? len : have + step;
        o.head_err = parse_head(bytes, have, scanned, &o);
    }
    if (o.head_err != 0) {
        return o;
    }
    bytes += o.head_size;
    len -= o.head_size;
    pl_http_body_init(&b, &o.head, MAX_BODY);
    have = 0;
    do {
        const size_t n = len - have < step ? len - have : step;
        size_t used;

        o.body_err = pl_http_body_feed(&b, bytes + have, n, &o.body, &used);
        PL_ASSERT(used <= n && (o.body_err != PL_HTTP_MORE || used == n));
        o.body_used += used;
        have += n;
    } while (o.body_err == PL_HTTP_MORE && have < len);
    PL_ASSERT(o.body.len <= MAX_BODY);
    return o;
}

static bool same_bytes(struct pl_str a, struct pl_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.s, b.s, a.len) == 0);
}

static bool same_head(const struct pl_http_head *a, const struct pl_http_head *b)
{
    if (a->method != b->method || a->minor != b->minor || a->keep_alive != b->keep_alive ||
        a->expect_continue != b->expect_continue || a->chunked != b->chunked ||
        a->has_content_length != b->has_content_length || a->content_length != b->content_length ||
        a->header_count != b->header_count) {
        return false;
    }
    for (size_t i = 0; i < a->header_count; i++) {
        if (!same_bytes(a->headers[i].name, b->headers[i].name) ||
            !same_bytes(a->headers[i].value, b->headers[i].value)) {
            return false;
        }
    }
    return same_bytes(a->path, b->path) && same_bytes(a->query, b->query);
}

static void assert_sane(const struct pl_http_head *h)
{
    enum pl_codec codec;
    struct pl_str token;
    const char *name, *reason = NULL;
    const int err = pl_http_websocket_handshake(h, &reason);

    PL_ASSERT(!h->chunked || !h->has_content_length);
    PL_ASSERT(h->minor == 0 || pl_http_header_count(h, "host") == 1);
    PL_ASSERT(h->path.len > 0);
    PL_ASSERT(err >= 0 || reason != NULL);
    (void)pl_http_websocket_subprotocol(h, &codec, &name, &token);
    (void)pl_http_body_codec(h, &codec);
    (void)pl_http_accept_codec(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, pieces;
    size_t step;
    char *bytes;

    if (size < 2) {
        return 0;
    }
    step = data[0] > 0 ? data[0] : 1;
    /* Of its exact size, so that a read beyond it is seen. */
    bytes = malloc(size - 1);
    memcpy(bytes, data + 1, size - 1);

    whole = feed(bytes, size - 1, size);
    pieces = feed(bytes, size - 1, step);
    PL_ASSERT(whole.head_err == pieces.head_err && whole.head_size == pieces.head_size);
    if (whole.head_err == 0) {
        PL_ASSERT(same_head(&whole.head, &pieces.head));
        PL_ASSERT(whole.body_err == pieces.body_err && whole.body_used == pieces.body_used);
        PL_ASSERT(whole.body.len == pieces.body.len);
        PL_ASSERT(whole.body.len == 0 ||
                  memcmp(whole.body.data, pieces.body.data, whole.body.len) == 0);
        assert_sane(&whole.head);
    }
    pl_buf_done(&whole.body);
    pl_buf_done(&pieces.body);
    free(bytes);
    return 0;
}
