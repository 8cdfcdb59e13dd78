#ifndef PL_CLI_FINDINGS_H
#define PL_CLI_FINDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/value.h"
#include "server/base/buf.h"

/* What `parley doctor` found, and the judgements that need no look outside. Pure. */
enum pl_cli_level {
    PL_CLI_FINE,
    PL_CLI_SKIPPED, /* could not be looked at, and why */
    PL_CLI_DOUBT,   /* works, but not as it should */
    PL_CLI_WRONG,
};

struct pl_cli_finding {
    const char *check; /* static: "redis.maxmemory-policy" */
    enum pl_cli_level level;
    char says[300];
};

enum {
    PL_CLI_FINDINGS_MAX = 64
};
struct pl_cli_findings {
    struct pl_cli_finding items[PL_CLI_FINDINGS_MAX];
    size_t count;
};

__attribute__((format(printf, 4, 5))) void pl_cli_found(struct pl_cli_findings *f,
                                                        const char *check, enum pl_cli_level level,
                                                        const char *fmt, ...);
/* A line each: for people, or as JSON {"check":…,"level":"ok|skipped|doubt|wrong","says":…}. */
void pl_cli_findings_render(const struct pl_cli_findings *f, bool json, struct pl_buf *out);
enum pl_cli_level pl_cli_findings_worst(const struct pl_cli_findings *f);

/* The text of INFO; the pairs that CONFIG GET answers (NULL: it was refused). */
void pl_cli_judge_redis(struct pl_cli_findings *f, struct pl_str info,
                        const struct pl_value *config);
/* Our clock less that of Redis, known to within +-half_ms. */
void pl_cli_judge_clock(struct pl_cli_findings *f, int64_t ahead_ms, int64_t half_ms);
/* The certificate ends in so many seconds. */
void pl_cli_judge_certificate(struct pl_cli_findings *f, int64_t left_s, bool trusted,
                              const char *why_not);
/* An address ("127.0.0.1:8888", "[::]:80", a host name) that only this machine reaches? */
bool pl_cli_is_loopback(const char *address);

#endif
