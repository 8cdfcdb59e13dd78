#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/memory.h"
#include "server/base/metrics.h"
#include "server/net/net_priv.h"

/* A client's address costs its connection a pointer: all connections from one address share an
 * entry, which counts them. */

struct key {
    uint8_t listener;
    struct pl_address address;
};
_Static_assert(sizeof(struct key) == 17, "no gaps: it is hashed by its bytes");

enum {
    MAX_RESTING = 65536, /* beyond it the one that rests for longest is forgotten */
};

/* A peer without a connection whose buckets are not full yet; or that has one again. */
struct resting {
    struct pl_list node;
    struct pl_peer_entry *entry;
};

static bool same(const struct pl_map_node *node, const void *key, size_t len)
{
    const struct pl_peer *p = &pl_container_of(node, struct pl_peer_entry, node)->peer;
    const struct key k = {(uint8_t)p->listener, p->address};

    return len == sizeof(k) && memcmp(&k, key, len) == 0;
}

void pl_peer__init(struct pl_net *n)
{
    pl_map_init(&n->peers, same);
    pl_list_init(&n->resting);
}

struct pl_peer_entry *pl_peer__take(struct pl_net *n, enum pl_listener listener,
                                    const struct pl_address *address)
{
    const struct key k = {(uint8_t)listener, *address};
    struct pl_map_node *node = pl_map_find(&n->peers, &k, sizeof(k));
    struct pl_peer_entry *e;

    if (node) {
        e = pl_container_of(node, struct pl_peer_entry, node);
    } else {
        e = pl_alloc(sizeof(*e));
        e->peer.listener = listener;
        e->peer.address = *address;
        e->peer.loopback = pl_address_is_loopback(address);
        pl_address_text(address, e->peer.ip);
        pl_map_insert(&n->peers, &e->node, &k, sizeof(k));
    }
    e->connections++;
    return e;
}

/* Nothing of it is worth remembering. */
static bool is_fresh(const struct pl_net *n, const struct pl_peer_entry *e)
{
    return pl_rate_is_full(&e->handshakes, n->now_ms) && pl_rate_is_full(&e->connects, n->now_ms);
}

static void forget(struct pl_net *n, struct pl_peer_entry *e)
{
    pl_map_remove(&n->peers, &e->node);
    free(e);
}

static void rouse_first(struct pl_net *n)
{
    struct resting *r = pl_container_of(n->resting.next, struct resting, node);
    struct pl_peer_entry *e = r->entry;

    pl_list_remove(&r->node);
    free(r);
    n->resting_count--;
    e->rests = false;
    if (e->connections == 0) {
        forget(n, e);
    }
}

static void rest(struct pl_net *n, struct pl_peer_entry *e)
{
    struct resting *r = pl_alloc(sizeof(*r));

    r->entry = e;
    e->rests = true;
    pl_list_append(&n->resting, &r->node);
    if (++n->resting_count > MAX_RESTING) {
        rouse_first(n);
    }
}

void pl_peer__drop(struct pl_net *n, struct pl_peer_entry *e)
{
    if (--e->connections > 0 || e->rests) {
        return;
    }
    if (is_fresh(n, e)) {
        forget(n, e);
    } else {
        rest(n, e);
    }
}

void pl_peer__sweep(struct pl_net *n)
{
    while (!pl_list_empty(&n->resting)) {
        const struct resting *r = pl_container_of(n->resting.next, struct resting, node);

        if (!is_fresh(n, r->entry)) {
            return;
        }
        rouse_first(n);
    }
}

void pl_peer__done(struct pl_net *n)
{
    while (!pl_list_empty(&n->resting)) {
        rouse_first(n);
    }
    pl_map_done(&n->peers);
}

struct pl_peer_entry *pl_peer__enter(struct pl_net *n, enum pl_listener listener,
                                     const struct pl_address *address)
{
    n->main_connections += listener == PL_LISTENER_MAIN;
    return pl_peer__take(n, listener, address);
}

void pl_peer__leave(struct pl_net *n, struct pl_peer_entry *e)
{
    n->main_connections -= e->peer.listener == PL_LISTENER_MAIN;
    pl_peer__drop(n, e);
}

bool pl_peer__is_proxy(const struct pl_net *n, const struct pl_peer_entry *e)
{
    return e->peer.listener == PL_LISTENER_MAIN &&
           pl_networks_have(&n->o.cfg->server_trusted_proxies, &e->peer.address);
}

int pl_peer__check_per_ip(const struct pl_net *n, const struct pl_peer_entry *e)
{
    const int64_t limit = n->o.cfg->limits_connections_per_ip;

    if (limit == 0 || e->connections <= limit || e->peer.listener != PL_LISTENER_MAIN ||
        pl_peer__is_proxy(n, e)) {
        return PL_OK;
    }
    pl_metric_add(PL_S_REFUSED_PER_IP, 1);
    return PL_ERR_OVERLOADED;
}

/* Many may be behind one address, and all come back at once. */
enum {
    HANDSHAKE_BURST_S = 10
};

bool pl_peer__take_handshake(const struct pl_net *n, struct pl_peer_entry *e)
{
    const uint32_t rate = (uint32_t)n->o.cfg->limits_handshakes_per_ip;

    if (rate == 0 || e->peer.listener != PL_LISTENER_MAIN || pl_peer__is_proxy(n, e) ||
        pl_rate_take(&e->handshakes, 1, rate, HANDSHAKE_BURST_S * rate, n->now_ms)) {
        return true;
    }
    pl_metric_add(PL_S_LIMITED_HANDSHAKES, 1);
    return false;
}

/* What one address leaves of the rate is for the others, however fast it comes: a proxy that is not
 * trusted, or a network behind one address, is better served slowly than shut out by a loop. */
static bool has_its_share(const struct pl_net *n, struct pl_peer_entry *e, uint32_t rate)
{
    const uint32_t share = rate > 1 ? rate / 2 : 1;

    return pl_peer__is_proxy(n, e) || pl_rate_take(&e->connects, 1, share, share, n->now_ms);
}

static int check_rate(struct pl_net *n, struct pl_peer_entry *e)
{
    const uint32_t rate = (uint32_t)n->o.cfg->limits_accept_rate;
    const struct pl_rate before = e->connects;

    if (rate == 0 ||
        (has_its_share(n, e, rate) && pl_rate_take(&n->accepts, 1, rate, rate, n->now_ms))) {
        return PL_OK;
    }
    e->connects = before; /* the others may have taken it all: a refusal costs nothing */
    pl_metric_add(PL_S_REFUSED_RATE, 1);
    return PL_ERR_OVERLOADED;
}

int pl_peer__check_limits(struct pl_net *n, struct pl_peer_entry *e)
{
    int64_t limit = n->o.cfg->limits_connections;
    int status;

    if (limit == 0 || limit > n->max_connections) {
        limit = n->max_connections;
    }
    if (e->peer.listener == PL_LISTENER_MAIN && n->main_connections > limit) {
        pl_metric_add(PL_S_REFUSED_CONNECTIONS, 1);
        return PL_ERR_OVERLOADED;
    }
    if (e->peer.listener == PL_LISTENER_MAIN && pl_memory_state == PL_MEMORY_OUT) {
        pl_metric_add(PL_S_REFUSED_MEMORY, 1);
        return PL_ERR_OVERLOADED;
    }
    status = pl_peer__check_per_ip(n, e);
    return status == PL_OK && e->peer.listener == PL_LISTENER_MAIN ? check_rate(n, e) : status;
}
