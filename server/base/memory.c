#include "server/base/memory.h"

#include <stdio.h>
#include <unistd.h>

enum pl_memory pl_memory_state = PL_MEMORY_ENOUGH;

void pl_memory_judge(uint64_t resident_bytes, uint64_t limit_bytes)
{
    const enum pl_memory was = pl_memory_state;
    const uint64_t out = limit_bytes + limit_bytes / 8;
    const uint64_t enough = limit_bytes - limit_bytes / 16;

    if (limit_bytes == 0) {
        pl_memory_state = PL_MEMORY_ENOUGH;
    } else if (resident_bytes >= (was == PL_MEMORY_OUT ? limit_bytes : out)) {
        pl_memory_state = PL_MEMORY_OUT;
    } else if (resident_bytes >= (was == PL_MEMORY_ENOUGH ? limit_bytes : enough)) {
        pl_memory_state = PL_MEMORY_SHORT;
    } else {
        pl_memory_state = PL_MEMORY_ENOUGH;
    }
}

uint64_t pl_memory_resident(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f != NULL) {
        if (fscanf(f, "%*s %llu", &pages) != 1) {
            pages = 0;
        }
        fclose(f);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
