#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/net/net_priv.h"

/* A WebSocket in libwebsockets' ws role. It takes the frames of clients apart and answers pings
 * and closes; what the server sends are whole frames made elsewhere, so they go out as raw
 * bytes, and only while libwebsockets holds none back: then there is one send() per frame, past
 * libwebsockets, and no frame is copied. */

enum {
    CLOSE_TIMEOUT_MS = 5000,
    MAX_REASON = 123,
    OPCODE_CLOSE = 8
};

_Static_assert(PL_FRAME_ROOM >= LWS_PRE, "lws_write may use LWS_PRE bytes before a frame");

void *pl_ws_user(const struct pl_ws_conn *c)
{
    return c->user;
}

const struct pl_peer *pl_ws_peer(const struct pl_ws_conn *c)
{
    return &c->peer->peer;
}

bool pl_ws_compresses(const struct pl_ws_conn *c)
{
    return c->deflate;
}

/* While libwebsockets holds nothing back the socket takes the bytes without it; what the socket does
 * not take it keeps, and sends by itself. */
static bool send_bytes(struct pl_ws_conn *c, struct pl_bytes b)
{
    size_t sent = 0;

    if (!lws_partial_buffered(c->wsi)) {
        ssize_t n = send(c->fd, b.data, b.len, MSG_NOSIGNAL);

        sent = n > 0 ? (size_t)n : 0;
    }
    if (sent < b.len &&
        lws_write(c->wsi, (unsigned char *)b.data + sent, b.len - sent, LWS_WRITE_RAW) < 0) {
        pl_net__later(c->net, &c->job);
        return false;
    }
    c->wants_writable = sent < b.len && lws_partial_buffered(c->wsi);
    pl_metric_add(PL_S_BYTES_WEBSOCKET, b.len);
    return true;
}

bool pl_ws_send(struct pl_ws_conn *c, struct pl_frame *f)
{
    PL_ASSERT((pl_frame_codec(f) == PL_MSGPACK) == c->msgpack);
    if (c->phase != PL_WS_OPEN) {
        return true;
    }
    if (lws_partial_buffered(c->wsi)) {
        c->wants_writable = true; /* it calls back when the backlog is out */
        return false;
    }
    (void)send_bytes(c, c->deflate ? pl_frame_websocket_deflated(
                                         f, (size_t)c->net->o.cfg->websocket_compression_min)
                                   : pl_frame_websocket(f));
    return true;
}

void pl_ws_close(struct pl_ws_conn *c, int code, const char *reason)
{
    uint8_t frame[LWS_PRE + 4 + MAX_REASON];
    uint8_t *p = frame + LWS_PRE;
    size_t len = strlen(reason);

    if (c->phase != PL_WS_OPEN) {
        return;
    }
    PL_ASSERT(len <= MAX_REASON);
    c->phase = PL_WS_CLOSING;
    c->code = (uint16_t)code;
    p[0] = 0x80 | OPCODE_CLOSE;
    p[1] = (uint8_t)(2 + len);
    p[2] = (uint8_t)(code >> 8);
    p[3] = (uint8_t)code;
    memcpy(p + 4, reason, len);
    if (send_bytes(c, (struct pl_bytes){p, 4 + len})) {
        c->wants_writable = false;
        pl_ws__begin(c, CLOSE_TIMEOUT_MS);
    }
}

static void close_for_restart(struct pl_ws_conn *c)
{
    pl_ws_close(c, pl_status_close_code(PL_ERR_DRAINING), pl_status_code(PL_ERR_DRAINING));
}

/* ---- the end ---- */

static void count_close(int code)
{
    static const struct {
        int code;
        enum pl_series series;
    } table[] = {
        {1000, PL_S_CLOSE_1000}, {1001, PL_S_CLOSE_1001}, {1002, PL_S_CLOSE_1002},
        {1006, PL_S_CLOSE_1006}, {1007, PL_S_CLOSE_1007}, {1011, PL_S_CLOSE_1011},
        {1012, PL_S_CLOSE_1012}, {1013, PL_S_CLOSE_1013}, {4400, PL_S_CLOSE_4400},
        {4401, PL_S_CLOSE_4401}, {4403, PL_S_CLOSE_4403}, {4404, PL_S_CLOSE_4404},
        {4408, PL_S_CLOSE_4408}, {4409, PL_S_CLOSE_4409}, {4413, PL_S_CLOSE_4413},
        {4429, PL_S_CLOSE_4429},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].code == code) {
            pl_metric_add(table[i].series, 1);
        }
    }
}

/* Cuts the connection. Only where jobs and timers run: never inside a callback of libwebsockets. */
static void cut(struct pl_ws_conn *c)
{
    static const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    int fd = lws_get_socket_fd(c->wsi);

    /* With unsent bytes it would first wait for them, under a timer that is not armed from here;
     * on a socket that is shut down it finds out at once that there is nothing to wait for. */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    shutdown(fd, SHUT_RDWR);
    lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

static void on_timer(struct pl_timer *t)
{
    struct pl_ws_conn *c = pl_container_of(t, struct pl_ws_busy, timer)->conn;

    if (c->phase == PL_WS_OPEN) {
        pl_metric_add(PL_S_UNFIT_BODY_TIME, 1);
        pl_ws_close(c, pl_status_close_code(PL_ERR_REQUEST_TIMEOUT),
                    pl_status_code(PL_ERR_REQUEST_TIMEOUT));
    } else {
        cut(c);
    }
}

void pl_ws__begin(struct pl_ws_conn *c, int64_t ms)
{
    if (!c->busy) {
        c->busy = pl_alloc(sizeof(*c->busy));
        c->busy->conn = c;
        pl_timer_init(&c->busy->timer, on_timer);
    }
    pl_net__set_timer(c->net, &c->busy->timer, ms);
}

void pl_ws__end(struct pl_ws_conn *c)
{
    if (c->busy) {
        pl_timer_cancel(c->net->o.wheel, &c->busy->timer);
        free(c->busy->data);
        free(c->busy);
        c->busy = NULL;
    }
}

static void on_job(struct pl_job *job)
{
    struct pl_ws_conn *c = pl_container_of(job, struct pl_ws_conn, job);

    if (c->phase == PL_WS_CLOSED) {
        free(c);
    } else {
        cut(c);
    }
}

/* Who closed, and why: a code of ours, the client's, one of libwebsockets for broken framing, or
 * none. */
static void on_closed(struct lws *wsi, struct pl_ws_conn *c)
{
    struct pl_net *n = c->net;
    bool by_peer = c->phase != PL_WS_CLOSING;
    int code = c->code;

    lws_set_opaque_user_data(wsi, NULL);
    if (c->phase == PL_WS_OPEN) {
        const uint8_t *p = lws_get_close_payload(wsi);

        by_peer = lws_get_close_length(wsi) < 2;
        code = by_peer ? 1006 : p[0] << 8 | p[1];
    }
    if (!by_peer || code == 1006) {
        count_close(code);
    }
    c->phase = PL_WS_CLOSED;
    pl_ws__end(c);
    n->o.ws->closed(n->o.arg, c, code, by_peer);
    pl_list_remove(&c->node);
    pl_peer__leave(n, c->peer);
    pl_metric_set(PL_S_CONN_WEBSOCKET, --n->ws_count);
    pl_net__later(n, &c->job);
    pl_net__check_stopped(n);
}

/* ---- callbacks of libwebsockets ---- */

static void on_established(struct pl_ws_conn *c)
{
    struct pl_net *n = c->net;

    c->phase = PL_WS_OPEN;
    c->fd = lws_get_socket_fd(c->wsi);
    pl_list_append(&n->ws, &c->node);
    pl_metric_set(PL_S_CONN_WEBSOCKET, ++n->ws_count);
    n->o.ws->opened(n->o.arg, c, c->user);
    if (n->stopping) {
        close_for_restart(c);
    }
}

/* It also comes, unasked for, after libwebsockets has answered a PING: the only trace a PING
 * leaves. */
static void on_writable(struct pl_ws_conn *c)
{
    const struct pl_net *n = c->net;

    if (c->phase != PL_WS_OPEN) {
        return;
    }
    if (c->wants_writable) {
        c->wants_writable = false;
        n->o.ws->writable(n->o.arg, c);
    } else {
        n->o.ws->pong(n->o.arg, c);
    }
}

static void on_pong(struct pl_ws_conn *c)
{
    if (c->phase != PL_WS_OPEN) {
        return;
    }
    if (lws_get_reserved_bits(c->wsi)) {
        pl_ws_close(c, pl_status_close_code(PL_ERR_PROTOCOL), pl_status_code(PL_ERR_PROTOCOL));
        return;
    }
    c->net->o.ws->pong(c->net->o.arg, c);
}

/* Nonzero hangs up instead of sending the client's close frame back. */
static int on_peer_close(struct pl_ws_conn *c, const uint8_t *in, size_t len)
{
    if (c->phase != PL_WS_OPEN) {
        return 1;
    }
    c->phase = PL_WS_PEER_CLOSING;
    c->code = (uint16_t)(len >= 2 ? in[0] << 8 | in[1] : 1005);
    return 0;
}

int pl_ws__lws_callback(struct lws *wsi, struct pl_ws_conn *c, enum lws_callback_reasons reason,
                        const void *in, size_t len)
{
    if (reason == LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED) {
        c->wsi = wsi;
    } else if (reason == LWS_CALLBACK_ESTABLISHED) {
        on_established(c);
    } else if (reason == LWS_CALLBACK_RECEIVE && c->phase == PL_WS_OPEN) {
        pl_ws__receive(c, in, len);
    } else if (reason == LWS_CALLBACK_RECEIVE_PONG) {
        on_pong(c);
    } else if (reason == LWS_CALLBACK_SERVER_WRITEABLE) {
        on_writable(c);
    } else if (reason == LWS_CALLBACK_WS_PEER_INITIATED_CLOSE) {
        return on_peer_close(c, in, len);
    } else if (reason == LWS_CALLBACK_CLOSED && c->phase != PL_WS_OPENING) {
        on_closed(wsi, c);
    } else if (reason == LWS_CALLBACK_WSI_DESTROY) {
        c->wsi = NULL;
    }
    return 0;
}

/* ---- the beginning ---- */

/* libwebsockets did not like the handshake. alive: it still waits for more of it. */
static void never_opened(struct pl_ws_conn *c, bool alive)
{
    struct pl_net *n = c->net;

    if (c->wsi) {
        lws_set_opaque_user_data(c->wsi, NULL);
    }
    if (alive) {
        lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
    }
    n->o.ws->failed(n->o.arg, c->user);
    pl_peer__leave(n, c->peer);
    free(c);
}

void pl_ws__adopt(struct pl_net *n, int fd, struct pl_peer_entry *peer,
                  const struct pl_handshake *hs, const struct pl_buf *head)
{
    struct pl_ws_conn *c = pl_alloc(sizeof(*c));
    struct lws *wsi;

    c->net = n;
    c->peer = peer;
    c->user = hs->user;
    c->msgpack = hs->codec == PL_MSGPACK;
    c->deflate = hs->deflate;
    c->job.fn = on_job;
    pl_list_init(&c->job.node);
    pl_list_init(&c->node);
    n->adopting = c;
    wsi = lws_adopt_socket_vhost_readbuf(n->vhost, fd, (const char *)head->data,
                                         head->len); /* owns fd */
    n->adopting = NULL;
    if (c->phase == PL_WS_OPENING) {
        never_opened(c, wsi != NULL);
    }
}

void pl_ws__stop_all(struct pl_net *n)
{
    pl_list_foreach(it, &n->ws) {
        close_for_restart(pl_container_of(it, struct pl_ws_conn, node));
    }
}

void pl_ws__kill_all(struct pl_net *n)
{
    pl_list_foreach(it, &n->ws) {
        pl_net__later(n, &pl_container_of(it, struct pl_ws_conn, node)->job);
    }
}

bool pl_ws_has_left(const struct pl_ws_conn *c)
{
    return pl_net__has_left(c->fd);
}
