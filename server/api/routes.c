#include <stdio.h>
#include <string.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"
#include "server/transport/websocket.h"

enum who {
    CLIENT,   /* browsers and apps: CORS, identity in the handler */
    BACKEND,  /* X-API-Key; never CORS; only on the internal listener where there is one */
    OPERATOR, /* only on the internal listener where there is one */
    ANYONE,   /* on both */
    DEV,      /* only with --dev */
};

enum {
    GET = 1,
    POST = 2
};

struct route {
    const char *path;
    unsigned methods;
    enum who who;
    pl_api_fn *fn;
};

static const struct route routes[] = {
    {"/realtime/register", POST, CLIENT, pl_api__register},
    {"/realtime/poll", GET, CLIENT, pl_api__poll},
    {"/realtime/ws", GET, CLIENT, NULL}, /* without an upgrade */
    {"/realtime/send", POST, CLIENT, pl_api__send},
    {"/realtime/heartbeat", POST, CLIENT, pl_api__heartbeat},
    {"/realtime/unregister", POST, CLIENT, pl_api__unregister},
    {"/realtime/status", GET, CLIENT, pl_api__status},
    {"/realtime/cursor", GET, CLIENT, pl_api__cursor},
    {"/realtime/update-subscriptions", POST, BACKEND, pl_api__update_subscriptions},
    {"/realtime/publish", POST, BACKEND, pl_api__publish},
    {"/realtime/disconnect", POST, BACKEND, pl_api__disconnect},
    {"/realtime/connections", GET, BACKEND, pl_api__connections},
    {"/realtime/explain", GET, BACKEND, pl_api__explain},
    {"/health", GET, ANYONE, pl_api__health},
    {"/realtime/health", GET, ANYONE, pl_api__health},
    {"/livez", GET, OPERATOR, pl_api__livez},
    {"/readyz", GET, OPERATOR, pl_api__readyz},
    {"/metrics", GET, OPERATOR, pl_api__metrics},
    {"/demo/token", POST, DEV, pl_api__demo_token},
    {"/", GET, DEV, pl_api__file},
    {"/demo/*", GET, DEV, pl_api__file},
    {"/client/*", GET, DEV, pl_api__file},
};

static bool path_matches(const char *pattern, struct pl_str path)
{
    size_t len = strlen(pattern);

    if (pattern[len - 1] == '*') {
        return path.len > len - 1 && memcmp(path.s, pattern, len - 1) == 0;
    }
    return path.len == len && memcmp(path.s, pattern, len) == 0;
}

/* NULL: no such path here. */
static const struct route *find_route(const struct pl_node *n, const struct pl_http_head *h,
                                      const struct pl_peer *peer)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *r = &routes[i];
        bool hidden = n->has_internal && peer->listener == PL_LISTENER_MAIN &&
                      (r->who == BACKEND || r->who == OPERATOR);

        if (path_matches(r->path, h->path)) {
            return hidden || (r->who == DEV && !n->dev) ? NULL : r;
        }
    }
    return NULL;
}

/* What a browser may ask for; also what does not exist, so that it can read the 404. */
static bool is_for_browsers(struct pl_str path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (path_matches(routes[i].path, path)) {
            return routes[i].who == CLIENT || routes[i].who == ANYONE;
        }
    }
    return true;
}

static const char *allow_line(const struct route *r)
{
    return r->methods == GET ? "Allow: GET, HEAD, OPTIONS\r\n" : "Allow: POST, OPTIONS\r\n";
}

static unsigned method_bit(enum pl_http_method m)
{
    if (m == PL_HTTP_GET || m == PL_HTTP_HEAD) {
        return GET;
    }
    return m == PL_HTTP_POST ? POST : 0;
}

/* ---- what handlers share ---- */

void pl_api__error(struct pl_api_request *r, int status, const char *message)
{
    pl_http_answer_error(&r->to, status, message);
}

bool pl_api__optional_body(struct pl_api_request *r, const struct pl_value **ret)
{
    struct pl_decode_error error = {.text = ""};
    enum pl_codec codec;
    int status;

    *ret = NULL;
    if (r->http->body.len == 0) {
        return true;
    }
    status = pl_http_body_codec(&r->http->head, &codec);
    if (status == PL_OK) {
        status = pl_decode(codec, r->http->body.s, r->http->body.len, r->http->arena, ret, &error);
    }
    if (status != PL_OK) {
        pl_api__error(r, status, error.text[0] != '\0' ? error.text : NULL);
    }
    return status == PL_OK;
}

bool pl_api__body(struct pl_api_request *r, const struct pl_value **ret)
{
    if (!pl_api__optional_body(r, ret)) {
        return false;
    }
    if (*ret == NULL) {
        pl_api__error(r, PL_ERR_INVALID, "the body is missing");
    }
    return *ret != NULL;
}

bool pl_api__client(struct pl_api_request *r, struct pl_identity *ret)
{
    struct pl_credentials cr;
    int status;

    if (!pl_identity_of_request(r->node, r->http, &cr)) {
        pl_api__error(r, PL_ERR_INVALID, "the query cannot be decoded");
        return false;
    }
    if (!pl_api__ready(r, (struct pl_str){NULL, 0}, cr.queue_id)) {
        return false;
    }
    status = pl_identity_queue(r->node, &cr, r->http->arena, ret);
    if (status == PL_ERR_QUEUE_NOT_FOUND && cr.queue_id.len == 0) {
        status = PL_ERR_INVALID;
        ret->reason = "queue_id is missing";
    }
    if (status != PL_OK) {
        pl_api__error(r, status, ret->reason);
    }
    return status == PL_OK;
}

bool pl_api__query_cursor(struct pl_api_request *r, const char *name, int64_t *ret)
{
    struct pl_str text;
    bool bad = false;
    char message[96];

    if (!pl_http_query_get(r->http->head.query, name, r->http->arena, &text, &bad)) {
        return true;
    }
    if (!bad && pl_parse_cursor(text, ret)) {
        return true;
    }
    (void)snprintf(message, sizeof(message), "%s: decimal digits, at most 9007199254740991", name);
    pl_api__error(r, PL_ERR_INVALID, message);
    return false;
}

/* ---- the net's calls ---- */

static const char key_needed[] = "a valid X-API-Key is needed";

static int key_of(const struct pl_node *n, const struct pl_http_head *h)
{
    const struct pl_str *key = pl_http_header(h, "x-api-key");

    return key != NULL ? pl_auth_api_key(n->auth, *key) : -1;
}

static int64_t on_max_body(void *arg, struct pl_http_conn *c, const struct pl_http_head *head,
                           const struct pl_peer *peer)
{
    const struct pl_node *n = arg;
    const struct route *r = find_route(n, head, peer);

    (void)c;
    if (r != NULL && key_of(n, head) >= 0) {
        return n->cfg->limits_body_bytes;
    }
    if (r != NULL && r->who == BACKEND && method_bit(head->method) == POST) {
        return PL_ERR_UNAUTHORIZED; /* before a megabyte is taken; on_refuse says the rest */
    }
    return n->cfg->limits_message_bytes;
}

static void answer_options(struct pl_api_request *r, const struct route *route)
{
    static const char preflight[] =
        "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
        "Access-Control-Allow-Headers: Authorization, Content-Type, X-Realtime-Queue\r\n"
        "Access-Control-Max-Age: 86400\r\n";
    char lines[512];

    (void)snprintf(lines, sizeof(lines), "%s%s", allow_line(route),
                   r->to.origin != NULL ? preflight : "");
    pl_http_answer_empty(&r->to, 204, lines);
}

static void answer_method(struct pl_api_request *r, const struct route *route)
{
    struct pl_buf body = {0};
    struct pl_writer w;

    pl_writer_init(&w, r->to.codec, &body);
    pl_write_error(&w, PL_ERR_METHOD, NULL);
    pl_http_answer(&r->to, pl_status_http(PL_ERR_METHOD), (struct pl_bytes){body.data, body.len},
                   allow_line(route));
    pl_buf_done(&body);
}

static void on_request(void *arg, struct pl_http_conn *c, const struct pl_http_request *rq)
{
    struct pl_node *n = arg;
    const struct route *route = find_route(n, &rq->head, &rq->peer);
    struct pl_api_request r = {.node = n, .http = rq, .api_key = key_of(n, &rq->head)};

    pl_http_to_init(&r.to, n, c, rq, is_for_browsers(rq->head.path));
    if (route == NULL) {
        pl_api__error(&r, PL_ERR_NOT_FOUND, NULL);
    } else if (rq->head.method == PL_HTTP_OPTIONS) {
        answer_options(&r, route);
    } else if ((route->methods & method_bit(rq->head.method)) == 0) {
        answer_method(&r, route);
    } else if (route->who == BACKEND && r.api_key < 0) {
        pl_api__error(&r, PL_ERR_UNAUTHORIZED, key_needed);
    } else if (route->fn == NULL) {
        pl_api__error(&r, PL_ERR_PROTOCOL, "this path is for a WebSocket handshake");
    } else {
        r.fn = route->fn;
        r.fn(&r);
    }
}

static int check_upgrade(const struct pl_node *n, const struct pl_http_head *h, const char **reason)
{
    const struct pl_str *origin = pl_http_header(h, "origin");
    enum pl_codec codec;
    const char *name;
    struct pl_str token;

    if (origin != NULL && (pl_http_header_count(h, "origin") > 1 ||
                           !pl_http_origin_allowed(n, *origin, pl_http_header(h, "host")))) {
        return PL_ERR_ORIGIN;
    }
    if (n->cfg->transport_phase == PL_PHASE_LONGPOLL) {
        *reason = "WebSocket is not offered in this phase: use long-polling";
        return PL_ERR_TRANSPORT;
    }
    if (n->stopping) {
        return PL_ERR_DRAINING;
    }
    if (pl_http_websocket_subprotocol(h, &codec, &name, &token) != PL_OK) {
        *reason = "none of the subprotocols is known: parley.v1.json, parley.v1.msgpack";
        return PL_ERR_PROTOCOL;
    }
    return PL_OK;
}

static void on_upgrade(void *arg, struct pl_http_conn *c, const struct pl_http_request *rq)
{
    struct pl_node *n = arg;
    struct pl_api_request r = {.node = n, .http = rq, .api_key = -1};
    const char *reason = NULL;
    int status = path_matches("/realtime/ws", rq->head.path) ? check_upgrade(n, &rq->head, &reason)
                                                             : PL_ERR_NOT_FOUND;

    if (status == PL_OK && !pl_http_take_handshake(c)) {
        status = PL_ERR_OVERLOADED; /* a browser is not told the status: as for the other limits */
    }
    if (status == PL_OK) {
        pl_websocket_accept(n, c, rq);
        return;
    }
    pl_http_to_init(&r.to, n, c, rq, true);
    pl_api__error(&r, status, reason);
}

static void on_refuse(void *arg, struct pl_http_conn *c, const struct pl_http_head *head,
                      int status, const char *reason)
{
    static const struct pl_http_head no_head;
    struct pl_arena arena = {0};
    struct pl_http_request rq = {.head = head != NULL ? *head : no_head, .arena = &arena};
    struct pl_http_to to;

    pl_http_to_init(&to, arg, c, &rq, is_for_browsers(rq.head.path));
    pl_http_answer_error(&to, status, status == PL_ERR_UNAUTHORIZED ? key_needed : reason);
    pl_arena_done(&arena);
}

static void on_closed(void *arg, struct pl_http_conn *c)
{
    struct pl_waiting *w = pl_http_user(c);

    (void)arg;
    if (w != NULL) {
        w->closed(w);
    }
}

const struct pl_http_handler pl_api_handler = {
    .max_body = on_max_body,
    .request = on_request,
    .upgrade = on_upgrade,
    .refuse = on_refuse,
    .closed = on_closed,
};
