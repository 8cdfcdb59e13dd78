#include "protocol/utf8.h"

#include <stdint.h>
#include <string.h>

/* What a lead byte demands: how many bytes in all, and between what the second lies. The range of
 * the second byte is where overlong forms, surrogates and code points beyond U+10FFFF are told
 * apart. */
struct lead {
    uint8_t first, last;
    uint8_t size;
    uint8_t second_min, second_max;
};

static const struct lead leads[] = {
    {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf}, {0xe1, 0xec, 3, 0x80, 0xbf},
    {0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf}, {0xf0, 0xf0, 4, 0x90, 0xbf},
    {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f},
};

static const struct lead *lead_of(uint8_t byte)
{
    for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++) {
        if (byte >= leads[i].first && byte <= leads[i].last) {
            return &leads[i];
        }
    }
    return NULL;
}

/* Bytes of the multi-byte character at s, 0 if it is none or not whole. */
static size_t character_size(const uint8_t *s, size_t len)
{
    const struct lead *lead = lead_of(s[0]);

    if (!lead || len < lead->size || s[1] < lead->second_min || s[1] > lead->second_max) {
        return 0;
    }
    for (size_t i = 2; i < lead->size; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return lead->size;
}

/* Most text on the wire is ASCII: eight bytes at a time. */
static size_t ascii_prefix(const uint8_t *s, size_t len)
{
    size_t i = 0;

    while (len - i >= sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, s + i, sizeof(word));
        if (word & UINT64_C(0x8080808080808080)) {
            break;
        }
        i += sizeof(word);
    }
    while (i < len && s[i] < 0x80) {
        i++;
    }
    return i;
}

size_t pl_utf8_valid_prefix(const char *s, size_t len)
{
    const uint8_t *bytes = (const uint8_t *)s;
    size_t i = 0;

    while (i < len) {
        size_t step =
            bytes[i] < 0x80 ? ascii_prefix(bytes + i, len - i) : character_size(bytes + i, len - i);

        if (step == 0) {
            break;
        }
        i += step;
    }
    return i;
}

bool pl_utf8_valid(const char *s, size_t len)
{
    return pl_utf8_valid_prefix(s, len) == len;
}
