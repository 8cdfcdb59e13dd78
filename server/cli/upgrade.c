/* Has a parleyd on this machine taken over by the binary that is now where its own was. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/base/clock.h"
#include "server/cli/command.h"

enum {
    LOOK_MS = 100,
    ANSWER_MS = 5000,
    PATIENCE_MS = 60000,
};

/* What GET /livez says. */
struct running {
    int64_t pid, since_ms, workers, renewed, refused;
    char why[160];
};

static bool read_running(struct pl_cli_response *r, struct running *ret)
{
    struct pl_arena a = {0};
    const struct pl_value *v, *why;
    bool good = pl_decode(PL_JSON, (char *)r->body.data, r->body.len, &a, &v, NULL) == PL_OK &&
                pl_value_int(v, "pid", &ret->pid) && pl_value_int(v, "since_ms", &ret->since_ms) &&
                pl_value_int(v, "workers", &ret->workers) &&
                pl_value_int(v, "renewed", &ret->renewed) &&
                pl_value_int(v, "upgrades_refused", &ret->refused);

    if (good) {
        why = pl_value_get(v, "why");
        (void)snprintf(ret->why, sizeof(ret->why), "%.*s",
                       why != NULL && why->type == PL_STRING ? (int)why->u.string.len : 0,
                       why != NULL && why->type == PL_STRING ? why->u.string.s : "");
    }
    pl_arena_done(&a);
    return good;
}

/* False: error says why. */
static bool look(const struct pl_url *u, struct running *ret, char *error, size_t size)
{
    const struct pl_cli_request rq = {.method = "GET", .target = "/livez", .timeout_ms = ANSWER_MS};
    struct pl_cli_failure failure;
    struct pl_cli_response r;
    bool good;

    if (pl_cli_http(u, &rq, &r, &failure) != 0) {
        (void)snprintf(error, size, "%s", failure.text);
        return false;
    }
    good = r.status == 200 && read_running(&r, ret);
    if (!good) {
        (void)snprintf(error, size,
                       "/livez answered %d, and not what was expected: --url is that of "
                       "server.internal_listen, if there is one",
                       r.status);
    }
    pl_cli_response_done(&r);
    return good;
}

/* Somebody else's machine has a process of that number, too. */
static bool is_parleyd(int64_t pid)
{
    char path[64], name[32] = "";
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%" PRId64 "/comm", pid);
    f = fopen(path, "re");
    if (f == NULL) {
        return false;
    }
    (void)!fgets(name, sizeof(name), f);
    (void)fclose(f);
    return strncmp(name, "parleyd", 7) == 0;
}

static int await(const struct pl_cli_args *args, const struct pl_url *u, const struct running *old,
                 uint64_t begun_ms)
{
    uint64_t patience_ms = args->patience_ms > 0 ? (uint64_t)args->patience_ms : PATIENCE_MS;
    struct running now = *old;
    char error[320] = "";

    while (pl_clock_mono_ms() - begun_ms < patience_ms) {
        usleep(LOOK_MS * 1000);
        if (!look(u, &now, error, sizeof(error))) {
            continue; /* one process without workers does not answer for a moment */
        }
        if (now.since_ms != old->since_ms && now.renewed >= now.workers) {
            printf("upgraded: pid %" PRId64 ", %" PRId64 " %s, %" PRIu64 " ms\n", now.pid,
                   now.workers, now.workers == 1 ? "worker" : "workers",
                   pl_clock_mono_ms() - begun_ms);
            return PL_CLI_OK;
        }
        if (now.since_ms == old->since_ms && now.refused != old->refused) {
            return pl_cli_fail(args, PL_CLI_FAILED, "refused, nothing has changed: %s", now.why);
        }
    }
    return pl_cli_fail(args, PL_CLI_FAILED, "%s; see the log of parleyd",
                       error[0] != '\0'                ? error
                       : now.since_ms == old->since_ms ? "it has not begun in time"
                                                       : "its workers are not ready in time");
}

int pl_cli_upgrade(const struct pl_cli_args *args)
{
    uint64_t begun_ms = pl_clock_mono_ms();
    struct running old = {0};
    struct pl_url u;
    char error[320];
    int rc = pl_cli_server_url(args, &u);

    if (rc != 0) {
        return rc;
    }
    if (!look(&u, &old, error, sizeof(error))) {
        return pl_cli_fail(args, PL_CLI_FAILED, "%s", error);
    }
    if (!is_parleyd(old.pid)) {
        return pl_cli_fail(args, PL_CLI_FAILED,
                           "process %" PRId64
                           " is no parleyd here: run this on the machine, and in "
                           "the container, where it runs",
                           old.pid);
    }
    if (kill((pid_t)old.pid, SIGUSR2) != 0) {
        return pl_cli_fail(args, PL_CLI_FAILED, "process %" PRId64 ": %s", old.pid,
                           strerror(errno));
    }
    return await(args, &u, &old, begun_ms);
}
