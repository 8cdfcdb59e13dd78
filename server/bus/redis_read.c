/* Reading one channel's log: its newest events when it is opened, and what lies below its ring. Page by page from the
 * newest down, since nothing is known about the size of events. */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/bus/redis_feed_priv.h"

enum {
    READS_MOST = 64, /* of opens at a time: what comes back is held by Redis and by us */
    RETRY_MS = 1000,
    PAGE = 100,
    ENTRY_FIELDS = 5,
    HEAD_FIELDS = 3,
};
static const int64_t history_bytes = (int64_t)64 << 20;

struct reading {
    struct pl_list node; /* of feed.refused: a history that was answered with an error */
    struct pl_redis_feed *f;
    uint64_t open; /* 0: history */
    int64_t after, upto;
    int64_t page_upto; /* -1: everything, the first page of an open */
    int64_t most, most_bytes;
    int64_t page; /* entries asked for */

    int64_t seq, floor;
    struct pl_bus_log_entry *entries; /* newest first */
    size_t count, cap;
    int64_t read, bytes; /* entries, also those that cannot be understood */
    int64_t newest;      /* 0: none */
    char tag[PL_REDIS_TAG_MAX + 1];
    struct pl_arena arena;
    uint8_t name_len;
    char name[UINT8_MAX];
};

static struct pl_str name_of(const struct reading *reading)
{
    return (struct pl_str){reading->name, reading->name_len};
}

static struct reading *new_reading(struct pl_redis_feed *f, struct pl_str name, int64_t after)
{
    struct reading *reading = pl_alloc(sizeof(*reading));

    reading->f = f;
    reading->after = after;
    reading->page_upto = -1;
    reading->name_len = (uint8_t)name.len;
    memcpy(reading->name, name.s, name.len);
    return reading;
}

static void free_reading(struct reading *reading)
{
    pl_arena_done(&reading->arena);
    free(reading->entries);
    free(reading);
}

/* ---- pages ---- */

static bool decode(struct reading *reading, struct redisReply *const *field)
{
    struct pl_request_limits limits = pl_hub_limits(reading->f->b->hub);
    struct pl_str form = pl_redis__text(field[3]);
    struct pl_str payload = pl_redis__text(field[4]);
    struct pl_bus_event *e = pl_arena_alloc(&reading->arena, sizeof(*e));
    char *copy = pl_arena_alloc(&reading->arena, payload.len + 1);
    enum pl_redis_form as = PL_REDIS_EVENT;

    if (form.len == 1 && form.s[0] == PL_REDIS_JSON) {
        as = PL_REDIS_JSON;
    } else if (form.len != 1 || form.s[0] != PL_REDIS_EVENT) {
        return false;
    }
    memcpy(copy, payload.len > 0 ? payload.s : "", payload.len);
    if (pl_redis_decode_event(as, (struct pl_str){copy, payload.len}, &limits, &reading->arena,
                              e) != 0) {
        return false;
    }
    if (reading->count == reading->cap) {
        reading->cap = reading->cap * 2 + PAGE;
        reading->entries = pl_realloc(reading->entries, reading->cap * sizeof(*reading->entries));
    }
    reading->entries[reading->count++] = (struct pl_bus_log_entry){
        pl_redis__number(field[0]),
        pl_redis__number(field[1]),
        e,
    };
    return true;
}

static void take_entry(struct reading *reading, struct redisReply *const *field)
{
    struct pl_str tag = pl_redis__text(field[2]);

    if (reading->newest == 0) {
        reading->newest = pl_redis__number(field[0]);
        if (tag.len <= PL_REDIS_TAG_MAX && tag.len > 0) {
            memcpy(reading->tag, tag.s, tag.len);
        }
    }
    reading->read++;
    reading->bytes += (int64_t)pl_redis__text(field[4]).len;
    if (!decode(reading, field)) {
        pl_metric_add(PL_S_BUS_MALFORMED_EVENT, 1);
    }
}

enum outcome {
    READ_ALL,
    READ_MORE, /* there is, or may be, another page */
    READ_FORKED,
    READ_REFUSED
};

static enum outcome take_page(struct reading *reading, const struct redisReply *r)
{
    size_t entries;

    if (r->type != REDIS_REPLY_ARRAY || r->elements < HEAD_FIELDS ||
        (r->elements - HEAD_FIELDS) % ENTRY_FIELDS != 0) {
        return READ_REFUSED;
    }
    if (reading->read == 0) {
        reading->seq = pl_redis__number(r->element[0]);
    }
    reading->floor = pl_redis__number(r->element[1]);
    if (pl_str_eq(pl_redis__text(r->element[2]), PL_LIT("forked"))) {
        return READ_FORKED;
    }
    if (reading->seq < 0 || reading->floor < 0) {
        return READ_REFUSED;
    }
    entries = (r->elements - HEAD_FIELDS) / ENTRY_FIELDS;
    for (size_t i = entries; i > 0; i--) {
        take_entry(reading, r->element + HEAD_FIELDS + (i - 1) * ENTRY_FIELDS);
    }
    return (int64_t)entries >= reading->page && reading->floor > reading->after &&
                   reading->read < reading->most && reading->bytes < reading->most_bytes
               ? READ_MORE
               : READ_ALL;
}

/* tag: of the entry `after`; len 0: not checked. */
static bool send_page(struct reading *reading, struct pl_str tag, pl_redis_reply_fn *fn)
{
    struct pl_redis_bus *b = reading->f->b;
    struct pl_redis_args a = {0};
    int64_t left = reading->most - reading->read;
    bool sent;

    reading->page = left < PAGE ? left : PAGE;
    pl_redis__fcall_ro(&a, "parley_read", 2);
    pl_redis__key(b, &a, "seq", PL_LIT(""));
    pl_redis__key(b, &a, "log", name_of(reading));
    pl_redis_arg_int(&a, reading->after);
    if (reading->page_upto < 0) {
        pl_redis_arg_cstr(&a, "+");
    } else {
        pl_redis_arg_int(&a, reading->page_upto);
    }
    pl_redis_arg_int(&a, reading->page);
    pl_redis_arg_str(&a, tag);
    pl_redis_arg_int(&a, b->cfg->bus_log_age);
    sent = pl_redis_call(b->commands, &a, fn, reading);
    pl_redis_args_done(&a);
    return sent;
}

static bool send_next_page(struct reading *reading, pl_redis_reply_fn *fn)
{
    reading->page_upto = reading->floor;
    return send_page(reading, PL_LIT(""), fn);
}

/* Oldest first, as the core takes it. */
static void turn_around(struct reading *reading)
{
    for (size_t i = 0; i < reading->count / 2; i++) {
        struct pl_bus_log_entry e = reading->entries[i];

        reading->entries[i] = reading->entries[reading->count - 1 - i];
        reading->entries[reading->count - 1 - i] = e;
    }
}

/* ---- opening ---- */

static void on_open_page(void *arg, const struct redisReply *r);

static void send_open(struct pl_redis_feed *f, struct pl_redis_channel *ch)
{
    struct reading *reading = new_reading(f, (struct pl_str){ch->name, ch->name_len}, ch->after_id);
    struct pl_str tag = {ch->tag, strlen(ch->tag)};

    reading->open = ch->open;
    reading->most = f->b->cfg->channel_ring_events;
    reading->most_bytes = f->b->cfg->channel_ring_bytes;
    if (ch->after_id == 0 || ch->after_id != ch->id) {
        tag.len = 0;
    }
    if (send_page(reading, tag, on_open_page)) {
        pl_metric_add(PL_S_BUS_READS_OPEN, 1);
        ch->read = ch->open;
        f->reads++;
    } else {
        free_reading(reading);
    }
}

static void read_more(struct pl_redis_feed *f)
{
    while (f->up && f->reads < READS_MOST && !pl_list_empty(&f->to_read)) {
        struct pl_redis_channel *ch =
            pl_container_of(f->to_read.next, struct pl_redis_channel, to_read);

        pl_list_remove(&ch->to_read);
        send_open(f, ch);
    }
}

/* See redis_feed_priv.h for when a channel may be read. */
static bool may_read(const struct pl_redis_feed *f, const struct pl_redis_channel *ch)
{
    return f->phase == PL_REDIS_PUBSUB_OFF || f->confirmed >= ch->subscribed ||
           (f->phase == PL_REDIS_PUBSUB_SUBSCRIBING && ch->subscribed <= f->all);
}

static void want(struct pl_redis_feed *f, struct pl_redis_channel *ch)
{
    if (f->up && !ch->answered && ch->read != ch->open && pl_list_empty(&ch->to_read) &&
        may_read(f, ch)) {
        pl_list_append(&f->to_read, &ch->to_read);
    }
}

void pl_redis__read_want(struct pl_redis_feed *f, struct pl_redis_channel *ch)
{
    want(f, ch);
    read_more(f);
}

void pl_redis__read_unanswered(struct pl_redis_feed *f)
{
    pl_map_foreach(n, &f->channels) {
        want(f, pl_container_of(n, struct pl_redis_channel, node));
    }
    read_more(f);
}

static void retry_later(struct pl_redis_feed *f)
{
    if (f->up && !pl_timer_is_set(&f->retry)) {
        pl_timer_set(f->b->wheel, &f->retry, pl_redis__now_ms(f->b) + RETRY_MS);
    }
}

static void answer_open(struct pl_redis_feed *f, struct pl_redis_channel *ch,
                        struct reading *reading)
{
    ch->answered = true;
    if (reading->newest > 0) {
        pl_redis__feed_remember(f, ch, reading->newest,
                                (struct pl_str){reading->tag, strlen(reading->tag)});
    }
    pl_redis__seen(f->b, reading->seq);
    turn_around(reading);
    pl_hub_bus_opened(f->b->hub, name_of(reading), reading->floor, reading->entries, reading->count,
                      reading->seq);
    pl_redis__feed_echo(f, reading->seq);
}

/* False: another page is under way. */
static bool finish_open(struct pl_redis_feed *f, struct pl_redis_channel *ch,
                        struct reading *reading, const struct redisReply *r)
{
    enum outcome outcome = pl_redis__failed(f->b, r) ? READ_REFUSED : take_page(reading, r);

    if (outcome == READ_MORE && send_next_page(reading, on_open_page)) {
        return false;
    }
    ch->read = 0;
    if (outcome == READ_ALL) {
        answer_open(f, ch, reading);
        return true;
    }
    if (outcome == READ_FORKED) {
        pl_redis__forked(f->b);
    } else if (outcome == READ_REFUSED) {
        pl_log(PL_LOG_ERROR, "bus_read_failed", PL_INT("retry_ms", RETRY_MS));
    }
    retry_later(f);
    return true;
}

static void on_open_page(void *arg, const struct redisReply *r)
{
    struct reading *reading = arg;
    struct pl_redis_feed *f = reading->f;
    struct pl_redis_channel *ch = pl_redis__feed_find(f, name_of(reading));

    if (ch != NULL && ch->open == reading->open) {
        if (r == NULL) {
            ch->read = 0; /* read again when commands are back */
        } else if (!finish_open(f, ch, reading, r)) {
            return;
        }
    }
    f->reads--;
    free_reading(reading);
    read_more(f);
}

/* ---- history ---- */

/* An error is not an answer: after a moment the core is told nothing, and asks again. */
static void refuse_later(struct reading *reading)
{
    pl_list_append(&reading->f->refused, &reading->node);
    retry_later(reading->f);
}

static void answer_refused(struct pl_redis_feed *f)
{
    struct pl_list refused;

    pl_list_init(&refused);
    pl_list_splice(&refused, &f->refused);
    while (!pl_list_empty(&refused)) {
        struct reading *reading = pl_container_of(refused.next, struct reading, node);

        pl_list_remove(&reading->node);
        pl_hub_bus_read(f->b->hub, name_of(reading), reading->after, NULL, 0, reading->after);
        free_reading(reading);
    }
}

static void on_history_page(void *arg, const struct redisReply *r)
{
    struct reading *reading = arg;
    struct pl_hub *hub = reading->f->b->hub;
    enum outcome outcome;

    if (r != NULL) {
        outcome = pl_redis__failed(reading->f->b, r) ? READ_REFUSED : take_page(reading, r);
        if (outcome == READ_MORE && send_next_page(reading, on_history_page)) {
            return;
        }
        if (outcome == READ_ALL) {
            turn_around(reading);
            pl_hub_bus_read(hub, name_of(reading), reading->floor, reading->entries, reading->count,
                            reading->upto);
        } else if (outcome == READ_REFUSED) {
            refuse_later(reading);
            return;
        }
    }
    free_reading(reading); /* not told: the core asks again when the bus is back */
}

void pl_redis__read(void *bus, struct pl_str channel, int64_t after, int64_t upto)
{
    struct pl_redis_bus *b = bus;
    struct reading *reading;

    if (!b->up) {
        return;
    }
    pl_metric_add(PL_S_BUS_READS_HISTORY, 1);
    reading = new_reading(b->feed, channel, after);
    reading->upto = reading->page_upto = upto;
    reading->most = b->cfg->bus_log_events;
    reading->most_bytes = history_bytes;
    if (!send_page(reading, PL_LIT(""), on_history_page)) {
        free_reading(reading);
    }
}

/* ---- life ---- */

static void on_retry(struct pl_timer *t)
{
    struct pl_redis_feed *f = pl_container_of(t, struct pl_redis_feed, retry);

    answer_refused(f);
    pl_redis__read_unanswered(f);
}

void pl_redis__read_init(struct pl_redis_feed *f)
{
    pl_list_init(&f->to_read);
    pl_list_init(&f->refused);
    pl_timer_init(&f->retry, on_retry);
}

void pl_redis__read_stop(struct pl_redis_feed *f)
{
    pl_timer_cancel(f->b->wheel, &f->retry);
    while (!pl_list_empty(&f->to_read)) {
        pl_list_remove(f->to_read.next);
    }
    while (!pl_list_empty(&f->refused)) { /* not told: the core asks again when the bus is back */
        struct reading *reading = pl_container_of(f->refused.next, struct reading, node);

        pl_list_remove(&reading->node);
        free_reading(reading);
    }
}
