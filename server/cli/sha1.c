#include "server/cli/sha1.h"

#include <string.h>

static uint32_t rotate(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

static uint32_t round_of(int t, uint32_t b, uint32_t c, uint32_t d)
{
    if (t < 20) {
        return ((b & c) | (~b & d)) + 0x5a827999;
    }
    if (t < 40) {
        return (b ^ c ^ d) + 0x6ed9eba1;
    }
    return t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc : (b ^ c ^ d) + 0xca62c1d6;
}

static void add_block(uint32_t h[5], const uint8_t block[64])
{
    uint32_t w[80], s[5];

    for (size_t t = 0; t < 16; t++) {
        const uint8_t *p = block + 4 * t;

        w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    for (int t = 16; t < 80; t++) {
        w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    }
    memcpy(s, h, sizeof(s));
    for (int t = 0; t < 80; t++) {
        uint32_t next = rotate(s[0], 5) + round_of(t, s[1], s[2], s[3]) + s[4] + w[t];

        s[4] = s[3];
        s[3] = s[2];
        s[2] = rotate(s[1], 30);
        s[1] = s[0];
        s[0] = next;
    }
    for (int i = 0; i < 5; i++) {
        h[i] += s[i];
    }
}

void pl_cli_sha1(const void *data, size_t len, uint8_t out[20])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const uint8_t *from = data;
    uint8_t tail[128] = {0};
    size_t left = len, tail_len;

    for (; left >= 64; left -= 64, from += 64) {
        add_block(h, from);
    }
    if (left > 0) {
        memcpy(tail, from, left);
    }
    tail[left] = 0x80;
    tail_len = left < 56 ? 64 : 128;
    for (size_t i = 0; i < 8; i++) {
        tail[tail_len - 1 - i] = (uint8_t)((uint64_t)len * 8 >> 8 * i);
    }
    for (size_t i = 0; i < tail_len; i += 64) {
        add_block(h, tail + i);
    }
    for (int i = 0; i < 20; i++) {
        out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    }
}
