#ifndef PL_APP_SERVER_H
#define PL_APP_SERVER_H

#include <stdbool.h>

#include "server/base/config.h"

/* The wiring: configuration -> bus, hub, auth, net; and their life: start, ready, reload (SIGHUP),
 * upgrade (SIGUSR2), drain (SIGTERM), stop (SIGINT). In this process, or as the master of several
 * (master.h). */
struct pl_server_options {
    char **argv;                      /* of the command line, for processes like this one */
    struct pl_config_sources sources; /* read again by a reload */
    bool dev;
};

/* Runs until it is told to stop. 0; 1 when something failed (said on stderr); 2 when the
 * configuration is wrong. */
int pl_server_run(const struct pl_server_options *o);

/* Loads the configuration and the keys it names, says what is wrong on stderr. 0 or 2. */
int pl_server_check(const struct pl_server_options *o);

#endif
