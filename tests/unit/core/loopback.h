#ifndef PL_TESTS_UNIT_CORE_LOOPBACK_H
#define PL_TESTS_UNIT_CORE_LOOPBACK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/frame.h"
#include "protocol/status.h"
#include "server/base/config.h"
#include "server/base/wheel.h"
#include "server/bus/memory.h"
#include "server/core/hub.h"

/* A node without a network: a hub on a bus, time that passes only when told, and links that keep what they were sent.
 *
 * Lists are written as text. Channels: "community:1 community:2". Membership: the same, where "community:2=a,b" narrows
 * to two topics and "community:2=" to none; one such entry, or a leading "!", makes the narrowing present. Users: "7 ann". */

struct loopback;

/* ---- buses ---- */

/* What the fixture needs of a bus beside its port. turn: lets what is under way arrive; NULL if nothing ever is. */
struct lb_bus {
    const char *name;
    const struct pl_bus_ops *ops;
    bool ring_is_log;
    bool scripted; /* its bus begins with a struct lb_script_bus */
    void *(*make)(const struct pl_config *cfg, int64_t unix_ms);
    void (*release)(void *bus);
    int64_t (*epoch)(const void *bus);
    void (*connect)(void *bus, struct pl_hub *h);
    void (*turn)(void *bus);
    void (*leave)(
        void *bus); /* the hub has left it and will be freed; NULL: nothing is open then */
    void (*pass)(void *bus,
                 int64_t ms); /* waits, where time cannot be told to pass; NULL: it can */
};

extern const struct lb_bus lb_memory;
/* Asynchronous, by hand: what is opened, asked and announced is in the test's hands. Changes are applied and answered
 * at once. */
extern const struct lb_bus lb_script;

enum {
    LB_SCRIPT_CALLS = 32
};
struct lb_script_bus {
    struct pl_hub *hub;
    int64_t epoch, last_id;
    struct {
        char channel[160];
        int64_t after_id;
    } opens[LB_SCRIPT_CALLS]; /* not answered yet, oldest first */
    size_t open_count, opened_total, closed_total;
    struct {
        pl_bus_done_fn *done;
        void *arg;
    } questions[LB_SCRIPT_CALLS]; /* sequence() not answered yet */
    size_t question_count;
    int64_t *shared_id; /* the sequence, where other nodes draw from it, too; NULL: last_id is it */
};

struct loopback {
    struct pl_config *cfg; /* may be changed at any time */
    struct pl_wheel wheel;
    struct pl_hub *hub;
    const struct lb_bus *kind;
    void *bus;
    uint64_t mono_ms;
    int64_t unix_ms;
    struct pl_list links;  /* freed with it */
    struct loopback *peer; /* another node of the same cluster, stopped with it; NULL: none */
};

/* cmocka setups and teardown; *state is the loopback. stop fails if a timer outlives the hub. */
int lb_start_memory(void **state);
int lb_start_script(void **state);
int lb_start_turns(void **state); /* on the memory bus: sent is when pl_hub_end_turn says so */
int lb_stop(void **state);
struct loopback *lb_new(const struct lb_bus *kind);

void lb_pass(struct loopback *lb, int64_t ms);
struct pl_hub_stats lb_stats(const struct loopback *lb);

/* ---- publishing ---- */

struct lb_event {
    const char *channels;    /* NULL: "community:1" */
    const char *topic;       /* NULL: none */
    const char *subscribers; /* NULL: everybody; "": nobody */
    const char *exclude_user;
    const char *exclude_queue;
    size_t pad; /* bytes to make it bigger by */
};

/* As a bus carries it; everything lives in the arena. */
struct pl_bus_event lb_bus_event(const struct lb_event *e, struct pl_arena *a);

/* Through the bus; returns the id. LB_PUBLISH(lb, .topic = "a") */
int64_t lb_publish_event(struct loopback *lb, const struct lb_event *e);
#define LB_PUBLISH(lb, ...) lb_publish_event(lb, &(struct lb_event){__VA_ARGS__})

/* ---- the scripted bus ---- */

struct lb_script_bus *lb_script_of(struct loopback *lb);
int64_t lb_next_id(struct loopback *lb);
/* An announcement; prevs: one per channel. */
uint32_t lb_announce_event(struct loopback *lb, int64_t id, const struct lb_event *e,
                           const int64_t *prevs);
#define LB_ANNOUNCE(lb, id, prev, ...) \
    lb_announce_event(lb, id, &(struct lb_event){__VA_ARGS__}, (int64_t[]){prev, prev, prev, prev})

struct lb_log_entry {
    int64_t id, prev;
    struct lb_event e;
};
struct lb_log {
    int64_t after_id; /* what was asked for */
    int64_t floor;
    const struct lb_log_entry *entries;
    size_t count;
    int64_t whole_to;
};
/* Answers the oldest open of this channel. */
void lb_answer_open(struct loopback *lb, const char *channel, const struct lb_log *log);
/* The same for a channel that holds nothing new. */
void lb_answer_open_empty(struct loopback *lb, const char *channel, int64_t whole_to);
/* Answers the oldest sequence(). */
void lb_answer_sequence(struct loopback *lb, int64_t newest);

/* ---- rights and queues ---- */

const struct pl_membership *lb_membership(const char *text, struct pl_arena *a);
/* Backend changes through the bus, at the fixture's time. version < 0: none. Return the change's id. */
int64_t lb_register(struct loopback *lb, const char *user, const char *membership);
int64_t lb_update(struct loopback *lb, const char *user, const char *membership);
int64_t lb_change(struct loopback *lb, enum pl_change_kind kind, const char *user,
                  const char *membership, int64_t version);
int64_t lb_disconnect(struct loopback *lb, const char *user, int64_t block_ms);
int lb_claims(struct loopback *lb, const char *user, const char *membership, int64_t iat_ms,
              bool reach_back);
struct pl_user *lb_user(struct loopback *lb, const char *user); /* NULL: none */
/* The granted communities as text: "1,2". Until the next call. */
const char *lb_communities(struct loopback *lb, const char *user);

/* register, then a queue that starts now (or at position, if >= 0). */
struct pl_queue *lb_queue(struct loopback *lb, const char *user, const char *membership);
struct pl_queue *lb_queue_at(struct loopback *lb, const char *user, const char *membership,
                             int64_t position);
/* For a user who has a record; membership NULL: the record's narrowing. */
struct pl_queue *lb_another_queue(struct loopback *lb, const char *user, int64_t position);
const char *lb_queue_id(const struct pl_queue *q); /* until the fourth call after it */
bool lb_is_gone(struct loopback *lb, const char *queue_id);
int lb_subscribe(struct pl_queue *q, const char *channel, const char *topic); /* topic NULL: all */
int lb_unsubscribe(struct pl_queue *q, const char *channel, const char *topic);

/* ---- links ---- */

struct lb_message {
    struct pl_frame *frame;
    struct pl_arena arena;
    const struct pl_value *v;
};

struct lb_link {
    struct pl_link base;
    struct pl_list node; /* of loopback.links */
    bool refuse;         /* takes nothing now */
    int takes;           /* >= 0: takes so many more, then refuses */
    bool skips_status;   /* keeps nothing of what it is told of the bus */
    size_t offered;      /* calls of send */
    struct lb_message *messages;
    size_t count, cap, seen; /* seen: looked at by an expectation */
    int64_t position;        /* last_event_id of the newest message that had one; -1: none yet */
    bool ended, spent;
    int end_status;
};

struct lb_link *lb_link_new(struct loopback *lb, enum pl_transport t, enum pl_codec codec);
/* As the transports do: attach, (say welcome,) let the core send. position < 0: none given. */
struct lb_link *lb_websocket(struct loopback *lb, struct pl_queue *q, int64_t position);
struct lb_link *lb_poll(struct loopback *lb, struct pl_queue *q, int64_t position);
void lb_open(struct lb_link *l, struct pl_queue *q, int64_t position);
/* The link takes bytes again and says so. */
void lb_take_again(struct lb_link *l);
/* A poll that asks, is answered at the latest when its time is up, and goes. Returns the answered link. */
struct lb_link *lb_poll_once(struct loopback *lb, struct pl_queue *q, int64_t position);

/* The next message not looked at yet; fails if there is none. */
const struct lb_message *lb_take_message(struct lb_link *l, const char *file, int line);
#define LB_TAKE(l) lb_take_message(l, __FILE__, __LINE__)
/* What was sent since the last expectation is these events, in as many messages as it likes, and nothing else. */
void lb_expect_ids(struct lb_link *l, const int64_t *ids, size_t count, const char *file, int line);
#define LB_EXPECT_EVENTS(l, ...)                                                                   \
    lb_expect_ids(l, (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), \
                  __FILE__, __LINE__)
#define LB_EXPECT_NO_EVENTS(l) lb_expect_ids(l, NULL, 0, __FILE__, __LINE__)
void lb_expect_no_message(struct lb_link *l, const char *file, int line);
#define LB_EXPECT_SILENCE(l) lb_expect_no_message(l, __FILE__, __LINE__)
/* The next message is a catch-up; communities: "1,2", or NULL if none are named. */
void lb_expect_catchup_message(struct lb_link *l, const char *reason, const char *communities,
                               const char *file, int line);
#define LB_EXPECT_CATCHUP(l, reason, communities) \
    lb_expect_catchup_message(l, reason, communities, __FILE__, __LINE__)
/* The link was ended once, with this. */
void lb_expect_ended(const struct lb_link *l, int status);

/* A value as JSON text, until the fourth call after it; NULL stands for absent. */
const char *lb_json(const struct pl_value *v);
/* A member of a message as JSON text. */
const char *lb_member(const struct lb_message *m, const char *key);

struct pl_str lb_str(const char *s); /* NULL: len 0 */

#endif
