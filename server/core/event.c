#include "server/core/event_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/request.h"
#include "server/base/alloc.h"
#include "server/base/map.h"

bool pl_user_number(struct pl_str id, int64_t *ret)
{
    bool negative = id.len > 1 && id.s[0] == '-';
    size_t i = negative ? 1 : 0;
    int64_t n = 0;

    if (id.len == 0 || id.len - i > 16 || (id.s[i] == '0' && (id.len - i > 1 || negative))) {
        return false;
    }
    for (; i < id.len; i++) {
        if (id.s[i] < '0' || id.s[i] > '9') {
            return false;
        }
        n = n * 10 + (id.s[i] - '0');
    }
    if (n > PL_INT_MAX) {
        return false;
    }
    *ret = negative ? -n : n;
    return true;
}

size_t pl_format_int(int64_t n, char out[24])
{
    return (size_t)snprintf(out, 24, "%lld", (long long)n);
}

int pl_compare_numbers(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

struct pl_bus_event pl_bus_event_of(const struct pl_publish *p, struct pl_str body)
{
    return (struct pl_bus_event){
        .body = body,
        .channels = p->channels,
        .channel_count = p->channel_count,
        .topic = p->topic,
        .exclude_user = p->exclude_user,
        .exclude_queue = p->exclude_queue,
        .has_subscribers = p->has_subscribers,
        .subscribers = p->subscribers,
        .subscriber_count = p->subscriber_count,
    };
}

/* All strings of an event live in one block behind the arrays that point into it. */
static struct pl_str keep(char **at, struct pl_str s)
{
    struct pl_str kept = {*at, s.len};

    if (s.len > 0) {
        memcpy(*at, s.s, s.len);
    }
    *at += s.len;
    return kept;
}

static void keep_subscribers(struct pl_event *e, const struct pl_bus_event *from, char *block)
{
    struct pl_str *names = (struct pl_str *)block;
    int64_t *numbers = (int64_t *)(names + e->name_count);
    char *at = (char *)(numbers + e->number_count);
    size_t name_count = 0;
    size_t number_count = 0;

    e->topic = keep(&at, from->topic);
    e->exclude_user = keep(&at, from->exclude_user);
    for (size_t i = 0; i < from->subscriber_count; i++) {
        if (pl_user_number(from->subscribers[i], &numbers[number_count])) {
            number_count++;
        } else {
            names[name_count++] = keep(&at, from->subscribers[i]);
        }
    }
    if (number_count > 0) {
        qsort(numbers, number_count, sizeof(*numbers), pl_compare_numbers);
    }
    if (name_count > 0) {
        qsort(names, name_count, sizeof(*names), pl_str_order);
    }
    e->names = names;
    e->numbers = numbers;
}

/* Wraps the event's bytes into the message of one event, remembering where they stand. */
static void make_form(struct pl_event *e, enum pl_codec codec, struct pl_str bytes)
{
    struct pl_buf out = {0};
    struct pl_writer w;

    pl_writer_init(&w, codec, &out);
    pl_write_map(&w, 3);
    pl_write_key(&w, "op");
    pl_write_cstr(&w, "events");
    pl_write_key(&w, "events");
    pl_write_array(&w, 1);
    e->form[codec].at = out.len;
    e->form[codec].len = bytes.len;
    pl_write_raw(&w, bytes.s, bytes.len);
    pl_write_key(&w, "last_event_id");
    pl_write_int(&w, e->id);
    e->form[codec].frame = pl_frame_new(codec, &out);
}

static void encode(struct pl_event *e, enum pl_codec codec, struct pl_str body)
{
    struct pl_buf bytes = {0};

    pl_event_encode(codec, e->id, body, &bytes);
    make_form(e, codec, (struct pl_str){(const char *)bytes.data, bytes.len});
    pl_buf_done(&bytes);
}

struct pl_event *pl_event__new(int64_t id, const struct pl_bus_event *from)
{
    struct pl_event *e = pl_alloc(sizeof(*e));
    size_t text = from->topic.len + from->exclude_user.len;
    int64_t number;

    *e = (struct pl_event){.refs = 1, .id = id, .has_subscribers = from->has_subscribers};
    for (size_t i = 0; i < from->subscriber_count; i++) {
        if (pl_user_number(from->subscribers[i], &number)) {
            e->number_count++;
        } else {
            e->name_count++;
            text += from->subscribers[i].len;
        }
    }
    text += e->name_count * sizeof(struct pl_str) + e->number_count * sizeof(int64_t);
    e->text = pl_alloc(text + 1);
    keep_subscribers(e, from, e->text);
    e->topic_hash = e->topic.len > 0 ? pl_map_hash(e->topic.s, e->topic.len) | 1 : 0;
    e->has_exclude_queue = pl_queue_id_parse(from->exclude_queue, e->exclude_queue);
    encode(e, PL_JSON, from->body);
    e->ring_bytes = pl_event__memory(e);
    return e;
}

struct pl_event *pl_event__ref(struct pl_event *e)
{
    e->refs++;
    return e;
}

void pl_event__unref(struct pl_event *e)
{
    if (e == NULL || --e->refs > 0) {
        return;
    }
    for (int c = 0; c < PL_CODEC_COUNT; c++) {
        pl_frame_unref(e->form[c].frame);
    }
    free(e->text);
    free(e);
}

/* The other codecs are made from the JSON bytes, which begin {"event_id":N, and go on with the
 * body. */
static void encode_from_json(struct pl_event *e, enum pl_codec codec)
{
    struct pl_str json = pl_event__bytes(e, PL_JSON);
    const char *comma = memchr(json.s, ',', json.len);
    struct pl_buf body = {0};

    PL_ASSERT(comma != NULL);
    pl_buf_append_byte(&body, '{');
    pl_buf_append(&body, comma + 1, (size_t)(json.s + json.len - comma - 1));
    encode(e, codec, (struct pl_str){(const char *)body.data, body.len});
    pl_buf_done(&body);
}

bool pl_event__has_form(const struct pl_event *e, enum pl_codec codec)
{
    return e->form[codec].frame != NULL;
}

struct pl_frame *pl_event__frame(struct pl_event *e, enum pl_codec codec)
{
    if (e->form[codec].frame == NULL) {
        encode_from_json(e, codec);
    }
    return e->form[codec].frame;
}

struct pl_str pl_event__bytes(struct pl_event *e, enum pl_codec codec)
{
    struct pl_bytes p = pl_frame_payload(pl_event__frame(e, codec));

    return (struct pl_str){(const char *)p.data + e->form[codec].at, e->form[codec].len};
}

size_t pl_event__memory(const struct pl_event *e)
{
    size_t sum = sizeof(*e) + e->topic.len + e->exclude_user.len +
                 e->number_count * sizeof(int64_t) + e->name_count * sizeof(struct pl_str);

    for (size_t i = 0; i < e->name_count; i++) {
        sum += e->names[i].len;
    }
    for (int c = 0; c < PL_CODEC_COUNT; c++) {
        sum += e->form[c].frame != NULL ? pl_frame_memory(e->form[c].frame) : 0;
    }
    return sum;
}

bool pl_event__lists(const struct pl_event *e, struct pl_str user_id, bool is_number,
                     int64_t number)
{
    if (is_number) {
        return e->number_count > 0 && bsearch(&number, e->numbers, e->number_count, sizeof(number),
                                              pl_compare_numbers) != NULL;
    }
    return e->name_count > 0 &&
           bsearch(&user_id, e->names, e->name_count, sizeof(user_id), pl_str_order) != NULL;
}
