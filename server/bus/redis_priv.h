#ifndef PL_BUS_REDIS_PRIV_H
#define PL_BUS_REDIS_PRIV_H

#include "server/base/map.h"
#include "server/bus/redis.h"
#include "server/bus/redis_conn.h"
#include "server/bus/redis_wire.h"

/* The redis bus, in parts that share this header:
 *   redis.c         making, connecting, canary, readiness, the table of operations
 *   redis_setup.c   what happens when commands come up: functions, role, policy, epoch
 *   redis_feed.c    channels and the stream: open, close, announcements, switching
 *   redis_read.c    reading one channel's log: when it is opened, and what lies below its ring
 *   redis_round.c   the stream without Pub/Sub: reading the logs of all open channels, again and again
 *   redis_ask.c     what has one answer, with redis_publish.c and redis_queue.c (redis_ask_priv.h)
 *   redis_raw.c     what backends of the seeds' kind publish: discussion_events, subscription_changes */

struct pl_redis_feed; /* redis_feed.c */
struct pl_redis_ask;  /* redis_ask.c */
struct pl_redis_raw;  /* redis_raw.c */

struct pl_redis_bus {
    const struct pl_config *cfg;
    struct pl_redis_url url;
    const char *node;
    const char *address;
    struct pl_wheel *wheel;
    struct uv_loop_s *loop;
    struct pl_hub *hub;
    struct pl_redis_conn *commands, *pubsub;
    struct pl_redis_feed *feed;
    struct pl_redis_ask *ask;
    struct pl_redis_raw *raw;
    bool up;                 /* commands is up and set up: functions loaded, epoch known */
    bool was_up;             /* before, too */
    bool server_is_old;      /* it has been running for a while: it says so */
    uint64_t fresh_until_ms; /* until then owners may still be writing their queues back */
    int64_t epoch;           /* its number; 0: none known yet */
    int64_t epoch_start;     /* two epochs are the same one only if number and start are */
    int64_t
        newest; /* the newest id ever seen here, in replies and announcements: below it history cannot go */
    uint64_t nonce[2]; /* random per process, and counting: every nonce is used once */
    int64_t started_unix_ms;
    char error[160]; /* of the last failed try to set up; "" */
    struct pl_redis_setup {
        bool
            failed; /* commands is connected, but what is there is not fit; tried again by `again` */
        bool checking;         /* the epoch is being verified or asked for */
        int64_t number, start; /* while checking: the epoch that is verified */
        int64_t newest;        /* b->newest when the question was sent */
        size_t marks;          /* how many were sent */
        bool bad_policy;
        uint64_t policy_ms; /* when the policy was asked for */
        uint64_t reset_ms;  /* when a reply made us begin anew */
        struct pl_timer again;
    } setup;
    struct pl_redis_canary {
        struct pl_timer timer;
        uint64_t due_ms;
        char nonce[33]; /* of the one under way; "" if none */
        uint64_t sent_us;
        unsigned missed, good; /* in a row */
        bool trusted, ever;    /* ever: one came back since the commands are up */
        bool refused;          /* Redis does not let us write */
        int64_t ahead_ms[3];   /* the server's clock less ours, as the last canaries' ids say */
        unsigned answered;     /* so many did */
    } canary;
};

/* ---- redis.c ---- */

uint64_t pl_redis__now_ms(const struct pl_redis_bus *b);
/* Begins a function call: FCALL name <keys>. Then pl_redis__key for each key, pl_redis_arg_* for the rest. */
void pl_redis__fcall(struct pl_redis_args *a, const char *function, size_t keys);
/* The same for functions that write nothing. */
void pl_redis__fcall_ro(struct pl_redis_args *a, const char *function, size_t keys);
void pl_redis__key(const struct pl_redis_bus *b, struct pl_redis_args *a, const char *kind,
                   struct pl_str name);
void pl_redis__own_key(const struct pl_redis_bus *b,
                       struct pl_redis_args *a); /* our Pub/Sub channel */
/* An id that is announced, and answered with; false: there is no connection. */
bool pl_redis__ask_marker(const struct pl_redis_bus *b, pl_redis_reply_fn *fn, void *arg);
/* A nonce that no other call of any node has: 32 hexadecimal digits and a NUL. */
void pl_redis__nonce(struct pl_redis_bus *b, char out[33]);
/* A moment by our clock as the server's says it, so that nodes may compare moments, and back; 0: not
 * known. */
int64_t pl_redis__server_ms(const struct pl_redis_bus *b, int64_t own_ms);
int64_t pl_redis__own_ms(const struct pl_redis_bus *b, int64_t server_ms);
/* PUBLISH of this to the node's own channel. */
void pl_redis__publish_own(const struct pl_redis_bus *b, struct pl_redis_args *a,
                           const char *message);
/* An id was given or seen. */
void pl_redis__seen(struct pl_redis_bus *b, int64_t id);
/* The feed changed its mode, or Pub/Sub was proven: readiness may have changed. */
void pl_redis__feed_changed(struct pl_redis_bus *b);
/* History is not what it was (a channel's read said so): a new epoch is asked for. */
void pl_redis__forked(struct pl_redis_bus *b);
/* Is r no good answer? Counts it; a reply that says we talk to the wrong server, or to one that lost our
 * functions, begins the connection anew. */
bool pl_redis__failed(struct pl_redis_bus *b, const struct redisReply *r);
/* An integer, or a bulk string of decimal digits; -1 for anything else. */
int64_t pl_redis__number(const struct redisReply *r);
struct pl_str pl_redis__text(const struct redisReply *r); /* of a string; len 0 for anything else */

/* ---- redis_setup.c ---- */

void pl_redis__setup_begin(struct pl_redis_bus *b); /* commands are connected */
void pl_redis__setup_end(struct pl_redis_bus *b);   /* commands are lost */
/* The library of functions may have been replaced: looked at again. */
void pl_redis__setup_functions(struct pl_redis_bus *b);
/* maxmemory-policy may have been changed: looked at again. */
void pl_redis__setup_policy(struct pl_redis_bus *b);
/* The epoch is verified; one that is not ours is told to the feed. Nothing happens if that is under way. */
void pl_redis__setup_check(struct pl_redis_bus *b);

/* ---- redis_feed.c: called by redis.c ---- */

struct pl_redis_feed *pl_redis__feed_new(struct pl_redis_bus *b);
void pl_redis__feed_free(struct pl_redis_feed *f);
enum pl_redis_feed_mode pl_redis__feed_mode(const struct pl_redis_feed *f);
/* Commands are served, the epoch is known (and told to the hub): reading logs may begin. */
void pl_redis__feed_up(struct pl_redis_feed *f);
void pl_redis__feed_down(struct pl_redis_feed *f); /* commands are lost */
void pl_redis__feed_pubsub_up(struct pl_redis_feed *f);
void pl_redis__feed_pubsub_down(struct pl_redis_feed *f);
void pl_redis__feed_push(struct pl_redis_feed *f, const struct redisReply *r);
/* Pub/Sub is not to be trusted; it is begun anew. */
void pl_redis__feed_doubt(struct pl_redis_feed *f, const char *reason);
/* A new epoch, which the hub is told; everything is read anew. sequence: the newest id now. */
void pl_redis__feed_epoch(struct pl_redis_feed *f, int64_t start, int64_t sequence, bool first);
/* The hub has been told everything up to here. */
int64_t pl_redis__feed_at(const struct pl_redis_feed *f);
/* Is the node's own Pub/Sub channel listened to? */
bool pl_redis__feed_hears(const struct pl_redis_feed *f);
/* The newest id and tag of open channels, to be verified after a reconnect; at most max; how many. */
struct pl_redis_mark {
    struct pl_str channel; /* len 0: control */
    int64_t id;
    struct pl_str tag;
};
size_t pl_redis__feed_marks(const struct pl_redis_feed *f, struct pl_redis_mark *marks, size_t max);
/* pl_bus_ops */
void pl_redis__open(void *bus, struct pl_str channel, int64_t after_id);
void pl_redis__close(void *bus, struct pl_str channel);
void pl_redis__read(void *bus, struct pl_str channel, int64_t after, int64_t upto);
/* C with this nonce came by Pub/Sub (redis.c). */
void pl_redis__canary_came(struct pl_redis_bus *b, struct pl_str nonce);

/* ---- redis_ask.c, redis_publish.c, redis_queue.c ---- */

struct pl_redis_ask *pl_redis__ask_new(struct pl_redis_bus *b);
void pl_redis__ask_free(struct pl_redis_ask *a);
/* Commands are served again: what may be asked again under its key is. */
void pl_redis__ask_up(struct pl_redis_ask *a);
void pl_redis__ask_down(struct pl_redis_ask *a); /* commands are lost */
/* The newest publishes that were answered with an id, for verifying after a failover. */
size_t pl_redis__ask_marks(const struct pl_redis_ask *a, struct pl_redis_mark *marks, size_t max);
void pl_redis__publish(void *bus, const struct pl_bus_event *events, size_t count,
                       const struct pl_bus_key *key, pl_bus_done_fn *done, void *arg);
void pl_redis__change(void *bus, const struct pl_bus_change *c, pl_bus_done_fn *done, void *arg);
void pl_redis__sequence(void *bus, pl_bus_done_fn *done, void *arg);
void pl_redis__save(void *bus, const struct pl_bus_queue *queues, size_t count);
void pl_redis__claim(void *bus, struct pl_str queue_id, int64_t came_ms, bool back);
void pl_redis__drop(void *bus, struct pl_str queue_id, struct pl_str user_id, int64_t generation);
void pl_redis__end_queue(void *bus, struct pl_str queue_id, int status, pl_bus_done_fn *done,
                         void *arg);
void pl_redis__user(void *bus, struct pl_str user_id);
void pl_redis__compact(void *bus, struct pl_str user_id, int64_t as_of, struct pl_str snapshot);
/* As publish and change, under a key of the caller's that lives for ten minutes: for redis_raw.c. same: it had been
 * done under this key before. */
typedef void pl_redis_once_fn(void *arg, int status, bool same);
void pl_redis__publish_once(struct pl_redis_bus *b, const struct pl_bus_event *e, struct pl_str key,
                            pl_redis_once_fn *done, void *arg);
void pl_redis__change_once(struct pl_redis_bus *b, const struct pl_bus_change *c, struct pl_str key,
                           pl_redis_once_fn *done, void *arg);
/* The hub is told what is held about a user (pl_hub_bus_user), then done comes from the loop. */
void pl_redis__user_read(struct pl_redis_bus *b, struct pl_str user_id, pl_hub_ready_fn *done,
                         void *arg);

/* ---- redis_raw.c ---- */

struct pl_redis_raw *pl_redis__raw_new(struct pl_redis_bus *b);
void pl_redis__raw_free(struct pl_redis_raw *r);
/* A marker (M <id>) came: messages are numbered from here on, the same on every node. */
void pl_redis__raw_marker(struct pl_redis_raw *r, int64_t id);
/* Pub/Sub was lost: nothing is numbered until the next marker. */
void pl_redis__raw_lost(struct pl_redis_raw *r);
/* A message on one of the raw channels, as it came. */
void pl_redis__raw_message(struct pl_redis_raw *r, struct pl_str channel, struct pl_str message);

#endif
