#include "server/cli/findings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pl_cli_found(struct pl_cli_findings *f, const char *check, enum pl_cli_level level,
                  const char *fmt, ...)
{
    struct pl_cli_finding *item;
    va_list ap;

    if (f->count == PL_CLI_FINDINGS_MAX) {
        return;
    }
    item = &f->items[f->count++];
    item->check = check;
    item->level = level;
    va_start(ap, fmt);
    (void)vsnprintf(item->says, sizeof(item->says), fmt, ap);
    va_end(ap);
}

enum pl_cli_level pl_cli_findings_worst(const struct pl_cli_findings *f)
{
    enum pl_cli_level worst = PL_CLI_FINE;

    for (size_t i = 0; i < f->count; i++) {
        worst = f->items[i].level > worst ? f->items[i].level : worst;
    }
    return worst;
}

void pl_cli_findings_render(const struct pl_cli_findings *f, bool json, struct pl_buf *out)
{
    static const char *const words[] = {[PL_CLI_FINE] = "ok",
                                        [PL_CLI_SKIPPED] = "skipped",
                                        [PL_CLI_DOUBT] = "doubt",
                                        [PL_CLI_WRONG] = "wrong"};

    for (size_t i = 0; i < f->count; i++) {
        const struct pl_cli_finding *item = &f->items[i];
        struct pl_writer w;

        if (!json) {
            pl_buf_printf(out, "%-8s %-30s %s\n", words[item->level], item->check, item->says);
            continue;
        }
        pl_writer_init(&w, PL_JSON, out);
        pl_write_map(&w, 3);
        pl_write_key(&w, "check");
        pl_write_cstr(&w, item->check);
        pl_write_key(&w, "level");
        pl_write_cstr(&w, words[item->level]);
        pl_write_key(&w, "says");
        pl_write_cstr(&w, item->says);
        pl_buf_append_byte(out, '\n');
    }
}

/* ---- Redis ---- */

/* "redis_version:7.0.15\r\n" -> "7.0.15" */
static struct pl_str info_field(struct pl_str info, const char *name)
{
    size_t len = strlen(name);
    const char *at = info.s, *end = info.s + info.len;

    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *next = stop != NULL ? stop + 1 : end;

        if ((size_t)(next - at) > len && memcmp(at, name, len) == 0 && at[len] == ':') {
            at += len + 1;
            return (struct pl_str){at, strcspn(at, "\r\n")};
        }
        at = next;
    }
    return PL_LIT("");
}

static struct pl_str setting(const struct pl_value *config, const char *name)
{
    for (size_t i = 0; config != NULL && i + 1 < config->u.array.count; i += 2) {
        const struct pl_value *key = &config->u.array.items[i], *value = key + 1;

        if (key->type == PL_STRING && value->type == PL_STRING &&
            pl_str_eq(key->u.string, (struct pl_str){name, strlen(name)})) {
            return value->u.string;
        }
    }
    return PL_LIT("");
}

static int64_t number(struct pl_str s)
{
    char text[24] = "";

    memcpy(text, s.s, s.len < sizeof(text) - 1 ? s.len : sizeof(text) - 1);
    return strtoll(text, NULL, 10);
}

typedef void judge_fn(struct pl_cli_findings *f, const char *check, struct pl_str value);

static void judge_policy(struct pl_cli_findings *f, const char *check, struct pl_str value)
{
    bool good = pl_str_eq(value, PL_LIT("noeviction"));

    pl_cli_found(f, check, good ? PL_CLI_FINE : PL_CLI_WRONG, "%.*s%s", (int)value.len, value.s,
                 good ? ""
                      : ": Redis may throw away queues and logs, and nodes are not ready: "
                        "CONFIG SET maxmemory-policy noeviction");
}

static void judge_memory(struct pl_cli_findings *f, const char *check, struct pl_str value)
{
    bool set = number(value) > 0;

    pl_cli_found(f, check, set ? PL_CLI_FINE : PL_CLI_DOUBT, "%.*s bytes%s", (int)value.len,
                 value.s, set ? "" : ": no limit, so the kernel ends Redis when memory is short");
}

static void judge_aof(struct pl_cli_findings *f, const char *check, struct pl_str value)
{
    bool on = pl_str_eq(value, PL_LIT("yes"));

    pl_cli_found(f, check, on ? PL_CLI_FINE : PL_CLI_DOUBT, "%.*s%s", (int)value.len, value.s,
                 on ? ""
                    : ": a restart of Redis loses events that publishers were told of, and all "
                      "clients fetch anew");
}

/* "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60" */
static void judge_pubsub(struct pl_cli_findings *f, const char *check, struct pl_str value)
{
    const int64_t least = 32 << 20;
    char text[256] = "";
    const char *at;
    long long hard = -1;

    memcpy(text, value.s, value.len < sizeof(text) - 1 ? value.len : sizeof(text) - 1);
    at = strstr(text, "pubsub ");
    if (at != NULL) {
        hard = strtoll(at + 7, NULL, 10);
    }
    pl_cli_found(f, check, hard == 0 || hard >= least ? PL_CLI_FINE : PL_CLI_DOUBT,
                 "pubsub %lld bytes%s", hard,
                 hard == 0 || hard >= least
                     ? ""
                     : ": a node that is slow for a moment is cut off; 64mb 16mb 60 is better");
}

static void judge_timeout(struct pl_cli_findings *f, const char *check, struct pl_str value)
{
    int64_t s = number(value);
    bool good = s == 0 || s >= 60;

    pl_cli_found(f, check, good ? PL_CLI_FINE : PL_CLI_DOUBT, "%" PRId64 " s%s", s,
                 good ? "" : ": Redis cuts connections that are quiet for so long; 0 is better");
}

static void judge_version(struct pl_cli_findings *f, struct pl_str version)
{
    bool good = number(version) >= 7;

    pl_cli_found(f, "redis.version", good ? PL_CLI_FINE : PL_CLI_WRONG, "%.*s%s", (int)version.len,
                 version.s, good ? "" : ": Redis 7 or newer is needed");
}

void pl_cli_judge_redis(struct pl_cli_findings *f, struct pl_str info,
                        const struct pl_value *config)
{
    static const struct {
        const char *check, *name;
        judge_fn *judge;
    } settings[] = {
        {"redis.maxmemory-policy", "maxmemory-policy", judge_policy},
        {"redis.maxmemory", "maxmemory", judge_memory},
        {"redis.appendonly", "appendonly", judge_aof},
        {"redis.client-output-buffer-limit", "client-output-buffer-limit", judge_pubsub},
        {"redis.timeout", "timeout", judge_timeout},
    };
    struct pl_str role = info_field(info, "role");
    bool master = pl_str_eq(role, PL_LIT("master"));

    judge_version(f, info_field(info, "redis_version"));
    pl_cli_found(f, "redis.role", master ? PL_CLI_FINE : PL_CLI_WRONG, "%.*s%s", (int)role.len,
                 role.s, master ? "" : ": nodes need the one that takes writes");
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        struct pl_str value = setting(config, settings[i].name);

        if (value.len == 0) {
            pl_cli_found(f, settings[i].check, PL_CLI_SKIPPED,
                         "cannot be seen: the Redis user has no right to CONFIG GET");
        } else {
            settings[i].judge(f, settings[i].check, value);
        }
    }
}

/* ---- others ---- */

void pl_cli_judge_clock(struct pl_cli_findings *f, int64_t ahead_ms, int64_t half_ms)
{
    int64_t off_ms = ahead_ms < 0 ? -ahead_ms : ahead_ms;
    enum pl_cli_level level = off_ms - half_ms > 30000 ? PL_CLI_WRONG
                              : off_ms - half_ms > 500 ? PL_CLI_DOUBT
                                                       : PL_CLI_FINE;

    pl_cli_found(f, "clock", level, "%" PRId64 " ms %s that of Redis (+-%" PRId64 " ms)%s", off_ms,
                 ahead_ms < 0 ? "behind" : "ahead of", half_ms,
                 level == PL_CLI_FINE
                     ? ""
                     : ": tokens are judged, and the newest link is told, by clocks: run chrony "
                       "or systemd-timesyncd");
}

void pl_cli_judge_certificate(struct pl_cli_findings *f, int64_t left_s, bool trusted,
                              const char *why_not)
{
    const int64_t day_s = 86400;
    int64_t days = left_s / day_s;

    if (!trusted) {
        pl_cli_found(f, "certificate", PL_CLI_WRONG, "not trusted by this machine: %s", why_not);
    } else if (left_s <= 3 * day_s) {
        pl_cli_found(f, "certificate", PL_CLI_WRONG, "ends in %" PRId64 " days", days);
    } else {
        pl_cli_found(f, "certificate", left_s <= 21 * day_s ? PL_CLI_DOUBT : PL_CLI_FINE,
                     "ends in %" PRId64 " days%s", days,
                     left_s <= 21 * day_s ? ": it should have been renewed by now" : "");
    }
}

bool pl_cli_is_loopback(const char *address)
{
    static const char *const hosts[] = {"127.", "localhost", "[::1]", "::1"};

    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        size_t len = strlen(hosts[i]);

        if (strncmp(address, hosts[i], len) == 0 &&
            (i == 0 || address[len] == '\0' || address[len] == ':')) {
            return true;
        }
    }
    return false;
}
