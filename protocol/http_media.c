#include "protocol/http.h"

#include "protocol/http_priv.h"
#include "protocol/status.h"

static bool is_msgpack(struct pl_str type)
{
    return pl_http__equals(type, "application/msgpack") ||
           pl_http__equals(type, "application/vnd.msgpack");
}

/* "0.5" -> 500. A malformed weight counts as none given. */
static int weight_of(struct pl_str s)
{
    static const int scale[] = {1000, 0, 100, 10, 1};
    int weight = 0;

    if (s.len == 0 || s.len > 5 || (s.len > 1 && s.s[1] != '.')) {
        return 1000;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (i != 1) {
            if (!pl_http__is_digit(s.s[i])) {
                return 1000;
            }
            weight += (s.s[i] - '0') * scale[i];
        }
    }
    return weight <= 1000 ? weight : 1000;
}

/* The weight of one element of Accept, whose type is left in *item. */
static int take_type(struct pl_str *item)
{
    const struct pl_str type = pl_http__trim(pl_http__take_until(item, ';'));
    int weight = 1000;

    while (item->len > 0) {
        struct pl_str value = pl_http__trim(pl_http__take_until(item, ';'));
        const struct pl_str name = pl_http__take_until(&value, '=');

        if (pl_http__equals(name, "q")) {
            weight = weight_of(value);
        }
    }
    *item = type;
    return weight;
}

enum pl_codec pl_http_accept_codec(const struct pl_http_head *h)
{
    struct pl_http__list it = {.head = h, .name = "accept"};
    struct pl_str item;
    int json = 0, msgpack = 0;

    while (pl_http__list_next(&it, &item)) {
        const int weight = take_type(&item);

        if (is_msgpack(item) && weight > msgpack) {
            msgpack = weight;
        } else if (pl_http__equals(item, "application/json") && weight > json) {
            json = weight;
        }
    }
    return msgpack > 0 && msgpack >= json ? PL_MSGPACK : PL_JSON;
}

bool pl_http_accepts_gzip(const struct pl_http_head *h)
{
    struct pl_http__list it = {.head = h, .name = "accept-encoding"};
    struct pl_str item;
    int gzip = -1, any = 0;

    while (pl_http__list_next(&it, &item)) {
        const int weight = take_type(&item);

        if (pl_http__equals(item, "gzip") || pl_http__equals(item, "x-gzip")) {
            gzip = weight > gzip ? weight : gzip;
        } else if (pl_http__equals(item, "*")) {
            any = weight;
        }
    }
    return gzip >= 0 ? gzip > 0 : any > 0;
}

int pl_http_body_codec(const struct pl_http_head *h, enum pl_codec *ret)
{
    const struct pl_str *value = pl_http_header(h, "content-type");
    struct pl_str rest, type;

    if (value == NULL) {
        *ret = PL_JSON;
        return PL_OK;
    }
    rest = *value;
    type = pl_http__trim(pl_http__take_until(&rest, ';'));
    if (pl_http_header_count(h, "content-type") > 1) {
        return PL_ERR_MEDIA_TYPE;
    }
    /* What sendBeacon and `curl -d` say when nobody told them better. */
    if (pl_http__equals(type, "application/json") || pl_http__equals(type, "text/plain") ||
        pl_http__equals(type, "application/x-www-form-urlencoded")) {
        *ret = PL_JSON;
        return PL_OK;
    }
    if (is_msgpack(type)) {
        *ret = PL_MSGPACK;
        return PL_OK;
    }
    return PL_ERR_MEDIA_TYPE;
}
