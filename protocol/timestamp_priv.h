#ifndef PL_PROTOCOL_TIMESTAMP_PRIV_H
#define PL_PROTOCOL_TIMESTAMP_PRIV_H

#include "protocol/value.h"

/* Is this an RFC 3339 date-time, of a day that exists, with at most 9 digits of fraction? */
bool pl_timestamp__valid(struct pl_str s);

/* Is this a W3C traceparent: version-trace-parent-flags in lower-case hex, neither id zero, version
 * not ff? */
bool pl_traceparent__valid(struct pl_str s);

#endif
