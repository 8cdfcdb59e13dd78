#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/net/net_priv.h"

/* Payload comes in pieces of at most rx_buffer_size, whatever the frames were; here they become
 * messages. */

static size_t max_message(const struct pl_ws_conn *c)
{
    return (size_t)c->net->o.cfg->limits_message_bytes;
}

static void end_message(struct pl_ws_conn *c)
{
    if (c->phase == PL_WS_OPEN) {
        pl_ws__end(c);
    }
    c->in_message = false;
}

static void fail(struct pl_ws_conn *c, int code, const char *reason)
{
    end_message(c);
    pl_ws_close(c, code, reason);
}

/* Room for len more bytes, and for some of what the frame still brings: not for all that its
 * header promises, which costs a client nothing. */
static bool reserve(struct pl_ws_conn *c, size_t len, size_t coming)
{
    struct pl_ws_busy *b = c->busy;
    size_t want = b->len + len;
    uint8_t *data;

    if (want <= b->cap) {
        return true;
    }
    want += coming < want ? coming : want;
    data = pl_try_realloc(b->data, want);
    if (!data) {
        return false;
    }
    b->data = data;
    b->cap = want;
    return true;
}

static void fail_too_big(struct pl_ws_conn *c)
{
    pl_metric_add(PL_S_UNFIT_MESSAGE_BYTES, 1);
    fail(c, pl_status_close_code(PL_ERR_TOO_BIG), pl_status_code(PL_ERR_TOO_BIG));
}

static void deliver(struct pl_ws_conn *c, const uint8_t *data, size_t len)
{
    const struct pl_ws_handler *h = c->net->o.ws;
    bool text = !lws_frame_is_binary(c->wsi);
    struct pl_bytes m = {data, len};
    int r = c->compressed ? pl_inflate(data, len, max_message(c), &m) : 0;

    if (r == PL_ERR_TOO_BIG) {
        fail_too_big(c);
    } else if (r < 0) {
        fail(c, 1007, "invalid_data");
    } else {
        h->message(c->net->o.arg, c, m.data, m.len, text);
        end_message(c);
    }
}

/* Bits that only a message's first frame may have. libwebsockets has refused the others. */
static bool bits_are_wrong(struct pl_ws_conn *c)
{
    bool rsv1 = lws_get_reserved_bits(c->wsi) & 0x40;

    if (!c->in_message) {
        c->in_message = c->in_first_frame = true;
        c->compressed = rsv1;
        return false;
    }
    return rsv1 && !c->in_first_frame;
}

#if LWS_LIBRARY_VERSION_NUMBER < 4002000
/* A frame's header in front of its payload, with this many bytes of extended length? */
static bool header_before(const uint8_t *payload, uint8_t first, bool masked, size_t len,
                          unsigned extended)
{
    const uint8_t *h = payload - (masked ? 4 : 0) - extended - 2;
    uint64_t declared = 0;

    if (h[0] != first || (h[1] & 0x80) != (masked ? 0x80 : 0)) {
        return false;
    }
    for (unsigned i = 0; i < extended; i++) {
        declared = declared << 8 | h[2 + i];
    }
    if (extended == 0) {
        return (h[1] & 0x7f) == len;
    }
    return (h[1] & 0x7f) == (extended == 2 ? 126 : 127) && declared == len;
}

/* RFC 6455, 5.1: a client's frames are masked, else the connection fails. This libwebsockets does
 * not tell, but it unmasks in place, in the buffer it received into, so the header still stands
 * before the payload (14 bytes before are always readable: the buffer follows the context in one
 * allocation). Only a whole data frame is judged, and only when an unmasked header fits exactly and
 * no masked one does. */
static bool is_unmasked(const struct pl_ws_conn *c, const uint8_t *data, size_t len, bool whole)
{
    static const unsigned extended[] = {0, 2, 8};
    bool continues = c->in_message && !c->in_first_frame;
    uint8_t opcode = lws_frame_is_binary(c->wsi) ? 2 : 1;
    uint8_t first = (uint8_t)((whole ? 0x80 : 0) | (lws_get_reserved_bits(c->wsi) & 0x70) |
                              (continues ? 0 : opcode));
    bool unmasked = false;

    for (unsigned i = 0; len > 0 && i < sizeof(extended) / sizeof(extended[0]); i++) {
        if (header_before(data, first, true, len, extended[i])) {
            return false;
        }
        unmasked = unmasked || header_before(data, first, false, len, extended[i]);
    }
    return unmasked;
}
#else
static bool is_unmasked(const struct pl_ws_conn *c, const uint8_t *data, size_t len, bool whole)
{
    (void)c;
    (void)data;
    (void)len;
    (void)whole;
    return false;
}
#endif

void pl_ws__receive(struct pl_ws_conn *c, const uint8_t *data, size_t len)
{
    size_t coming = lws_remaining_packet_payload(c->wsi);
    bool whole = lws_is_final_fragment(c->wsi);
    size_t have = c->busy ? c->busy->len : 0;
    bool is_whole_frame = !c->in_frame && coming == 0;

    c->in_frame = coming > 0;
    if (bits_are_wrong(c) || (is_whole_frame && is_unmasked(c, data, len, whole))) {
        fail(c, pl_status_close_code(PL_ERR_PROTOCOL), pl_status_code(PL_ERR_PROTOCOL));
        return;
    }
    if (coming > max_message(c) || have + len + coming > max_message(c)) {
        fail_too_big(c);
        return;
    }
    if (whole && have == 0) {
        deliver(c, data, len);
        return;
    }
    if (have == 0) { /* what it costs until it is whole, it costs for so long at most */
        pl_ws__begin(c, c->net->o.cfg->limits_body_timeout);
    }
    if (!reserve(c, len, coming)) {
        fail(c, pl_status_close_code(PL_ERR_NOMEM), pl_status_code(PL_ERR_NOMEM));
        return;
    }
    if (len > 0) {
        memcpy(c->busy->data + have, data, len);
        c->busy->len += len;
    }
    if (coming == 0) {
        c->in_first_frame = false;
    }
    if (whole) {
        deliver(c, c->busy->data, c->busy->len);
    }
}
