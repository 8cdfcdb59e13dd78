#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/net/net_priv.h"

/* A connection goes to libwebsockets when its first request is known: as a WebSocket at once, or
 * raw. Until then it is read here. Were it raw from the start, a WebSocket would be made a connection
 * of libwebsockets twice, which leaves holes in the heap, and one of the two closed, for which it
 * walks the table of all descriptors.
 *
 * They wait in an epoll of their own inside the loop's: one call to come and one to go, and nothing
 * that closes later, as handles of libuv do. */

enum {
    READ_BYTES = 4096,
    EVENTS = 64
};

static bool watch(struct pl_http_conn *c)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

    c->watched = c->watched || epoll_ctl(c->net->front.epoll, EPOLL_CTL_ADD, c->fd, &e) == 0;
    return c->watched;
}

void pl_front__leave(struct pl_http_conn *c)
{
    if (c->watched) {
        c->watched = false;
        epoll_ctl(c->net->front.epoll, EPOLL_CTL_DEL, c->fd, NULL);
    }
}

static void become_raw(struct pl_http_conn *c)
{
    lws_adopt_desc_t d = {.vh = c->net->vhost,
                          .type = LWS_ADOPT_SOCKET,
                          .fd.sockfd = c->fd,
                          .vh_prot_name = PL_NET_HTTP_PROTOCOL,
                          .opaque = c};

    pl_front__leave(c);
    c->wsi = lws_adopt_descriptor_vhost_via_info(&d); /* closes fd if it fails */
    if (!c->wsi) {
        c->fd = -1;
        pl_http__doom(c);
        return;
    }
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0);
    if (c->phase == PL_CONN_WRITING) {
        lws_callback_on_writable(c->wsi);
    }
}

/* Nothing of its first request is decided, or nothing comes after it. */
static bool stays(const struct pl_http_conn *c)
{
    return c->phase == PL_CONN_PROXY || (c->phase == PL_CONN_HEAD && !c->answered) ||
           c->phase == PL_CONN_LINGER;
}

void pl_front__settle(struct pl_http_conn *c)
{
    if (c->wsi || c->phase == PL_CONN_HANDOVER || c->phase >= PL_CONN_DOOMED) {
        return;
    }
    if (!stays(c)) {
        become_raw(c);
    } else if (!watch(c)) {
        pl_http__doom(c);
    }
}

void pl_front__read(struct pl_http_conn *c)
{
    char bytes[READ_BYTES];
    ssize_t len = recv(c->fd, bytes, sizeof(bytes), 0);

    if (len > 0) {
        pl_http__bytes(c, bytes, (size_t)len);
    } else if (len == 0 || (errno != EAGAIN && errno != EINTR)) {
        pl_http__doom(c);
    }
    pl_front__settle(c);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct pl_net *n = pl_container_of(poll, struct pl_net, front.poll);
    struct epoll_event ready[EVENTS];
    int count = epoll_wait(n->front.epoll, ready, EVENTS, 0);

    (void)status, (void)events;
    pl_net__enter(n);
    for (int i = 0; i < count; i++) {
        struct pl_http_conn *c = ready[i].data.ptr;

        /* What goes while others are read is freed at the end of the turn only. */
        if (c->watched && c->phase < PL_CONN_DOOMED) {
            pl_front__read(c);
        }
    }
}

int pl_front__init(struct pl_net *n, char *err, size_t err_size)
{
    n->front.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (n->front.epoll < 0) {
        snprintf(err, err_size, "cannot wait for connections: %s", strerror(errno));
        return PL_ERR_INVALID;
    }
    uv_poll_init(&n->loop, &n->front.poll, n->front.epoll);
    uv_poll_start(&n->front.poll, UV_READABLE, on_readable);
    return 0;
}

static void on_poll_closed(uv_handle_t *h)
{
    struct pl_net *n = pl_container_of((uv_poll_t *)h, struct pl_net, front.poll);

    close(n->front.epoll);
    n->front.epoll = -1;
}

void pl_front__done(struct pl_net *n)
{
    if (n->front.epoll >= 0) {
        uv_close((uv_handle_t *)&n->front.poll, on_poll_closed);
    }
}
