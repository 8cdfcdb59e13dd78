#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/proxy_header.h"
#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/base/metrics.h"
#include "server/net/net_priv.h"

/* An HTTP connection, in the front's hands or in libwebsockets' raw role: one request at a time.
 * While its answer is due the connection keeps nothing of the request; bytes behind it wait in `in`.
 * Reading goes on all the time, because that is how a client that goes away is noticed, so `in` has
 * a limit. */

enum {
    LINGER_MS = 2000,
    FIRST_REQUEST_MS = 250, /* what a stop leaves who has just connected */
    IDLE_END_US = 500,      /* from one idle connection that is closed to the next */
    SHORT_BYTES = 4096,     /* when memory is short, more of a request than this comes at once */
};

static const struct pl_config *config(const struct pl_http_conn *c)
{
    return c->net->o.cfg;
}

static void set_timer(struct pl_http_conn *c, int64_t ms)
{
    pl_net__set_timer(c->net, &c->timer, ms);
}

/* Frees what belongs to the phase that ends. */
static void leave_phase(struct pl_http_conn *c)
{
    if (c->phase == PL_CONN_BODY) {
        pl_buf_done(&c->u.partial->head);
        pl_buf_done(&c->u.partial->body);
        free(c->u.partial);
    } else if (c->phase == PL_CONN_WRITING) {
        pl_buf_done(c->u.out);
        free(c->u.out);
    } else if (c->phase == PL_CONN_ANSWER || c->phase == PL_CONN_HANDOVER) {
        free(c->u.handshake);
    }
    c->u.partial = NULL;
    pl_timer_cancel(c->net->o.wheel, &c->timer);
}

static void enter_phase(struct pl_http_conn *c, enum pl_http_phase phase)
{
    leave_phase(c);
    c->phase = (uint8_t)phase;
}

/* While it is being consumed, a request in it is in somebody's hands: consume_waiting frees it
 * then. */
static void drop_input(struct pl_http_conn *c)
{
    if (!c->consuming) {
        pl_buf_done(&c->in);
    }
}

void pl_http__doom(struct pl_http_conn *c)
{
    struct pl_net *n = c->net;

    if (c->phase >= PL_CONN_DOOMED) {
        return;
    }
    drop_input(c);
    if (c->phase == PL_CONN_ANSWER) {
        enter_phase(c, PL_CONN_DOOMED);
        n->o.http->closed(n->o.arg, c);
    } else if (c->phase == PL_CONN_HANDOVER) {
        void *user = c->u.handshake->user;

        enter_phase(c, PL_CONN_DOOMED);
        n->o.ws->failed(n->o.arg, user);
    } else {
        enter_phase(c, PL_CONN_DOOMED);
    }
    pl_net__later(n, &c->job);
}

bool pl_http__is_last(const struct pl_http_conn *c)
{
    const struct pl_net *n = c->net;

    return n->stopping || (n->draining && !c->stays && c->peer->peer.listener == PL_LISTENER_MAIN);
}

/* ---- requests ---- */

static void refuse(struct pl_http_conn *c, const struct pl_http_head *head, int status,
                   const char *reason)
{
    enter_phase(c, PL_CONN_ANSWER);
    c->keep_alive = false;
    c->is_head = head != NULL && head->method == PL_HTTP_HEAD; /* not what the request before was */
    c->net->o.http->refuse(c->net->o.arg, c, head, status, reason);
}

static void dispatch(struct pl_http_conn *c, const struct pl_http_head *head, struct pl_str body,
                     bool upgrade)
{
    const struct pl_http_handler *h = c->net->o.http;
    struct pl_arena arena = {0};
    struct pl_http_request rq = {
        .head = *head, .body = body, .arena = &arena, .peer = c->peer->peer};

    enter_phase(c, PL_CONN_ANSWER);
    if (upgrade) {
        c->u.handshake = pl_http__handshake_new(c->net, head);
        h->upgrade(c->net->o.arg, c, &rq);
    } else {
        h->request(c->net->o.arg, c, &rq);
    }
    pl_arena_done(&arena);
}

static void refuse_body(struct pl_http_conn *c, const struct pl_http_head *head, int status)
{
    const struct pl_net *n = c->net;

    if (status == PL_ERR_TOO_BIG) {
        const bool is_backend = n->o.http->max_body(n->o.arg, c, head, &c->peer->peer) !=
                                config(c)->limits_message_bytes;

        pl_metric_add(is_backend ? PL_S_UNFIT_BODY_BYTES : PL_S_UNFIT_MESSAGE_BYTES, 1);
    }
    refuse(c, head, status, status == PL_ERR_PROTOCOL ? "the body is not properly chunked" : NULL);
}

/* Then little is kept of a request that is not whole. Operators and backends are not what fills it. */
static bool is_short_of_memory(const struct pl_http_conn *c)
{
    if (pl_memory_state == PL_MEMORY_ENOUGH || c->peer->peer.listener != PL_LISTENER_MAIN) {
        return false;
    }
    pl_metric_add(PL_S_REFUSED_MEMORY, 1);
    return true;
}

/* head lies in the first head_size bytes of data. Returns how many bytes belong to the request. */
static size_t begin_body(struct pl_http_conn *c, const struct pl_http_head *head, const char *data,
                         size_t head_size, size_t len)
{
    struct pl_http_body state;
    struct pl_buf body = {0};
    struct pl_http_partial *p;
    size_t used = 0;
    int64_t max = c->net->o.http->max_body(c->net->o.arg, c, head, &c->peer->peer);
    int r;

    if (max < 0) {
        refuse(c, head, (int)max, NULL);
        return len;
    }
    pl_http_body_init(&state, head, (uint64_t)max);
    r = pl_http_body_feed(&state, data + head_size, len - head_size, &body, &used);
    if (r == 0) {
        dispatch(c, head, (struct pl_str){(const char *)body.data, body.len}, false);
    } else if (r < 0) {
        refuse_body(c, head, r);
    } else if ((head->chunked || head_size + head->content_length > SHORT_BYTES) &&
               is_short_of_memory(c)) {
        refuse(c, head, PL_ERR_OVERLOADED, NULL);
    } else {
        if (head->expect_continue && head_size == len) {
            pl_http__send_continue(c);
        }
        p = pl_alloc(sizeof(*p));
        *p = (struct pl_http_partial){.state = state, .body = body};
        pl_buf_append(&p->head, data, head_size);
        enter_phase(c, PL_CONN_BODY);
        c->u.partial = p;
        set_timer(c, config(c)->limits_body_timeout);
        return len;
    }
    pl_buf_done(&body);
    return r == 0 ? head_size + used : len;
}

/* ---- whose it is ---- */

static void name_client(struct pl_http_conn *c, const struct pl_address *client)
{
    const char *proxy = c->peer->peer.ip;

    c->peer = pl_peer__take(c->net, c->peer->peer.listener, client);
    pl_log(PL_LOG_DEBUG, "client_named", PL_STR("client", c->peer->peer.ip),
           PL_STR("proxy", proxy));
}

/* A trusted proxy forwards for many on one connection, so what it says holds for one request. PL_OK,
 * or the status of a limit the client is over. */
static int read_forwarded(struct pl_http_conn *c, const struct pl_http_head *head)
{
    struct pl_address client;

    if (!pl_peer__is_proxy(c->net, c->peer) ||
        !pl_http_forwarded_for(head, &config(c)->server_trusted_proxies, &client)) {
        return PL_OK;
    }
    c->proxy = c->peer;
    name_client(c, &client);
    return pl_peer__check_per_ip(c->net, c->peer);
}

static void forget_forwarded(struct pl_http_conn *c)
{
    if (c->proxy) {
        pl_peer__drop(c->net, c->peer);
        c->peer = c->proxy;
        c->proxy = NULL;
    }
}

static void become_client(struct pl_http_conn *c, const struct pl_address *client)
{
    struct pl_net *n = c->net;
    struct pl_peer_entry *proxy = c->peer;

    name_client(c, client);
    pl_peer__drop(n, proxy);
    if (c->refuse_status == PL_OK) {
        c->refuse_status = (int16_t)pl_peer__check_per_ip(n, c->peer);
        n->refusing += c->refuse_status != PL_OK;
        if (n->refusing > PL_MAX_REFUSING) {
            pl_http__doom(c);
        }
    }
}

/* Whoever may send the header must: without it the client's address would be the proxy's, and the
 * proxy's limits the client's. */
static size_t on_proxy_bytes(struct pl_http_conn *c, const char *data, size_t len)
{
    struct pl_proxy_header h;
    const char *reason = NULL;
    const int r = pl_proxy_header_parse(data, len, &h, &reason);

    if (r == PL_PROXY_MORE) {
        return 0;
    }
    if (r < 0) {
        pl_log(PL_LOG_WARN, "proxy_header_refused", PL_STR("proxy", c->peer->peer.ip),
               PL_STR("reason", reason));
        pl_http__doom(c);
        return len;
    }
    c->phase = PL_CONN_HEAD; /* its timer goes on */
    if (h.command == PL_PROXY_CLIENT) {
        become_client(c, &h.client);
    }
    return h.size;
}

static size_t begin_request(struct pl_http_conn *c, const struct pl_http_head *head,
                            const char *data, size_t head_size, size_t len)
{
    const char *reason = NULL;
    int r;

    c->keep_alive = head->keep_alive && !c->net->stopping;
    c->stays = false;
    c->is_head = head->method == PL_HTTP_HEAD;
    c->http_1_0 = head->minor == 0;
    if (c->refuse_status) {
        refuse(c, head, c->refuse_status, NULL);
        return len;
    }
    r = read_forwarded(c, head);
    if (r != PL_OK) {
        refuse(c, head, r, NULL);
        return len;
    }
    r = pl_http_websocket_handshake(head, &reason);
    if (r < 0) {
        refuse(c, head, r, reason);
        return len;
    }
    if (r == PL_HTTP_MORE && (head->chunked || head->content_length > 0)) {
        return begin_body(c, head, data, head_size, len);
    }
    dispatch(c, head, (struct pl_str){0}, r == PL_OK);
    return head_size;
}

/* Returns how many bytes were used; 0: more are needed. */
static size_t on_head_bytes(struct pl_http_conn *c, const char *data, size_t len)
{
    struct pl_http_head head;
    const char *reason = NULL;
    size_t size = 0;
    int r = pl_http_parse_head(data, len, c->u.scanned, (size_t)config(c)->limits_header_bytes,
                               &head, &size, &reason);

    if (r == PL_HTTP_MORE && len > SHORT_BYTES && is_short_of_memory(c)) {
        refuse(c, NULL, PL_ERR_OVERLOADED, NULL);
        return len;
    }
    if (r == PL_HTTP_MORE) {
        if (c->u.scanned == 0) {
            set_timer(c, config(c)->limits_header_timeout);
        }
        c->u.scanned = len;
        return 0;
    }
    c->u.scanned = 0;
    pl_metric_add(PL_S_UNFIT_HEADER_BYTES, r == PL_ERR_HEADERS_TOO_BIG || r == PL_ERR_URI_TOO_LONG);
    if (r < 0) {
        refuse(c, NULL, r, reason);
        return len;
    }
    return begin_request(c, &head, data, size, len);
}

/* The head is parsed again when the body is whole: cheaper than keeping 2 KB of it for every
 * upload under way. */
static void parse_kept_head(const struct pl_buf *bytes, struct pl_http_head *ret)
{
    size_t size;
    int r = pl_http_parse_head((const char *)bytes->data, bytes->len, 0, SIZE_MAX / 2, ret, &size,
                               NULL);

    PL_ASSERT(r == 0);
}

static size_t on_body_bytes(struct pl_http_conn *c, const char *data, size_t len)
{
    struct pl_http_partial *p = c->u.partial;
    struct pl_buf head_bytes, body;
    struct pl_http_head head;
    size_t used = 0;
    int r = pl_http_body_feed(&p->state, data, len, &p->body, &used);

    if (r == PL_HTTP_MORE) {
        return len;
    }
    head_bytes = p->head;
    body = p->body;
    p->head = p->body = (struct pl_buf){0}; /* leaving the phase must not free them yet */
    parse_kept_head(&head_bytes, &head);
    if (r == 0) {
        dispatch(c, &head, (struct pl_str){(const char *)body.data, body.len}, false);
    } else {
        refuse_body(c, &head, r);
    }
    pl_buf_done(&head_bytes);
    pl_buf_done(&body);
    return r == 0 ? used : len;
}

/* By the phases that read. */
static size_t (*const on_phase_bytes[])(struct pl_http_conn *c, const char *data, size_t len) = {
    [PL_CONN_PROXY] = on_proxy_bytes,
    [PL_CONN_HEAD] = on_head_bytes,
    [PL_CONN_BODY] = on_body_bytes,
};

/* Takes as many bytes as it can use now; returns how many. */
static size_t consume(struct pl_http_conn *c, const char *data, size_t len)
{
    size_t at = 0;

    c->consuming = true;
    while (at < len && c->phase <= PL_CONN_BODY) {
        size_t used = on_phase_bytes[c->phase](c, data + at, len - at);

        if (used == 0) {
            break;
        }
        at += used;
    }
    c->consuming = false;
    return at;
}

static void consume_waiting(struct pl_http_conn *c)
{
    size_t used = consume(c, (const char *)c->in.data, c->in.len);

    if (used >= c->in.len || c->phase >= PL_CONN_LINGER) {
        pl_buf_done(&c->in);
    } else {
        pl_buf_consume(&c->in, used);
    }
}

void pl_http__bytes(struct pl_http_conn *c, const char *data, size_t len)
{
    size_t max = (size_t)(config(c)->limits_header_bytes + config(c)->limits_message_bytes);
    size_t used = 0;

    if (c->phase >= PL_CONN_LINGER) {
        return;
    }
    if (c->in.len > 0) {
        if (c->in.len + len > max && c->phase != PL_CONN_HEAD) {
            pl_http__doom(c);
            return;
        }
        pl_buf_append(&c->in, data, len);
        consume_waiting(c);
        return;
    }
    used = consume(c, data, len);
    if (used < len && c->phase < PL_CONN_LINGER) {
        pl_buf_append(&c->in, data + used, len - used);
    }
}

void pl_http__answered(struct pl_http_conn *c)
{
    enter_phase(c, PL_CONN_HEAD);
    forget_forwarded(c);
    if (!c->keep_alive || c->net->stopping) {
        enter_phase(c, PL_CONN_LINGER);
        drop_input(c);
        shutdown(c->fd, SHUT_WR);
        set_timer(c, LINGER_MS);
        return;
    }
    c->answered = true;
    c->ends = false;
    set_timer(c, config(c)->limits_keepalive_timeout);
    if (c->in.len > 0 && !c->consuming) {
        pl_net__later(c->net, &c->job);
    }
}

/* ---- its life ---- */

/* Nothing of a request is here. What the loop was too busy to read counts: its connection is not
 * idle, and whoever sent it, a proxy above all, could not know whether to send it again. */
static bool is_between_requests(const struct pl_http_conn *c)
{
    return c->phase <= PL_CONN_HEAD && c->in.len == 0 && !pl_net__has_unread(c->fd);
}

/* Those who came together are idle for too long together, and closing one takes libwebsockets as
 * long as several deliveries: one after the other, so that nobody waits for thousands of them. */
static void end_idle(struct pl_http_conn *c)
{
    struct pl_net *n = c->net;
    const uint64_t now_us = n->now_ms * 1000;

    if (!c->ends) {
        c->ends = true;
        n->idle_end_us = (n->idle_end_us > now_us ? n->idle_end_us : now_us) + IDLE_END_US;
        if (n->idle_end_us > now_us + PL_WHEEL_TICK_MS * 1000) {
            set_timer(c, (int64_t)(n->idle_end_us - now_us) / 1000);
            return;
        }
    }
    if (is_between_requests(c)) {
        pl_http__doom(c);
    } else {
        set_timer(c, config(c)->limits_header_timeout);
    }
}

static void on_timer(struct pl_timer *t)
{
    struct pl_http_conn *c = pl_container_of(t, struct pl_http_conn, timer);

    if (c->phase == PL_CONN_HEAD && c->in.len > 0) {
        pl_buf_done(&c->in);
        pl_metric_add(PL_S_UNFIT_HEADER_TIME, 1);
        refuse(c, NULL, PL_ERR_REQUEST_TIMEOUT, "the header section did not arrive in time");
    } else if (c->phase == PL_CONN_BODY) {
        struct pl_buf bytes = c->u.partial->head;
        struct pl_http_head head;

        c->u.partial->head = (struct pl_buf){0};
        pl_metric_add(PL_S_UNFIT_BODY_TIME, 1);
        parse_kept_head(&bytes, &head);
        refuse(c, &head, PL_ERR_REQUEST_TIMEOUT, "the body did not arrive in time");
        pl_buf_done(&bytes);
    } else if (c->phase == PL_CONN_HEAD && c->answered) {
        end_idle(c);
    } else {
        pl_http__doom(c);
    }
}

static void on_closed(struct pl_http_conn *c)
{
    struct pl_net *n = c->net;

    pl_http__doom(c);
    c->phase = PL_CONN_CLOSED;
    c->wsi = NULL; /* libwebsockets has cleared its pointer to c, too */
    c->fd = -1;
    pl_list_remove(&c->node);
    n->refusing -= c->refuse_status != 0;
    forget_forwarded(c);
    if (c->peer) {
        pl_peer__leave(n, c->peer);
    }
    pl_metric_set(PL_S_CONN_HTTP, --n->http_count);
    pl_net__later(n, &c->job);
    pl_net__check_stopped(n);
}

static void cut(struct pl_http_conn *c)
{
    if (c->wsi) {
        /* Outside of libwebsockets' own callbacks, where all jobs run, this closes at once:
         * on_closed. */
        lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
        return;
    }
    if (c->fd >= 0) {
        pl_front__leave(c);
        close(c->fd);
    }
    on_closed(c);
}

static void on_job(struct pl_job *job)
{
    struct pl_http_conn *c = pl_container_of(job, struct pl_http_conn, job);

    if (c->phase == PL_CONN_HEAD && c->answered) {
        consume_waiting(c);
    } else if (c->phase <= PL_CONN_HEAD) {
        pl_front__read(c); /* it is new */
    } else if (c->phase == PL_CONN_WRITING) {
        pl_front__settle(c);
    } else if (c->phase == PL_CONN_HANDOVER) {
        pl_http__hand_over(c);
        enter_phase(c, PL_CONN_DOOMED);
        cut(c);
    } else if (c->phase == PL_CONN_DOOMED) {
        cut(c);
    } else if (c->phase == PL_CONN_CLOSED) {
        free(c);
    }
}

void pl_http__adopt(struct pl_net *n, int fd, struct pl_peer_entry *peer, int refuse_status)
{
    struct pl_http_conn *c = pl_alloc(sizeof(*c));

    c->net = n;
    c->fd = fd;
    c->peer = peer;
    c->phase = config(c)->server_proxy_protocol && pl_peer__is_proxy(n, peer) ? PL_CONN_PROXY
                                                                              : PL_CONN_HEAD;
    c->refuse_status = (int16_t)refuse_status;
    c->job.fn = on_job;
    pl_list_init(&c->job.node);
    pl_timer_init(&c->timer, on_timer);
    pl_list_append(&n->http, &c->node);
    n->refusing += refuse_status != 0;
    pl_metric_set(PL_S_CONN_HTTP, ++n->http_count);
    set_timer(c, config(c)->limits_header_timeout);
    pl_net__later(n, &c->job); /* its request may be here by then */
}

int pl_http__lws_callback(struct pl_http_conn *c, enum lws_callback_reasons reason, const char *in,
                          size_t len)
{
    if (c->phase == PL_CONN_CLOSED) {
        return 0;
    }
    if (reason == LWS_CALLBACK_RAW_RX) {
        pl_http__bytes(c, in, len);
    } else if (reason == LWS_CALLBACK_RAW_WRITEABLE) {
        pl_http__flush(c);
    } else if (reason == LWS_CALLBACK_RAW_CLOSE) {
        on_closed(c);
    }
    return 0;
}

/* The request of one that has just connected is on its way: nobody else would answer it. */
void pl_http__stop_all(struct pl_net *n)
{
    pl_list_foreach_safe(it, &n->http) {
        struct pl_http_conn *c = pl_container_of(it, struct pl_http_conn, node);

        if (!is_between_requests(c)) {
            continue;
        }
        if (c->answered) {
            pl_http__doom(c);
        } else {
            set_timer(c, FIRST_REQUEST_MS);
        }
    }
}

/* The timer of a connection that has been answered runs out limits.keepalive_timeout later. */
void pl_http__close_idle(struct pl_net *n, uint64_t idle_ms)
{
    pl_list_foreach_safe(it, &n->http) {
        struct pl_http_conn *c = pl_container_of(it, struct pl_http_conn, node);
        uint64_t ends_ms = n->now_ms + (uint64_t)config(c)->limits_keepalive_timeout;

        if (c->phase == PL_CONN_HEAD && c->answered && c->peer->peer.listener == PL_LISTENER_MAIN &&
            c->timer.due_ms + idle_ms <= ends_ms && is_between_requests(c)) {
            pl_http__doom(c);
        }
    }
}

void pl_http__free_front(struct pl_net *n)
{
    pl_list_foreach_safe(it, &n->http) {
        struct pl_http_conn *c = pl_container_of(it, struct pl_http_conn, node);

        if (!c->wsi) {
            cut(c);
        }
    }
}

void pl_http__kill_all(struct pl_net *n)
{
    pl_list_foreach_safe(it, &n->http) {
        pl_http__doom(pl_container_of(it, struct pl_http_conn, node));
    }
}

void pl_http_set_user(struct pl_http_conn *c, void *user)
{
    c->user = user;
}

void *pl_http_user(const struct pl_http_conn *c)
{
    return c->user;
}

const struct pl_peer *pl_http_peer(const struct pl_http_conn *c)
{
    return &c->peer->peer;
}

bool pl_http_take_handshake(struct pl_http_conn *c)
{
    return pl_peer__take_handshake(c->net, c->peer);
}

void pl_http_stay(struct pl_http_conn *c)
{
    c->stays = true;
}

void pl_http_leave(struct pl_http_conn *c)
{
    c->keep_alive = false;
}

bool pl_http_has_left(const struct pl_http_conn *c)
{
    return pl_net__has_left(c->fd);
}
