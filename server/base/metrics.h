#ifndef PL_BASE_METRICS_H
#define PL_BASE_METRICS_H

#include <stdint.h>

#include "server/base/buf.h"

/* What the server counts, from one table (metrics.def). A metric has a name, a type and one or more
 * series that differ in their labels; labels are bounded and fixed at compile time (never a user,
 * queue or channel). Values are process-wide and belong to the one event loop: no locks.
 *
 * Rows:  PL_METRIC(id, type, "name", "help")  then one or more
 *        PL_SERIES(id, series_id, "label=\"value\",…")   ("" for none)
 * A histogram has one series and a fixed set of bounds (pl_histogram_bounds_us in metrics.c), in
 * seconds when exported; pl_metric_observe_us takes microseconds. */
enum pl_series {
#define PL_METRIC(id, type, name, help)
#define PL_SERIES(id, series, labels) PL_S_##series,
#include "server/base/metrics.def"
#undef PL_METRIC
#undef PL_SERIES
    PL_SERIES_COUNT
};

extern uint64_t pl_metric_values[PL_SERIES_COUNT];

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

#endif
