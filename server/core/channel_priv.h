#ifndef PL_CORE_CHANNEL_PRIV_H
#define PL_CORE_CHANNEL_PRIV_H

#include "server/base/list.h"
#include "server/base/map.h"
#include "server/core/event_priv.h"

/* A channel: the ring of its newest events, and who is in it. Events are shared between rings;
 * queues hold cursors, never copies.
 *
 *     pl_event (counted) <-- ring of channel A
 *              ^------------ ring of channel B          pl_queue -- pl_sub --> channel
 *
 * Invariant: the ring holds every event of the channel with floor < id <= last_id, in id order. */
struct pl_hub;
struct pl_queue;
struct pl_channel;

/* What a queue is narrowed to in one channel. */
struct pl_topic {
    struct pl_map_node node; /* of pl_channel.topics */
    struct pl_channel *channel;
    struct pl_topic_member {
        struct pl_sub *sub;
        uint32_t slot; /* in sub->narrowed->topics */
    } * members;
    uint32_t member_count, member_cap;
    uint32_t refs; /* subs that name it, members or not */
    uint64_t hash; /* as pl_event.topic_hash */
    uint32_t len;
    char name[];
};

/* What a sub is narrowed to, or was: then what is pending of that is still due. */
struct pl_narrowed {
    int64_t all_since; /* un-narrowed for ids above this; PL_NARROWED: narrowed */
    uint32_t count;    /* of topics */
    struct pl_topic_ref {
        struct pl_topic *topic;
        int64_t since; /* events of this topic above this */
        uint32_t
            index; /* in topic->members; PL_NO_INDEX: not a member (the sub is in channel->whole) */
    } topics[];
};
#define PL_NARROWED INT64_MAX
#define PL_NO_INDEX UINT32_MAX

/* A queue in a channel its user is granted. The three ids say what is pending without holding it,
 * so that a cursor far behind a busy ring is served when nothing of what was trimmed concerned the
 * queue (rule 5). */
struct pl_sub {
    struct pl_queue *queue;
    struct pl_channel *channel;
    int64_t since;                /* the grant's */
    int64_t first;                /* first event that concerned it after the queue's ack; 0: none */
    int64_t pending;              /* first one not handed to the link; 0: none */
    int64_t last;                 /* last one handed to a link */
    int64_t joined;               /* where the queue stood when it came in */
    struct pl_narrowed *narrowed; /* NULL: never was */
    uint32_t index;               /* in channel->whole or channel->narrowed */
};

static inline int64_t pl_sub__all_since(const struct pl_sub *s)
{
    return s->narrowed != NULL ? s->narrowed->all_since : 0;
}

static inline bool pl_sub__is_narrowed(const struct pl_sub *s)
{
    return pl_sub__all_since(s) == PL_NARROWED;
}

static inline uint32_t pl_sub__topic_count(const struct pl_sub *s)
{
    return s->narrowed != NULL ? s->narrowed->count : 0;
}

struct pl_sub_array {
    struct pl_sub **items;
    uint32_t count, cap;
};

enum pl_channel_state {
    PL_CHANNEL_IDLE,    /* no queue needs it; the bus does not announce it here */
    PL_CHANNEL_OPENING, /* open() was asked of the bus: whole up to whole_to */
    PL_CHANNEL_READ, /* answered with events that the node has not got to yet: live once it has */
    PL_CHANNEL_LIVE, /* whole up to the hub's applied id */
};

struct pl_ring_entry {
    struct pl_event *event;
    int64_t prev; /* the id before it in this channel */
};

struct pl_channel {
    struct pl_map_node node; /* of pl_hub.channels */
    struct pl_list lru;      /* of pl_hub.channel_lru, least recently used first */
    struct pl_list read;     /* of pl_hub.channels_read while in that state */
    struct pl_list unneeded; /* of pl_hub.unneeded while no queue needs it and it is still open */
    struct pl_list history;  /* of pl_hub.histories while it waits for a reading of its log */
    uint64_t unneeded_ms;
    uint64_t deep_until_ms; /* history was read into the ring: its bounds wait until then */
    int64_t log_floor;      /* what is known of the log: nothing at or below it is held there */
    int64_t history_after;  /* what is wanted of the log: everything above this */
    bool history_asked;     /* of the bus */
    bool history_cut;       /* what was read had to make room before everybody had got it */
    uint8_t history_cuts;   /* times in a row */
    struct pl_hub *hub;
    uint32_t refs; /* grants that name it */
    uint8_t state;
    uint8_t name_len;
    int64_t whole_to; /* while not live */
    int64_t gap_to;   /* while a gap is repaired: up to here it had passed for whole; else 0 */
    int64_t last_id, floor;
    struct pl_ring_entry *ring;
    uint32_t ring_cap, ring_head, ring_count; /* cap 0 or a power of two; head is the oldest */
    size_t ring_bytes;
    struct pl_ring_entry
        *early; /* announced while opening, in order; they follow what the log holds */
    uint32_t early_count;
    struct pl_sub_array whole, narrowed;
    struct pl_map topics;
    char name[];
};

/* Finds or makes; made channels are the hub's. */
struct pl_channel *pl_channel__get(struct pl_hub *h, struct pl_str name);
struct pl_channel *pl_channel__find(struct pl_hub *h, struct pl_str name);
void pl_channel__unref(struct pl_channel *c); /* a grant is gone */
void pl_channel__free(struct pl_channel *c);
/* The bus need not announce it here any more; what was held of it is forgotten. */
void pl_channel__close(struct pl_channel *c);
struct pl_str pl_channel__name(const struct pl_channel *c);
/* "community:42" -> 42; -1 for any other name. */
int64_t pl_channel__community(const struct pl_channel *c);
/* Up to where it has been examined on this node. */
int64_t pl_channel__examined(const struct pl_channel *c);

/* Appends in id order; takes a reference. Trims to the configured bounds. */
void pl_channel__append(struct pl_channel *c, struct pl_event *e, int64_t prev);
/* Puts events before those held: all there were above floor, oldest first, each with its previous
 * id. Takes references. */
void pl_channel__prepend(struct pl_channel *c, int64_t floor, const struct pl_ring_entry *entries,
                         uint32_t count);
/* Drops the oldest entry and raises the floor. */
void pl_channel__trim_one(struct pl_channel *c);
/* The n-th held entry, oldest first. */
const struct pl_ring_entry *pl_channel__entry(const struct pl_channel *c, uint32_t n);
/* How many held entries have id <= this: the number of the first one after. */
uint32_t pl_channel__after(const struct pl_channel *c, int64_t id);
/* Keeps an event announced while the channel is being opened; takes a reference. */
void pl_channel__keep_early(struct pl_channel *c, struct pl_event *e, int64_t prev);
void pl_channel__drop_early(struct pl_channel *c);
/* Forgets the ring: everything up to floor is unknown. */
void pl_channel__clear(struct pl_channel *c, int64_t floor);

/* Membership: a sub is in exactly one of channel->whole and channel->narrowed. */
void pl_channel__join(struct pl_sub *s);
void pl_channel__leave(struct pl_sub *s); /* frees its topics */
void pl_channel__each_sub(struct pl_channel *c, void (*fn)(struct pl_sub *s, void *arg), void *arg);
/* A sub has been moved in memory: everything that points to it follows. */
void pl_channel__moved(struct pl_sub *s);
struct pl_topic *pl_channel__topic(const struct pl_channel *c, struct pl_str name);

/* Narrowing of a sub; see pl_queue_subscribe. since: of a topic that was not in it before, the
 * applied id. From the whole to a set: what is pending of its topics stays due. limit: topics of
 * this sub. */
int pl_sub__add_topic(struct pl_sub *s, struct pl_str topic, int64_t since, uint32_t limit);
/* Exactly these, as far as the limit goes. */
void pl_sub__narrow_to(struct pl_sub *s, const struct pl_str *topics, size_t count, int64_t since,
                       uint32_t limit);
void pl_sub__remove_topic(struct pl_sub *s, struct pl_str topic);
void pl_sub__widen(struct pl_sub *s, int64_t since);
/* Narrowed to the empty set. */
void pl_sub__narrow(struct pl_sub *s);

#endif
