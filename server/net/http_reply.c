#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "server/base/alloc.h"
#include "server/base/metrics.h"
#include "server/net/net_priv.h"

/* Answers are sent on the socket itself, not through libwebsockets: while it holds unsent bytes
 * of a raw connection it does not read, and a pipelining client that takes no answers would make
 * it spin on the readable socket. */

enum {
    WRITE_TIMEOUT_MS = 30000,
    COPY_BYTES = 4096, /* copied behind the head: send() costs less than sendmsg() */
};

/* How much the socket took; -1 when it is broken. */
static ssize_t send_parts(struct pl_http_conn *c, const struct iovec *parts, size_t count)
{
    struct msghdr m = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
    ssize_t sent;

    do {
        sent = count == 1
                   ? send(c->fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                   : sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent > 0) {
        pl_metric_add(PL_S_BYTES_HTTP, (uint64_t)sent);
    }
    if (sent < 0 && errno == EAGAIN) {
        return 0;
    }
    return sent;
}

static void keep_rest(struct pl_http_conn *c, struct pl_bytes head, struct pl_bytes body,
                      size_t sent)
{
    struct pl_buf *out = pl_alloc(sizeof(*out));

    pl_buf_reserve(out, head.len + body.len - sent);
    if (sent < head.len) {
        pl_buf_append(out, head.data + sent, head.len - sent);
        sent = head.len;
    }
    pl_buf_append(out, body.data + (sent - head.len), body.len - (sent - head.len));
    free(c->u.handshake);
    c->u.out = out;
    c->phase = PL_CONN_WRITING;
    pl_net__set_timer(c->net, &c->timer, WRITE_TIMEOUT_MS);
    if (c->wsi) {
        lws_callback_on_writable(c->wsi);
    } else {
        pl_net__later(c->net, &c->job); /* libwebsockets gets it first */
    }
}

void pl_http__flush(struct pl_http_conn *c)
{
    struct iovec part;
    ssize_t sent;

    if (c->phase != PL_CONN_WRITING) {
        return;
    }
    part = (struct iovec){c->u.out->data, c->u.out->len};
    sent = send_parts(c, &part, 1);
    if (sent < 0) {
        pl_http__doom(c);
        return;
    }
    pl_buf_consume(c->u.out, (size_t)sent);
    if (c->u.out->len == 0) {
        pl_http__answered(c);
        return;
    }
    if (sent > 0) {
        pl_net__set_timer(c->net, &c->timer, WRITE_TIMEOUT_MS);
    }
    lws_callback_on_writable(c->wsi);
}

void pl_http__send_continue(struct pl_http_conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

    /* A socket too full for 25 bytes belongs to a client that reads nothing; it gets the body's
     * timeout. */
    send_parts(c, &(struct iovec){(void *)text, sizeof(text) - 1}, 1);
}

/* Thousands of polls are answered at a time: printf would be a third of it. */
static void append_number(struct pl_buf *out, size_t n)
{
    char text[20];
    size_t at = sizeof(text);

    do {
        text[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    pl_buf_append(out, text + at, sizeof(text) - at);
}

static void build_head(struct pl_http_conn *c, const struct pl_http_answer *a, bool has_body,
                       struct pl_buf *head)
{
    pl_buf_append_str(head, "HTTP/1.1 ");
    append_number(head, (size_t)a->http_status);
    pl_buf_append_str(head, " ");
    pl_buf_append_str(head, pl_http_reason(a->http_status));
    pl_buf_append_str(head, "\r\nDate: ");
    pl_buf_append_str(head, pl_net__date(c->net));
    pl_buf_append_str(head, "\r\n");
    if (has_body) {
        pl_buf_append_str(head, "Content-Length: ");
        append_number(head, a->body.len);
        pl_buf_append_str(head, "\r\n");
    }
    if (has_body && a->body.len > 0) {
        pl_buf_append_str(head, "Content-Type: ");
        pl_buf_append_str(head, a->content_type ? a->content_type : "application/json");
        pl_buf_append_str(head, "\r\n");
    }
    if (!c->keep_alive) {
        pl_buf_append_str(head, "Connection: close\r\n");
    } else if (c->http_1_0) {
        pl_buf_append_str(head, "Connection: keep-alive\r\n");
    }
    if (a->head_lines) {
        pl_buf_append_str(head, a->head_lines);
    }
    pl_buf_append_str(head, "\r\n");
}

static void count(int http_status)
{
    if (http_status >= 500) {
        pl_metric_add(PL_S_HTTP_5XX, 1);
    } else if (http_status >= 400) {
        pl_metric_add(PL_S_HTTP_4XX, 1);
    } else {
        pl_metric_add(PL_S_HTTP_2XX, 1);
    }
}

void pl_http_reply(struct pl_http_conn *c, const struct pl_http_answer *a)
{
    bool has_body = a->http_status != 204 && a->http_status != 304;
    struct pl_bytes body = has_body && !c->is_head ? a->body : (struct pl_bytes){0};
    struct pl_buf head = c->net->head;
    struct iovec parts[2];
    ssize_t sent;

    PL_ASSERT(c->phase == PL_CONN_ANSWER);
    c->keep_alive = c->keep_alive && !pl_http__is_last(c);
    count(a->http_status);
    head.len = 0;
    build_head(c, a, has_body, &head);
    parts[0] = (struct iovec){head.data, head.len};
    parts[1] = (struct iovec){(void *)body.data, body.len};
    if (body.len > 0 && body.len <= COPY_BYTES) {
        pl_buf_append(&head, body.data, body.len);
        parts[0] = (struct iovec){head.data, head.len};
        head.len -= body.len;
        sent = send_parts(c, parts, 1);
    } else {
        sent = send_parts(c, parts, body.len > 0 ? 2 : 1);
    }
    c->net->head = head; /* kept for the next */
    if (sent < 0) {
        sent = (ssize_t)(head.len +
                         body.len); /* nobody to tell: libwebsockets sees the socket break */
        c->keep_alive = false;
    }
    if ((size_t)sent < head.len + body.len) {
        keep_rest(c, (struct pl_bytes){head.data, head.len}, body, (size_t)sent);
    } else {
        pl_http__answered(c);
    }
}
