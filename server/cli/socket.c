#include "server/cli/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/base/clock.h"
#include "server/cli/tls.h"

static volatile sig_atomic_t interrupted;

/* Signals are blocked but while waiting: none is lost between a look at the flag and the wait. */
static sigset_t mask_while_waiting;
static bool catching;

static void on_signal(int signum)
{
    (void)signum;
    interrupted = 1;
}

static void set_handler(void (*handler)(int), int flags)
{
    struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};

    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

void pl_socket_catch_signals(void)
{
    sigset_t both;

    sigemptyset(&both);
    sigaddset(&both, SIGINT);
    sigaddset(&both, SIGTERM);
    sigprocmask(SIG_BLOCK, &both, &mask_while_waiting);
    catching = true;
    set_handler(on_signal, 0);
}

bool pl_socket_interrupted(void)
{
    return interrupted;
}

void pl_socket_clear_interrupt(void)
{
    interrupted = 0;
    if (catching) {
        set_handler(SIG_DFL, 0);
        sigprocmask(SIG_SETMASK, &mask_while_waiting, NULL);
    }
}

/* fd -1: only time passes. 1: ready. */
static int wait_for(int fd, short events, uint64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        uint64_t now_ms = pl_clock_mono_ms();
        uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
        struct timespec ts = {.tv_sec = (time_t)(left_ms / 1000),
                              .tv_nsec = (long)(left_ms % 1000) * 1000000};
        int n;

        if (interrupted) {
            return PL_SOCKET_INTERRUPTED;
        }
        n = ppoll(&p, 1, &ts, catching ? &mask_while_waiting : NULL);
        if (n > 0) {
            return 1;
        }
        if (n == 0) {
            return PL_SOCKET_TIMEOUT;
        }
        if (errno != EINTR) {
            return PL_SOCKET_ERROR;
        }
    }
}

int pl_socket_sleep_until(uint64_t deadline_ms)
{
    return wait_for(-1, 0, deadline_ms) == PL_SOCKET_INTERRUPTED ? PL_SOCKET_INTERRUPTED : 0;
}

/* 0, or negative; the fd is the caller's to close. */
static int connect_fd(int fd, const struct addrinfo *ai, uint64_t deadline_ms)
{
    int one = 1, error = 0, rc;
    socklen_t size = sizeof(error);

    if (connect(fd, ai->ai_addr, ai->ai_addrlen) != 0) {
        if (errno != EINPROGRESS) {
            return PL_SOCKET_ERROR;
        }
        rc = wait_for(fd, POLLOUT, deadline_ms);
        if (rc < 0) {
            return rc;
        }
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errno = error;
            return PL_SOCKET_ERROR;
        }
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return 0;
}

static int connect_any(const struct addrinfo *all, uint64_t deadline_ms, int *ret_fd)
{
    int rc = PL_SOCKET_ERROR;

    for (const struct addrinfo *ai = all; ai && rc == PL_SOCKET_ERROR; ai = ai->ai_next) {
        int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0) {
            continue;
        }
        rc = connect_fd(fd, ai, deadline_ms);
        if (rc == 0) {
            *ret_fd = fd;
        } else {
            int kept = errno;

            close(fd);
            errno = kept;
        }
    }
    return rc;
}

int pl_socket_connect(const struct pl_url *u, uint64_t deadline_ms, int *ret_fd, char *err,
                      size_t err_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    int rc;

    if (u->tls) {
        return pl_tls_connect(u, ret_fd, err, err_size);
    }
    rc = getaddrinfo(u->host, u->port, &hints, &all);

    if (rc != 0) {
        snprintf(err, err_size, "cannot find %s: %s", u->host, gai_strerror(rc));
        return PL_SOCKET_ERROR;
    }
    rc = connect_any(all, deadline_ms, ret_fd);
    if (rc < 0) {
        snprintf(err, err_size, "cannot connect to http://%s: %s", u->authority,
                 pl_socket_error(rc));
    }
    freeaddrinfo(all);
    return rc;
}

int pl_socket_write(int fd, const void *data, size_t len, uint64_t deadline_ms)
{
    const char *from = data;

    while (len > 0) {
        ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

        if (n >= 0) {
            from += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            int rc = wait_for(fd, POLLOUT, deadline_ms);

            if (rc < 0) {
                return rc;
            }
        } else if (errno != EINTR) {
            return PL_SOCKET_ERROR;
        }
    }
    return 0;
}

int pl_socket_read(int fd, void *out, size_t size, uint64_t deadline_ms)
{
    for (;;) {
        ssize_t n = recv(fd, out, size, 0);

        if (n >= 0) {
            return (int)n;
        }
        if (errno == ECONNRESET) {
            return PL_SOCKET_EOF;
        }
        if (errno == EAGAIN) {
            int rc = wait_for(fd, POLLIN, deadline_ms);

            if (rc < 0) {
                return rc;
            }
        } else if (errno != EINTR) {
            return PL_SOCKET_ERROR;
        }
    }
}

const char *pl_socket_error(int result)
{
    switch (result) {
    case PL_SOCKET_EOF:
        return "the server closed the connection";
    case PL_SOCKET_TIMEOUT:
        return "the server did not answer in time";
    case PL_SOCKET_INTERRUPTED:
        return "interrupted";
    default:
        return strerror(errno);
    }
}
