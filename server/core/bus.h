#ifndef PL_CORE_BUS_H
#define PL_CORE_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"

/* The bus is how events enter, are sequenced, stored and reach every node. This is the port: what
 * the core asks of a bus, and (pl_hub_bus_* in hub.h) what a bus tells the core. Implementations:
 * server/bus/memory.c (one process, the channel rings are the log), server/bus/redis.c (many nodes),
 * the simulator's model in tests/sim.
 *
 * Every request has one answer: done(arg, …), called once, possibly before the request function
 * returns. Before the hub is freed, a bus answers or drops what is open: done may refer to the hub.
 *
 * A bus tells one stream: events, changes and "nothing else up to here", in id order across
 * channels. When it is cut off it says so (pl_hub_bus_pause) and later goes on where it stopped,
 * with everything the logs of the open channels hold; the core sees a pause, not a hole. */

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

/* An event as it was published, with its body (pl_event_write_body). */
struct pl_publish;
struct pl_bus_event pl_bus_event_of(const struct pl_publish *p, struct pl_str body);

/* Idempotency: the same key of the same scope within publish.idempotency_ttl gives the first
 * outcome again. */
struct pl_bus_key {
    struct pl_str key;  /* <= 255 bytes; len 0: none */
    uint64_t scope;     /* which API key; pl_hash_stable of it: the same on every node */
    uint64_t body_hash; /* pl_hash_stable; another body under the same key is PL_ERR_IDEMPOTENCY */
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

/* What the bus holds about a user, whole up to as_of: a snapshot that some node made
 * (pl_hub_bus_user says when one is wanted) and the changes after it. */
struct pl_bus_user_change {
    int64_t id;
    struct pl_bus_change change;
};
struct pl_bus_user {
    struct pl_str user_id;
    int64_t as_of;                            /* the sequence when this was read */
    struct pl_str snapshot;                   /* opaque to the bus; len 0: none */
    const struct pl_bus_user_change *changes; /* ascending */
    size_t change_count;
};

/* A queue as the bus keeps it, so that any node can take it over. */
struct pl_bus_queue {
    struct pl_str queue_id;
    struct pl_str user_id;
    int64_t generation;  /* raised by every takeover; 1: new. A save with an older one is refused */
    int64_t position;    /* acknowledged; the bus keeps the highest */
    struct pl_str state; /* opaque to the bus; len 0 in a save: as it was */
    int64_t saved_by;    /* claimed: the generation that saved it last */
    const char *transport; /* of its link, or of the last one: "websocket", "longpoll", "none" */
    int64_t since_ms;      /* unix: when that link came */
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

    /* ---- what follows is NULL on a bus whose rings are the log ---- */

    /* The channel's log with after < id <= upto (what a ring does not hold any more); answered with
     * pl_hub_bus_read, never before it has returned, or, when the bus went away, by nothing: the
     * core asks again after the pause. */
    void (*read)(void *bus, struct pl_str channel, int64_t after, int64_t upto);
    /* Keeps queues, each for queue.ttl x 1.5 + 10 s from now. Answered per queue, never before it
     * has returned, with pl_hub_bus_saved. Strings are the caller's during the call. */
    void (*save)(void *bus, const struct pl_bus_queue *queues, size_t count);
    /* The queue is ours from now on, whoever had it (who is told: pl_hub_bus_taken there), unless a
     * client that came later than came_ms (unix, by our clock) has it. back: it was ours, and we take
     * it back only if our client came clearly later than theirs. Answered with pl_hub_bus_claimed,
     * never before it has returned. */
    void (*claim)(void *bus, struct pl_str queue_id, int64_t came_ms, bool back);
    /* The queue has ended here. Not answered; ignored if another node has taken it since. */
    void (*drop)(void *bus, struct pl_str queue_id, struct pl_str user_id, int64_t generation);
    /* Ends a queue wherever it is, with status: pl_hub_bus_end_queue there. ids[0]: 1 if there was
     * one, else 0. */
    void (*end_queue)(void *bus, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                      void *arg);
    /* What is held about a user. Answered with pl_hub_bus_user, then pl_hub_bus_user_done, never
     * before it has returned. */
    void (*user)(void *bus, struct pl_str user_id);
    /* Takes the place of the user's changes up to as_of. Not answered. */
    void (*compact)(void *bus, struct pl_str user_id, int64_t as_of, struct pl_str snapshot);
};

#endif
