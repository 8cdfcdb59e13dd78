#ifndef PL_BUS_REDIS_URL_H
#define PL_BUS_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

/* bus.url taken apart:
 *   redis://[user:password@]host[:port][/db]                            default port 6379, db 0
 *   redis+sentinel://[user:password@]h1[:p1],h2[:p2],…/master[/db]      default port 26379
 * User and password are percent-decoded; a password alone is ":password@". IPv6 hosts in brackets.
 * rediss:// and redis+cluster:// are refused with a sentence that says what to do instead. */
enum {
    PL_REDIS_HOSTS_MAX = 9
};

struct pl_redis_host {
    char name[256];
    uint16_t port;
};

struct pl_redis_url {
    struct pl_redis_host hosts[PL_REDIS_HOSTS_MAX]; /* one, or the sentinels */
    int host_count;
    bool sentinel;
    char master[128]; /* sentinel: the name of the master */
    char user[128];   /* "": none */
    char password[256];
    int db;
};

/* 0, or PL_ERR_INVALID with a sentence in err that never repeats the password. */
int pl_redis_url_parse(const char *text, struct pl_redis_url *ret, char *err, unsigned err_size);
/* "redis://host:port/db" without credentials, for logs. */
void pl_redis_url_show(const struct pl_redis_url *u, char *out, unsigned size);

#endif
