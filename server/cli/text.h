#ifndef PL_CLI_TEXT_H
#define PL_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"

/* Numbers as people write and read them, and texts that may be shown. Pure. */

/* "500ms", "30s", "15m", "1h", "2d"; a bare number is seconds. Positive, at most ten years; else
 * false. */
bool pl_cli_parse_duration(const char *s, int64_t *ret_ms);

enum {
    PL_CLI_TEXT_SIZE = 32
};
/* 61 -> "1m 1s", 3720 -> "1h 2m", 90000 -> "1d 1h": the two largest units. */
void pl_cli_format_uptime(double seconds, char out[PL_CLI_TEXT_SIZE]);
/* 999 -> "999", 1234567 -> "1 234 567". Fractions are rounded away. */
void pl_cli_format_count(double n, char out[PL_CLI_TEXT_SIZE]);
/* 0.25 -> "0.25", 9.95 -> "9.9" or "10.0", 1234 -> "1 234": three digits are enough for a rate. */
void pl_cli_format_rate(double per_s, char out[PL_CLI_TEXT_SIZE]);
/* 1536 -> "1.5 KiB" */
void pl_cli_format_bytes(double n, char out[PL_CLI_TEXT_SIZE]);
/* 0.00025 -> "250 us", 0.0125 -> "12.5 ms", 3 -> "3.0 s" */
void pl_cli_format_seconds(double s, char out[PL_CLI_TEXT_SIZE]);

/* Bytes of somebody else's: as they are if they are UTF-8 without control characters, which could
 * give orders to a terminal; else an equally long copy in the arena with '?' for what is not plain
 * ASCII. */
struct pl_str pl_cli_printable(struct pl_str s, struct pl_arena *a);

#endif
