#include "server/base/alloc.h"

#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Written without stdio and without the log: neither may allocate when memory has run out. */
static void complain(const char *text)
{
    ssize_t written = write(STDERR_FILENO, text, strlen(text));

    (void)written;
}

static void *or_abort(void *ptr)
{
    if (ptr == NULL) {
        complain("parley: out of memory\n");
        abort();
    }
    return ptr;
}

void *pl_alloc(size_t size)
{
    PL_ASSERT(size > 0);
    return or_abort(calloc(1, size));
}

void *pl_realloc(void *ptr, size_t size)
{
    PL_ASSERT(size > 0);
    return or_abort(realloc(ptr, size));
}

char *pl_strdup(const char *s)
{
    return pl_strndup(s, strlen(s));
}

char *pl_strndup(const char *s, size_t len)
{
    char *copy;

    PL_ASSERT(len < SIZE_MAX);
    copy = or_abort(malloc(len + 1));
    if (len > 0) {
        memcpy(copy, s, len);
    }
    copy[len] = '\0';
    return copy;
}

void *pl_try_alloc(size_t size)
{
    PL_ASSERT(size > 0);
    return calloc(1, size);
}

void *pl_try_realloc(void *ptr, size_t size)
{
    PL_ASSERT(size > 0);
    return realloc(ptr, size);
}

bool pl_alloc_trim(size_t worth_bytes)
{
    static size_t left; /* free since the last time: in pages that are used, too */
    size_t unused = mallinfo2().fordblks;

    if (unused < left) {
        left = unused;
    }
    if (unused < left + worth_bytes) {
        return false;
    }
    (void)malloc_trim(0);
    left = mallinfo2().fordblks;
    return true;
}

void pl_assert_failed(const char *expr, const char *file, int line)
{
    char text[512];

    snprintf(text, sizeof(text), "%s:%d: assertion failed: %s\n", file, line, expr);
    complain(text);
    abort();
}
