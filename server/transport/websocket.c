#include "server/transport/websocket.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/transport/identity.h"
#include "server/transport/message.h"

enum {
    PENDING_FRAMES = 64, /* replies a client that does not read may leave behind */
    EARLY_BYTES = 65536, /* messages sent before welcome */
    RETRY_AFTER_MS = 1000,
    QUEUE_SHOWN = 6, /* digits of a queue id in logs */
};

/* A message that came before welcome could be said. */
struct early {
    struct pl_list node;
    bool text;
    size_t len;
    char data[];
};

/* From the upgrade, or from hello, until welcome: what the client said, while the bus is asked for
 * its queue or keeps a new one. Survives the socket while the bus is asked. */
struct opening {
    struct websocket *ws; /* NULL: the socket has gone */
    struct pl_hub *hub;
    struct pl_str token, queue_id;
    int64_t cursor; /* -1: none */
    int64_t publish_until_ms;
    struct pl_list early;
    size_t early_bytes;
    bool bad_query;
    bool asked;                  /* of the bus, which answers with this */
    char made[PL_QUEUE_ID_SIZE]; /* the new queue that is being kept */
    char text[];
};

struct websocket {
    struct pl_link link; /* this and what follows is all that a delivery needs */
    struct pl_node *node;
    struct pl_ws_conn *conn; /* NULL before it is open and after it is closed */
    uint64_t sent_ms;
    uint32_t calls;       /* messages whose reply is still to come: it lives as long */
    int16_t close_status; /* why we close it */
    uint8_t pending_count;
    bool said_hello : 1;
    bool closing : 1;
    struct pl_timer timer;     /* hello timeout, ping, liveness */
    struct opening *opening;   /* until welcome; NULL while hello is waited for */
    struct pl_frame **pending; /* replies not taken yet, PENDING_FRAMES at most */
    uint64_t received_ms, pinged_ms;
    uint64_t connection_id;   /* random: welcome and the log name it */
    int64_t publish_until_ms; /* unix; 0: no token with the scope was shown */
};

enum {
    CONNECTION_ID_SIZE = 17
};

static void write_connection_id(const struct websocket *ws, char out[CONNECTION_ID_SIZE])
{
    (void)snprintf(out, CONNECTION_ID_SIZE, "%016" PRIx64, ws->connection_id);
}

/* 1013 and 4429 say for how long to stay away. */
static bool says_when(int close_code)
{
    return close_code == 1013 || close_code == 4429;
}

static void close_with(struct websocket *ws, int status)
{
    int code = pl_status_close_code(status);
    char reason[96];

    if (ws->closing || ws->conn == NULL) {
        return;
    }
    ws->closing = true;
    ws->close_status = (int16_t)status;
    if (says_when(code)) {
        (void)snprintf(reason, sizeof(reason), "%s;retry_after_ms=%d", pl_status_code(status),
                       RETRY_AFTER_MS);
    } else {
        (void)snprintf(reason, sizeof(reason), "%s", pl_status_code(status));
    }
    pl_link_detach(&ws->link);
    pl_ws_close(ws->conn, code, reason);
}

static uint64_t now_ms(const struct websocket *ws)
{
    return pl_hub_mono_ms(ws->node->hub);
}

/* ---- sending ---- */

static bool send_frame(struct websocket *ws, struct pl_frame *f)
{
    if (ws->conn == NULL || ws->closing || ws->pending_count > 0 || !pl_ws_send(ws->conn, f)) {
        return false;
    }
    ws->sent_ms = now_ms(ws);
    return true;
}

/* For what cannot be made again (replies): waits in line if the socket is full. Takes over the
 * frame. */
static void send_or_keep(struct websocket *ws, struct pl_frame *f)
{
    if (ws->conn == NULL || ws->closing || send_frame(ws, f)) {
        pl_frame_unref(f);
        return;
    }
    if (ws->pending_count == PENDING_FRAMES) {
        pl_frame_unref(f);
        close_with(ws, PL_ERR_OVERLOADED);
        return;
    }
    if (ws->pending == NULL) {
        ws->pending = pl_alloc(PENDING_FRAMES * sizeof(struct pl_frame *));
    }
    ws->pending[ws->pending_count++] = f;
}

static void drop_pending(struct websocket *ws)
{
    for (unsigned i = 0; i < ws->pending_count; i++) {
        pl_frame_unref(ws->pending[i]);
    }
    free(ws->pending);
    ws->pending = NULL;
    ws->pending_count = 0;
}

static void flush_pending(struct websocket *ws)
{
    unsigned done = 0;

    while (done < ws->pending_count && pl_ws_send(ws->conn, ws->pending[done])) {
        pl_frame_unref(ws->pending[done++]);
    }
    if (done == 0) {
        return;
    }
    ws->sent_ms = now_ms(ws);
    ws->pending_count = (uint8_t)(ws->pending_count - done);
    memmove(ws->pending, ws->pending + done, ws->pending_count * sizeof(struct pl_frame *));
    if (ws->pending_count == 0) {
        drop_pending(ws);
    }
}

static bool link_send(struct pl_link *l, struct pl_frame *f, uint32_t events)
{
    (void)events;
    return send_frame(pl_container_of(l, struct websocket, link), f);
}

static void link_end(struct pl_link *l, int status)
{
    close_with(pl_container_of(l, struct websocket, link), status);
}

static const struct pl_link_ops websocket_ops = {
    .transport = PL_TRANSPORT_WEBSOCKET,
    .send = link_send,
    .end = link_end,
};

/* ---- time ---- */

static uint64_t quiet_since(const struct websocket *ws)
{
    uint64_t since = ws->sent_ms < ws->received_ms ? ws->sent_ms : ws->received_ms;

    return since > ws->pinged_ms ? since : ws->pinged_ms;
}

static void arm(struct websocket *ws)
{
    uint64_t interval = (uint64_t)ws->node->cfg->websocket_ping_interval;
    uint64_t ping = quiet_since(ws) + interval;
    uint64_t dead = ws->received_ms + 2 * interval;
    uint64_t due = ping < dead ? ping : dead;

    if (due <= now_ms(ws)) {
        due = now_ms(ws) + interval / 4 + 1; /* a ping that found the socket full tries again */
    }
    pl_timer_set(ws->node->wheel, &ws->timer, due);
}

static void send_ping(struct websocket *ws)
{
    struct pl_buf out = {0};
    struct pl_writer w;
    struct pl_frame *f;

    ws->pinged_ms = now_ms(ws);
    pl_writer_init(&w, ws->link.codec, &out);
    pl_write_map(&w, 2);
    pl_write_key(&w, "op");
    pl_write_cstr(&w, "ping");
    pl_write_key(&w, "last_event_id");
    pl_write_int(&w, pl_queue_tell_position(ws->link.queue));
    f = pl_frame_new(ws->link.codec, &out);
    (void)send_frame(ws, f);
    pl_frame_unref(f);
}

static void on_timer(struct pl_timer *t)
{
    struct websocket *ws = pl_container_of(t, struct websocket, timer);
    uint64_t interval = (uint64_t)ws->node->cfg->websocket_ping_interval;

    if (!ws->said_hello) {
        close_with(ws, PL_ERR_HELLO_EXPECTED);
        return;
    }
    if (now_ms(ws) - ws->received_ms >= 2 * interval) {
        close_with(ws, PL_ERR_HEARTBEAT);
        return;
    }
    if (ws->link.queue != NULL && now_ms(ws) - quiet_since(ws) >= interval) {
        send_ping(ws);
    }
    arm(ws);
}

/* ---- opening ---- */

static void send_welcome(struct websocket *ws, bool resumed)
{
    const struct pl_node *n = ws->node;
    struct pl_queue *q = ws->link.queue;
    const struct pl_user *u = pl_queue_user(q);
    int64_t expires_in_ms = pl_identity_expires_in_ms(n, q);
    size_t others = pl_user_other_channel_count(u);
    char id[PL_QUEUE_ID_SIZE];
    char connection_id[CONNECTION_ID_SIZE];
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_queue_id(q, id);
    write_connection_id(ws, connection_id);
    pl_writer_init(&w, ws->link.codec, &out);
    pl_write_map(&w, 10 + (expires_in_ms >= 0) + (others > 0));
    pl_write_key(&w, "op");
    pl_write_cstr(&w, "welcome");
    pl_write_key(&w, "queue_id");
    pl_write_cstr(&w, id);
    pl_write_key(&w, "last_event_id");
    pl_write_int(&w, pl_queue_position(q));
    pl_write_key(&w, "resumed");
    pl_write_bool(&w, resumed);
    pl_write_key(&w, "user_id");
    pl_user_write_id(u, &w);
    pl_write_key(&w, "communities");
    pl_user_write_communities(u, &w);
    if (others > 0) {
        pl_write_key(&w, "channels");
        pl_user_write_other_channels(u, &w);
    }
    pl_write_key(&w, "transports");
    pl_hub_write_transports(n->hub, pl_user_id(u), &w);
    pl_write_key(&w, "ping_interval_ms");
    pl_write_int(&w, n->cfg->websocket_ping_interval);
    if (expires_in_ms >= 0) {
        pl_write_key(&w, "token_expires_in_ms");
        pl_write_int(&w, expires_in_ms);
    }
    pl_write_key(&w, "node");
    pl_write_cstr(&w, n->name);
    pl_write_key(&w, "connection_id");
    pl_write_cstr(&w, connection_id);
    send_or_keep(ws, pl_frame_new(ws->link.codec, &out));
    id[QUEUE_SHOWN] = '\0';
    pl_log(PL_LOG_DEBUG, "websocket_welcome", PL_STR("connection_id", connection_id),
           PL_STR("queue", id), PL_INT("resumed", resumed));
}

static struct pl_str keep(char **at, struct pl_str s)
{
    struct pl_str kept = {*at, s.len};

    if (s.len > 0) {
        memcpy(*at, s.s, s.len);
    }
    *at += s.len;
    return kept;
}

static struct opening *opening_new(struct websocket *ws, struct pl_str token,
                                   struct pl_str queue_id, int64_t cursor)
{
    struct opening *o = pl_alloc(sizeof(*o) + token.len + queue_id.len + 1);
    char *at = o->text;

    o->ws = ws;
    o->hub = ws->node->hub;
    o->token = keep(&at, token);
    o->queue_id = keep(&at, queue_id);
    o->cursor = cursor;
    pl_list_init(&o->early);
    return o;
}

static void opening_free(struct opening *o)
{
    pl_list_foreach_safe(n, &o->early) {
        free(pl_container_of(n, struct early, node));
    }
    free(o);
}

/* The socket goes, or has said welcome: whoever still has an answer for it finds nobody. */
static void leave_opening(struct websocket *ws)
{
    struct opening *o = ws->opening;

    ws->opening = NULL;
    if (o != NULL && o->asked) {
        o->ws = NULL;
    } else if (o != NULL) {
        opening_free(o);
    }
}

/* Fails with this status; the opening is over. */
static void opening_failed(struct websocket *ws, int status)
{
    leave_opening(ws);
    close_with(ws, status);
}

static void handle_message(struct websocket *ws, const void *data, size_t len, bool text);

static void welcome(struct websocket *ws, struct pl_queue *q, bool resumed)
{
    struct opening *o = ws->opening;

    ws->publish_until_ms = o->publish_until_ms;
    ws->opening = NULL;
    pl_queue_attach(q, &ws->link, o->cursor);
    send_welcome(ws, resumed);
    if (ws->link.queue != NULL) {
        pl_queue_writable(ws->link.queue);
    }
    arm(ws);
    pl_list_foreach(n, &o->early) {
        const struct early *m = pl_container_of(n, struct early, node);

        if (!ws->closing) {
            handle_message(ws, m->data, m->len, m->text);
        }
    }
    opening_free(o);
}

/* What the bus had to say has come: false if there is nobody any more to tell. */
static bool go_on(struct opening *o)
{
    o->asked = false;
    if (o->ws == NULL) {
        opening_free(o);
        return false;
    }
    return true;
}

static void on_saved(void *arg, int status)
{
    struct opening *o = arg;
    struct pl_hub *h = o->hub;
    struct pl_queue *q = pl_queue_find(h, (struct pl_str){o->made, PL_QUEUE_ID_SIZE - 1});
    struct websocket *ws = o->ws;
    bool gone = ws == NULL || ws->closing || status != PL_OK;

    if (gone && q != NULL) {
        pl_queue_end(q, PL_OK); /* nobody will know its id */
    }
    if (!go_on(o)) {
        return;
    }
    if (gone || q == NULL) {
        opening_failed(ws, status != PL_OK ? status : PL_ERR_BUS);
    } else {
        welcome(ws, q, false);
    }
}

/* A new queue for a token: also where the one it asked for is gone. */
static void open_new(struct websocket *ws, const struct pl_claims *c, bool was_gone)
{
    struct opening *o = ws->opening;
    struct pl_queue *q;
    int status = pl_identity_admit(ws->node, c);

    if (status == PL_OK) {
        status = pl_identity_new_queue(ws->node, c, o->cursor, &q);
    }
    if (status != PL_OK) {
        opening_failed(ws, status);
        return;
    }
    if (was_gone && o->cursor < 0) {
        pl_queue_require_catchup(q);
    }
    pl_queue_id(q, o->made);
    o->asked = true;
    pl_queue_when_saved(q, on_saved, o);
}

/* Whatever is to be known of its user and queue is here. id: what its token says, if that is known
 * already. */
static void open_queue(struct websocket *ws, struct pl_identity id, struct pl_arena *a)
{
    struct opening *o = ws->opening;
    struct pl_credentials cr = {o->token, o->queue_id};
    int status = PL_OK;

    if (cr.queue_id.len > 0) {
        status = pl_identity_queue(ws->node, &cr, a, &id);
    } else if (!id.has_token) {
        status = pl_identity_verify(ws->node, cr.token, a, &id);
    }

    if (id.has_token) {
        o->publish_until_ms = pl_identity_publish_until_ms(ws->node, &id.claims);
    }
    if (status == PL_OK && id.queue != NULL) {
        welcome(ws, id.queue, true);
    } else if (id.has_token && (status == PL_OK || status == PL_ERR_QUEUE_NOT_FOUND)) {
        open_new(ws, &id.claims, cr.queue_id.len > 0);
    } else {
        opening_failed(ws, status);
    }
}

static void on_ready(void *arg, int status)
{
    struct opening *o = arg;
    struct websocket *ws = o->ws;
    struct pl_arena a = {0};

    if (!go_on(o)) {
        return;
    }
    if (status != PL_OK || ws->closing) {
        opening_failed(ws, status);
    } else {
        open_queue(ws, (struct pl_identity){.queue = NULL}, &a);
    }
    pl_arena_done(&a);
}

/* hello, said by a message or by the upgrade itself: ws->opening holds it. */
static void start_opening(struct websocket *ws)
{
    struct opening *o = ws->opening;
    struct pl_hub *h = ws->node->hub;
    struct pl_identity id = {.queue = NULL};
    struct pl_arena a = {0};
    int status = o->token.len > 0 ? pl_identity_verify(ws->node, o->token, &a, &id) : PL_OK;

    ws->said_hello = true;
    if (status != PL_OK) {
        opening_failed(ws, status);
    } else if (pl_hub_asks(h, id.claims.user_id, o->queue_id) && pl_ws_has_left(ws->conn)) {
        opening_failed(ws, PL_ERR_BUS); /* it may have its queue elsewhere by now */
    } else if (pl_hub_asks(h, id.claims.user_id, o->queue_id)) {
        o->asked = true;
        pl_hub_prepare(h, id.claims.user_id, o->queue_id, on_ready, o);
        arm(ws);
    } else {
        open_queue(ws, id, &a);
    }
    pl_arena_done(&a);
}

/* A message that comes before welcome waits for it. */
static void keep_early(struct websocket *ws, const void *data, size_t len, bool text)
{
    struct opening *o = ws->opening;
    struct early *m;

    o->early_bytes += len + sizeof(*m);
    if (o->early_bytes > EARLY_BYTES) {
        opening_failed(ws, PL_ERR_RATE_LIMITED);
        return;
    }
    m = pl_alloc(sizeof(*m) + len);
    m->text = text;
    m->len = len;
    memcpy(m->data, data, len);
    pl_list_append(&o->early, &m->node);
}

void pl_websocket_accept(struct pl_node *n, struct pl_http_conn *c,
                         const struct pl_http_request *rq)
{
    struct pl_credentials cr;
    struct pl_str cursor = {NULL, 0};
    struct pl_str bearer = {NULL, 0};
    const char *protocol = "";
    enum pl_codec codec = PL_JSON;
    struct websocket *ws;
    int64_t position = -1;
    bool bad_cursor = false;
    bool bad_query = !pl_identity_of_request(n, rq, &cr);
    bool has_cursor =
        pl_http_query_get(rq->head.query, "last_event_id", rq->arena, &cursor, &bad_cursor);

    (void)pl_http_websocket_subprotocol(&rq->head, &codec, &protocol, &bearer);
    if (cr.token.len == 0) {
        cr.token = bearer;
    }
    ws = pl_alloc(sizeof(*ws));
    ws->node = n;
    pl_random_bytes(&ws->connection_id, sizeof(ws->connection_id));
    ws->link = (struct pl_link){.ops = &websocket_ops, .codec = (uint8_t)codec};
    pl_timer_init(&ws->timer, on_timer);
    bad_query |= bad_cursor || (has_cursor && !pl_parse_cursor(cursor, &position));
    ws->opening = opening_new(ws, cr.token, cr.queue_id, position);
    ws->opening->bad_query = bad_query;
    pl_http_accept_websocket(c, protocol, codec, ws);
}

static void on_opened(void *arg, struct pl_ws_conn *c, void *user)
{
    struct websocket *ws = user;
    struct opening *o = ws->opening;

    (void)arg;
    ws->conn = c;
    ws->received_ms = ws->sent_ms = now_ms(ws);
    if (o->bad_query) {
        opening_failed(ws, PL_ERR_INVALID);
    } else if (o->token.len > 0 || o->queue_id.len > 0) {
        start_opening(ws);
    } else {
        leave_opening(ws);
        pl_timer_set(ws->node->wheel, &ws->timer,
                     now_ms(ws) + (uint64_t)ws->node->cfg->websocket_hello_timeout);
    }
}

/* ---- messages ---- */

/* May come when the socket has gone. */
static void on_reply(void *arg, struct pl_buf *reply)
{
    struct websocket *ws = arg;

    ws->calls--;
    if (reply != NULL && ws->conn != NULL) {
        send_or_keep(ws, pl_frame_new(ws->link.codec, reply));
    } else if (reply != NULL) {
        pl_buf_done(reply);
    }
    if (ws->conn == NULL && ws->calls == 0) {
        free(ws);
    }
}

static void run_message(struct websocket *ws, const struct pl_value *v, struct pl_arena *a)
{
    struct pl_message_from from = {
        .node = ws->node,
        .queue = ws->link.queue,
        .codec = ws->link.codec,
        .publish_until_ms = ws->publish_until_ms,
        .ret_publish_until_ms = &ws->publish_until_ms,
    };

    ws->calls++;
    if (pl_message_run(&from, v, a, on_reply, ws) != PL_OK) {
        ws->calls--;
        close_with(ws, PL_ERR_RATE_LIMITED);
    }
}

static void first_message(struct websocket *ws, const struct pl_value *v, struct pl_arena *a)
{
    struct pl_request_limits limits = pl_hub_limits(ws->node->hub);
    struct pl_message m = {0};
    struct pl_request_error error;
    const struct pl_value *op = pl_value_get(v, "op");

    if (op == NULL || op->type != PL_STRING || !pl_str_eq(op->u.string, PL_LIT("hello"))) {
        close_with(ws, PL_ERR_HELLO_EXPECTED);
    } else if (pl_parse_message(v, a, &limits, &m, &error) != PL_OK) {
        close_with(ws, PL_ERR_INVALID);
    } else {
        ws->opening =
            opening_new(ws, m.token, m.queue_id, m.has_last_event_id ? m.last_event_id : -1);
        ws->link.has_batch_window = m.has_batch_window;
        ws->link.batch_window_ms =
            (uint32_t)(m.batch_window_ms < PL_BATCH_WINDOW_MAX_MS ? m.batch_window_ms
                                                                  : PL_BATCH_WINDOW_MAX_MS);
        if (m.token.len == 0 && m.queue_id.len == 0) {
            opening_failed(ws, PL_ERR_UNAUTHORIZED);
        } else {
            start_opening(ws);
        }
    }
}

static void handle_message(struct websocket *ws, const void *data, size_t len, bool text)
{
    const struct pl_value *v;
    struct pl_arena a = {0};
    int status;

    if (ws->link.queue != NULL && len > 0 && !pl_queue_take(ws->link.queue, PL_USE_BYTES, len)) {
        close_with(ws, PL_ERR_RATE_LIMITED);
        return;
    }
    status = pl_decode(ws->link.codec, data, len, &a, &v, NULL);
    if (status != PL_OK) {
        close_with(ws, text && status == PL_ERR_UTF8 ? PL_ERR_UTF8 : PL_ERR_MALFORMED);
    } else if (!ws->said_hello) {
        first_message(ws, v, &a);
    } else if (ws->link.queue != NULL) {
        run_message(ws, v, &a);
    }
    pl_arena_done(&a);
}

static void on_message(void *arg, struct pl_ws_conn *c, const void *data, size_t len, bool text)
{
    struct websocket *ws = pl_ws_user(c);

    (void)arg;
    if (ws->closing) {
        return;
    }
    ws->received_ms = now_ms(ws);
    if (text != (ws->link.codec == PL_JSON)) {
        close_with(ws, PL_ERR_MALFORMED);
    } else if (ws->opening != NULL) {
        keep_early(ws, data, len, text);
    } else {
        handle_message(ws, data, len, text);
    }
}

static void on_pong(void *arg, struct pl_ws_conn *c)
{
    struct websocket *ws = pl_ws_user(c);

    (void)arg;
    ws->received_ms = now_ms(ws);
    if (ws->link.queue != NULL) {
        pl_queue_touch(ws->link.queue);
    }
}

static void on_writable(void *arg, struct pl_ws_conn *c)
{
    struct websocket *ws = pl_ws_user(c);

    (void)arg;
    if (ws->closing) {
        return;
    }
    flush_pending(ws);
    if (ws->pending_count == 0 && ws->link.queue != NULL) {
        pl_queue_writable(ws->link.queue);
    }
}

/* ---- the end ---- */

/* Its last reply frees it, if one is still to come. */
static void websocket_free(struct websocket *ws)
{
    pl_timer_cancel(ws->node->wheel, &ws->timer);
    drop_pending(ws);
    leave_opening(ws);
    if (ws->calls == 0) {
        free(ws);
    }
}

static void on_failed(void *arg, void *user)
{
    (void)arg;
    websocket_free(user);
}

/* Clients come and go: that, and a deploy, is for those who look closer. */
static void log_closed(const struct websocket *ws, int code, bool by_peer)
{
    bool ours = ws->closing && !by_peer;
    enum pl_log_level level =
        ours && ws->close_status != PL_ERR_DRAINING ? PL_LOG_INFO : PL_LOG_DEBUG;
    char id[CONNECTION_ID_SIZE];

    write_connection_id(ws, id);
    pl_log(
        level, "websocket_closed", PL_STR("connection_id", id), PL_INT("code", code),
        PL_STR("reason", ours ? pl_status_code(ws->close_status) : "by the client or the network"));
}

static void on_closed(void *arg, struct pl_ws_conn *c, int code, bool by_peer)
{
    struct websocket *ws = pl_ws_user(c);
    struct pl_queue *q = ws->link.queue;

    (void)arg;
    log_closed(ws, code, by_peer);
    ws->conn = NULL;
    if (q != NULL) {
        pl_link_detach(&ws->link);
        /* 1000 from the client is an unregister; any other code keeps the queue. */
        if (by_peer && code == 1000) {
            pl_queue_end(q, PL_OK);
        }
    }
    websocket_free(ws);
}

const struct pl_ws_handler pl_websocket_handler = {
    .opened = on_opened,
    .failed = on_failed,
    .message = on_message,
    .pong = on_pong,
    .writable = on_writable,
    .closed = on_closed,
};
