#include "server/cli/metrics_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_number(struct pl_str text, double *ret)
{
    char copy[64], *end;

    if (text.len == 0 || text.len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text.s, text.len);
    copy[text.len] = '\0';
    *ret = strtod(copy, &end);
    return end != copy && (*end == '\0' || *end == ' ');
}

/* name[{labels}] value [timestamp] */
static bool parse_line(struct pl_str line, struct pl_cli_sample *ret)
{
    const char *end = line.s + line.len, *at = line.s;

    while (at < end && *at != '{' && *at != ' ') {
        at++;
    }
    ret->name = (struct pl_str){line.s, (size_t)(at - line.s)};
    ret->labels = (struct pl_str){at, 0};
    if (at < end && *at == '{') {
        const char *close = end - 1;

        /* The last one: a label's value may hold others. */
        while (close > at && *close != '}') {
            close--;
        }
        if (close == at) {
            return false;
        }
        ret->labels = (struct pl_str){at + 1, (size_t)(close - at - 1)};
        at = close + 1;
    }
    if (ret->name.len == 0 || ret->name.s[0] == '#' || at == end || *at != ' ') {
        return false;
    }
    return parse_number((struct pl_str){at + 1, (size_t)(end - at - 1)}, &ret->value);
}

bool pl_cli_metrics_next(struct pl_str *text, struct pl_cli_sample *ret)
{
    while (text->len > 0) {
        const char *stop = memchr(text->s, '\n', text->len);
        size_t len = stop ? (size_t)(stop - text->s) : text->len;
        struct pl_str line = {text->s, len};

        len += stop != NULL;
        text->s += len;
        text->len -= len;
        if (parse_line(line, ret)) {
            return true;
        }
    }
    return false;
}

bool pl_cli_metrics_label(struct pl_str labels, const char *name, struct pl_str *ret)
{
    size_t name_len = strlen(name);
    const char *at = labels.s, *end = labels.s + labels.len;

    while (at < end) {
        const char *equals = memchr(at, '=', (size_t)(end - at));
        const char *close =
            equals && end - equals > 2 ? memchr(equals + 2, '"', (size_t)(end - equals - 2)) : NULL;

        if (!close) {
            return false;
        }
        if ((size_t)(equals - at) == name_len && memcmp(at, name, name_len) == 0) {
            *ret = (struct pl_str){equals + 2, (size_t)(close - equals - 2)};
            return true;
        }
        at = close + 1 + (close + 1 < end && close[1] == ',');
    }
    return false;
}

bool pl_cli_metrics_find(struct pl_str text, struct pl_str name, struct pl_str labels, double *ret)
{
    struct pl_cli_sample s;

    while (pl_cli_metrics_next(&text, &s)) {
        if (pl_str_eq(s.name, name) && pl_str_eq(s.labels, labels)) {
            *ret = s.value;
            return true;
        }
    }
    return false;
}

struct bucket {
    double le, count; /* cumulative */
};
enum {
    BUCKETS_MAX = 64
};

/* The bucket of this bound, a new one if there is none; NULL: there are too many. */
static struct bucket *bucket_at(struct bucket *b, size_t *count, double le)
{
    for (size_t i = 0; i < *count; i++) {
        if (b[i].le == le) {
            return &b[i];
        }
    }
    if (*count == BUCKETS_MAX) {
        return NULL;
    }
    b[*count] = (struct bucket){le, 0};
    return &b[(*count)++];
}

/* The series of one histogram are taken together. */
static size_t read_buckets(struct pl_str before, struct pl_str after, const char *name,
                           struct bucket *out)
{
    char bucket_name[128];
    struct pl_cli_sample s;
    struct pl_str le;
    size_t n = 0;
    double old, bound;

    snprintf(bucket_name, sizeof(bucket_name), "%s_bucket", name);
    while (pl_cli_metrics_next(&after, &s)) {
        struct bucket *b;

        if (!pl_str_eq(s.name, (struct pl_str){bucket_name, strlen(bucket_name)}) ||
            !pl_cli_metrics_label(s.labels, "le", &le) || !parse_number(le, &bound)) {
            continue;
        }
        old = 0;
        pl_cli_metrics_find(before, s.name, s.labels, &old);
        b = bucket_at(out, &n, bound);
        if (b != NULL) {
            b->count += s.value - old;
        }
    }
    return n;
}

bool pl_cli_metrics_quantile(struct pl_str before, struct pl_str after, const char *name, double q,
                             double *ret)
{
    struct bucket b[BUCKETS_MAX];
    size_t n = read_buckets(before, after, name, b), i = 0;
    double rank, from, from_count;

    /* A restart in between makes counts fall: there is nothing to say about that interval. */
    if (n == 0 || !(b[n - 1].count > 0)) {
        return false;
    }
    rank = q * b[n - 1].count;
    while (i + 1 < n && b[i].count < rank) {
        i++;
    }
    from = i > 0 ? b[i - 1].le : 0;
    from_count = i > 0 ? b[i - 1].count : 0;
    if (isinf(b[i].le) || b[i].count <= from_count) {
        *ret = from;
    } else {
        *ret = from + (b[i].le - from) * (rank - from_count) / (b[i].count - from_count);
    }
    return true;
}
