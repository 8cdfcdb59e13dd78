#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/status.h"
#include "server/base/alloc.h"
#include "server/base/clock.h"
#include "server/base/log.h"

enum {
    PATIENCE_MS = 8000
};
static struct pl_buf received;

/* ---- the application ---- */

/* Clients are on loopback, but for those that a proxy names. */
static void note_client(struct harness *h, const struct pl_peer *peer)
{
    snprintf(h->client, sizeof(h->client), "%s", peer->ip);
    assert_int_equal(peer->loopback,
                     strncmp(peer->ip, "127.", 4) == 0 || strcmp(peer->ip, "::1") == 0);
}

static void reply(struct pl_http_conn *c, int status, const void *body, size_t len, bool end)
{
    if (end) {
        pl_http_leave(c);
    }
    pl_http_reply(c, &(struct pl_http_answer){.http_status = status, .body = {body, len}});
}

static int64_t on_max_body(void *arg, struct pl_http_conn *c, const struct pl_http_head *head,
                           const struct pl_peer *peer)
{
    (void)c;
    note_client(arg, peer);
    return pl_str_eq(head->path, PL_LIT("/secret")) ? PL_ERR_UNAUTHORIZED : 1000;
}

static void on_request(void *arg, struct pl_http_conn *c, const struct pl_http_request *rq)
{
    struct harness *h = arg;
    struct pl_buf out = {0};

    h->requests++;
    note_client(h, &rq->peer);
    assert_ptr_not_equal(pl_http_peer(c), &rq->peer);
    assert_string_equal(pl_http_peer(c)->ip, rq->peer.ip);
    if (pl_str_eq(rq->head.path, PL_LIT("/hold"))) {
        h->held[h->held_count++] = c;
        return;
    }
    if (pl_str_eq(rq->head.path, PL_LIT("/none"))) {
        reply(c, 204, "unsent", 6, false);
        return;
    }
    if (pl_str_eq(rq->head.path, PL_LIT("/big"))) {
        pl_buf_reserve(&out, BIG);
        memset(out.data, 'b', BIG);
        out.len = BIG;
    } else {
        pl_buf_append(&out, rq->head.path.s, rq->head.path.len);
        pl_buf_append_byte(&out, ' ');
        pl_buf_append(&out, rq->body.s, rq->body.len);
    }
    reply(c, 200, out.data, out.len, pl_str_eq(rq->head.path, PL_LIT("/bye")));
    pl_buf_done(&out);
}

static void on_upgrade(void *arg, struct pl_http_conn *c, const struct pl_http_request *rq)
{
    struct harness *h = arg;
    enum pl_codec codec = PL_JSON;
    const char *name = "";
    struct pl_str token;

    assert_int_equal(pl_http_websocket_subprotocol(&rq->head, &codec, &name, &token), 0);
    if (pl_str_eq(rq->head.path, PL_LIT("/ws-no"))) {
        reply(c, 403, "no", 2, false);
    } else if (pl_str_eq(rq->head.path, PL_LIT("/ws-later"))) {
        h->upgrading = c;
    } else {
        pl_http_accept_websocket(c, name, codec, h);
    }
}

static void on_refuse(void *arg, struct pl_http_conn *c, const struct pl_http_head *head,
                      int status, const char *reason)
{
    struct harness *h = arg;
    const char *text = reason ? reason : pl_status_text(status);

    h->refused++;
    h->refusal = status;
    h->refusal_had_head = head != NULL;
    pl_http_reply(c, &(struct pl_http_answer){
                         .http_status = pl_status_http(status),
                         .head_lines = status == PL_ERR_OVERLOADED ? "Retry-After: 1\r\n" : NULL,
                         .body = {(const uint8_t *)text, strlen(text)}});
}

static void on_gone(void *arg, struct pl_http_conn *c)
{
    struct harness *h = arg;

    h->gone++;
    for (int i = 0; i < h->held_count; i++) {
        if (h->held[i] == c) {
            h->held[i] = h->held[--h->held_count];
        }
    }
    if (h->upgrading == c) {
        h->upgrading = NULL;
    }
}

static void on_opened(void *arg, struct pl_ws_conn *c, void *user)
{
    struct harness *h = arg;

    assert_ptr_equal(user, h);
    assert_ptr_equal(pl_ws_user(c), h);
    note_client(h, pl_ws_peer(c));
    h->ws = c;
    h->ws_opened++;
}

static void on_failed(void *arg, void *user)
{
    struct harness *h = arg;

    assert_ptr_equal(user, h);
    h->ws_failed++;
}

static void on_message(void *arg, struct pl_ws_conn *c, const void *data, size_t len, bool text)
{
    struct harness *h = arg;
    struct pl_buf out = {0};
    struct pl_frame *f;

    h->ws_messages++;
    h->last_was_text = text;
    h->last_len = len;
    if (len > 6 && memcmp(data, "close ", 6) == 0) {
        pl_ws_close(c, 4404, "queue_not_found");
        return;
    }
    if (h->mute) {
        return;
    }
    pl_buf_append(&out, data, len);
    f = pl_frame_new(PL_JSON, &out);
    pl_ws_send(c, f);
    pl_frame_unref(f);
}

static void on_pong(void *arg, struct pl_ws_conn *c)
{
    (void)c;
    ((struct harness *)arg)->ws_pongs++;
}

static void on_writable(void *arg, struct pl_ws_conn *c)
{
    (void)c;
    ((struct harness *)arg)->ws_writables++;
}

static void on_ws_closed(void *arg, struct pl_ws_conn *c, int code, bool by_peer)
{
    struct harness *h = arg;

    h->ws_closed++;
    h->close_code = code;
    h->close_by_peer = by_peer;
    if (h->ws == c) {
        h->ws = NULL;
    }
}

static void on_tick(void *arg, uint64_t mono_ms, int64_t unix_ms)
{
    (void)mono_ms, (void)unix_ms;
    ((struct harness *)arg)->ticks++;
}

static const struct pl_http_handler http_handler = {on_max_body, on_request, on_upgrade, on_refuse,
                                                    on_gone};
static const struct pl_ws_handler ws_handler = {on_opened, on_failed,   on_message,
                                                on_pong,   on_writable, on_ws_closed};

/* ---- its life ---- */

int harness_setup(void **state)
{
    static char any_port[] = "127.0.0.1:0", none[] = "";
    struct harness *h = pl_alloc(sizeof(*h));

    h->cfg = (struct pl_config){
        .server_listen = any_port,
        .server_internal_listen = none,
        .websocket_compression = true,
        .websocket_compression_min = 64,
        .limits_message_bytes = 65536,
        .limits_body_bytes = 1048576,
        .limits_header_bytes = 16384,
        .limits_header_timeout = 10000,
        .limits_body_timeout = 10000,
        .limits_keepalive_timeout = 10000,
    };
    pl_log_setup(PL_LOG_OFF, PL_LOG_KV);
    *state = h;
    return 0;
}

static void on_turn_ends(void *arg)
{
    ((struct harness *)arg)->turns++;
}

void harness_start(struct harness *h)
{
    struct pl_net_options o = {.cfg = &h->cfg,
                               .http = &http_handler,
                               .ws = &ws_handler,
                               .arg = h,
                               .wheel = &h->wheel,
                               .tick = on_tick,
                               .turn_ends = on_turn_ends};
    char err[200];

    pl_wheel_init(&h->wheel, pl_clock_mono_ms());
    assert_int_equal(pl_net_new(&o, &h->net, err, sizeof(err)), 0);
}

int harness_teardown(void **state)
{
    struct harness *h = *state;

    pl_net_free(h->net);
    assert_int_equal(h->wheel.count, 0);
    pl_buf_done(&received);
    pl_deflate_done();
    free(h);
    return 0;
}

/* ---- clients ---- */

int harness_connect(struct harness *h)
{
    const char *address = pl_net_address(h->net, PL_LISTENER_MAIN);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

void harness_send(int fd, const void *data, size_t len)
{
    assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

void harness_send_str(int fd, const char *s)
{
    harness_send(fd, s, strlen(s));
}

void harness_turn(struct harness *h, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    uv_run(&h->net->loop, UV_RUN_NOWAIT);
    poll(&p, 1, 1);
}

void harness_until(struct harness *h, const int *counter, int n)
{
    uint64_t deadline = pl_clock_mono_ms() + PATIENCE_MS;

    while (*counter < n) {
        assert_true(pl_clock_mono_ms() < deadline);
        harness_turn(h, -1);
    }
}

/* One read; false at the end of the stream. */
static bool read_some(int fd)
{
    ssize_t n;

    pl_buf_reserve(&received, 65536);
    n = recv(fd, received.data + received.len, 65536, 0);
    if (n > 0) {
        received.len += (size_t)n;
    }
    return n > 0 || (n < 0 && errno == EAGAIN);
}

const char *harness_read(struct harness *h, int fd, size_t len)
{
    uint64_t deadline = pl_clock_mono_ms() + PATIENCE_MS;

    received.len = 0;
    while (received.len < len) {
        assert_true(pl_clock_mono_ms() < deadline);
        harness_turn(h, fd);
        assert_true(read_some(fd) || received.len >= len);
    }
    return pl_buf_cstr(&received);
}

const char *harness_read_text(struct harness *h, int fd, const char *text)
{
    uint64_t deadline = pl_clock_mono_ms() + PATIENCE_MS;

    received.len = 0;
    while (!strstr(pl_buf_cstr(&received), text)) {
        assert_true(pl_clock_mono_ms() < deadline);
        harness_turn(h, fd);
        if (!read_some(fd)) {
            assert_non_null(strstr(pl_buf_cstr(&received), text));
        }
    }
    return pl_buf_cstr(&received);
}

const char *harness_read_all(struct harness *h, int fd, size_t *ret_len)
{
    uint64_t deadline = pl_clock_mono_ms() + PATIENCE_MS;

    received.len = 0;
    do {
        assert_true(pl_clock_mono_ms() < deadline);
        harness_turn(h, fd);
    } while (read_some(fd));
    if (ret_len) {
        *ret_len = received.len;
    }
    return pl_buf_cstr(&received);
}

void harness_release(struct harness *h)
{
    while (h->held_count > 0) {
        reply(h->held[--h->held_count], 200, "released", 8, false);
    }
}

void harness_accept(struct harness *h)
{
    pl_http_accept_websocket(h->upgrading, "", PL_JSON, h);
    h->upgrading = NULL;
}

/* ---- WebSockets ---- */

#define HANDSHAKE(path)                                                                 \
    "GET " path                                                                         \
    " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
const char harness_handshake[] = HANDSHAKE("/ws") "\r\n";

int harness_websocket(struct harness *h, const char *offer)
{
    int fd = harness_connect(h);
    int before = h->ws_opened;

    harness_send_str(fd, HANDSHAKE("/ws"));
    if (offer) {
        harness_send_str(fd, "Sec-WebSocket-Extensions: ");
        harness_send_str(fd, offer);
        harness_send_str(fd, "\r\n");
    }
    harness_send_str(fd, "\r\n");
    harness_until(h, &h->ws_opened, before + 1);
    return fd;
}

size_t harness_frame(uint8_t *out, uint8_t first_byte, const void *data, size_t len)
{
    static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};
    size_t at = 2;

    out[0] = first_byte;
    if (len < 126) {
        out[1] = (uint8_t)(0x80 | len);
    } else {
        int bytes = len < 65536 ? 2 : 8;

        out[1] = len < 65536 ? 0xfe : 0xff;
        for (int i = bytes - 1; i >= 0; i--) {
            out[at++] = (uint8_t)(len >> (8 * i));
        }
    }
    memcpy(out + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < len; i++) {
        out[at++] = ((const uint8_t *)data)[i] ^ mask[i & 3];
    }
    return at;
}

void harness_send_frame(int fd, uint8_t first_byte, const void *data, size_t len)
{
    uint8_t *bytes = pl_alloc(len + 14);

    harness_send(fd, bytes, harness_frame(bytes, first_byte, data, len));
    free(bytes);
}
