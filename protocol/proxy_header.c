#include "protocol/proxy_header.h"

#include <string.h>

#include "protocol/http_priv.h"
#include "protocol/status.h"

static const uint8_t v1_start[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_start[] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum {
    V2_HEAD = sizeof(v2_start) + 4, /* then: version and command, family, length in two bytes */
    V2_VERSION = 0x20,
};

/* What a version 1 header or a family of version 2 tells of. */
enum family {
    NO_FAMILY,
    V4,
    V6
};

static int fail(const char **ret_reason, const char *reason)
{
    if (ret_reason) {
        *ret_reason = reason;
    }
    return PL_ERR_PROTOCOL;
}

static bool begins(const uint8_t *data, size_t len, const uint8_t *start, size_t start_len)
{
    return memcmp(data, start, len < start_len ? len : start_len) == 0;
}

/* ---- version 1: "PROXY TCP4 source destination port port\r\n" ---- */

static bool is_port(struct pl_str s)
{
    int port = 0;

    if (s.len == 0 || s.len > 5 || (s.len > 1 && s.s[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!pl_http__is_digit(s.s[i])) {
            return false;
        }
        port = port * 10 + (s.s[i] - '0');
    }
    return port <= UINT16_MAX;
}

/* TCP6 may bring an IPv4 address mapped, TCP4 none with a colon. */
static bool take_address(struct pl_str *line, enum family family, struct pl_address *ret)
{
    const struct pl_str s = pl_http__take_until(line, ' ');
    const bool has_colon = s.len > 0 && memchr(s.s, ':', s.len) != NULL;

    return has_colon == (family == V6) && pl_address_parse(s.s, s.len, ret);
}

static int parse_line(struct pl_str line, struct pl_proxy_header *ret, const char **ret_reason)
{
    const struct pl_str name = pl_http__take_until(&line, ' ');
    enum family family = NO_FAMILY;
    struct pl_address source, destination;

    if (pl_str_eq(name, PL_LIT("UNKNOWN"))) {
        ret->command = PL_PROXY_LOCAL; /* and whatever else the line says is to be ignored */
        return PL_OK;
    }
    if (pl_str_eq(name, PL_LIT("TCP4"))) {
        family = V4;
    } else if (pl_str_eq(name, PL_LIT("TCP6"))) {
        family = V6;
    }
    if (family == NO_FAMILY) {
        return fail(ret_reason, "neither TCP4, TCP6 nor UNKNOWN");
    }
    if (!take_address(&line, family, &source) || !take_address(&line, family, &destination)) {
        return fail(ret_reason, "not the addresses of that family");
    }
    if (!is_port(pl_http__take_until(&line, ' ')) || !is_port(line)) {
        return fail(ret_reason, "not two ports");
    }
    ret->command = PL_PROXY_CLIENT;
    ret->client = source;
    return PL_OK;
}

static int parse_v1(const uint8_t *data, size_t len, struct pl_proxy_header *ret,
                    const char **ret_reason)
{
    const size_t within = len < PL_PROXY_MAX_V1 ? len : PL_PROXY_MAX_V1;
    const uint8_t *cr = memchr(data, '\r', within);
    const size_t at = cr ? (size_t)(cr - data) : within;

    if (memchr(data, '\n', at) != NULL || memchr(data, '\0', at) != NULL) {
        return fail(ret_reason, "the line holds what no line may");
    }
    if (at + 1 >= PL_PROXY_MAX_V1) {
        return fail(ret_reason, "the line is too long");
    }
    if (!cr || at + 1 == len) {
        return PL_PROXY_MORE;
    }
    if (data[at + 1] != '\n') {
        return fail(ret_reason, "CR without LF");
    }
    ret->size = at + 2;
    return parse_line((struct pl_str){(const char *)data + sizeof(v1_start), at - sizeof(v1_start)},
                      ret, ret_reason);
}

/* ---- version 2 ---- */

/* By the byte that names family and transport. Both of the latter are taken: what is forwarded here
 * is a stream, whatever it came by. */
static const struct {
    uint8_t byte;
    enum family family;
    uint16_t size; /* of the addresses and ports */
} families[] = {
    {0x00, NO_FAMILY, 0},                           /* unspecified */
    {0x11, V4, 12},         {0x12, V4, 12},         /* IPv4 */
    {0x21, V6, 36},         {0x22, V6, 36},         /* IPv6 */
    {0x31, NO_FAMILY, 216}, {0x32, NO_FAMILY, 216}, /* Unix */
};

/* What can be said by as much of the first 16 bytes as is there. */
static int check_v2(const uint8_t *data, size_t len, size_t *ret_row, const char **ret_reason)
{
    size_t row = 0;
    size_t size;

    if (len > sizeof(v2_start) && data[12] != (V2_VERSION | PL_PROXY_LOCAL) &&
        data[12] != (V2_VERSION | PL_PROXY_CLIENT)) {
        return fail(ret_reason, "neither version 2's LOCAL nor PROXY");
    }
    if (len <= 13) {
        return PL_PROXY_MORE;
    }
    while (row < sizeof(families) / sizeof(families[0]) && families[row].byte != data[13]) {
        row++;
    }
    if (row == sizeof(families) / sizeof(families[0])) {
        return fail(ret_reason, "an unknown family or transport");
    }
    if (len < V2_HEAD) {
        return PL_PROXY_MORE;
    }
    size = (size_t)data[14] << 8 | data[15];
    if (size > PL_PROXY_MAX_V2 - V2_HEAD) {
        return fail(ret_reason, "it is too long");
    }
    if (data[12] != (V2_VERSION | PL_PROXY_LOCAL) && size < families[row].size) {
        return fail(ret_reason, "too short for its addresses");
    }
    *ret_row = row;
    return V2_HEAD + size > len ? PL_PROXY_MORE : PL_OK;
}

static int parse_v2(const uint8_t *data, size_t len, struct pl_proxy_header *ret,
                    const char **ret_reason)
{
    size_t row = 0;
    const int status = check_v2(data, len, &row, ret_reason);

    if (status != PL_OK) {
        return status;
    }
    ret->size = V2_HEAD + ((size_t)data[14] << 8 | data[15]);
    ret->command = PL_PROXY_LOCAL;
    if (data[12] == (V2_VERSION | PL_PROXY_CLIENT) && families[row].family != NO_FAMILY) {
        ret->command = PL_PROXY_CLIENT;
        ret->client = families[row].family == V4 ? pl_address_v4(data + V2_HEAD)
                                                 : pl_address_v6(data + V2_HEAD);
    }
    return PL_OK;
}

int pl_proxy_header_parse(const void *data, size_t len, struct pl_proxy_header *ret,
                          const char **ret_reason)
{
    struct pl_proxy_header h = {0};
    int status = PL_PROXY_MORE;

    if (len == 0) {
        return PL_PROXY_MORE;
    }
    if (begins(data, len, v1_start, sizeof(v1_start))) {
        status = len < sizeof(v1_start) ? PL_PROXY_MORE : parse_v1(data, len, &h, ret_reason);
    } else if (begins(data, len, v2_start, sizeof(v2_start))) {
        status = parse_v2(data, len, &h, ret_reason);
    } else {
        return fail(ret_reason, "it does not begin as one");
    }
    if (status == PL_OK) {
        *ret = h;
    }
    return status;
}
