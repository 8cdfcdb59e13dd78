#include "server/cli/stats_view.h"

#include <string.h>

#include "server/cli/metrics_text.h"
#include "server/cli/text.h"

enum kind {
    GAUGE,
    BYTES_GAUGE,
    COUNTER,
    BYTES_COUNTER,
    LATENCY,
    BUS
};

struct row {
    const char *title;
    const char *metric;
    enum kind kind;
    bool hides_zero; /* series that are 0: for metrics with many */
};

static const struct row rows[] = {
    {"connections", "realtime_connections", GAUGE, false},
    {"queues", "realtime_active_queues", GAUGE, false},
    {"polls held", "realtime_pending_polls", GAUGE, false},
    {"users", "realtime_user_records", GAUGE, false},
    {"channels", "realtime_channels", GAUGE, false},
    {"published", "realtime_events_published_total", COUNTER, false},
    {"publish errors", "realtime_publish_errors_total", COUNTER, true},
    {"delivered", "realtime_events_delivered_total", COUNTER, false},
    {"latency", "realtime_delivery_latency_seconds", LATENCY, false},
    {"loop lag", "realtime_loop_lag_seconds", LATENCY, false},
    {"sent", "realtime_bytes_sent_total", BYTES_COUNTER, false},
    {"HTTP", "realtime_http_responses_total", COUNTER, true},
    {"accepted", "realtime_accepted_total", COUNTER, false},
    {"refused", "realtime_refused_total", COUNTER, true},
    {"rate limited", "realtime_rate_limited_total", COUNTER, true},
    {"registrations", "realtime_queue_registrations_total", COUNTER, false},
    {"queues ended", "realtime_queues_ended_total", COUNTER, true},
    {"resumes", "realtime_resumes_total", COUNTER, true},
    {"catch-ups", "realtime_catchup_required_total", COUNTER, true},
    {"closes", "realtime_websocket_closes_total", COUNTER, true},
    {"bus", NULL, BUS, false},
    {"rings", "realtime_ring_bytes", BYTES_GAUGE, false},
    {"memory", "process_resident_memory_bytes", BYTES_GAUGE, false},
};

static void append(struct pl_buf *out, struct pl_str s)
{
    pl_buf_append(out, s.s, s.len);
}

/* from="none",to="websocket" -> "none>websocket " */
static void append_label_values(struct pl_buf *out, struct pl_str labels)
{
    const char *at = labels.s, *end = labels.s + labels.len;
    bool first = true;

    while (at < end) {
        const char *open = memchr(at, '"', (size_t)(end - at));
        const char *close = open ? memchr(open + 1, '"', (size_t)(end - open - 1)) : NULL;

        if (!close) {
            break;
        }
        pl_buf_append_str(out, first ? "" : ">");
        append(out, (struct pl_str){open + 1, (size_t)(close - open - 1)});
        first = false;
        at = close + 1;
    }
    pl_buf_append_str(out, first ? "" : " ");
}

static void append_number(struct pl_buf *out, enum kind kind, double n)
{
    char text[PL_CLI_TEXT_SIZE];

    if (kind == BYTES_GAUGE || kind == BYTES_COUNTER) {
        pl_cli_format_bytes(n, text);
    } else {
        pl_cli_format_count(n, text);
    }
    pl_buf_append_str(out, text);
}

/* " (12.5/s)". A counter that fell is a server that was restarted. */
static void append_rate(struct pl_buf *out, const struct pl_cli_stats *s, enum kind kind,
                        const struct pl_cli_sample *now)
{
    char text[PL_CLI_TEXT_SIZE];
    double old, rate;

    if (s->before.len == 0 || s->elapsed_s <= 0 ||
        !pl_cli_metrics_find(s->before, now->name, now->labels, &old) || now->value < old) {
        return;
    }
    rate = (now->value - old) / s->elapsed_s;
    if (kind == BYTES_COUNTER) {
        pl_cli_format_bytes(rate, text);
    } else {
        pl_cli_format_rate(rate, text);
    }
    pl_buf_printf(out, " (%s/s)", text);
}

static void append_latency(struct pl_buf *out, const struct pl_cli_stats *s, const char *metric)
{
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
    char text[PL_CLI_TEXT_SIZE];
    double v;

    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        if (!pl_cli_metrics_quantile(s->before, s->after, metric, quantiles[i].q, &v)) {
            pl_buf_append_str(out, "-");
            return;
        }
        pl_cli_format_seconds(v, text);
        pl_buf_printf(out, "%s%s %s", i > 0 ? "   " : "", quantiles[i].name, text);
    }
}

static void append_series(struct pl_buf *out, const struct pl_cli_stats *s, const struct row *r)
{
    struct pl_str text = s->after;
    struct pl_cli_sample sample;
    bool any = false;

    while (pl_cli_metrics_next(&text, &sample)) {
        if (!pl_str_eq(sample.name, (struct pl_str){r->metric, strlen(r->metric)}) ||
            (r->hides_zero && sample.value == 0)) {
            continue;
        }
        pl_buf_append_str(out, any ? "   " : "");
        append_label_values(out, sample.labels);
        append_number(out, r->kind, sample.value);
        if (r->kind == COUNTER || r->kind == BYTES_COUNTER) {
            append_rate(out, s, r->kind, &sample);
        }
        any = true;
    }
    pl_buf_append_str(out, any ? "" : "-");
}

static double number_member(const struct pl_value *v, const char *key)
{
    const struct pl_value *m = pl_value_get(v, key);

    return !m                        ? 0
           : m->type == PL_INT_VALUE ? (double)m->u.integer
           : m->type == PL_REAL      ? m->u.real
                                     : 0;
}

/* How events arrive, in words; the numbers are those of the metric's help. */
static void append_feed(struct pl_buf *out, const struct pl_cli_stats *s)
{
    static const char *const feeds[] = {"no feed", "reading logs", "Pub/Sub"};
    static const char *const breakers[] = {"connected", "connecting", "not connected"};
    double feed, breaker;

    if (pl_cli_metrics_find(s->after, PL_LIT("realtime_bus_breaker_state"), PL_LIT(""), &breaker) &&
        pl_cli_metrics_find(s->after, PL_LIT("realtime_bus_feed"), PL_LIT(""), &feed)) {
        pl_buf_printf(out, "%s, %s   canary ",
                      breaker >= 0 && breaker < 3 ? breakers[(int)breaker] : "?",
                      feed >= 0 && feed < 3 ? feeds[(int)feed] : "?");
        append_latency(out, s, "realtime_bus_canary_seconds");
    } else {
        pl_buf_append_byte(out, '-');
    }
}

/* A memory bus has nothing to connect to. */
static void append_bus(struct pl_buf *out, const struct pl_cli_stats *s)
{
    struct pl_arena arena = {0};
    const struct pl_value *v = NULL, *type = NULL;

    if (s->health.len > 0 &&
        pl_decode(PL_JSON, s->health.s, s->health.len, &arena, &v, NULL) == 0) {
        type = pl_value_get(pl_value_get(v, "bus"), "type");
    }
    if (type && type->type == PL_STRING && pl_str_eq(type->u.string, PL_LIT("memory"))) {
        append(out, type->u.string);
    } else {
        append_feed(out, s);
    }
    pl_arena_done(&arena);
}

static void append_health(struct pl_buf *out, struct pl_str health)
{
    char uptime[PL_CLI_TEXT_SIZE];
    struct pl_arena arena = {0};
    const struct pl_value *v = NULL, *status;

    if (health.len > 0 && pl_decode(PL_JSON, health.s, health.len, &arena, &v, NULL) == 0) {
        status = pl_value_get(v, "status");
        pl_cli_format_uptime(number_member(v, "uptime"), uptime);
        pl_buf_append_str(out, "   ");
        append(out, status && status->type == PL_STRING ? status->u.string : PL_LIT("unknown"));
        pl_buf_printf(out, ", up %s", uptime);
    }
    pl_arena_done(&arena);
}

static void append_version(struct pl_buf *out, struct pl_str text)
{
    struct pl_cli_sample s;
    struct pl_str version;

    while (pl_cli_metrics_next(&text, &s)) {
        if (pl_str_eq(s.name, PL_LIT("realtime_build_info")) &&
            pl_cli_metrics_label(s.labels, "version", &version)) {
            pl_buf_append_byte(out, ' ');
            append(out, version);
            return;
        }
    }
}

void pl_cli_stats_render(const struct pl_cli_stats *s, struct pl_buf *out)
{
    pl_buf_append_str(out, "parleyd");
    append_version(out, s->after);
    append_health(out, s->health);
    pl_buf_append_byte(out, '\n');
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        pl_buf_printf(out, "%-15s ", rows[i].title);
        if (rows[i].kind == LATENCY) {
            append_latency(out, s, rows[i].metric);
        } else if (rows[i].kind == BUS) {
            append_bus(out, s);
        } else {
            append_series(out, s, &rows[i]);
        }
        pl_buf_append_byte(out, '\n');
    }
}

/* ---- several ---- */

enum {
    CELL = 14
};

static double sum_of(struct pl_str text, const char *metric)
{
    struct pl_cli_sample s;
    double sum = 0;

    while (pl_cli_metrics_next(&text, &s)) {
        sum += pl_str_eq(s.name, (struct pl_str){metric, strlen(metric)}) ? s.value : 0;
    }
    return sum;
}

static void append_cell(struct pl_buf *out, const struct pl_cli_stats *s, const struct row *r)
{
    char text[PL_CLI_TEXT_SIZE] = "-";
    double now, v;

    if (r->kind == LATENCY) {
        if (pl_cli_metrics_quantile(s->before, s->after, r->metric, 0.99, &v)) {
            pl_cli_format_seconds(v, text);
        }
    } else if (r->kind == COUNTER) {
        now = sum_of(s->after, r->metric) - sum_of(s->before, r->metric);
        if (s->before.len > 0 && s->elapsed_s > 0 && now >= 0) {
            pl_cli_format_rate(now / s->elapsed_s, text);
        }
    } else if (r->kind == BYTES_GAUGE) {
        pl_cli_format_bytes(sum_of(s->after, r->metric), text);
    } else {
        pl_cli_format_count(sum_of(s->after, r->metric), text);
    }
    pl_buf_printf(out, "%*s", CELL, text);
}

static const struct row columns[] = {
    {"connections", "realtime_connections", GAUGE, false},
    {"queues", "realtime_active_queues", GAUGE, false},
    {"published/s", "realtime_events_published_total", COUNTER, false},
    {"delivered/s", "realtime_events_delivered_total", COUNTER, false},
    {"latency p99", "realtime_delivery_latency_seconds", LATENCY, false},
    {"loop lag p99", "realtime_loop_lag_seconds", LATENCY, false},
    {"memory", "process_resident_memory_bytes", BYTES_GAUGE, false},
};
enum {
    COLUMN_COUNT = sizeof(columns) / sizeof(columns[0])
};

static void append_line(struct pl_buf *out, const char *name, struct pl_str worker,
                        const struct pl_cli_stats *s)
{
    pl_buf_printf(out, "%-28s%-7.*s", name, (int)worker.len, worker.s);
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        append_cell(out, s, &columns[i]);
    }
    pl_buf_append_byte(out, '\n');
}

/* The next worker that the text tells of, by a metric that every worker has one of. */
static bool next_worker(struct pl_str *text, struct pl_str *ret)
{
    struct pl_cli_sample s;

    while (pl_cli_metrics_next(text, &s)) {
        if (pl_str_eq(s.name, PL_LIT("realtime_pending_polls")) &&
            pl_cli_metrics_label(s.labels, "worker", ret)) {
            return true;
        }
    }
    return false;
}

bool pl_cli_stats_has_workers(const struct pl_cli_stats_node *nodes, size_t count)
{
    struct pl_str worker;

    for (size_t i = 0; i < count; i++) {
        struct pl_str text = nodes[i].stats.after;

        if (nodes[i].error == NULL && next_worker(&text, &worker)) {
            return true;
        }
    }
    return false;
}

static void append_node(struct pl_buf *out, const struct pl_cli_stats_node *n)
{
    struct pl_str text = n->stats.after, worker;
    bool any = false;

    while (next_worker(&text, &worker)) {
        struct pl_buf before = {0}, after = {0};
        struct pl_cli_stats s = n->stats;

        pl_cli_metrics_merge(n->stats.before, worker, &before);
        pl_cli_metrics_merge(n->stats.after, worker, &after);
        s.before = (struct pl_str){(const char *)before.data, before.len};
        s.after = (struct pl_str){(const char *)after.data, after.len};
        append_line(out, any ? "" : n->name, worker, &s);
        any = true;
        pl_buf_done(&before);
        pl_buf_done(&after);
    }
    if (!any) {
        append_line(out, n->name, PL_LIT("-"), &n->stats);
    }
}

void pl_cli_stats_table(const struct pl_cli_stats_node *nodes, size_t count, struct pl_buf *out)
{
    pl_buf_printf(out, "%-28s%-7s", "node", "worker");
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        pl_buf_printf(out, "%*s", CELL, columns[i].title);
    }
    pl_buf_append_byte(out, '\n');
    for (size_t i = 0; i < count; i++) {
        if (nodes[i].error != NULL) {
            pl_buf_printf(out, "%-28s%s\n", nodes[i].name, nodes[i].error);
        } else {
            append_node(out, &nodes[i]);
        }
    }
}
