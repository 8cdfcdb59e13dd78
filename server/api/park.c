/* Requests about a user or a queue that another node may have: the bus is asked first, and the
 * handler runs again from its beginning when the answer is here. */
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"
#include "server/base/alloc.h"

/* A request of our own: the net's lives during its call only. */
struct parked {
    struct pl_http_later *later;
    struct pl_api_request request;
    struct pl_http_request http;
    struct pl_arena arena;
};

static struct pl_str keep(struct pl_arena *a, struct pl_str s)
{
    char *text = pl_arena_alloc(a, s.len + 1);

    if (s.len > 0) {
        memcpy(text, s.s, s.len);
    }
    return (struct pl_str){text, s.len};
}

static void keep_request(struct parked *p, const struct pl_http_request *from)
{
    struct pl_http_head *h = &p->http.head;

    p->http = *from;
    p->http.arena = &p->arena;
    p->http.body = keep(&p->arena, from->body);
    h->path = keep(&p->arena, h->path);
    h->query = keep(&p->arena, h->query);
    for (size_t i = 0; i < h->header_count; i++) {
        h->headers[i].name = keep(&p->arena, h->headers[i].name);
        h->headers[i].value = keep(&p->arena, h->headers[i].value);
    }
}

static void on_ready(void *arg, int status)
{
    struct parked *p = arg;
    struct pl_http_later *later = p->later;
    struct pl_api_request *r = &p->request;

    if (status != PL_OK) {
        pl_http_later_error(later, status, NULL);
    } else if (later->to.conn == NULL) { /* the client has gone */
        free(later);
    } else {
        pl_http_to_keep(&r->to, &later->to,
                        pl_arena_alloc(&p->arena, pl_http_to_room(&later->to) + 1));
        pl_http_set_user(r->to.conn, NULL);
        free(later);
        r->fn(r);
    }
    pl_arena_done(&p->arena);
    free(p);
}

bool pl_api__ready(struct pl_api_request *r, struct pl_str user_id, struct pl_str queue_id)
{
    struct parked *p;

    if (r->is_ready || !pl_hub_asks(r->node->hub, user_id, queue_id)) {
        return true;
    }
    /* A node that was stopped for a while wakes to requests whose clients have long gone on elsewhere:
     * they must not take the queue back. */
    if (pl_http_has_left(r->to.conn)) {
        pl_http_answer_error(&r->to, PL_ERR_BUS, NULL);
        return false;
    }
    p = pl_alloc(sizeof(*p));
    keep_request(p, r->http);
    p->later = pl_http_later_new(&r->to);
    p->request = *r;
    p->request.http = &p->http;
    p->request.is_ready = true;
    pl_hub_prepare(r->node->hub, user_id, queue_id, on_ready, p);
    return false;
}
