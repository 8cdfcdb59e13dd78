#ifndef PL_CORE_HUB_PRIV_H
#define PL_CORE_HUB_PRIV_H

#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/rate.h"
#include "server/base/wheel.h"
#include "server/core/channel_priv.h"
#include "server/core/hub.h"

/* A message that is made for several queues: these events, in this codec. */
struct pl_shared {
    enum pl_codec codec;
    uint32_t count;
    int64_t *ids;
    int64_t last_event_id;
    struct pl_frame *frame; /* NULL: the place is free */
};

enum {
    PL_TURN_SHARED = 8, /* so many differ in one turn; beyond that the oldest is made again */
};

/* What the turn that is running has for its end (turn.c). */
struct pl_turn {
    struct pl_queue **queues; /* that were up to date; NULL: ended meanwhile */
    struct pl_event **events; /* counted */
    uint32_t queue_count, queue_cap, event_count, event_cap;
    size_t applied, bytes; /* since somebody waits: more than a ring holds must not */
    uint32_t handed;       /* messages with events that links took */
    struct pl_shared shared[PL_TURN_SHARED];
    uint32_t next_shared;
};

struct pl_queue;
struct pl_reader;

struct pl_hub {
    const struct pl_config *cfg;
    const struct pl_bus_ops *bus_ops;
    void *bus;
    bool ring_is_log;
    bool has_turns;
    struct pl_wheel *wheel;
    void (*random)(void *out, size_t len);
    uint64_t mono_ms;
    int64_t unix_ms;

    int64_t epoch_start;
    int64_t applied; /* newest id seen on the bus */
    int64_t newest;  /* newest id known to have been given: the bus is asked about what is above */
    int64_t forgotten_id; /* a channel unknown here may have had events up to this */
    int64_t forgotten_ms; /* a user unknown here may have had a backend change up to this */

    struct pl_map channels, users, queues;
    struct pl_list channel_lru;                /* least recently used first */
    struct pl_list channels_read;              /* PL_CHANNEL_READ */
    struct pl_list idle_short, idle_long;      /* users without a queue, longest idle first */
    struct pl_list spent;                      /* of queues and users, unused for longest first */
    size_t ring_bytes;                         /* of all events, each counted once */
    uint64_t links[PL_TRANSPORT_LONGPOLL + 1]; /* queues by the transport of their link */
    struct pl_timer sweep;

    /* On a bus of many nodes (store.c, fetch.c, history.c). */
    bool paused;              /* cut off from the bus */
    bool deaf;                /* whether another node took a queue would not be heard */
    bool degraded;            /* and clients are told so */
    bool changes_lost;        /* records are to be asked for again */
    uint32_t reloading;       /* records asked for again, not here yet */
    struct pl_timer degrade;  /* a pause that lasts is told */
    struct pl_list unneeded;  /* channels without a queue, still open; longest first */
    struct pl_list histories; /* channels whose log is to be read below the ring */
    uint32_t history_reads;   /* such readings under way */
    bool handing_out;         /* to several: bounds wait until all have got it */
    int64_t passed[256];      /* newest change that passed of a user not held, by hash */
    struct pl_map fetches;    /* what is being asked of the bus about users and queues */
    struct pl_list unsaved;   /* queues to be saved */
    struct pl_list saved;     /* queues that the bus keeps, saved longest ago first */
    struct pl_timer flush;
    uint32_t saves_under_way; /* queues in saves that are not answered */
    bool save_urgent;         /* somebody waits for one that has not begun */
    bool ask_again;           /* a question about a position was not answered */

    const char *goaway_reason; /* of the last pl_hub_goaway */
    int64_t goaway_spread_ms;
    uint64_t drain_since_ms; /* pl_hub_drain; 0: not draining */
    struct pl_turn turn;
    /* Scratch of a pull: batch_cap events with their ids, and what it reads from. */
    struct pl_event **batch;
    int64_t *batch_ids;
    size_t batch_cap;
    struct pl_reader *readers;
    size_t reader_cap;
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

/* ---- spent.c: what of its rates a queue or a user has used up ---- */

/* There is one only while something is: a bucket that is full again is none, so who is quiet costs a
 * pointer. */
struct pl_spent {
    struct pl_list node;     /* of pl_hub.spent */
    struct pl_spent **owner; /* where the queue or the user has it */
    struct pl_rate rates[PL_USE_COUNT];
};

void pl_spent__forget(struct pl_spent *s); /* its owner goes; NULL is nothing */
void pl_spent__sweep(struct pl_hub *h);    /* once a second */

/* ---- stream.c: what the bus tells ---- */

void pl_stream__init(struct pl_hub *h);
void pl_stream__done(struct pl_hub *h);
void pl_stream__sweep(struct pl_hub *h); /* once a second */
/* A channel is needed by its first queue, or by none any more. */
void pl_stream__need(struct pl_hub *h, struct pl_channel *c);
void pl_stream__unneed(struct pl_hub *h, struct pl_channel *c);
/* The bus has given this id to something. */
void pl_stream__given(struct pl_hub *h, int64_t id);
/* Nothing may be delivered now: what was revoked meanwhile is not known. */
bool pl_stream__is_held(const struct pl_hub *h);
/* What held everything up may be over: goes on. */
void pl_stream__go_on(struct pl_hub *h);

/* ---- history.c: the log below a ring ---- */

/* Asks the bus for what the channel had after this id, if the log may still have it. False: it is
 * lost. */
bool pl_history__want(struct pl_channel *c, int64_t after);
void pl_history__forget(struct pl_channel *c); /* the channel goes */
void pl_history__next(struct pl_hub *h); /* begins those that wait, as many as may be under way */
/* Readings that were under way when the bus went are asked for again by whoever needs them. */
void pl_history__restart(struct pl_hub *h);

/* ---- store.c: saving queues ---- */

bool pl_store__is_kept(const struct pl_hub *h); /* the bus keeps queues and records */
void pl_store__init(struct pl_hub *h);
void pl_store__done(struct pl_hub *h);
void pl_store__sweep(struct pl_hub *h); /* once a second */
/* The bus is back: every queue is saved again before it is served. */
void pl_store__resume(struct pl_hub *h);

/* ---- fetch.c: asking for records and queues ---- */

void pl_fetch__init(struct pl_hub *h);
void pl_fetch__done(struct pl_hub *h); /* whoever waits is told PL_ERR_DRAINING */
/* Records that may have missed changes are asked for again; pl_stream__go_on when they are here. */
void pl_fetch__reload(struct pl_hub *h);
/* Others say that the queue is theirs, and its link is newer than theirs, or may be: it is claimed. */
struct pl_queue;
void pl_fetch__reclaim(struct pl_queue *q);
/* The record has just been made: a change of it may have passed before. Then nothing is delivered to
 * its queues before it has been asked for again. */
struct pl_user;
void pl_fetch__doubt(struct pl_user *u);
/* Is the record to be asked for again, with changes in it that are missing here? Then no later one
 * is applied before them. */
bool pl_fetch__is_awaited(struct pl_hub *h, struct pl_str user_id);
/* A change of a user's record was announced that is not held here. */
void pl_fetch__change_passed(struct pl_hub *h, int64_t id, struct pl_str user_id);

#endif
