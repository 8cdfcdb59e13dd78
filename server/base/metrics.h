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
 * A histogram has one series and a fixed set of bounds (histogram_bounds_us in metrics.c), in
 * seconds when exported; pl_metric_observe_us takes microseconds. */
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
    PL_HISTOGRAM_BOUNDS = 16
};

/* Each observation is in one bucket; the export adds them up. The count of all is the series' value.
 */
struct pl_histogram {
    uint64_t buckets[PL_HISTOGRAM_BOUNDS];
    uint64_t sum_us;
};

struct pl_metrics {
    uint64_t values[PL_SERIES_COUNT];
    struct pl_histogram histograms[PL_METRIC_COUNT];
};

extern uint64_t *pl_metric_values; /* of PL_SERIES_COUNT */

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
/* n recipients saw a latency of us microseconds each. */
void pl_metric_observe_us(enum pl_series s, uint64_t us, uint64_t n);

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
