/* The endpoints of clients, and register, which a backend may call for them. */
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/metrics.h"
#include "server/transport/longpoll.h"
#include "server/transport/message.h"

/* ---- register ---- */

static void write_registered(struct pl_buf *out, enum pl_codec codec, const struct pl_node *n,
                             const struct pl_queue *q, bool resumed)
{
    const struct pl_user *u = pl_queue_user(q);
    size_t others = pl_user_other_channel_count(u);
    char id[PL_QUEUE_ID_SIZE];
    struct pl_writer w;

    pl_queue_id(q, id);
    pl_writer_init(&w, codec, out);
    pl_write_map(&w, 7 + (others > 0));
    pl_write_key(&w, "queue_id");
    pl_write_cstr(&w, id);
    pl_write_key(&w, "last_event_id");
    pl_write_int(&w, resumed ? pl_queue_acked(q) : pl_queue_position(q));
    pl_write_key(&w, "communities");
    pl_user_write_communities(u, &w);
    if (others > 0) {
        pl_write_key(&w, "channels");
        pl_user_write_other_channels(u, &w);
    }
    pl_write_key(&w, "resumed");
    pl_write_bool(&w, resumed);
    pl_write_key(&w, "transports");
    pl_hub_write_transports(n->hub, pl_user_id(u), &w);
    pl_write_key(&w, "ping_interval_ms");
    pl_write_int(&w, n->cfg->websocket_ping_interval);
    pl_write_key(&w, "node");
    pl_write_cstr(&w, n->name);
}

/* The user's own queue of that id, or NULL. */
static struct pl_queue *own_queue(const struct pl_node *n, struct pl_str queue_id,
                                  struct pl_str user_id)
{
    struct pl_queue *q = queue_id.len > 0 ? pl_queue_find(n->hub, queue_id) : NULL;

    return q != NULL && pl_str_eq(pl_user_id(pl_queue_user(q)), user_id) ? q : NULL;
}

/* A queue that is to be kept before its id is told. */
struct registered {
    struct pl_http_later *later;
    struct pl_node *node;
    bool resumed;
    uint64_t begun_us;
    char queue_id[PL_QUEUE_ID_SIZE];
};

static void on_saved(void *arg, int status)
{
    struct registered *g = arg;
    struct pl_queue *q =
        pl_queue_find(g->node->hub, (struct pl_str){g->queue_id, PL_QUEUE_ID_SIZE - 1});
    struct pl_buf out = {0};

    pl_metric_observe_us(PL_S_REGISTER_TIME, pl_clock_mono_us() - g->begun_us, 1);
    if (status == PL_OK && q != NULL) {
        write_registered(&out, g->later->to.codec, g->node, q, g->resumed);
        pl_http_later_answer(g->later, &out);
    } else {
        if (q != NULL && !g->resumed) {
            pl_queue_end(q, PL_OK); /* nobody will know its id */
        }
        pl_http_later_error(g->later, status != PL_OK ? status : PL_ERR_BUS, NULL);
    }
    free(g);
}

static void answer_when_saved(struct pl_node *n, struct pl_http_later *later, struct pl_queue *q,
                              bool resumed, uint64_t begun_us)
{
    struct registered *g = pl_alloc(sizeof(*g));

    *g = (struct registered){later, n, resumed, begun_us, ""};
    pl_queue_id(q, g->queue_id);
    if (resumed) {
        on_saved(g, PL_OK);
    } else {
        pl_queue_when_saved(q, on_saved, g);
    }
}

static void register_with_token(struct pl_api_request *r, const struct pl_credentials *cr)
{
    struct pl_node *n = r->node;
    struct pl_identity id = {0};
    struct pl_queue *q = NULL;
    int64_t position = -1;
    uint64_t begun_us = pl_clock_mono_us();
    bool resumed;
    int status = pl_identity_verify(n, cr->token, r->http->arena, &id);

    if (status == PL_OK && !pl_api__query_cursor(r, "last_event_id", &position)) {
        return;
    }
    if (status == PL_OK && !pl_api__ready(r, id.claims.user_id, cr->queue_id)) {
        return;
    }
    if (status == PL_OK) {
        q = own_queue(n, cr->queue_id, id.claims.user_id);
    }
    resumed = q != NULL;
    if (resumed) {
        status = pl_identity_queue(n, cr, r->http->arena, &id);
        if (status == PL_OK) {
            pl_queue_ack(q, position);
        }
    } else if (status == PL_OK) {
        status = pl_identity_admit(n, &id.claims);
        if (status == PL_OK &&
            pl_user_channel_count(pl_hub_user_find(n->hub, id.claims.user_id)) == 0) {
            id.reason = "the user is in no community and no channel";
            status = PL_ERR_NO_CHANNEL;
        }
        if (status == PL_OK) {
            status = pl_identity_new_queue(n, &id.claims, position, &q);
        }
    }
    if (status != PL_OK) {
        pl_api__error(r, status, id.reason);
        return;
    }
    answer_when_saved(n, pl_http_later_new(&r->to), q, resumed, begun_us);
}

/* A backend's register, while its change is on the bus. */
struct registering {
    struct pl_http_later *later;
    struct pl_node *node;
    int64_t position;
    uint64_t begun_us;
    struct pl_arena arena;
    struct pl_register body; /* copied into the arena */
};

static int finish_register(struct registering *g, struct pl_queue **ret, bool *ret_resumed)
{
    struct pl_user *u = pl_hub_user_find(g->node->hub, g->body.user_id);
    struct pl_queue *q = own_queue(g->node, g->body.queue_id, g->body.user_id);

    if (u == NULL) {
        return PL_ERR_OVERLOADED;
    }
    if (pl_user_is_blocked(g->node->hub, u)) {
        return PL_ERR_DISCONNECTED;
    }
    *ret_resumed = q != NULL;
    if (q != NULL) {
        pl_queue_touch(q);
        if (g->body.has_last_event_id) {
            pl_queue_ack(q, g->body.last_event_id);
        }
        *ret = q;
        return PL_OK;
    }
    return pl_queue_new(g->node->hub, u, &g->body.membership, 0, g->position, ret);
}

static void on_registered(void *arg, int status, const int64_t *ids, size_t count)
{
    struct registering *g = arg;
    struct pl_queue *q = NULL;
    bool resumed = false;

    (void)ids;
    (void)count;
    if (status == PL_OK) {
        status = finish_register(g, &q, &resumed);
    }
    if (status == PL_OK) {
        answer_when_saved(g->node, g->later, q, resumed, g->begun_us);
    } else {
        pl_http_later_error(g->later, status, NULL);
    }
    pl_arena_done(&g->arena);
    free(g);
}

static void register_by_backend(struct pl_api_request *r)
{
    struct pl_request_limits limits = pl_hub_limits(r->node->hub);
    struct pl_request_error error = {""};
    struct registering *g;
    const struct pl_value *v = NULL;
    const struct pl_value *queue_id;
    const struct pl_user *u;
    int status = PL_OK;

    if (!pl_api__body(r, &v)) {
        return;
    }
    queue_id = pl_value_get(v, "queue_id");
    if (queue_id != NULL && queue_id->type == PL_STRING &&
        !pl_api__ready(r, (struct pl_str){NULL, 0}, queue_id->u.string)) {
        return;
    }
    g = pl_alloc(sizeof(*g));
    /* The body must outlive the request: decoded again into an arena of its own would cost twice,
     * so it is handed over. */
    g->arena = *r->http->arena;
    *r->http->arena = (struct pl_arena){0};
    status = pl_parse_register(v, &g->arena, &limits, &g->body, &error);
    if (status == PL_OK && g->body.membership.channel_count == 0) {
        status = PL_ERR_NO_CHANNEL;
    }
    u = status == PL_OK ? pl_hub_user_find(r->node->hub, g->body.user_id) : NULL;
    if (u != NULL && pl_user_is_blocked(r->node->hub, u)) {
        status = PL_ERR_DISCONNECTED;
    }
    if (status == PL_OK && !own_queue(r->node, g->body.queue_id, g->body.user_id)) {
        status = pl_hub_check_room(r->node->hub); /* before the record is changed for nothing */
    }
    if (status != PL_OK) {
        pl_api__error(r, status, error.text[0] != '\0' ? error.text : NULL);
        pl_arena_done(&g->arena);
        free(g);
        return;
    }
    g->node = r->node;
    g->begun_us = pl_clock_mono_us();
    g->position = g->body.has_last_event_id ? g->body.last_event_id : -1;
    g->later = pl_http_later_new(&r->to);
    pl_hub_change(r->node->hub,
                  &(struct pl_bus_change){
                      .kind = PL_CHANGE_REGISTER,
                      .user_id = g->body.user_id,
                      .membership = &g->body.membership,
                      .has_version = g->body.has_version,
                      .version = g->body.version,
                      .unix_ms = pl_hub_unix_ms(r->node->hub),
                  },
                  on_registered, g);
}

void pl_api__register(struct pl_api_request *r)
{
    struct pl_credentials cr;

    if (r->api_key >= 0) {
        register_by_backend(r);
    } else if (pl_http_header(&r->http->head, "x-api-key") != NULL) {
        pl_api__error(r, PL_ERR_UNAUTHORIZED, "this X-API-Key is not known");
    } else if (!pl_identity_of_request(r->node, r->http, &cr)) {
        pl_api__error(r, PL_ERR_INVALID, "the query cannot be decoded");
    } else if (cr.token.len == 0) {
        pl_api__error(r, PL_ERR_UNAUTHORIZED,
                      "a token (Authorization: Bearer) or an X-API-Key is needed");
    } else if (!r->is_ready && !pl_http_take_handshake(r->to.conn)) {
        pl_api__error(r, PL_ERR_RATE_LIMITED, NULL);
    } else {
        register_with_token(r, &cr);
    }
}

/* ---- poll ---- */

static bool longpoll_is_offered(struct pl_api_request *r)
{
    if (r->node->cfg->transport_phase != PL_PHASE_WEBSOCKET_ONLY) {
        return true;
    }
    pl_api__error(r, PL_ERR_TRANSPORT_GONE, NULL);
    return false;
}

void pl_api__poll(struct pl_api_request *r)
{
    struct pl_identity id;
    int64_t last = -1;
    int64_t ack = -1;
    int64_t seconds = INT64_MAX / 1000;
    int64_t hold_ms = r->node->cfg->longpoll_timeout;

    if (!longpoll_is_offered(r) || !pl_api__query_cursor(r, "last_event_id", &last) ||
        !pl_api__query_cursor(r, "ack_event_id", &ack) ||
        !pl_api__query_cursor(r, "timeout", &seconds) || !pl_api__client(r, &id)) {
        return;
    }
    if (!pl_queue_take(id.queue, PL_USE_POLLS, 1)) {
        pl_api__error(r, PL_ERR_RATE_LIMITED, NULL);
        return;
    }
    if (seconds <= hold_ms / 1000) {
        hold_ms = seconds * 1000;
    }
    if (r->http->head.method == PL_HTTP_HEAD ||
        (r->node->draining && pl_queue_slot_ms(id.queue) == 0)) {
        hold_ms = 0;
    }
    pl_longpoll_start(&r->to, id.queue, ack > last ? ack : last, hold_ms);
}

/* ---- send ---- */

/* POST /realtime/send under way: the replies in order, answered when the last is there. */
struct sending {
    struct pl_http_later *later;
    size_t count, open;
    struct pl_buf replies[];
};

struct slot {
    struct sending *sending;
    size_t index;
};

static void finish_send(struct sending *s)
{
    struct pl_buf out = {0};
    struct pl_writer w;
    size_t replies = 0;

    for (size_t i = 0; i < s->count; i++) {
        replies += s->replies[i].len > 0;
    }
    pl_writer_init(&w, s->later->to.codec, &out);
    pl_write_map(&w, 1);
    pl_write_key(&w, "replies");
    pl_write_array(&w, replies);
    for (size_t i = 0; i < s->count; i++) {
        if (s->replies[i].len > 0) {
            pl_write_raw(&w, s->replies[i].data, s->replies[i].len);
        }
        pl_buf_done(&s->replies[i]);
    }
    pl_http_later_answer(s->later, &out);
    free(s);
}

static void on_reply(void *arg, struct pl_buf *reply)
{
    struct slot *slot = arg;
    struct sending *s = slot->sending;

    if (reply != NULL) {
        s->replies[slot->index] = *reply;
        *reply = (struct pl_buf){0};
    }
    free(slot);
    if (--s->open == 0) {
        finish_send(s);
    }
}

static void send_all(struct pl_api_request *r, const struct pl_identity *id,
                     const struct pl_value *items, size_t count)
{
    struct pl_message_from from = {
        .node = r->node,
        .queue = id->queue,
        .codec = r->to.codec,
        .publish_until_ms = id->has_token ? pl_identity_publish_until_ms(r->node, &id->claims) : 0,
        .over_http = true,
    };
    struct sending *s = pl_alloc(sizeof(*s) + count * sizeof(s->replies[0]));

    s->later = pl_http_later_new(&r->to);
    s->count = count;
    s->open = count + 1; /* this function's own, so that it is not answered before all have begun */
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = pl_alloc(sizeof(*slot));

        *slot = (struct slot){s, i};
        (void)pl_message_run(&from, &items[i], r->http->arena, on_reply, slot);
    }
    if (--s->open == 0) {
        finish_send(s);
    }
}

void pl_api__send(struct pl_api_request *r)
{
    enum {
        SEND_MAX = 100
    };
    struct pl_identity id;
    const struct pl_value *v;

    if (!pl_api__client(r, &id)) {
        return;
    }
    if (r->http->body.len > 0 && !pl_queue_take(id.queue, PL_USE_BYTES, r->http->body.len)) {
        pl_api__error(r, PL_ERR_RATE_LIMITED, NULL);
        return;
    }
    if (!pl_api__body(r, &v)) {
        return;
    }
    if (v->type != PL_MAP && v->type != PL_ARRAY) {
        pl_api__error(r, PL_ERR_MALFORMED, "the body must be a message or an array of messages");
    } else if (v->type == PL_ARRAY && v->u.array.count > SEND_MAX) {
        pl_api__error(r, PL_ERR_INVALID, "at most 100 messages at once");
    } else if (v->type == PL_ARRAY) {
        send_all(r, &id, v->u.array.items, v->u.array.count);
    } else {
        send_all(r, &id, v, 1);
    }
}

/* ---- the small ones ---- */

static void answer_message(struct pl_api_request *r, const char *text)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, r->to.codec, &out);
    pl_write_map(&w, 1);
    pl_write_key(&w, "message");
    pl_write_cstr(&w, text);
    pl_http_answer_buf(&r->to, 200, &out);
}

/* queue_id in the query, the header or the body. */
static bool credentials_with_body(struct pl_api_request *r, struct pl_credentials *cr)
{
    const struct pl_value *v;
    const struct pl_value *id;

    if (!pl_identity_of_request(r->node, r->http, cr)) {
        pl_api__error(r, PL_ERR_INVALID, "the query cannot be decoded");
        return false;
    }
    if (cr->queue_id.len > 0) {
        return true;
    }
    if (!pl_api__optional_body(r, &v)) {
        return false;
    }
    id = pl_value_get(v, "queue_id");
    if (id != NULL && id->type == PL_STRING) {
        cr->queue_id = id->u.string;
    }
    if (cr->queue_id.len == 0) {
        pl_api__error(r, PL_ERR_INVALID, "queue_id is missing");
        return false;
    }
    return true;
}

/* As pl_identity_queue; for a backend the queue_id is enough. */
static int named_queue(struct pl_api_request *r, const struct pl_credentials *cr,
                       struct pl_identity *ret)
{
    if (r->api_key < 0) {
        return pl_identity_queue(r->node, cr, r->http->arena, ret);
    }
    *ret = (struct pl_identity){.queue = pl_queue_find(r->node->hub, cr->queue_id)};
    return ret->queue != NULL ? PL_OK : PL_ERR_QUEUE_NOT_FOUND;
}

void pl_api__heartbeat(struct pl_api_request *r)
{
    struct pl_credentials cr;
    struct pl_identity id;
    int status;

    if (!credentials_with_body(r, &cr)) {
        return;
    }
    if (!pl_api__ready(r, (struct pl_str){NULL, 0}, cr.queue_id)) {
        return;
    }
    status = named_queue(r, &cr, &id);
    if (status != PL_OK) {
        pl_api__error(r, status, id.reason);
        return;
    }
    pl_queue_touch(id.queue);
    answer_message(r, "Heartbeat successful");
}

void pl_api__unregister(struct pl_api_request *r)
{
    struct pl_credentials cr;
    struct pl_identity id;
    int status;

    if (!credentials_with_body(r, &cr)) {
        return;
    }
    if (!pl_api__ready(r, (struct pl_str){NULL, 0}, cr.queue_id)) {
        return;
    }
    status = named_queue(r, &cr, &id);
    /* Gone is as good, and a queue that only waits for a newer token may be ended without one. */
    if (status == PL_ERR_QUEUE_NOT_FOUND || (status == PL_ERR_TOKEN_EXPIRED && id.queue != NULL)) {
        status = PL_OK;
    }
    if (status != PL_OK) {
        pl_api__error(r, status, id.reason);
        return;
    }
    if (id.queue != NULL) {
        pl_queue_end(id.queue, PL_OK);
    }
    answer_message(r, "Queue removed");
}

static void write_status(struct pl_buf *out, enum pl_codec codec, const struct pl_node *n,
                         struct pl_str id, const struct pl_user *u)
{
    int64_t number;
    struct pl_writer w;

    pl_writer_init(&w, codec, out);
    pl_write_map(&w, 5);
    pl_write_key(&w, "user_id");
    if (pl_user_number(id, &number)) {
        pl_write_int(&w, number);
    } else {
        pl_write_str(&w, id);
    }
    pl_write_key(&w, "communities");
    if (u != NULL) {
        pl_user_write_communities(u, &w);
    } else {
        pl_write_array(&w, 0);
    }
    pl_write_key(&w, "realtime_enabled");
    pl_write_bool(&w, u != NULL && pl_user_channel_count(u) > 0);
    pl_write_key(&w, "queues");
    pl_write_int(&w, u != NULL ? (int64_t)pl_user_queue_count(u) : 0);
    pl_write_key(&w, "transports");
    pl_hub_write_transports(n->hub, id, &w);
}

/* Whose status is asked for: a backend names the user, a client is itself. */
enum {
    NOT_READY = 1
}; /* beside statuses: the handler will run again */

static int status_subject(struct pl_api_request *r, struct pl_str *ret, const char **reason)
{
    struct pl_credentials cr;
    struct pl_identity id = {0};
    bool bad = false;
    int status;

    if (r->api_key >= 0) {
        bool given = pl_http_query_get(r->http->head.query, "user_id", r->http->arena, ret, &bad);

        *reason = "user_id is missing or cannot be decoded";
        if (!given || bad || ret->len == 0 || ret->len > 128) {
            return PL_ERR_INVALID;
        }
        return pl_api__ready(r, *ret, (struct pl_str){NULL, 0}) ? PL_OK : NOT_READY;
    }
    if (!pl_identity_of_request(r->node, r->http, &cr)) {
        return PL_ERR_INVALID;
    }
    if (cr.queue_id.len == 0 && cr.token.len > 0) {
        status = pl_identity_verify(r->node, cr.token, r->http->arena, &id);
        *ret = id.claims.user_id;
        if (status == PL_OK && !pl_api__ready(r, *ret, cr.queue_id)) {
            return NOT_READY;
        }
        if (status == PL_OK) {
            status = pl_identity_apply(r->node, &id.claims, true);
        }
    } else if (!pl_api__ready(r, (struct pl_str){NULL, 0}, cr.queue_id)) {
        return NOT_READY;
    } else {
        status = pl_identity_queue(r->node, &cr, r->http->arena, &id);
        if (status == PL_OK) {
            *ret = pl_user_id(pl_queue_user(id.queue));
        }
    }
    *reason = id.reason;
    return status;
}

void pl_api__status(struct pl_api_request *r)
{
    struct pl_buf out = {0};
    struct pl_str user_id = {NULL, 0};
    const char *reason = NULL;
    int status = status_subject(r, &user_id, &reason);

    if (status == NOT_READY) {
        return;
    }
    if (status != PL_OK) {
        pl_api__error(r, status, reason);
        return;
    }
    write_status(&out, r->to.codec, r->node, user_id, pl_hub_user_find(r->node->hub, user_id));
    pl_http_answer_buf(&r->to, 200, &out);
}

static void on_sequence(void *arg, int status, const int64_t *ids, size_t count)
{
    struct pl_http_later *later = arg;
    struct pl_buf out = {0};
    struct pl_writer w;

    if (status != PL_OK || count != 1) {
        pl_http_later_error(later, status, NULL);
        return;
    }
    pl_writer_init(&w, later->to.codec, &out);
    pl_write_map(&w, 1);
    pl_write_key(&w, "last_event_id");
    pl_write_int(&w, ids[0]);
    pl_http_later_answer(later, &out);
}

void pl_api__cursor(struct pl_api_request *r)
{
    struct pl_str user_id;
    const char *reason = NULL;
    int status = r->api_key >= 0 ? PL_OK : status_subject(r, &user_id, &reason);

    if (status != PL_OK) {
        pl_api__error(r, status, reason);
        return;
    }
    pl_hub_sequence(r->node->hub, on_sequence, pl_http_later_new(&r->to));
}
