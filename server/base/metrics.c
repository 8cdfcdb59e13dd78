#include "server/base/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

enum metric_type {
    COUNTER,
    GAUGE,
    MICROSECONDS,
    HISTOGRAM,
    SIZES
};

/* As Prometheus has them. */
static const char *const words[] = {[COUNTER] = "counter",
                                    [GAUGE] = "gauge",
                                    [MICROSECONDS] = "counter",
                                    [HISTOGRAM] = "histogram",
                                    [SIZES] = "histogram"};

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

/* From a local push to a poll that was held to its end. */
const uint64_t pl_histogram_bounds_us[PL_HISTOGRAM_BOUNDS] = {
    100,    250,    500,    1000,    2500,    5000,    10000,    25000,    50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};

const uint64_t pl_histogram_bounds_sizes[PL_HISTOGRAM_BOUNDS] = {
    1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10000, 50000, 100000,
};

static struct pl_metrics own;
static struct pl_metrics *current = &own;
uint64_t *pl_metric_values = own.values;
struct pl_histogram *pl_histograms = own.histograms;

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
    pl_histograms = m->histograms;
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

        h = hash(hash(hash(h, m->name), words[m->type]), series_rows[s].labels);
    }
    for (int i = 0; i < PL_HISTOGRAM_BOUNDS; i++) {
        h = (h ^ pl_histogram_bounds_us[i]) * UINT64_C(1099511628211);
        h = (h ^ pl_histogram_bounds_sizes[i]) * UINT64_C(1099511628211);
    }
    return h;
}

/* ---- export ---- */

static void export_header(struct pl_buf *out, const struct metric_row *m)
{
    pl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, words[m->type]);
}

/* name_suffix{label,labels,le="0.001"} */
static void export_name(struct pl_buf *out, const struct series_row *row, const char *suffix,
                        const char *label, const char *le)
{
    const char *const parts[] = {label, row->labels, le};
    char before = '{';

    pl_buf_printf(out, "%s%s", metrics[row->metric].name, suffix);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i][0] != '\0') {
            pl_buf_printf(out, "%c%s", before, parts[i]);
            before = ',';
        }
    }
    pl_buf_append_str(out, before == ',' ? "} " : " ");
}

static void export_number(struct pl_buf *out, uint64_t n, bool in_us)
{
    if (in_us) {
        pl_buf_printf(out, "%" PRIu64 ".%06" PRIu64 "\n", n / 1000000, n % 1000000);
    } else {
        pl_buf_printf(out, "%" PRIu64 "\n", n);
    }
}

static void export_value(struct pl_buf *out, enum pl_series s,
                         const struct pl_labelled_metrics *set)
{
    const struct series_row *row = &series_rows[s];

    export_name(out, row, "", set->label, "");
    export_number(out, set->metrics->values[s], metrics[row->metric].type == MICROSECONDS);
}

static void export_histogram(struct pl_buf *out, enum pl_series s,
                             const struct pl_labelled_metrics *set)
{
    const struct series_row *row = &series_rows[s];
    const struct pl_histogram *h = &set->metrics->histograms[s];
    bool in_us = metrics[row->metric].type == HISTOGRAM;
    uint64_t count = set->metrics->values[s], sum = h->sum, below = 0;
    char le[32];

    for (unsigned i = 0; i < PL_HISTOGRAM_BOUNDS; i++) {
        below += h->buckets[i];
        (void)snprintf(le, sizeof(le), "le=\"%g\"",
                       in_us ? (double)pl_histogram_bounds_us[i] / 1e6
                             : (double)pl_histogram_bounds_sizes[i]);
        export_name(out, row, "_bucket", set->label, le);
        export_number(out, below, false);
    }
    count = count > below ? count : below; /* another process may be counting right now */
    export_name(out, row, "_bucket", set->label, "le=\"+Inf\"");
    export_number(out, count, false);
    export_name(out, row, "_sum", set->label, "");
    export_number(out, sum, in_us);
    export_name(out, row, "_count", set->label, "");
    export_number(out, count, false);
}

/* Prometheus wants the lines of one metric together. */
static void export_metric(struct pl_buf *out, int from, int to,
                          const struct pl_labelled_metrics *sets, size_t count)
{
    const struct metric_row *m = &metrics[series_rows[from].metric];

    export_header(out, m);
    for (size_t i = 0; i < count; i++) {
        for (int s = from; s < to; s++) {
            if (m->type == HISTOGRAM || m->type == SIZES) {
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
