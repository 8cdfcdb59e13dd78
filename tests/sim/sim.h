#ifndef PL_TESTS_SIM_H
#define PL_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/status.h"
#include "server/base/config.h"
#include "server/base/list.h"
#include "server/base/wheel.h"
#include "server/bus/memory.h"
#include "server/core/hub.h"

/* A whole cluster in one process: cores, a bus and clients on a virtual clock, all from one seed number.
 *
 *   sim.c        what happens: the random choices of a run, and its quiet end
 *   world.c      time, nodes, the trace of what happened to whom
 *   model_bus.c  a pl_bus_ops of its own, asynchronous, with delays
 *   wire.c       the core's structs and frames <-> the simulator's facts
 *   client.c     clients: what they keep and do
 *   link.c       their links (pl_link_ops), WebSocket-like and poll-like
 *   rights.c     what a user's record and a queue's narrowing must be on a node
 *   oracle.c     the history of events, and what each client must and must not get
 *   bounds.c     the bounds of memory and time, and the end of a run
 *
 * rights.c, oracle.c and bounds.c are written from docs/delivery.md (its rules, and Rights), not from the core, and share
 * no code with it. */

enum {
    SIM_NODES = 3,
    SIM_COMMUNITIES = 7,
    SIM_CHANNELS = 9, /* the communities, then rooms */
    SIM_TOPICS = 5,   /* topic 0: an event without one */
    SIM_USERS = 40,
    SIM_CLIENTS = 240,
    SIM_EVENTS = 4096, /* of a run, at most */
    SIM_TRACE = 40,
    SIM_NOBODY = -1,
    SIM_SLACK_MS = 3 * PL_WHEEL_TICK_MS
};

/* ---- chance ---- */

struct sim_rng {
    uint64_t state;
};
uint64_t sim_random(struct sim_rng *r);
uint32_t sim_below(struct sim_rng *r, uint32_t n); /* 0 .. n-1 */
bool sim_chance(struct sim_rng *r, uint32_t percent);
void sim_random_bytes(void *out, size_t len); /* pl_hub_options.random: from the run's own stream */

/* ---- facts ---- */

struct sim_event {
    int64_t id;        /* 0: not sequenced (yet) */
    uint32_t channels; /* a bit each */
    uint32_t topic;    /* 0: none */
    int exclude_user;  /* or SIM_NOBODY */
    bool has_subscribers;
    uint64_t subscribers; /* a bit per user */
    char exclude_queue[PL_QUEUE_ID_SIZE];
};

/* What a backend says of a user: a list of channels and perhaps narrowing, as it read it. */
struct sim_membership {
    uint32_t channels;
    bool has_narrowing;
    uint32_t narrowed;            /* channels that are not whole */
    uint8_t topics[SIM_CHANNELS]; /* of those, a bit per topic 1.. */
};

struct sim_change {
    enum pl_change_kind kind;
    int user;
    struct sim_membership membership;
    int64_t version; /* -1: none */
    int64_t unix_ms;
    int64_t blocked_until_ms;
};

struct sim_token {
    int user;
    struct sim_membership membership;
    int64_t iat_ms, exp_ms;
};

/* A user's record as one node must have it. */
struct sim_record {
    bool exists;
    struct {
        bool standing, taken; /* taken: stood before */
        int64_t since;
    } grants[SIM_CHANNELS];
    struct sim_membership usual; /* default narrowing */
    int64_t version, backend_ms, update_ms, claims_ms, not_before_ms, blocked_until_ms;
};

/* A queue as it must be: its narrowing, and since when. */
struct sim_queue {
    bool open; /* as far as the oracle knows it must be there */
    char id[PL_QUEUE_ID_SIZE];
    int node, user;
    uint32_t life; /* of the node */
    uint32_t narrowed;
    uint8_t topics[SIM_CHANNELS];
    /* When the queue came to have a channel, a topic of it: a node judges events up to what it has applied
     * as before the change, those above the newest id as after it; between the two both are right. */
    int64_t granted_at[SIM_CHANNELS];
    struct {
        int64_t applied, newest;
    } topic_at[SIM_CHANNELS][SIM_TOPICS];
    int64_t narrowed_at; /* the newest id when the queue last lost a channel or a topic */
    int64_t changed_at;  /* the newest id when its rights or narrowing last changed at all */
    int64_t born_at;     /* the newest id when it was made */
    int64_t sent;        /* newest event or catch-up handed to any link of it */
    int64_t told;        /* newest position told on any link of it */
    int64_t acked;       /* newest position its client said it had */
    uint64_t touched_ms; /* last sign of life */
    int64_t token_exp_ms;
    bool disconnected; /* by a change this node has applied */
    bool made_anew;    /* pl_queue_require_catchup was called */
    bool owes_expired; /* and what it asks for has not reached the client */
};

/* ---- nodes and clients ---- */

struct sim;
struct model_bus;

struct sim_node {
    struct sim *sim;
    int index;
    uint32_t life; /* counts restarts */
    struct pl_hub *hub;
    struct pl_wheel wheel;
    struct pl_memory_bus *memory; /* or NULL */
    struct sim_record records[SIM_USERS];
    int64_t
        forgotten_ms; /* the newest backend change of a record that had to go: older tokens are not believed */
};

struct sim_client;

struct sim_link {
    struct pl_link base;
    struct pl_list node; /* of sim.dead_links when done with */
    struct sim_client *client;
    struct pl_timer timer; /* a poll's end, a slow socket's next chance */
    uint32_t life;
    bool poll;
    bool slow;     /* takes no bytes now */
    bool lossy;    /* what it takes never reaches the client */
    bool answered; /* a poll that had its answer */
    bool ended;
    int end_status;
    int64_t asked;       /* the position given to pl_queue_attach */
    int64_t start;       /* delivery goes on after this */
    int64_t last;        /* newest id or position it carried */
    int64_t newest_then; /* the newest id when it was opened */
    bool said_lost;      /* it carried a catch-up */
};

struct sim_trace_line {
    uint32_t step;
    uint64_t ms;
    const char *text; /* "%" is the next of the numbers, "#" in hexadecimal */
    int64_t a, b, c;
};

struct sim_trace {
    struct sim_trace_line lines[SIM_TRACE];
    uint32_t count;
};

enum sim_client_kind {
    SIM_BACKEND,
    SIM_TOKEN
}; /* who makes its queue */

struct sim_client {
    struct sim *sim;
    int index;
    int user;
    int node;
    enum sim_client_kind kind;
    enum pl_codec codec;
    struct sim_rng rng;
    bool is_twin;         /* the slow half of a pair */
    bool closing;         /* it is ending its queue right now */
    uint32_t likes_polls; /* percent */
    bool waiting;         /* for the answer of a register */
    bool steady;          /* never slow, lossy or away: the fast half of a pair of twins */
    int twin;             /* index of the slow half, or SIM_NOBODY */
    struct sim_link *link;
    struct sim_queue queue;
    struct sim_token token;
    int64_t position;   /* its last_event_id; -1: none */
    int64_t heard;      /* the newest event its application was given */
    int64_t owed_after; /* events up to this are not owed: before its time, or told to be lost */
    size_t checked;     /* of sim.order: judged already */
    uint64_t *got;      /* a bit per event, by serial number */
    uint64_t *excused;  /* told to be lost */
    uint64_t away_until_ms;
    struct sim_trace trace;
};

struct sim_profile {
    bool memory;         /* one node, the real memory bus */
    int64_t log_entries; /* per channel, at least ring_events */
    bool tight_users;    /* limits.users binds */
    bool tight_bytes;    /* ring_bytes and total_bytes bind */
    uint32_t slow_pipe;  /* percent of announcements that take long */
    size_t clients, users, nodes, channels;
};

struct sim {
    uint64_t seed;
    struct sim_rng rng;
    uint32_t step, steps;
    bool verbose, quiet;
    struct sim_profile profile;
    struct pl_config *cfg;
    uint64_t mono_ms;
    int64_t unix_ms;
    int64_t epoch_start;
    struct pl_wheel wheel; /* of everything that is not a node's */
    struct model_bus *bus;
    struct sim_node nodes[SIM_NODES];
    struct sim_client clients[SIM_CLIENTS];
    struct sim_membership truth[SIM_USERS]; /* what the backend would say now */
    int64_t versions[SIM_USERS];            /* -1: this user's backend uses none */
    struct pl_list dead_links;
    /* history */
    struct sim_event *events; /* by serial number */
    size_t event_count, event_cap;
    uint32_t *order; /* serial numbers in id order */
    size_t order_count;
    struct sim_ids {
        int64_t *ids;
        size_t count, cap;
        size_t lost; /* of an epoch before: no ring holds them */
    } logs[SIM_CHANNELS];
    int64_t newest;            /* newest id given, changes included */
    struct sim_queue *orphans; /* left behind by their clients: they must be gone in time */
    size_t orphan_count, orphan_cap;
    struct sim_change late; /* read, but sent only at late_step; user SIM_NOBODY: none */
    uint32_t late_step;
    bool full;                  /* at the end: who found no room under limits.users stays out */
    bool stopping;              /* a node is being stopped right now */
    struct sim_trace trace;     /* of what concerns all */
    struct sim_client *reading; /* the client whose frame is being looked at, or NULL */
    struct sim_counts {
        uint64_t published, sent, delivered, duplicates, catchups, changes, restarts, replaced,
            gone;
    } counts;
};

struct sim_batch { /* the events of one frame */
    const uint32_t *serials;
    const int64_t *ids;
    size_t count;
    int64_t last_event_id;
};
/* A message as a client understands it. */
enum sim_message_kind {
    SIM_MESSAGE_EVENTS,
    SIM_MESSAGE_CATCHUP,
    SIM_MESSAGE_SIGNAL,
    SIM_MESSAGE_GOAWAY
};
struct sim_message {
    enum sim_message_kind kind;
    struct sim_batch batch;
    struct pl_str reason;
    int64_t last_event_id;
    uint32_t channels; /* of a catch-up; absent: all */
    bool goaway;       /* in a poll's answer too */
};

/* ---- world.c ---- */

void sim_start(struct sim *s, uint64_t seed, uint32_t steps, struct pl_config *cfg, bool verbose);
void sim_stop(struct sim *s);
/* Time passes: nodes' wheels, the bus, the clients' timers. */
void sim_pass(struct sim *s, uint64_t ms);
void sim_node_restart(struct sim_node *n);

/* Notes what happened to a client (NULL: to all). */
void sim_note(struct sim *s, struct sim_client *c, const char *text, int64_t a, int64_t b,
              int64_t d);
/* Only for --verbose: too much for the trace. */
void sim_detail(struct sim *s, const char *text, int64_t a, int64_t b, int64_t d);
/* An invariant is broken: prints seed, step, what, and the client's trace (c may be NULL); does not return. */
_Noreturn void sim_broken(struct sim *s, const struct sim_client *c, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Through this node's core; done as pl_bus_ops.change. */
void sim_send_change(struct sim_node *n, const struct sim_change *c, pl_bus_done_fn *done,
                     void *arg);
void sim_publish(struct sim_node *n, const uint32_t *serials, size_t count);

/* ---- client.c ---- */

void sim_clients_start(struct sim *s);
void sim_clients_stop(struct sim *s);
/* Something that a client in its situation may do; or what it must do to be served in peace. */
void sim_client_act(struct sim_client *c);
void sim_client_settle(struct sim_client *c);
/* What reaches it on a link. */
void sim_client_on_message(struct sim_link *l, const struct sim_message *m);

/* ---- link.c ---- */

struct sim_link *sim_link_new(struct sim_client *c, bool poll);
/* Takes it off its queue, if it is on one, and forgets it. */
void sim_link_drop(struct sim_link *l);
/* As a transport does: attaches, says welcome, lets the core send, holds a poll for hold_ms (0: answers at
 * once). */
void sim_link_open(struct sim_link *l, struct pl_queue *q, int64_t position, uint64_t hold_ms);
/* A socket that stops taking bytes for a while. */
void sim_link_slow(struct sim_link *l, uint64_t ms);

/* ---- wire.c: the core's structs for our facts, and back ---- */

struct sim_wire_event {
    struct pl_bus_event e;
    struct pl_str channels[SIM_CHANNELS];
    struct pl_str subscribers[SIM_USERS];
    char body[320];
};
void sim_wire_event(const struct sim *s, uint32_t serial, struct sim_wire_event *ret);
uint32_t sim_wire_serial(const struct sim *s,
                         const struct pl_bus_event *e); /* checks that it is as it was made */
/* These live until the next call. */
const struct pl_membership *sim_wire_membership(const struct sim_membership *m);
struct pl_bus_change sim_wire_change(const struct sim_change *c);
struct sim_change sim_from_change(const struct pl_bus_change *c);

/* Until the next call. Decodes a frame that many links get only once. */
const struct sim_message *sim_wire_read(struct sim *s, struct pl_frame *f);
void sim_wire_done(void);
struct pl_str sim_user_name(
    int user); /* good until the process ends; in the order of their bytes */
struct pl_str sim_channel_name(int channel);
struct pl_str sim_topic_name(uint32_t topic);
int sim_user_of(struct pl_str name); /* SIM_NOBODY: none of ours */
int sim_channel_of(struct pl_str name);

/* ---- model_bus.c ---- */

struct model_bus *model_bus_new(struct sim *s);
void model_bus_free(struct model_bus *b);
extern const struct pl_bus_ops model_bus_ops;
void *model_bus_port(struct model_bus *b, int node); /* pl_hub_options.bus */
/* Before a node goes: everything it waits for is answered PL_ERR_BUS, nothing reaches it any more. */
void model_bus_cut(struct model_bus *b, int node);
/* A node begins (again) to hear what comes. */
void model_bus_join(struct model_bus *b, int node);
/* Before it serves anybody: the changes of before, and how far the bus is. */
void model_bus_catch_up(struct model_bus *b, int node);
/* A canary to every node. */
void model_bus_canary(struct model_bus *b);
/* From here on nothing fails or takes long. */
void model_bus_calm(struct model_bus *b);

/* ---- rights.c ---- */

void sim_apply_change(struct sim_node *n, int64_t id, const struct sim_change *c);
/* What pl_hub_apply_claims must return; it may refuse for want of room, then nothing has happened. */
int sim_apply_claims(struct sim_node *n, const struct sim_token *t, bool reach_back);
/* After whatever may have made a record: another may have had to go for it. */
void sim_see_forgotten(struct sim_node *n);
bool sim_is_blocked(const struct sim_node *n, int user);
/* Rule 3 for a topic through a channel. */
bool sim_queue_has_topic(const struct sim_queue *q, int channel, uint32_t topic);
void sim_queue_born(struct sim_node *n, struct sim_queue *q,
                    const struct sim_membership *narrowing);
/* topic 0: the whole channel. What the core must return. */
int sim_subscribe(struct sim_node *n, struct sim_queue *q, int channel, uint32_t topic);
int sim_unsubscribe(struct sim_node *n, struct sim_queue *q, int channel, uint32_t topic);

/* ---- oracle.c ---- */

static inline bool sim_bit(const uint64_t *set, uint32_t n)
{
    return (set[n / 64] >> n % 64 & 1) != 0;
}

uint32_t sim_event_new(struct sim *s, const struct sim_event *e); /* returns its serial number */
void sim_event_sequenced(struct sim *s, uint32_t serial, int64_t id);
void sim_id_given(struct sim *s, int64_t id);

/* A frame handed to a link, before anything else is done with it. */
void sim_judge_events(struct sim_link *l, const struct sim_batch *b);
void sim_judge_catchup(struct sim_link *l, struct pl_str reason, int64_t last_event_id);
void sim_judge_position(struct sim_link *l, int64_t position);
/* What reached the client. */
void sim_client_got(struct sim_client *c, uint32_t serial);
void sim_client_at(struct sim_client *c, int64_t position);
void sim_client_lost(struct sim_client *c, int64_t position, uint32_t channels);
/* ---- bounds.c ---- */

/* The queue is not there: may it be? */
void sim_judge_gone(struct sim_client *c);
void sim_judge_present(struct sim_client *c);
/* Its client leaves it behind. */
void sim_orphan(struct sim *s, const struct sim_queue *q);
void sim_judge_bounds(struct sim *s);
bool sim_all_settled(const struct sim *s);
void sim_judge_end(struct sim *s);

#endif
