#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/bus/fan_out.h"
#include "server/bus/redis_feed_priv.h"

enum {
    SUBSCRIBE_NAMES = 500,
    KEPT_MOST = 20000,
};
static const size_t kept_most_bytes = (size_t)32 << 20;

/* An announcement that waits for a round. */
struct kept {
    struct pl_list node;
    struct pl_str message; /* behind the struct */
};

static struct pl_redis_channel *of_map(const struct pl_map_node *n)
{
    return pl_container_of(n, struct pl_redis_channel, node);
}

static bool channel_eq(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct pl_redis_channel *ch = of_map(node);

    return ch->name_len == len && memcmp(ch->name, key, len) == 0;
}

struct pl_redis_channel *pl_redis__feed_find(struct pl_redis_feed *f, struct pl_str name)
{
    struct pl_map_node *n = pl_map_find(&f->channels, name.s, name.len);

    return n != NULL ? of_map(n) : NULL;
}

static struct pl_str name_of(const struct pl_redis_channel *ch)
{
    return (struct pl_str){ch->name, ch->name_len};
}

/* ---- modes ---- */

enum pl_redis_feed_mode pl_redis__feed_mode(const struct pl_redis_feed *f)
{
    if (!f->up) {
        return PL_REDIS_DOWN;
    }
    return f->phase == PL_REDIS_PUBSUB_LIVE ? PL_REDIS_LIVE : PL_REDIS_LOGS;
}

static void say_mode(struct pl_redis_feed *f)
{
    enum pl_redis_feed_mode mode = pl_redis__feed_mode(f);

    if (mode != f->mode) {
        f->mode = mode;
        pl_redis__feed_changed(f->b);
    }
}

int64_t pl_redis__feed_at(const struct pl_redis_feed *f)
{
    return f->at;
}

bool pl_redis__feed_hears(const struct pl_redis_feed *f)
{
    return f->own > 0 && f->confirmed >= f->own;
}

void pl_redis__feed_pause(struct pl_redis_feed *f, bool paused)
{
    if (paused != f->paused) {
        f->paused = paused;
        pl_hub_bus_pause(f->b->hub, paused);
    }
}

/* ---- what is kept ---- */

static void drop_kept(struct pl_redis_feed *f, struct kept *k)
{
    pl_list_remove(&k->node);
    f->kept_count--;
    f->kept_bytes -= k->message.len;
    free(k);
}

static void drop_all_kept(struct pl_redis_feed *f)
{
    while (!pl_list_empty(&f->kept)) {
        drop_kept(f, pl_container_of(f->kept.next, struct kept, node));
    }
    f->kept_id = 0;
}

/* From here on announcements are kept; the next round to begin covers what came before. */
static void begin_proof(struct pl_redis_feed *f)
{
    f->proof = f->round.number + 1;
    f->proven = false;
    pl_redis__round_start(f);
}

static void keep(struct pl_redis_feed *f, struct pl_str message, int64_t id)
{
    struct kept *k;

    if (id <= f->kept_id) {
        return; /* of an event in several channels one announcement is enough */
    }
    if (f->kept_count >= KEPT_MOST || f->kept_bytes + message.len > kept_most_bytes) {
        drop_all_kept(f);
        begin_proof(f);
    }
    k = pl_alloc(sizeof(*k) + message.len);
    memcpy(k + 1, message.s, message.len);
    k->message = (struct pl_str){(const char *)(k + 1), message.len};
    pl_list_append(&f->kept, &k->node);
    f->kept_count++;
    f->kept_bytes += message.len;
    f->kept_id = id;
}

/* ---- telling ---- */

void pl_redis__feed_remember(struct pl_redis_feed *f, struct pl_redis_channel *ch, int64_t id,
                             struct pl_str tag)
{
    size_t len = tag.len <= PL_REDIS_TAG_MAX ? tag.len : 0;

    if (id > ch->id) {
        ch->id = id;
        memcpy(ch->tag, len > 0 ? tag.s : "", len);
        ch->tag[len] = '\0';
        pl_list_remove(&ch->recent);
        pl_list_append(&f->recent, &ch->recent);
    }
}

/* What came before it in this channel. Where it is not said (the log of one channel of an event was trimmed, that of
 * another not), an id just below makes the core read the channel again; one that is not open does not look. */
static int64_t prev_in(const struct pl_redis_told *t, struct pl_str channel)
{
    for (size_t i = 0; i < t->count; i++) {
        if (pl_str_eq(t->channels[i], channel)) {
            return t->prevs[i];
        }
    }
    return t->id - 1;
}

int64_t pl_redis_bus_turn_began(struct pl_redis_bus *b)
{
    int64_t id = b->feed->turn_first, given_ms = id / 1024, own_ms = pl_redis__own_ms(b, given_ms);

    b->feed->turn_first = 0;
    return own_ms != 0 ? own_ms : given_ms;
}

static void tell_event(struct pl_redis_feed *f, const struct pl_redis_told *t)
{
    struct pl_request_limits limits = pl_hub_limits(f->b->hub);
    enum pl_redis_form form = t->form == PL_REDIS_JSON ? PL_REDIS_JSON : PL_REDIS_EVENT;
    struct pl_arena a = {0};
    struct pl_bus_event e;
    int64_t *prevs;

    if (t->form != (char)form || pl_redis_decode_event(form, t->payload, &limits, &a, &e) != 0) {
        pl_metric_add(PL_S_BUS_MALFORMED_EVENT, 1);
        pl_hub_bus_applied(f->b->hub, t->id);
        pl_arena_done(&a);
        return;
    }
    prevs = pl_arena_alloc(&a, e.channel_count * sizeof(*prevs));
    for (size_t i = 0; i < e.channel_count; i++) {
        prevs[i] = prev_in(t, e.channels[i]);
    }
    f->turn_first = f->turn_first == 0 ? t->id : f->turn_first;
    pl_bus__fan_out(f->b->hub, t->id, &e, prevs);
    for (size_t i = 0; i < e.channel_count; i++) {
        struct pl_redis_channel *ch = pl_redis__feed_find(f, e.channels[i]);

        if (ch != NULL) {
            pl_redis__feed_remember(f, ch, t->id, t->tag);
        }
    }
    pl_arena_done(&a);
}

static void tell_change(struct pl_redis_feed *f, const struct pl_redis_told *t)
{
    struct pl_arena a = {0};
    struct pl_bus_change c;
    size_t len = t->tag.len <= PL_REDIS_TAG_MAX ? t->tag.len : 0;

    if (pl_redis_decode_change(t->payload, &a, &c) == 0) {
        pl_hub_bus_change(f->b->hub, t->id, &c);
    } else {
        pl_metric_add(PL_S_BUS_MALFORMED_CHANGE, 1);
        pl_hub_bus_applied(f->b->hub, t->id);
    }
    f->control.id = t->id;
    memcpy(f->control.tag, len > 0 ? t->tag.s : "", len);
    f->control.tag[len] = '\0';
    pl_arena_done(&a);
}

void pl_redis__feed_tell(struct pl_redis_feed *f, const struct pl_redis_told *t)
{
    f->at = t->id;
    if (t->form == PL_REDIS_CHANGE) {
        tell_change(f, t);
    } else {
        tell_event(f, t);
    }
}

/* ---- subscribing ---- */

static void subscribe_key(struct pl_redis_feed *f, struct pl_redis_args *a, const char *kind,
                          struct pl_str name)
{
    pl_redis__key(f->b, a, kind, name);
    f->subscribes++;
}

static void send_names(struct pl_redis_feed *f, struct pl_redis_args *a)
{
    if (a->count > 1) {
        (void)pl_redis_call(f->b->pubsub, a, NULL, NULL);
    }
    pl_redis_args_done(a);
    pl_redis_arg_cstr(a, "SUBSCRIBE");
}

static void subscribe_raw(struct pl_redis_feed *f, struct pl_redis_args *a, const char *name)
{
    if (name[0] != '\0') {
        pl_redis_arg_cstr(a, name);
        f->subscribes++;
    }
}

static void subscribe_all(struct pl_redis_feed *f)
{
    const struct pl_config *cfg = f->b->cfg;
    struct pl_redis_args a = {0};

    pl_redis_arg_cstr(&a, "SUBSCRIBE");
    pl_redis__own_key(f->b, &a);
    f->own = ++f->subscribes;
    subscribe_key(f, &a, "control", PL_LIT(""));
    subscribe_raw(f, &a, cfg->bus_raw_events);
    if (strcmp(cfg->bus_raw_changes, cfg->bus_raw_events) != 0) {
        subscribe_raw(f, &a, cfg->bus_raw_changes);
    }
    pl_map_foreach(n, &f->channels) {
        struct pl_redis_channel *ch = of_map(n);

        subscribe_key(f, &a, "log", name_of(ch));
        ch->subscribed = f->subscribes;
        if (a.count > SUBSCRIBE_NAMES) {
            send_names(f, &a);
        }
    }
    send_names(f, &a);
    pl_redis_args_done(&a);
    f->all = f->subscribes;
}

static void subscribe_one(struct pl_redis_feed *f, struct pl_redis_channel *ch)
{
    struct pl_redis_args a = {0};

    pl_redis_arg_cstr(&a, "SUBSCRIBE");
    subscribe_key(f, &a, "log", name_of(ch));
    ch->subscribed = f->subscribes;
    (void)pl_redis_call(f->b->pubsub, &a, NULL, NULL);
    pl_redis_args_done(&a);
}

static void unsubscribe(struct pl_redis_feed *f, const struct pl_redis_channel *ch)
{
    struct pl_redis_args a = {0};

    pl_redis_arg_cstr(&a, "UNSUBSCRIBE");
    subscribe_key(f, &a, "log", name_of(ch));
    (void)pl_redis_call(f->b->pubsub, &a, NULL, NULL);
    pl_redis_args_done(&a);
}

static void on_marker(void *arg, const struct redisReply *r);

static void ask_marker(struct pl_redis_feed *f)
{
    f->marker_asked = pl_redis__ask_marker(f->b, on_marker, f);
}

/* Announcements are kept from now on, if the rounds can go on as well. */
static void begin_keeping(struct pl_redis_feed *f)
{
    if (f->up && f->phase == PL_REDIS_PUBSUB_KEEPING) {
        f->marker = f->marker_heard = 0;
        ask_marker(f);
        begin_proof(f);
    }
}

static void confirmed(struct pl_redis_feed *f, struct pl_str key)
{
    struct pl_redis_channel *ch = NULL;

    f->confirmed++;
    if (f->confirmed == f->own) {
        pl_hub_bus_hears(f->b->hub, true);
    }
    if (f->phase == PL_REDIS_PUBSUB_SUBSCRIBING && f->confirmed >= f->all) {
        f->phase = PL_REDIS_PUBSUB_KEEPING;
        begin_keeping(f);
    }
    if (key.len > f->log_prefix.len && memcmp(key.s, f->log_prefix.data, f->log_prefix.len) == 0) {
        ch = pl_redis__feed_find(
            f, (struct pl_str){key.s + f->log_prefix.len, key.len - f->log_prefix.len});
    }
    if (ch != NULL && ch->subscribed == f->confirmed) {
        pl_redis__read_want(f, ch);
    }
}

/* ---- announcements ---- */

/* Back to the logs for (at least) one round, Pub/Sub being as good as it was. */
static void look_at_logs(struct pl_redis_feed *f)
{
    if (f->phase == PL_REDIS_PUBSUB_LIVE) {
        f->phase = PL_REDIS_PUBSUB_KEEPING;
        say_mode(f);
    }
    begin_proof(f);
}

static void tell_news(struct pl_redis_feed *f, const struct pl_redis_news *news)
{
    if (news->id > f->at) {
        pl_redis__feed_tell(f, &(struct pl_redis_told){
                                   .id = news->id,
                                   .form = news->what,
                                   .tag = news->tag,
                                   .payload = news->payload,
                                   .channels = news->channels,
                                   .prevs = news->prevs,
                                   .count = news->what == 'H' ? 0 : news->channel_count,
                               });
    }
}

/* Are there changes before this one that were not told? The core sees for itself what a channel misses. */
static bool misses_changes(const struct pl_redis_feed *f, const struct pl_redis_news *news)
{
    return news->what == 'H' && news->id > f->at && news->prevs[0] > f->at;
}

static void on_echo_sent(void *arg, const struct redisReply *r)
{
    struct pl_redis_feed *f = arg;

    if (pl_redis__failed(f->b, r)) {
        f->echo = f->echo_wanted = 0;
    }
}

/* Nothing in the open channels up to here but what was told. */
static void take_quiet(struct pl_redis_feed *f, int64_t id)
{
    pl_redis__seen(f->b, id);
    if (f->phase == PL_REDIS_PUBSUB_LIVE && f->up && id > f->at) {
        f->at = id;
        pl_hub_bus_applied(f->b->hub, id);
    }
}

static void send_echo(struct pl_redis_feed *f)
{
    struct pl_redis_args a = {0};
    char text[48];

    (void)snprintf(text, sizeof(text), "C %lld echo", (long long)f->echo_wanted);
    pl_redis__publish_own(f->b, &a, text);
    if (pl_redis_call(f->b->commands, &a, on_echo_sent, f)) {
        f->echo = f->echo_wanted;
    }
    pl_redis_args_done(&a);
}

void pl_redis__feed_echo(struct pl_redis_feed *f, int64_t id)
{
    if (f->phase == PL_REDIS_PUBSUB_LIVE && f->up && id > f->at && id > f->echo_wanted) {
        f->echo_wanted = id;
        if (f->echo <= f->at) {
            send_echo(f);
        }
    }
}

/* An echo or a canary has come, or something else that reached as far. */
static void take_echo(struct pl_redis_feed *f)
{
    if (f->phase == PL_REDIS_PUBSUB_LIVE && f->up && f->echo <= f->at && f->echo_wanted > f->at) {
        send_echo(f);
    }
}

static void go_live(struct pl_redis_feed *f);

static void take_marker(struct pl_redis_feed *f, int64_t id)
{
    pl_redis__raw_marker(f->b->raw, id);
    f->marker_heard = id > f->marker_heard ? id : f->marker_heard;
    take_quiet(f, id);
    go_live(f);
}

static void take_event(struct pl_redis_feed *f, const struct pl_redis_news *news,
                       struct pl_str message)
{
    pl_redis__seen(f->b, news->id);
    if (!f->up) {
        return; /* a round covers it on the way back */
    }
    if (f->phase == PL_REDIS_PUBSUB_LIVE && misses_changes(f, news)) {
        look_at_logs(f);
    }
    if (f->phase == PL_REDIS_PUBSUB_LIVE) {
        tell_news(f, news);
    } else if (f->phase == PL_REDIS_PUBSUB_KEEPING) {
        keep(f, message, news->id);
    }
}

static void take_epoch(struct pl_redis_feed *f)
{
    if (f->up) {
        look_at_logs(f);
        pl_redis__setup_check(f->b);
    }
}

static void dispatch(struct pl_redis_feed *f, const struct pl_redis_news *news,
                     struct pl_str message)
{
    switch (news->what) {
    case 'E':
    case 'J':
    case 'H':
        take_event(f, news, message);
        break;
    case 'P':
        take_epoch(f);
        break;
    case 'M':
        take_marker(f, news->id);
        break;
    case 'C':
        pl_redis__canary_came(f->b, news->tag);
        take_quiet(f, news->id);
        take_echo(f);
        break;
    case 'T':
        pl_hub_bus_taken(f->b->hub, news->name, news->number, pl_redis__own_ms(f->b, news->came));
        break;
    case 'X':
        pl_hub_bus_end_queue(f->b->hub, news->name, (int)news->number);
        break;
    default: /* a newer version's */
        break;
    }
}

static void announced(struct pl_redis_feed *f, struct pl_str message)
{
    struct pl_arena a = {0};
    struct pl_redis_news news;

    pl_metric_add(PL_S_BUS_NEWS, 1);
    if (pl_redis_parse_news(message, &a, &news) == 0) {
        dispatch(f, &news, message);
    } else {
        pl_metric_add(PL_S_BUS_MALFORMED_NEWS, 1);
    }
    pl_arena_done(&a);
}

void pl_redis__feed_push(struct pl_redis_feed *f, const struct redisReply *r)
{
    struct pl_str kind, channel;

    if (r->type != REDIS_REPLY_ARRAY || r->elements < 3) {
        return;
    }
    kind = pl_redis__text(r->element[0]);
    channel = pl_redis__text(r->element[1]);
    if (!pl_str_eq(kind, PL_LIT("message"))) {
        confirmed(f, channel);
    } else if (pl_str_eq(channel, (struct pl_str){f->b->cfg->bus_raw_events,
                                                  strlen(f->b->cfg->bus_raw_events)}) ||
               pl_str_eq(channel, (struct pl_str){f->b->cfg->bus_raw_changes,
                                                  strlen(f->b->cfg->bus_raw_changes)})) {
        pl_redis__raw_message(f->b->raw, channel, pl_redis__text(r->element[2]));
    } else {
        announced(f, pl_redis__text(r->element[2]));
    }
}

/* ---- the switch ---- */

/* What the round did not bring. Whatever it is said to follow was not in the logs. */
static void tell_kept(struct pl_redis_feed *f)
{
    while (!pl_list_empty(&f->kept)) {
        struct kept *k = pl_container_of(f->kept.next, struct kept, node);
        struct pl_arena a = {0};
        struct pl_redis_news news;

        if (pl_redis_parse_news(k->message, &a, &news) == 0) {
            tell_news(f, &news);
        }
        drop_kept(f, k);
        pl_arena_done(&a);
    }
    f->kept_id = 0;
}

/* If everything is there for it: a round that began after everything was subscribed, our marker by
 * Pub/Sub, and no round under way. */
static void go_live(struct pl_redis_feed *f)
{
    if (!f->up || f->phase != PL_REDIS_PUBSUB_KEEPING || !f->proven || f->round.running ||
        f->marker == 0 || f->marker_heard < f->marker) {
        return;
    }
    f->phase = PL_REDIS_PUBSUB_LIVE;
    f->echo = f->echo_wanted = 0;
    tell_kept(f);
    say_mode(f);
}

static void on_marker(void *arg, const struct redisReply *r)
{
    struct pl_redis_feed *f = arg;

    if (pl_redis__failed(f->b, r)) {
        f->marker_asked = false;
        return;
    }
    f->marker = pl_redis__number(r);
    pl_redis__seen(f->b, f->marker);
    go_live(f);
}

void pl_redis__feed_caught_up(struct pl_redis_feed *f)
{
    pl_redis__feed_pause(f, false);
    if (f->phase == PL_REDIS_PUBSUB_KEEPING && f->round.number >= f->proof) {
        f->proven = true;
        if (!f->marker_asked) {
            ask_marker(f);
        }
        go_live(f);
    }
}

/* ---- connections ---- */

void pl_redis__feed_up(struct pl_redis_feed *f)
{
    f->up = true;
    pl_redis__read_unanswered(f);
    begin_keeping(f);
    if (!f->round.running) {
        pl_redis__round_start(f);
    }
    say_mode(f);
}

void pl_redis__feed_down(struct pl_redis_feed *f)
{
    if (!f->up) {
        return;
    }
    f->up = false;
    pl_redis__feed_pause(f, true);
    pl_redis__round_abandon(f);
    pl_redis__read_stop(f);
    drop_all_kept(f);
    if (f->phase == PL_REDIS_PUBSUB_LIVE) {
        f->phase = PL_REDIS_PUBSUB_KEEPING;
    }
    say_mode(f);
}

void pl_redis__feed_pubsub_up(struct pl_redis_feed *f)
{
    f->subscribes = f->confirmed = 0;
    f->phase = PL_REDIS_PUBSUB_SUBSCRIBING;
    subscribe_all(f);
}

void pl_redis__feed_pubsub_down(struct pl_redis_feed *f)
{
    if (f->phase == PL_REDIS_PUBSUB_OFF) {
        return;
    }
    pl_hub_bus_hears(f->b->hub, false);
    f->phase = PL_REDIS_PUBSUB_OFF;
    f->own = f->subscribes = f->confirmed = f->all = 0;
    drop_all_kept(f);
    pl_map_foreach(n, &f->channels) {
        of_map(n)->subscribed = 0;
    }
    pl_redis__raw_lost(f->b->raw);
    pl_redis__read_unanswered(f);
    pl_redis__round_start(f);
    say_mode(f);
}

void pl_redis__feed_doubt(struct pl_redis_feed *f, const char *reason)
{
    pl_redis__feed_pubsub_down(f);
    pl_redis_conn_reset(f->b->pubsub, reason);
}

void pl_redis__feed_epoch(struct pl_redis_feed *f, int64_t start, int64_t sequence, bool first)
{
    if (!first) {
        f->changes_lost = true;
        pl_redis__feed_pause(f, true);
    }
    f->at = sequence;
    f->control.id = 0;
    f->round.stale = f->round.running;
    pl_map_foreach(n, &f->channels) {
        struct pl_redis_channel *ch = of_map(n);

        ch->open = ++f->opens;
        ch->answered = false;
        ch->after_id = ch->id = 0;
        ch->tag[0] = '\0';
    }
    pl_hub_bus_epoch(f->b->hub, start);
    pl_redis__read_unanswered(f);
    if (f->up) {
        look_at_logs(f);
    }
}

/* ---- channels ---- */

void pl_redis__open(void *bus, struct pl_str channel, int64_t after_id)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_feed *f = b->feed;
    struct pl_redis_channel *ch = pl_redis__feed_find(f, channel);

    if (ch == NULL) {
        PL_ASSERT(channel.len > 0 && channel.len <= UINT8_MAX);
        ch = pl_alloc(sizeof(*ch) + channel.len);
        ch->name_len = (uint8_t)channel.len;
        memcpy(ch->name, channel.s, channel.len);
        pl_map_insert(&f->channels, &ch->node, channel.s, channel.len);
        pl_list_init(&ch->order);
        pl_list_init(&ch->recent);
        pl_list_init(&ch->to_read);
        pl_list_append(&f->open, &ch->order);
        pl_list_append(&f->recent, &ch->recent);
        if (f->phase != PL_REDIS_PUBSUB_OFF) {
            subscribe_one(f, ch);
        }
    }
    ch->open = ++f->opens;
    ch->answered = false;
    ch->after_id = after_id;
    pl_redis__read_want(f, ch);
}

static void forget(struct pl_redis_feed *f, struct pl_redis_channel *ch)
{
    pl_redis__round_forget(f, ch);
    pl_map_remove(&f->channels, &ch->node);
    pl_list_remove(&ch->order);
    pl_list_remove(&ch->recent);
    pl_list_remove(&ch->to_read);
    free(ch);
}

void pl_redis__close(void *bus, struct pl_str channel)
{
    struct pl_redis_bus *b = bus;
    struct pl_redis_channel *ch = pl_redis__feed_find(b->feed, channel);

    if (ch == NULL) {
        return;
    }
    if (ch->subscribed > 0) {
        unsubscribe(b->feed, ch);
    }
    forget(b->feed, ch);
}

size_t pl_redis__feed_marks(const struct pl_redis_feed *f, struct pl_redis_mark *marks, size_t max)
{
    size_t count = 0;

    if (f->control.id > 0 && count < max) {
        marks[count++] = (struct pl_redis_mark){
            PL_LIT(""), f->control.id, {f->control.tag, strlen(f->control.tag)}};
    }
    for (struct pl_list *n = f->recent.prev; n != &f->recent && count < max; n = n->prev) {
        const struct pl_redis_channel *ch = pl_container_of(n, struct pl_redis_channel, recent);

        if (ch->id > 0 && ch->tag[0] != '\0') {
            marks[count++] =
                (struct pl_redis_mark){name_of(ch), ch->id, {ch->tag, strlen(ch->tag)}};
        }
    }
    return count;
}

/* ---- life ---- */

struct pl_redis_feed *pl_redis__feed_new(struct pl_redis_bus *b)
{
    struct pl_redis_feed *f = pl_alloc(sizeof(*f));

    f->b = b;
    f->paused = true;
    f->mode = PL_REDIS_DOWN;
    pl_map_init(&f->channels, channel_eq);
    pl_list_init(&f->open);
    pl_list_init(&f->recent);
    pl_list_init(&f->kept);
    pl_redis__read_init(f);
    pl_redis_key(&f->log_prefix, b->cfg->bus_prefix, "log", PL_LIT("x"));
    f->log_prefix.len--;
    pl_redis__round_init(f);
    return f;
}

void pl_redis__feed_free(struct pl_redis_feed *f)
{
    if (f == NULL) {
        return;
    }
    pl_redis__round_abandon(f);
    pl_redis__read_stop(f);
    drop_all_kept(f);
    pl_map_foreach(n, &f->channels) {
        forget(f, of_map(n));
    }
    pl_map_done(&f->channels);
    pl_buf_done(&f->log_prefix);
    free(f);
}
