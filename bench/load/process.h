#ifndef PL_BENCH_LOAD_PROCESS_H
#define PL_BENCH_LOAD_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What some processes cost together, by the kernel's account in /proc. A process that is gone ends the program. */

struct usage {
    double cpu_s; /* /proc/PID/task/TID/schedstat: to the nanosecond, not in ticks */
    uint64_t rss_bytes, pss_bytes;
};

double process_cpu_s(const pid_t *pids, size_t count);
struct usage process_usage(const pid_t *pids, size_t count);

#endif
