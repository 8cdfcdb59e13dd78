/* The stream without Pub/Sub: one reading after another of the logs of all open channels and of control. A
 * round is chunks of channels, one parley_since each and one at a time; what all of them are whole up to is
 * told in id order, and the next round goes on there. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/bus/redis_feed_priv.h"

enum {
    EVERY_MS = 300,
    AFTER_ERROR_MS = 1000,
    ENTRY_FIELDS = 6,
    HEAD_FIELDS = 2,
    FEWEST_KEYS = 8,
    FIRST_KEYS = 50,
    FIRST_ENTRIES = 4,
    MOST_ENTRIES = 100,
};
/* At the beginning nothing is known about the sizes of events, and little is asked for. */
static const size_t reply_bytes = (size_t)4 << 20;
static const size_t round_bytes = (size_t)32 << 20;

static void on_due(struct pl_timer *t)
{
    struct pl_redis_round *r = pl_container_of(t, struct pl_redis_round, timer);

    pl_redis__round_start(pl_container_of(r, struct pl_redis_feed, round));
}

void pl_redis__round_init(struct pl_redis_feed *f)
{
    pl_list_init(&f->round.todo);
    pl_timer_init(&f->round.timer, on_due);
    f->round.reply_bytes = reply_bytes;
    f->round.round_bytes = round_bytes;
    f->round.most_keys = FIRST_KEYS;
    f->round.most_entries = FIRST_ENTRIES;
}

static void start_later(struct pl_redis_feed *f, uint64_t ms)
{
    pl_timer_set(f->b->wheel, &f->round.timer, pl_redis__now_ms(f->b) + ms);
}

static void drop_entries(struct pl_redis_round *r)
{
    for (size_t i = 0; i < r->count; i++) {
        free(r->entries[i]);
    }
    free(r->entries);
    r->entries = NULL;
    r->count = r->cap = r->bytes = 0;
}

static void end_round(struct pl_redis_feed *f)
{
    f->round.running = f->round.verifying = f->round.failed = f->round.stale = false;
    f->round.key_count = 0;
    pl_list_splice(&f->open, &f->round.todo);
    drop_entries(&f->round);
}

void pl_redis__round_abandon(struct pl_redis_feed *f)
{
    end_round(f);
    f->round.again = false;
    pl_timer_cancel(f->b->wheel, &f->round.timer);
}

void pl_redis__round_forget(struct pl_redis_feed *f, const struct pl_redis_channel *ch)
{
    for (size_t i = 0; i < f->round.key_count; i++) {
        if (f->round.keys[i] == ch) {
            f->round.keys[i] = NULL;
            f->round.closed[i] = true;
        }
    }
}

/* ---- asking ---- */

static void on_chunk(void *arg, const struct redisReply *r);
static void on_verified(void *arg, const struct redisReply *r);

/* Behind the last chunk: was all of it read in the epoch we know? */
static void send_verify(struct pl_redis_feed *f)
{
    struct pl_redis_args a = {0};

    pl_redis__fcall_ro(&a, "parley_verify", 2);
    pl_redis__key(f->b, &a, "seq", PL_LIT(""));
    pl_redis__key(f->b, &a, "epoch", PL_LIT(""));
    pl_redis_arg_int(&a, f->b->cfg->bus_log_age);
    f->round.verifying = pl_redis_call(f->b->commands, &a, on_verified, f);
    pl_redis_args_done(&a);
}

/* The keys of the next chunk; control goes with the first. */
static void take_keys(struct pl_redis_feed *f, bool first)
{
    struct pl_redis_round *r = &f->round;

    r->key_count = 0;
    memset(r->closed, 0, sizeof(r->closed));
    if (first) {
        r->keys[r->key_count++] = NULL;
    }
    while (!pl_list_empty(&r->todo) && r->key_count < r->most_keys + (first ? 1 : 0)) {
        struct pl_redis_channel *ch = pl_container_of(r->todo.next, struct pl_redis_channel, order);

        pl_list_remove(&ch->order);
        pl_list_append(&f->open, &ch->order);
        r->keys[r->key_count++] = ch;
    }
}

static void send_chunk(struct pl_redis_feed *f, bool first)
{
    struct pl_redis_round *r = &f->round;
    struct pl_redis_args a = {0};
    bool sent;

    take_keys(f, first);
    pl_redis__fcall_ro(&a, "parley_since", 1 + r->key_count);
    pl_redis__key(f->b, &a, "seq", PL_LIT(""));
    for (size_t i = 0; i < r->key_count; i++) {
        const struct pl_redis_channel *ch = r->keys[i];

        if (ch == NULL) {
            pl_redis__key(f->b, &a, "control", PL_LIT(""));
        } else {
            pl_redis__key(f->b, &a, "log", (struct pl_str){ch->name, ch->name_len});
        }
    }
    pl_redis_arg_int(&a, f->at);
    pl_redis_arg_int(&a, (int64_t)r->most_entries);
    sent = pl_redis_call(f->b->commands, &a, on_chunk, f);
    pl_redis_args_done(&a);
    if (!sent) {
        pl_redis__round_abandon(f);
    } else if (pl_list_empty(&r->todo)) {
        send_verify(f);
    }
}

void pl_redis__round_start(struct pl_redis_feed *f)
{
    struct pl_redis_round *r = &f->round;

    if (!f->up) {
        return;
    }
    if (r->running) {
        r->again = true;
        return;
    }
    pl_timer_cancel(f->b->wheel, &r->timer);
    pl_metric_add(PL_S_BUS_READS_ROUND, 1);
    r->running = true;
    r->again = false;
    r->number++;
    r->seq = r->whole = INT64_MAX;
    r->newest = f->b->newest;
    pl_list_splice(&r->todo, &f->open);
    send_chunk(f, true);
}

/* ---- collecting ---- */

static char *put(char **at, struct pl_str s)
{
    char *begin = *at;

    if (s.len > 0) {
        memcpy(begin, s.s, s.len);
    }
    *at += s.len;
    return begin;
}

static struct pl_redis_entry *copy_entry(const struct pl_redis_entry *from)
{
    size_t size = sizeof(*from) + from->channel.len + from->tag.len + from->payload.len;
    struct pl_redis_entry *e = pl_alloc(size);
    char *at = (char *)(e + 1);

    *e = *from;
    e->channel.s = put(&at, from->channel);
    e->tag.s = put(&at, from->tag);
    e->payload.s = put(&at, from->payload);
    return e;
}

static size_t entry_bytes(const struct pl_redis_entry *e)
{
    return sizeof(*e) + e->channel.len + e->tag.len + e->payload.len;
}

static int by_id(const void *a, const void *b)
{
    const struct pl_redis_entry *x = *(struct pl_redis_entry *const *)a;
    const struct pl_redis_entry *y = *(struct pl_redis_entry *const *)b;

    if (x->id != y->id) {
        return x->id < y->id ? -1 : 1;
    }
    return pl_str_compare(x->channel, y->channel);
}

static void sort_entries(struct pl_redis_round *r)
{
    if (r->count > 0) {
        qsort(r->entries, r->count, sizeof(struct pl_redis_entry *), by_id);
    }
}

/* Too much for one round: it ends after about half of it. An event that is in several logs stays whole. */
static void shorten(struct pl_redis_round *r)
{
    size_t keep = 0;
    size_t bytes = 0;

    sort_entries(r);
    while (keep < r->count &&
           (bytes < r->round_bytes / 2 || r->entries[keep]->id == r->entries[keep - 1]->id)) {
        bytes += entry_bytes(r->entries[keep++]);
    }
    if (keep < r->count) {
        r->whole = r->entries[keep]->id - 1;
    }
    while (r->count > keep) {
        free(r->entries[--r->count]);
    }
    r->bytes = bytes;
}

static void keep_entry(struct pl_redis_round *r, const struct pl_redis_entry *e)
{
    if (r->count == r->cap) {
        r->cap = r->cap > 0 ? r->cap * 2 : 64;
        r->entries = pl_realloc(r->entries, r->cap * sizeof(struct pl_redis_entry *));
    }
    r->entries[r->count++] = copy_entry(e);
    r->bytes += entry_bytes(e);
    if (r->bytes > r->round_bytes) {
        shorten(r);
    }
}

/* One entry of a reply; false if it is none. */
static bool take_entry(struct pl_redis_feed *f, struct redisReply *const *field, size_t *ret_bytes)
{
    struct pl_redis_round *r = &f->round;
    int64_t key = pl_redis__number(field[0]) - 1;
    struct pl_str form = pl_redis__text(field[4]);
    struct pl_redis_entry e = {
        .id = pl_redis__number(field[1]),
        .prev = pl_redis__number(field[2]),
        .tag = pl_redis__text(field[3]),
        .payload = pl_redis__text(field[5]),
    };

    if (key < 0 || (size_t)key >= r->key_count || e.id < 0 || e.prev < 0 || form.len != 1) {
        return false;
    }
    e.form = form.s[0];
    if (r->keys[key] != NULL) {
        e.channel = (struct pl_str){r->keys[key]->name, r->keys[key]->name_len};
    }
    *ret_bytes += e.payload.len;
    if (e.id <= r->whole && e.id > f->at && !r->closed[key]) {
        keep_entry(r, &e);
    }
    return true;
}

static void adapt(struct pl_redis_round *r, size_t bytes)
{
    if (bytes > r->reply_bytes) {
        if (r->most_entries > 1) {
            r->most_entries /= 2;
        } else if (r->most_keys > FEWEST_KEYS) {
            r->most_keys /= 2;
        }
    } else if (bytes < r->reply_bytes / 4) {
        if (r->most_keys < PL_REDIS_CHUNK_KEYS) {
            r->most_keys =
                r->most_keys * 2 < PL_REDIS_CHUNK_KEYS ? r->most_keys * 2 : PL_REDIS_CHUNK_KEYS;
        } else if (r->most_entries < MOST_ENTRIES) {
            r->most_entries =
                r->most_entries * 2 < MOST_ENTRIES ? r->most_entries * 2 : MOST_ENTRIES;
        }
    }
}

static bool take_chunk(struct pl_redis_feed *f, const struct redisReply *reply)
{
    struct pl_redis_round *r = &f->round;
    int64_t seq, whole;
    size_t bytes = 0;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < HEAD_FIELDS ||
        (reply->elements - HEAD_FIELDS) % ENTRY_FIELDS != 0) {
        return false;
    }
    seq = pl_redis__number(reply->element[0]);
    whole = pl_redis__number(reply->element[1]);
    if (seq < 0 || whole < 0) {
        return false;
    }
    r->seq = seq < r->seq ? seq : r->seq;
    r->whole = whole < r->whole ? whole : r->whole;
    for (size_t i = HEAD_FIELDS; i < reply->elements; i += ENTRY_FIELDS) {
        if (!take_entry(f, reply->element + i, &bytes)) {
            return false;
        }
    }
    adapt(r, bytes);
    return true;
}

static void retry_later(struct pl_redis_feed *f)
{
    end_round(f);
    start_later(f, AFTER_ERROR_MS);
}

static void say_failed(const struct redisReply *reply)
{
    struct pl_str said = pl_redis__text(reply);
    char text[80];

    (void)snprintf(text, sizeof(text), "%.*s", (int)said.len, said.s);
    pl_log(PL_LOG_ERROR, "bus_round_failed", PL_STR("reason", text));
}

static void on_chunk(void *arg, const struct redisReply *reply)
{
    struct pl_redis_feed *f = arg;

    if (!f->round.running || reply == NULL) {
        return; /* NULL: the connection is lost, which is said next */
    }
    if (pl_redis__failed(f->b, reply) || !take_chunk(f, reply)) {
        say_failed(reply);
        f->round.failed = true;
        if (!f->round.verifying) {
            retry_later(f);
        }
    } else if (!f->round.verifying) {
        send_chunk(f, false);
    }
}

/* ---- telling ---- */

/* Did something happen to records that can no longer be read? */
static bool lost_changes(const struct pl_redis_feed *f)
{
    const struct pl_redis_round *r = &f->round;
    int64_t span_ms = (r->whole - f->at) / 1024;

    if (f->changes_lost || span_ms > f->b->cfg->bus_log_age) {
        return true;
    }
    for (size_t i = 0; i < r->count; i++) {
        if (r->entries[i]->channel.len == 0) {
            return r->entries[i]->prev > f->at;
        }
    }
    return false;
}

/* The copies of one event are told as one. Returns how many there were. */
static size_t tell_event(struct pl_redis_feed *f, struct pl_redis_entry *const *entries,
                         size_t count)
{
    struct pl_arena a = {0};
    struct pl_str *channels;
    int64_t *prevs;
    size_t n = 1;

    while (n < count && entries[n]->id == entries[0]->id) {
        n++;
    }
    if (entries[0]->id <= f->at) {
        return n;
    }
    channels = pl_arena_alloc(&a, n * sizeof(*channels));
    prevs = pl_arena_alloc(&a, n * sizeof(*prevs));
    for (size_t i = 0; i < n; i++) {
        channels[i] = entries[i]->channel;
        prevs[i] = entries[i]->prev;
    }
    pl_redis__feed_tell(f, &(struct pl_redis_told){
                               .id = entries[0]->id,
                               .form = entries[0]->form,
                               .tag = entries[0]->tag,
                               .payload = entries[0]->payload,
                               .channels = channels,
                               .prevs = prevs,
                               .count = n,
                           });
    pl_arena_done(&a);
    return n;
}

static void tell(struct pl_redis_feed *f)
{
    struct pl_redis_round *r = &f->round;

    sort_entries(r);
    if (lost_changes(f)) {
        f->changes_lost = false;
        pl_log(PL_LOG_WARN, "bus_changes_lost", PL_INT("after", f->at));
        pl_redis__feed_pause(f, true);
        pl_hub_bus_changes_lost(f->b->hub);
    }
    for (size_t i = 0; i < r->count && r->entries[i]->id <= r->whole;) {
        i += tell_event(f, r->entries + i, r->count - i);
    }
    if (r->whole > f->at) {
        f->at = r->whole;
        pl_hub_bus_applied(f->b->hub, f->at);
    }
    pl_redis__seen(f->b, r->seq);
}

static void go_on(struct pl_redis_feed *f, bool complete)
{
    bool again = f->round.again || !complete;

    end_round(f);
    if (complete) {
        pl_redis__feed_caught_up(f);
    }
    if (again) {
        pl_redis__round_start(f);
    } else if (f->phase != PL_REDIS_PUBSUB_LIVE) {
        start_later(f, EVERY_MS);
    }
}

static bool is_our_epoch(const struct pl_redis_bus *b, const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements >= 3 &&
           pl_redis__number(reply->element[1]) == b->epoch &&
           pl_redis__number(reply->element[2]) == b->epoch_start;
}

static void on_verified(void *arg, const struct redisReply *reply)
{
    struct pl_redis_feed *f = arg;
    struct pl_redis_round *r = &f->round;

    if (!r->running || reply == NULL) {
        return;
    }
    if (r->stale) {
        end_round(f);
        pl_redis__round_start(f);
    } else if (pl_redis__failed(f->b, reply) || r->failed) {
        retry_later(f);
    } else if (!is_our_epoch(f->b, reply) || r->seq < r->newest) {
        end_round(f);
        start_later(f, EVERY_MS);
        pl_redis__setup_check(f->b);
    } else {
        tell(f);
        go_on(f, r->whole >= r->seq);
    }
}
