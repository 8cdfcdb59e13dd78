#ifndef PL_CLI_STATS_VIEW_H
#define PL_CLI_STATS_VIEW_H

#include "protocol/value.h"
#include "server/base/buf.h"

/* A server's numbers as lines for people: one table of rows (stats_view.c) over the text of
 * /metrics. Pure.
 *
 * before is an earlier text, elapsed_s old: then counters show their rate and histograms the
 * interval's quantiles; len 0: totals only. health is the body of /health (JSON; len 0:
 * unknown). */
struct pl_cli_stats {
    struct pl_str before, after, health;
    double elapsed_s;
};
void pl_cli_stats_render(const struct pl_cli_stats *s, struct pl_buf *out);

/* One of several servers, or one with workers. */
struct pl_cli_stats_node {
    const char *name;  /* its URL */
    const char *error; /* it did not answer; NULL: it did */
    struct pl_cli_stats stats;
};
/* Has any of them workers? */
bool pl_cli_stats_has_workers(const struct pl_cli_stats_node *nodes, size_t count);
/* A line for each node, or for each of its workers. */
void pl_cli_stats_table(const struct pl_cli_stats_node *nodes, size_t count, struct pl_buf *out);

#endif
