#include "server/app/tracing.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/core/trace.h"
#include "server/net/http_post.h"

enum {
    INTERVAL_MS = 1000,
    BATCH = 512,
    WAITING_MOST = 4096,
    COMPLAIN_MS = 60000,
    DRAIN_MS = 500,
};

struct pl_tracing {
    struct pl_wheel *wheel;
    uv_loop_t *loop;
    struct pl_timer timer;
    struct pl_http_post *post;
    const char *node;
    size_t sent; /* spans in the request that is under way */
    uint64_t complained_ms;
};

int pl_tracing_check(const struct pl_config *cfg, char *err, unsigned err_size)
{
    struct pl_url u;
    const char *why = cfg->trace_otlp_url[0] != '\0' ? pl_url_parse(cfg->trace_otlp_url, &u) : NULL;

    if (why == NULL) {
        return PL_OK;
    }
    (void)snprintf(err, err_size, "trace.otlp_url: %s", why);
    return PL_ERR_INVALID;
}

static void arm(struct pl_tracing *t)
{
    pl_timer_set(t->wheel, &t->timer, pl_clock_mono_ms() + INTERVAL_MS);
}

static void flush(struct pl_tracing *t);

static void on_answer(void *arg, int http_status, const char *error)
{
    struct pl_tracing *t = arg;
    bool ok = http_status >= 200 && http_status < 300;
    uint64_t now_ms = pl_clock_mono_ms();

    pl_metric_add(ok ? PL_S_SPANS_EXPORTED : PL_S_SPANS_FAILED, t->sent);
    if (!ok && (t->complained_ms == 0 || now_ms - t->complained_ms >= COMPLAIN_MS)) {
        t->complained_ms = now_ms;
        pl_log(PL_LOG_WARN, "trace_export_failed", PL_INT("status", http_status),
               PL_STR("error", error), PL_INT("spans", t->sent));
    }
    t->sent = 0;
    flush(t); /* there may be more than one batch */
}

/* While a request is under way, what comes waits. */
static void flush(struct pl_tracing *t)
{
    struct pl_buf body = {0};

    if (t->sent > 0) {
        return;
    }
    t->sent = pl_trace_take(BATCH, t->node, &body);
    if (t->sent > 0) {
        (void)pl_http_post_send(t->post, "application/json", &body, on_answer, t);
    }
}

static void on_timer(struct pl_timer *timer)
{
    struct pl_tracing *t = pl_container_of(timer, struct pl_tracing, timer);

    flush(t);
    arm(t);
}

struct pl_tracing *pl_tracing_new(const struct pl_config *cfg, const char *node,
                                  struct pl_wheel *wheel, struct uv_loop_s *loop)
{
    struct pl_tracing *t;
    struct pl_url u;

    if (cfg->trace_otlp_url[0] == '\0' || pl_url_parse(cfg->trace_otlp_url, &u) != NULL) {
        return NULL;
    }
    t = pl_alloc(sizeof(*t));
    t->wheel = wheel;
    t->loop = loop;
    t->node = node;
    t->post = pl_http_post_new(loop, &u);
    pl_timer_init(&t->timer, on_timer);
    pl_trace_setup(WAITING_MOST);
    arm(t);
    return t;
}

/* What waits is sent, if that takes no time to speak of. */
static void drain(struct pl_tracing *t)
{
    uint64_t end_ms = pl_clock_mono_ms() + DRAIN_MS;
    struct pollfd events = {.fd = uv_backend_fd(t->loop), .events = POLLIN};

    flush(t);
    while (t->sent > 0 && pl_clock_mono_ms() < end_ms) {
        (void)poll(&events, 1, 20); /* name look-ups wake the loop, too */
        (void)uv_run(t->loop, UV_RUN_NOWAIT);
    }
}

void pl_tracing_free(struct pl_tracing *t)
{
    if (t != NULL) {
        drain(t);
        pl_timer_cancel(t->wheel, &t->timer);
        pl_http_post_free(t->post);
        pl_trace_setup(0);
        free(t);
    }
}
