/* Who is connected: for support staff, and for backends that end one of a user's queues. */
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"
#include "server/base/alloc.h"

/* {"user_id":…,"connections":…} up to the connections, which follow as one value. */
static void write_head(struct pl_writer *w, struct pl_str user_id)
{
    int64_t number;

    pl_write_map(w, 2);
    pl_write_key(w, "user_id");
    if (pl_user_number(user_id, &number)) {
        pl_write_int(w, number);
    } else {
        pl_write_str(w, user_id);
    }
    pl_write_key(w, "connections");
}

/* ---- a node that is alone ---- */

struct listing {
    struct pl_writer *w;
    const char *node;
};

static void write_queue(void *arg, const struct pl_queue *q)
{
    const struct listing *l = arg;
    char id[PL_QUEUE_ID_SIZE];

    pl_queue_id(q, id);
    pl_write_map(l->w, 4);
    pl_write_key(l->w, "queue_id");
    pl_write_cstr(l->w, id);
    pl_write_key(l->w, "node");
    pl_write_cstr(l->w, l->node);
    pl_write_key(l->w, "transport");
    pl_write_cstr(l->w, pl_transport_name(pl_queue_last_transport(q)));
    pl_write_key(l->w, "since");
    pl_write_int(l->w, pl_queue_link_since_ms(q));
}

static void answer_own(struct pl_api_request *r, struct pl_str user_id)
{
    const struct pl_user *u = pl_hub_user_find(r->node->hub, user_id);
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, r->to.codec, &out);
    write_head(&w, user_id);
    pl_write_array(&w, u != NULL ? pl_user_queue_count(u) : 0);
    if (u != NULL) {
        pl_user_each_queue(u, write_queue, &(struct listing){&w, r->node->name});
    }
    pl_http_answer_buf(&r->to, 200, &out);
}

/* ---- many nodes: the bus knows ---- */

struct asking {
    struct pl_http_later *later;
    size_t user_id_len;
    char user_id[];
};

/* The list is JSON whatever the client speaks. */
static int write_list(struct pl_writer *w, struct pl_arena *a, struct pl_str json)
{
    const struct pl_value *v;
    int status = pl_decode(PL_JSON, json.s, json.len, a, &v, NULL);

    if (status == PL_OK) {
        pl_write_value(w, v);
    }
    return status;
}

static void on_connections(void *arg, int status, struct pl_str json)
{
    struct asking *a = arg;
    struct pl_arena arena = {0};
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, a->later->to.codec, &out);
    write_head(&w, (struct pl_str){a->user_id, a->user_id_len});
    if (status == PL_OK && write_list(&w, &arena, json) != PL_OK) {
        status = PL_ERR_INTERNAL;
    }
    if (status == PL_OK) {
        pl_http_later_answer(a->later, &out);
    } else {
        pl_http_later_error(a->later, status, NULL);
        pl_buf_done(&out);
    }
    pl_arena_done(&arena);
    free(a);
}

static void ask_bus(struct pl_api_request *r, struct pl_str user_id)
{
    struct asking *a = pl_alloc(sizeof(*a) + user_id.len);

    a->later = pl_http_later_new(&r->to);
    a->user_id_len = user_id.len;
    memcpy(a->user_id, user_id.s, user_id.len);
    r->node->connections(r->node, user_id, on_connections, a);
}

void pl_api__connections(struct pl_api_request *r)
{
    struct pl_value v = {.type = PL_STRING};
    struct pl_str user_id;
    bool bad = false;

    if (!pl_http_query_get(r->http->head.query, "user_id", r->http->arena, &v.u.string, &bad) ||
        bad || pl_parse_user_id(&v, r->http->arena, &user_id) != PL_OK) {
        pl_api__error(r, PL_ERR_INVALID, "user_id is missing, or is none");
    } else if (r->node->connections != NULL) {
        ask_bus(r, user_id);
    } else {
        answer_own(r, user_id);
    }
}
