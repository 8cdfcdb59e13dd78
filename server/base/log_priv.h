#ifndef PL_BASE_LOG_PRIV_H
#define PL_BASE_LOG_PRIV_H

#include "server/base/log.h"

/* pl_log_write with the time passed in. Wall time is what is printed; monotonic time is what
 * decides whether a record repeats. */
void pl_log__write_at(int64_t unix_ms, uint64_t mono_ms, enum pl_log_level level, const char *event,
                      const struct pl_field *fields, unsigned field_count);

/* "debug", "info", "warn", "error", "off", NULL: by enum pl_log_level. */
extern const char *const pl_log__level_words[];

#endif
