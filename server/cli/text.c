#include "server/cli/text.h"

#include <stdio.h>
#include <string.h>

#include "protocol/utf8.h"

static const int64_t second_ms = 1000, minute_s = 60, hour_s = 3600, day_s = 86400;
static const int64_t most_ms = INT64_C(3652) * 86400 * 1000;

static int64_t unit_ms(const char *unit)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"ms", 1}, {"", 1000}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(unit, units[i].name) == 0) {
            return units[i].ms;
        }
    }
    return 0;
}

bool pl_cli_parse_duration(const char *s, int64_t *ret_ms)
{
    int64_t n = 0, unit;
    const char *c = s;

    while (*c >= '0' && *c <= '9' && n <= most_ms) {
        n = n * 10 + (*c++ - '0');
    }
    unit = c == s ? 0 : unit_ms(c);
    if (unit == 0 || n == 0 || n > most_ms / unit) {
        return false;
    }
    *ret_ms = n * unit;
    return true;
}

void pl_cli_format_uptime(double seconds, char out[PL_CLI_TEXT_SIZE])
{
    int64_t s = seconds > 0 && seconds < 1e12 ? (int64_t)seconds : 0;

    if (s >= day_s) {
        snprintf(out, PL_CLI_TEXT_SIZE, "%dd %dh", (int)(s / day_s), (int)(s % day_s / hour_s));
    } else if (s >= hour_s) {
        snprintf(out, PL_CLI_TEXT_SIZE, "%dh %dm", (int)(s / hour_s), (int)(s % hour_s / minute_s));
    } else if (s >= minute_s) {
        snprintf(out, PL_CLI_TEXT_SIZE, "%dm %ds", (int)(s / minute_s), (int)(s % minute_s));
    } else {
        snprintf(out, PL_CLI_TEXT_SIZE, "%ds", (int)s);
    }
}

void pl_cli_format_count(double n, char out[PL_CLI_TEXT_SIZE])
{
    char digits[PL_CLI_TEXT_SIZE];
    int len, at = 0;

    if (!(n >= 0 && n < 1e18)) {
        snprintf(out, PL_CLI_TEXT_SIZE, "%g", n);
        return;
    }
    len = snprintf(digits, sizeof(digits), "%.0f", n);
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            out[at++] = ' ';
        }
        out[at++] = digits[i];
    }
    out[at] = '\0';
}

void pl_cli_format_rate(double per_s, char out[PL_CLI_TEXT_SIZE])
{
    if (per_s >= 100 || per_s == 0) {
        pl_cli_format_count(per_s, out);
    } else {
        snprintf(out, PL_CLI_TEXT_SIZE, "%.*f", per_s >= 1 ? 1 : 2, per_s);
    }
}

void pl_cli_format_bytes(double n, char out[PL_CLI_TEXT_SIZE])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    while (n >= 1024 && unit < 4) {
        n /= 1024;
        unit++;
    }
    snprintf(out, PL_CLI_TEXT_SIZE, "%.*f %s", unit > 0 && n < 100 ? 1 : 0, n, units[unit]);
}

void pl_cli_format_seconds(double s, char out[PL_CLI_TEXT_SIZE])
{
    double ms = s * (double)second_ms;

    if (ms < 1) {
        snprintf(out, PL_CLI_TEXT_SIZE, "%.0f us", ms * 1000);
    } else if (ms < 1000) {
        snprintf(out, PL_CLI_TEXT_SIZE, "%.1f ms", ms);
    } else {
        snprintf(out, PL_CLI_TEXT_SIZE, "%.1f s", s);
    }
}

/* ASCII's control characters and, in UTF-8, those from U+0080 to U+009F. */
static bool has_controls(struct pl_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.s[i],
                      next = i + 1 < s.len ? (unsigned char)s.s[i + 1] : 0;

        if (c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0)) {
            return true;
        }
    }
    return false;
}

struct pl_str pl_cli_printable(struct pl_str s, struct pl_arena *a)
{
    char *copy;

    if (pl_utf8_valid(s.s, s.len) && !has_controls(s)) {
        return s;
    }
    copy = pl_arena_alloc(a, s.len);
    memcpy(copy, s.s, s.len);
    for (size_t i = 0; i < s.len; i++) {
        if (s.s[i] < 0x20 || s.s[i] > 0x7e) {
            copy[i] = '?';
        }
    }
    return (struct pl_str){copy, s.len};
}
