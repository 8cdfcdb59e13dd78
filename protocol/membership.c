#include "protocol/request_priv.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"

static size_t length_of(const struct pl_value *v)
{
    return v && v->type == PL_ARRAY ? v->u.array.count : 0;
}

int pl_request__channels(const struct pl_request_context *c, const struct pl_value *v,
                         const char *ids_key, struct pl_request_list *ret)
{
    const struct pl_value *ids = pl_request__member(v, ids_key);
    const struct pl_value *names = pl_request__member(v, "channels");
    const size_t total = length_of(ids) + length_of(names);
    struct pl_request_list list;
    int status = 0;

    if (!ids && !names) {
        return pl_request__fail(c, PL_ERR_NO_CHANNEL,
                                "%s: an array of integers, or channels: an array of names",
                                ids_key);
    }
    if (pl_request__beyond(total, c->limits->channels)) {
        return pl_request__fail(c, PL_ERR_TOO_BIG, "%s and channels: at most %zu together", ids_key,
                                c->limits->channels);
    }
    list = pl_request__list_new(c->arena, total);
    if (ids) {
        status = pl_request__read_list(c, ids_key, ids, pl_request__read_community,
                                       "integers from 1 to 2^53-1", &list);
    }
    if (status == 0 && names) {
        status = pl_request__read_list(
            c, "channels", names,
            c->user_channels ? pl_request__read_target : pl_request__read_channel,
            c->user_channels
                ? "names of 1 to 128 of A-Z a-z 0-9 . _ : - (control is reserved)"
                : "names of 1 to 128 of A-Z a-z 0-9 . _ : - (control and user:... are reserved)",
            &list);
    }
    if (status == 0) {
        pl_request__list_sort(&list);
        *ret = list;
    }
    return status;
}

/* What one entry of `subscriptions` names: a community or a channel. */
static int read_entry_channel(const struct pl_request_context *c, const struct pl_value *entry,
                              struct pl_str *ret)
{
    const struct pl_value *id = pl_request__member(entry, "community_id");
    const struct pl_value *name = pl_request__member(entry, "channel");
    int status = PL_ERR_INVALID;

    if (id && !name) {
        status = pl_request__read_community(id, c->arena, ret);
    } else if (name && !id) {
        status = pl_request__read_channel(name, c->arena, ret);
    }
    if (status != 0) {
        return pl_request__fail(c, status, "subscriptions: each with a community_id or a channel");
    }
    return 0;
}

static int read_entry(const struct pl_request_context *c, const struct pl_value *entry,
                      struct pl_narrowing *ret)
{
    const struct pl_value *topics = pl_request__member(entry, "article_ids");
    const char *name = topics ? "subscriptions: article_ids" : "subscriptions: topics";
    struct pl_request_list list;
    int status = read_entry_channel(c, entry, &ret->channel);

    if (status != 0) {
        return status;
    }
    topics = topics ? topics : pl_request__member(entry, "topics");
    if (!topics) {
        return pl_request__fail(c, PL_ERR_INVALID, "subscriptions: each with an array article_ids");
    }
    list = pl_request__list_new(c->arena, length_of(topics));
    status = pl_request__read_list(c, name, topics, pl_request__read_user_id,
                                   "integers or strings of 1 to 128 bytes", &list);
    if (status == 0) {
        pl_request__list_sort(&list);
        ret->topics = list.items;
        ret->topic_count = list.count;
    }
    return status;
}

/* Order of channels, so that a channel named twice shows, whatever a peer sends, in O(n log n). */
static int compare_narrowing(const void *left, const void *right)
{
    const struct pl_narrowing *a = left, *b = right;

    if (a->channel.len != b->channel.len) {
        return a->channel.len < b->channel.len ? -1 : 1;
    }
    return memcmp(a->channel.s, b->channel.s, a->channel.len);
}

static int check_narrowing(const struct pl_request_context *c, struct pl_narrowing *narrowing,
                           size_t count)
{
    size_t topics = 0;

    if (count == 0) {
        return 0;
    }
    qsort(narrowing, count, sizeof(*narrowing), compare_narrowing);
    for (size_t i = 0; i < count; i++) {
        topics += narrowing[i].topic_count;
        if (i > 0 && compare_narrowing(&narrowing[i - 1], &narrowing[i]) == 0) {
            return pl_request__fail(c, PL_ERR_INVALID, "subscriptions: each channel at most once");
        }
    }
    if (pl_request__beyond(topics, c->limits->topics)) {
        return pl_request__fail(c, PL_ERR_TOO_BIG, "subscriptions: at most %zu articles in all",
                                c->limits->topics);
    }
    return 0;
}

/* Entries for channels that the membership does not hold are checked and dropped. */
static int read_subscriptions(const struct pl_request_context *c, const struct pl_value *v,
                              const struct pl_request_list *channels, struct pl_membership *ret)
{
    struct pl_narrowing *narrowing;
    size_t count = 0;

    if (v->type != PL_ARRAY) {
        return pl_request__fail(c, PL_ERR_INVALID,
                                "subscriptions: an array of {community_id, article_ids}");
    }
    narrowing = pl_arena_alloc(c->arena, v->u.array.count * sizeof(*narrowing));
    for (size_t i = 0; i < v->u.array.count; i++) {
        int status = read_entry(c, &v->u.array.items[i], &narrowing[count]);

        if (status != 0) {
            return status;
        }
        count += pl_request__list_holds(channels, narrowing[count].channel);
    }
    ret->has_narrowing = true;
    ret->narrowing = narrowing;
    ret->narrowing_count = count;
    return check_narrowing(c, narrowing, count);
}

int pl_parse_membership(const struct pl_value *v, const char *ids_key, struct pl_arena *a,
                        const struct pl_request_limits *lim, struct pl_membership *ret,
                        struct pl_request_error *err)
{
    const struct pl_request_context c = {.arena = a, .limits = lim, .err = err};
    const struct pl_value *subscriptions = pl_request__member(v, "subscriptions");
    struct pl_membership membership = {0};
    struct pl_request_list channels = {0};
    int status = pl_request__channels(&c, v, ids_key, &channels);

    if (status == 0 && subscriptions) {
        status = read_subscriptions(&c, subscriptions, &channels, &membership);
    }
    if (status == 0) {
        membership.channels = channels.items;
        membership.channel_count = channels.count;
        *ret = membership;
    }
    return status;
}
