#ifndef PL_APP_TRACING_H
#define PL_APP_TRACING_H

#include "server/base/config.h"
#include "server/base/wheel.h"

/* Exports spans (core/trace.h) to trace.otlp_url: once a second, in batches. */
struct pl_tracing;
struct uv_loop_s;

/* 0, or PL_ERR_INVALID with a sentence in err. */
int pl_tracing_check(const struct pl_config *cfg, char *err, unsigned err_size);
/* NULL: trace.otlp_url is empty. It has been checked. node: the caller's. */
struct pl_tracing *pl_tracing_new(const struct pl_config *cfg, const char *node,
                                  struct pl_wheel *wheel, struct uv_loop_s *loop);
/* Before the loop goes, which it runs for up to half a second if something waits to be sent. Harmless on
 * NULL. */
void pl_tracing_free(struct pl_tracing *t);

#endif
