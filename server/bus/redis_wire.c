#include "server/bus/redis_wire.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/request.h"
#include "protocol/status.h"
#include "server/base/alloc.h"

enum {
    NAME_MAX_BYTES = 128, /* channels, topics, ids of users and queues */
    WORD_MAX_BYTES = 512, /* tags, nonces, and what names a queue in an announcement */
    CHANNELS_MAX = 1000   /* of one event, as parley.lua has it */
};

/* ---- names ---- */

void pl_redis_key(struct pl_buf *out, const char *prefix, const char *kind, struct pl_str name)
{
    pl_buf_append_byte(out, '{');
    pl_buf_append_str(out, prefix);
    pl_buf_append_str(out, "}:");
    pl_buf_append_str(out, kind);
    if (name.len > 0) {
        pl_buf_append_byte(out, ':');
        pl_buf_append(out, name.s, name.len);
    }
}

/* ---- encoding ---- */

static int compare_ids(const void *left, const void *right)
{
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

/* A user id that is a number and whose text can be made from it again. */
static bool is_number(struct pl_str s, int64_t *ret)
{
    return pl_parse_cursor(s, ret) && (s.s[0] != '0' || s.len == 1);
}

static void write_strings(struct pl_writer *w, const struct pl_str *items, size_t count)
{
    pl_write_array(w, count);
    for (size_t i = 0; i < count; i++) {
        pl_write_str(w, items[i]);
    }
}

/* Most user ids are numbers, and as small differences they take a byte or two each. */
static void write_subscribers(struct pl_writer *w, const struct pl_bus_event *e, int64_t *numbers,
                              size_t number_count)
{
    int64_t last = 0, number;

    qsort(numbers, number_count, sizeof(*numbers), compare_ids);
    pl_write_key(w, "s");
    pl_write_array(w, number_count);
    for (size_t i = 0; i < number_count; i++) {
        pl_write_int(w, numbers[i] - last);
        last = numbers[i];
    }
    if (number_count == e->subscriber_count) {
        return;
    }
    pl_write_key(w, "n");
    pl_write_array(w, e->subscriber_count - number_count);
    for (size_t i = 0; i < e->subscriber_count; i++) {
        if (!is_number(e->subscribers[i], &number)) {
            pl_write_str(w, e->subscribers[i]);
        }
    }
}

static void write_optional(struct pl_writer *w, const char *key, struct pl_str value)
{
    if (value.len > 0) {
        pl_write_key(w, key);
        pl_write_str(w, value);
    }
}

void pl_redis_encode_event(const struct pl_bus_event *e, struct pl_buf *out)
{
    int64_t *numbers = pl_alloc((e->subscriber_count + 1) * sizeof(*numbers));
    size_t number_count = 0, members = 2;
    struct pl_writer w;

    for (size_t i = 0; i < e->subscriber_count; i++) {
        number_count += is_number(e->subscribers[i], &numbers[number_count]);
    }
    members += (e->topic.len > 0) + (e->exclude_user.len > 0) + (e->exclude_queue.len > 0);
    members += e->has_subscribers;
    members += e->has_subscribers && number_count < e->subscriber_count;
    pl_writer_init(&w, PL_MSGPACK, out);
    pl_write_map(&w, members);
    pl_write_key(&w, "b");
    pl_write_str(&w, e->body);
    pl_write_key(&w, "c");
    write_strings(&w, e->channels, e->channel_count);
    write_optional(&w, "t", e->topic);
    write_optional(&w, "xu", e->exclude_user);
    write_optional(&w, "xq", e->exclude_queue);
    if (e->has_subscribers) {
        write_subscribers(&w, e, numbers, number_count);
    }
    free(numbers);
}

static void write_membership(struct pl_writer *w, const struct pl_membership *m)
{
    pl_write_key(w, "m");
    write_strings(w, m->channels, m->channel_count);
    if (!m->has_narrowing) {
        return;
    }
    pl_write_key(w, "w");
    pl_write_array(w, m->narrowing_count);
    for (size_t i = 0; i < m->narrowing_count; i++) {
        const struct pl_narrowing *n = &m->narrowing[i];

        pl_write_array(w, 2);
        pl_write_str(w, n->channel);
        write_strings(w, n->topics, n->topic_count);
    }
}

void pl_redis_encode_change(const struct pl_bus_change *c, struct pl_buf *out)
{
    size_t members = 3;
    struct pl_writer w;

    members += c->membership != NULL;
    members += c->membership && c->membership->has_narrowing;
    members += c->has_version;
    members += c->blocked_until_ms != 0;
    pl_writer_init(&w, PL_MSGPACK, out);
    pl_write_map(&w, members);
    pl_write_key(&w, "k");
    pl_write_int(&w, c->kind);
    pl_write_key(&w, "u");
    pl_write_str(&w, c->user_id);
    if (c->membership) {
        write_membership(&w, c->membership);
    }
    if (c->has_version) {
        pl_write_key(&w, "v");
        pl_write_int(&w, c->version);
    }
    pl_write_key(&w, "at");
    pl_write_int(&w, c->unix_ms);
    if (c->blocked_until_ms != 0) {
        pl_write_key(&w, "x");
        pl_write_int(&w, c->blocked_until_ms);
    }
}

/* ---- decoding ---- */

static bool is_name(struct pl_str s)
{
    return s.len >= 1 && s.len <= NAME_MAX_BYTES;
}

/* Absent: *ret stays as it is. */
static bool read_name(const struct pl_value *v, const char *key, struct pl_str *ret)
{
    const struct pl_value *member = pl_value_get(v, key);

    if (!member) {
        return true;
    }
    if (member->type != PL_STRING || !is_name(member->u.string)) {
        return false;
    }
    *ret = member->u.string;
    return true;
}

/* False if it is absent, or below min. */
static bool read_int(const struct pl_value *v, const char *key, int64_t min, int64_t *ret)
{
    return pl_value_int(v, key, ret) && *ret >= min;
}

static size_t length_of(const struct pl_value *v)
{
    return v && v->type == PL_ARRAY ? v->u.array.count : 0;
}

/* Names in strictly growing order, as every list travels. */
static bool read_names(const struct pl_value *v, struct pl_arena *a, struct pl_str **ret,
                       size_t *ret_count)
{
    struct pl_str *names;

    if (!v || v->type != PL_ARRAY) {
        return false;
    }
    names = pl_arena_alloc(a, length_of(v) * sizeof(*names));
    for (size_t i = 0; i < length_of(v); i++) {
        const struct pl_value *item = &v->u.array.items[i];

        if (item->type != PL_STRING || !is_name(item->u.string)) {
            return false;
        }
        names[i] = item->u.string;
        if (i > 0 && pl_str_compare(names[i - 1], names[i]) >= 0) {
            return false;
        }
    }
    *ret = names;
    *ret_count = length_of(v);
    return true;
}

static struct pl_str format_number(struct pl_arena *a, int64_t number)
{
    enum {
        DIGITS = 16
    };
    char *text = pl_arena_alloc(a, DIGITS);
    size_t at = DIGITS;

    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return (struct pl_str){text + at, DIGITS - at};
}

static bool read_numbers(const struct pl_value *v, struct pl_arena *a, struct pl_str *ret)
{
    int64_t last = 0;

    for (size_t i = 0; i < length_of(v); i++) {
        const struct pl_value *item = &v->u.array.items[i];

        if (item->type != PL_INT_VALUE || item->u.integer < 0 ||
            item->u.integer > PL_INT_MAX - last) {
            return false;
        }
        last += item->u.integer;
        ret[i] = format_number(a, last);
    }
    return true;
}

/* Numbers and names together, sorted as texts. */
static bool read_subscribers(const struct pl_value *v, struct pl_arena *a, struct pl_bus_event *e)
{
    const struct pl_value *s = pl_value_get(v, "s"), *n = pl_value_get(v, "n");
    const size_t total = length_of(s) + length_of(n);
    struct pl_str *all, *names = NULL;
    size_t name_count = 0;

    if (!s && !n) {
        return true;
    }
    if ((s && s->type != PL_ARRAY) || (n && !read_names(n, a, &names, &name_count))) {
        return false;
    }
    all = pl_arena_alloc(a, total * sizeof(*all));
    if (!read_numbers(s, a, all)) {
        return false;
    }
    if (name_count > 0) {
        memcpy(all + length_of(s), names, name_count * sizeof(*all));
    }
    qsort(all, total, sizeof(*all), pl_str_order);
    for (size_t i = 1; i < total; i++) {
        if (pl_str_eq(all[i - 1], all[i])) {
            return false;
        }
    }
    e->has_subscribers = true;
    e->subscribers = all;
    e->subscriber_count = total;
    return true;
}

/* The core encodes bodies for its clients and relies on what they are, so a peer's is read once. */
static bool is_body(struct pl_str s)
{
    const struct pl_str head = PL_LIT("{\"type\":");
    struct pl_arena arena = {0};
    const struct pl_value *v;
    bool ok = s.len > head.len && memcmp(s.s, head.s, head.len) == 0 && s.s[s.len - 1] == '}';

    ok = ok && pl_decode(PL_JSON, s.s, s.len, &arena, &v, NULL) == 0 && v->type == PL_MAP;
    pl_arena_done(&arena);
    return ok;
}

static int decode_packed(struct pl_str payload, struct pl_arena *a, struct pl_bus_event *e)
{
    const struct pl_value *v, *body;
    struct pl_str *channels;

    if (pl_decode(PL_MSGPACK, payload.s, payload.len, a, &v, NULL) != 0) {
        return PL_ERR_INVALID;
    }
    body = pl_value_get(v, "b");
    if (!body || body->type != PL_STRING || !is_body(body->u.string)) {
        return PL_ERR_INVALID;
    }
    e->body = body->u.string;
    if (!read_names(pl_value_get(v, "c"), a, &channels, &e->channel_count) ||
        e->channel_count == 0 || e->channel_count > CHANNELS_MAX) {
        return PL_ERR_INVALID;
    }
    e->channels = channels;
    if (!read_name(v, "t", &e->topic) || !read_name(v, "xu", &e->exclude_user) ||
        !read_name(v, "xq", &e->exclude_queue) || !read_subscribers(v, a, e)) {
        return PL_ERR_INVALID;
    }
    return PL_OK;
}

/* parley.lua writes "2026-11-20T10:30:00.000Z " before the JSON of a backend. */
static bool read_timestamp(struct pl_str payload, char *ret)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    const size_t len = sizeof(shape) - 1;

    if (payload.len < len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        const char c = payload.s[i];

        if (shape[i] == 'd' ? c < '0' || c > '9' : c != shape[i]) {
            return false;
        }
    }
    memcpy(ret, payload.s, len - 1);
    ret[len - 1] = '\0';
    return true;
}

static struct pl_str write_body(const struct pl_publish *p, const char *timestamp,
                                struct pl_arena *a)
{
    struct pl_buf body = {0};
    struct pl_str ret;
    char *copy;

    pl_event_write_body(p, timestamp, &body);
    copy = pl_arena_alloc(a, body.len);
    memcpy(copy, body.data, body.len);
    ret = (struct pl_str){copy, body.len};
    pl_buf_done(&body);
    return ret;
}

static int decode_published(struct pl_str payload, const struct pl_request_limits *limits,
                            struct pl_arena *a, struct pl_bus_event *e)
{
    char timestamp[32];
    const struct pl_value *v;
    struct pl_request_error err;
    struct pl_publish p;
    size_t head;

    if (!read_timestamp(payload, timestamp)) {
        return PL_ERR_INVALID;
    }
    head = strlen(timestamp) + 1;
    if (pl_decode(PL_JSON, payload.s + head, payload.len - head, a, &v, NULL) != 0 ||
        pl_parse_publish(v, false, a, limits, &p, &err) != 0) {
        return PL_ERR_INVALID;
    }
    *e = pl_bus_event_of(&p, write_body(&p, timestamp, a));
    return PL_OK;
}

int pl_redis_decode_event(enum pl_redis_form form, struct pl_str payload,
                          const struct pl_request_limits *limits, struct pl_arena *a,
                          struct pl_bus_event *ret)
{
    struct pl_bus_event e = {0};
    int status = PL_ERR_INVALID;

    if (form == PL_REDIS_EVENT) {
        status = decode_packed(payload, a, &e);
    } else if (form == PL_REDIS_JSON) {
        status = decode_published(payload, limits, a, &e);
    }
    if (status == PL_OK) {
        *ret = e;
    }
    return status;
}

static bool holds(const struct pl_membership *m, struct pl_str channel)
{
    return m->channel_count > 0 && bsearch(&channel, m->channels, m->channel_count,
                                           sizeof(m->channels[0]), pl_str_order) != NULL;
}

static int compare_narrowing(const void *left, const void *right)
{
    const struct pl_narrowing *a = left, *b = right;

    return pl_str_compare(a->channel, b->channel);
}

/* [channel,[topics]], of a channel that is held. */
static bool read_narrowing(const struct pl_value *v, struct pl_arena *a,
                           const struct pl_membership *m, struct pl_narrowing *ret)
{
    if (length_of(v) != 2 || v->u.array.items[0].type != PL_STRING) {
        return false;
    }
    ret->channel = v->u.array.items[0].u.string;
    return holds(m, ret->channel) &&
           read_names(&v->u.array.items[1], a, &ret->topics, &ret->topic_count);
}

static bool read_narrowings(const struct pl_value *v, struct pl_arena *a, struct pl_membership *m)
{
    const size_t count = length_of(v);

    if (!v) {
        return true;
    }
    if (v->type != PL_ARRAY) {
        return false;
    }
    m->has_narrowing = true;
    m->narrowing_count = count;
    m->narrowing = pl_arena_alloc(a, count * sizeof(*m->narrowing));
    for (size_t i = 0; i < count; i++) {
        if (!read_narrowing(&v->u.array.items[i], a, m, &m->narrowing[i])) {
            return false;
        }
    }
    qsort(m->narrowing, count, sizeof(*m->narrowing), compare_narrowing);
    for (size_t i = 1; i < count; i++) {
        if (compare_narrowing(&m->narrowing[i - 1], &m->narrowing[i]) == 0) {
            return false;
        }
    }
    return true;
}

/* Every change has a membership but one that ends everything. */
static bool read_membership(const struct pl_value *v, struct pl_arena *a, struct pl_bus_change *c)
{
    const struct pl_value *channels = pl_value_get(v, "m");
    struct pl_membership *m;

    if (c->kind == PL_CHANGE_DISCONNECT) {
        return !channels;
    }
    m = pl_arena_alloc(a, sizeof(*m));
    *m = (struct pl_membership){0};
    c->membership = m;
    return read_names(channels, a, &m->channels, &m->channel_count) &&
           read_narrowings(pl_value_get(v, "w"), a, m);
}

static bool read_change(const struct pl_value *v, struct pl_arena *a, struct pl_bus_change *c)
{
    int64_t kind;

    if (!read_int(v, "k", 0, &kind) || kind > PL_CHANGE_DISCONNECT) {
        return false;
    }
    c->kind = (enum pl_change_kind)kind;
    c->has_version = pl_value_get(v, "v") != NULL;
    if (c->has_version && !read_int(v, "v", -PL_INT_MAX, &c->version)) {
        return false;
    }
    if (pl_value_get(v, "x") && !read_int(v, "x", 0, &c->blocked_until_ms)) {
        return false;
    }
    return read_int(v, "at", 0, &c->unix_ms) && read_name(v, "u", &c->user_id) &&
           c->user_id.len > 0 && read_membership(v, a, c);
}

int pl_redis_decode_change(struct pl_str payload, struct pl_arena *a, struct pl_bus_change *ret)
{
    struct pl_bus_change c = {0};
    const struct pl_value *v;

    if (pl_decode(PL_MSGPACK, payload.s, payload.len, a, &v, NULL) != 0 || !read_change(v, a, &c)) {
        return PL_ERR_INVALID;
    }
    *ret = c;
    return PL_OK;
}

/* ---- announcements ---- */

/* The rest of a message, and whether everything so far was as it should be. */
struct cursor {
    struct pl_str rest;
    bool ok;
    bool at_end; /* the last word ended the message: no blank followed it */
};

static struct pl_str take_word(struct cursor *c, size_t max)
{
    const char *blank = c->rest.len > 0 ? memchr(c->rest.s, ' ', c->rest.len) : NULL;
    const size_t len = blank ? (size_t)(blank - c->rest.s) : c->rest.len;
    const struct pl_str word = {c->rest.s, len};

    if (len == 0 || len > max) {
        c->ok = false;
    }
    if (!c->ok) {
        return PL_LIT("");
    }
    c->at_end = !blank;
    c->rest.s += len + (blank != NULL);
    c->rest.len -= len + (blank != NULL);
    return word;
}

/* A decimal number in its one spelling. */
static int64_t take_number(struct cursor *c, int64_t min)
{
    const struct pl_str word = take_word(c, 16);
    int64_t n = 0;

    if (!c->ok || !is_number(word, &n) || n < min) {
        c->ok = false;
        return 0;
    }
    return n;
}

/* A number that may be below zero: a status. */
static int64_t take_status(struct cursor *c)
{
    const bool negative = c->rest.len > 0 && c->rest.s[0] == '-';
    int64_t n;

    if (negative) {
        c->rest.s++;
        c->rest.len--;
    }
    n = take_number(c, negative ? 1 : 0);
    return negative ? -n : n;
}

static struct pl_str take_bytes(struct cursor *c, size_t len)
{
    const struct pl_str bytes = {c->rest.s, len};

    if (len >= c->rest.len || c->rest.s[len] != ' ') {
        c->ok = false;
    }
    if (!c->ok) {
        return PL_LIT("");
    }
    c->rest.s += len + 1;
    c->rest.len -= len + 1;
    return bytes;
}

/* What follows the blank behind the last word, to the end. */
static struct pl_str take_payload(struct cursor *c)
{
    const struct pl_str payload = c->rest;

    if (payload.len == 0) {
        c->ok = false;
    }
    return payload;
}

static void take_event(struct cursor *c, struct pl_arena *a, struct pl_redis_news *n)
{
    size_t count;

    n->id = take_number(c, 1);
    n->tag = take_word(c, WORD_MAX_BYTES);
    count = (size_t)take_number(c, 1);
    if (!c->ok || count > CHANNELS_MAX) {
        c->ok = false;
        return;
    }
    n->channels = pl_arena_alloc(a, count * sizeof(*n->channels));
    n->prevs = pl_arena_alloc(a, count * sizeof(*n->prevs));
    for (size_t i = 0; c->ok && i < count; i++) {
        size_t len;

        n->prevs[i] = take_number(c, 0);
        len = (size_t)take_number(c, 1);
        c->ok = c->ok && len <= NAME_MAX_BYTES && n->prevs[i] < n->id;
        n->channels[i] = take_bytes(c, len);
    }
    n->channel_count = count;
    n->payload = take_payload(c);
}

static void take_change(struct cursor *c, struct pl_arena *a, struct pl_redis_news *n)
{
    n->id = take_number(c, 1);
    n->tag = take_word(c, WORD_MAX_BYTES);
    n->prevs = pl_arena_alloc(a, sizeof(*n->prevs));
    n->prevs[0] = take_number(c, 0);
    c->ok = c->ok && n->prevs[0] < n->id;
    n->payload = take_payload(c);
}

/* Everything but E, J and H, which have a payload. */
static void take_short(struct cursor *c, struct pl_redis_news *n)
{
    if (n->what == 'T' || n->what == 'X') {
        n->name = take_word(c, WORD_MAX_BYTES);
        n->number = n->what == 'T' ? take_number(c, 1) : take_status(c);
        n->came = n->what == 'T' ? take_number(c, 0) : 0;
    } else {
        n->id = take_number(c, 1);
    }
    if (n->what == 'P') {
        n->number = take_number(c, 1);
    } else if (n->what == 'C') {
        n->tag = take_word(c, WORD_MAX_BYTES);
    }
    c->ok = c->ok && c->at_end;
}

int pl_redis_parse_news(struct pl_str message, struct pl_arena *a, struct pl_redis_news *ret)
{
    static const char letters[] = "EJHPMCTX";
    struct pl_redis_news n = {0};
    struct cursor c = {message, true, false};
    const struct pl_str letter = take_word(&c, message.len);

    if (!c.ok) {
        return PL_ERR_MALFORMED;
    }
    if (letter.len != 1 || !memchr(letters, letter.s[0], sizeof(letters) - 1)) {
        *ret = n;
        return PL_OK;
    }
    n.what = letter.s[0];
    if (n.what == 'E' || n.what == 'J') {
        take_event(&c, a, &n);
    } else if (n.what == 'H') {
        take_change(&c, a, &n);
    } else {
        take_short(&c, &n);
    }
    if (!c.ok) {
        return PL_ERR_MALFORMED;
    }
    *ret = n;
    return PL_OK;
}
