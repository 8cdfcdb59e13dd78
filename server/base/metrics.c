#include "server/base/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

enum metric_type {
    COUNTER,
    GAUGE,
    HISTOGRAM
};

static const struct metric_row {
    enum metric_type type;
    const char *name, *help;
} metrics[PL_METRIC_COUNT] = {
#define PL_METRIC(id, type, name, help) [PL_M_##id] = {type, name, help},
#define PL_SERIES(id, series, labels)
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
};

static const struct series_row {
    enum pl_metric_id metric;
    const char *labels;
} series_rows[PL_SERIES_COUNT] = {
#define PL_METRIC(id, type, name, help)
#define PL_SERIES(id, series, labels) [PL_S_##series] = {PL_M_##id, labels},
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
};

/* From a local push to a client about to give up. */
static const uint64_t histogram_bounds_us[PL_HISTOGRAM_BOUNDS] = {
    100,   250,    500,    1000,   2500,    5000,    10000,   25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};

static struct pl_metrics own;
static struct pl_metrics *current = &own;
uint64_t *pl_metric_values = own.values;

void pl_metrics_end(struct pl_metrics *m)
{
    for (int s = 0; s < PL_SERIES_COUNT; s++) {
        if (metrics[series_rows[s].metric].type == GAUGE) {
            m->values[s] = 0;
        }
    }
}

void pl_metrics_use(struct pl_metrics *m)
{
    pl_metrics_end(m);
    current = m;
    pl_metric_values = m->values;
}

static uint64_t hash(uint64_t h, const char *text)
{
    do {
        h = (h ^ (unsigned char)*text) * UINT64_C(1099511628211);
    } while (*text++ != '\0');
    return h;
}

/* FNV-1a */
uint64_t pl_metrics_layout(void)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (int s = 0; s < PL_SERIES_COUNT; s++) {
        const struct metric_row *m = &metrics[series_rows[s].metric];

        h = hash(hash(h, m->name), m->type == HISTOGRAM ? "histogram" : series_rows[s].labels);
    }
    for (int i = 0; i < PL_HISTOGRAM_BOUNDS; i++) {
        h = (h ^ histogram_bounds_us[i]) * UINT64_C(1099511628211);
    }
    return h;
}

void pl_metric_observe_us(enum pl_series s, uint64_t us, uint64_t n)
{
    struct pl_histogram *h = &current->histograms[series_rows[s].metric];

    for (unsigned i = 0; i < PL_HISTOGRAM_BOUNDS; i++) {
        if (us <= histogram_bounds_us[i]) {
            h->buckets[i] += n;
            break;
        }
    }
    h->sum_us += us * n;
    pl_metric_values[s] += n;
}

/* ---- export ---- */

static void export_header(struct pl_buf *out, const struct metric_row *m)
{
    static const char *const words[] = {"counter", "gauge", "histogram"};

    pl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, words[m->type]);
}

/* name_suffix{label,labels} */
static void export_name(struct pl_buf *out, const char *name, const char *suffix, const char *label,
                        const char *labels)
{
    bool both = label[0] != '\0' && labels[0] != '\0';

    if (label[0] == '\0' && labels[0] == '\0') {
        pl_buf_printf(out, "%s%s ", name, suffix);
    } else {
        pl_buf_printf(out, "%s%s{%s%s%s} ", name, suffix, label, both ? "," : "", labels);
    }
}

static void export_value(struct pl_buf *out, enum pl_series s,
                         const struct pl_labelled_metrics *set)
{
    const struct series_row *row = &series_rows[s];

    export_name(out, metrics[row->metric].name, "", set->label, row->labels);
    pl_buf_printf(out, "%" PRIu64 "\n", set->metrics->values[s]);
}

static void export_histogram(struct pl_buf *out, enum pl_series s,
                             const struct pl_labelled_metrics *set)
{
    const char *name = metrics[series_rows[s].metric].name;
    const struct pl_histogram *h = &set->metrics->histograms[series_rows[s].metric];
    uint64_t count = set->metrics->values[s], sum_us = h->sum_us, below = 0;
    char le[32];

    for (unsigned i = 0; i < PL_HISTOGRAM_BOUNDS; i++) {
        below += h->buckets[i];
        snprintf(le, sizeof(le), "le=\"%g\"", (double)histogram_bounds_us[i] / 1e6);
        export_name(out, name, "_bucket", set->label, le);
        pl_buf_printf(out, "%" PRIu64 "\n", below);
    }
    count = count > below ? count : below; /* another process may be counting right now */
    export_name(out, name, "_bucket", set->label, "le=\"+Inf\"");
    pl_buf_printf(out, "%" PRIu64 "\n", count);
    export_name(out, name, "_sum", set->label, "");
    pl_buf_printf(out, "%" PRIu64 ".%06" PRIu64 "\n", sum_us / 1000000, sum_us % 1000000);
    export_name(out, name, "_count", set->label, "");
    pl_buf_printf(out, "%" PRIu64 "\n", count);
}

/* Prometheus wants the lines of one metric together. */
static void export_metric(struct pl_buf *out, int from, int to,
                          const struct pl_labelled_metrics *sets, size_t count)
{
    const struct metric_row *m = &metrics[series_rows[from].metric];

    export_header(out, m);
    for (size_t i = 0; i < count; i++) {
        for (int s = from; s < to; s++) {
            if (m->type == HISTOGRAM) {
                export_histogram(out, (enum pl_series)s, &sets[i]);
            } else {
                export_value(out, (enum pl_series)s, &sets[i]);
            }
        }
    }
}

void pl_metrics_export_all(struct pl_buf *out, const struct pl_labelled_metrics *sets, size_t count)
{
    for (int from = 0, to; from < PL_SERIES_COUNT; from = to) {
        to = from + 1;
        while (to < PL_SERIES_COUNT && series_rows[to].metric == series_rows[from].metric) {
            to++;
        }
        export_metric(out, from, to, sets, count);
    }
}

void pl_metrics_export(struct pl_buf *out)
{
    pl_metrics_export_all(out, &(struct pl_labelled_metrics){"", current}, 1);
}
