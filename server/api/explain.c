/* Why did a user get an event, or not? For support staff and for whoever writes a backend. */
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"
#include "server/base/alloc.h"
#include "server/core/explain.h"

enum {
    LOGS_MAX = 1000, /* looked into for one question */
};

/* A question about a node that is one of many: who else has queues of the user is asked first, then
 * whether a log has the event. */
struct explaining {
    struct pl_http_later *later;
    struct pl_node *node;
    struct pl_explain x;
    struct pl_str also; /* a channel the asker named; len 0: none */
    bool bus_away;
    struct pl_arena arena;
    const struct pl_value *connections; /* NULL: not known, or alone */
};

static bool is_elsewhere(const struct pl_node *n, const struct pl_value *connection)
{
    const struct pl_value *node = pl_value_get(connection, "node");

    return node == NULL || node->type != PL_STRING ||
           !pl_str_eq(node->u.string, (struct pl_str){n->name, strlen(n->name)});
}

static void write_elsewhere(const struct pl_node *n, const struct pl_value *connections,
                            struct pl_writer *w)
{
    size_t all = connections != NULL ? connections->u.array.count : 0;
    size_t count = 0;

    for (size_t i = 0; i < all; i++) {
        count += is_elsewhere(n, &connections->u.array.items[i]);
    }
    pl_write_key(w, "elsewhere");
    pl_write_array(w, count);
    for (size_t i = 0; i < all; i++) {
        if (is_elsewhere(n, &connections->u.array.items[i])) {
            pl_write_value(w, &connections->u.array.items[i]);
        }
    }
}

static void write_answer(const struct pl_node *n, const struct pl_explain *x, bool bus_away,
                         const struct pl_value *connections, struct pl_writer *w)
{
    int64_t number;

    pl_write_map(w, 5 + PL_EXPLAIN_MEMBERS);
    pl_write_key(w, "user_id");
    if (pl_user_number(x->user_id, &number)) {
        pl_write_int(w, number);
    } else {
        pl_write_str(w, x->user_id);
    }
    pl_write_key(w, "event_id");
    pl_write_int(w, x->event_id);
    pl_write_key(w, "node");
    pl_write_cstr(w, n->name);
    pl_write_key(w, "logs_were_read");
    pl_write_bool(w, n->logged != NULL && !bus_away);
    pl_hub_explain(n->hub, x, w);
    write_elsewhere(n, connections, w);
}

static void on_logged(void *arg, int status, const struct pl_bus_event *e)
{
    struct explaining *g = arg;
    struct pl_buf out = {0};
    struct pl_writer w;

    g->x.logged = e;
    pl_writer_init(&w, g->later->to.codec, &out);
    write_answer(g->node, &g->x, g->bus_away || status != PL_OK, g->connections, &w);
    pl_http_later_answer(g->later, &out);
    pl_arena_done(&g->arena);
    free(g);
}

/* A bus that is away leaves what this node knows. */
static void on_connections(void *arg, int status, struct pl_str json)
{
    struct explaining *g = arg;
    struct pl_str channels[LOGS_MAX];
    char *copy = pl_arena_alloc(&g->arena, json.len + 1);
    const struct pl_value *v;
    size_t count = 0;

    memcpy(copy, json.len > 0 ? json.s : "", json.len);
    if (status == PL_OK && pl_decode(PL_JSON, copy, json.len, &g->arena, &v, NULL) == PL_OK &&
        v->type == PL_ARRAY) {
        g->connections = v;
    }
    if (g->also.len > 0) {
        channels[count++] = g->also;
    }
    count +=
        pl_hub_explain_channels(g->node->hub, g->x.user_id, channels + count, LOGS_MAX - count);
    if (status != PL_OK || count == 0) {
        g->bus_away = status != PL_OK;
        on_logged(g, PL_OK, NULL);
    } else {
        g->node->logged(g->node, channels, count, g->x.event_id, on_logged, g);
    }
}

static struct pl_str keep(struct pl_arena *a, struct pl_str s)
{
    char *text = pl_arena_alloc(a, s.len + 1);

    if (s.len > 0) {
        memcpy(text, s.s, s.len);
    }
    return (struct pl_str){text, s.len};
}

static void ask_bus(struct pl_api_request *r, const struct pl_explain *x, struct pl_str also)
{
    struct explaining *g = pl_alloc(sizeof(*g));

    g->node = r->node;
    g->x = (struct pl_explain){keep(&g->arena, x->user_id), x->event_id, NULL};
    g->also = keep(&g->arena, also);
    g->later = pl_http_later_new(&r->to);
    r->node->connections(r->node, g->x.user_id, on_connections, g);
}

static void answer_own(struct pl_api_request *r, const struct pl_explain *x)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, r->to.codec, &out);
    write_answer(r->node, x, false, NULL, &w);
    pl_http_answer_buf(&r->to, 200, &out);
}

static bool is_name(struct pl_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-", s.s[i]) ==
                NULL ||
            s.s[i] == '\0') {
            return false;
        }
    }
    return s.len > 0 && s.len <= 128;
}

/* As a publish names its channels; len 0: none was given. False: answered. */
static bool query_channel(struct pl_api_request *r, struct pl_str *ret)
{
    struct pl_str text = {NULL, 0};
    char *name;
    int64_t community;
    bool bad = false;

    *ret = (struct pl_str){NULL, 0};
    if (pl_http_query_get(r->http->head.query, "community_id", r->http->arena, &text, &bad)) {
        if (bad || !pl_parse_cursor(text, &community)) {
            pl_api__error(r, PL_ERR_INVALID, "community_id: an integer");
            return false;
        }
        name = pl_arena_alloc(r->http->arena, 10 + text.len);
        memcpy(name, "community:", 10);
        memcpy(name + 10, text.s, text.len);
        *ret = (struct pl_str){name, 10 + text.len};
    } else if (pl_http_query_get(r->http->head.query, "channel", r->http->arena, ret, &bad) &&
               (bad || !is_name(*ret))) {
        pl_api__error(r, PL_ERR_INVALID, "channel: 1 to 128 bytes of A-Z a-z 0-9 . _ : -");
        return false;
    }
    return true;
}

void pl_api__explain(struct pl_api_request *r)
{
    struct pl_explain x = {.event_id = -1};
    struct pl_value v = {.type = PL_STRING};
    struct pl_str also;
    bool bad = false;

    if (!pl_http_query_get(r->http->head.query, "user_id", r->http->arena, &v.u.string, &bad) ||
        bad || pl_parse_user_id(&v, r->http->arena, &x.user_id) != PL_OK) {
        pl_api__error(r, PL_ERR_INVALID, "user_id is missing, or is none");
    } else if (!pl_api__query_cursor(r, "event_id", &x.event_id) || !query_channel(r, &also)) {
        return;
    } else if (x.event_id <= 0) {
        pl_api__error(r, PL_ERR_INVALID, "event_id is missing");
    } else if (!pl_api__ready(r, x.user_id, (struct pl_str){NULL, 0})) {
        return;
    } else if (r->node->connections != NULL) {
        ask_bus(r, &x, also);
    } else {
        answer_own(r, &x);
    }
}
