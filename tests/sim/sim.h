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
 *   model_*.c    a pl_bus_ops of its own, asynchronous, with delays; one sort of world has it keep queues and lose
 *                connections, as the redis bus may
 *   wire.c       the core's structs and frames <-> the simulator's facts
 *   client.c     clients: what they keep and do
 *   link.c       their links (pl_link_ops), WebSocket-like and poll-like
 *   rights.c     what a user's record and a queue's narrowing must be on a node
 *   kept.c       what the bus keeps of records and queues, and what a node must make of it
 *   oracle.c     the history of events, and what each client must and must not get
 *   bounds.c     the bounds of memory and time, and the end of a run
 *
 * rights.c, kept.c, oracle.c and bounds.c are written from docs/delivery.md (its rules, and Rights), not from the core, and
 * share no code with it. */

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
    int64_t listed_ms; /* when a backend said the list that is in force; a disconnect says none */
    int64_t version, backend_ms, update_ms, claims_ms, not_before_ms, blocked_until_ms;
    /* Where the bus keeps records: */
    int64_t as_of;       /* every change up to this id is in it */
    int64_t ended_id;    /* of the last disconnect */
    int64_t narrowed_id; /* of the last change that narrowed all queues */
    /* Changes reached it late or in another order: what a token said in between may count or not. What backends said
     * still does (sim_is_denied). */
    bool blurred;
    bool by_claims;    /* the grants are a token's */
    uint64_t heard[4]; /* which of the user's changes are in it, in the order they were sequenced */
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
    int64_t acked;       /* newest position its client said it had */
    uint64_t touched_ms; /* last sign of life */
    int64_t token_exp_ms;
    bool disconnected;       /* by a change this node has applied */
    bool was_left;           /* with a link that its client had given up */
    bool kicked;             /* it may be gone: by pl_hub_end_queue, or see on_registered */
    int64_t made_id;         /* a disconnect up to this id does not concern it */
    int64_t generation;      /* where the bus keeps queues */
    uint64_t save_failed_ms; /* a save of it was answered PL_ERR_BUS */
    bool made_anew;          /* pl_queue_require_catchup was called */
    bool owes_expired;       /* and what it asks for has not reached the client */
};

/* What is in a queue's state on the bus. */
struct sim_kept {
    struct sim_queue queue;
    struct sim_record record;
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
    bool stopped;                 /* it does nothing at all, and nobody knows */
    uint64_t wake_ms;
    int64_t epoch_start; /* as far as it knows */
    uint64_t missed[SIM_EVENTS /
                    64]; /* announcements that got lost on their way to it, by serial number */
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
    int at;                /* the node */
    uint32_t life;         /* of the node */
    char queue_id[PL_QUEUE_ID_SIZE];
    bool ghost;      /* its client has gone and the node does not know */
    bool owes_epoch; /* it was there, or began, below a new epoch */
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
    bool unkept;          /* its queue's id is not known to it yet */
    bool waiting;         /* for the answer of a register, or of the bus */
    uint32_t asked;       /* counts what it waited for: answers to what it gave up are not for it */
    bool steady;          /* never slow, lossy or away: the fast half of a pair of twins */
    int twin;             /* index of the slow half, or SIM_NOBODY */
    struct sim_link *link;
    struct sim_queue queue;
    struct sim_queue left[SIM_NODES]; /* as it was on other nodes, which may still have it */
    struct sim_token token;
    int64_t position;   /* its last_event_id; -1: none */
    int64_t heard;      /* the newest event its application was given */
    int64_t owed_after; /* events up to this are not owed: before its time, or told to be lost */
    size_t checked;     /* of sim.order: judged already */
    uint64_t *got;      /* a bit per event, by serial number */
    uint64_t *excused;  /* told to be lost */
    uint64_t *missed;   /* lost on the way to its node, which must say so */
    uint64_t away_until_ms;
    struct sim_trace trace;
};

/* A user's record by what backends said alone, after the change with this id. */
struct sim_said {
    int user;
    uint32_t number; /* how-manieth of the user's */
    struct sim_change change;
    int64_t id;
    struct sim_record record;
};
struct sim_told_token {
    int user;
    int64_t iat_ms;
    uint32_t channels;
};

struct sim_profile {
    bool memory; /* one node, the real memory bus */
    bool kept;   /* the bus keeps logs below the rings, records and queues; connections get lost */
    int64_t log_entries;    /* per channel; at least ring_events, but for `kept` */
    size_t control_entries; /* of changes, where kept */
    uint32_t trouble;       /* permille of steps that break a connection, stop or kill a node */
    bool tight_users;       /* limits.users binds */
    bool tight_bytes;       /* ring_bytes and total_bytes bind */
    bool turns;             /* what is published waits for the end of a step */
    uint32_t slow_pipe;     /* percent of announcements that take long */
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
    uint64_t missed[SIM_EVENTS / 64]; /* did not reach some node, at some time */
    struct sim_ids {
        int64_t *ids;
        size_t count, cap;
        size_t lost; /* of an epoch before: no ring holds them */
    } logs[SIM_CHANNELS];
    int64_t newest;        /* newest id given, changes included */
    struct sim_said *said; /* of all users: what backends said, in id order */
    size_t said_count, said_cap;
    struct sim_told_token *tokens; /* every token that was shown to a node */
    size_t token_count, token_cap;
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
            gone, claims, cuts, stops, epochs, gaps;
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
/* It is gone without a word, and a new one begins. */
void sim_node_kill(struct sim_node *n);
/* It does nothing for so long. */
void sim_node_stop(struct sim_node *n, uint64_t ms);
void sim_node_wake(struct sim_node *n);

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
/* The client is gone, the node goes on with the link for a while. */
void sim_link_leave(struct sim_link *l);
/* The queue that it is a link of, as its node must have it; NULL: nobody's any more. */
struct sim_queue *sim_link_queue(struct sim_link *l);
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
/* Where the bus keeps queues (sim_profile.kept): */
extern const struct pl_bus_ops model_bus_kept_ops;
/* A node that has just begun: paused until it is connected. */
void model_bus_begin(struct model_bus *b, int node);
/* Something goes wrong with a connection, or with the history. */
void model_bus_trouble(struct model_bus *b);
void model_bus_stopped(struct model_bus *b, int node);
void model_bus_woken(struct model_bus *b, int node);
/* Before a node ends in peace: what it saves arrives. */
void model_bus_flush(struct model_bus *b, int node);
bool model_bus_is_paused(const struct model_bus *b, int node);
/* Has everybody heard everything by the usual way? */
bool model_bus_is_whole(const struct model_bus *b);
/* Is a queue of this id kept, for whoever asks? */
bool model_bus_keeps(struct model_bus *b, const char *queue_id);
/* The node goes by its connections: was the queue taken from it before they were last proven, and its last save not
 * answered since? */
bool model_bus_is_stale(struct model_bus *b, const struct sim_queue *q);
/* Another node has the queue, or nobody. */
bool model_bus_has_other(struct model_bus *b, const struct sim_queue *q);
int64_t model_bus_floor(const struct model_bus *b, int channel);

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

uint32_t sim_standing(const struct sim_record *r);
void sim_detail_record(const struct sim_node *n, int user);
/* What standing grants another record gives takes the place of the node's; narrows: its narrowing too. */
void sim_adopt_record(struct sim_node *n, int user, const struct sim_record *from, bool narrows);
void sim_disconnect_before(struct sim_node *n, int user, int64_t ended_id);
/* A change to a record without a node. */
void sim_change_record(struct sim_record *r, int64_t id, const struct sim_change *c);
void sim_change_one(struct sim_node *n, int64_t id, const struct sim_change *c);
/* Fresh: as of a queue that comes to have the channel now. */
void sim_renarrow_queue(struct sim_node *n, struct sim_queue *q, int channel, bool fresh);

/* ---- kept.c ---- */

struct sim_numbered_change {
    int64_t id;
    const struct sim_change *change;
};
/* The node is told of a user; snapshot may be NULL. */
void sim_user_told(struct sim_node *n, int user, const struct sim_record *snapshot, int64_t as_of,
                   const struct sim_numbered_change *changes, size_t count);
/* The node was given a queue; false: it has ended. */
bool sim_queue_given(struct sim_node *n, const char *queue_id, const struct sim_kept *kept,
                     int64_t generation);
/* The instance of a queue on a node, if it is somebody's. */
struct sim_queue *sim_instance(struct sim *s, int node, const char *queue_id);
/* The client goes on with what this node has of its queue. */
bool sim_switch_queue(struct sim_client *c, int node);
/* Whatever nodes know: what backends and tokens said so far. */
void sim_said(struct sim *s, int64_t id, const struct sim_change *c);
/* A change is announced; what was heard before of later ones follows again. */
void sim_change_heard(struct sim_node *n, int user, int64_t id);
void sim_token_told(struct sim *s, const struct sim_token *t);
/* An event does not reach a node, though it should. */
void sim_missed(struct sim_node *n, uint32_t serial);
/* One of its channels' logs does not say what came before it. */
void sim_hidden(struct sim *s, uint32_t serial);
/* I3 by that alone, for what a node sends that was told everything up to `known`. */
bool sim_is_denied(const struct sim *s, const struct sim_queue *q, const struct sim_event *e,
                   int64_t known);

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
/* Its queue is on another node now, or another queue: what got lost on the way to the one before is not known there. */
void sim_client_moved(struct sim_client *c);
/* At the end: what was lost on the way to a node was told. */
void sim_judge_missed(const struct sim_client *c);
/* The node learns of a new epoch: what is attached below it must be told. */
void sim_epoch_told(struct sim_node *n, int64_t start);
int64_t sim_applied(const struct sim_node *n);

/* ---- bounds.c ---- */

/* May the queue be ended by its node now? */
void sim_judge_dropped(struct sim_node *n, const char *queue_id);
/* The queue is not there: may it be? */
void sim_judge_gone(struct sim_client *c);
void sim_judge_present(struct sim_client *c);
/* Its client leaves it behind. */
void sim_orphan(struct sim *s, const struct sim_queue *q);
void sim_judge_bounds(struct sim *s);
bool sim_all_settled(const struct sim *s);
void sim_judge_end(struct sim *s);

#endif
