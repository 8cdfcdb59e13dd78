#define _GNU_SOURCE /* accept4 */

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/net/net_priv.h"

enum {
    BACKLOG = 4096,
    /* Per loop turn, so that a storm of connections does not hold up the others. */
    ACCEPT_BATCH = 64,
    /* When the process or the system is out of file descriptors. */
    ACCEPT_PAUSE_MS = 100,
};

/* ---- accepting ---- */

/* A family that is neither IPv4 nor IPv6 gives the address that is none (::). */
static struct pl_address address_of(const struct sockaddr_storage *ss)
{
    if (ss->ss_family == AF_INET) {
        return pl_address_v4((const uint8_t *)&((const struct sockaddr_in *)ss)->sin_addr);
    }
    if (ss->ss_family == AF_INET6) {
        return pl_address_v6(((const struct sockaddr_in6 *)ss)->sin6_addr.s6_addr);
    }
    return (struct pl_address){0};
}

static void on_connection(struct pl_listening *l, int fd, const struct sockaddr_storage *ss)
{
    struct pl_net *n = l->net;
    const struct pl_address address = address_of(ss);
    struct pl_peer_entry *e = pl_peer__enter(n, l->which, &address);
    const int status = pl_peer__check_limits(n, e);
    int one = 1;

    pl_metric_add(PL_S_ACCEPTED, 1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (status == PL_OK || n->refusing < PL_MAX_REFUSING) {
        pl_http__adopt(n, fd, e, status);
    } else {
        close(fd);
        pl_peer__leave(n, e);
    }
}

static void accept_some(struct pl_listening *l, int max)
{
    for (int i = 0; i < max; i++) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof(ss);
        int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            on_connection(l, fd, &ss);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pl_log(PL_LOG_WARN, "accept_paused", PL_STR("address", l->address),
                   PL_STR("error", strerror(errno)));
            if (uv_is_closing((uv_handle_t *)&l->poll)) {
                return;
            }
            uv_poll_stop(&l->poll);
            pl_net__set_timer(l->net, &l->pause, ACCEPT_PAUSE_MS);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct pl_listening *l = pl_container_of(poll, struct pl_listening, poll);

    (void)status, (void)events;
    pl_net__enter(l->net);
    accept_some(l, ACCEPT_BATCH);
}

static void on_pause_over(struct pl_timer *t)
{
    struct pl_listening *l = pl_container_of(t, struct pl_listening, pause);

    uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

/* ---- listening ---- */

void pl_listener__init(struct pl_net *n)
{
    pl_peer__init(n);
    for (int i = 0; i < 2; i++) {
        n->listening[i] = (struct pl_listening){.net = n, .which = (enum pl_listener)i, .fd = -1};
        pl_timer_init(&n->listening[i].pause, on_pause_over);
    }
}

/* "host:port" or "[v6]:port" */
static bool split_address(const char *address, char *host, size_t host_size, const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    if (!colon || colon[1] == '\0') {
        return false;
    }
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (len == 0 || len >= host_size) {
        return false;
    }
    memcpy(host, address, len);
    host[len] = '\0';
    *ret_port = colon + 1;
    /* getaddrinfo would take 99999 for 34463. */
    return strspn(*ret_port, "0123456789") == strlen(*ret_port) && strlen(*ret_port) <= 5 &&
           atoi(*ret_port) <= 65535;
}

void pl_net_bound(int fd, char out[PL_ADDRESS_SIZE])
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    char host[NI_MAXHOST], port[NI_MAXSERV];

    out[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
        getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(out, PL_ADDRESS_SIZE, ss.ss_family == AF_INET6 ? "[%.45s]:%.8s" : "%.45s:%.8s",
                 host, port);
    }
}

static int bound_socket(const struct addrinfo *ai)
{
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int e = errno;

        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

int pl_net_listen(const char *address, int *ret_fd, char *err, size_t err_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *ai = NULL;
    char host[256];
    const char *port;
    int fd, r;

    if (!split_address(address, host, sizeof(host), &port)) {
        snprintf(err, err_size, "cannot listen on \"%s\": address:port expected", address);
        return PL_ERR_INVALID;
    }
    r = getaddrinfo(host, port, &hints, &ai);
    if (r != 0) {
        snprintf(err, err_size, "cannot listen on \"%s\": %s", address, gai_strerror(r));
        return PL_ERR_INVALID;
    }
    fd = bound_socket(ai);
    freeaddrinfo(ai);
    if (fd < 0) {
        snprintf(err, err_size, "cannot listen on \"%s\": %s", address, strerror(errno));
        return PL_ERR_INVALID;
    }
    *ret_fd = fd;
    return 0;
}

void pl_listener__open(struct pl_net *n, enum pl_listener which, int fd)
{
    struct pl_listening *l = &n->listening[which];

    l->fd = fd;
    pl_net_bound(fd, l->address);
    uv_poll_init(&n->loop, &l->poll, l->fd);
}

void pl_listener__accept(struct pl_net *n, enum pl_listener which)
{
    if (n->listening[which].fd >= 0) {
        uv_poll_start(&n->listening[which].poll, UV_READABLE, on_readable);
    }
}

/* Whatever has connected up to now is taken at the last moment: what waits in a socket that is closed is
 * reset, also if its request is here already. */
static void on_poll_closed(uv_handle_t *h)
{
    struct pl_listening *l = pl_container_of((uv_poll_t *)h, struct pl_listening, poll);

    if (l->accept_rest && !l->net->stopping) {
        pl_net__enter(l->net);
        accept_some(l, BACKLOG);
    }
    close(l->fd);
    l->fd = -1;
}

void pl_listener__close(struct pl_net *n, enum pl_listener which)
{
    struct pl_listening *l = &n->listening[which];

    if (l->fd >= 0 && !uv_is_closing((uv_handle_t *)&l->poll)) {
        pl_timer_cancel(n->o.wheel, &l->pause);
        uv_close((uv_handle_t *)&l->poll, on_poll_closed);
    }
}
