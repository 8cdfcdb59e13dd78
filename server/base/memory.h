#ifndef PL_BASE_MEMORY_H
#define PL_BASE_MEMORY_H

#include <stdint.h>

/* How the process stands to limits.memory. Beyond it nothing new is taken that memory would be held
 * for (queues, events, requests of over 4 KiB in pieces); well beyond it no connections either. What
 * is there is served all the while. Process-wide and of the one event loop, as metrics are. */
enum pl_memory {
    PL_MEMORY_ENOUGH,
    PL_MEMORY_SHORT, /* limit bytes, until a sixteenth less */
    PL_MEMORY_OUT,   /* an eighth more than the limit, until it is the limit again */
};

extern enum pl_memory pl_memory_state;

/* Sets the state by what is resident now. limit: 0 means none. */
void pl_memory_judge(uint64_t resident_bytes, uint64_t limit_bytes);

/* As the kernel counts it; 0 if it does not say. Reads a file of /proc. */
uint64_t pl_memory_resident(void);

#endif
