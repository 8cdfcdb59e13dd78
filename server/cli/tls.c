#include "server/cli/tls.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server/base/clock.h"
#include "server/cli/socket.h"

enum {
    ASK_MS = 10000,
    WORDS_MAX = 20
};

/* In the child. */
static void become(const char *const *words, int fd)
{
    int null = open("/dev/null", O_RDWR);

    if (dup2(fd, 0) == 0 && dup2(fd, 1) == 1 && dup2(null, 2) == 2) {
        execvp(words[0], (char *const *)words);
    }
    _exit(127);
}

/* A socket to its standard input and output. */
static pid_t spawn(const char *const *words, int *ret_fd)
{
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return -1;
    }
    pid = fork();
    if (pid == 0) {
        become(words, pair[1]);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
    } else {
        *ret_fd = pair[0];
    }
    return pid;
}

static bool is_address(const char *host)
{
    unsigned char out[16];

    return inet_pton(AF_INET, host, out) == 1 || inet_pton(AF_INET6, host, out) == 1;
}

/* openssl s_client to this server. where: room for host and port. */
static size_t client_words(const struct pl_url *u, char *where, size_t size, const char **words)
{
    bool address = is_address(u->host);
    size_t n = 0;

    (void)snprintf(where, size, strchr(u->host, ':') != NULL ? "[%s]:%s" : "%s:%s", u->host,
                   u->port);
    words[n++] = "openssl";
    words[n++] = "s_client";
    words[n++] = "-connect";
    words[n++] = where;
    words[n++] = address ? "-verify_ip" : "-verify_hostname";
    words[n++] = u->host;
    words[n++] = address ? "-noservername" : "-servername";
    if (!address) {
        words[n++] = u->host;
    }
    return n;
}

int pl_tls_connect(const struct pl_url *u, int *ret_fd, char *err, size_t err_size)
{
    const char *words[WORDS_MAX];
    char where[300];
    size_t n = client_words(u, where, sizeof(where), words);

    words[n++] = "-verify_return_error";
    words[n++] = "-quiet";
    words[n++] = "-nocommands"; /* bytes are bytes, also "Q" at the beginning of a line */
    words[n++] = "-no_ign_eof"; /* it ends when we close */
    words[n] = NULL;
    (void)signal(SIGCHLD, SIG_IGN); /* nobody waits for it */
    if (spawn(words, ret_fd) < 0) {
        (void)snprintf(err, err_size, "cannot start openssl");
        return PL_SOCKET_ERROR;
    }
    (void)fcntl(*ret_fd, F_SETFL, O_NONBLOCK);
    return 0;
}

/* Runs it with this input; its output as text. False: it printed nothing. */
static bool run(const char *const *words, const char *input, size_t len, struct pl_buf *out)
{
    uint64_t deadline_ms = pl_clock_mono_ms() + ASK_MS;
    char bytes[4096];
    int fd, n;
    pid_t pid = spawn(words, &fd);

    if (pid < 0) {
        return false;
    }
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    (void)pl_socket_write(fd, input, len, deadline_ms);
    (void)shutdown(fd, SHUT_WR);
    while ((n = pl_socket_read(fd, bytes, sizeof(bytes), deadline_ms)) > 0) {
        pl_buf_append(out, bytes, (size_t)n);
    }
    close(fd);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return out->len > 0;
}

/* "    Verify return code: 10 (certificate has expired)" */
static bool read_verdict(const char *text, char *why_not, size_t size)
{
    const char *at = strstr(text, "Verify return code: ");
    const char *open = at != NULL ? strchr(at, '(') : NULL;

    if (at != NULL && strncmp(at, "Verify return code: 0 ", 22) == 0) {
        return true;
    }
    (void)snprintf(why_not, size, "%.*s", open != NULL ? (int)strcspn(open + 1, ")\n") : 7,
                   open != NULL ? open + 1 : "unknown");
    return false;
}

static bool read_end(const char *text, int64_t *ret_ends_s)
{
    const char *at = strstr(text, "notAfter=");
    struct tm tm = {0};

    if (at == NULL || strptime(at + 9, "%b %d %H:%M:%S %Y", &tm) == NULL) {
        return false;
    }
    *ret_ends_s = (int64_t)timegm(&tm);
    return true;
}

int pl_tls_certificate(const struct pl_url *u, int64_t *ret_ends_s, bool *ret_trusted,
                       char *why_not, size_t why_not_size)
{
    static const char *const ask_end[] = {"openssl", "x509", "-noout", "-enddate", NULL};
    const char *words[WORDS_MAX];
    struct pl_buf said = {0}, end = {0};
    char where[300];
    const char *pem;
    bool known;

    words[client_words(u, where, sizeof(where), words)] = NULL;
    known = run(words, "", 0, &said);
    pem = known ? strstr(pl_buf_cstr(&said), "-----BEGIN CERTIFICATE-----") : NULL;
    if (pem == NULL) {
        (void)snprintf(why_not, why_not_size, "%s",
                       known ? "no certificate came: is that a TLS port?"
                             : "the command openssl is not there");
    } else {
        *ret_trusted = read_verdict(pl_buf_cstr(&said), why_not, why_not_size);
        if (!run(ask_end, pem, strlen(pem), &end) || !read_end(pl_buf_cstr(&end), ret_ends_s)) {
            (void)snprintf(why_not, why_not_size, "the certificate cannot be read");
            pem = NULL;
        }
    }
    pl_buf_done(&said);
    pl_buf_done(&end);
    return pem != NULL ? 0 : -1;
}
