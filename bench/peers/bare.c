/* The floor: a WebSocket server that does nothing but send() the bytes of a published event to every socket it has.
 * One thread, no channels, no queues, no permission, no history; whoever cannot take a message is not asked again. */

#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SOCKETS = 65536,
    REQUEST = 65536
};

static int subscribers[SOCKETS];
static size_t subscriber_count;
static uint8_t frame[REQUEST + 4];

static void publish(const char *body, size_t len)
{
    size_t head = len < 126 ? 2 : 4;
    frame[0] = 0x81;
    frame[1] = len < 126 ? (uint8_t)len : 126;
    frame[2] = (uint8_t)(len >> 8);
    frame[3] = (uint8_t)len;
    memcpy(frame + head, body, len);
    for (size_t i = 0; i < subscriber_count; i++) {
        if (send(subscribers[i], frame, head + len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            warn("a subscriber lost a message");
        }
    }
}

static void answer(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
        warn("an answer was not sent");
    }
}

/* Requests come whole, for they are short and come from our own load generator. */
static void request(int fd)
{
    static char r[REQUEST + 1];
    ssize_t n = recv(fd, r, REQUEST, 0);
    if (n <= 0) {
        close(fd);
        for (size_t i = 0; i < subscriber_count; i++) {
            if (subscribers[i] == fd) {
                subscribers[i] = subscribers[--subscriber_count];
            }
        }
        return;
    }
    r[n] = '\0';
    const char *body = strstr(r, "\r\n\r\n");
    if (!strncmp(r, "POST ", 5) && body) {
        publish(body + 4, (size_t)(r + n - body - 4));
        answer(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    } else if (!strncmp(r, "GET ", 4) && subscriber_count < SOCKETS) {
        subscribers[subscriber_count++] = fd;
        answer(fd,
               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    }
}

static int listen_on(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 4096) != 0) {
        err(1, "127.0.0.1:%u", port);
    }
    return fd;
}

static void add(int poller, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) != 0) {
        err(1, "epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        errx(2, "bare PORT");
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = listen_on((uint16_t)atoi(argv[1])), poller = epoll_create1(0), one = 1;
    add(poller, listener);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[512];
        int n = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                request(events[i].data.fd);
                continue;
            }
            for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                add(poller, fd);
            }
        }
    }
}
