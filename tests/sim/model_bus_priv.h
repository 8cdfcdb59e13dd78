#ifndef PL_TESTS_SIM_MODEL_BUS_PRIV_H
#define PL_TESTS_SIM_MODEL_BUS_PRIV_H

#include "server/base/buf.h"
#include "tests/sim/sim.h"

/* The model of a bus, in parts that share this header:
 *   model_bus.c    ids, logs, announcements; requests on their way and back: publish, change, open, read
 *   model_feed.c   connections that get lost, and the ways back: reading the logs, epochs, stopped nodes
 *   model_kept.c   users' records and queues */

struct log_entry {
    int64_t id, prev;
    uint32_t serial;
};

struct bus_log {
    struct log_entry *entries; /* the newest log_entries of them, oldest first */
    size_t count;
    int64_t floor, last;
};

/* What the bus holds of a user. */
struct bus_user {
    struct pl_buf snapshot;   /* as the core gave it */
    struct sim_record record; /* what it must say */
    int64_t as_of;
    size_t *changes; /* of model_bus.changes, ascending */
    size_t count, cap;
    int64_t read_at; /* of a copy: the newest id then */
};

/* A queue as the bus keeps it. */
struct bus_queue {
    char id[PL_QUEUE_ID_SIZE];
    int user;
    int64_t generation, position;
    int64_t saved_by; /* the generation that saved it last */
    int64_t
        came_ms; /* when the client came for which it was claimed; 0: it was not, or that is not known */
    bool back; /* of a claim: only if that client is clearly the newer one */
    int owner;
    uint32_t life; /* of the owner */
    bool dead;     /* it has ended: so much is known of it */
    uint64_t expires_ms, claimed_ms;
    const char *transport;
    int64_t since_ms;
    struct pl_buf state;
    struct sim_kept mirror; /* what the state must say */
};

enum call_kind {
    CALL_PUBLISH,
    CALL_CHANGE,
    CALL_SEQUENCE,
    CALL_OPEN,
    CALL_READ,
    CALL_SAVE,
    CALL_CLAIM,
    CALL_DROP,
    CALL_END,
    CALL_USER,
    CALL_COMPACT
};
enum {
    CALL_EVENTS = 8
};

/* A request on its way to the bus, then its answer on its way back. */
struct call {
    struct pl_list node; /* of port.calls */
    struct pl_timer timer;
    struct port *port;
    enum call_kind kind;
    bool answering;
    bool ready; /* the answer is here, but for those before it */
    bool waits; /* until the connection is back: it is asked again then */
    pl_bus_done_fn *done;
    void *arg;
    int status;
    int64_t ids[CALL_EVENTS];
    size_t count;
    uint32_t serials[CALL_EVENTS];
    struct sim_change change;
    /* CALL_OPEN, CALL_READ */
    int channel; /* SIM_NOBODY: none of ours, such as a user's own */
    char name[64];
    size_t name_len;
    int64_t after_id, upto, floor, whole_to;
    struct log_entry *entries;
    size_t entry_count;
    /* CALL_USER, CALL_CHANGE, CALL_CLAIM: the user as the bus holds it; CALL_COMPACT: the snapshot */
    int user;
    struct bus_user held;
    /* CALL_SAVE, CALL_CLAIM, CALL_DROP, CALL_END */
    struct bus_queue queue;
};

struct announcement {
    enum {
        SAY_EVENT,
        SAY_CHANGE,
        SAY_APPLIED,
        SAY_TAKEN,
        SAY_END
    } kind;
    uint64_t due_ms;
    int64_t id;          /* SAY_TAKEN: the generation */
    int64_t came_ms;     /* SAY_TAKEN */
    uint32_t index;      /* serial number, or of model_bus.changes; SAY_END: the status */
    struct call *origin; /* a change's own node: answered once it was applied */
    int64_t prevs[SIM_CHANNELS];
    char queue_id[PL_QUEUE_ID_SIZE];
};

/* How a node hears what happens. */
enum feed {
    FEED_NONE,
    FEED_LOGS,   /* by reading the logs again and again */
    FEED_JOINS,  /* still so, while announcements gather that are heard after the next reading */
    FEED_STREAM, /* announcements, in order */
};

/* A node's end of the bus. */
struct port {
    struct model_bus *bus;
    int node;
    bool up;       /* the node is there */
    bool commands; /* requests are answered */
    bool stopped;  /* the node does nothing */
    bool paused;   /* its core was told to wait */
    bool begun;    /* it knows the epoch */
    bool hears;    /* its core was told that what others say of queues is heard */
    enum feed feed;
    int64_t at; /* the core was told everything up to here */
    int64_t epoch;
    uint64_t up_ms, resumed_ms;
    bool open[SIM_CHANNELS];
    struct pl_list calls;
    struct pl_timer timer;
    struct announcement *pipe; /* in order; head is next */
    size_t head, count, cap;
    uint64_t last_due_ms;
    /* model_feed.c */
    struct pl_timer back, round;
    bool reading; /* a round's answer is on its way: */
    bool reading_joins;
    bool complete; /* it is all there was then */
    int64_t whole;
    struct announcement *read;
    size_t read_count, read_cap;
    bool lost_changes;
};

struct model_bus {
    struct sim *sim;
    struct sim_rng rng;
    bool calm;
    struct bus_log logs[SIM_CHANNELS];
    struct {
        int64_t id;
        struct sim_change change;
    } * changes;
    size_t change_count, change_cap;
    size_t control; /* the oldest change that the control log still holds */
    struct port ports[SIM_NODES];
    /* model_kept.c */
    struct bus_user users[SIM_USERS];
    struct bus_queue **queues;
    size_t queue_count, queue_cap;
};

/* ---- model_bus.c ---- */

uint64_t model__delay(struct model_bus *b, uint32_t slow_percent);
struct call *model__call_new(struct port *p, enum call_kind kind, pl_bus_done_fn *done, void *arg);
void model__finish(struct call *c); /* without an answer */
void model__answer(struct call *c, int status, const int64_t *ids, size_t count);
void model__arrive(struct call *c); /* the request gets to the bus */
struct announcement *model__say(struct port *p, int kind, int64_t id, uint32_t index);
void model__hear(struct port *p, const struct announcement *a);
/* What is in the pipe is heard, as far as it is due. */
void model__hear_pipe(struct port *p);

/* ---- model_feed.c ---- */

void model__feed_init(struct port *p);
void model__feed_done(struct port *p);

/* ---- model_kept.c ---- */

void model__kept_done(struct model_bus *b);
/* A request about users and queues reaches the bus; false: there is no answer. */
bool model__kept_arrive(struct call *c);
void model__kept_answer(struct call *c);
void model__change_held(struct model_bus *b, size_t index);
void model__held_copy(struct model_bus *b, int user, struct bus_user *ret);
void model__held_free(struct bus_user *u);
void model__tell_user(struct port *p, int user, const struct bus_user *held);
/* The records that the node has lack changes, and are to be told again. */
void model__blur(struct port *p);
struct bus_queue *model__queue_find(struct model_bus *b, const char *id);
void model__call_kept_free(struct call *c);

void model__save(void *bus, const struct pl_bus_queue *queues, size_t count);
void model__claim(void *bus, struct pl_str queue_id, int64_t came_ms, bool back);
void model__drop(void *bus, struct pl_str queue_id, struct pl_str user_id, int64_t generation);
void model__end_queue(void *bus, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                      void *arg);
void model__user(void *bus, struct pl_str user_id);
void model__compact(void *bus, struct pl_str user_id, int64_t as_of, struct pl_str snapshot);

#endif
