#ifndef PL_BASE_METRICS_H
#define PL_BASE_METRICS_H

#include <stdint.h>

#include "server/base/buf.h"

/* What the server counts, from one table (metrics.def). A metric has a name, a type and one or more
 * series that differ in their labels; labels are bounded and fixed at compile time (never a user,
 * queue or channel). Values are process-wide and belong to the one event loop: no locks. They may lie
 * in memory shared with other processes, which read them: each is one aligned word.
 *
 * Rows:  PL_METRIC(id, type, "name", "help")  then one or more
 *        PL_SERIES(id, series_id, "label=\"value\",…")   ("" for none)
 * Types: COUNTER, GAUGE; MICROSECONDS is a counter of microseconds, exported in seconds; HISTOGRAM
 * counts times, taken in microseconds and exported in seconds; SIZES is a histogram of numbers. Each
 * series of a histogram has buckets of its own, within bounds that are the same for all of its type:
 * nothing is allocated. */
enum pl_series {
#define PL_METRIC(id, type, name, help)
#define PL_SERIES(id, series, labels) PL_S_##series,
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
    PL_SERIES_COUNT
};

enum pl_metric_id {
#define PL_METRIC(id, type, name, help) PL_M_##id,
#define PL_SERIES(id, series, labels)
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
    PL_METRIC_COUNT
};

enum {
    PL_HISTOGRAM_BOUNDS = 18
};
extern const uint64_t pl_histogram_bounds_us[PL_HISTOGRAM_BOUNDS];
extern const uint64_t pl_histogram_bounds_sizes[PL_HISTOGRAM_BOUNDS];

/* Each observation is in one bucket, or in none if it is above all bounds; the export adds them up.
 * The count of all is the series' value. */
struct pl_histogram {
    uint64_t buckets[PL_HISTOGRAM_BOUNDS];
    uint64_t sum;
};

struct pl_metrics {
    uint64_t values[PL_SERIES_COUNT];
    struct pl_histogram histograms[PL_SERIES_COUNT];
};

extern uint64_t *pl_metric_values;         /* of PL_SERIES_COUNT */
extern struct pl_histogram *pl_histograms; /* likewise */

/* From here on counts there, from what it holds on: counters go on where an earlier process left
 * them, gauges begin anew. */
void pl_metrics_use(struct pl_metrics *m);
/* What they count has ended with its process: gauges are 0, the rest stays. */
void pl_metrics_end(struct pl_metrics *m);
/* The same table made another number: what one binary counted, the other cannot go on with. */
uint64_t pl_metrics_layout(void);

static inline void pl_metric_add(enum pl_series s, uint64_t n)
{
    pl_metric_values[s] += n;
}
static inline void pl_metric_set(enum pl_series s, uint64_t n)
{
    pl_metric_values[s] = n;
}
static inline void pl_metric_observe(enum pl_series s, const uint64_t *bounds, uint64_t value,
                                     uint64_t n)
{
    struct pl_histogram *h = &pl_histograms[s];

    for (unsigned i = 0; i < PL_HISTOGRAM_BOUNDS; i++) {
        if (value <= bounds[i]) {
            h->buckets[i] += n;
            break;
        }
    }
    h->sum += value * n;
    pl_metric_values[s] += n;
}
/* n recipients saw a latency of us microseconds each. */
static inline void pl_metric_observe_us(enum pl_series s, uint64_t us, uint64_t n)
{
    pl_metric_observe(s, pl_histogram_bounds_us, us, n);
}
/* Once more, something was this big. */
static inline void pl_metric_observe_size(enum pl_series s, uint64_t size)
{
    pl_metric_observe(s, pl_histogram_bounds_sizes, size, 1);
}

/* Prometheus text format 0.0.4: HELP and TYPE once per metric, every series, histograms with
 * _bucket (le in seconds), _sum and _count. */
void pl_metrics_export(struct pl_buf *out);

/* The same of several sets, each told from the others by a label ("worker=\"1\""). */
struct pl_labelled_metrics {
    const char *label; /* "": none */
    const struct pl_metrics *metrics;
};
void pl_metrics_export_all(struct pl_buf *out, const struct pl_labelled_metrics *sets,
                           size_t count);

#endif
