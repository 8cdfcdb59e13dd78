#ifndef PL_CORE_QUEUE_PRIV_H
#define PL_CORE_QUEUE_PRIV_H

#include "server/base/list.h"
#include "server/base/map.h"
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

/* What a bus that keeps queues needs of one (store.c). */
struct pl_kept {
    struct pl_list save;     /* of pl_hub.unsaved or saved; in neither while a save is under way */
    struct pl_saver *savers; /* who waits for it to be saved */
    uint64_t saved_ms;
    int64_t generation; /* 0: not kept any more */
};

/* A queue: one client's identity, narrowing and position. The client's position is `acked`; `sent`
 * is how far the link of now has been served (in the link's order, so everything at or below it
 * went out or did not concern the queue). */
struct pl_queue {
    /* What every delivery looks at stands together. */
    struct pl_hub *hub;
    struct pl_user *user;
    struct pl_link *link; /* NULL: none now */
    struct pl_sub *subs;  /* one per standing grant of the user */
    int64_t sent;
    uint32_t sub_count;
    uint32_t held;          /* subs whose channel is not live */
    uint32_t turn_slot;     /* its place in pl_turn.queues, from 1; 0: none */
    uint32_t turn_event;    /* the one event that it waits for, as pl_turn.events has it, from 1 */
    uint8_t catchup;        /* enum pl_catchup: what must be said next */
    uint8_t due;            /* set of enum pl_due */
    uint8_t last_transport; /* of the link before */
    bool behind;            /* something may be pending: pull before pushing again */
    bool asking;            /* the bus was asked whether the position is ahead of everything */
    bool unproven;          /* whether it is still ours is being asked: not served until then */
    bool made_anew;         /* in place of one that was gone, with its position */
    bool attaching;         /* what follows is for pl_queue_writable to say */
    int64_t acked;
    uint8_t id[16];
    bool told_degraded; /* the client was told that the bus is away */
    bool dirty;         /* what the bus keeps of it is not what it is */
    bool saving;        /* a save is under way */
    bool waiting;       /* for its batch window to end: timer fires then */
    bool wants_answer;  /* its poll is to be answered when nothing is asked of the bus any more */
    bool leaving;       /* its link goes when it is saved */
    bool has_kept;      /* it was made on a bus that keeps queues */

    struct pl_map_node node; /* of pl_hub.queues */
    struct pl_list of_user;  /* of pl_user.queues */
    struct pl_timer timer;   /* queue.ttl, or the token's end */
    int64_t hole;            /* least id that a repair found behind the cursor; 0: none */
    int64_t hole_told; /* the position it was told with: forgotten once that is acknowledged; 0: not
                          yet */
    int64_t token_exp_ms; /* unix, leeway included; 0: does not expire */
    uint64_t touched_ms;
    int64_t link_since_ms;  /* unix: when its link of now, or the last one, came */
    int64_t made_id;        /* what it was made after: an older `disconnect` does not concern it */
    struct pl_spent *spent; /* NULL: nothing of its rates */
    struct pl_kept kept[];  /* one if has_kept, else none */
};

#define PL_TURN_MANY UINT32_MAX /* as turn_event: more than one, or none that is known */

enum {
    PL_DRAIN_GRACE_MS = 2000, /* a WebSocket may outlive its slot: its client makes a new one */
};

/* Everybody has a moment of their own, so that they come back evenly: how long from now. */
int64_t pl_queue__after_ms(const struct pl_queue *q);
/* Its link is to go, in its slot. */
void pl_queue__drain(struct pl_queue *q);

/* No more queues may be made (limits.queues), or none of this user's (limits.queues_per_user). */
bool pl_queue__is_full(const struct pl_hub *h);
bool pl_queue__is_full_of(const struct pl_user *u);

/* A queue with this id, as it stands, in the user's list and the hub's map. */
struct pl_queue *pl_queue__make(struct pl_hub *h, struct pl_user *u, const uint8_t id[16],
                                const struct pl_membership *narrowing, int64_t token_exp_ms,
                                int64_t position);
struct pl_queue *pl_queue__of_user_node(struct pl_list *n);
/* Makes the subs follow the user's grants. narrowing: for new subs; NULL: the user's default. */
void pl_queue__sync(struct pl_queue *q, const struct pl_membership *narrowing);
/* Narrows every channel as m says: listed ones to their set, the others to all. */
void pl_queue__renarrow(struct pl_queue *q, const struct pl_membership *m);
/* How these narrow the channel; NULL: not at all. */
const struct pl_narrowing *pl_queue__find_narrowing(const struct pl_narrowing *items, size_t count,
                                                    struct pl_str channel);
/* Something is due to the client: said at once if the link takes it. */
void pl_queue__signal(struct pl_queue *q, enum pl_due due);
/* Rule 5: up to where everything that concerns the queue is known. */
int64_t pl_queue__examined(const struct pl_queue *q);
/* Is its position beyond everything? The bus is asked. */
void pl_queue__ask_if_ahead(struct pl_queue *q);
/* Sends what is pending in ms, at the latest. */
void pl_queue__wait(struct pl_queue *q, uint64_t ms);
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
/* Another node has it, or it is no more: it goes from here, and what is kept stays. */
void pl_store__disown(struct pl_queue *q, int status);
/* It is ours with this generation; what was under way with an older one does not count. */
void pl_store__queue_proven(struct pl_queue *q, int64_t generation);

/* ---- kept.c: a queue as bytes ---- */

/* What another node needs of it, as MessagePack. */
void pl_kept__write(const struct pl_queue *q, struct pl_buf *out);
/* The queue that was claimed, whose user's changes are known here. PL_ERR_QUEUE_NOT_FOUND: it cannot
 * be understood, or was ended while nobody had it. */
int pl_kept__install(struct pl_hub *h, const struct pl_bus_queue *from, const uint8_t id[16]);

/* ---- delivery.c ---- */

/* Rule 3, the one predicate, and why it says no. */
enum pl_denied {
    PL_DENIED_NOT,         /* the event concerns the queue, through this channel */
    PL_DENIED_SINCE,       /* it is older than the grant */
    PL_DENIED_SUBSCRIBERS, /* the user is not listed */
    PL_DENIED_NARROWED,    /* the queue does not hold the channel whole, nor the topic */
    PL_DENIED_USER,        /* exclude_user_id */
    PL_DENIED_QUEUE,       /* exclude_queue_id */
};
bool pl_deliver__concerns(const struct pl_event *e, const struct pl_sub *s);
enum pl_denied pl_deliver__denied(const struct pl_event *e, const struct pl_sub *s);
/* Offers an event to all it concerns: those that are up to date get it at the turn's end. */
void pl_deliver__event(struct pl_hub *h, struct pl_event *e, struct pl_channel *const *channels,
                       size_t count);
/* An event that came by the log: marks it as pending for whom it concerns. */
void pl_deliver__note(struct pl_event *e, struct pl_sub *s);
/* Everything that is due and pending, as far as the link takes it. */
void pl_deliver__pull(struct pl_queue *q);

/* Sends the one event that came for the queue since it was up to date. False, and nothing was done: it
 * is not as simple as that any more. */
bool pl_deliver__push(struct pl_queue *q, struct pl_event *e);

/* ---- turn.c ---- */

/* Before an event is put into rings: sends what waits, if it would be more than they hold. */
void pl_turn__make_room(struct pl_hub *h, size_t body_bytes);
/* The event is the first that is due to a queue that was up to date: it gets it at the turn's end. */
void pl_turn__hold(struct pl_queue *q, struct pl_event *e);
/* Is this the one event that it waits for? */
bool pl_turn__waits_for(const struct pl_queue *q, const struct pl_event *e);
/* It waits for more to come (queue.batch_window), but not any longer than this turn. */
void pl_turn__hurry(struct pl_queue *q);
void pl_turn__forget(struct pl_queue *q); /* it ends */
/* Sends everything that waits; returns how many messages were taken. */
uint32_t pl_turn__send(struct pl_hub *h);
void pl_turn__done(struct pl_hub *h);
struct pl_batch;
/* The message of these events, made once for all that get it in this turn. The turn's. */
struct pl_frame *pl_turn__share(struct pl_hub *h, enum pl_codec codec, const struct pl_batch *b);

/* ---- outbox.c: messages made for one queue ---- */

struct pl_batch {
    struct pl_event **events;
    int64_t *ids; /* theirs */
    uint32_t count;
    int64_t last_event_id;
};
/* These events (maybe none) and nothing else. */
struct pl_frame *pl_outbox__batch(enum pl_codec codec, const struct pl_batch *b);
/* Events (maybe none) with whatever else is due to a poll; clears what it carried. */
struct pl_frame *pl_outbox__events(struct pl_queue *q, const struct pl_batch *b);
struct pl_frame *pl_outbox__catchup(struct pl_queue *q, int64_t last_event_id,
                                    const struct pl_sub *const *lost, size_t lost_count);
void pl_outbox__count_catchup(const struct pl_queue *q); /* the one that was taken */
/* A WebSocket's signal or goaway of its own; NULL when nothing is due. Clears it from *due. */
struct pl_frame *pl_outbox__due(struct pl_queue *q, uint8_t *due);

#endif
