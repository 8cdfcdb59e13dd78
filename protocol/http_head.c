#include "protocol/http.h"

#include <string.h>

#include "protocol/http_priv.h"
#include "protocol/status.h"
#include "server/base/alloc.h"

/* A head is judged in two passes. The scan looks at every new byte once and knows only what a
 * byte and the two before it can tell: line ends, folds, control bytes, the end of the head.
 * Lines are then parsed as they become whole. What needs all lines (lengths, Host) comes last.
 * So the first wrong line decides the answer, however the bytes were cut into reads. */
struct parser {
    const char *data;
    size_t start;  /* of the request line */
    size_t window; /* bytes that are looked at: never more than max */
    const char *reason;
    struct pl_str authority; /* of an absolute-form target; len 0: none */
    size_t header_lines;     /* may exceed what head has room for */
    struct pl_http_head head;
};

struct scan {
    size_t at;        /* behind the head when whole, of the offending byte when fault is set */
    size_t lines_end; /* behind the last line end seen; 0: none seen */
    const char *fault;
    bool whole;
};

static int fail(struct parser *p, int status, const char *reason)
{
    p->reason = reason;
    return status;
}

static const char *byte_fault(const struct parser *p, size_t i)
{
    const char c = p->data[i];
    const int before = i > p->start ? p->data[i - 1] : 0;

    if (before == '\r') {
        return c == '\n' ? NULL : "a CR without LF";
    }
    if (c == '\n') {
        return "an LF without CR";
    }
    if (before == '\n' && pl_http__is_blank(c)) {
        return "a header line begins with a blank";
    }
    if (!pl_http__is_text(c) && c != '\r') {
        return "a control byte";
    }
    return NULL;
}

static struct scan scan(const struct parser *p, size_t scanned)
{
    struct scan s = {.at = scanned > p->start ? scanned : p->start};

    for (; s.at < p->window && !s.whole; s.at++) {
        s.fault = byte_fault(p, s.at);
        if (s.fault != NULL) {
            break;
        }
        if (p->data[s.at] == '\n') {
            s.lines_end = s.at + 1;
            s.whole = s.at >= p->start + 3 && p->data[s.at - 2] == '\n';
        }
    }
    return s;
}

static bool request_line_too_long(const struct parser *p, const struct scan *s, size_t scanned,
                                  size_t limit)
{
    if (p->window - p->start <= limit || scanned > p->start + limit) {
        return false; /* not that far yet, or judged by an earlier call */
    }
    if (s->fault != NULL && s->at <= p->start + limit) {
        return false;
    }
    return memchr(p->data + p->start, '\r', limit + 1) == NULL;
}

static enum pl_http_method method_of(struct pl_str s)
{
    static const struct {
        const char *name;
        enum pl_http_method method;
    } known[] = {
        {"GET", PL_HTTP_GET},         {"HEAD", PL_HTTP_HEAD},     {"POST", PL_HTTP_POST},
        {"PUT", PL_HTTP_PUT},         {"DELETE", PL_HTTP_DELETE}, {"PATCH", PL_HTTP_PATCH},
        {"OPTIONS", PL_HTTP_OPTIONS},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i].name) == s.len && memcmp(known[i].name, s.s, s.len) == 0) {
            return known[i].method;
        }
    }
    return PL_HTTP_OTHER;
}

static int parse_version(struct parser *p, struct pl_str version)
{
    const char *s = version.s;

    if (version.len != 8 || memcmp(s, "HTTP/", 5) != 0 || !pl_http__is_digit(s[5]) || s[6] != '.' ||
        !pl_http__is_digit(s[7])) {
        return fail(p, PL_ERR_PROTOCOL, "the request line does not end in an HTTP version");
    }
    if (s[5] != '1' || s[7] > '1') {
        return fail(p, PL_ERR_HTTP_VERSION, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    p->head.minor = s[7] - '0';
    return PL_OK;
}

/* "#" is no part of a target; parsers disagree about whether it ends the path. */
static bool is_target(struct pl_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.s[i] < 0x21 || s.s[i] > 0x7e || s.s[i] == '#') {
            return false;
        }
    }
    return s.len > 0;
}

/* Reduces "http://host/path" to "/path". False: not absolute-form. */
static bool take_authority(struct parser *p, struct pl_str *target)
{
    struct pl_str rest = *target;
    size_t len = 0;

    if (!pl_http__starts_with(rest, "http://") && !pl_http__starts_with(rest, "https://")) {
        return false;
    }
    (void)pl_http__take_until(&rest, '/');
    (void)pl_http__take_until(&rest, '/');
    while (len < rest.len && rest.s[len] != '/' && rest.s[len] != '?') {
        len++;
    }
    p->authority = (struct pl_str){rest.s, len};
    *target = (struct pl_str){rest.s + len, rest.len - len};
    return len > 0;
}

static int parse_target(struct parser *p, struct pl_str target)
{
    struct pl_http_head *h = &p->head;

    if (!is_target(target)) {
        return fail(p, PL_ERR_PROTOCOL, "the target is empty or holds a forbidden byte");
    }
    if (target.s[0] != '/' &&
        !(target.len == 1 && target.s[0] == '*' && h->method == PL_HTTP_OPTIONS) &&
        !take_authority(p, &target)) {
        return fail(p, PL_ERR_PROTOCOL, "the target is not a path");
    }
    h->path = pl_http__take_until(&target, '?');
    h->query = target;
    if (h->path.len == 0) {
        h->path = PL_LIT("/");
    }
    return PL_OK;
}

static int parse_request_line(struct parser *p, struct pl_str line)
{
    const struct pl_str method = pl_http__take_until(&line, ' ');
    const struct pl_str target = pl_http__take_until(&line, ' ');
    int err;

    if (!pl_http__is_token(method)) {
        return fail(p, PL_ERR_PROTOCOL, "the request line does not begin with a method");
    }
    /* Another version may have another idea of a target. */
    err = parse_version(p, line);
    if (err != 0) {
        return err;
    }
    p->head.method = method_of(method);
    return parse_target(p, target);
}

static int parse_header_line(struct parser *p, struct pl_str line)
{
    const bool has_colon = memchr(line.s, ':', line.len) != NULL;
    const struct pl_str name = pl_http__take_until(&line, ':');

    if (!has_colon || !pl_http__is_token(name)) {
        return fail(p, PL_ERR_PROTOCOL, "a header line does not begin with a name and a colon");
    }
    if (p->header_lines++ < PL_HTTP_MAX_HEADERS) {
        p->head.headers[p->head.header_count++] =
            (struct pl_http_header){.name = name, .value = pl_http__trim(line)};
    }
    return PL_OK;
}

/* [from, to) holds whole lines. */
static int parse_lines(struct parser *p, size_t from, size_t to)
{
    int err = PL_OK;

    while (from < to && err == PL_OK) {
        const char *line = p->data + from;
        const char *cr = memchr(line, '\r', to - from);
        const struct pl_str s = {line, (size_t)(cr - line)};

        err = from == p->start ? parse_request_line(p, s) : parse_header_line(p, s);
        from += s.len + 2;
    }
    return err;
}

/* Where the line begins that was unfinished when `scanned` bytes had been looked at. */
static size_t unfinished_line(const struct parser *p, size_t scanned)
{
    while (scanned > p->start && p->data[scanned - 1] != '\n') {
        scanned--;
    }
    return scanned > p->start ? scanned : p->start;
}

static bool is_host(struct pl_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.s[i] <= 0x20 || s.s[i] >= 0x7f || strchr("/?#@,\\\"<>^`{|}", s.s[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static int check_host(struct parser *p)
{
    const size_t count = pl_http_header_count(&p->head, "host");
    const struct pl_str *host = pl_http_header(&p->head, "host");

    if (count > 1 || (count == 0 && p->head.minor == 1)) {
        return fail(p, PL_ERR_PROTOCOL, "exactly one Host header is needed");
    }
    if (host != NULL && !is_host(*host)) {
        return fail(p, PL_ERR_PROTOCOL, "the Host header is no host");
    }
    /* Whoever routes by the one must not meet us reading the other. */
    if (p->authority.len > 0 && (host == NULL || !pl_str_eq(p->authority, *host))) {
        return fail(p, PL_ERR_PROTOCOL, "the target names another host than the Host header");
    }
    return PL_OK;
}

static int check_content_length(struct parser *p)
{
    struct pl_http_head *h = &p->head;
    const struct pl_str *value = pl_http_header(h, "content-length");

    if (value == NULL) {
        return PL_OK;
    }
    if (pl_http_header_count(h, "content-length") > 1) {
        return fail(p, PL_ERR_PROTOCOL, "Content-Length is repeated");
    }
    /* 18 digits always fit. */
    if (value->len == 0 || value->len > 18) {
        return fail(p, PL_ERR_PROTOCOL, "Content-Length is not a sane number");
    }
    for (size_t i = 0; i < value->len; i++) {
        if (!pl_http__is_digit(value->s[i])) {
            return fail(p, PL_ERR_PROTOCOL, "Content-Length is not a number");
        }
        h->content_length = h->content_length * 10 + (uint64_t)(value->s[i] - '0');
    }
    h->has_content_length = true;
    return PL_OK;
}

/* Is it a list of codings that could be right elsewhere: tokens, "chunked" at most as the last? */
static bool is_foreign_coding(const struct pl_http_head *h)
{
    struct pl_http__list it = {.head = h, .name = "transfer-encoding"};
    struct pl_str item;
    bool chunked = false;
    size_t count = 0;

    while (pl_http__list_next(&it, &item)) {
        if (chunked || !pl_http__is_token(item)) {
            return false;
        }
        chunked = pl_http__equals(item, "chunked");
        count++;
    }
    return count > (chunked ? 1 : 0);
}

static int check_transfer_encoding(struct parser *p)
{
    struct pl_http_head *h = &p->head;
    const struct pl_str *value = pl_http_header(h, "transfer-encoding");

    if (value == NULL) {
        return PL_OK;
    }
    if (h->minor == 0) {
        return fail(p, PL_ERR_PROTOCOL, "Transfer-Encoding in HTTP/1.0");
    }
    if (h->has_content_length) {
        return fail(p, PL_ERR_PROTOCOL, "Transfer-Encoding together with Content-Length");
    }
    h->chunked =
        pl_http__equals(*value, "chunked") && pl_http_header_count(h, "transfer-encoding") == 1;
    if (h->chunked) {
        return PL_OK;
    }
    if (is_foreign_coding(h)) {
        return fail(p, PL_ERR_NOT_IMPLEMENTED, "the only transfer coding spoken here is chunked");
    }
    return fail(p, PL_ERR_PROTOCOL, "Transfer-Encoding is not exactly \"chunked\"");
}

static void read_connection(struct pl_http_head *h)
{
    const bool close = pl_http_header_has_token(h, "connection", "close");

    h->keep_alive =
        !close && (h->minor == 1 || pl_http_header_has_token(h, "connection", "keep-alive"));
    h->expect_continue = h->minor == 1 && pl_http_header_has_token(h, "expect", "100-continue");
}

static int finish(struct parser *p)
{
    int err;

    if (p->header_lines > PL_HTTP_MAX_HEADERS) {
        return fail(p, PL_ERR_HEADERS_TOO_BIG, "too many header lines");
    }
    err = check_host(p);
    if (err == 0) {
        err = check_content_length(p);
    }
    if (err == 0) {
        err = check_transfer_encoding(p);
    }
    read_connection(&p->head);
    return err;
}

static int parse(struct parser *p, size_t scanned, size_t max, size_t *ret_size)
{
    const struct scan s = scan(p, scanned);
    int err = PL_OK;

    if (request_line_too_long(p, &s, scanned, max / 2)) {
        return fail(p, PL_ERR_URI_TOO_LONG, "the request line is too long");
    }
    if (s.whole) {
        err = parse_lines(p, p->start, s.at - 2);
    } else if (s.lines_end > 0) {
        err = parse_lines(p, unfinished_line(p, scanned), s.lines_end);
    }
    if (err != 0) {
        return err;
    }
    if (s.fault != NULL) {
        return fail(p, PL_ERR_PROTOCOL, s.fault);
    }
    if (s.whole) {
        *ret_size = s.at;
        return finish(p);
    }
    if (p->window == max) {
        return fail(p, PL_ERR_HEADERS_TOO_BIG, "the request head is too big");
    }
    return PL_HTTP_MORE;
}

int pl_http_parse_head(const char *data, size_t len, size_t scanned, size_t max,
                       struct pl_http_head *ret, size_t *ret_size, const char **ret_reason)
{
    struct parser p = {.data = data, .window = len < max ? len : max};
    size_t size = 0;
    int err;

    PL_ASSERT(scanned <= len);
    if (p.window >= 2 && data[0] == '\r' && data[1] == '\n') {
        p.start = 2;
    }
    err = parse(&p, scanned < p.window ? scanned : p.window, max, &size);
    if (err < 0 && ret_reason != NULL) {
        *ret_reason = p.reason;
    }
    if (err == 0) {
        *ret = p.head;
        *ret_size = size;
    }
    return err;
}
