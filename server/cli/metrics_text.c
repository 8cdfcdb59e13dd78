#include "server/cli/metrics_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/alloc.h"
#include "server/base/list.h"
#include "server/base/map.h"

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

/* ---- several workers as one ---- */

struct merged {
    struct pl_map_node node;
    struct pl_cli_sample sample; /* labels without the worker's */
    char *key;                   /* name and labels */
    size_t key_len;
};

static bool merged_is(const struct pl_map_node *n, const void *key, size_t key_len)
{
    const struct merged *m = pl_container_of(n, struct merged, node);

    return m->key_len == key_len && memcmp(m->key, key, key_len) == 0;
}

/* What is no sum of what its workers say. */
static double together(struct pl_str name, double a, double b)
{
    static const struct {
        struct pl_str name;
        bool least;
    } states[] = {
        {PL_LIT("realtime_bus_breaker_state"), false}, {PL_LIT("realtime_bus_feed"), true},
        {PL_LIT("realtime_last_event_id"), false},     {PL_LIT("realtime_build_info"), false},
        {PL_LIT("process_start_time_seconds"), true},  {PL_LIT("process_max_fds"), false},
    };

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (pl_str_eq(name, states[i].name)) {
            return (a < b) == states[i].least ? a : b;
        }
    }
    return a + b;
}

/* name and labels but for worker="…", as one text in out. */
static void write_key(const struct pl_cli_sample *s, struct pl_str worker, struct pl_buf *out)
{
    const char *end = s->labels.s + s->labels.len;
    const char *from = worker.s != NULL ? worker.s - strlen("worker=\"") : end;
    const char *to = worker.s != NULL ? worker.s + worker.len + 1 : end;

    if (to < end && *to == ',') {
        to++;
    } else if (from > s->labels.s && from[-1] == ',') {
        from--;
    }
    pl_buf_append(out, s->name.s, s->name.len);
    pl_buf_append_byte(out, '{');
    pl_buf_append(out, s->labels.s, (size_t)(from - s->labels.s));
    pl_buf_append(out, to, (size_t)(end - to));
    pl_buf_append_byte(out, '}');
}

void pl_cli_metrics_merge(struct pl_str text, struct pl_str worker, struct pl_buf *out)
{
    struct merged **all = NULL;
    size_t count = 0, cap = 0;
    struct pl_cli_sample s;
    struct pl_map known;

    pl_map_init(&known, merged_is);
    while (pl_cli_metrics_next(&text, &s)) {
        struct pl_str of = {NULL, 0};
        struct pl_map_node *found;
        struct pl_buf key = {0};
        struct merged *m;

        (void)pl_cli_metrics_label(s.labels, "worker", &of);
        if (worker.len > 0 && !pl_str_eq(of, worker)) {
            continue;
        }
        write_key(&s, of, &key);
        found = pl_map_find(&known, key.data, key.len);
        if (found != NULL) {
            m = pl_container_of(found, struct merged, node);
            m->sample.value = together(s.name, m->sample.value, s.value);
            pl_buf_done(&key);
            continue;
        }
        m = pl_alloc(sizeof(*m));
        *m = (struct merged){.sample = s, .key = (char *)key.data, .key_len = key.len};
        pl_map_insert(&known, &m->node, m->key, m->key_len);
        if (count == cap) {
            cap = cap * 2 + 64;
            all = pl_realloc(all, cap * sizeof(*all));
        }
        all[count++] = m;
    }
    for (size_t i = 0; i < count; i++) {
        bool bare = all[i]->key[all[i]->key_len - 2] == '{';

        pl_buf_append(out, all[i]->key, all[i]->key_len - (bare ? 2 : 0));
        pl_buf_printf(out, " %.17g\n", all[i]->sample.value);
        free(all[i]->key);
        free(all[i]);
    }
    free(all);
    pl_map_done(&known);
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
