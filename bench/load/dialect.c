#include "bench/load/dialect.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jwt.h>

#include "server/base/alloc.h"
#include "server/base/clock.h"

/* ---- an event ---- */

static uint32_t channel_of(const struct options *o, uint32_t group)
{
    return group / (uint32_t)o->topics + 1;
}

static uint32_t topic_of(const struct options *o, uint32_t group)
{
    return group % (uint32_t)o->topics + 1;
}

/* Text that compresses as text does, another one for every event. */
static void append_words(struct pl_buf *out, size_t len, const char *mark)
{
    static const char *const words[] = {
        "the",   "paper",  "is",      "about",  "a",      "method",  "that", "we",     "could",
        "not",   "repeat", "in",      "figure", "three",  "however", "its",  "data",   "support",
        "first", "claim",  "because", "of",     "sample", "size",    "and",  "review", "comment"};
    uint64_t state = 0;
    for (size_t i = 1; i < 9; i++) {
        state = state * 31 + (uint64_t)mark[i];
    }
    size_t end = out->len + len;
    while (out->len < end) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        pl_buf_append_str(out, words[(state >> 33) % (sizeof(words) / sizeof(*words))]);
        pl_buf_append_byte(out, ' ');
    }
    out->len = end;
}

/* As clients receive it, of options.bytes. Whoever publishes to Parley leaves id and time to it, who feeds Redis only
 * the id. */
enum given {
    GIVEN_ALL,
    GIVEN_TIME,
    GIVEN_NEITHER
};

static void append_event(const struct options *o, uint32_t group, const char *mark,
                         enum given given, struct pl_buf *out)
{
    static const char id[] = "\"event_id\":1832000000000000,",
                      time[] = "\"timestamp\":\"2026-01-01T00:00:00.000Z\",";
    size_t begin = out->len;
    pl_buf_printf(out,
                  "{%s\"type\":\"new_comment\",%s\"community_ids\":[%" PRIu32
                  "],\"data\":{\"article_id\":%" PRIu32 ",\"s\":\"%.26s\",\"text\":\"",
                  given > GIVEN_ALL ? "" : id, given > GIVEN_TIME ? "" : time, channel_of(o, group),
                  topic_of(o, group), mark);
    size_t used = out->len - begin + 3 + (given > GIVEN_ALL ? sizeof(id) - 1 : 0) +
                  (given > GIVEN_TIME ? sizeof(time) - 1 : 0);
    append_words(out, o->bytes > used ? o->bytes - used : 0, mark);
    pl_buf_append_str(out, "\"}}");
}

/* ---- HTTP and WebSocket ---- */

static void append_post(struct pl_buf *out, const char *path, const char *headers,
                        const struct pl_buf *body)
{
    pl_buf_printf(out,
                  "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                  "%sContent-Length: %zu\r\n\r\n",
                  path, headers, body->len);
    pl_buf_append(out, body->data, body->len);
}

static void append_upgrade(struct pl_buf *out, const struct identity *who, const char *path,
                           const char *headers)
{
    pl_buf_printf(
        out,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s\r\n",
        path,
        who->kind->deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                             "server_no_context_takeover; client_no_context_takeover\r\n"
                           : "",
        headers);
}

void dialect_frame(struct pl_buf *out, uint8_t opcode, const void *data, size_t len)
{
    PL_ASSERT(len < 126);
    pl_buf_append_byte(out, 0x80 | opcode);
    pl_buf_append_byte(out, (uint8_t)(0x80 | len));
    pl_buf_append(out, "\0\0\0\0", 4); /* a mask that changes nothing */
    pl_buf_append(out, data, len);
}

size_t dialect_answer(const uint8_t *p, size_t len, struct answer *ret)
{
    const uint8_t *end = memmem(p, len, "\r\n\r\n", 4);
    if (!end) {
        return 0;
    }
    *ret = (struct answer){.head = (const char *)p, .head_len = (size_t)(end - p) + 4};
    ret->body = ret->head + ret->head_len;
    if (ret->head_len > 12) {
        ret->status = atoi(ret->head + 9);
    }
    /* end[1] is a line's end: one is always found. */
    for (const uint8_t *line = p; line < end; line++) {
        line = memchr(line, '\n', (size_t)(end - line) + 2);
        if (!line) {
            break;
        }
        if (line + 16 < end && !strncasecmp((const char *)line + 1, "content-length:", 15)) {
            ret->body_len = strtoul((const char *)line + 16, NULL, 10);
        }
    }
    size_t whole = ret->head_len + ret->body_len;
    return whole <= len ? whole : 0;
}

static bool contains(const void *data, size_t len, const char *text)
{
    return memmem(data, len, text, strlen(text)) != NULL;
}

/* ---- Parley, and what speaks its long-polling ---- */

static void append_communities(const struct identity *who, struct pl_buf *out)
{
    pl_buf_printf(out, "[%" PRIu32, who->channel + 1);
    for (uint32_t i = 1; i < who->options->communities; i++) {
        pl_buf_printf(out, ",%" PRIu32, i * 1000000 + who->user % 100);
    }
    pl_buf_append_byte(out, ']');
    if (who->options->topics > 1) {
        pl_buf_printf(out,
                      ",\"subscriptions\":[{\"community_id\":%" PRIu32 ",\"article_ids\":[%" PRIu32
                      "]}]",
                      who->channel + 1, who->topic + 1);
    }
}

static char *mint(const struct identity *who)
{
    jwt_t *token;
    struct pl_buf claims = {0};
    long now = (long)time(NULL);
    pl_buf_printf(&claims, "{\"sub\":\"%" PRIu32 "\",\"iat\":%ld,\"exp\":%ld,\"communities\":",
                  who->user + 1, now, now + 3600);
    append_communities(who, &claims);
    pl_buf_append_byte(&claims, '}');
    const char *secret = who->options->secret;
    if (jwt_new(&token) || jwt_add_grants_json(token, pl_buf_cstr(&claims)) ||
        jwt_set_alg(token, JWT_ALG_HS256, (const unsigned char *)secret, (int)strlen(secret))) {
        errx(1, "a token could not be made");
    }
    char *text = jwt_encode_str(token);
    jwt_free(token);
    pl_buf_done(&claims);
    return text;
}

static void parley_registration(const struct identity *who, struct pl_buf *out)
{
    struct pl_buf body = {0}, headers = {0};
    if (who->kind->by_key) {
        pl_buf_printf(&headers, "X-API-Key: %s\r\n", who->options->api_key);
        pl_buf_printf(&body, "{\"user_id\":%" PRIu32 ",\"community_ids\":", who->user + 1);
        append_communities(who, &body);
        pl_buf_append_byte(&body, '}');
    } else {
        char *token = mint(who);
        pl_buf_printf(&headers, "Authorization: Bearer %s\r\n", token);
        free(token);
    }
    append_post(out, "/realtime/register", pl_buf_cstr(&headers), &body);
    pl_buf_done(&body);
    pl_buf_done(&headers);
}

/* Where the client's next link goes on: the number behind the last "last_event_id". */
static void take_position(struct identity *who, const void *data, size_t len)
{
    static const char key[] = "last_event_id";
    enum {
        KEY = sizeof(key) - 1
    };
    const uint8_t *end = (const uint8_t *)data + len, *found = NULL;
    const uint8_t *at = len < 200 ? data : end - 200;
    for (; (at = memmem(at, (size_t)(end - at), key, KEY)); at += KEY) {
        found = at + KEY;
    }
    uint64_t id = 0;
    if (found && found < end && *found == '"') { /* JSON, which an object's end follows */
        id = strtoull((const char *)found + 2, NULL, 10);
    } else if (found && end - found > 8) { /* MessagePack: 64 bits */
        for (size_t i = 1; i < 9; i++) {
            id = id << 8 | found[i];
        }
    }
    if (id > who->last_event_id) {
        who->last_event_id = id;
    }
}

static void take_queue(struct identity *who, const void *data, size_t len)
{
    const char *p = memmem(data, len, "queue_id", 8), *end = (const char *)data + len;
    size_t n = 0;
    for (p = p ? p + 8 : end; p < end && !strchr("0123456789abcdef", *p); p++) {
        ;
    }
    while (p < end && n < sizeof(who->queue_id) - 1 && strchr("0123456789abcdef-", *p)) {
        who->queue_id[n++] = *p++;
    }
    who->queue_id[n] = '\0';
}

static void parley_registered(struct identity *who, const char *head, const char *body, size_t len)
{
    (void)head;
    take_queue(who, body, len);
    take_position(who, body, len);
}

static void append_queue(const struct identity *who, const char *separator, struct pl_buf *out)
{
    if (*who->queue_id) {
        pl_buf_printf(out, "%squeue_id=%s&last_event_id=%" PRIu64, separator, who->queue_id,
                      who->last_event_id);
    }
}

static void parley_upgrade(const struct identity *who, struct pl_buf *out)
{
    struct pl_buf path = {0}, headers = {0};
    pl_buf_append_str(&path, "/realtime/ws");
    append_queue(who, "?", &path);
    pl_buf_printf(&headers, "Sec-WebSocket-Protocol: parley.v1.%s",
                  who->kind->msgpack ? "msgpack" : "json");
    if (!who->kind->by_key) {
        char *token = mint(who);
        pl_buf_printf(&headers, ", bearer.%s", token);
        free(token);
    }
    pl_buf_append_str(&headers, "\r\n");
    append_upgrade(out, who, pl_buf_cstr(&path), pl_buf_cstr(&headers));
    pl_buf_done(&path);
    pl_buf_done(&headers);
}

static bool parley_greet(struct identity *who, const uint8_t *data, size_t len, struct pl_buf *send)
{
    (void)send;
    if (!contains(data, len, "welcome")) {
        return false;
    }
    take_queue(who, data, len);
    take_position(who, data, len);
    return true;
}

static void parley_chatter(struct identity *who, const uint8_t *data, size_t len,
                           struct pl_buf *send)
{
    if (contains(data, len, "\"op\":\"ping\"")) {
        dialect_frame(send, 1, "{\"op\":\"pong\"}", 13);
    } else if (contains(data, len, "\xa2op\xa4ping")) {
        dialect_frame(send, 2, "\x81\xa2op\xa4pong", 9);
    } else if (contains(data, len, "catchup_required")) {
        errx(1, "a client was told to catch up: %.*s", (int)len, (const char *)data);
    }
    (void)who;
}

static void parley_poll(const struct identity *who, struct pl_buf *out)
{
    pl_buf_append_str(out, "GET /realtime/poll");
    append_queue(who, "?", out);
    pl_buf_printf(out,
                  "&timeout=60 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/%s\r\n%s\r\n",
                  who->kind->msgpack ? "msgpack" : "json",
                  who->kind->deflate ? "Accept-Encoding: gzip\r\n" : "");
}

static void parley_polled(struct identity *who, const char *head, const char *body, size_t len)
{
    (void)head;
    if (contains(body, len, "catchup_required")) {
        errx(1, "a client was told to catch up: %.*s", (int)len, body);
    }
    take_position(who, body, len);
}

static void append_publish(const struct options *o, uint32_t group, const char *marks, size_t count,
                           bool parley, const char *path, struct pl_buf *out)
{
    struct pl_buf body = {0}, headers = {0};
    if (count > 1) {
        pl_buf_append_byte(&body, '[');
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            pl_buf_append_byte(&body, ',');
        }
        append_event(o, group, marks + i * TALLY_MARK_LEN, parley ? GIVEN_NEITHER : GIVEN_ALL,
                     &body);
    }
    if (count > 1) {
        pl_buf_append_byte(&body, ']');
    }
    if (parley) {
        pl_buf_printf(&headers, "X-API-Key: %s\r\n", o->api_key);
    }
    append_post(out, path, parley ? pl_buf_cstr(&headers) : "", &body);
    pl_buf_done(&body);
    pl_buf_done(&headers);
}

static void parley_publish(const struct options *o, uint32_t group, const char *marks, size_t count,
                           struct pl_buf *out)
{
    append_publish(o, group, marks, count, true, "/realtime/publish", out);
}

/* ---- Nchan ---- */

static void append_name(const struct options *o, uint32_t group, const char *prefix,
                        struct pl_buf *out)
{
    pl_buf_printf(out, "%sc%" PRIu32 "t%" PRIu32, prefix, channel_of(o, group), topic_of(o, group));
}

static uint32_t group_of(const struct identity *who)
{
    return who->channel * (uint32_t)who->options->topics + who->topic;
}

static void nchan_upgrade(const struct identity *who, struct pl_buf *out)
{
    struct pl_buf path = {0};
    append_name(who->options, group_of(who), "/sub?id=", &path);
    append_upgrade(out, who, pl_buf_cstr(&path), "");
    pl_buf_done(&path);
}

static void nchan_poll(const struct identity *who, struct pl_buf *out)
{
    append_name(who->options, group_of(who), "GET /sub?id=", out);
    pl_buf_printf(out, " HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", who->validators);
}

static void append_header_as(const char *head, const char *name, const char *as, struct pl_buf *out)
{
    const char *at = strcasestr(head, name);
    if (!at) {
        return;
    }
    at += strlen(name);
    pl_buf_printf(out, "%s%.*s\r\n", as, (int)strcspn(at, "\r"), at);
}

static void nchan_polled(struct identity *who, const char *head, const char *body, size_t len)
{
    (void)len;
    struct pl_buf copy = {0}, lines = {0};
    pl_buf_append(&copy, head, (size_t)(body - head));
    append_header_as(pl_buf_cstr(&copy), "\r\nLast-Modified:", "If-Modified-Since:", &lines);
    append_header_as(pl_buf_cstr(&copy), "\r\nEtag:", "If-None-Match:", &lines);
    snprintf(who->validators, sizeof(who->validators), "%s", pl_buf_cstr(&lines));
    pl_buf_done(&copy);
    pl_buf_done(&lines);
}

static void nchan_publish(const struct options *o, uint32_t group, const char *marks, size_t count,
                          struct pl_buf *out)
{
    struct pl_buf path = {0};
    append_name(o, group, "/pub?id=", &path);
    append_publish(o, group, marks, count, false, pl_buf_cstr(&path), out);
    pl_buf_done(&path);
}

/* ---- Socket.IO (Engine.IO 4, WebSocket at once), ws, bare ---- */

static void socketio_upgrade(const struct identity *who, struct pl_buf *out)
{
    struct pl_buf path = {0};
    append_name(who->options, group_of(who),
                "/socket.io/?EIO=4&transport=websocket&channel=", &path);
    append_upgrade(out, who, pl_buf_cstr(&path), "");
    pl_buf_done(&path);
}

static bool socketio_greet(struct identity *who, const uint8_t *data, size_t len,
                           struct pl_buf *send)
{
    (void)who;
    if (len > 0 && data[0] == '0') {
        dialect_frame(send, 1, "40", 2);
    }
    return len > 1 && data[0] == '4' && data[1] == '0';
}

static void socketio_chatter(struct identity *who, const uint8_t *data, size_t len,
                             struct pl_buf *send)
{
    (void)who;
    if (len == 1 && data[0] == '2') {
        dialect_frame(send, 1, "3", 1);
    }
}

static void channel_upgrade(const struct identity *who, struct pl_buf *out)
{
    struct pl_buf path = {0};
    append_name(who->options, group_of(who), "/?channel=", &path);
    append_upgrade(out, who, pl_buf_cstr(&path), "");
    pl_buf_done(&path);
}

static void channel_publish(const struct options *o, uint32_t group, const char *marks,
                            size_t count, struct pl_buf *out)
{
    struct pl_buf path = {0};
    append_name(o, group, "/publish?channel=", &path);
    append_publish(o, group, marks, count, false, pl_buf_cstr(&path), out);
    pl_buf_done(&path);
}

/* ---- Redis ---- */

static void append_bulk(struct pl_buf *out, const void *data, size_t len)
{
    pl_buf_printf(out, "$%zu\r\n", len);
    pl_buf_append(out, data, len);
    pl_buf_append_str(out, "\r\n");
}

static void append_word(struct pl_buf *out, const char *text)
{
    append_bulk(out, text, strlen(text));
}

void dialect_feed(const struct options *o, uint32_t group, const char *marks, size_t count,
                  struct pl_buf *out)
{
    struct pl_buf log = {0}, id = {0}, body = {0}, packed = {0}, events = {0};
    uint64_t random;
    pl_random_bytes(&random, sizeof(random));
    pl_buf_printf(&log, "{parley}:log:community:%" PRIu32, channel_of(o, group));
    pl_buf_printf(&id, "%016" PRIx64, random);
    pl_buf_printf(&events, "%zu", count);
    pl_buf_printf(out, "*%zu\r\n", 12 + 4 * count);
    const char *const words[] = {
        "FCALL",           "parley_append",     "3", "{parley}:seq", "{parley}:idem:none",
        pl_buf_cstr(&log), pl_buf_cstr(&id),    "0", "none",         "10000",
        "86400000",        pl_buf_cstr(&events)};
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        append_word(out, words[i]);
    }
    const char *channel = strrchr((const char *)log.data, ':') - strlen("community");
    for (size_t i = 0; i < count; i++) {
        body.len = packed.len = 0;
        append_event(o, group, marks + i * TALLY_MARK_LEN, GIVEN_TIME, &body);
        PL_ASSERT(body.len < 65536 && strlen(channel) < 32);
        pl_buf_append(&packed,
                      "\x82\xa1"
                      "b\xda",
                      4); /* {"b": the event, "c": [its channel]} */
        pl_buf_append_byte(&packed, (uint8_t)(body.len >> 8));
        pl_buf_append_byte(&packed, (uint8_t)body.len);
        pl_buf_append(&packed, body.data, body.len);
        pl_buf_append(&packed,
                      "\xa1"
                      "c\x91",
                      3);
        pl_buf_append_byte(&packed, (uint8_t)(0xa0 | strlen(channel)));
        pl_buf_append_str(&packed, channel);
        append_word(out, "E");
        append_bulk(out, packed.data, packed.len);
        append_word(out, "1");
        append_word(out, "1");
    }
    pl_buf_append_str(out, "*1\r\n$4\r\nPING\r\n");
    pl_buf_done(&log);
    pl_buf_done(&id);
    pl_buf_done(&body);
    pl_buf_done(&packed);
    pl_buf_done(&events);
}

/* ---- the table ---- */

static const struct dialect dialects[] = {
    {.name = "parley",
     .registration = parley_registration,
     .registered = parley_registered,
     .upgrade = parley_upgrade,
     .greet = parley_greet,
     .chatter = parley_chatter,
     .poll = parley_poll,
     .polled = parley_polled,
     .publish = parley_publish},
    {.name = "nchan",
     .upgrade = nchan_upgrade,
     .poll = nchan_poll,
     .polled = nchan_polled,
     .publish = nchan_publish},
    {.name = "socketio",
     .upgrade = socketio_upgrade,
     .greet = socketio_greet,
     .chatter = socketio_chatter,
     .publish = channel_publish},
    {.name = "ws", .upgrade = channel_upgrade, .publish = channel_publish},
};

const struct dialect *dialect_find(const char *name)
{
    for (size_t i = 0; i < sizeof(dialects) / sizeof(*dialects); i++) {
        if (!strcmp(dialects[i].name, name)) {
            return &dialects[i];
        }
    }
    return NULL;
}
