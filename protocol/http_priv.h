#ifndef PL_PROTOCOL_HTTP_PRIV_H
#define PL_PROTOCOL_HTTP_PRIV_H

#include "protocol/http.h"

/* What the parsers of heads, fields and bodies share. ASCII only: no locale has a say in a
 * protocol. */

bool pl_http__is_blank(char c); /* SP or HT */
bool pl_http__is_digit(char c);
bool pl_http__is_text(char c);                /* HT and anything but control bytes */
int pl_http__hex_digit(char c);               /* 0..15, -1: none */
bool pl_http__is_token(struct pl_str s);      /* RFC 9110, 5.6.2; never empty */
struct pl_str pl_http__trim(struct pl_str s); /* without surrounding blanks */

/* Case-insensitive; lower is in lower case. */
bool pl_http__equals(struct pl_str s, const char *lower);
bool pl_http__starts_with(struct pl_str s, const char *lower);

/* Takes what lies before the first `delimiter` (all of it when there is none) off the front of
 * *s, and the delimiter with it. */
struct pl_str pl_http__take_until(struct pl_str *s, char delimiter);

/* The elements of a comma-separated header, over all its occurrences, trimmed, empty ones
 * skipped. Begin with {.head = h, .name = "connection"}. */
struct pl_http__list {
    const struct pl_http_head *head;
    const char *name;
    size_t next; /* header to look at when rest is used up */
    struct pl_str rest;
};
bool pl_http__list_next(struct pl_http__list *it, struct pl_str *ret);

#endif
