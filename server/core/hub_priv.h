#ifndef PL_CORE_HUB_PRIV_H
#define PL_CORE_HUB_PRIV_H

#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/wheel.h"
#include "server/core/channel_priv.h"
#include "server/core/hub.h"

struct pl_hub {
    const struct pl_config *cfg;
    const struct pl_bus_ops *bus_ops;
    void *bus;
    bool ring_is_log;
    struct pl_wheel *wheel;
    void (*random)(void *out, size_t len);
    uint64_t mono_ms;
    int64_t unix_ms;

    int64_t epoch_start;
    int64_t applied;      /* newest id seen on the bus */
    int64_t forgotten_id; /* a channel unknown here may have had events up to this */
    int64_t forgotten_ms; /* a user unknown here may have had a backend change up to this */

    struct pl_map channels, users, queues;
    struct pl_list channel_lru;                /* least recently used first */
    struct pl_list channels_read;              /* PL_CHANNEL_READ */
    struct pl_list idle_short, idle_long;      /* users without a queue, longest idle first */
    size_t ring_bytes;                         /* of all events, each counted once */
    uint64_t links[PL_TRANSPORT_LONGPOLL + 1]; /* queues by the transport of their link */
    struct pl_timer sweep;
    const char *goaway_reason; /* of the last pl_hub_goaway */
    int64_t goaway_spread_ms;
    struct pl_event **batch; /* scratch of a pull: batch_cap events */
    size_t batch_cap;
};

void pl_channel__map_init(struct pl_map *m);
void pl_user__map_init(struct pl_map *m);
void pl_queue__map_init(struct pl_map *m);

/* Keeps the number of channels within limits.channels, sparing `keep`. */
void pl_hub__bound_channels(struct pl_hub *h, const struct pl_channel *keep);
/* channel.total_bytes: the least recently used rings shrink, oldest entries first. */
void pl_hub__bound_bytes(struct pl_hub *h);
/* Counts an event's bytes (again, after a form was added). */
void pl_hub__account(struct pl_hub *h, struct pl_event *e);
/* A ring or a delivery lets go of an event. */
void pl_hub__drop_event(struct pl_hub *h, struct pl_event *e);
/* A channel is needed by its first queue, or by none any more. */
void pl_hub__need_channel(struct pl_hub *h, struct pl_channel *c);
void pl_hub__unneed_channel(struct pl_hub *h, struct pl_channel *c);

#endif
