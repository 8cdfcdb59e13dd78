#ifndef PL_PROTOCOL_UTF8_H
#define PL_PROTOCOL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. */

/* How many bytes at the start are whole, valid characters; len if all of it is. */
size_t pl_utf8_valid_prefix(const char *s, size_t len);

bool pl_utf8_valid(const char *s, size_t len);

#endif
