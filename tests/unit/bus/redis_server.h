#ifndef TESTS_UNIT_BUS_REDIS_SERVER_H
#define TESTS_UNIT_BUS_REDIS_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "server/base/wheel.h"

/* A real redis-server of a test's own: on a free port of 127.0.0.1, with a directory of its own
 * under $TMPDIR, without persistence unless asked for, with DEBUG allowed. It dies with the test,
 * however that ends. What goes wrong here fails the running test. */

struct redisReply;

enum {
    RS_ARGS_MAX = 24
};

struct rs_server {
    pid_t pid; /* 0: not running */
    int port;
    char dir[96];                  /* "": none; `log` in it is what the server said */
    const char *args[RS_ARGS_MAX]; /* as for rs_start, the caller's; may be changed before
                                    * rs_restart */
    bool sentinel;
};

/* Starts on a free port and returns when it answers PING. args: further arguments up to a NULL,
 * {"--requirepass", "secret", NULL}; may be NULL. s needs no preparation. */
void rs_start(struct rs_server *s, const char *const *args);
/* A sentinel (quorum 1) that watches the primary under that name; returns when it knows the
 * primary's replicas, so those come first. */
void rs_start_sentinel(struct rs_server *s, const struct rs_server *primary, const char *master,
                       int replicas);
/* Ends it (SIGTERM; SIGKILL if that takes 3 s, or if it is paused) and removes the directory.
 * Harmless on {0} and twice: for a teardown. */
void rs_stop(struct rs_server *s);

/* kill -9: port and directory stay. */
void rs_kill(struct rs_server *s);
/* On the same port, in the same directory, with s->args. Kills it first if it runs. */
void rs_restart(struct rs_server *s);
/* The same, but returns when the port is bound: it may still be loading. */
void rs_restart_loading(struct rs_server *s);
void rs_pause(struct rs_server *s);  /* SIGSTOP, returns when it has stopped */
void rs_resume(struct rs_server *s); /* SIGCONT */

/* One command over a connection of its own, with the password of --requirepass if there is one;
 * blocking. The reply is the caller's (freeReplyObject). An error reply is a reply. */
struct redisReply *rs_command(const struct rs_server *s, const char *format, ...);
/* The same where only success matters: an error reply fails the test. */
void rs_do(const struct rs_server *s, const char *format, ...);

/* A port of 127.0.0.1 that was free a moment ago. */
int rs_free_port(void);

/* A libuv loop and a wheel turned together on the real clock. */
struct rs_loop {
    uv_loop_t uv;
    struct pl_wheel wheel;
    uv_timer_t tick;
};
void rs_loop_init(struct rs_loop *l);
/* Turns until all closing handles are closed; one left open fails the test. */
void rs_loop_done(struct rs_loop *l);
uint64_t rs_now_ms(void *unused); /* the wheel's clock: monotonic */
/* One turn: what is due, what has arrived; waits at most so long for something. */
void rs_turn(struct rs_loop *l, int wait_ms);
/* Turns until cond(arg) holds, which is looked at after each turn: true; or ms have passed: false.
 * cond NULL: for ms. */
bool rs_run_until(struct rs_loop *l, bool (*cond)(void *arg), void *arg, int ms);

#endif
