#include "server/transport/message.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/transport/http_edge.h"
#include "server/transport/identity.h"
#include "server/transport/publish.h"

/* One message under way. */
struct run {
    const struct pl_message_from *from;
    struct pl_arena *arena;
    const struct pl_message *m;
    struct pl_buf *out;  /* the reply's bytes */
    const char *message; /* of an error; NULL: the status's own text */
};

static void begin_reply(struct pl_writer *w, enum pl_codec codec, struct pl_buf *out,
                        const struct pl_value *id, const char *what)
{
    pl_writer_init(w, codec, out);
    pl_write_map(w, id != NULL ? 3 : 2);
    pl_write_key(w, "op");
    pl_write_cstr(w, "reply");
    if (id != NULL) {
        pl_write_key(w, "id");
        pl_write_value(w, id);
    }
    pl_write_key(w, what);
}

static void write_error_reply(const struct run *r, int status)
{
    struct pl_writer w;

    begin_reply(&w, r->from->codec, r->out, r->m->id, "error");
    pl_write_error(&w, status, r->message);
}

/* ---- the ops: each returns a status; on success it has written its reply, if it has one ---- */

static int op_hello(struct run *r)
{
    r->message = "hello is only for the first message of a WebSocket";
    return PL_ERR_INVALID;
}

static int op_ack(struct run *r)
{
    if (r->m->has_last_event_id) {
        pl_queue_ack(r->from->queue, r->m->last_event_id);
    }
    return PL_OK;
}

static int op_ping(struct run *r)
{
    struct pl_writer w;

    pl_writer_init(&w, r->from->codec, r->out);
    pl_write_map(&w, 2);
    pl_write_key(&w, "op");
    pl_write_cstr(&w, "pong");
    pl_write_key(&w, "last_event_id");
    /* Over HTTP the answer travels beside the poll's, so it promises nothing the poll did not
     * bring. */
    pl_write_int(&w, r->from->over_http ? pl_queue_acked(r->from->queue)
                                        : pl_queue_tell_position(r->from->queue));
    return PL_OK;
}

static int op_pong(struct run *r)
{
    r->message = "pong is not for /realtime/send";
    return r->from->over_http ? PL_ERR_INVALID : PL_OK;
}

static int write_subscribed(struct run *r, int status)
{
    struct pl_writer w;

    if (status == PL_ERR_FORBIDDEN) {
        r->message = "this community is not granted";
    } else if (status == PL_ERR_TOO_BIG) {
        r->message = "too many articles for one queue";
    }
    if (status == PL_OK) {
        begin_reply(&w, r->from->codec, r->out, r->m->id, "result");
        pl_write_map(&w, 1);
        pl_write_key(&w, "last_event_id");
        pl_write_int(&w, pl_queue_position(r->from->queue));
    }
    return status;
}

static int op_subscribe(struct run *r)
{
    return write_subscribed(r, pl_queue_subscribe(r->from->queue, r->m->channel, r->m->topic));
}

static int op_unsubscribe(struct run *r)
{
    return write_subscribed(r, pl_queue_unsubscribe(r->from->queue, r->m->channel, r->m->topic));
}

static int op_refresh(struct run *r)
{
    const struct pl_message_from *from = r->from;
    struct pl_identity id = {.queue = from->queue};
    struct pl_writer w;
    int64_t left_ms;
    int status = pl_identity_verify(from->node, r->m->token, r->arena, &id);

    if (status == PL_OK) {
        status = pl_identity_use_token(from->node, &id);
    }
    if (status != PL_OK) {
        r->message = id.reason;
        return status;
    }
    if (from->ret_publish_until_ms != NULL) {
        *from->ret_publish_until_ms = pl_identity_publish_until_ms(from->node, &id.claims);
    }
    left_ms = id.claims.exp_ms - pl_hub_unix_ms(from->node->hub); /* below 0 within the leeway */
    begin_reply(&w, from->codec, r->out, r->m->id, "result");
    pl_write_map(&w, 1);
    pl_write_key(&w, "token_expires_in_ms");
    pl_write_int(&w, left_ms > 0 ? left_ms : 0);
    return PL_OK;
}

/* ---- publish: answered by the bus ---- */

struct publishing {
    pl_message_done_fn *done;
    void *arg;
    enum pl_codec codec;
    bool has_id;
    struct pl_arena arena; /* the id's copy */
    struct pl_value id;
};

static void on_published(void *arg, int status, const int64_t *ids, size_t count)
{
    struct publishing *p = arg;
    struct pl_buf out = {0};
    struct pl_writer w;
    bool ok = status == PL_OK && count == 1;

    begin_reply(&w, p->codec, &out, p->has_id ? &p->id : NULL, ok ? "result" : "error");
    if (ok) {
        pl_write_map(&w, 1);
        pl_write_key(&w, "event_id");
        pl_write_int(&w, ids[0]);
    } else {
        pl_write_error(&w, status, NULL);
    }
    p->done(p->arg, &out);
    pl_arena_done(&p->arena);
    free(p);
}

static int check_publish(struct run *r)
{
    const struct pl_user *u = pl_queue_user(r->from->queue);

    if (r->from->publish_until_ms == 0) {
        r->message = "publishing needs a token with the scope publish";
        return PL_ERR_FORBIDDEN;
    }
    /* The socket may live on: its queue was made with an API key or a token that ends later. */
    if (r->from->publish_until_ms <= pl_hub_unix_ms(r->from->node->hub)) {
        r->message = "the token with the scope publish has expired: refresh it";
        return PL_ERR_TOKEN_EXPIRED;
    }
    for (size_t i = 0; i < r->m->publish.channel_count; i++) {
        if (!pl_user_may_publish_to(u, r->m->publish.channels[i])) {
            r->message = "this community is not granted";
            return PL_ERR_FORBIDDEN;
        }
    }
    return pl_queue_take(r->from->queue, PL_USE_PUBLISHES, 1) ? PL_OK : PL_ERR_RATE_LIMITED;
}

static void copy_id(struct publishing *p, const struct pl_value *id)
{
    p->has_id = id != NULL;
    if (id == NULL) {
        return;
    }
    p->id = *id;
    if (id->type == PL_STRING && id->u.string.len > 0) {
        char *text = pl_arena_alloc(&p->arena, id->u.string.len);

        memcpy(text, id->u.string.s, id->u.string.len);
        p->id.u.string.s = text;
    }
}

static void start_publish(struct run *r, pl_message_done_fn *done, void *arg)
{
    struct publishing *p = pl_alloc(sizeof(*p));
    char own_queue[PL_QUEUE_ID_SIZE];

    p->done = done;
    p->arg = arg;
    p->codec = r->from->codec;
    copy_id(p, r->m->id);
    pl_queue_id(r->from->queue, own_queue);
    pl_publish_events(
        &(struct pl_publish_from){
            .node = r->from->node,
            .source = PL_S_PUBLISHED_CLIENT,
            .exclude_queue = {own_queue, PL_QUEUE_ID_SIZE - 1},
        },
        &r->m->publish, 1, NULL, on_published, p);
}

/* ---- what is kept before it is answered ---- */

struct keeping {
    pl_message_done_fn *done;
    void *arg;
    struct pl_buf reply;
    struct pl_buf failure; /* instead, if the bus does not keep it */
};

static void on_kept(void *arg, int status)
{
    struct keeping *k = arg;

    k->done(k->arg, status == PL_OK ? &k->reply : &k->failure);
    pl_buf_done(&k->reply);
    pl_buf_done(&k->failure);
    free(k);
}

/* The reply is given when the queue is kept as it is now: the next node knows it, too. */
static void reply_when_kept(struct run *r, pl_message_done_fn *done, void *arg)
{
    struct keeping *k = pl_alloc(sizeof(*k));

    *k = (struct keeping){.done = done, .arg = arg, .reply = *r->out};
    *r->out = (struct pl_buf){0};
    write_error_reply(r, PL_ERR_BUS);
    k->failure = *r->out;
    *r->out = (struct pl_buf){0};
    pl_queue_when_saved(r->from->queue, on_kept, k);
}

/* ---- dispatch ---- */

static int (*const ops[])(struct run *r) = {
    [PL_OP_HELLO] = op_hello,         [PL_OP_ACK] = op_ack,
    [PL_OP_PING] = op_ping,           [PL_OP_PONG] = op_pong,
    [PL_OP_SUBSCRIBE] = op_subscribe, [PL_OP_UNSUBSCRIBE] = op_unsubscribe,
    [PL_OP_PUBLISH] = check_publish,  [PL_OP_REFRESH] = op_refresh,
};

static bool changes_queue(enum pl_op op)
{
    return op == PL_OP_SUBSCRIBE || op == PL_OP_UNSUBSCRIBE || op == PL_OP_REFRESH;
}

int pl_message_run(const struct pl_message_from *from, const struct pl_value *v, struct pl_arena *a,
                   pl_message_done_fn *done, void *arg)
{
    struct pl_request_limits limits = pl_hub_limits(from->node->hub);
    struct pl_request_error error = {""};
    struct pl_message m = {0};
    struct pl_buf out = {0};
    struct run r = {.from = from, .arena = a, .m = &m, .out = &out};
    bool too_fast = !pl_queue_take(from->queue, PL_USE_MESSAGES, 1);
    int status;

    if (too_fast && !from->over_http) {
        return PL_ERR_RATE_LIMITED;
    }
    pl_queue_touch(from->queue);
    status = pl_parse_message(v, a, &limits, &m, &error);
    if (too_fast) {
        status = PL_ERR_RATE_LIMITED; /* the id has been read: the reply carries it */
    } else if (status != PL_OK) {
        r.message = error.text[0] != '\0' ? error.text : NULL;
    } else {
        status = ops[m.op](&r);
        if (status == PL_OK && m.op == PL_OP_PUBLISH) {
            start_publish(&r, done, arg);
            return PL_OK;
        }
        if (status == PL_OK && changes_queue(m.op)) {
            reply_when_kept(&r, done, arg);
            return PL_OK;
        }
    }
    if (status != PL_OK) {
        write_error_reply(&r, status);
    }
    done(arg, out.len > 0 ? &out : NULL);
    pl_buf_done(&out);
    return PL_OK;
}
