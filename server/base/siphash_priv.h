#ifndef PL_BASE_SIPHASH_PRIV_H
#define PL_BASE_SIPHASH_PRIV_H

#include <stddef.h>
#include <stdint.h>

/* SipHash-1-3 (Aumasson, Bernstein) of len bytes under a 128-bit key, its two halves as
 * little-endian integers. */
uint64_t pl_siphash__13(const void *data, size_t len, uint64_t k0, uint64_t k1);

#endif
