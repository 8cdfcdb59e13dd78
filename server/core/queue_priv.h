#ifndef PL_CORE_QUEUE_PRIV_H
#define PL_CORE_QUEUE_PRIV_H

#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/rate.h"
#include "server/base/wheel.h"
#include "server/core/hub_priv.h"
#include "server/core/user_priv.h"

enum pl_catchup {
    PL_CATCHUP_NONE,
    PL_CATCHUP_TRIMMED,
    PL_CATCHUP_EPOCH,
    PL_CATCHUP_AHEAD,
    PL_CATCHUP_GAP,
    PL_CATCHUP_EXPIRED,
};

/* What is due to the client besides events; each is state, not a list, so it cannot grow. */
enum pl_due {
    PL_DUE_MEMBERSHIP = 1, /* signal: the grants changed */
    PL_DUE_TRANSPORTS = 2, /* polls: the list changed */
    PL_DUE_GOAWAY = 4,
    PL_DUE_STATUS = 8, /* signal: the bus is away, or back */
};

/* A queue: one client's identity, narrowing and position. The client's position is `acked`; `sent`
 * is how far the link of now has been served (in the link's order, so everything at or below it
 * went out or did not concern the queue). */
struct pl_queue {
    struct pl_map_node node; /* of pl_hub.queues */
    struct pl_list of_user;  /* of pl_user.queues */
    struct pl_timer timer;   /* queue.ttl, or the token's end */
    struct pl_hub *hub;
    struct pl_user *user;
    struct pl_link *link; /* NULL: none now */
    struct pl_sub *subs;  /* one per standing grant of the user */
    int64_t acked;
    int64_t sent;
    int64_t offered;   /* the event of the walk that is running, so that it is sent once */
    int64_t hole;      /* least id that a repair found behind the cursor; 0: none */
    int64_t hole_told; /* the position it was told with: forgotten once that is acknowledged; 0: not
                          yet */
    int64_t token_exp_ms; /* unix, leeway included; 0: does not expire */
    uint64_t touched_ms;
    int64_t link_since_ms; /* unix: when its link of now, or the last one, came */
    int64_t made_id;       /* what it was made after: an older `disconnect` does not concern it */
    /* On a bus that keeps queues (store.c). */
    struct pl_list save;     /* of pl_hub.unsaved or saved; in neither while a save is under way */
    struct pl_saver *savers; /* who waits for it to be saved */
    uint64_t saved_ms;
    int64_t generation; /* 0: not kept */
    struct pl_rate messages, publishes;
    uint8_t id[16];
    uint32_t sub_count;
    uint32_t held;          /* subs whose channel is not live */
    uint8_t catchup;        /* enum pl_catchup: what must be said next */
    uint8_t due;            /* set of enum pl_due */
    uint8_t last_transport; /* of the link before */
    bool behind;            /* something may be pending: pull before pushing again */
    bool offered_sent;      /* the event of the walk that is running went out */
    bool made_anew;         /* in place of one that was gone, with its position */
    bool attaching;         /* what follows is for pl_queue_writable to say */
    bool asking;            /* the bus was asked whether the position is ahead of everything */
    bool told_degraded;     /* the client was told that the bus is away */
    bool dirty;             /* what the bus keeps of it is not what it is */
    bool saving;            /* a save is under way */
    bool wants_answer; /* its poll is to be answered when nothing is asked of the bus any more */
    bool leaving;      /* its link goes when it is saved */
    bool unproven;     /* whether it is still ours is being asked: not served until then */
};

enum {
    PL_DRAIN_GRACE_MS =
        2000, /* how long a WebSocket may outlive its slot: its client makes a new one */
};
/* Everybody has a moment of their own, so that they come back evenly: how long from now. */
int64_t pl_queue__after_ms(const struct pl_queue *q);
/* Its link is to go, in its slot. */
void pl_queue__drain(struct pl_queue *q);

/* A queue with this id, as it stands, in the user's list and the hub's map. */
struct pl_queue *pl_queue__make(struct pl_hub *h, struct pl_user *u, const uint8_t id[16],
                                const struct pl_membership *narrowing, int64_t token_exp_ms,
                                int64_t position);
struct pl_queue *pl_queue__of_user_node(struct pl_list *n);
/* Makes the subs follow the user's grants. narrowing: for new subs; NULL: the user's default. */
void pl_queue__sync(struct pl_queue *q, const struct pl_membership *narrowing);
/* Narrows every channel as m says: listed ones to their set, the others to all. */
void pl_queue__renarrow(struct pl_queue *q, const struct pl_membership *m);
/* Something is due to the client: said at once if the link takes it. */
void pl_queue__signal(struct pl_queue *q, enum pl_due due);
/* Rule 5: up to where everything that concerns the queue is known. */
int64_t pl_queue__examined(const struct pl_queue *q);
/* Is its position beyond everything? The bus is asked. */
void pl_queue__ask_if_ahead(struct pl_queue *q);
/* Takes the link off; it is not told. */
void pl_queue__unlink(struct pl_queue *q);
/* A channel of the queue became live or ceased to be: counts, and goes on if nothing holds it any
 * more. */
void pl_queue__channel_state(struct pl_sub *s, bool live);

/* ---- store.c ---- */

/* A new queue, which the bus does not keep yet. */
void pl_store__queue_made(struct pl_queue *q);
/* What is kept of it has changed: saved soon. */
void pl_store__queue_changed(struct pl_queue *q);
void pl_store__queue_ended(struct pl_queue *q);
/* It is ours with this generation; what was under way with an older one does not count. */
void pl_store__queue_proven(struct pl_queue *q, int64_t generation);

/* ---- kept.c: a queue as bytes ---- */

/* What another node needs of it, as MessagePack. */
void pl_kept__write(const struct pl_queue *q, struct pl_buf *out);
/* The queue that was claimed, whose user's changes are known here. PL_ERR_QUEUE_NOT_FOUND: it cannot
 * be understood, or was ended while nobody had it. */
int pl_kept__install(struct pl_hub *h, const struct pl_bus_queue *from, const uint8_t id[16]);

/* ---- delivery.c ---- */

/* Rule 3, the one predicate. */
bool pl_deliver__concerns(const struct pl_event *e, const struct pl_sub *s);
/* Pushes an event to all it concerns; returns how many links took it. */
uint32_t pl_deliver__event(struct pl_hub *h, struct pl_event *e, struct pl_channel *const *channels,
                           size_t count);
/* An event that came by the log: marks it as pending for whom it concerns. */
void pl_deliver__note(struct pl_event *e, struct pl_sub *s);
/* Everything that is due and pending, as far as the link takes it. */
void pl_deliver__pull(struct pl_queue *q);

/* ---- outbox.c: messages made for one queue ---- */

struct pl_batch {
    struct pl_event **events;
    uint32_t count;
    int64_t last_event_id;
};
/* Events (maybe none) with whatever else is due to a poll; clears what it carried. */
struct pl_frame *pl_outbox__events(struct pl_queue *q, const struct pl_batch *b);
struct pl_frame *pl_outbox__catchup(struct pl_queue *q, int64_t last_event_id,
                                    const struct pl_sub *const *lost, size_t lost_count);
void pl_outbox__count_catchup(const struct pl_queue *q); /* the one that was taken */
/* A WebSocket's signal or goaway of its own; NULL when nothing is due. Clears it from *due. */
struct pl_frame *pl_outbox__due(struct pl_queue *q, uint8_t *due);

#endif
