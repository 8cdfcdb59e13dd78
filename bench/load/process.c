#include "bench/load/process.h"

#include <dirent.h>
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *open_of(pid_t pid, const char *name)
{
    char path[300];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

static double thread_cpu_s(pid_t pid, const char *thread)
{
    char name[280];
    snprintf(name, sizeof(name), "task/%s/schedstat", thread);
    FILE *f = open_of(pid, name);
    uint64_t ns = 0;
    if (f) { /* a thread may end meanwhile */
        if (fscanf(f, "%" SCNu64, &ns) != 1) {
            ns = 0;
        }
        fclose(f);
    }
    return (double)ns / 1e9;
}

double process_cpu_s(const pid_t *pids, size_t count)
{
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        char path[40];
        snprintf(path, sizeof(path), "/proc/%d/task", (int)pids[i]);
        DIR *threads = opendir(path);
        if (!threads) {
            err(1, "process %d", (int)pids[i]);
        }
        for (struct dirent *d; (d = readdir(threads));) {
            if (d->d_name[0] != '.') {
                total += thread_cpu_s(pids[i], d->d_name);
            }
        }
        closedir(threads);
    }
    return total;
}

struct usage process_usage(const pid_t *pids, size_t count)
{
    struct usage u = {.cpu_s = process_cpu_s(pids, count)};
    for (size_t i = 0; i < count; i++) {
        FILE *f = open_of(pids[i], "smaps_rollup");
        if (!f) {
            err(1, "process %d", (int)pids[i]);
        }
        char line[200];
        uint64_t kib;
        while (fgets(line, sizeof(line), f)) {
            if (sscanf(line, "Rss: %" SCNu64, &kib) == 1) {
                u.rss_bytes += kib * 1024;
            } else if (sscanf(line, "Pss: %" SCNu64, &kib) == 1) {
                u.pss_bytes += kib * 1024;
            }
        }
        fclose(f);
    }
    return u;
}
