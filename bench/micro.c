/* What the steps of a delivery cost without a network, in CPU time: {"step": nanoseconds, …}, each the best of several
 * rounds, since whatever disturbs a round only adds to it.
 *
 *   micro
 *   micro deflate FILE     what compressing costs and saves, by size, of events with pieces of that text */

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "protocol/frame.h"
#include "protocol/request.h"
#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/config.h"
#include "server/base/wheel.h"
#include "server/bus/memory.h"
#include "server/core/hub.h"

enum {
    ROUNDS = 7,
    RECIPIENTS = 5000,
    CROWD = 15000,
    FEW = 5
};

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double best_ns(void (*step)(void *arg), void *arg, size_t times)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double begun = cpu_ns();
        for (size_t i = 0; i < times; i++) {
            step(arg);
        }
        double ns = (cpu_ns() - begun) / (double)times;
        best = round == 0 || ns < best ? ns : best;
    }
    return best;
}

static void measure(const char *name, void (*step)(void *arg), void *arg, size_t times, size_t per)
{
    static const char *separator = "";
    printf("%s\n  \"%s\": %.1f", separator, name, best_ns(step, arg, times) / (double)per);
    separator = ",";
}

/* ---- an event's bytes ---- */

/* The body a bus carries, of about so many bytes. */
static struct pl_str body_of(size_t len)
{
    static const char head[] =
        "{\"type\":\"new_comment\",\"timestamp\":\"2026-01-01T00:00:00.000Z\","
        "\"community_ids\":[1],\"data\":{\"article_id\":1,\"text\":\"",
                      text[] = "The method of this paper could not be repeated with our samples; ";
    struct pl_buf out = {0};
    pl_buf_append_str(&out, head);
    while (out.len + 3 < len) {
        pl_buf_append_byte(&out,
                           (uint8_t)text[(out.len * 7 / 5 + out.len / 13) % (sizeof(text) - 1)]);
    }
    pl_buf_append_str(&out, "\"}}");
    return (struct pl_str){(const char *)out.data, out.len};
}

struct bytes {
    struct pl_str body;
    enum pl_codec codec;
};

static void encode(void *arg)
{
    struct bytes *b = arg;
    struct pl_buf out = {0};
    pl_event_encode(b->codec, 1832000000000000, b->body, &out);
    pl_buf_done(&out);
}

static struct pl_frame *frame_of(const struct bytes *b)
{
    struct pl_buf out = {0};
    pl_buf_append(&out, b->body.s, b->body.len);
    return pl_frame_new(b->codec, &out);
}

static void frame(void *arg)
{
    pl_frame_unref(frame_of(arg));
}

static void deflate_frame(void *arg)
{
    struct pl_frame *f = frame_of(arg);
    (void)pl_frame_websocket_deflated(f, 0);
    pl_frame_unref(f);
}

static void measure_bytes(void)
{
    struct bytes small = {body_of(200), PL_JSON}, packed = {small.body, PL_MSGPACK},
                 large = {body_of(2000), PL_JSON};
    measure("encode 200 bytes, JSON", encode, &small, 20000, 1);
    measure("encode 200 bytes, MessagePack", encode, &packed, 20000, 1);
    measure("encode 2000 bytes, JSON", encode, &large, 20000, 1);
    measure("make a frame of 200 bytes", frame, &small, 20000, 1);
    measure("make and deflate a frame of 200 bytes", deflate_frame, &small, 5000, 1);
    measure("make and deflate a frame of 2000 bytes", deflate_frame, &large, 2000, 1);
}

/* ---- when compressing pays ---- */

enum {
    PIECES = 32
};

/* An event of len bytes with a piece of the text in it. */
static struct pl_str event_with(const struct pl_buf *text, size_t at, size_t len)
{
    struct pl_buf out = {0};
    pl_buf_printf(&out,
                  "{\"events\":[{\"event_id\":%zu,\"type\":\"new_comment\",\"timestamp\":"
                  "\"2026-01-01T00:00:00.000Z\",\"community_ids\":[1],\"data\":{\"text\":\"",
                  (size_t)1832000000000000 + at);
    while (out.len + 5 < len) {
        uint8_t c = text->data[at++ % text->len];
        pl_buf_append_byte(&out, c < ' ' || c == '"' || c == '\\' ? ' ' : c);
    }
    pl_buf_append_str(&out, "\"}}]}");
    return (struct pl_str){(const char *)out.data, out.len};
}

struct pieces {
    struct bytes plain[PIECES];
    struct pl_bytes deflated[PIECES];
    size_t next;
};

static void deflate_next(void *arg)
{
    struct pieces *p = arg;
    deflate_frame(&p->plain[p->next++ % PIECES]);
}

static void frame_next(void *arg)
{
    struct pieces *p = arg;
    frame(&p->plain[p->next++ % PIECES]);
}

static void inflate_next(void *arg)
{
    struct pieces *p = arg;
    struct pl_bytes b = p->deflated[p->next++ % PIECES], out;
    (void)pl_inflate(b.data, b.len, 1048576, &out);
}

static struct pl_buf read_file(const char *path)
{
    struct pl_buf text = {0};
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        err(1, "%s", path);
    }
    pl_buf_reserve(&text, 1048576);
    text.len = fread(text.data, 1, 1048576, f);
    fclose(f);
    return text;
}

static void measure_deflate(const char *path)
{
    static const size_t sizes[] = {128, 192, 256, 384, 512, 768, 1024, 2048, 4096};
    struct pl_buf text = read_file(path);
    printf("bytes  deflated  saved  deflate [us]  inflate [us]\n");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct pieces p = {.next = 0};
        size_t total = 0, plain = 0;
        for (size_t k = 0; k < PIECES; k++) {
            p.plain[k] =
                (struct bytes){event_with(&text, k * text.len / PIECES, sizes[i]), PL_JSON};
            struct pl_frame *f = frame_of(&p.plain[k]);
            struct pl_bytes b = pl_frame_websocket_deflated(f, 0);
            struct pl_buf kept = {0};
            size_t head = b.len < 128 ? 2 : 4;
            pl_buf_append(&kept, b.data + head, b.len - head);
            p.deflated[k] = (struct pl_bytes){kept.data, kept.len};
            total += b.len;
            plain += pl_frame_websocket(f).len;
            pl_frame_unref(f);
        }
        printf("%5zu  %8zu  %4.0f%%  %12.1f  %12.1f\n", sizes[i], total / PIECES,
               100.0 - 100.0 * (double)total / (double)plain,
               (best_ns(deflate_next, &p, 2000) - best_ns(frame_next, &p, 2000)) / 1000,
               best_ns(inflate_next, &p, 2000) / 1000);
    }
}

/* ---- a node without a network ---- */

struct node {
    struct pl_config *cfg;
    struct pl_wheel wheel;
    struct pl_memory_bus *bus;
    struct pl_hub *hub;
    struct pl_bus_event event;
    struct pl_str channel;
    struct link *links;
    size_t link_count, expected; /* expected: messages taken by all links so far */
};

struct link {
    struct pl_link base;
    struct node *node;
};

static size_t taken;
static bool refusing;

static bool take(struct pl_link *l, struct pl_frame *f, uint32_t events)
{
    (void)l, (void)f;
    taken += refusing ? 0 : events;
    return !refusing;
}

static void end(struct pl_link *l, int status)
{
    (void)l, (void)status;
}

static const struct pl_link_ops link_ops = {
    .transport = PL_TRANSPORT_WEBSOCKET, .send = take, .end = end};

static const char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

static struct node *node_new(size_t links)
{
    struct node *n = pl_alloc(sizeof(*n));
    struct pl_config_sources sources = {.getenv_fn = no_environment};
    struct pl_config_error error;
    int64_t unix_ms = pl_clock_unix_ms();
    uint64_t mono_ms = pl_clock_mono_ms();
    if (pl_config_load(&sources, &n->cfg, &error) != 0) {
        errx(1, "the configuration");
    }
    pl_wheel_init(&n->wheel, mono_ms);
    n->bus = pl_memory_bus_new(n->cfg, unix_ms);
    n->hub = pl_hub_new(&(struct pl_hub_options){.cfg = n->cfg,
                                                 .bus_ops = &pl_memory_bus_ops,
                                                 .bus = n->bus,
                                                 .ring_is_log = true,
                                                 .wheel = &n->wheel,
                                                 .random = pl_random_bytes,
                                                 .epoch_start = pl_memory_bus_epoch(n->bus)},
                        mono_ms, unix_ms);
    pl_memory_bus_connect(n->bus, n->hub);
    n->links = pl_alloc((links + 1) * sizeof(*n->links));
    n->channel = PL_LIT("community:1");
    n->event = (struct pl_bus_event){
        .body = body_of(200), .channels = &n->channel, .channel_count = 1, .topic = PL_LIT("t0")};
    return n;
}

static void node_free(struct node *n)
{
    pl_hub_end_links(n->hub, PL_OK);
    pl_hub_free(n->hub);
    pl_memory_bus_free(n->bus);
    pl_config_free(n->cfg);
    free(n->links);
    free((void *)n->event.body.s);
    free(n);
}

/* A WebSocket of a user of its own in this channel, narrowed to this topic unless it is NULL. */
static void node_join(struct node *n, const char *channel, const char *topic)
{
    char user[24];
    struct pl_queue *q;
    struct pl_str in = {channel, strlen(channel)}, about = {topic, topic ? strlen(topic) : 0};
    struct pl_narrowing narrowing = {.channel = in, .topics = &about, .topic_count = 1};
    struct pl_membership m = {.channels = &in,
                              .channel_count = 1,
                              .has_narrowing = topic != NULL,
                              .narrowing = &narrowing,
                              .narrowing_count = topic ? 1 : 0};
    struct link *l = &n->links[n->link_count];
    snprintf(user, sizeof(user), "%zu", ++n->link_count);
    struct pl_str id = {user, strlen(user)};
    struct pl_token_claims claims = {.user_id = id,
                                     .membership = &m,
                                     .iat_ms = pl_hub_unix_ms(n->hub),
                                     .exp_ms = pl_hub_unix_ms(n->hub) + 3600000};
    if (pl_hub_apply_claims(n->hub, &claims, true) != PL_OK ||
        pl_queue_new(n->hub, pl_hub_user_find(n->hub, id), NULL, 0, -1, &q) != PL_OK) {
        errx(1, "a queue");
    }
    *l = (struct link){.base = {.ops = &link_ops, .codec = PL_JSON}, .node = n};
    pl_queue_attach(q, &l->base, -1);
    pl_queue_writable(q);
}

static void published(void *arg, int status, const int64_t *ids, size_t count)
{
    (void)arg, (void)ids, (void)count;
    if (status != PL_OK) {
        errx(1, "a publish");
    }
}

static void publish(void *arg)
{
    struct node *n = arg;
    pl_hub_publish(n->hub, &n->event, 1, NULL, published, n);
}

static void pull(void *arg)
{
    struct node *n = arg;
    refusing = true;
    for (int i = 0; i < 64; i++) {
        publish(n);
    }
    refusing = false;
    for (size_t i = 0; i < n->link_count; i++) {
        pl_queue_writable(n->links[i].base.queue);
    }
}

/* Every link took every event: ROUNDS rounds of so many. */
static void expect(size_t events)
{
    if (taken != events * ROUNDS) {
        errx(1, "%zu events were taken, not %zu", taken, events * ROUNDS);
    }
    taken = 0;
}

static void measure_walks(void)
{
    struct node *n = node_new(0);
    measure("publish, append to a ring, nobody there", publish, n, 20000, 1);
    node_free(n);

    n = node_new(RECIPIENTS);
    for (int i = 0; i < RECIPIENTS; i++) {
        node_join(n, "community:1", NULL);
    }
    measure("walk over 5 000 recipients, for each", publish, n, 40, RECIPIENTS);
    expect((size_t)40 * RECIPIENTS);
    measure("pull 64 events for each of 5 000, for each event", pull, n, 2,
            (size_t)64 * RECIPIENTS);
    expect((size_t)2 * 64 * RECIPIENTS);
    node_free(n);

    n = node_new(CROWD);
    for (int i = 0; i < CROWD; i++) {
        char channel[32];
        snprintf(channel, sizeof(channel), "community:%d", i / FEW + 1);
        node_join(n, channel, NULL);
    }
    measure("publish to 5 of 15 000", publish, n, 20000, 1);
    expect((size_t)20000 * FEW);
    node_free(n);

    n = node_new(CROWD);
    for (int i = 0; i < 10000; i++) {
        char topic[32];
        snprintf(topic, sizeof(topic), "t%d", i);
        node_join(n, "community:1", topic);
    }
    measure("publish to 1 of 10 000 topics of a channel", publish, n, 20000, 1);
    expect(20000);
    node_free(n);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "deflate") == 0) {
        measure_deflate(argv[2]);
        pl_deflate_done();
        return 0;
    }
    printf("{");
    measure_bytes();
    measure_walks();
    printf("\n}\n");
    pl_deflate_done();
    return 0;
}
