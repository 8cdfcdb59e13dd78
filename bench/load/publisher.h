#ifndef PL_BENCH_LOAD_PUBLISHER_H
#define PL_BENCH_LOAD_PUBLISHER_H

#include "bench/load/dialect.h"
#include "bench/load/loop.h"
#include "bench/load/tally.h"

/* Publishes on kept connections, one request at a time on each, as a backend's pool of connections does. */

struct publisher {
    const struct options *options;
    const struct dialect *dialect;
    struct tally *tally;
    struct publisher_link *links;
    size_t free_count;
    struct publisher_link **free_links;
    uint64_t answered; /* requests */
    struct histogram latency;
    uint32_t next_group;
};

void publisher_init(struct publisher *p, const struct options *o, const struct dialect *d,
                    struct tally *t);
/* Publishes options.batch events to the next group; false, and nothing done, if every connection waits for an
 * answer. */
bool publisher_send(struct publisher *p, uint64_t stamp_ns);
bool publisher_idle(const struct publisher *p); /* every request was answered */

#endif
