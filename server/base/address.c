#include "server/base/address.h"

#include <arpa/inet.h>
#include <string.h>

enum {
    V4_OFFSET = 12,
    V4_BITS = 96, /* of the prefix that makes an address IPv4 */
    ALL_BITS = 128,
};

static const uint8_t v4_prefix[V4_OFFSET] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_v4(const struct pl_address *a)
{
    return memcmp(a->bytes, v4_prefix, sizeof(v4_prefix)) == 0;
}

struct pl_address pl_address_v4(const uint8_t bytes[4])
{
    struct pl_address a;

    memcpy(a.bytes, v4_prefix, sizeof(v4_prefix));
    memcpy(a.bytes + V4_OFFSET, bytes, 4);
    return a;
}

struct pl_address pl_address_v6(const uint8_t bytes[16])
{
    struct pl_address a;

    memcpy(a.bytes, bytes, sizeof(a.bytes));
    return a;
}

bool pl_address_parse(const char *text, size_t len, struct pl_address *ret)
{
    char copy[PL_ADDRESS_TEXT];
    uint8_t bytes[16];

    if (len == 0 || len >= sizeof(copy) || memchr(text, '\0', len) != NULL) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (inet_pton(AF_INET, copy, bytes) == 1) {
        *ret = pl_address_v4(bytes);
    } else if (inet_pton(AF_INET6, copy, bytes) == 1) {
        *ret = pl_address_v6(bytes);
    } else {
        return false;
    }
    return true;
}

void pl_address_text(const struct pl_address *a, char ret[PL_ADDRESS_TEXT])
{
    if (is_v4(a)) {
        inet_ntop(AF_INET, a->bytes + V4_OFFSET, ret, PL_ADDRESS_TEXT);
    } else {
        inet_ntop(AF_INET6, a->bytes, ret, PL_ADDRESS_TEXT);
    }
}

bool pl_address_is_loopback(const struct pl_address *a)
{
    static const uint8_t one[16] = {[15] = 1};

    return is_v4(a) ? a->bytes[V4_OFFSET] == 127 : memcmp(a->bytes, one, sizeof(one)) == 0;
}

/* Decimal digits up to max; -1: something else. */
static int parse_bits(const char *text, size_t len, int max)
{
    int bits = 0;

    if (len == 0 || len > 3 || (len > 1 && text[0] == '0')) {
        return -1;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        bits = bits * 10 + (text[i] - '0');
    }
    return bits <= max ? bits : -1;
}

/* What a byte keeps of an address when so many bits count from the byte's first one on. */
static uint8_t mask(int bits)
{
    const int dropped = bits <= 0 ? 8 : bits >= 8 ? 0 : 8 - bits;

    return (uint8_t)(UINT8_MAX >> dropped << dropped);
}

bool pl_network_parse(const char *text, size_t len, struct pl_network *ret)
{
    const char *slash = len > 0 ? memchr(text, '/', len) : NULL;
    const size_t address_len = slash ? (size_t)(slash - text) : len;
    struct pl_network n = {.bits = ALL_BITS};

    if (!pl_address_parse(text, address_len, &n.address)) {
        return false;
    }
    if (slash) {
        /* By how it is written: ::ffff:10.0.0.0/104 counts its bits as IPv6 does. */
        const int above = memchr(text, ':', address_len) ? 0 : V4_BITS;
        const int bits = parse_bits(slash + 1, len - address_len - 1, ALL_BITS - above);

        if (bits < 0) {
            return false;
        }
        n.bits = (uint8_t)(bits + above);
    }
    for (int i = 0; i < 16; i++) {
        if (n.address.bytes[i] & (uint8_t)~mask(n.bits - 8 * i)) {
            return false;
        }
    }
    *ret = n;
    return true;
}

static bool network_has(const struct pl_network *n, const struct pl_address *a)
{
    for (int i = 0; i < 16; i++) {
        if ((a->bytes[i] & mask(n->bits - 8 * i)) != n->address.bytes[i]) {
            return false;
        }
    }
    return true;
}

bool pl_networks_have(const struct pl_networks *n, const struct pl_address *a)
{
    for (size_t i = 0; i < n->count; i++) {
        if (network_has(&n->items[i], a)) {
            return true;
        }
    }
    return false;
}
