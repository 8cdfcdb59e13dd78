#include "server/bus/redis_conn.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/bus/redis_conn_priv.h"

enum {
    READ_BYTES =
        16 << 10, /* hiredis moves what is left after each reply: small pieces are faster */
    BACKLOG_MAX = 64 << 20, /* unsent; then the connection is given up */
    WRITE_KEEP = 64 << 10,  /* a buffer that was bigger is not kept */
    KEEPALIVE_S = 15,
    STABLE_MS = 5000,    /* a connection that lived so long begins the pauses anew */
    LAST_CHANCE_MS = 50, /* what came while the loop was held up is read before a call is judged */
};

/* A socket, on the heap until libuv has closed it. Without a link it is only waiting for that. */
struct sock {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct pl_redis__link *link;
    struct pl_buf sending;
    char in[READ_BYTES];
};

/* A name being resolved, then the addresses not yet tried. */
struct lookup {
    uv_getaddrinfo_t req;
    struct pl_redis__link *link; /* NULL: given up, freed when libuv is done with it */
    bool done;
    struct addrinfo *list, *next;
};

static uint64_t now_ms(const struct pl_redis_conn *c)
{
    return c->o.now_ms(c->o.arg);
}

void pl_redis__set_timer(struct pl_redis_conn *c, struct pl_timer *t, int64_t in_ms)
{
    pl_timer_set(c->o.wheel, t, now_ms(c) + (uint64_t)in_ms);
}

/* Full jitter: uniform in (0, min(max, backoff x 2^tries)], so that nodes which lost Redis
 * together do not come back together. */
int64_t pl_redis__pause_ms(const struct pl_redis_conn *c, unsigned tries)
{
    int64_t most = c->o.backoff_ms;
    uint64_t random;

    for (unsigned i = 0; i < tries && most < c->o.backoff_max_ms; i++) {
        most *= 2;
    }
    if (most > c->o.backoff_max_ms) {
        most = c->o.backoff_max_ms;
    }
    pl_random_bytes(&random, sizeof(random));
    return most <= 0 ? 0 : (int64_t)(random % (uint64_t)most) + 1;
}

/* ---- a link: from a name to a socket that is written and read ---- */

void pl_redis__link_init(struct pl_redis__link *l, struct pl_redis_conn *c,
                         const struct pl_redis__role *role, bool pushes)
{
    *l = (struct pl_redis__link){.c = c, .role = role, .pipe = {.pushes = pushes}};
}

static void on_closed(uv_handle_t *h)
{
    struct sock *s = h->data;

    pl_buf_done(&s->sending);
    free(s);
}

static void drop_socket(struct pl_redis__link *l)
{
    if (l->sock != NULL) {
        l->sock->link = NULL;
        uv_close((uv_handle_t *)&l->sock->tcp, on_closed);
        l->sock = NULL;
    }
    l->writing = false;
}

static void lookup_free(struct lookup *k)
{
    uv_freeaddrinfo(k->list);
    free(k);
}

static void drop_lookup(struct pl_redis__link *l)
{
    struct lookup *k = l->lookup;

    l->lookup = NULL;
    if (k == NULL) {
        return;
    }
    k->link = NULL;
    if (k->done) {
        lookup_free(k);
    } else {
        (void)uv_cancel((uv_req_t *)&k->req);
    }
}

void pl_redis__link_close(struct pl_redis__link *l)
{
    drop_lookup(l);
    drop_socket(l);
    pl_buf_done(&l->waiting);
    pl_redis__pipe_cut(&l->pipe);
}

bool pl_redis__link_in_use(const struct pl_redis__link *l)
{
    return l->sock != NULL || l->lookup != NULL;
}

static const char *phrase(int uv_error)
{
    return uv_error == UV_EOF ? "closed by the other side" : uv_strerror(uv_error);
}

static void count_time(struct pl_redis__link *l, const struct pl_redis__call *call)
{
    if (call->sent_us != 0) {
        pl_metric_observe_us(PL_S_BUS_TIME, pl_clock_mono_us() - call->sent_us, 1);
        l->pipe.timing = false;
    }
}

/* Replies in order. A callback may close the link, or the connection be freed: the socket, whose
 * memory stays until the turn is over, then has no link. */
static void dispatch(struct sock *s)
{
    while (s->link != NULL) {
        struct pl_redis__link *l = s->link;
        struct pl_redis__call call;
        redisReply *r = NULL;
        enum pl_redis__next next = pl_redis__pipe_next(&l->pipe, &r, &call);

        if (next == PL_REDIS__MORE) {
            return;
        }
        if (next == PL_REDIS__BROKEN) {
            l->role->lost(l->c, l->pipe.error);
            return;
        }
        l->c->last_chance = false;
        if (next == PL_REDIS__ANSWER) {
            count_time(l, &call);
            call.fn(call.arg, r);
        } else {
            l->role->push(l->c, r);
        }
        freeReplyObject(r);
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct sock *s = h->data;

    (void)suggested;
    *buf = uv_buf_init(s->in, sizeof(s->in));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct sock *s = stream->data;

    if (s->link == NULL || n == 0) {
        return;
    }
    if (n < 0) {
        s->link->role->lost(s->link->c, phrase((int)n));
        return;
    }
    pl_redis__pipe_feed(&s->link->pipe, buf->base, (size_t)n);
    dispatch(s);
}

static int write_waiting(struct pl_redis__link *l);

static void on_written(uv_write_t *w, int status)
{
    struct sock *s = w->data;
    struct pl_redis__link *l = s->link;

    s->sending.len = 0;
    if (s->sending.cap > WRITE_KEEP) {
        pl_buf_done(&s->sending);
    }
    if (l == NULL) {
        return;
    }
    l->writing = false;
    if (status == 0) {
        status = write_waiting(l);
    }
    if (status != 0) {
        l->role->lost(l->c, phrase(status));
    }
}

/* All that waits, in one write, unless one is in flight. 0 or what libuv says. */
static int write_waiting(struct pl_redis__link *l)
{
    struct sock *s = l->sock;
    struct pl_buf swap;
    uv_buf_t buf;
    int status;

    if (l->writing || l->waiting.len == 0) {
        return 0;
    }
    swap = s->sending;
    s->sending = l->waiting;
    l->waiting = swap;
    buf = uv_buf_init((char *)s->sending.data, (unsigned)s->sending.len);
    status = uv_write(&s->write, (uv_stream_t *)&s->tcp, &buf, 1, on_written);
    l->writing = status == 0;
    return status;
}

/* 0, or a negative of libuv's. The call counts as asked in any case. */
static int link_ask(struct pl_redis__link *l, const struct pl_redis_args *a, pl_redis_reply_fn *fn,
                    void *arg)
{
    struct pl_redis__call call = {
        .fn = fn, .arg = arg, .sent_ms = now_ms(l->c), .pushes = a->count > 1 ? a->count - 1 : 1};

    /* One at a time, so that a thousand commands in one write cost two looks at the clock. */
    if (fn != NULL && !l->pipe.timing && l == &l->c->main) {
        l->pipe.timing = true;
        call.sent_us = pl_clock_mono_us();
    }
    pl_redis__pipe_asked(&l->pipe, &call);
    pl_buf_printf(&l->waiting, "*%zu\r\n", a->count);
    pl_buf_append(&l->waiting, a->bytes.data, a->bytes.len);
    if (l->waiting.len + l->sock->sending.len > BACKLOG_MAX) {
        return UV_ENOBUFS;
    }
    return write_waiting(l);
}

void pl_redis__link_say(struct pl_redis__link *l, const char *const *words, size_t count,
                        pl_redis_reply_fn *fn)
{
    struct pl_redis_args a = {0};

    for (size_t i = 0; i < count; i++) {
        pl_redis_arg_cstr(&a, words[i]);
    }
    (void)link_ask(l, &a, fn, l->c);
    pl_redis_args_done(&a);
}

static void on_connected(uv_connect_t *req, int status);

/* 0, or a negative: at once, as for a network that is not reachable. */
static int connect_to(struct pl_redis__link *l, const struct sockaddr *address)
{
    struct sock *s = pl_alloc(sizeof(*s));

    if (uv_tcp_init(l->c->o.loop, &s->tcp) != 0) {
        free(s);
        return UV_ENOMEM;
    }
    s->tcp.data = s->connect.data = s->write.data = s;
    s->link = l;
    l->sock = s;
    return uv_tcp_connect(&s->connect, &s->tcp, address, on_connected);
}

/* The next address of the name; when there is none, status is what became of the last one. */
static void try_next_address(struct pl_redis__link *l, int status)
{
    struct lookup *k = l->lookup;

    while (k->next != NULL) {
        const struct sockaddr *address = k->next->ai_addr;

        k->next = k->next->ai_next;
        drop_socket(l);
        status = connect_to(l, address);
        if (status == 0) {
            return;
        }
    }
    l->role->lost(l->c, phrase(status));
}

static void on_connected(uv_connect_t *req, int status)
{
    struct sock *s = req->data;
    struct pl_redis__link *l = s->link;

    if (l == NULL) {
        return;
    }
    if (status == 0) {
        (void)uv_tcp_nodelay(&s->tcp, 1);
        (void)uv_tcp_keepalive(&s->tcp, 1, KEEPALIVE_S);
        status = uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read);
    }
    if (status == 0) {
        drop_lookup(l);
        l->role->opened(l->c);
    } else {
        try_next_address(l, status);
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct lookup *k = req->data;

    k->done = true;
    k->list = k->next = list;
    if (k->link == NULL) {
        lookup_free(k);
    } else if (status != 0) {
        k->link->role->lost(k->link->c, phrase(status));
    } else {
        try_next_address(k->link, UV_EAI_NONAME);
    }
}

void pl_redis__link_dial(struct pl_redis__link *l, const struct pl_redis_host *h)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct lookup *k = pl_alloc(sizeof(*k));
    char port[8];
    int status;

    (void)snprintf(port, sizeof(port), "%u", (unsigned)h->port);
    k->req.data = k;
    k->link = l;
    l->lookup = k;
    status = uv_getaddrinfo(l->c->o.loop, &k->req, on_resolved, h->name, port, &hints);
    if (status != 0) {
        k->done = true;
        l->role->lost(l->c, phrase(status));
    }
}

/* ---- the connection: trying, serving, losing ---- */

static void try_begin(struct pl_redis_conn *c);

static void close_main(struct pl_redis_conn *c)
{
    pl_redis__link_close(&c->main);
    pl_timer_cancel(c->o.wheel, &c->overdue);
    c->setup_left = 0;
}

/* Their callbacks may free the connection. */
static void answer_none(struct pl_redis_conn *c)
{
    struct pl_redis__call call;

    while (pl_redis__pipe_take(&c->main.pipe, &call)) {
        if (call.fn != NULL) {
            pl_metric_add(PL_S_BUS_ERRORS_LOST, 1);
            call.fn(call.arg, NULL);
        }
    }
}

static void wait_for_next_try(struct pl_redis_conn *c)
{
    int64_t pause = pl_redis__pause_ms(c, c->tries);

    c->state = PL_REDIS_WAITING;
    if (c->tries < PL_REDIS__TRIES_MAX) {
        c->tries++;
    }
    pl_redis__set_timer(c, &c->phase, pause);
}

/* The same failure again and again is one line. */
static void log_failure(const struct pl_redis_conn *c, const char *reason)
{
    enum pl_log_level level = strcmp(c->error, reason) == 0 ? PL_LOG_DEBUG : PL_LOG_WARN;

    pl_log(level, "bus_connect_failed", PL_STR("connection", c->o.label), PL_STR("error", reason));
}

/* The setup's own calls, of which nobody need be told. */
static void forget_setup(struct pl_redis_conn *c)
{
    struct pl_redis__call call;

    while (pl_redis__pipe_take(&c->main.pipe, &call)) {
    }
}

/* why may be a piece of what is closed here. */
void pl_redis__try_failed(struct pl_redis_conn *c, const char *why)
{
    char reason[PL_REDIS__REASON_SIZE];

    (void)snprintf(reason, sizeof(reason), "%s", why);
    log_failure(c, reason);
    (void)memcpy(c->error, reason, sizeof(reason));
    if (pl_redis__link_in_use(&c->main)) {
        c->sentinel++; /* what that one said was of no use: another may know better */
    }
    close_main(c);
    pl_redis__question_close(c);
    forget_setup(c);
    wait_for_next_try(c);
}

/* Whatever is told here may call back into this file, or free the connection. */
static void tell_lost(struct pl_redis_conn *c)
{
    if (!c->broken) {
        return;
    }
    c->broken = false;
    (void)memcpy(c->error, c->broken_reason, sizeof(c->error));
    answer_none(c);
    if (!c->freed && c->o.down != NULL) {
        c->o.down(c->o.arg, c->error);
    }
}

/* It was up. How it is told is the caller's: at once or later. */
static void lose(struct pl_redis_conn *c, const char *reason)
{
    (void)snprintf(c->broken_reason, sizeof(c->broken_reason), "%s", reason);
    c->broken = true;
    close_main(c);
    if (now_ms(c) - c->up_ms >= STABLE_MS) {
        c->tries = 0;
    }
    wait_for_next_try(c);
}

static void on_later(uv_timer_t *t)
{
    struct pl_redis_conn *c = t->data;

    tell_lost(c);
    if (!c->freed && c->at_once && c->state == PL_REDIS_WAITING) {
        c->at_once = false;
        try_begin(c);
    }
}

static void on_phase(struct pl_timer *t)
{
    struct pl_redis_conn *c = pl_container_of(t, struct pl_redis_conn, phase);

    if (c->state == PL_REDIS_CONNECTING) {
        pl_redis__try_failed(c, "timed out while connecting");
        return;
    }
    tell_lost(c);
    if (!c->freed && c->state == PL_REDIS_WAITING) {
        try_begin(c);
    }
}

void pl_redis__end_later(struct pl_redis_conn *c, const char *reason, bool at_once)
{
    if (c->state == PL_REDIS_UP) {
        lose(c, reason);
    } else if (c->state == PL_REDIS_CONNECTING) {
        pl_redis__try_failed(c, reason);
    }
    if (at_once) {
        c->at_once = true;
        pl_timer_cancel(c->o.wheel, &c->phase);
    }
    (void)uv_timer_start(c->later, on_later, 0, 0);
}

static void on_overdue(struct pl_timer *t)
{
    struct pl_redis_conn *c = pl_container_of(t, struct pl_redis_conn, overdue);
    const struct pl_redis__call *oldest = pl_redis__pipe_oldest(&c->main.pipe);
    uint64_t due;

    if (oldest == NULL) {
        return;
    }
    due = oldest->sent_ms + (uint64_t)c->o.command_timeout_ms;
    if (now_ms(c) < due) {
        pl_timer_set(c->o.wheel, t, due);
    } else if (!c->last_chance) {
        c->last_chance = true;
        pl_redis__set_timer(c, t, LAST_CHANCE_MS);
    } else {
        lose(c, "a command was not answered in time");
        tell_lost(c);
    }
}

static void served(struct pl_redis_conn *c)
{
    c->state = PL_REDIS_UP;
    c->up_ms = now_ms(c);
    c->error[0] = '\0';
    pl_timer_cancel(c->o.wheel, &c->phase);
    if (c->o.url->sentinel) {
        pl_redis__watch_begin(c);
    }
    if (c->o.up != NULL) {
        c->o.up(c->o.arg);
    }
}

/* ---- AUTH, SELECT, CLIENT SETNAME, ROLE, PING ---- */

static void on_setup(void *arg, const redisReply *r)
{
    struct pl_redis_conn *c = arg;

    if (r->type == REDIS_REPLY_ERROR) {
        pl_redis__try_failed(c, r->str);
    } else if (--c->setup_left == 0) {
        served(c);
    }
}

/* A server that does not know AUTH repeats its arguments. */
static void on_auth(void *arg, const redisReply *r)
{
    struct pl_redis_conn *c = arg;

    if (r->type == REDIS_REPLY_ERROR && strstr(r->str, c->o.url->password) != NULL) {
        pl_redis__try_failed(c, "AUTH was refused");
    } else {
        on_setup(arg, r);
    }
}

/* What a sentinel calls primary may have become a replica, or not yet be one. */
static void on_role(void *arg, const redisReply *r)
{
    bool text = r->type == REDIS_REPLY_ARRAY && r->elements > 0 &&
                r->element[0]->type == REDIS_REPLY_STRING;

    if (r->type != REDIS_REPLY_ERROR && !(text && strcmp(r->element[0]->str, "master") == 0)) {
        pl_redis__try_failed(arg, "what the sentinel calls primary is none");
    } else {
        on_setup(arg, r);
    }
}

static void setup_say(struct pl_redis_conn *c, const char *const *words, size_t count,
                      pl_redis_reply_fn *fn)
{
    c->setup_left++;
    pl_redis__link_say(&c->main, words, count, fn);
}

static void main_opened(struct pl_redis_conn *c)
{
    const struct pl_redis_url *u = c->o.url;
    char db[16], name[64];

    (void)snprintf(db, sizeof(db), "%d", u->db);
    (void)snprintf(name, sizeof(name), "parley-%s", c->o.label);
    if (u->user[0] != '\0') {
        setup_say(c, (const char *const[]){"AUTH", u->user, u->password}, 3, on_auth);
    } else if (u->password[0] != '\0') {
        setup_say(c, (const char *const[]){"AUTH", u->password}, 2, on_auth);
    }
    if (u->db != 0) {
        setup_say(c, (const char *const[]){"SELECT", db}, 2, on_setup);
    }
    setup_say(c, (const char *const[]){"CLIENT", "SETNAME", name}, 3, on_setup);
    if (u->sentinel) {
        setup_say(c, (const char *const[]){"ROLE"}, 1, on_role);
    }
    /* All of those are answered while Redis still loads its data, or has none; this one is not. */
    setup_say(c, (const char *const[]){"PING"}, 1, on_setup);
}

static void main_lost(struct pl_redis_conn *c, const char *reason)
{
    if (c->state == PL_REDIS_UP) {
        lose(c, reason);
        tell_lost(c);
        return;
    }
    pl_redis__try_failed(c, reason);
}

static void main_push(struct pl_redis_conn *c, const redisReply *r)
{
    c->o.push(c->o.arg, r);
}

static const struct pl_redis__role main_role = {main_opened, main_lost, main_push};

void pl_redis__found(struct pl_redis_conn *c, const struct pl_redis_host *primary)
{
    c->primary = *primary;
    pl_redis__link_dial(&c->main, &c->primary);
}

static void try_begin(struct pl_redis_conn *c)
{
    c->state = PL_REDIS_CONNECTING;
    pl_redis__set_timer(c, &c->phase, c->o.connect_timeout_ms);
    if (c->o.url->sentinel) {
        pl_redis__question_begin(c);
    } else {
        pl_redis__found(c, &c->o.url->hosts[0]);
    }
}

/* ---- what others call ---- */

struct pl_redis_conn *pl_redis_conn_new(const struct pl_redis_conn_options *o)
{
    struct pl_redis_conn *c = pl_alloc(sizeof(*c));

    c->o = *o;
    pl_redis__link_init(&c->main, c, &main_role, o->push != NULL);
    pl_timer_init(&c->phase, on_phase);
    pl_timer_init(&c->overdue, on_overdue);
    pl_redis__sentinel_init(c);
    c->later = pl_alloc(sizeof(*c->later));
    (void)uv_timer_init(o->loop, c->later);
    c->later->data = c;
    pl_redis__end_later(c, "", true);
    return c;
}

static void on_later_closed(uv_handle_t *h)
{
    struct pl_redis_conn *c = h->data;

    free(c->later);
    free(c);
}

void pl_redis_conn_free(struct pl_redis_conn *c)
{
    if (c == NULL) {
        return;
    }
    if (c->state == PL_REDIS_CONNECTING) {
        forget_setup(c);
    }
    c->freed = true;
    c->state = PL_REDIS_WAITING;
    close_main(c);
    pl_redis__question_close(c);
    pl_redis__watch_close(c);
    pl_timer_cancel(c->o.wheel, &c->phase);
    answer_none(c);
    pl_redis__pipe_done(&c->main.pipe);
    uv_close((uv_handle_t *)c->later, on_later_closed);
}

enum pl_redis_state pl_redis_conn_state(const struct pl_redis_conn *c)
{
    return c->state;
}

const char *pl_redis_conn_error(const struct pl_redis_conn *c)
{
    return c->error;
}

size_t pl_redis_conn_outstanding(const struct pl_redis_conn *c)
{
    return c->main.pipe.count;
}

void pl_redis_conn_reset(struct pl_redis_conn *c, const char *reason)
{
    /* A connection that has just come: who resets again and again is not to spin. */
    bool young = c->state == PL_REDIS_UP && c->tries > 0 && now_ms(c) - c->up_ms < STABLE_MS;

    pl_redis__end_later(c, reason, !young);
}

bool pl_redis_call(struct pl_redis_conn *c, const struct pl_redis_args *a, pl_redis_reply_fn *fn,
                   void *arg)
{
    int status;

    if (c->state != PL_REDIS_UP) {
        return false;
    }
    pl_metric_add(PL_S_BUS_COMMANDS, 1);
    status = link_ask(&c->main, a, fn, arg);
    if (status != 0) {
        pl_redis__end_later(
            c, status == UV_ENOBUFS ? "too much is waiting to be sent" : phrase(status), false);
    } else if (c->o.command_timeout_ms > 0 && !pl_timer_is_set(&c->overdue)) {
        pl_redis__set_timer(c, &c->overdue, c->o.command_timeout_ms);
    }
    return true;
}
