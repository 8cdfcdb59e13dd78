#ifndef PL_CLI_LOG_VIEW_H
#define PL_CLI_LOG_VIEW_H

#include "protocol/value.h"
#include "server/base/buf.h"

/* Entries of a channel's log on the bus, one line each. Pure.
 *
 * entries: array of [id, [field, value, …]] as XRANGE answers. For people: id, time (which the id
 * holds), tag, who else it is restricted to, and the event as clients see it; or the change of a
 * user record. json: an object per line, with everything. What is not understood (of a newer
 * version, or put there by somebody else) is said to be so. newest_first: they are turned round. */
void pl_cli_log_render(const struct pl_value *entries, bool newest_first, bool json,
                       struct pl_buf *out);

#endif
