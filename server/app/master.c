#define _GNU_SOURCE /* pipe2 */

#include "server/app/master.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/app/board.h"
#include "server/app/dev.h"
#include "server/app/life.h"
#include "server/app/node_bus.h"
#include "server/app/process.h"
#include "server/app/settings.h"
#include "server/app/supervisor.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/net/net.h"

enum {
    KILL_AFTER_MS = 15000, /* beyond server.drain_time a worker that does not end is killed */
};

static const int heard[] = {SIGHUP, SIGTERM, SIGINT, SIGUSR2, SIGCHLD};

struct master {
    const struct pl_server_options *options;
    struct pl_config *cfg;
    struct pl_workers workers;
    struct pl_board *board;
    int board_fd;
    int sockets[2];
    int controls[PL_SLOTS]; /* our end of each worker's line; -1: none */
    int dying[PL_SLOTS];    /* pid of one whose slot is another's already; 0: none */
    int deaths[2];          /* a pipe of pids */
    int signals;
    int checking; /* pid of the new binary that looks at the configuration; 0: none */
    bool announced;
    bool stopping;
    bool failed;
    uint64_t kill_at_ms; /* 0: not yet */
};

static uint64_t now_ms(void)
{
    return pl_clock_mono_ms();
}

/* ---- workers ---- */

/* A worker says one byte on its line when it accepts. The line's end tells it that the master has
 * gone. */
static int start_worker(void *arg, unsigned slot)
{
    struct master *m = arg;
    int line[2];
    struct pl_inherited in;
    char name[32];
    char *value;
    int pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, line) != 0) {
        return -1;
    }
    pl_inherited_init(&in);
    memcpy(in.sockets, m->sockets, sizeof(in.sockets));
    in.board = m->board_fd;
    in.slot = (int)slot;
    in.control = line[1];
    in.wait = pl_workers_count(&m->workers, PL_WORKER_SERVING) > 0;
    if (!m->board->slots[slot].used) {
        pl_life_init(&m->board->slots[slot].life);
    }
    value = pl_inherited_write(&in);
    (void)snprintf(name, sizeof(name), "parleyd: worker %u", slot);
    pid = pl_process_start(&(struct pl_program){
        .path = PL_PROCESS_SELF,
        .argv = m->options->argv,
        .name = name,
        .variable = PL_INHERIT_WORKER,
        .value = value,
        .keep = (const int[]){in.sockets[0], in.sockets[1], in.board, in.control},
        .keep_count = 4,
    });
    free(value);
    close(line[1]);
    if (pid < 0) {
        pl_log(PL_LOG_ERROR, "worker_not_started", PL_INT("worker", slot),
               PL_STR("error", strerror(errno)));
        close(line[0]);
        return -1;
    }
    m->controls[slot] = line[0];
    m->board->slots[slot].used = m->board->slots[slot].lives = 1;
    m->board->slots[slot].since_ms = m->board->running.since_ms;
    pl_log(PL_LOG_INFO, "worker_started", PL_INT("worker", slot), PL_INT("pid", pid));
    return pid;
}

static void leave_worker(void *arg, unsigned slot, bool at_once)
{
    const struct master *m = arg;

    m->board->slots[slot].draining = 1;
    (void)kill(m->workers.slots[slot].pid, at_once ? SIGINT : SIGTERM);
}

static const struct pl_workers_ops workers_ops = {start_worker, leave_worker};

/* ---- the listening sockets ---- */

/* Scripts and tests wait for these lines. */
static void announce(struct master *m)
{
    char address[PL_ADDRESS_SIZE];

    m->announced = true;
    for (int i = 0; i < 2; i++) {
        if (m->sockets[i] >= 0) {
            pl_net_bound(m->sockets[i], address);
            printf(i == 0 ? "parleyd ready on http://%s\n" : "parleyd internal on http://%s\n",
                   address);
        }
    }
    fflush(stdout);
}

/* Those that are not open yet. PL_ERR_INVALID with a sentence. */
static int open_sockets(const struct pl_config *cfg, int sockets[2], char *err, size_t err_size)
{
    const char *addresses[] = {cfg->server_listen, cfg->server_internal_listen};
    int r = PL_OK;

    for (int i = 0; i < 2 && r == PL_OK; i++) {
        if (sockets[i] < 0 && addresses[i][0] != '\0') {
            r = pl_net_listen(addresses[i], &sockets[i], err, err_size);
        }
    }
    return r;
}

static void close_socket(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* The sockets as another configuration wants them: what is the same stays open. */
static int change_sockets(struct master *m, const struct pl_config *fresh, char *err,
                          size_t err_size)
{
    const char *before[] = {m->cfg->server_listen, m->cfg->server_internal_listen};
    const char *after[] = {fresh->server_listen, fresh->server_internal_listen};
    int sockets[2];

    for (int i = 0; i < 2; i++) {
        sockets[i] = strcmp(before[i], after[i]) == 0 ? m->sockets[i] : -1;
    }
    if (open_sockets(fresh, sockets, err, err_size) != PL_OK) {
        for (int i = 0; i < 2; i++) {
            if (sockets[i] != m->sockets[i]) {
                close_socket(&sockets[i]);
            }
        }
        return PL_ERR_INVALID;
    }
    for (int i = 0; i < 2; i++) {
        if (sockets[i] != m->sockets[i]) {
            close_socket(&m->sockets[i]); /* the old workers have it still */
            m->sockets[i] = sockets[i];
        }
    }
    return PL_OK;
}

/* ---- reload ---- */

static void refuse(const char *what, const char *why)
{
    pl_log(PL_LOG_ERROR, what, PL_STR("error", why), PL_STR("kept", "what was running"));
    pl_supervisor_notify("READY=1");
}

static void tell_reload(struct master *m)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (pl_worker_runs(&m->workers.slots[i])) {
            (void)kill(m->workers.slots[i].pid, SIGHUP);
        }
    }
}

/* How many workers, of a configuration that may want none: a master stays one. */
static unsigned wanted(const struct master *m, const struct pl_config *cfg)
{
    const char *why;
    unsigned count = pl_settings_workers(m->options, cfg, &why);

    return count > 0 ? count : 1;
}

/* What only new workers can heed: they come, and then the old ones drain. */
static void renew(struct master *m, struct pl_config *fresh, const char *option)
{
    char why[256];

    if (pl_node_bus_is_embedded(fresh)) {
        refuse("reload_refused", "bus.url: workers cannot share memory:, it takes a restart");
        pl_config_free(fresh);
        return;
    }
    if (change_sockets(m, fresh, why, sizeof(why)) != PL_OK) {
        refuse("reload_refused", why);
        pl_config_free(fresh);
        return;
    }
    pl_config_free(m->cfg);
    m->cfg = fresh;
    m->board->wanted = wanted(m, fresh);
    if (pl_workers_begin(&m->workers, m->board->wanted, now_ms())) {
        pl_log(PL_LOG_INFO, "reload_by_new_workers", PL_STR("option", option),
               PL_INT("workers", m->board->wanted));
    } else {
        refuse("reload_refused", "too many workers are leaving still; they are hurried");
    }
}

static void reload(struct master *m)
{
    struct pl_dev_keys dev_keys = {.jwt = ""};
    struct pl_config_error error;
    const char *changed = NULL;
    struct pl_config *fresh;
    struct pl_auth *auth;

    pl_supervisor_notify_reloading();
    if (pl_settings_load(m->options, &dev_keys, &fresh, &auth, &error) != PL_OK) {
        refuse("reload_refused", error.text);
        return;
    }
    pl_auth_free(auth);
    pl_settings_set_up_log(fresh);
    pl_config_apply_live(m->cfg, fresh, &changed);
    if (changed != NULL) {
        renew(m, fresh, changed);
        return;
    }
    pl_config_free(fresh);
    tell_reload(m);
    pl_log(PL_LOG_INFO, "reloaded",
           PL_INT("workers", pl_workers_count(&m->workers, PL_WORKER_SERVING)));
    pl_supervisor_notify("READY=1");
}

/* ---- upgrade ---- */

static void refuse_upgrade(struct master *m, const char *why)
{
    pl_running_refuse(&m->board->running, why);
    refuse("upgrade_refused", why);
}

static void check_new_binary(struct master *m)
{
    if (m->checking != 0 || m->stopping) {
        return;
    }
    pl_supervisor_notify_reloading();
    m->checking = pl_process_check_config(m->options->argv);
    if (m->checking < 0) {
        m->checking = 0;
        refuse_upgrade(m, strerror(errno));
    }
}

/* Returns only if it fails. */
static void become_new_binary(struct master *m)
{
    int keep[PL_SLOTS + 3] = {m->sockets[0], m->sockets[1], m->board_fd};
    size_t keep_count = 3;
    struct pl_inherited in;
    char *value;

    pl_inherited_init(&in);
    memcpy(in.sockets, m->sockets, sizeof(in.sockets));
    in.board = m->board_fd;
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        const struct pl_worker *k = &m->workers.slots[i];

        if (pl_worker_runs(k)) {
            in.workers[in.worker_count].slot = (int)i;
            in.workers[in.worker_count].pid = k->pid;
            in.workers[in.worker_count].control = m->controls[i];
            in.workers[in.worker_count++].state = (int)k->state;
            keep[keep_count++] = m->controls[i];
        }
    }
    value = pl_inherited_write(&in);
    pl_log(PL_LOG_INFO, "upgrading", PL_STR("binary", pl_process_path()));
    pl_process_become(&(struct pl_program){
        .path = pl_process_path(),
        .argv = m->options->argv,
        .variable = PL_INHERIT_MASTER,
        .value = value,
        .keep = keep,
        .keep_count = keep_count,
    });
    free(value);
    refuse_upgrade(m, strerror(errno));
}

/* ---- stop ---- */

static void stop(struct master *m, int signum)
{
    bool at_once = m->stopping || signum == SIGINT;

    pl_log(PL_LOG_INFO, "stopping", PL_INT("signal", signum),
           PL_INT("workers", pl_workers_running(&m->workers)));
    m->stopping = true;
    m->board->stopping = 1;
    pl_supervisor_notify("STOPPING=1");
    close_socket(&m->sockets[0]); /* the last worker that accepts takes what waits */
    pl_workers_stop(&m->workers, at_once);
    m->kill_at_ms = now_ms() + KILL_AFTER_MS + (at_once ? 0 : (uint64_t)m->cfg->server_drain_time);
}

static void kill_all(struct master *m)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (pl_worker_runs(&m->workers.slots[i])) {
            pl_log(PL_LOG_ERROR, "worker_killed", PL_INT("worker", i));
            (void)kill(m->workers.slots[i].pid, SIGKILL);
        }
    }
    m->kill_at_ms = 0;
}

/* ---- what happens ---- */

static void on_complete(struct master *m)
{
    if (!m->announced) {
        announce(m);
    }
    pl_log(PL_LOG_INFO, "workers_ready",
           PL_INT("workers", pl_workers_count(&m->workers, PL_WORKER_SERVING)),
           PL_INT("leaving", pl_workers_count(&m->workers, PL_WORKER_LEAVING)));
    pl_supervisor_notify("READY=1");
}

static void on_line(struct master *m, unsigned slot)
{
    char byte;
    ssize_t n = read(m->controls[slot], &byte, 1);

    if (n > 0) {
        pl_life_watch(&m->board->slots[slot].life, m->deaths[1], m->workers.slots[slot].pid);
        if (pl_workers_serving(&m->workers, slot)) {
            on_complete(m);
        }
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_socket(&m->controls[slot]);
    }
}

static void log_end(bool expected, unsigned slot, int pid, int status)
{
    bool killed = WIFSIGNALED(status);

    pl_log(expected ? PL_LOG_INFO : PL_LOG_ERROR, expected ? "worker_left" : "worker_died",
           PL_INT("worker", slot), PL_INT("pid", pid),
           PL_INT(killed ? "signal" : "status", killed ? WTERMSIG(status) : WEXITSTATUS(status)));
}

static void vacate(struct master *m, unsigned slot, int pid)
{
    (void)pl_workers_ended(&m->workers, pid, now_ms());
    pl_board_ended(m->board, slot);
    close_socket(&m->controls[slot]);
}

/* One that nobody told to go is dying: another is due at once, not when the kernel has closed the last
 * of its connections. */
static void read_deaths(struct master *m)
{
    int pid;

    while (read(m->deaths[0], &pid, sizeof(pid)) == (ssize_t)sizeof(pid)) {
        int slot = pl_workers_find(&m->workers, pid);

        if (slot >= 0 && m->workers.slots[slot].state == PL_WORKER_SERVING && m->dying[slot] == 0) {
            m->dying[slot] = pid;
            vacate(m, (unsigned)slot, pid);
        }
    }
}

static void on_worker_end(struct master *m, unsigned slot, int pid, int status)
{
    bool told_to_go = m->stopping || m->workers.slots[slot].state == PL_WORKER_LEAVING;

    log_end(told_to_go, slot, pid, status);
    vacate(m, slot, pid);
    /* One that never served, at the first start: whoever started us wants to know. */
    if (!m->announced && !m->stopping && WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        m->failed = true;
        stop(m, SIGINT);
    }
}

static bool was_dying(struct master *m, int pid, int status)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        if (m->dying[i] == pid) {
            log_end(false, i, pid, status);
            m->dying[i] = 0;
            return true;
        }
    }
    return false;
}

static void reap(struct master *m)
{
    int status;
    int pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        int slot = pl_workers_find(&m->workers, pid);

        if (slot >= 0) {
            on_worker_end(m, (unsigned)slot, pid, status);
        } else if (!was_dying(m, pid, status) && pid == m->checking) {
            m->checking = 0;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
                become_new_binary(m);
            } else {
                refuse_upgrade(m, "the new binary does not accept the configuration");
            }
        }
    }
}

static void on_signal(struct master *m, int signum)
{
    if (signum == SIGTERM || signum == SIGINT) {
        stop(m, signum);
    } else if (signum == SIGHUP && !m->stopping) {
        reload(m);
    } else if (signum == SIGUSR2) {
        check_new_binary(m);
    }
}

/* What was signalled is heeded before the dead are counted: a Ctrl-C reaches workers, too. */
static void read_signals(struct master *m)
{
    struct signalfd_siginfo info;

    while (read(m->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        on_signal(m, (int)info.ssi_signo);
    }
}

/* ---- the loop ---- */

static int64_t wait_ms(const struct master *m)
{
    int64_t wait = pl_workers_wait_ms(&m->workers, now_ms());
    int64_t left = (int64_t)(m->kill_at_ms - now_ms());

    if (m->kill_at_ms == 0) {
        return wait;
    }
    left = left > 0 ? left : 0;
    return wait < 0 || left < wait ? left : wait;
}

static void turn(struct master *m)
{
    struct pollfd fds[PL_SLOTS + 2];

    for (unsigned i = 0; i < PL_SLOTS; i++) {
        fds[i] = (struct pollfd){.fd = m->controls[i], .events = POLLIN};
    }
    fds[PL_SLOTS] = (struct pollfd){.fd = m->signals, .events = POLLIN};
    fds[PL_SLOTS + 1] = (struct pollfd){.fd = m->deaths[0], .events = POLLIN};
    if (poll(fds, PL_SLOTS + 2, (int)wait_ms(m)) > 0) {
        for (unsigned i = 0; i < PL_SLOTS; i++) {
            if (fds[i].revents != 0) {
                on_line(m, i);
            }
        }
        read_signals(m);
        read_deaths(m);
    }
    reap(m);
    pl_workers_run(&m->workers, now_ms());
    if (m->kill_at_ms != 0 && now_ms() >= m->kill_at_ms) {
        kill_all(m);
    }
}

static void hear_signals(struct master *m)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(heard) / sizeof(heard[0]); i++) {
        sigaddset(&set, heard[i]);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    m->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* These descriptors and the board stay until the process ends: threads that wait for a death use them. */
static void hear_deaths(struct master *m)
{
    PL_ASSERT(pipe2(m->deaths, O_CLOEXEC | O_NONBLOCK) == 0);
}

/* ---- beginning ---- */

static void keep_from_workers(int fd)
{
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

static void take_over(struct master *m, const struct pl_inherited *in)
{
    for (int i = 0; i < 2; i++) {
        m->sockets[i] = in->sockets[i];
        keep_from_workers(m->sockets[i]);
    }
    m->board_fd = in->board;
    keep_from_workers(m->board_fd);
    m->board = m->board_fd >= 0 ? pl_board_open(m->board_fd) : NULL;
    if (m->board == NULL) {
        close_socket(&m->board_fd);
        m->board = pl_board_new(&m->board_fd);
    }
    for (unsigned i = 0; i < in->worker_count; i++) {
        unsigned slot = (unsigned)in->workers[i].slot;

        pl_workers_adopt(&m->workers, slot, in->workers[i].pid,
                         (enum pl_worker_state)in->workers[i].state, now_ms());
        m->controls[slot] = in->workers[i].control;
        keep_from_workers(m->controls[slot]);
    }
    m->announced = in->worker_count > 0;
}

static void unmake(struct master *m)
{
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        close_socket(&m->controls[i]);
    }
    close_socket(&m->sockets[0]);
    close_socket(&m->sockets[1]);
    close_socket(&m->signals);
    close_socket(&m->board_fd);
    pl_config_free(m->cfg);
    free(m);
}

int pl_master_run(const struct pl_server_options *o, struct pl_config *cfg, unsigned workers,
                  const struct pl_inherited *in)
{
    struct master *m = pl_alloc(sizeof(*m));
    char error[256];
    int status = 1;

    m->options = o;
    m->cfg = cfg;
    for (unsigned i = 0; i < PL_SLOTS; i++) {
        m->controls[i] = -1;
    }
    pl_workers_init(&m->workers, &workers_ops, m);
    hear_signals(m);
    hear_deaths(m);
    take_over(m, in);
    (void)pl_process_path();
    if (open_sockets(cfg, m->sockets, error, sizeof(error)) != PL_OK) {
        fprintf(stderr, "parleyd: %s\n", error);
    } else {
        m->board->wanted = workers > 0 ? workers : 1;
        m->board->stopping = 0;
        m->board->running = pl_running_now();
        (void)pl_workers_begin(&m->workers, m->board->wanted, now_ms());
        pl_workers_run(&m->workers, now_ms());
        while (pl_workers_running(&m->workers) > 0 || !m->stopping) {
            turn(m);
        }
        pl_log(PL_LOG_INFO, "stopped", PL_INT("workers", 0));
        status = m->failed;
    }
    unmake(m);
    return status;
}
