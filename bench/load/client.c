#include "bench/load/client.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zlib.h>

#include "server/base/alloc.h"

enum {
    ROOM = 4 << 20, /* for the largest message */
    RECV_AT_ONCE = 1 << 18,
    SLOW_BUFFER = 4096 /* of the socket of one that does not read */
};

/* One for all: what came stands behind what was held. */
static uint8_t room[ROOM];

static void client_close(struct client *c)
{
    if (c->state == CLIENT_OPEN) {
        c->all->open--;
    } else if (c->state != CLIENT_NEW && c->state != CLIENT_CLOSED) {
        c->all->connecting--;
    }
    if (c->fd >= 0) {
        close(c->fd);
    }
    free(c->held);
    c->held = NULL;
    c->held_len = 0;
    c->fd = -1;
    c->state = CLIENT_CLOSED;
}

static void client_send(struct client *c, struct pl_buf *request)
{
    if (request->len &&
        send(c->fd, request->data, request->len, MSG_NOSIGNAL) != (ssize_t)request->len) {
        err(1, "a client could not send");
    }
    pl_buf_done(request);
}

/* ---- events ---- */

static size_t deliver(struct client *c, const uint8_t *p, size_t len, uint64_t now)
{
    const uint8_t *end = p + len;
    struct tally_mark mark;
    size_t events = 0;
    for (; (p = tally_find(p, end, &mark)); p += TALLY_MARK_LEN, events++) {
        tally_deliver(c->all->tally, &c->reader, mark, now);
    }
    return events;
}

/* Deflated messages are inflated, each distinct one once: those who share one differ in no byte. */
struct inflated {
    uint8_t *deflated;
    size_t deflated_len;
    uint8_t *plain;
    size_t plain_len;
};

static uint64_t hash_of(const uint8_t *p, size_t len)
{
    uint64_t h = len, word;
    for (; len >= 8; p += 8, len -= 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    for (; len > 0; len--) {
        h = (h ^ *p++) * 0x9e3779b97f4a7c15u;
    }
    return h ^ h >> 32;
}

static void inflate_into(struct inflated *entry, const uint8_t *data, size_t len, int window_bits)
{
    static uint8_t plain[ROOM];
    static const uint8_t tail[] = {0, 0, 0xff, 0xff};
    z_stream z = {0};
    uint8_t *whole = pl_alloc(len + sizeof(tail));
    memcpy(whole, data, len);
    memcpy(whole + len, tail, sizeof(tail));
    z.next_in = whole;
    z.avail_in = (uInt)(window_bits < 0 ? len + sizeof(tail) : len);
    z.next_out = plain;
    z.avail_out = sizeof(plain);
    if (inflateInit2(&z, window_bits) != Z_OK) {
        errx(1, "inflateInit2");
    }
    int rc = inflate(&z, Z_SYNC_FLUSH);
    if ((rc != Z_OK && rc != Z_STREAM_END) || z.avail_in || !z.avail_out) {
        errx(1, "a deflated message cannot be inflated (%d)", rc);
    }
    inflateEnd(&z);
    free(entry->deflated);
    free(entry->plain);
    entry->deflated = whole;
    entry->deflated_len = len;
    entry->plain_len = sizeof(plain) - z.avail_out;
    entry->plain = pl_alloc(entry->plain_len + 1);
    memcpy(entry->plain, plain, entry->plain_len);
}

enum {
    RAW_DEFLATE = -15,
    GZIP = 15 + 16,
    REMEMBERED = 1024
};

static const struct inflated *inflated(struct clients *all, const uint8_t *data, size_t len,
                                       int window_bits)
{
    static struct inflated remembered[REMEMBERED];
    struct inflated *entry = &remembered[hash_of(data, len) % REMEMBERED];
    if (entry->deflated_len != len || !entry->deflated || memcmp(entry->deflated, data, len) != 0) {
        inflate_into(entry, data, len, window_bits);
        all->inflated++;
    }
    all->deflated++;
    return entry;
}

/* ---- a WebSocket ---- */

static void opened(struct client *c)
{
    c->state = CLIENT_OPEN;
    c->all->open++;
    c->all->connecting--;
    if (c->who.kind->slow) {
        loop_remove(c->fd);
    }
}

static void message(struct client *c, const uint8_t *data, size_t len, bool deflated, uint64_t now)
{
    struct clients *all = c->all;
    const struct dialect *d = all->dialect;
    struct pl_buf answer = {0};
    if (deflated) {
        const struct inflated *plain = inflated(all, data, len, RAW_DEFLATE);
        data = plain->plain;
        len = plain->plain_len;
    }
    if (c->state == CLIENT_GREETING) {
        if (d->greet(&c->who, data, len, &answer)) {
            opened(c);
        }
    } else if (deliver(c, data, len, now)) {
        all->messages++;
        if (all->keep_position && d->polled) {
            d->polled(&c->who, NULL, (const char *)data, len);
        }
    } else if (d->chatter) {
        d->chatter(&c->who, data, len, &answer);
    }
    client_send(c, &answer);
}

struct frame {
    const uint8_t *payload;
    size_t len, whole;
    uint8_t opcode;
    bool fin, deflated;
};

/* false: incomplete */
static bool next_frame(const uint8_t *p, size_t len, struct frame *ret)
{
    if (len < 2) {
        return false;
    }
    size_t n = p[1] & 0x7f, head = n < 126 ? 2 : n == 126 ? 4 : 10;
    if (len < head) {
        return false;
    }
    if (head > 2) {
        n = 0;
        for (size_t i = 2; i < head; i++) {
            n = n << 8 | p[i];
        }
    }
    *ret = (struct frame){.payload = p + head,
                          .len = n,
                          .whole = head + n,
                          .opcode = p[0] & 15,
                          .fin = p[0] & 0x80,
                          .deflated = p[0] & 0x40};
    return len - head >= n;
}

static size_t take_frames(struct client *c, const uint8_t *p, size_t len, uint64_t now)
{
    size_t used = 0;
    struct frame f;
    while (c->state != CLIENT_CLOSED && next_frame(p + used, len - used, &f)) {
        used += f.whole;
        if (!f.fin || f.opcode == 0) {
            errx(1, "a message in several frames");
        }
        if (f.opcode == 8) {
            c->all->closed++;
            client_close(c);
        } else if (f.opcode == 9) {
            struct pl_buf pong = {0};
            dialect_frame(&pong, 10, f.payload, f.len);
            client_send(c, &pong);
        } else if (f.opcode < 3) {
            message(c, f.payload, f.len, f.deflated, now);
        }
    }
    return used;
}

/* ---- opening ---- */

static void ask(struct client *c)
{
    const struct dialect *d = c->all->dialect;
    struct pl_buf request = {0};
    bool by_queue = c->who.kind->poll || c->who.kind->by_key;
    if (d->registration && by_queue && !*c->who.queue_id) {
        d->registration(&c->who, &request);
        c->state = CLIENT_REGISTERING;
    } else if (c->who.kind->poll) {
        d->poll(&c->who, &request);
        if (c->state != CLIENT_OPEN) {
            opened(c);
        }
    } else {
        d->upgrade(&c->who, &request);
        c->state = CLIENT_UPGRADING;
    }
    client_send(c, &request);
}

static void upgraded(struct client *c, const struct answer *a)
{
    if (a->status != 101) {
        errx(1, "no WebSocket: %.*s", (int)(a->head_len + a->body_len), a->head);
    }
    c->state = CLIENT_GREETING;
    if (!c->all->dialect->greet) {
        opened(c);
    }
}

static void polled(struct client *c, const struct answer *a, uint64_t now)
{
    const uint8_t *body = (const uint8_t *)a->body;
    size_t len = a->body_len;
    if (a->status != 200 && a->status != 304) {
        errx(1, "a poll was answered: %.*s", (int)(a->head_len + len), a->head);
    }
    if (len > 2 && body[0] == 0x1f && body[1] == 0x8b) {
        const struct inflated *plain = inflated(c->all, body, len, GZIP);
        body = plain->plain;
        len = plain->plain_len;
    }
    c->all->messages += deliver(c, body, len, now) > 0;
    c->all->dialect->polled(&c->who, a->head, (const char *)body, len);
    ask(c);
}

static size_t take_answer(struct client *c, const uint8_t *p, size_t len, uint64_t now)
{
    struct answer a;
    size_t used = dialect_answer(p, len, &a);
    if (!used) {
        return 0;
    }
    if (c->state == CLIENT_UPGRADING) {
        upgraded(c, &a);
    } else if (c->state == CLIENT_REGISTERING) {
        if (a.status != 200) {
            errx(1, "not registered: %.*s", (int)used, a.head);
        }
        c->all->dialect->registered(&c->who, a.head, a.body, a.body_len);
        ask(c);
    } else {
        polled(c, &a, now);
    }
    return used;
}

/* ---- reading ---- */

static bool speaks_http(const struct client *c)
{
    return c->who.kind->poll || c->state == CLIENT_REGISTERING || c->state == CLIENT_UPGRADING;
}

static void take(struct client *c, const uint8_t *p, size_t len)
{
    uint64_t now = now_ns();
    size_t used = 0, step = 1;
    while (step > 0 && used < len && c->state != CLIENT_CLOSED) {
        step = speaks_http(c) ? take_answer(c, p + used, len - used, now)
                              : take_frames(c, p + used, len - used, now);
        used += step;
    }
    size_t left = len - used;
    if (c->state == CLIENT_CLOSED) {
        return;
    }
    if (left > 0) {
        if (left > c->held_len) {
            c->held = pl_realloc(c->held, left);
        }
        memcpy(c->held, p + used, left);
    } else if (c->held) {
        free(c->held);
        c->held = NULL;
    }
    c->held_len = left;
}

static void client_read(struct client *c)
{
    if (c->held_len > ROOM - RECV_AT_ONCE) {
        errx(1, "a message of more than %d bytes", ROOM - RECV_AT_ONCE);
    }
    memcpy(room, c->held_len ? c->held : room, c->held_len);
    ssize_t n = recv(c->fd, room + c->held_len, RECV_AT_ONCE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        if (c->state != CLIENT_OPEN) {
            err(1, "a client was cut off before it was open");
        }
        c->all->closed++;
        client_close(c);
        return;
    }
    c->all->bytes += (uint64_t)n;
    take(c, room, c->held_len + (size_t)n);
}

static void client_ready(struct source *s, uint32_t events)
{
    struct client *c = (struct client *)((char *)s - offsetof(struct client, source));
    if (c->state == CLIENT_CONNECTING) {
        int error = 0;
        socklen_t size = sizeof(error);
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errx(1, "connect: %s", strerror(error));
        }
        loop_change(c->fd, &c->source, EPOLLIN);
        ask(c);
    } else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        client_read(c);
    }
}

/* ---- all of them ---- */

static void init_client(struct clients *all, struct client *c, struct client_kind *kind,
                        uint32_t user)
{
    const struct options *o = all->options;
    uint32_t groups = (uint32_t)(o->channels * o->topics), group = user % groups;
    *c = (struct client){.source = {.ready = client_ready}, .all = all, .fd = -1};
    c->port = o->targets[user % o->target_count];
    c->who = (struct identity){.options = o,
                               .kind = kind,
                               .user = user,
                               .channel = group / (uint32_t)o->topics,
                               .topic = group % (uint32_t)o->topics};
    c->reader =
        (struct tally_reader){.group = group, .counted = !kind->slow, .latency = &kind->latency};
    tally_join(all->tally, &c->reader);
}

void clients_init(struct clients *all, const struct options *o, const struct dialect *d,
                  struct tally *t)
{
    *all = (struct clients){.dialect = d, .options = o, .tally = t};
    for (size_t k = 0; k < o->kind_count; k++) {
        all->count += o->kinds[k].count;
    }
    all->list = pl_alloc((all->count + 1) * sizeof(*all->list));
    /* The kinds take turns, so that each has its share of every channel. */
    size_t left[MAX_LISTED] = {0}, user = 0;
    for (size_t k = 0; k < o->kind_count; k++) {
        left[k] = o->kinds[k].count;
    }
    while (user < all->count) {
        size_t most = 0; /* the kind that lags most behind its share */
        for (size_t k = 1; k < o->kind_count; k++) {
            if (left[k] * o->kinds[most].count > left[most] * o->kinds[k].count) {
                most = k;
            }
        }
        left[most]--;
        init_client(all, &all->list[user], (struct client_kind *)&o->kinds[most], (uint32_t)user);
        user++;
    }
}

bool clients_open(struct clients *all)
{
    for (; all->next < all->count && all->connecting < all->options->at_once; all->next++) {
        struct client *c = &all->list[all->next];
        int buffer = c->who.kind->slow ? SLOW_BUFFER : (int)all->options->receive_bytes;
        c->fd = loop_connect(c->port, buffer);
        c->state = CLIENT_CONNECTING;
        all->connecting++;
        loop_add(c->fd, &c->source, EPOLLOUT);
    }
    return all->next == all->count && all->connecting == 0;
}

void clients_cut(struct clients *all)
{
    for (size_t i = 0; i < all->count; i++) {
        client_close(&all->list[i]);
        all->list[i].state = CLIENT_NEW;
    }
    all->next = 0;
}
