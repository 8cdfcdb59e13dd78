#ifndef PL_API_API_H
#define PL_API_API_H

#include "server/transport/http_edge.h"

/* The HTTP endpoints: one table of paths (routes.c), a handler each. */

/* A request on its way to its handler. */
struct pl_api_request {
    struct pl_node *node;
    const struct pl_http_request *http;
    struct pl_http_to to;
    int api_key; /* index of the X-API-Key it came with; -1: none or wrong */
    void (*fn)(struct pl_api_request *r); /* its handler */
    bool is_ready;                        /* what the bus knows of its user and queue is here */
};

/* This process has its bus, and memory enough for more clients. */
bool pl_api_is_fit(const struct pl_node *n);

/* Brings the gauges of this process up to date. */
void pl_api_set_gauges(const struct pl_node *n);

/* For the net. */
extern const struct pl_http_handler pl_api_handler;

#endif
