#ifndef PL_APP_MASTER_H
#define PL_APP_MASTER_H

#include "server/app/inherit.h"
#include "server/app/server.h"
#include "server/base/config.h"

/* The process above the workers. It opens the listening sockets and keeps them open, starts the
 * workers with them, replaces the ones that end, and passes on what it is told by signals:
 *
 *   SIGHUP   the configuration, checked here first: in place where that can be, else by new workers;
 *            the old ones drain once the new ones accept
 *   SIGUSR2  the binary that is now where ours was, checked first, takes this process's place (exec: the
 *            same pid, sockets and children), starts its own workers, and the old ones drain
 *   SIGTERM  the workers drain; SIGINT or a second SIGTERM: they end
 *
 * It serves nobody and knows no bus. As pid 1 it reaps whatever is left to it. */

/* Runs until it is told to stop: 0, or 1 if no worker could be brought to serve. cfg is taken over.
 * in: what an earlier master left. */
int pl_master_run(const struct pl_server_options *o, struct pl_config *cfg, unsigned workers,
                  const struct pl_inherited *in);

#endif
