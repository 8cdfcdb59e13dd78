#ifndef PL_TRANSPORT_NODE_H
#define PL_TRANSPORT_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/auth/auth.h"
#include "server/base/config.h"
#include "server/base/wheel.h"
#include "server/core/hub.h"
#include "server/net/net.h"

/* One parleyd process, as the edges see it: what a request or a message needs to be answered. Made
 * by server/app. */
struct pl_node {
    const struct pl_config *cfg; /* LIVE options change in place */
    struct pl_hub *hub;
    struct pl_auth *auth; /* replaced by a reload */
    struct pl_wheel *wheel;
    const char *name;
    uint64_t started_ms; /* monotonic */
    bool dev;            /* --dev: any localhost origin, the demo and its tokens */
    bool has_internal;   /* server.internal_listen is set */
    bool draining;
    int64_t phase_since_ms; /* unix: when the phase came into force here */
};

#endif
