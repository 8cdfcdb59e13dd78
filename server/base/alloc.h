#ifndef PL_BASE_ALLOC_H
#define PL_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* Two verbs to allocate. pl_alloc* is for sizes the server chooses: it cannot fail (out of memory
 * is logged to stderr and aborts). pl_try_* is for sizes that a peer influences: the caller has
 * checked a limit first, and NULL costs that peer its request. All are freed with free(). */

void *pl_alloc(size_t size);              /* zeroed; size > 0 */
void *pl_realloc(void *ptr, size_t size); /* not zeroed beyond the old size */
char *pl_strdup(const char *s);
char *pl_strndup(const char *s, size_t len);  /* NUL-terminated copy of len bytes */
void *pl_try_alloc(size_t size);              /* zeroed; NULL when memory is short */
void *pl_try_realloc(void *ptr, size_t size); /* NULL leaves ptr as it was */

/* Gives whole pages of what was freed back to the system, if since the last time at least worth_bytes
 * more have become free. Takes milliseconds where a great deal is free. True if it did. */
bool pl_alloc_trim(size_t worth_bytes);

/* A bug of ours: logs file, line and expression to stderr and aborts. Stays on in release; no peer
 * can reach one. */
#define PL_ASSERT(expr) ((expr) ? (void)0 : pl_assert_failed(#expr, __FILE__, __LINE__))
_Noreturn void pl_assert_failed(const char *expr, const char *file, int line);

#endif
