#ifndef PL_CORE_EVENT_PRIV_H
#define PL_CORE_EVENT_PRIV_H

#include "protocol/frame.h"
#include "server/core/bus.h"
#include "server/core/hub.h"

/* An applied event: immutable, counted, shared by the rings of its channels. Its bytes exist once
 * per codec: the frame of the message that carries just this event, made on first need; batches
 * take the event's bytes out of it. */
struct pl_event {
    uint32_t refs;
    bool has_subscribers;
    bool has_exclude_queue;
    uint8_t exclude_queue[16];
    int64_t id;
    uint64_t topic_hash; /* 0: no topic */
    struct pl_str topic; /* these three point into text */
    struct pl_str exclude_user;
    const struct pl_str *names; /* subscribers that are no integers, sorted */
    size_t name_count;
    const int64_t *numbers; /* subscribers that are integers, sorted */
    size_t number_count;
    size_t ring_bytes; /* what it counts in a ring: its size when new */
    size_t accounted;  /* what it counts in the hub's total now */
    struct {
        struct pl_frame *frame;
        size_t at, len; /* where in the payload the event itself stands */
    } form[PL_CODEC_COUNT];
    char *text;
};

struct pl_event *pl_event__new(int64_t id, const struct pl_bus_event *from);
struct pl_event *pl_event__ref(struct pl_event *e);
void pl_event__unref(struct pl_event *e); /* harmless on NULL */

/* The message {"op":"events","events":[this],"last_event_id":id}. */
struct pl_frame *pl_event__frame(struct pl_event *e, enum pl_codec codec);
bool pl_event__has_form(const struct pl_event *e, enum pl_codec codec);
/* The event's own bytes in this codec. */
struct pl_str pl_event__bytes(struct pl_event *e, enum pl_codec codec);
size_t pl_event__memory(const struct pl_event *e);

/* Unix time of its id (docs/delivery.md: ids are milliseconds times 1024, and more under load). */
static inline int64_t pl_event__given_ms(const struct pl_event *e)
{
    return e->id / 1024;
}

/* Orders int64_t, for qsort and bsearch. */
int pl_compare_numbers(const void *a, const void *b);
/* Its decimal text; returns the length. */
size_t pl_format_int(int64_t n, char out[24]);
bool pl_event__lists(const struct pl_event *e, struct pl_str user_id, bool is_number,
                     int64_t number);

#endif
