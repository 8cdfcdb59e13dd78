/* crowd: clients of both transports that do what docs/protocol.md asks of a client while the server is deployed under
 * them, and a publisher whose events all of them are to get.
 *
 *   crowd key=value …      as bench/load/load.c has them: target=, clients=COUNT:FLAG:…, secret=, api_key=, rate=,
 *                          bytes=, at_once=, give_up=
 *
 * Reads lines: `phase NAME` begins the next part of the account, `end` ends it: nothing is published any more, and once
 * everybody has everything, or nothing comes any more, the account is printed as one JSON object. `open` is printed
 * when all clients are there and events begin.
 *
 * Every event has a number, one after the other, so a client that is given 7 after 5 has lost one, and one that is
 * given 5 after 5 has it twice. A WebSocket that is told goaway stays until its slot and then goes; a poll that is told
 * is asked anew at once. Whoever loses its link, or is answered 503, comes back to the queue it had, after a pause. Only
 * in the beginning at_once bounds how many come together. */

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/load/dialect.h"
#include "bench/load/loop.h"
#include "server/base/alloc.h"
#include "server/base/list.h"

#define MS     ((uint64_t)1000000)
#define SECOND (1000 * MS)

enum {
    MAX_PHASES = 16,
    MAX_EVENTS = 1 << 20,
    FAULTS = 3,
    ROOM = 4 << 20, /* for the largest message and what may come with it */
    RECV_AT_ONCE = 1 << 18,
    LOOK_MS = 10,      /* between two looks at whose time has come */
    SILENT_S = 70,     /* a link that brings nothing for so long is lost */
    PATIENCE_S = 15,   /* so long the publisher waits for an answer */
    LATE_MS = 2000,    /* an event that takes longer is late */
    BACK_OFF_MS = 500, /* at most, before a client that lost its link comes back */
    RETURN_MS = 250,   /* the histogram of returns has a column for each */
    RETURNS = 480
};

enum way {
    WEBSOCKET,
    POLL,
    WAYS
};

/* What is counted in each phase. */
#define COUNTS(_)                                                               \
    _(registered)    /* new queues: the calls to a backend */                   \
    _(links)         /* opened, or polls that went on after goaway */           \
    _(told)          /* goaway */                                               \
    _(refused)       /* connects, and answers that tell nobody to come again */ \
    _(asked_to_wait) /* answered 503 or 429, or closed 1013 */                  \
    _(lost)          /* links that ended untold */                              \
    _(not_resumed)   /* queues that were not found */                           \
    _(catchups)                                                                 \
    _(deliveries)                                                               \
    _(late)                                                                     \
    _(holes) /* events that a later one overtook */                             \
    _(again) /* events that a client had */                                     \
    _(published)                                                                \
    _(retries) /* of publishes */

#define AS_FIELD(name) uint64_t name;
struct counts {
    COUNTS(AS_FIELD)
};

struct phase {
    char name[48];
    uint64_t began_ns, ended_ns, told_ns; /* told_ns: the first goaway of the phase */
    struct counts n;
    unsigned faults;
    struct histogram latency
        [WAYS]; /* to the receipt, from the last attempt to publish or, if that is later, the phase's begin */
    struct histogram away;   /* from a link's end, or a slot, to the next welcome */
    struct histogram answer; /* to publishes, from the first attempt */
    uint32_t returns[WAYS][RETURNS];
};

enum state {
    AWAY, /* until due_ns */
    CONNECTING,
    REGISTERING,
    UPGRADING,
    GREETING,
    OPEN /* of a poll: it is asked */
};

struct member {
    struct source source;
    struct identity who;
    uint8_t *held; /* the beginning of what has not come whole yet */
    size_t held_len;
    int fd;
    uint16_t port;
    enum state state;
    bool told;       /* goaway, and not yet back */
    bool came;       /* has been open before */
    uint32_t next;   /* number of the event that it is to be given */
    uint64_t due_ns; /* away: when to come back; open and told: the slot */
    uint64_t heard_ns;
};

static struct options o;
static const struct dialect *parley;
static struct member *members;
static size_t member_count, connecting, open_count;
static struct phase phases[MAX_PHASES], *phase = phases;
static char faults[MAX_PHASES * FAULTS][240]; /* the first of each phase, in words */
static size_t fault_count;
static uint64_t began_ns, slowest_turn_ns;
static bool flowing, ending;

/* ---- the account ---- */

__attribute__((format(printf, 1, 2))) static void fault(const char *format, ...)
{
    va_list args;

    if (phase->faults == FAULTS) {
        return;
    }
    phase->faults++;
    char *text = faults[fault_count++];
    int n = snprintf(text, sizeof(*faults), "%.1f s, %s: ", (double)(now_ns() - began_ns) / 1e9,
                     phase->name);
    va_start(args, format);
    vsnprintf(text + n, sizeof(*faults) - (size_t)n, format, args);
    va_end(args);
    for (; *text; text++) {
        if (*text < ' ' || *text > '~' || *text == '"' || *text == '\\') {
            *text = '.';
        }
    }
}

static void begin_phase(const char *name)
{
    uint64_t now = now_ns();

    if (*phase->name) {
        if (phase == &phases[MAX_PHASES - 1]) {
            errx(2, "too many phases");
        }
        phase->ended_ns = now;
        phase++;
    }
    snprintf(phase->name, sizeof(phase->name), "%s", name);
    phase->began_ns = now;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    printf(",\"%s\":{\"count\":%" PRIu64 ",\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name, h->count,
           (double)histogram_at(h, .5) / 1e6, (double)histogram_at(h, .99) / 1e6,
           (double)h->max / 1e6);
}

static void print_returns(const char *name, const uint32_t *columns)
{
    size_t used = RETURNS;

    while (used > 0 && columns[used - 1] == 0) {
        used--;
    }
    printf(",\"%s\":[", name);
    for (size_t i = 0; i < used; i++) {
        printf("%s%" PRIu32, i ? "," : "", columns[i]);
    }
    printf("]");
}

static void print_phase(const struct phase *p)
{
    printf("{\"name\":\"%s\",\"seconds\":%.2f", p->name, (double)(p->ended_ns - p->began_ns) / 1e9);
#define PRINT_COUNT(name) printf(",\"" #name "\":%" PRIu64, p->n.name);
    COUNTS(PRINT_COUNT)
    print_histogram("websocket_ms", &p->latency[WEBSOCKET]);
    print_histogram("poll_ms", &p->latency[POLL]);
    print_histogram("away_ms", &p->away);
    print_histogram("answer_ms", &p->answer);
    print_returns("websocket_returns", p->returns[WEBSOCKET]);
    print_returns("poll_returns", p->returns[POLL]);
    printf("}");
}

/* ---- links ---- */

static enum way way_of(const struct member *m)
{
    return m->who.kind->poll ? POLL : WEBSOCKET;
}

static bool is_under_way(const struct member *m)
{
    return m->state != AWAY && m->state != OPEN;
}

/* Ends the link, if there is one; the next is opened then. */
static void leave_until(struct member *m, uint64_t due_ns)
{
    connecting -= is_under_way(m);
    open_count -= m->state == OPEN;
    if (m->fd >= 0) {
        close(m->fd);
    }
    free(m->held);
    m->held = NULL;
    m->held_len = 0;
    m->fd = -1;
    m->state = AWAY;
    m->due_ns = due_ns;
}

static void come_back_soon(struct member *m)
{
    leave_until(m, now_ns() + (uint64_t)rand() % BACK_OFF_MS * MS);
}

static void lost(struct member *m, const char *how)
{
    phase->n.lost++;
    fault("client %" PRIu32 " (%s) lost its link: %s", m->who.user, m->who.kind->text, how);
    come_back_soon(m);
}

static void wait_as_asked(struct member *m, uint64_t wait_ms)
{
    phase->n.asked_to_wait++;
    m->told = false;
    leave_until(m, now_ns() + (wait_ms + (uint64_t)rand() % BACK_OFF_MS) * MS);
}

static void returned(struct member *m)
{
    uint64_t now = now_ns();

    phase->n.links++;
    if (m->told && phase->told_ns) {
        uint64_t column = (now - phase->told_ns) / MS / RETURN_MS;

        phase->returns[way_of(m)][column < RETURNS ? column : RETURNS - 1]++;
    }
    if (m->came && way_of(m) == WEBSOCKET) {
        histogram_add(&phase->away, now > m->due_ns ? now - m->due_ns : 0);
    }
    m->told = false;
    m->came = true;
}

static void say(struct member *m, struct pl_buf *bytes)
{
    if (bytes->len && send(m->fd, bytes->data, bytes->len, MSG_NOSIGNAL) != (ssize_t)bytes->len &&
        errno != EPIPE && errno != ECONNRESET) { /* reading tells of those */
        err(1, "a client could not send");
    }
    pl_buf_done(bytes);
}

static void say_frame(struct member *m, uint8_t opcode, const char *bytes, size_t len)
{
    struct pl_buf frame = {0};

    dialect_frame(&frame, opcode, bytes, len);
    say(m, &frame);
}

/* ---- events ---- */

static uint64_t *attempted_ns; /* by number: when its publish was asked last */
static uint32_t published;

static void give(struct member *m, struct tally_mark mark, uint64_t now)
{
    struct counts *n = &phase->n;

    if (mark.number >= published) {
        errx(1, "event %" PRIu32 " was never published", mark.number);
    }
    n->deliveries++;
    if (mark.number < m->next) {
        n->again++;
        fault("client %" PRIu32 " (%s) was given %" PRIu32 " again", m->who.user, m->who.kind->text,
              mark.number);
        return;
    }
    if (mark.number > m->next) {
        n->holes += mark.number - m->next;
        fault("client %" PRIu32 " (%s) was given %" PRIu32 ", not %" PRIu32, m->who.user,
              m->who.kind->text, mark.number, m->next);
    }
    m->next = mark.number + 1;
    uint64_t asked_ns = attempted_ns[mark.number];
    uint64_t took = now - (asked_ns > phase->began_ns ? asked_ns : phase->began_ns);
    histogram_add(&phase->latency[way_of(m)], took);
    n->late += took > LATE_MS * MS;
}

static size_t give_all(struct member *m, const uint8_t *p, size_t len)
{
    const uint8_t *end = p + len;
    struct tally_mark mark;
    uint64_t now = now_ns();
    size_t events = 0;

    for (; (p = tally_find(p, end, &mark)); p += TALLY_MARK_LEN, events++) {
        give(m, mark, now);
    }
    return events;
}

static bool has(const void *data, size_t len, const char *text)
{
    return memmem(data, len, text, strlen(text)) != NULL;
}

/* The number behind a key, in JSON or MessagePack; 0 if it is not there. */
static uint64_t number_of(const uint8_t *data, size_t len, const char *key)
{
    const uint8_t *p = memmem(data, len, key, strlen(key)), *end = data + len;

    if (!p || (p += strlen(key)) + 2 > end) {
        return 0;
    }
    if (*p == '"') {
        return strtoull((const char *)p + 2, NULL, 10);
    }
    size_t bytes = *p >= 0xcc && *p <= 0xcf ? (size_t)1 << (*p - 0xcc) : 0;
    uint64_t n = bytes || *p > 0x7f ? 0 : *p;
    for (size_t i = 1; i <= bytes && p + i < end; i++) {
        n = n << 8 | p[i];
    }
    return n;
}

static void hear_goaway(struct member *m, const uint8_t *data, size_t len)
{
    uint64_t now = now_ns();

    phase->n.told++;
    if (!phase->told_ns) {
        phase->told_ns = now;
    }
    m->told = true;
    m->due_ns = now + number_of(data, len, "reconnect_after_ms") * MS;
}

/* Anything but a welcome: a message of a WebSocket or the answer to a poll. */
static void hear(struct member *m, const uint8_t *data, size_t len)
{
    bool catchup = has(data, len, "catchup_required");

    if (catchup) {
        phase->n.catchups++;
        fault("client %" PRIu32 ": %.*s", m->who.user, (int)len, (const char *)data);
    }
    give_all(m, data, len);
    if (has(data, len, "goaway")) {
        hear_goaway(m, data, len);
    }
    if (!catchup && has(data, len, "last_event_id")) {
        parley->polled(&m->who, NULL, (const char *)data, len);
    }
    if (has(data, len, "\"op\":\"ping\"")) {
        say_frame(m, 1, "{\"op\":\"pong\"}", 13);
    } else if (has(data, len, "\xa2op\xa4ping")) {
        say_frame(m, 2, "\x81\xa2op\xa4pong", 9);
    }
}

/* ---- what is asked ---- */

static void opened(struct member *m)
{
    connecting -= is_under_way(m);
    open_count += m->state != OPEN;
    m->state = OPEN;
}

static void ask(struct member *m)
{
    struct pl_buf request = {0};

    if (!*m->who.queue_id && (m->who.kind->poll || m->who.kind->by_key)) {
        parley->registration(&m->who, &request);
        m->state = REGISTERING;
        phase->n.registered++;
    } else if (m->who.kind->poll) {
        parley->poll(&m->who, &request);
        if (m->state != OPEN || m->told) {
            returned(m);
        }
        opened(m);
    } else {
        phase->n.registered += !*m->who.queue_id;
        parley->upgrade(&m->who, &request);
        m->state = UPGRADING;
    }
    say(m, &request);
}

static bool is_same_queue(const struct member *m, const uint8_t *data, size_t len)
{
    return !m->came || has(data, len, m->who.queue_id);
}

static void welcome(struct member *m, const uint8_t *data, size_t len)
{
    if (!has(data, len, "welcome")) {
        fault("client %" PRIu32 " was welcomed by %.*s", m->who.user, (int)len, (const char *)data);
        return;
    }
    if (!is_same_queue(m, data, len)) {
        phase->n.not_resumed++;
        fault("client %" PRIu32 " has another queue: %.*s", m->who.user, (int)len,
              (const char *)data);
    }
    struct pl_buf none = {0};
    parley->greet(&m->who, data, len, &none);
    returned(m);
    opened(m);
}

static void gone(struct member *m, const char *how)
{
    phase->n.not_resumed++;
    fault("client %" PRIu32 " (%s) has no queue any more: %s", m->who.user, m->who.kind->text, how);
    *m->who.queue_id = '\0';
    come_back_soon(m);
}

static void closed(struct member *m, const uint8_t *payload, size_t len)
{
    unsigned code = len < 2 ? 1005 : (unsigned)payload[0] << 8 | payload[1];
    char how[80];

    snprintf(how, sizeof(how), "closed %u %.*s", code, len < 2 ? 0 : (int)len - 2,
             (const char *)payload + 2);
    if (code == 4404) {
        gone(m, how);
    } else if (code == 1013) {
        const char *wait = strstr(how, "retry_after_ms=");

        wait_as_asked(m, wait ? strtoull(wait + 15, NULL, 10) : 1000);
    } else {
        lost(m, how);
    }
}

/* An answer that is not what was asked for. */
static void declined(struct member *m, const struct answer *a)
{
    const char *line = memmem(a->head, a->head_len, "\r\n", 2);
    const char *wait = memmem(a->head, a->head_len, "etry-", 5); /* R or r */

    if (a->status == 404) {
        gone(m, "404");
    } else if ((a->status == 503 || a->status == 429) && wait) {
        wait_as_asked(m, strtoull(wait + strlen("etry-After:"), NULL, 10) * 1000);
    } else {
        phase->n.refused++;
        fault("client %" PRIu32 " (%s) was answered %.*s %.*s", m->who.user, m->who.kind->text,
              (int)(line - a->head), a->head, (int)a->body_len, a->body);
        come_back_soon(m);
    }
}

/* ---- what comes ---- */

static size_t take_answer(struct member *m, const uint8_t *p, size_t len)
{
    struct answer a;
    size_t used = dialect_answer(p, len, &a);

    if (!used) {
        return 0;
    }
    if (a.status != (m->state == UPGRADING ? 101 : 200)) {
        declined(m, &a);
    } else if (m->state == UPGRADING) {
        m->state = GREETING;
    } else {
        if (m->state == REGISTERING) {
            parley->registered(&m->who, a.head, a.body, a.body_len);
        } else {
            hear(m, (const uint8_t *)a.body, a.body_len);
        }
        if (has(a.head, a.head_len, "onnection: close")) {
            leave_until(m, now_ns());
        } else {
            ask(m);
        }
    }
    return used;
}

/* Parley's messages come in one frame each, shorter than 64 KiB. */
static size_t take_frame(struct member *m, const uint8_t *p, size_t len)
{
    size_t head = len < 2 ? 2 : p[1] < 126 ? 2 : 4;

    if (len < head) {
        return 0;
    }
    size_t n = head == 2 ? p[1] : (size_t)p[2] << 8 | p[3];
    if (!(p[0] & 0x80) || p[0] & 0x70 || p[1] > 126) {
        errx(1, "a frame that begins %02x %02x", p[0], p[1]);
    }
    if (len < head + n) {
        return 0;
    }
    if (p[0] == 0x88) {
        closed(m, p + head, n);
    } else if (p[0] == 0x89) {
        say_frame(m, 10, (const char *)p + head, n);
    } else if (m->state == GREETING) {
        welcome(m, p + head, n);
    } else if (p[0] != 0x8a) {
        hear(m, p + head, n);
    }
    return head + n;
}

static bool speaks_http(const struct member *m)
{
    return m->who.kind->poll || m->state == REGISTERING || m->state == UPGRADING;
}

static void take(struct member *m, const uint8_t *p, size_t len)
{
    size_t used = 0, step = 1;

    m->heard_ns = now_ns();
    while (step > 0 && used < len && m->state != AWAY) {
        step = speaks_http(m) ? take_answer(m, p + used, len - used)
                              : take_frame(m, p + used, len - used);
        used += step;
    }
    if (m->state == AWAY) {
        return;
    }
    size_t left = len - used;
    uint8_t *rest = left ? pl_alloc(left) : NULL;
    if (rest) {
        memcpy(rest, p + used, left);
    }
    free(m->held);
    m->held = rest;
    m->held_len = left;
}

static void member_read(struct member *m)
{
    static uint8_t room[ROOM];

    if (m->held_len > ROOM - RECV_AT_ONCE) {
        errx(1, "a message of more than %d bytes", ROOM - RECV_AT_ONCE);
    }
    if (m->held_len) {
        memcpy(room, m->held, m->held_len);
    }
    ssize_t n = recv(m->fd, room + m->held_len, RECV_AT_ONCE, 0);
    if (n > 0) {
        take(m, room, m->held_len + (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        lost(m, n == 0 ? "end of stream" : strerror(errno));
    }
}

static void member_ready(struct source *s, uint32_t events)
{
    struct member *m = pl_container_of(s, struct member, source);

    if (m->state != CONNECTING) {
        member_read(m);
        return;
    }
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(m->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        phase->n.refused++;
        fault("client %" PRIu32 ": connect: %s", m->who.user, strerror(error));
        come_back_soon(m);
        return;
    }
    (void)events;
    loop_change(m->fd, &m->source, EPOLLIN);
    ask(m);
}

/* ---- everybody ---- */

static void members_init(void)
{
    for (size_t k = 0; k < o.kind_count; k++) {
        member_count += o.kinds[k].count;
    }
    members = pl_alloc(member_count * sizeof(*members));
    size_t user = 0;
    for (size_t k = 0; k < o.kind_count; k++) {
        for (size_t i = 0; i < o.kinds[k].count; i++, user++) {
            members[user] =
                (struct member){.source = {.ready = member_ready},
                                .who = {.options = &o, .kind = &o.kinds[k], .user = (uint32_t)user},
                                .fd = -1,
                                .port = o.targets[user % o.target_count]};
        }
    }
}

static void begin_link(struct member *m)
{
    m->fd = loop_connect(m->port, 0);
    m->state = CONNECTING;
    m->heard_ns = now_ns();
    connecting++;
    loop_add(m->fd, &m->source, EPOLLOUT);
}

/* Whose time has come: to come, to go, or to be given up. */
static void look(uint64_t now)
{
    for (size_t i = 0; i < member_count; i++) {
        struct member *m = &members[i];

        if (m->state == AWAY) {
            if (m->due_ns <= now && (flowing || connecting < o.at_once)) {
                begin_link(m);
            }
        } else if (m->state == OPEN && m->told && m->due_ns <= now) {
            say_frame(m, 8, "\x03\xe9", 2);
            leave_until(m, m->due_ns);
        } else if (now - m->heard_ns > SILENT_S * SECOND) {
            lost(m, "silence");
        }
    }
}

/* ---- the publisher ---- */

/* One event after the other, each until it is answered with its id, under one key. */
static struct {
    struct source source;
    struct pl_buf answer;
    int fd;
    bool waits, is_new;                  /* waits: for an answer; is_new: the connection */
    uint64_t due_ns, first_ns, asked_ns; /* of this event: its time, its first attempt, its last */
    char mark[TALLY_MARK_LEN + 1];
} publisher = {.fd = -1};

static void publisher_try_later(void)
{
    phase->n.retries++;
    if (publisher.fd >= 0) {
        close(publisher.fd);
    }
    publisher.fd = -1;
    publisher.answer.len = 0;
    publisher.waits = false;
    publisher.due_ns = now_ns() + 250 * MS;
}

static void publisher_say(void)
{
    struct pl_buf body = {0}, request = {0};

    pl_buf_printf(
        &body, "{\"type\":\"new_comment\",\"community_ids\":[1],\"data\":{\"s\":\"%s\",\"text\":\"",
        publisher.mark);
    for (size_t i = body.len + 90; i < o.bytes; i++) {
        pl_buf_append_byte(&body, 'x');
    }
    pl_buf_append_str(&body, "\"}}");
    pl_buf_printf(
        &request,
        "POST /realtime/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "X-API-Key: %s\r\nIdempotency-Key: %s\r\nContent-Length: %zu\r\n\r\n",
        o.api_key, publisher.mark, body.len);
    pl_buf_append(&request, body.data, body.len);
    attempted_ns[published - 1] = publisher.asked_ns = now_ns();
    publisher.waits = true;
    if (send(publisher.fd, request.data, request.len, MSG_NOSIGNAL) != (ssize_t)request.len) {
        publisher_try_later();
    }
    pl_buf_done(&body);
    pl_buf_done(&request);
}

static void publisher_answered(const struct answer *a)
{
    if (a->status != 200) {
        if (a->status != 503 && a->status != 502) {
            errx(1, "a publish was answered: %.*s", (int)(a->head_len + a->body_len), a->head);
        }
        publisher_try_later();
        return;
    }
    phase->n.published++;
    histogram_add(&phase->answer, now_ns() - publisher.first_ns);
    publisher.waits = false;
    publisher.answer.len = 0;
    publisher.due_ns += (uint64_t)(1e9 / o.rate);
    if (publisher.due_ns < now_ns()) {
        publisher.due_ns = now_ns();
    }
    *publisher.mark = '\0';
}

static void publisher_ready(struct source *s, uint32_t events)
{
    char bytes[8192];
    struct answer a;

    (void)s;
    if (publisher.is_new) {
        publisher.is_new = false;
        loop_change(publisher.fd, &publisher.source, EPOLLIN);
        if (!(events & (EPOLLERR | EPOLLHUP))) {
            publisher_say();
            return;
        }
    }
    ssize_t n = recv(publisher.fd, bytes, sizeof(bytes), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0 && !publisher.waits) { /* nobody used it for long */
        close(publisher.fd);
        publisher.fd = -1;
    } else if (n <= 0) {
        publisher_try_later();
    } else {
        pl_buf_append(&publisher.answer, bytes, (size_t)n);
        if (dialect_answer(publisher.answer.data, publisher.answer.len, &a)) {
            publisher_answered(&a);
        }
    }
}

static void publisher_look(uint64_t now)
{
    if (publisher.waits || publisher.is_new) {
        if (now - publisher.asked_ns > PATIENCE_S * SECOND) {
            publisher.is_new = false;
            publisher_try_later();
        }
        return;
    }
    if (now < publisher.due_ns || (ending && !*publisher.mark)) {
        return;
    }
    if (!*publisher.mark) {
        if (published == MAX_EVENTS) {
            errx(1, "more than %d events", MAX_EVENTS);
        }
        snprintf(publisher.mark, sizeof(publisher.mark), "~%08" PRIx32 "%016" PRIx64 "~", published,
                 now);
        publisher.first_ns = now;
        attempted_ns[published++] = now;
    }
    if (publisher.fd < 0) {
        publisher.fd = loop_connect(o.publish[0], 0);
        publisher.is_new = true;
        publisher.asked_ns = now;
        publisher.source.ready = publisher_ready;
        loop_add(publisher.fd, &publisher.source, EPOLLOUT);
    } else {
        publisher_say();
    }
}

/* ---- orders ---- */

static void order(const char *line)
{
    if (!strncmp(line, "phase ", 6)) {
        begin_phase(line + 6);
    } else if (!strcmp(line, "end")) {
        ending = true;
    } else {
        errx(2, "what is %s?", line);
    }
}

static void orders_ready(struct source *s, uint32_t events)
{
    static char text[256];
    static size_t len;

    (void)s;
    (void)events;
    ssize_t n = read(0, text + len, sizeof(text) - 1 - len);
    if (n <= 0) {
        errx(2, "no orders any more");
    }
    len += (size_t)n;
    text[len] = '\0';
    for (char *end; (end = strchr(text, '\n'));) {
        *end = '\0';
        order(text);
        len -= (size_t)(end + 1 - text);
        memmove(text, end + 1, len + 1);
    }
}

/* ---- a run ---- */

static void turn(void)
{
    static uint64_t looked_ns;
    uint64_t now = now_ns();

    if (now - looked_ns >= LOOK_MS * MS) {
        looked_ns = now;
        look(now);
        if (flowing) {
            publisher_look(now);
        }
    }
    loop_turn(looked_ns + LOOK_MS * MS);
    uint64_t took = now_ns() - now;
    if (took > slowest_turn_ns) {
        slowest_turn_ns = took;
    }
}

static void open_all(void)
{
    uint64_t moved = now_ns();
    size_t most = 0;

    while (open_count < member_count) {
        turn();
        if (open_count > most) {
            most = open_count;
            moved = now_ns();
        }
        if ((double)(now_ns() - moved) / 1e9 > o.give_up) {
            errx(1, "%zu of %zu clients are open, and no more come: %s", open_count, member_count,
                 faults[0]);
        }
    }
}

static size_t missing(void)
{
    size_t total = 0;

    for (size_t i = 0; i < member_count; i++) {
        total += published - members[i].next;
    }
    return total;
}

static void drain(void)
{
    uint64_t moved = now_ns(), deliveries = 0;

    while (*publisher.mark || missing() > 0) {
        turn();
        if (phase->n.deliveries != deliveries) {
            deliveries = phase->n.deliveries;
            moved = now_ns();
        }
        if ((double)(now_ns() - moved) / 1e9 > o.give_up) {
            return;
        }
    }
}

static void tell_who_is_behind(void)
{
    static const char *const states[] = {"away",      "connecting", "registering",
                                         "upgrading", "greeting",   "open"};

    for (size_t i = 0; i < member_count; i++) {
        struct member *m = &members[i];

        if (m->state != OPEN || m->next < published) {
            fault("client %" PRIu32 " (%s) is %s, waits for %" PRIu32 " of %" PRIu32
                  ", heard something %.1f s ago",
                  m->who.user, m->who.kind->text, states[m->state], m->next, published,
                  (double)(now_ns() - m->heard_ns) / 1e9);
        }
    }
}

static double own_cpu_s(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void print_account(void)
{
    printf("{\"clients\":%zu,\"events\":%" PRIu32
           ",\"missing\":%zu,\"open\":%zu,\"cpu_s\":%.1f,\"seconds\":%.1f"
           ",\"slowest_turn_ms\":%.1f,\"return_ms\":%d,\"phases\":[",
           member_count, published, missing(), open_count, own_cpu_s(),
           (double)(now_ns() - began_ns) / 1e9, (double)slowest_turn_ns / 1e6, RETURN_MS);
    for (struct phase *p = phases; p <= phase; p++) {
        printf("%s", p > phases ? "," : "");
        print_phase(p);
    }
    printf("],\"faults\":[");
    for (size_t i = 0; i < fault_count; i++) {
        printf("%s\"%s\"", i ? "," : "", faults[i]);
    }
    printf("]}\n");
}

int main(int argc, char **argv)
{
    struct source orders = {.ready = orders_ready};
    struct rlimit files;

    options_read(&o, argc, argv);
    parley = dialect_find("parley");
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    attempted_ns = pl_alloc(MAX_EVENTS * sizeof(*attempted_ns));
    began_ns = now_ns();
    srand((unsigned)began_ns);
    loop_init();
    loop_add(0, &orders, EPOLLIN);
    members_init();
    begin_phase("opening");
    open_all();
    printf("open\n");
    fflush(stdout);
    flowing = true;
    slowest_turn_ns = 0;
    publisher.due_ns = now_ns();
    while (!ending) {
        turn();
    }
    drain();
    phase->ended_ns = now_ns();
    tell_who_is_behind();
    print_account();
    return 0;
}
