#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/alloc.h"
#include "server/net/net_priv.h"

/* libwebsockets answers every handshake, but it never sees the client's: once accepted, it gets
 * one of our own with nothing in it but what its answer depends on. So no odd header can reach
 * its parser, the subprotocol is the one that was chosen, and the extension's parameters are in
 * the only form it understands. */

struct pl_handshake *pl_http__handshake_new(const struct pl_net *n, const struct pl_http_head *head)
{
    struct pl_handshake *hs = pl_alloc(sizeof(*hs));
    const struct pl_str *key = pl_http_header(head, "sec-websocket-key");

    PL_ASSERT(key && key->len == sizeof(hs->key) - 1);
    memcpy(hs->key, key->s, key->len);
    hs->deflate = n->o.cfg->websocket_compression && pl_deflate__offered(head, &hs->window_bits);
    return hs;
}

void pl_http_accept_websocket(struct pl_http_conn *c, const char *protocol, enum pl_codec codec,
                              void *user)
{
    static const char *const known[] = {"", "parley.v1.json", "parley.v1.msgpack"};

    PL_ASSERT(c->phase == PL_CONN_ANSWER && c->u.handshake);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(protocol, known[i]) == 0) {
            c->u.handshake->protocol = known[i];
        }
    }
    PL_ASSERT(c->u.handshake->protocol);
    c->u.handshake->codec = codec;
    c->u.handshake->user = user;
    c->phase = PL_CONN_HANDOVER;
    pl_net__later(c->net, &c->job);
}

static void write_handshake(const struct pl_handshake *hs, struct pl_buf *out)
{
    pl_buf_printf(out,
                  "GET / HTTP/1.1\r\nHost: parley\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
                  hs->key);
    if (*hs->protocol) {
        pl_buf_printf(out, "Sec-WebSocket-Protocol: %s\r\n", hs->protocol);
    }
    if (hs->deflate) {
        pl_buf_printf(out,
                      "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                      "client_no_context_takeover%s\r\n",
                      hs->window_bits ? "; server_max_window_bits=15" : "");
    }
    pl_buf_append_str(out, "\r\n");
}

void pl_http__hand_over(struct pl_http_conn *c)
{
    struct pl_handshake *hs = c->u.handshake;
    struct pl_buf bytes = {0};
    /* A connection that libwebsockets has cannot be turned back from the raw role, and closes its
     * descriptor. */
    int fd = c->wsi ? fcntl(c->fd, F_DUPFD_CLOEXEC, 0) : c->fd;
    struct pl_peer_entry *peer = c->peer;

    if (fd < 0) {
        c->net->o.ws->failed(c->net->o.arg, hs->user);
        return;
    }
    if (!c->wsi) {
        pl_front__leave(c);
        c->fd = -1;
    }
    write_handshake(hs, &bytes);
    pl_buf_append(&bytes, c->in.data, c->in.len);
    pl_buf_done(&c->in);
    c->peer = NULL;
    if (c->proxy) {
        pl_peer__drop(c->net, c->proxy); /* the whole connection is the client's now */
        c->proxy = NULL;
    }
    pl_ws__adopt(c->net, fd, peer, hs, &bytes);
    pl_buf_done(&bytes);
}
