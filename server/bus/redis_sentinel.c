#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/bus/redis_conn_priv.h"

/* ---- who is primary ---- */

void pl_redis__question_close(struct pl_redis_conn *c)
{
    pl_redis__link_close(&c->question);
    pl_redis__pipe_done(&c->question.pipe);
    pl_timer_cancel(c->o.wheel, &c->share);
}

/* A sentinel after the other, each with its share of the time, and one share for the primary. */
static void ask_next(struct pl_redis_conn *c, const char *why)
{
    const struct pl_redis_url *u = c->o.url;
    char reason[PL_REDIS__REASON_SIZE];

    (void)snprintf(reason, sizeof(reason), "no sentinel names the primary: %s", why);
    pl_redis__question_close(c);
    if (c->asked == u->host_count) {
        pl_redis__try_failed(c, reason);
        return;
    }
    pl_redis__set_timer(c, &c->share, c->o.connect_timeout_ms / (u->host_count + 1));
    pl_redis__link_dial(&c->question, &u->hosts[(c->sentinel + c->asked++) % u->host_count]);
}

static void on_share(struct pl_timer *t)
{
    ask_next(pl_container_of(t, struct pl_redis_conn, share), "not answered in time");
}

/* The host and port of two bulk strings. */
static bool address_of(const redisReply *host, const redisReply *port, struct pl_redis_host *ret)
{
    long n;

    if (host->type != REDIS_REPLY_STRING || port->type != REDIS_REPLY_STRING || host->len == 0 ||
        host->len >= sizeof(ret->name)) {
        return false;
    }
    n = strtol(port->str, NULL, 10);
    if (n < 1 || n > UINT16_MAX) {
        return false;
    }
    (void)memcpy(ret->name, host->str, host->len);
    ret->name[host->len] = '\0';
    ret->port = (uint16_t)n;
    return true;
}

static void on_primary(void *arg, const redisReply *r)
{
    struct pl_redis_conn *c = arg;
    struct pl_redis_host primary;

    if (r->type == REDIS_REPLY_ERROR) {
        ask_next(c, r->str);
    } else if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
               !address_of(r->element[0], r->element[1], &primary)) {
        ask_next(c, "the name of the master is not known there");
    } else {
        c->sentinel = (c->sentinel + c->asked - 1) % c->o.url->host_count;
        pl_redis__question_close(c);
        pl_redis__found(c, &primary);
    }
}

static void question_opened(struct pl_redis_conn *c)
{
    pl_redis__link_say(
        &c->question,
        (const char *const[]){"SENTINEL", "get-master-addr-by-name", c->o.url->master}, 3,
        on_primary);
}

static const struct pl_redis__role question_role = {question_opened, ask_next, NULL};

void pl_redis__question_begin(struct pl_redis_conn *c)
{
    c->asked = 0;
    c->sentinel %= c->o.url->host_count;
    ask_next(c, "");
}

/* ---- who becomes primary: a small subscription that only makes us faster ---- */

static void watch_dial(struct pl_redis_conn *c)
{
    c->watched %= c->o.url->host_count;
    pl_redis__set_timer(c, &c->watching, c->o.connect_timeout_ms);
    pl_redis__link_dial(&c->watch, &c->o.url->hosts[c->watched]);
}

static void watch_opened(struct pl_redis_conn *c)
{
    pl_redis__link_say(&c->watch, (const char *const[]){"SUBSCRIBE", "+switch-master"}, 2, NULL);
}

static void watch_lost(struct pl_redis_conn *c, const char *reason)
{
    (void)reason;
    pl_redis__link_close(&c->watch);
    pl_redis__pipe_done(&c->watch.pipe);
    c->watched++;
    pl_redis__set_timer(c, &c->watching, pl_redis__pause_ms(c, c->watch_tries));
    if (c->watch_tries < PL_REDIS__TRIES_MAX) {
        c->watch_tries++;
    }
}

static void on_watching(struct pl_timer *t)
{
    struct pl_redis_conn *c = pl_container_of(t, struct pl_redis_conn, watching);

    if (pl_redis__link_in_use(&c->watch)) {
        watch_lost(c, "timed out");
    } else {
        watch_dial(c);
    }
}

/* "<master> <old host> <old port> <new host> <new port>": is it ours, and news? */
static bool switched(const struct pl_redis_conn *c, const char *text)
{
    const char *master = c->o.url->master;
    size_t len = strlen(master);
    char now[sizeof(c->primary.name) + 16];
    size_t text_len = strlen(text), now_len;

    (void)snprintf(now, sizeof(now), " %s %u", c->primary.name, (unsigned)c->primary.port);
    now_len = strlen(now);
    return strncmp(text, master, len) == 0 && text[len] == ' ' &&
           !(text_len >= now_len && strcmp(text + text_len - now_len, now) == 0);
}

static void watch_push(struct pl_redis_conn *c, const redisReply *r)
{
    if (strcmp(r->element[0]->str, "subscribe") == 0) {
        c->watch_tries = 0;
        pl_timer_cancel(c->o.wheel, &c->watching);
    } else if (r->element[2]->type == REDIS_REPLY_STRING && switched(c, r->element[2]->str)) {
        pl_log(PL_LOG_WARN, "bus_primary_switched", PL_STR("connection", c->o.label),
               PL_STR("from", c->primary.name), PL_INT("port", c->primary.port));
        pl_redis__end_later(c, "the sentinels have made another primary", true);
        c->sentinel = c->watched;
    }
}

static const struct pl_redis__role watch_role = {watch_opened, watch_lost, watch_push};

void pl_redis__watch_begin(struct pl_redis_conn *c)
{
    if (!pl_redis__link_in_use(&c->watch) && !pl_timer_is_set(&c->watching)) {
        c->watched = c->sentinel;
        watch_dial(c);
    }
}

void pl_redis__watch_close(struct pl_redis_conn *c)
{
    pl_redis__link_close(&c->watch);
    pl_redis__pipe_done(&c->watch.pipe);
    pl_timer_cancel(c->o.wheel, &c->watching);
}

void pl_redis__sentinel_init(struct pl_redis_conn *c)
{
    pl_redis__link_init(&c->question, c, &question_role, false);
    pl_redis__link_init(&c->watch, c, &watch_role, true);
    pl_timer_init(&c->share, on_share);
    pl_timer_init(&c->watching, on_watching);
}
