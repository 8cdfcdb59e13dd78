#include "bench/load/tally.h"

#include <string.h>

#include "server/base/alloc.h"

struct tally_event {
    uint32_t group, lacking;
};

/* ---- histogram ---- */

static size_t bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS) {
        return (size_t)ns;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - 6u;
    size_t b = ((size_t)shift + 1) * HISTOGRAM_STEPS + ((ns >> shift) - HISTOGRAM_STEPS);
    return b < HISTOGRAM_BUCKETS ? b : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_middle(size_t b)
{
    if (b < HISTOGRAM_STEPS) {
        return b;
    }
    unsigned shift = (unsigned)(b / HISTOGRAM_STEPS) - 1u;
    return ((uint64_t)(HISTOGRAM_STEPS + b % HISTOGRAM_STEPS) << shift) +
           (((uint64_t)1 << shift) >> 1);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    h->count++;
    h->buckets[bucket_of(ns)]++;
    if (ns > h->max) {
        h->max = ns;
    }
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    h->count += from->count;
    if (from->max > h->max) {
        h->max = from->max;
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        h->buckets[i] += from->buckets[i];
    }
}

uint64_t histogram_at(const struct histogram *h, double share)
{
    uint64_t rank = (uint64_t)((double)h->count * share), seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > rank) {
            return bucket_middle(i) < h->max ? bucket_middle(i) : h->max;
        }
    }
    return h->max;
}

/* ---- marks ---- */

static void put_hex(char *out, size_t digits, uint64_t value)
{
    for (size_t i = digits; i > 0; i--, value >>= 4) {
        out[i - 1] = "0123456789abcdef"[value & 15u];
    }
}

static bool take_hex(const uint8_t *p, size_t digits, uint64_t *ret)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        unsigned c = p[i], digit = c - '0';
        if (digit > 9) {
            digit = c - 'a' + 10u;
            if (digit < 10 || digit > 15) {
                return false;
            }
        }
        value = value << 4 | digit;
    }
    *ret = value;
    return true;
}

const uint8_t *tally_find(const uint8_t *p, const uint8_t *end, struct tally_mark *ret)
{
    while (end - p >= TALLY_MARK_LEN &&
           (p = memchr(p, '~', (size_t)(end - p) - TALLY_MARK_LEN + 1))) {
        uint64_t number;
        if (p[TALLY_MARK_LEN - 1] == '~' && take_hex(p + 1, 8, &number) &&
            take_hex(p + 9, 16, &ret->stamp_ns)) {
            ret->number = (uint32_t)number;
            return p;
        }
        p++;
    }
    return NULL;
}

/* ---- counting ---- */

/* So that the sum over a set of numbers is that of no other set one is likely to meet. */
static uint64_t hash(uint64_t number)
{
    number = (number + 1) * 0x9e3779b97f4a7c15u;
    number = (number ^ (number >> 32)) * 0xd6e8feb86659fd93u;
    return number ^ (number >> 32);
}

void tally_init(struct tally *t, size_t groups)
{
    *t = (struct tally){.group_count = groups};
    t->groups = pl_alloc(groups * sizeof(*t->groups));
}

void tally_join(struct tally *t, struct tally_reader *r)
{
    t->groups[r->group].readers += r->counted;
}

void tally_publish(struct tally *t, uint32_t group, uint64_t stamp_ns, char mark[TALLY_MARK_LEN])
{
    if (t->sent == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 4096;
        t->events = pl_realloc(t->events, t->cap * sizeof(*t->events));
    }
    struct tally_group *g = &t->groups[group];
    t->events[t->sent] = (struct tally_event){.group = group, .lacking = g->readers};
    t->unfinished += g->readers > 0;
    g->sent++;
    g->sum += hash(t->sent);
    mark[0] = mark[TALLY_MARK_LEN - 1] = '~';
    put_hex(mark + 1, 8, t->sent);
    put_hex(mark + 9, 16, stamp_ns);
    t->sent++;
}

void tally_deliver(struct tally *t, struct tally_reader *r, struct tally_mark mark, uint64_t now)
{
    if (mark.number >= t->sent || t->events[mark.number].group != r->group) {
        t->not_for_them++;
        return;
    }
    r->got++;
    r->sum += hash(mark.number);
    if (!r->counted) {
        return;
    }
    struct tally_event *e = &t->events[mark.number];
    if (e->lacking > 0 && --e->lacking == 0) {
        t->unfinished--;
    }
    if (mark.number < t->measured_from) {
        return;
    }
    t->deliveries++;
    t->last_ns = now;
    histogram_add(r->latency, now > mark.stamp_ns ? now - mark.stamp_ns : 0);
}

void tally_measure(struct tally *t, size_t from)
{
    t->measured_from = from;
    t->deliveries = 0;
}

void tally_check(const struct tally *t, const struct tally_reader *r, struct tally_faults *faults)
{
    const struct tally_group *g = &t->groups[r->group];
    faults->missed += g->sent > r->got ? g->sent - r->got : 0;
    faults->extra += r->got > g->sent ? r->got - g->sent : 0;
    faults->mixed_up += r->got == g->sent && r->sum != g->sum;
}
