#define _DEFAULT_SOURCE /* initgroups */

#include "server/app/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"

const char *pl_process_path(void)
{
    static char path[PATH_MAX];
    ssize_t len;

    if (path[0] == '\0') {
        len = readlink(PL_PROCESS_SELF, path, sizeof(path) - 1);
        path[len > 0 ? len : 0] = '\0';
    }
    return path;
}

struct pl_running pl_running_now(void)
{
    return (struct pl_running){.pid = getpid(), .since_ms = pl_clock_unix_ms()};
}

void pl_running_refuse(struct pl_running *r, const char *why)
{
    (void)snprintf(r->why, sizeof(r->why), "%s", why);
    r->refused++;
}

int pl_process_become_user(const char *name, char *err, size_t err_size)
{
    const struct passwd *p;

    if (name[0] == '\0') {
        return PL_OK;
    }
    errno = 0;
    p = getpwnam(name);
    if (p == NULL) {
        (void)snprintf(err, err_size, "server.user: %s: %s", name,
                       errno != 0 ? strerror(errno) : "there is no such user");
    } else if (geteuid() == p->pw_uid) {
        return PL_OK;
    } else if (geteuid() != 0) {
        (void)snprintf(err, err_size, "server.user: only root can become %s", name);
    } else if (initgroups(name, p->pw_gid) != 0 || setgid(p->pw_gid) != 0 ||
               setuid(p->pw_uid) != 0) {
        (void)snprintf(err, err_size, "server.user: cannot become %s: %s", name, strerror(errno));
    } else {
        return PL_OK;
    }
    return PL_ERR_INVALID;
}

static void set_close_on_exec(const struct pl_program *p, bool on)
{
    for (size_t i = 0; i < p->keep_count; i++) {
        if (p->keep[i] >= 0) {
            (void)fcntl(p->keep[i], F_SETFD, on ? FD_CLOEXEC : 0);
        }
    }
}

static char **arguments(const struct pl_program *p)
{
    size_t count = 0;
    char **argv;

    while (p->argv[count] != NULL) {
        count++;
    }
    argv = pl_alloc((count + 2) * sizeof(*argv));
    for (size_t i = 0; i < count; i++) {
        argv[i] = p->argv[i];
    }
    if (p->name != NULL) {
        argv[0] = (char *)p->name;
    }
    argv[count] = (char *)p->extra;
    return argv;
}

void pl_process_become(const struct pl_program *p)
{
    char **argv = arguments(p);
    int error;

    if (p->variable != NULL) {
        (void)setenv(p->variable, p->value, 1);
    }
    set_close_on_exec(p, false);
    (void)execv(p->path, argv);
    error = errno;
    set_close_on_exec(p, true);
    if (p->variable != NULL) {
        (void)unsetenv(p->variable);
    }
    free(argv);
    errno = error;
}

static void be_quiet(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (null >= 0) {
        (void)dup2(null, STDOUT_FILENO);
    }
}

int pl_process_start(const struct pl_program *p)
{
    int pid = fork();

    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        (void)signal(SIGHUP, SIG_IGN);
        (void)signal(SIGUSR2, SIG_IGN);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (p->quiet) {
            be_quiet();
        }
        pl_process_become(p);
        _exit(127);
    }
    return pid;
}

int pl_process_check_config(char **argv)
{
    return pl_process_start(&(struct pl_program){
        .path = pl_process_path(),
        .argv = argv,
        .extra = "--check-config",
        .quiet = true,
    });
}
