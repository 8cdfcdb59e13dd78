#include "server/cli/response.h"

#include <string.h>
#include <strings.h>

#include "protocol/request.h"
#include "protocol/status.h"

enum {
    HEAD_MAX = 65536,
    BODY_MAX = 64 << 20
};

/* "HTTP/1.1 200 OK": the number, or 0. */
static int parse_status_line(const struct pl_buf *head)
{
    const char *line = (const char *)head->data;
    int status = 0;

    if (head->len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ') {
        return 0;
    }
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9') {
            return 0;
        }
        status = status * 10 + (line[i] - '0');
    }
    return status >= 100 ? status : 0;
}

bool pl_cli_response_header(const struct pl_cli_response *r, const char *name, struct pl_str *ret)
{
    const char *head = (const char *)r->head.data, *end = head + r->head.len;
    size_t name_len = strlen(name);

    for (const char *line = head; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));

        stop = stop ? stop : end;
        if ((size_t)(stop - line) > name_len && line[name_len] == ':' &&
            strncasecmp(line, name, name_len) == 0) {
            const char *from = line + name_len + 1;

            while (from < stop && (*from == ' ' || *from == '\t')) {
                from++;
            }
            while (stop > from && strchr(" \t\r", stop[-1])) {
                stop--;
            }
            *ret = (struct pl_str){from, (size_t)(stop - from)};
            return true;
        }
        line = stop + 1;
    }
    return false;
}

static bool parse_length(struct pl_str text, uint64_t *ret)
{
    uint64_t n = 0;

    if (text.len == 0 || text.len > 18) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.s[i] < '0' || text.s[i] > '9') {
            return false;
        }
        n = n * 10 + (uint64_t)(text.s[i] - '0');
    }
    *ret = n;
    return true;
}

static int begin_body(struct pl_cli_response *r)
{
    struct pl_http_head framing = {0};
    struct pl_str value;

    if (r->no_body || r->status == 204 || r->status == 304) {
        pl_http_body_init(&r->framing, &framing, BODY_MAX);
        return 0;
    }
    if (pl_cli_response_header(r, "transfer-encoding", &value)) {
        framing.chunked = true;
        if (value.len != 7 || strncasecmp(value.s, "chunked", 7) != 0) {
            return PL_ERR_PROTOCOL;
        }
    } else if (pl_cli_response_header(r, "content-length", &value)) {
        framing.has_content_length = true;
        if (!parse_length(value, &framing.content_length)) {
            return PL_ERR_PROTOCOL;
        }
    } else {
        r->until_close = true;
    }
    pl_http_body_init(&r->framing, &framing, BODY_MAX);
    return 0;
}

static bool head_is_whole(const struct pl_buf *head)
{
    return head->len >= 4 && memcmp(head->data + head->len - 4, "\r\n\r\n", 4) == 0;
}

/* 0 when the head is whole. A head is small: byte by byte keeps what follows it untouched. */
static int feed_head(struct pl_cli_response *r, const uint8_t *data, size_t len, size_t *ret_used)
{
    for (*ret_used = 0; *ret_used < len;) {
        if (r->head.len >= HEAD_MAX) {
            return PL_ERR_TOO_BIG;
        }
        pl_buf_append_byte(&r->head, data[(*ret_used)++]);
        if (!head_is_whole(&r->head)) {
            continue;
        }
        r->status = parse_status_line(&r->head);
        if (r->status == 0) {
            return PL_ERR_PROTOCOL;
        }
        if (r->status >= 200 || r->status == 101) {
            return r->status == 101 ? 0 : begin_body(r);
        }
        r->status = 0;
        pl_buf_consume(&r->head, r->head.len);
    }
    return PL_HTTP_MORE;
}

static int feed_until_close(struct pl_cli_response *r, const void *data, size_t len,
                            size_t *ret_used)
{
    if (len > BODY_MAX - r->body.len) {
        return PL_ERR_TOO_BIG;
    }
    pl_buf_append(&r->body, data, len);
    *ret_used = len;
    return PL_HTTP_MORE;
}

int pl_cli_response_feed(struct pl_cli_response *r, const void *data, size_t len, size_t *ret_used)
{
    size_t head_used = 0, body_used = 0;
    int rc = 0;

    *ret_used = 0;
    if (r->status == 0) {
        rc = feed_head(r, data, len, &head_used);
        *ret_used = head_used;
    }
    if (rc != 0 || r->status == 101) {
        return rc;
    }
    if (r->until_close) {
        rc = feed_until_close(r, (const char *)data + head_used, len - head_used, &body_used);
    } else {
        rc = pl_http_body_feed(&r->framing, (const char *)data + head_used, len - head_used,
                               &r->body, &body_used);
    }
    *ret_used += body_used;
    return rc;
}

int pl_cli_response_end(const struct pl_cli_response *r)
{
    return r->until_close ? 0 : PL_ERR_PROTOCOL;
}

int64_t pl_cli_response_retry_after_ms(const struct pl_cli_response *r)
{
    struct pl_str value;
    int64_t s;

    if (!pl_cli_response_header(r, "retry-after", &value) || value.len > 9 ||
        !pl_parse_cursor(value, &s)) {
        return -1;
    }
    return s * 1000;
}

/* application/msgpack or application/vnd.msgpack, with or without parameters */
static bool names_msgpack(struct pl_str type)
{
    static const char *const names[] = {"application/msgpack", "application/vnd.msgpack"};

    for (size_t i = 0; i < 2; i++) {
        if (type.len >= strlen(names[i]) && strncasecmp(type.s, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

enum pl_codec pl_cli_response_codec(const struct pl_cli_response *r)
{
    struct pl_str type;

    if (!pl_cli_response_header(r, "content-type", &type)) {
        return PL_JSON;
    }
    return names_msgpack(type) ? PL_MSGPACK : PL_JSON;
}

void pl_cli_response_done(struct pl_cli_response *r)
{
    pl_buf_done(&r->head);
    pl_buf_done(&r->body);
    *r = (struct pl_cli_response){0};
}
