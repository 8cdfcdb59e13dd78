#ifndef PL_CLI_METRICS_TEXT_H
#define PL_CLI_METRICS_TEXT_H

#include <stdbool.h>

#include "protocol/value.h"
#include "server/base/buf.h"

/* Reads Prometheus' text format 0.0.4 as far as a Parley server writes it. Pure. */
struct pl_cli_sample {
    struct pl_str name;
    struct pl_str labels; /* between the braces, as written; len 0: none */
    double value;         /* +Inf and NaN too */
};

/* The next sample of *text, which moves behind it; comments and lines that are none are skipped. */
bool pl_cli_metrics_next(struct pl_str *text, struct pl_cli_sample *ret);

/* A label's value; false: absent. */
bool pl_cli_metrics_label(struct pl_str labels, const char *name, struct pl_str *ret);

/* Writes the samples of text as those of one process: of this worker, or (worker.len 0) of all workers
 * and, where texts were joined, of all nodes: what differs in the label worker only is added up, or for
 * what is a state the worst is taken. */
void pl_cli_metrics_merge(struct pl_str text, struct pl_str worker, struct pl_buf *out);

/* The sample with this name and exactly these labels; false: absent. */
bool pl_cli_metrics_find(struct pl_str text, struct pl_str name, struct pl_str labels, double *ret);

/* The q-quantile (0..1) of what a histogram counted, in all its series together, between two texts
 * (before may be empty), linear within its bucket; in the last, open bucket its lower bound. False: nothing was
 * counted. */
bool pl_cli_metrics_quantile(struct pl_str before, struct pl_str after, const char *name, double q,
                             double *ret);

#endif
