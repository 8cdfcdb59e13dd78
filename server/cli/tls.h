#ifndef PL_CLI_TLS_H
#define PL_CLI_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/url.h"

/* TLS for looking at a proxy from outside, by the `openssl` command where it is installed: the tool is
 * linked to no TLS library, for servers are spoken to behind their proxy. */

/* 0 and a socket whose bytes go through `openssl s_client`, which ends with it; the certificate must be
 * good for the host. What fails later is an end of stream. Or a negative pl_socket_result, and why. */
int pl_tls_connect(const struct pl_url *u, int *ret_fd, char *err, size_t err_size);

/* 0 and the end (unix seconds) of the server's certificate; *ret_trusted: by whom this machine trusts
 * and for this host, else why_not says why. -1: there is no answer, or no openssl; why_not says which. */
int pl_tls_certificate(const struct pl_url *u, int64_t *ret_ends_s, bool *ret_trusted,
                       char *why_not, size_t why_not_size);

#endif
