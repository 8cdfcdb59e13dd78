#include "server/net/http_post.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "server/base/alloc.h"

enum {
    DEADLINE_MS = 5000,
};

/* One request. Freed when its last handle and request of libuv are done. */
struct exchange {
    struct pl_http_post *post; /* NULL: nobody waits any more */
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    uv_write_t write;
    uv_tcp_t tcp;
    uv_timer_t deadline;
    unsigned open; /* callbacks still to come before it may be freed */
    bool closing;
    struct pl_buf request;
    char answer[64]; /* its beginning: the status line is all that counts */
    size_t answer_len;
    char rest[4096];
};

struct pl_http_post {
    uv_loop_t *loop;
    struct pl_url url;
    struct exchange *now; /* NULL: none */
    pl_http_post_done_fn *done;
    void *arg;
};

static void drop(struct exchange *x)
{
    if (--x->open == 0) {
        pl_buf_done(&x->request);
        free(x);
    }
}

static void on_handle_closed(uv_handle_t *h)
{
    drop(h->data);
}

static void shut(struct exchange *x)
{
    if (!x->closing) {
        x->closing = true;
        (void)uv_cancel((uv_req_t *)&x->resolve); /* too late if it is running: it is waited for */
        uv_close((uv_handle_t *)&x->tcp, on_handle_closed);
        uv_close((uv_handle_t *)&x->deadline, on_handle_closed);
    }
}

static void finish(struct exchange *x, int http_status, const char *error)
{
    struct pl_http_post *p = x->post;

    x->post = NULL;
    shut(x);
    if (p != NULL) {
        p->now = NULL;
        p->done(p->arg, http_status, error);
    }
}

/* "HTTP/1.1 200"; 0: not that. */
static int status_of(const struct exchange *x)
{
    return x->answer_len >= 12 && memcmp(x->answer, "HTTP/1.", 7) == 0 && x->answer[8] == ' '
               ? atoi(x->answer + 9)
               : 0;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct exchange *x = h->data;

    (void)suggested;
    *buf = uv_buf_init(x->rest, sizeof(x->rest));
}

static void on_read(uv_stream_t *s, ssize_t len, const uv_buf_t *buf)
{
    struct exchange *x = s->data;
    size_t room = sizeof(x->answer) - 1 - x->answer_len;

    if (len > 0) {
        room = room < (size_t)len ? room : (size_t)len;
        memcpy(x->answer + x->answer_len, buf->base, room);
        x->answer_len += room;
    }
    if (len < 0 || x->answer_len >= 12) {
        int status = status_of(x);

        finish(x, status,
               status != 0                ? ""
               : len < 0 && len != UV_EOF ? uv_strerror((int)len)
                                          : "no HTTP answer");
    }
}

static void on_written(uv_write_t *w, int status)
{
    struct exchange *x = w->data;

    if (status != 0 && !x->closing) {
        finish(x, 0, uv_strerror(status));
    }
    drop(x);
}

static void on_connected(uv_connect_t *c, int status)
{
    struct exchange *x = c->data;
    uv_buf_t buf = uv_buf_init((char *)x->request.data, (unsigned)x->request.len);

    if (status == 0 && !x->closing) {
        status = uv_read_start((uv_stream_t *)&x->tcp, on_alloc, on_read);
    }
    if (status == 0 && !x->closing) {
        x->write.data = x;
        status = uv_write(&x->write, (uv_stream_t *)&x->tcp, &buf, 1, on_written);
        x->open += status == 0;
    }
    if (status != 0 && !x->closing) {
        finish(x, 0, uv_strerror(status));
    }
    drop(x);
}

static void on_resolved(uv_getaddrinfo_t *r, int status, struct addrinfo *list)
{
    struct exchange *x = r->data;

    if (status == 0 && !x->closing) {
        x->connect.data = x;
        status = uv_tcp_connect(&x->connect, &x->tcp, list->ai_addr, on_connected);
        x->open += status == 0;
    }
    if (status != 0 && !x->closing) {
        finish(x, 0, uv_strerror(status));
    }
    uv_freeaddrinfo(list);
    drop(x);
}

static void on_deadline(uv_timer_t *t)
{
    finish(t->data, 0, "no answer in time");
}

static void write_request(const struct pl_url *u, const char *content_type,
                          const struct pl_buf *body, struct pl_buf *out)
{
    pl_buf_printf(out,
                  "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                  "Connection: close\r\n\r\n",
                  u->prefix[0] != '\0' ? u->prefix : "/", u->authority, content_type, body->len);
    pl_buf_append(out, body->data, body->len);
}

bool pl_http_post_send(struct pl_http_post *p, const char *content_type, struct pl_buf *body,
                       pl_http_post_done_fn *done, void *arg)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct exchange *x;
    int status;

    if (p->now != NULL) {
        return false;
    }
    p->now = x = pl_alloc(sizeof(*x));
    p->done = done;
    p->arg = arg;
    x->post = p;
    write_request(&p->url, content_type, body, &x->request);
    pl_buf_done(body);
    uv_tcp_init(p->loop, &x->tcp);
    uv_timer_init(p->loop, &x->deadline);
    x->tcp.data = x->deadline.data = x->resolve.data = x;
    x->open = 2;
    uv_timer_start(&x->deadline, on_deadline, DEADLINE_MS, 0);
    status = uv_getaddrinfo(p->loop, &x->resolve, on_resolved, p->url.host, p->url.port, &hints);
    x->open += status == 0;
    if (status != 0) {
        uv_timer_start(&x->deadline, on_deadline, 0, 0); /* not from inside */
    }
    return true;
}

struct pl_http_post *pl_http_post_new(struct uv_loop_s *loop, const struct pl_url *u)
{
    struct pl_http_post *p = pl_alloc(sizeof(*p));

    p->loop = loop;
    p->url = *u;
    return p;
}

void pl_http_post_free(struct pl_http_post *p)
{
    if (p == NULL) {
        return;
    }
    if (p->now != NULL) {
        p->now->post = NULL;
        shut(p->now);
    }
    free(p);
}
