#ifndef PL_BUS_REDIS_FEED_PRIV_H
#define PL_BUS_REDIS_FEED_PRIV_H

#include "server/base/list.h"
#include "server/bus/redis_priv.h"

/* What redis_feed.c, redis_read.c and redis_round.c share.
 *
 * The hub has been told everything up to `at`. Whatever comes later is told in id order by exactly one of two
 * sources: rounds, which read the logs of all open channels after `at`, or Pub/Sub.
 *
 * Why no event is missed. A channel is read (parley_read) when it is opened; the answer holds everything up to
 * S, the sequence when Redis carried it out. Everything after S must be told by the stream, and is:
 *   - by rounds, for a round that does not have the channel began before the open, so its first chunk was
 *     carried out before the read (one connection, in order), and no round is told beyond what the sequence was
 *     at its first chunk;
 *   - by Pub/Sub, for while Pub/Sub is connected the read is sent only after the channel's SUBSCRIBE was confirmed
 *     (but for channels that were open before: those of the switch, see below).
 * From rounds to Pub/Sub (the switch): everything is subscribed and confirmed; announcements are kept; a round that
 * began after that has told everything up to `at`; what was kept and lies above `at` follows. */

enum {
    PL_REDIS_TAG_MAX = 16,
    PL_REDIS_CHUNK_KEYS = 200
};

struct pl_redis_channel {
    struct pl_map_node node;
    struct pl_list order;   /* of feed.open, or of round.todo */
    struct pl_list recent;  /* of feed.recent: least recently told first */
    struct pl_list to_read; /* of feed.to_read */
    uint64_t open;          /* the number of the open that waits for its answer, or had it */
    uint64_t read;          /* the open whose read is under way; 0: none */
    bool answered;
    int64_t after_id;
    uint64_t subscribed; /* the number of its SUBSCRIBE; 0: not subscribed */
    int64_t id;          /* the newest told; 0: none known */
    char tag[PL_REDIS_TAG_MAX + 1];
    uint8_t name_len;
    char name[];
};

enum pl_redis_phase {
    PL_REDIS_PUBSUB_OFF,
    PL_REDIS_PUBSUB_SUBSCRIBING, /* not all confirmed */
    PL_REDIS_PUBSUB_KEEPING,     /* announcements are kept until a round has caught up */
    PL_REDIS_PUBSUB_LIVE,
};

struct pl_redis_entry {
    int64_t id, prev;
    struct pl_str channel; /* len 0: control. This, tag and payload lie behind the struct */
    struct pl_str tag, payload;
    char form;
};

struct pl_redis_round {
    struct pl_list todo; /* channels not read yet */
    bool running, verifying, failed;
    bool stale;      /* what it brings is of no use any more */
    bool again;      /* another one is wanted behind it */
    uint64_t number; /* of this, or of the last one */
    int64_t seq, whole;
    int64_t newest; /* the bus's newest when it began */
    struct pl_redis_entry **entries;
    size_t count, cap, bytes;
    struct pl_redis_channel
        *keys[PL_REDIS_CHUNK_KEYS + 1]; /* of the chunk under way; NULL: control, or closed */
    bool closed[PL_REDIS_CHUNK_KEYS + 1];
    size_t key_count;
    /* A reply is to be about so big: the next asks for less after a bigger one, for more after one below a
     * quarter. What a round keeps until it is told is bounded too; beyond, it ends at a lower id. */
    size_t reply_bytes, round_bytes;
    size_t most_keys, most_entries; /* of the next chunk */
    struct pl_timer timer;
};

struct pl_redis_feed {
    struct pl_redis_bus *b;
    bool up, paused;
    bool changes_lost; /* to be told before anything else */
    enum pl_redis_phase phase;
    enum pl_redis_feed_mode mode; /* as said to the bus last */
    int64_t at;
    int64_t echo,
        echo_wanted; /* ids sent to ourselves behind what is announced: under way, wanted */
    struct pl_map channels;
    struct pl_list open, recent, to_read, refused;
    uint64_t opens;        /* numbers them */
    unsigned reads;        /* under way */
    struct pl_timer retry; /* of reads that were refused */
    struct {
        int64_t id;
        char tag[PL_REDIS_TAG_MAX + 1];
    } control;
    /* Every name in a SUBSCRIBE or UNSUBSCRIBE is confirmed by one push, in order: counting tells which. */
    uint64_t subscribes, confirmed, own, all;
    bool marker_asked;
    int64_t marker, marker_heard; /* ours, which proves that both connections lead to one server */
    int64_t turn_first;           /* the first event told in this turn; 0: none was */
    uint64_t proof;               /* the first round that began after everything was confirmed */
    bool proven;                  /* it is complete */
    struct pl_list kept;          /* struct kept */
    size_t kept_count, kept_bytes;
    int64_t kept_id;
    struct pl_buf log_prefix; /* "{parley}:log:" */
    struct pl_redis_round round;
};

/* ---- redis_feed.c ---- */

/* An event or a change, from wherever it came. */
struct pl_redis_told {
    int64_t id;
    char form;
    struct pl_str tag, payload;
    const struct pl_str *channels; /* those whose prev is known */
    const int64_t *prevs;
    size_t count;
};
/* Tells the hub; `at` is then its id. */
void pl_redis__feed_tell(struct pl_redis_feed *f, const struct pl_redis_told *t);
void pl_redis__feed_remember(struct pl_redis_feed *f, struct pl_redis_channel *ch, int64_t id,
                             struct pl_str tag);
struct pl_redis_channel *pl_redis__feed_find(struct pl_redis_feed *f, struct pl_str name);
void pl_redis__feed_pause(struct pl_redis_feed *f, bool paused);
/* A reading reached up to this id, which Pub/Sub need not have got to: a message of ours, sent behind
 * everything announced until then, says when it has. A quiet bus would say so with the next canary
 * only. */
void pl_redis__feed_echo(struct pl_redis_feed *f, int64_t id);
/* Everything up to round.seq has been told. */
void pl_redis__feed_caught_up(struct pl_redis_feed *f);

/* ---- redis_read.c ---- */

void pl_redis__read_init(struct pl_redis_feed *f);
/* Commands are lost, or the feed ends. */
void pl_redis__read_stop(struct pl_redis_feed *f);
/* Reads the channel for the open that is not answered, if there is one and it may be read already. */
void pl_redis__read_want(struct pl_redis_feed *f, struct pl_redis_channel *ch);
void pl_redis__read_unanswered(struct pl_redis_feed *f); /* the same for all */

/* ---- redis_round.c ---- */

void pl_redis__round_init(struct pl_redis_feed *f);
/* At once, or right behind the one under way. */
void pl_redis__round_start(struct pl_redis_feed *f);
/* Commands are lost. */
void pl_redis__round_abandon(struct pl_redis_feed *f);
void pl_redis__round_forget(struct pl_redis_feed *f, const struct pl_redis_channel *ch);

#endif
