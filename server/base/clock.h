#ifndef PL_BASE_CLOCK_H
#define PL_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* The only places that read clocks and randomness; only server/app, server/net and server/cli call
 * them. Everything else gets time as an argument. */
uint64_t pl_clock_mono_ms(void); /* CLOCK_MONOTONIC */
uint64_t pl_clock_mono_us(void);
int64_t pl_clock_unix_ms(void); /* CLOCK_REALTIME */
int64_t pl_clock_unix_us(void);

/* Fills from the kernel's generator (getrandom); cannot fail. */
void pl_random_bytes(void *out, size_t len);

/* RFC 3339 in UTC with milliseconds, "2026-11-20T10:30:00.000Z": 24 characters and a NUL. */
enum {
    PL_RFC3339_SIZE = 25
};
void pl_format_rfc3339(int64_t unix_ms, char out[PL_RFC3339_SIZE]);

#endif
