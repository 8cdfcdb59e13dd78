#ifndef PL_BASE_ADDRESS_H
#define PL_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* IP addresses and networks, without ports. An IPv4 address is held as its IPv4-mapped IPv6 one
 * (::ffff:a.b.c.d), so the two spellings of a client are one address. */
struct pl_address {
    uint8_t bytes[16];
};

/* All addresses that share the first `bits` bits. */
struct pl_network {
    struct pl_address address; /* zero behind those bits */
    uint8_t bits;              /* 0..128: of an IPv4 network 96 more than its prefix says */
};

struct pl_networks {
    struct pl_network *items;
    size_t count;
};

enum {
    PL_ADDRESS_TEXT = 46 /* bytes of an address as text, with the NUL */
};

struct pl_address pl_address_v4(const uint8_t bytes[4]);
struct pl_address pl_address_v6(const uint8_t bytes[16]);

/* Exactly "192.0.2.1" or "2001:db8::1": no port, no brackets, no zone, no leading zeros. False: it
 * is none, and *ret is as it was. */
bool pl_address_parse(const char *text, size_t len, struct pl_address *ret);
/* The shortest usual spelling; an IPv4 address dotted. */
void pl_address_text(const struct pl_address *a, char ret[PL_ADDRESS_TEXT]);
/* 127.0.0.0/8 or ::1. */
bool pl_address_is_loopback(const struct pl_address *a);

/* "10.0.0.0/8", "2001:db8::/32", or one address. False, and *ret as it was: neither, a prefix that
 * is too long, or bits set behind it (10.0.0.1/8 is a slip of the pen). */
bool pl_network_parse(const char *text, size_t len, struct pl_network *ret);
bool pl_networks_have(const struct pl_networks *n, const struct pl_address *a);

#endif
