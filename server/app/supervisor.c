#include "server/app/supervisor.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/base/clock.h"

enum {
    FIRST_FD = 3 /* as sd_listen_fds(3) has it */
};

void pl_supervisor_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;
    int fd;

    if (len < 2 || len >= sizeof(a.sun_path) || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(a.sun_path, path, len);
    if (path[0] == '@') {
        a.sun_path[0] = '\0'; /* the abstract namespace */
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
        close(fd);
    }
}

void pl_supervisor_notify_reloading(void)
{
    char state[64];

    (void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)pl_clock_mono_us());
    pl_supervisor_notify(state);
}

/* The n-th of names separated by colons is this one. */
static int is_named(const char *names, int n, const char *name)
{
    while (n-- > 0) {
        names += strcspn(names, ":");
        names += *names == ':';
    }
    return strcspn(names, ":") == strlen(name) && strncmp(names, name, strlen(name)) == 0;
}

void pl_supervisor_take_sockets(int sockets[2])
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"),
               *names = getenv("LISTEN_FDNAMES");
    int n = pid != NULL && count != NULL && atol(pid) == (long)getpid() ? atoi(count) : 0;

    for (int i = 0; i < n && i < 2; i++) {
        int which = names == NULL                    ? i
                    : is_named(names, i, "internal") ? 1
                    : is_named(names, i, "main")     ? 0
                                                     : i;

        sockets[which] = FIRST_FD + i;
        (void)fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC);
        (void)fcntl(FIRST_FD + i, F_SETFL, O_NONBLOCK);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}
