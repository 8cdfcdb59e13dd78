#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/net/net_priv.h"

/* Payload comes in pieces of at most rx_buffer_size, whatever the frames were; here they become messages. */

static size_t max_message(const struct pl_ws_conn *c)
{
    return (size_t)c->net->o.cfg->limits_message_bytes;
}

static void end_message(struct pl_ws_conn *c)
{
    free(c->rx);
    c->rx = NULL;
    c->in_message = false;
}

static void fail(struct pl_ws_conn *c, int code, const char *reason)
{
    end_message(c);
    pl_ws_close(c, code, reason);
}

/* Room for len more bytes, and if possible for all that the frame still brings: no message is copied twice. */
static bool reserve(struct pl_ws_conn *c, size_t len, size_t coming)
{
    size_t have = c->rx ? c->rx->len : 0;
    size_t want = have + len + coming;
    struct pl_ws_rx *rx;

    if (c->rx && want <= c->rx->cap) {
        return true;
    }
    rx = pl_try_realloc(c->rx, sizeof(*rx) + want);
    if (!rx) {
        return false;
    }
    rx->len = have;
    rx->cap = want;
    c->rx = rx;
    return true;
}

static void deliver(struct pl_ws_conn *c, const uint8_t *data, size_t len)
{
    const struct pl_ws_handler *h = c->net->o.ws;
    bool text = !lws_frame_is_binary(c->wsi);
    struct pl_bytes m = {data, len};
    int r = c->compressed ? pl_inflate(data, len, max_message(c), &m) : 0;

    if (r == PL_ERR_TOO_BIG) {
        fail(c, pl_status_close_code(r), pl_status_code(r));
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

void pl_ws__receive(struct pl_ws_conn *c, const uint8_t *data, size_t len)
{
    size_t coming = lws_remaining_packet_payload(c->wsi);
    bool whole = lws_is_final_fragment(c->wsi);
    size_t have = c->rx ? c->rx->len : 0;

    if (bits_are_wrong(c)) {
        fail(c, pl_status_close_code(PL_ERR_PROTOCOL), pl_status_code(PL_ERR_PROTOCOL));
        return;
    }
    if (coming > max_message(c) || have + len + coming > max_message(c)) {
        fail(c, pl_status_close_code(PL_ERR_TOO_BIG), pl_status_code(PL_ERR_TOO_BIG));
        return;
    }
    if (whole && have == 0) {
        deliver(c, data, len);
        return;
    }
    if (!reserve(c, len, coming)) {
        fail(c, pl_status_close_code(PL_ERR_NOMEM), pl_status_code(PL_ERR_NOMEM));
        return;
    }
    memcpy(c->rx->data + have, data, len);
    c->rx->len += len;
    if (coming == 0) {
        c->in_first_frame = false;
    }
    if (whole) {
        deliver(c, c->rx->data, c->rx->len);
    }
}
