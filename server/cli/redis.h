#ifndef PL_CLI_REDIS_H
#define PL_CLI_REDIS_H

#include "protocol/value.h"
#include "server/bus/redis_url.h"

/* A blocking connection to the Redis of a bus: one command, one reply. */
struct pl_cli_redis;

struct pl_cli_redis_error {
    char text[256]; /* a sentence without password */
};

/* Finds the server (Sentinels are asked in turn, until one names a master that says it is one),
 * connects, logs in and selects the database. Each step may take timeout_ms. From now on SIGPIPE is
 * ignored. 0, or -1 and err. */
int pl_cli_redis_open(const struct pl_redis_url *u, int64_t timeout_ms, struct pl_cli_redis **ret,
                      struct pl_cli_redis_error *err);
void pl_cli_redis_close(struct pl_cli_redis *r); /* NULL is harmless */

/* 0 and the reply, or -1 and err when it is an error or the connection was lost. Strings of the
 * reply are what Redis holds: bytes, maybe not UTF-8. At most 16 words. */
int pl_cli_redis_ask(struct pl_cli_redis *r, const struct pl_str *words, size_t count,
                     struct pl_arena *arena, const struct pl_value **ret,
                     struct pl_cli_redis_error *err);

#endif
