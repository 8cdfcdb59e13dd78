/* The endpoints that need an API key. */
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"
#include "server/base/alloc.h"
#include "server/base/map.h"
#include "server/base/metrics.h"
#include "server/transport/publish.h"

static void write_count(struct pl_buf *out, enum pl_codec codec, size_t queues)
{
    struct pl_writer w;

    pl_writer_init(&w, codec, out);
    pl_write_map(&w, 1);
    pl_write_key(&w, "queues");
    pl_write_int(&w, (int64_t)queues);
}

static void request_error(struct pl_api_request *r, int status, const struct pl_request_error *e)
{
    pl_api__error(r, status, e->text[0] != '\0' ? e->text : NULL);
}

/* ---- update-subscriptions, disconnect: a change of a user record ---- */

struct changing {
    struct pl_http_later *later;
    size_t queues; /* of the user, when the change was asked for */
    int status;
    int open; /* answers still to come */
};

static void finish_change(struct changing *c)
{
    struct pl_buf out = {0};

    if (--c->open > 0) {
        return;
    }
    if (c->status == PL_OK) {
        write_count(&out, c->later->to.codec, c->queues);
        pl_http_later_answer(c->later, &out);
    } else {
        pl_http_later_error(c->later, c->status, NULL);
    }
    free(c);
}

static void on_changed(void *arg, int status, const int64_t *ids, size_t count)
{
    struct changing *c = arg;

    (void)ids;
    (void)count;
    c->status = status;
    finish_change(c);
}

/* The change matters, the count does not: an error leaves it as it is known here. */
static void on_connections(void *arg, int status, struct pl_str json)
{
    struct changing *c = arg;
    struct pl_arena a = {0};
    const struct pl_value *v;

    if (status == PL_OK && pl_decode(PL_JSON, json.s, json.len, &a, &v, NULL) == PL_OK &&
        v->type == PL_ARRAY) {
        c->queues = v->u.array.count;
    }
    pl_arena_done(&a);
    finish_change(c);
}

static void change(struct pl_api_request *r, const struct pl_bus_change *what)
{
    const struct pl_user *u = pl_hub_user_find(r->node->hub, what->user_id);
    struct changing *c = pl_alloc(sizeof(*c));

    c->queues = u != NULL ? pl_user_queue_count(u) : 0;
    c->later = pl_http_later_new(&r->to);
    c->open = 1;
    /* The bus answers in order: it counts before it changes. */
    if (r->node->connections != NULL) {
        c->open++;
        r->node->connections(r->node, what->user_id, on_connections, c);
    }
    pl_hub_change(r->node->hub, what, on_changed, c);
}

void pl_api__update_subscriptions(struct pl_api_request *r)
{
    struct pl_request_limits limits = pl_hub_limits(r->node->hub);
    struct pl_request_error error = {""};
    struct pl_register body;
    const struct pl_value *v;
    int status;

    if (!pl_api__body(r, &v)) {
        return;
    }
    status = pl_parse_register(v, r->http->arena, &limits, &body, &error);
    if (status != PL_OK) {
        request_error(r, status, &error);
        return;
    }
    change(r, &(struct pl_bus_change){
                  .kind = PL_CHANGE_UPDATE,
                  .user_id = body.user_id,
                  .membership = &body.membership,
                  .has_version = body.has_version,
                  .version = body.version,
                  .unix_ms = pl_hub_unix_ms(r->node->hub),
              });
}

static void on_ended(void *arg, int status, const int64_t *ids, size_t count)
{
    struct pl_http_later *later = arg;
    struct pl_buf out = {0};

    if (status == PL_OK && count == 1) {
        write_count(&out, later->to.codec, (size_t)ids[0]);
        pl_http_later_answer(later, &out);
    } else {
        pl_http_later_error(later, status, NULL);
    }
}

static void disconnect_queue(struct pl_api_request *r, struct pl_str queue_id)
{
    pl_hub_end_queue(r->node->hub, queue_id, PL_ERR_DISCONNECTED, on_ended,
                     pl_http_later_new(&r->to));
}

void pl_api__disconnect(struct pl_api_request *r)
{
    struct pl_request_error error = {""};
    struct pl_disconnect body;
    const struct pl_value *v;
    int64_t now_ms = pl_hub_unix_ms(r->node->hub);
    int status;

    if (!pl_api__body(r, &v)) {
        return;
    }
    status = pl_parse_disconnect(v, r->http->arena, &body, &error);
    if (status != PL_OK) {
        request_error(r, status, &error);
    } else if (body.queue_id.len > 0) {
        disconnect_queue(r, body.queue_id);
    } else {
        change(r, &(struct pl_bus_change){
                      .kind = PL_CHANGE_DISCONNECT,
                      .user_id = body.user_id,
                      .unix_ms = now_ms,
                      .blocked_until_ms = body.block_s > 0 ? now_ms + body.block_s * 1000 : 0,
                  });
    }
}

/* ---- publish ---- */

struct publishing {
    struct pl_http_later *later;
    bool is_array;
};

static void write_ids(struct pl_buf *out, const struct publishing *p, const int64_t *ids,
                      size_t count)
{
    struct pl_writer w;

    pl_writer_init(&w, p->later->to.codec, out);
    pl_write_map(&w, 1);
    if (!p->is_array) {
        pl_write_key(&w, "event_id");
        pl_write_int(&w, ids[0]);
        return;
    }
    pl_write_key(&w, "event_ids");
    pl_write_array(&w, count);
    for (size_t i = 0; i < count; i++) {
        pl_write_int(&w, ids[i]);
    }
}

static void on_published(void *arg, int status, const int64_t *ids, size_t count)
{
    struct publishing *p = arg;
    struct pl_buf out = {0};

    if (status == PL_OK && count > 0) {
        write_ids(&out, p, ids, count);
        pl_http_later_answer(p->later, &out);
    } else {
        pl_http_later_error(p->later, status, NULL);
    }
    free(p);
}

/* Everything is parsed before anything is handed over: all or nothing. */
static int parse_events(struct pl_api_request *r, const struct pl_value *v, struct pl_publish **ret,
                        size_t *ret_count, struct pl_request_error *error)
{
    enum {
        PUBLISH_MAX = 1000
    };
    struct pl_request_limits limits = pl_hub_limits(r->node->hub);
    bool is_array = v->type == PL_ARRAY;
    const struct pl_value *items = is_array ? v->u.array.items : v;
    size_t count = is_array ? v->u.array.count : 1;
    const struct pl_str *header = pl_http_header(&r->http->head, "traceparent");
    bool traced = header != NULL && pl_is_traceparent(*header);

    if (count == 0 || count > PUBLISH_MAX) {
        strcpy(error->text, "the body is an event, or an array of 1 to 1000 events");
        return PL_ERR_INVALID;
    }
    *ret = pl_arena_alloc(r->http->arena, count * sizeof(**ret));
    *ret_count = count;
    for (size_t i = 0; i < count; i++) {
        int status = pl_parse_publish(&items[i], false, r->http->arena, &limits, &(*ret)[i], error);

        if (status != PL_OK) {
            return status;
        }
        if (traced && (*ret)[i].traceparent.len == 0) {
            (*ret)[i].traceparent = *header;
        }
    }
    return PL_OK;
}

static bool idempotency_key(struct pl_api_request *r, struct pl_bus_key *ret)
{
    const struct pl_str *key = pl_http_header(&r->http->head, "idempotency-key");

    const struct pl_str *api_key = pl_http_header(&r->http->head, "x-api-key");

    *ret = (struct pl_bus_key){.key.len = 0};
    if (key == NULL) {
        return true;
    }
    if (key->len == 0 || key->len > 255) {
        pl_api__error(r, PL_ERR_INVALID, "Idempotency-Key: 1 to 255 bytes");
        return false;
    }
    ret->key = *key;
    /* Not its index, which a reload may give to another: a retry then must not publish twice. */
    ret->scope = pl_hash_stable(api_key->s, api_key->len);
    ret->body_hash = pl_hash_stable(r->http->body.s, r->http->body.len);
    return true;
}

void pl_api__publish(struct pl_api_request *r)
{
    struct pl_request_error error = {""};
    struct pl_publish *events;
    struct publishing *p;
    struct pl_bus_key key;
    const struct pl_value *v;
    size_t count;
    int status;

    if (!pl_api__body(r, &v) || !idempotency_key(r, &key)) {
        return;
    }
    status = parse_events(r, v, &events, &count, &error);
    if (status != PL_OK) {
        pl_metric_add(PL_S_PUBLISH_ERRORS, 1);
        request_error(r, status, &error);
        return;
    }
    p = pl_alloc(sizeof(*p));
    *p = (struct publishing){pl_http_later_new(&r->to), v->type == PL_ARRAY};
    pl_publish_events(&(struct pl_publish_from){.node = r->node, .source = PL_S_PUBLISHED_BACKEND},
                      events, count, &key, on_published, p);
}
