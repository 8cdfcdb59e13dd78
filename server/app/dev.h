#ifndef PL_APP_DEV_H
#define PL_APP_DEV_H

#include "server/base/config.h"

/* --dev: keys minted at start where none are configured, kept over a reload. */
struct pl_dev_keys {
    char jwt[65];
    char api[33];
};

/* Adds a JWT key and an API key where the configuration has none. */
void pl_dev_add_keys(struct pl_dev_keys *k, struct pl_config *cfg);

/* What to try first, with commands that work, on stdout. */
void pl_dev_say_hello(const struct pl_config *cfg, const char *address, const char *internal);

#endif
