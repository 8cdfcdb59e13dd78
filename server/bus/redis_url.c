#include "server/bus/redis_url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"

enum {
    REDIS_PORT = 6379,
    SENTINEL_PORT = 26379,
    DB_MAX = 1 << 20, /* more than any server has; a guard against nonsense */
};

/* What is left to read, and where to say what is wrong with it. Only names of parts are said, never
 * their text: a misplaced '@' would make a host of a password. */
struct reader {
    const char *s, *end;
    char *err;
    unsigned err_size;
};

__attribute__((format(printf, 2, 3))) static int wrong(const struct reader *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(r->err, r->err_size, fmt, args);
    va_end(args);
    return PL_ERR_INVALID;
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int scheme(struct reader *r, bool *ret_sentinel)
{
    static const char plain[] = "redis://", sentinel[] = "redis+sentinel://";

    if (starts_with(r->s, "rediss://")) {
        return wrong(
            r, "rediss:// (TLS) is not supported: let a local stunnel or haproxy speak TLS to "
               "Redis, and give its address as redis://");
    }
    if (starts_with(r->s, "redis+cluster://")) {
        return wrong(r,
                     "redis+cluster:// is not supported: all keys of a prefix live in one slot, so "
                     "give one primary as redis://, or redis+sentinel:// for failover");
    }
    *ret_sentinel = starts_with(r->s, sentinel);
    if (!*ret_sentinel && !starts_with(r->s, plain)) {
        return wrong(r, "must begin with redis:// or redis+sentinel://");
    }
    r->s += (*ret_sentinel ? sizeof(sentinel) : sizeof(plain)) - 1;
    return PL_OK;
}

/* The piece up to `stop` or the end. */
static struct reader piece(const struct reader *r, const char *stop)
{
    return (struct reader){r->s, stop != NULL ? stop : r->end, r->err, r->err_size};
}

static const char *find(const struct reader *r, char c)
{
    return memchr(r->s, c, (size_t)(r->end - r->s));
}

static const char *find_last(const struct reader *r, char c)
{
    for (const char *s = r->end; s > r->s; s--) {
        if (s[-1] == c) {
            return s - 1;
        }
    }
    return NULL;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int percent_decode(const struct reader *r, const char *what, char *out, size_t size)
{
    size_t n = 0;

    for (const char *s = r->s; s < r->end; s++) {
        int c = (unsigned char)*s;

        if (c == '%') {
            int high = r->end - s > 2 ? hex(s[1]) : -1, low = high >= 0 ? hex(s[2]) : -1;

            if (low < 0 || (c = high * 16 + low) == 0) {
                return wrong(
                    r, "%s: a percent sign must be followed by two hexadecimal digits, not 00",
                    what);
            }
            s += 2;
        }
        if (n + 1 >= size) {
            return wrong(r, "%s: longer than %zu bytes", what, size - 1);
        }
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return PL_OK;
}

/* "user:password@", ":password@" or nothing. The last '@' ends it: a password with one in it that
 * was not encoded is read as meant, and can never be taken for a host. */
static int credentials(struct reader *r, struct pl_redis_url *u)
{
    const char *at = find_last(r, '@'), *colon;
    struct reader user, password;
    int status;

    if (at == NULL) {
        return PL_OK;
    }
    user = piece(r, at);
    colon = find(&user, ':');
    if (colon == NULL) {
        return wrong(r, "before the @ goes user:password, or :password");
    }
    password = user;
    password.s = colon + 1;
    user.end = colon;
    r->s = at + 1;
    status = percent_decode(&user, "user", u->user, sizeof(u->user));
    if (status == PL_OK) {
        status = percent_decode(&password, "password", u->password, sizeof(u->password));
    }
    if (status == PL_OK && u->password[0] == '\0') {
        return wrong(r, "the password is empty");
    }
    return status;
}

static int number(const struct reader *r, const char *what, int min, int max, int *ret)
{
    int n = 0;

    for (const char *s = r->s; s < r->end; s++) {
        n = n * 10 + (*s - '0');
        if (*s < '0' || *s > '9' || n > max) {
            n = min - 1;
            break;
        }
    }
    if (r->s == r->end || n < min) {
        return wrong(r, "%s: must be a number from %d to %d", what, min, max);
    }
    *ret = n;
    return PL_OK;
}

/* Of a name or an address: nothing that would hide a mistake in the rest of the URL. */
static int host_name(const struct reader *r, bool bracketed, struct pl_redis_host *h)
{
    size_t len = (size_t)(r->end - r->s);

    if (len == 0 || len >= sizeof(h->name)) {
        return wrong(r, "a host must have 1 to %zu bytes", sizeof(h->name) - 1);
    }
    for (const char *s = r->s; s < r->end; s++) {
        bool letter = (*s | 0x20) >= 'a' && (*s | 0x20) <= 'z', digit = *s >= '0' && *s <= '9';

        if (!letter && !digit && strchr(bracketed ? ":.%" : "-._", *s) == NULL) {
            return wrong(r, "a host has a character that no host name has%s",
                         *s == ':' ? "; IPv6 addresses go in brackets" : "");
        }
    }
    memcpy(h->name, r->s, len);
    h->name[len] = '\0';
    return PL_OK;
}

/* "host", "host:port", "[ipv6]", "[ipv6]:port". */
static int host(const struct reader *r, int default_port, struct pl_redis_host *h)
{
    struct reader name = *r, port = *r;
    bool bracketed = r->s < r->end && *r->s == '[';
    int n = default_port, status;

    if (bracketed) {
        const char *close = find(r, ']');

        if (close == NULL || (close + 1 < r->end && close[1] != ':')) {
            return wrong(r, "a host in brackets is [address] or [address]:port");
        }
        name.s++;
        name.end = close;
        port.s = close + 1;
    } else {
        port.s = find_last(r, ':');
        name.end = port.s = port.s != NULL ? port.s : r->end;
    }
    status = host_name(&name, bracketed, h);
    if (status == PL_OK && port.s < port.end) {
        port.s++;
        status = number(&port, "port", 1, UINT16_MAX, &n);
    }
    h->port = (uint16_t)n;
    return status;
}

static int hosts(const struct reader *r, struct pl_redis_url *u)
{
    struct reader rest = *r;

    for (;;) {
        const char *comma = find(&rest, ',');
        struct reader one = piece(&rest, comma);
        int status;

        if (comma != NULL && !u->sentinel) {
            return wrong(r,
                         "redis:// takes one host: several are redis+sentinel://h1,h2,h3/master");
        }
        if (u->host_count == PL_REDIS_HOSTS_MAX) {
            return wrong(r, "more than %d hosts", PL_REDIS_HOSTS_MAX);
        }
        status = host(&one, u->sentinel ? SENTINEL_PORT : REDIS_PORT, &u->hosts[u->host_count++]);
        if (status != PL_OK || comma == NULL) {
            return status;
        }
        rest.s = comma + 1;
    }
}

/* What follows the hosts: "/db", or "/master/db". */
static int path(struct reader *r, struct pl_redis_url *u)
{
    if (u->sentinel) {
        struct reader name = piece(r, find(r, '/'));
        int status = percent_decode(&name, "master", u->master, sizeof(u->master));

        if (status != PL_OK) {
            return status;
        }
        if (u->master[0] == '\0') {
            return wrong(r, "the name of the master is missing: redis+sentinel://hosts/master");
        }
        r->s = name.end < r->end ? name.end + 1 : name.end;
    }
    return r->s == r->end ? PL_OK : number(r, "db", 0, DB_MAX, &u->db);
}

int pl_redis_url_parse(const char *text, struct pl_redis_url *ret, char *err, unsigned err_size)
{
    struct reader r = {text, text + strlen(text), err, err_size}, authority;
    struct pl_redis_url u = {0};
    const char *at, *slash;
    int status = scheme(&r, &u.sentinel);

    if (status != PL_OK) {
        return status;
    }
    /* A password may hold a '/', which then is none of the path's. */
    at = find_last(&r, '@');
    slash = memchr(at != NULL ? at : r.s, '/', (size_t)(r.end - (at != NULL ? at : r.s)));
    authority = piece(&r, slash);
    r.s = slash != NULL ? slash + 1 : r.end;
    status = credentials(&authority, &u);
    if (status == PL_OK) {
        status = hosts(&authority, &u);
    }
    if (status == PL_OK) {
        status = path(&r, &u);
    }
    if (status == PL_OK) {
        *ret = u;
    }
    return status;
}

void pl_redis_url_show(const struct pl_redis_url *u, char *out, unsigned size)
{
    size_t n = 0;

    (void)snprintf(out, size, "%s", u->sentinel ? "redis+sentinel://" : "redis://");
    for (int i = 0; i < u->host_count; i++) {
        bool v6 = strchr(u->hosts[i].name, ':') != NULL;

        n = strlen(out);
        (void)snprintf(out + n, size - n, "%s%s%s%s:%d", i > 0 ? "," : "", v6 ? "[" : "",
                       u->hosts[i].name, v6 ? "]" : "", u->hosts[i].port);
    }
    n = strlen(out);
    (void)snprintf(out + n, size - n, "%s%s/%d", u->sentinel ? "/" : "", u->master, u->db);
}
