#include "protocol/timestamp_priv.h"

#include <string.h>

/* In a shape, 'd' stands for a decimal digit, 'h' for a lower-case hex one, 't' for T or t;
 * anything else for itself. */
static bool fits(char shape, char c)
{
    const bool digit = c >= '0' && c <= '9';

    switch (shape) {
    case 'd':
        return digit;
    case 'h':
        return digit || (c >= 'a' && c <= 'f');
    case 't':
        return c == 'T' || c == 't';
    default:
        return c == shape;
    }
}

static bool has_shape(struct pl_str s, const char *shape)
{
    if (s.len != strlen(shape)) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!fits(shape[i], s.s[i])) {
            return false;
        }
    }
    return true;
}

static int number(const char *s, int digits)
{
    int n = 0;

    while (digits-- > 0) {
        n = 10 * n + (*s++ - '0');
    }
    return n;
}

static int days_in(int year, int month)
{
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

static bool is_date(const char *s)
{
    const int month = number(s + 5, 2);
    const int day = number(s + 8, 2);

    return month >= 1 && month <= 12 && day >= 1 && day <= days_in(number(s, 4), month);
}

/* hh:mm */
static bool is_time(const char *s)
{
    return number(s, 2) <= 23 && number(s + 3, 2) <= 59;
}

static bool is_offset(struct pl_str s)
{
    if (s.len == 1) {
        return s.s[0] == 'Z' || s.s[0] == 'z';
    }
    return (has_shape(s, "+dd:dd") || has_shape(s, "-dd:dd")) && is_time(s.s + 1);
}

/* Bytes of ".123" at the start: 0 if there is no fraction or a wrong one. */
static size_t fraction_size(struct pl_str s)
{
    size_t i = 1;

    if (s.len == 0 || s.s[0] != '.') {
        return 0;
    }
    while (i < s.len && s.s[i] >= '0' && s.s[i] <= '9') {
        i++;
    }
    return i >= 2 && i <= 10 ? i : 0;
}

bool pl_timestamp__valid(struct pl_str s)
{
    static const char shape[] = "dddd-dd-ddtdd:dd:dd";
    const size_t size = sizeof(shape) - 1;
    struct pl_str rest;
    size_t fraction;

    if (s.len < size || !has_shape((struct pl_str){s.s, size}, shape)) {
        return false;
    }
    /* 60 is a leap second; when one happens is not ours to know. */
    if (!is_date(s.s) || !is_time(s.s + 11) || number(s.s + 17, 2) > 60) {
        return false;
    }
    rest = (struct pl_str){s.s + size, s.len - size};
    fraction = fraction_size(rest);
    return is_offset((struct pl_str){rest.s + fraction, rest.len - fraction});
}

static bool is_zero(const char *s, size_t len)
{
    return strspn(s, "0") >= len;
}

bool pl_traceparent__valid(struct pl_str s)
{
    static const char shape[] = "hh-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";

    return has_shape(s, shape) && memcmp(s.s, "ff", 2) != 0 && !is_zero(s.s + 3, 32) &&
           !is_zero(s.s + 36, 16);
}
