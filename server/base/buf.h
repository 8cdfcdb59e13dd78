#ifndef PL_BASE_BUF_H
#define PL_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* A growable byte buffer. {0} is an empty one, which holds no memory. Appending cannot fail:
 * whoever appends what a peer sent checks a limit first. */
struct pl_buf {
    uint8_t *data; /* NULL while cap is 0 */
    size_t len, cap;
};

void pl_buf_done(struct pl_buf *b);                 /* frees; b is empty and usable again */
void pl_buf_reserve(struct pl_buf *b, size_t more); /* room for `more` bytes behind len */
void pl_buf_append(struct pl_buf *b, const void *data, size_t len);
void pl_buf_append_str(struct pl_buf *b, const char *s);
void pl_buf_append_byte(struct pl_buf *b, uint8_t byte);
void pl_buf_printf(struct pl_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void pl_buf_consume(struct pl_buf *b, size_t n); /* drops the first n <= len bytes; all: frees */
const char *pl_buf_cstr(
    struct pl_buf *b); /* NUL-terminated view until the next change; len does not count the NUL */

#endif
