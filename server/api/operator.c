/* Health and metrics. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "protocol/status.h"
#include "server/api/api_priv.h"
#include "server/base/memory.h"
#include "server/base/metrics.h"

bool pl_api_is_fit(const struct pl_node *n)
{
    struct pl_bus_health bus;

    n->bus_health(n, &bus);
    return bus.reason_count == 0 && pl_memory_state == PL_MEMORY_ENOUGH;
}

/* The node as one: its workers, or this process. */
static void look(const struct pl_node *n, struct pl_together *ret)
{
    struct pl_hub_stats s;
    bool is_ready;

    if (n->together != NULL) {
        n->together(n, ret);
        return;
    }
    pl_hub_stats(n->hub, &s);
    is_ready = !n->draining && pl_api_is_fit(n);
    *ret = (struct pl_together){
        .workers = 1,
        .ready = is_ready,
        .renewed = is_ready,
        .queues = s.queues,
        .pending_polls = s.pending_polls,
        .stopping = n->draining,
    };
}

static const char *health_of(const struct pl_together *t, const struct pl_bus_health *bus)
{
    if (t->stopping) {
        return "draining";
    }
    return strcmp(bus->status, "ok") == 0 && t->ready >= t->workers ? "healthy" : "degraded";
}

void pl_api__health(struct pl_api_request *r)
{
    const struct pl_node *n = r->node;
    bool is_worker = n->together != NULL;
    struct pl_bus_health bus;
    struct pl_together t;
    struct pl_buf out = {0};
    struct pl_writer w;

    n->bus_health(n, &bus);
    look(n, &t);
    pl_writer_init(&w, r->to.codec, &out);
    pl_write_map(&w, 6 + is_worker);
    pl_write_key(&w, "status");
    pl_write_cstr(&w, health_of(&t, &bus));
    pl_write_key(&w, "active_queues");
    pl_write_int(&w, (int64_t)t.queues);
    pl_write_key(&w, "pending_polls");
    pl_write_int(&w, (int64_t)t.pending_polls);
    pl_write_key(&w, "uptime");
    pl_write_int(&w, (int64_t)((pl_hub_mono_ms(n->hub) - n->started_ms) / 1000));
    pl_write_key(&w, "node");
    pl_write_cstr(&w, n->name);
    if (is_worker) {
        pl_write_key(&w, "workers");
        pl_write_map(&w, 2);
        pl_write_key(&w, "wanted");
        pl_write_int(&w, t.workers);
        pl_write_key(&w, "ready");
        pl_write_int(&w, t.ready);
    }
    pl_write_key(&w, "bus");
    pl_write_map(&w, 2 + (bus.error[0] != '\0'));
    pl_write_key(&w, "type");
    pl_write_cstr(&w, bus.type);
    pl_write_key(&w, "status");
    pl_write_cstr(&w, bus.status);
    if (bus.error[0] != '\0') {
        pl_write_key(&w, "error");
        pl_write_cstr(&w, bus.error);
    }
    pl_http_answer_buf(&r->to, 200, &out);
}

/* `parley upgrade` goes by it. */
void pl_api__livez(struct pl_api_request *r)
{
    const struct pl_running *running = r->node->running;
    struct pl_together t;
    struct pl_buf out = {0};
    struct pl_writer w;

    look(r->node, &t);
    pl_writer_init(&w, r->to.codec, &out);
    pl_write_map(&w, 6 + (running->refused > 0));
    pl_write_key(&w, "status");
    pl_write_cstr(&w, "alive");
    pl_write_key(&w, "pid");
    pl_write_int(&w, running->pid);
    pl_write_key(&w, "since_ms");
    pl_write_int(&w, running->since_ms);
    pl_write_key(&w, "workers");
    pl_write_int(&w, t.workers);
    pl_write_key(&w, "renewed");
    pl_write_int(&w, t.renewed);
    pl_write_key(&w, "upgrades_refused");
    pl_write_int(&w, running->refused);
    if (running->refused > 0) {
        pl_write_key(&w, "why");
        pl_write_cstr(&w, running->why);
    }
    pl_http_answer_buf(&r->to, 200, &out);
}

void pl_api__readyz(struct pl_api_request *r)
{
    struct pl_bus_health bus;
    struct pl_together t;
    struct pl_buf out = {0};
    struct pl_writer w;
    const bool is_short = pl_memory_state != PL_MEMORY_ENOUGH;
    bool draining;

    r->node->bus_health(r->node, &bus);
    look(r->node, &t);
    pl_writer_init(&w, r->to.codec, &out);
    pl_write_map(&w, 1);
    if (!t.stopping && t.ready > 0) {
        pl_write_key(&w, "status");
        pl_write_cstr(&w, "ready");
        pl_http_answer_buf(&r->to, 200, &out);
        return;
    }
    draining = t.stopping || r->node->draining;
    pl_write_key(&w, "reasons");
    pl_write_array(&w, bus.reason_count + draining + is_short);
    if (draining) {
        pl_write_cstr(&w, "draining");
    }
    if (is_short) {
        pl_write_cstr(&w, "memory");
    }
    for (size_t i = 0; i < bus.reason_count; i++) {
        pl_write_cstr(&w, bus.reasons[i]);
    }
    pl_http_answer(&r->to, 503, (struct pl_bytes){out.data, out.len}, "Retry-After: 1\r\n");
    pl_buf_done(&out);
}

/* Added to, as a counter that may go on from another process's. */
static void count_processor(void)
{
    static uint64_t counted_us;
    struct rusage r = {0};
    uint64_t us;

    (void)getrusage(RUSAGE_SELF, &r);
    us = (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
         (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
    pl_metric_add(PL_S_CPU, us - counted_us);
    counted_us = us;
}

static uint64_t max_fds(void)
{
    struct rlimit l = {0};

    (void)getrlimit(RLIMIT_NOFILE, &l);
    return l.rlim_cur;
}

void pl_api_set_gauges(const struct pl_node *n)
{
    struct pl_bus_health bus;
    struct pl_hub_stats s;

    n->bus_health(n, &bus);
    pl_hub_stats(n->hub, &s);
    pl_metric_set(PL_S_QUEUES_WEBSOCKET, s.queues_websocket);
    pl_metric_set(PL_S_QUEUES_LONGPOLL, s.pending_polls);
    pl_metric_set(PL_S_QUEUES_NONE, s.queues - s.queues_websocket - s.pending_polls);
    pl_metric_set(PL_S_PENDING_POLLS, s.pending_polls);
    pl_metric_set(PL_S_USERS, s.users);
    pl_metric_set(PL_S_CHANNELS, s.channels);
    pl_metric_set(PL_S_RING_BYTES, s.ring_bytes);
    pl_metric_set(PL_S_LAST_EVENT_ID, (uint64_t)s.applied);
    pl_metric_set(PL_S_RESIDENT_BYTES, pl_memory_resident());
    count_processor();
    pl_metric_set(PL_S_MAX_FDS, max_fds());
    pl_metric_set(PL_S_BUILD_INFO, 1);
}

void pl_api__metrics(struct pl_api_request *r)
{
    struct pl_buf out = {0};

    if (!r->node->has_internal && !r->http->peer.loopback) {
        pl_api__error(r, PL_ERR_FORBIDDEN,
                      "metrics are for loopback peers, or server.internal_listen");
        return;
    }
    pl_api_set_gauges(r->node);
    if (r->node->export_metrics != NULL) {
        r->node->export_metrics(r->node, &out);
    } else {
        pl_metrics_export(&out);
    }
    pl_http_reply(r->to.conn, &(struct pl_http_answer){
                                  .http_status = 200,
                                  .content_type = "text/plain; version=0.0.4; charset=utf-8",
                                  .head_lines = "Cache-Control: no-store\r\n",
                                  .body = {out.data, out.len},
                              });
    pl_buf_done(&out);
}
