#include "bench/load/loop.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READY_AT_ONCE = 512
};

uint64_t loop_nap_ns;
static int poller = -1;

void loop_init(void)
{
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) {
        err(1, "epoll_create1");
    }
}

static void control(int op, int fd, struct source *s, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    if (epoll_ctl(poller, op, fd, &e) != 0) {
        err(1, "epoll_ctl");
    }
}

void loop_add(int fd, struct source *s, uint32_t events)
{
    control(EPOLL_CTL_ADD, fd, s, events);
}

void loop_change(int fd, struct source *s, uint32_t events)
{
    control(EPOLL_CTL_MOD, fd, s, events);
}

void loop_remove(int fd)
{
    control(EPOLL_CTL_DEL, fd, NULL, 0);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void loop_turn(uint64_t until_ns)
{
    struct epoll_event events[READY_AT_ONCE];
    uint64_t now = now_ns(), wait = until_ns > now ? until_ns - now : 0;
    struct timespec t = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    int n = epoll_pwait2(poller, events, READY_AT_ONCE, &t, NULL);
    if (n < 0 && errno != EINTR) {
        err(1, "epoll_pwait2");
    }
    for (int i = 0; i < n; i++) {
        struct source *s = events[i].data.ptr;
        s->ready(s, events[i].events);
    }
    now = now_ns();
    if (n < READY_AT_ONCE && now + loop_nap_ns < until_ns) {
        nanosleep(&(struct timespec){0, (long)loop_nap_ns}, NULL);
    }
}

int loop_connect(uint16_t port, int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) {
        err(1, "socket");
    }
    /* Closing resets: thousands of ports in TIME_WAIT would be missing in the next run. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (receive_bytes) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) {
        err(1, "connect to 127.0.0.1:%u", port);
    }
    return fd;
}
