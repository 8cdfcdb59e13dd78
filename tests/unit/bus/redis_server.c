#define _GNU_SOURCE /* nftw */
#include "tests/unit/bus/redis_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/clock.h"

enum {
    START_MS = 8000, /* other tests may have the processors */
    STOP_MS = 3000,
    COMMAND_S = 5,
    START_TRIES = 5,
};

static void sleep_ms(int ms)
{
    (void)usleep((useconds_t)ms * 1000);
}

int rs_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
        fail_msg("no free port: %s", strerror(errno));
    }
    (void)close(fd);
    return ntohs(a.sin_port);
}

/* ---- the process ---- */

static const char *path_in(const struct rs_server *s, const char *file)
{
    static char path[160];

    (void)snprintf(path, sizeof(path), "%s/%s", s->dir, file);
    return path;
}

/* In the child. */
static _Noreturn void become_server(const struct rs_server *s, pid_t parent)
{
    char port[16];
    const char *argv[RS_ARGS_MAX + 16] = {"redis-server"};
    size_t n = 1;
    int log = open(path_in(s, "log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || log < 0 || chdir(s->dir) != 0) {
        _exit(1);
    }
    (void)dup2(log, 1);
    (void)dup2(log, 2);
    (void)snprintf(port, sizeof(port), "%d", s->port);
    if (s->sentinel) {
        argv[n++] = "sentinel.conf";
    }
    for (const char *const *a = (const char *const[]){"--port", port, "--bind", "127.0.0.1",
                                                      "--dir", s->dir, "--pidfile", "pid", NULL};
         *a != NULL; a++) {
        argv[n++] = *a;
    }
    if (s->sentinel) {
        argv[n++] = "--sentinel";
    } else {
        argv[n++] = "--save";
        argv[n++] = "";
        argv[n++] = "--enable-debug-command";
        argv[n++] = "local";
    }
    for (size_t i = 0; i < RS_ARGS_MAX && s->args[i] != NULL; i++) {
        argv[n++] = s->args[i];
    }
    argv[n] = NULL;
    (void)execvp(argv[0], (char **)(uintptr_t)argv);
    _exit(127);
}

/* It has bound its port: redis writes this file after that. */
static bool has_written_pid(const struct rs_server *s)
{
    long pid = 0;
    FILE *f = fopen(path_in(s, "pid"), "re");

    if (f != NULL) {
        if (fscanf(f, "%ld", &pid) != 1) {
            pid = 0;
        }
        (void)fclose(f);
    }
    return pid == (long)s->pid;
}

/* Forks, and waits until the port is bound. False: the process ended, its port was taken. */
static bool spawn(struct rs_server *s)
{
    uint64_t deadline = pl_clock_mono_ms() + START_MS;
    pid_t parent = getpid();

    (void)unlink(path_in(s, "pid"));
    s->pid = fork();
    if (s->pid == 0) {
        become_server(s, parent);
    }
    if (s->pid < 0) {
        s->pid = 0;
        fail_msg("fork: %s", strerror(errno));
    }
    while (!has_written_pid(s)) {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            s->pid = 0;
            return false;
        }
        if (pl_clock_mono_ms() > deadline) {
            rs_kill(s);
            fail_msg("redis-server does not start: see %s", path_in(s, "log"));
        }
        sleep_ms(2);
    }
    return true;
}

static redisContext *dial(const struct rs_server *s)
{
    redisContext *c =
        redisConnectWithTimeout("127.0.0.1", s->port, (struct timeval){.tv_sec = COMMAND_S});

    assert_non_null(c);
    (void)redisSetTimeout(c, (struct timeval){.tv_sec = COMMAND_S});
    return c;
}

/* Any answer to PING will do, NOAUTH too, but that it is still loading. */
static bool answers(const struct rs_server *s)
{
    redisContext *c = dial(s);
    redisReply *r = c->err == 0 ? redisCommand(c, "PING") : NULL;
    bool ok = r != NULL && !(r->type == REDIS_REPLY_ERROR && strncmp(r->str, "LOADING", 7) == 0);

    if (r != NULL) {
        freeReplyObject(r);
    }
    redisFree(c);
    return ok;
}

static void wait_for_answer(const struct rs_server *s)
{
    uint64_t deadline = pl_clock_mono_ms() + START_MS;

    while (!answers(s)) {
        if (pl_clock_mono_ms() > deadline) {
            fail_msg("redis-server does not answer: see %s", path_in(s, "log"));
        }
        sleep_ms(2);
    }
}

static void make_dir(struct rs_server *s)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(s->dir, sizeof(s->dir), "%s/parley-redis-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(s->dir) == NULL) {
        fail_msg("%s: %s", s->dir, strerror(errno));
    }
}

static void spawn_on_free_port(struct rs_server *s)
{
    for (int i = 0; i < START_TRIES; i++) {
        s->port = rs_free_port();
        if (spawn(s)) {
            wait_for_answer(s);
            return;
        }
    }
    fail_msg("redis-server ended at once, %d times: see %s", START_TRIES, path_in(s, "log"));
}

void rs_start(struct rs_server *s, const char *const *args)
{
    *s = (struct rs_server){0};
    for (size_t i = 0; args != NULL && args[i] != NULL; i++) {
        assert_true(i + 1 < RS_ARGS_MAX);
        s->args[i] = args[i];
    }
    make_dir(s);
    spawn_on_free_port(s);
}

static int rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void rs_kill(struct rs_server *s)
{
    if (s->pid != 0) {
        (void)kill(s->pid, SIGKILL);
        (void)waitpid(s->pid, NULL, 0);
        s->pid = 0;
    }
}

void rs_stop(struct rs_server *s)
{
    uint64_t deadline = pl_clock_mono_ms() + STOP_MS;

    if (s->pid != 0) {
        (void)kill(s->pid, SIGTERM);
        (void)kill(s->pid, SIGCONT);
        while (s->pid != 0 && pl_clock_mono_ms() < deadline) {
            if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
                s->pid = 0;
            } else {
                sleep_ms(2);
            }
        }
        rs_kill(s);
    }
    if (s->dir[0] != '\0') {
        (void)nftw(s->dir, rm, 8, FTW_DEPTH | FTW_PHYS);
        s->dir[0] = '\0';
    }
}

void rs_restart_loading(struct rs_server *s)
{
    rs_kill(s);
    for (int i = 0; i < START_TRIES; i++) {
        if (spawn(s)) {
            return;
        }
        sleep_ms(50);
    }
    fail_msg("redis-server does not come back on port %d: see %s", s->port, path_in(s, "log"));
}

void rs_restart(struct rs_server *s)
{
    rs_restart_loading(s);
    wait_for_answer(s);
}

void rs_pause(struct rs_server *s)
{
    int status = 0;

    assert_int_equal(kill(s->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(s->pid, &status, WUNTRACED), s->pid);
    assert_true(WIFSTOPPED(status));
}

void rs_resume(struct rs_server *s)
{
    assert_int_equal(kill(s->pid, SIGCONT), 0);
}

/* ---- commands ---- */

static const char *password_of(const struct rs_server *s)
{
    for (size_t i = 0; i + 1 < RS_ARGS_MAX && s->args[i] != NULL; i++) {
        if (strcmp(s->args[i], "--requirepass") == 0) {
            return s->args[i + 1];
        }
    }
    return NULL;
}

static redisReply *command(const struct rs_server *s, const char *format, va_list args)
{
    redisContext *c = dial(s);
    const char *password = password_of(s);
    redisReply *r = NULL;

    if (c->err == 0 && password != NULL) {
        freeReplyObject(redisCommand(c, "AUTH %s", password));
    }
    if (c->err == 0) {
        r = redisvCommand(c, format, args);
    }
    if (r == NULL) {
        fail_msg("%s: %s", format, c->errstr);
    }
    redisFree(c);
    return r;
}

redisReply *rs_command(const struct rs_server *s, const char *format, ...)
{
    va_list args;
    redisReply *r;

    va_start(args, format);
    r = command(s, format, args);
    va_end(args);
    return r;
}

void rs_do(const struct rs_server *s, const char *format, ...)
{
    va_list args;
    redisReply *r;

    va_start(args, format);
    r = command(s, format, args);
    va_end(args);
    if (r->type == REDIS_REPLY_ERROR) {
        fail_msg("%s: %s", format, r->str);
    }
    freeReplyObject(r);
}

/* ---- sentinel ---- */

static void write_sentinel_conf(const struct rs_server *s, int primary_port, const char *master)
{
    FILE *f = fopen(path_in(s, "sentinel.conf"), "we");

    assert_non_null(f);
    (void)fprintf(f,
                  "sentinel monitor %s 127.0.0.1 %d 1\n"
                  "sentinel down-after-milliseconds %s 500\n"
                  "sentinel failover-timeout %s 3000\n",
                  master, primary_port, master, master);
    assert_int_equal(fclose(f), 0);
}

static bool knows_replicas(const struct rs_server *s, const char *master, int replicas)
{
    redisReply *r = rs_command(s, "SENTINEL REPLICAS %s", master);
    bool ok = r->type == REDIS_REPLY_ARRAY && (int)r->elements == replicas;

    freeReplyObject(r);
    return ok;
}

void rs_start_sentinel(struct rs_server *s, const struct rs_server *primary, const char *master,
                       int replicas)
{
    uint64_t deadline;

    *s = (struct rs_server){.sentinel = true};
    make_dir(s);
    write_sentinel_conf(s, primary->port, master);
    spawn_on_free_port(s);
    /* It asks every 10 s else who the replicas are and who is primary. */
    rs_do(s, "SENTINEL DEBUG info-period 200 publish-period 200");
    deadline = pl_clock_mono_ms() + START_MS;
    while (!knows_replicas(s, master, replicas)) {
        if (pl_clock_mono_ms() > deadline) {
            fail_msg("the sentinel finds no replica: see %s", path_in(s, "log"));
        }
        sleep_ms(20);
    }
}

/* ---- the loop ---- */

void rs_loop_init(struct rs_loop *l)
{
    /* As parleyd does: libuv leaves it to the program. */
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(uv_loop_init(&l->uv), 0);
    assert_int_equal(uv_timer_init(&l->uv, &l->tick), 0);
    pl_wheel_init(&l->wheel, pl_clock_mono_ms());
}

void rs_loop_done(struct rs_loop *l)
{
    uv_close((uv_handle_t *)&l->tick, NULL);
    for (int i = 0; i < 200; i++) {
        (void)uv_run(&l->uv, UV_RUN_NOWAIT);
        if (uv_loop_close(&l->uv) == 0) {
            return;
        }
        sleep_ms(i < 100 ? 0 : 10); /* a name may still be being resolved in a thread */
    }
    uv_print_all_handles(&l->uv, stderr);
    fail_msg("a handle is still open");
}

uint64_t rs_now_ms(void *unused)
{
    (void)unused;
    return pl_clock_mono_ms();
}

static void on_tick(uv_timer_t *t)
{
    (void)t;
}

void rs_turn(struct rs_loop *l, int wait_ms)
{
    int64_t next;

    pl_wheel_advance(&l->wheel, pl_clock_mono_ms());
    next = pl_wheel_next_ms(&l->wheel, pl_clock_mono_ms());
    uv_update_time(&l->uv);
    /* Again after a millisecond: what is due before uv_run looks at the clock fires before it waits. */
    (void)uv_timer_start(&l->tick, on_tick, (uint64_t)(next < wait_ms ? next : wait_ms), 1);
    (void)uv_run(&l->uv, UV_RUN_ONCE);
    (void)uv_timer_stop(&l->tick);
    pl_wheel_advance(&l->wheel, pl_clock_mono_ms());
}

bool rs_run_until(struct rs_loop *l, bool (*cond)(void *arg), void *arg, int ms)
{
    uint64_t deadline = pl_clock_mono_ms() + (uint64_t)ms;

    while (cond == NULL || !cond(arg)) {
        uint64_t now = pl_clock_mono_ms();

        if (now >= deadline) {
            return false;
        }
        rs_turn(l, (int)(deadline - now));
    }
    return true;
}
