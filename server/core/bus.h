#ifndef PL_CORE_BUS_H
#define PL_CORE_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"

/* The bus is how events enter, are sequenced, stored and reach every node. This is the port: what
 * the core asks of a bus, and (pl_hub_bus_* in hub.h) what a bus tells the core. Implementations:
 * server/bus/memory.c (one process, the channel rings are the log), the simulator's model in
 * tests/sim.
 *
 * Every request has one answer: done(arg, …), called once, possibly before the request function
 * returns. Before the hub is freed, a bus answers or drops what is open: done may refer to the hub. */

/* An event on its way: what is stored and announced. Strings are the caller's during the call. */
struct pl_bus_event {
    struct pl_str body; /* JSON of what clients see, without event_id (pl_event_write_body) */
    const struct pl_str *channels; /* sorted, unique, at least one */
    size_t channel_count;
    struct pl_str topic;              /* len 0: none */
    struct pl_str exclude_user;       /* len 0: none */
    struct pl_str exclude_queue;      /* queue id text; len 0: none */
    bool has_subscribers;             /* false: no restriction; true with none: nobody */
    const struct pl_str *subscribers; /* user ids; sorted, unique */
    size_t subscriber_count;
};

/* Idempotency: the same key of the same scope within publish.idempotency_ttl gives the first
 * outcome again. */
struct pl_bus_key {
    struct pl_str key;  /* <= 255 bytes; len 0: none */
    int scope;          /* which API key */
    uint64_t body_hash; /* another body under the same key is PL_ERR_IDEMPOTENCY */
};

/* A change of a user record, as it travels in the control channel. What it does to a record is
 * decided in one place, pl_user_apply (user.h), in id order, so every node that holds the record
 * ends with the same one. */
enum pl_change_kind {
    PL_CHANGE_REGISTER,   /* a backend's register: outranked by a fresh update (docs/delivery.md,
                             Rights) */
    PL_CHANGE_UPDATE,     /* a backend's update-subscriptions */
    PL_CHANGE_DISCONNECT, /* ends all queues; older tokens are refused */
};
struct pl_bus_change {
    enum pl_change_kind kind;
    struct pl_str user_id;
    const struct pl_membership *membership; /* NULL for DISCONNECT */
    bool has_version;
    int64_t version;
    int64_t unix_ms;          /* when the backend said it */
    int64_t blocked_until_ms; /* DISCONNECT: 0 for no block */
};

typedef void pl_bus_done_fn(void *arg, int status, const int64_t *ids, size_t id_count);

struct pl_bus_ops {
    /* Sequences all events or none. ids: one per event, growing. Errors: PL_ERR_IDEMPOTENCY,
     * PL_ERR_BUS (outcome unknown). The announcement reaches this node before or after done. */
    void (*publish)(void *bus, const struct pl_bus_event *events, size_t count,
                    const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg);
    /* ids[0]: the change's id. The change has been applied on this node (pl_hub_bus_change) before
     * done. */
    void (*change)(void *bus, const struct pl_bus_change *c, pl_bus_done_fn *done, void *arg);
    /* The node begins or ends to need a channel. open answers with pl_hub_bus_opened, never before
     * it has returned; after_id: the node knows the channel whole up to here (0: nothing), so a
     * repair reads only what is missing. */
    void (*open)(void *bus, struct pl_str channel, int64_t after_id);
    /* After close, the answer to an earlier open must not come any more. */
    void (*close)(void *bus, struct pl_str channel);
    /* ids[0]: the newest id the bus has given. */
    void (*sequence)(void *bus, pl_bus_done_fn *done, void *arg);
};

#endif
