#ifndef PL_BENCH_LOAD_TALLY_H
#define PL_BENCH_LOAD_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was published, who was to get it, and what arrived. Every event carries a mark, ~, its number in 8 and
 * the time of its publish in 16 hexadecimal digits, ~, which looks the same in JSON and in MessagePack and is
 * found wherever it stands, so a message may hold many events. Order is not judged: several connections publish. */

enum {
    TALLY_MARK_LEN = 26
};

/* Nanoseconds, in buckets 1.6 % wide. */
enum {
    HISTOGRAM_STEPS = 64,
    HISTOGRAM_BUCKETS = HISTOGRAM_STEPS * 40
};
struct histogram {
    uint64_t count, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *h, const struct histogram *from);
uint64_t histogram_at(const struct histogram *h, double share); /* 0.99: the 99th percentile */

/* Those who get the same events: a channel, or a topic of one. */
struct tally_group {
    uint64_t sent, sum; /* sum: of the hashes of the numbers sent */
    uint32_t readers;   /* that an event is finished with when all have it */
};

struct tally_reader {
    uint64_t got, sum;
    struct histogram *latency;
    uint32_t group;
    bool counted; /* one of the group's readers; slow ones are not */
};

struct tally {
    struct tally_group *groups;
    size_t group_count;
    struct tally_event *events; /* by number */
    size_t sent, cap;
    size_t unfinished;     /* events that a counted reader still lacks */
    size_t measured_from;  /* number of the first event that deliveries and latency are about */
    uint64_t deliveries;   /* of measured events, to counted readers */
    uint64_t last_ns;      /* when the newest of them came */
    uint64_t not_for_them; /* deliveries outside the reader's group, or of no event of this run */
};

void tally_init(struct tally *t, size_t groups);
void tally_join(struct tally *t, struct tally_reader *r); /* before anything is published */

/* Gives the next event of a group its mark; without a NUL. */
void tally_publish(struct tally *t, uint32_t group, uint64_t stamp_ns, char mark[TALLY_MARK_LEN]);

/* The next mark in p..end; NULL: none. Behind it is p + TALLY_MARK_LEN. */
struct tally_mark {
    uint64_t stamp_ns;
    uint32_t number;
};
const uint8_t *tally_find(const uint8_t *p, const uint8_t *end, struct tally_mark *ret);
void tally_deliver(struct tally *t, struct tally_reader *r, struct tally_mark mark, uint64_t now);

/* Deliveries are counted anew, of events with this number and later ones. */
void tally_measure(struct tally *t, size_t from);

/* Adds to what is wrong with this reader: events it lacks, events it has too often, and whether it has as many
 * as it should, but not the right ones. */
struct tally_faults {
    uint64_t missed, extra, mixed_up;
};
void tally_check(const struct tally *t, const struct tally_reader *r, struct tally_faults *faults);

#endif
