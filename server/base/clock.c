#include "server/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "server/base/alloc.h"

uint64_t pl_clock_mono_ms(void)
{
    return pl_clock_mono_us() / 1000;
}

uint64_t pl_clock_mono_us(void)
{
    struct timespec ts;

    PL_ASSERT(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int64_t pl_clock_unix_ms(void)
{
    return pl_clock_unix_us() / 1000;
}

int64_t pl_clock_unix_us(void)
{
    struct timespec ts;

    PL_ASSERT(clock_gettime(CLOCK_REALTIME, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void pl_random_bytes(void *out, size_t len)
{
    uint8_t *p = out;

    while (len > 0) {
        ssize_t got = getrandom(p, len, 0);

        PL_ASSERT(got > 0 || errno == EINTR);
        if (got > 0) {
            p += got;
            len -= (size_t)got;
        }
    }
}

void pl_format_rfc3339(int64_t unix_ms, char out[PL_RFC3339_SIZE])
{
    /* The first and the last millisecond that a four-digit year can write. */
    const int64_t first = -62167219200000;
    const int64_t last = 253402300799999;
    int64_t ms = unix_ms < first ? first : unix_ms > last ? last : unix_ms;
    int64_t millis = ((ms % 1000) + 1000) % 1000;
    time_t seconds = (time_t)((ms - millis) / 1000);
    struct tm tm;
    size_t len;

    PL_ASSERT(gmtime_r(&seconds, &tm) != NULL);
    len = (size_t)snprintf(out, PL_RFC3339_SIZE, "%04d", tm.tm_year + 1900);
    len += strftime(out + len, PL_RFC3339_SIZE - len, "-%m-%dT%H:%M:%S", &tm);
    snprintf(out + len, PL_RFC3339_SIZE - len, ".%03dZ", (int)millis);
}
