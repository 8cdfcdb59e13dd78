#include "server/base/metrics.h"

#include <inttypes.h>
#include <stddef.h>

enum metric {
#define PL_METRIC(id, type, name, help) METRIC_##id,
#define PL_SERIES(id, series, labels)
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
    METRIC_COUNT
};

enum metric_type {
    COUNTER,
    GAUGE,
    HISTOGRAM
};

static const struct metric_row {
    enum metric_type type;
    const char *name, *help;
} metrics[METRIC_COUNT] = {
#define PL_METRIC(id, type, name, help) [METRIC_##id] = {type, name, help},
#define PL_SERIES(id, series, labels)
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
};

static const struct series_row {
    enum metric metric;
    const char *labels;
} series_rows[PL_SERIES_COUNT] = {
#define PL_METRIC(id, type, name, help)
#define PL_SERIES(id, series, labels) [PL_S_##series] = {METRIC_##id, labels},
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
};

/* From a local push to a client about to give up. */
static const uint64_t pl_histogram_bounds_us[] = {
    100,   250,    500,    1000,   2500,    5000,    10000,   25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};
enum {
    BOUNDS = sizeof(pl_histogram_bounds_us) / sizeof(pl_histogram_bounds_us[0])
};

/* Each observation is in one bucket here; the export adds them up. The count of all is the series'
 * value. */
static struct histogram {
    uint64_t buckets[BOUNDS];
    uint64_t sum_us;
} histograms[METRIC_COUNT];

uint64_t pl_metric_values[PL_SERIES_COUNT];

void pl_metric_observe_us(enum pl_series s, uint64_t us, uint64_t n)
{
    struct histogram *h = &histograms[series_rows[s].metric];

    for (unsigned i = 0; i < BOUNDS; i++) {
        if (us <= pl_histogram_bounds_us[i]) {
            h->buckets[i] += n;
            break;
        }
    }
    h->sum_us += us * n;
    pl_metric_values[s] += n;
}

static void export_header(struct pl_buf *out, const struct metric_row *m)
{
    static const char *const words[] = {"counter", "gauge", "histogram"};

    pl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, words[m->type]);
}

static void export_value(struct pl_buf *out, enum pl_series s)
{
    const struct series_row *row = &series_rows[s];
    const char *name = metrics[row->metric].name;

    if (row->labels[0]) {
        pl_buf_printf(out, "%s{%s} %" PRIu64 "\n", name, row->labels, pl_metric_values[s]);
    } else {
        pl_buf_printf(out, "%s %" PRIu64 "\n", name, pl_metric_values[s]);
    }
}

static void export_histogram(struct pl_buf *out, enum pl_series s)
{
    const char *name = metrics[series_rows[s].metric].name;
    const struct histogram *h = &histograms[series_rows[s].metric];
    uint64_t below = 0;

    for (unsigned i = 0; i < BOUNDS; i++) {
        below += h->buckets[i];
        pl_buf_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                      (double)pl_histogram_bounds_us[i] / 1e6, below);
    }
    pl_buf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, pl_metric_values[s]);
    pl_buf_printf(out, "%s_sum %" PRIu64 ".%06" PRIu64 "\n", name, h->sum_us / 1000000,
                  h->sum_us % 1000000);
    pl_buf_printf(out, "%s_count %" PRIu64 "\n", name, pl_metric_values[s]);
}

void pl_metrics_export(struct pl_buf *out)
{
    for (int s = 0; s < PL_SERIES_COUNT; s++) {
        enum metric metric = series_rows[s].metric;

        if (s == 0 || series_rows[s - 1].metric != metric) {
            export_header(out, &metrics[metric]);
        }
        if (metrics[metric].type == HISTOGRAM) {
            export_histogram(out, (enum pl_series)s);
        } else {
            export_value(out, (enum pl_series)s);
        }
    }
}
