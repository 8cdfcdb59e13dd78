#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "protocol/status.h"
#include "protocol/value_priv.h"
#include "server/base/alloc.h"

/* What is wrong in our own words: jansson's quote the input, and a payload never goes into an
 * answer or a log. */
static const struct {
    int status;
    const char *text;
} failures[] = {
    [json_error_out_of_memory] = {PL_ERR_NOMEM, "out of memory"},
    [json_error_stack_overflow] = {PL_ERR_MALFORMED, PL_TEXT_DEPTH},
    [json_error_invalid_utf8] = {PL_ERR_UTF8, PL_TEXT_UTF8},
    [json_error_premature_end_of_input] = {PL_ERR_MALFORMED, PL_TEXT_SHORT},
    [json_error_end_of_input_expected] = {PL_ERR_MALFORMED, PL_TEXT_LONG},
    [json_error_invalid_syntax] = {PL_ERR_MALFORMED, "not JSON"},
    [json_error_null_byte_in_key] = {PL_ERR_MALFORMED, PL_TEXT_NUL_KEY},
    [json_error_duplicate_key] = {PL_ERR_MALFORMED, PL_TEXT_KEY},
    [json_error_numeric_overflow] = {PL_ERR_MALFORMED, PL_TEXT_INTEGER},
};

static int fail_as_jansson(struct pl_decode_error *err, const json_error_t *why)
{
    const size_t code = (size_t)json_error_code(why);
    const size_t offset = why->position > 0 ? (size_t)why->position : 0;

    if (code >= sizeof(failures) / sizeof(failures[0]) || failures[code].text == NULL) {
        return pl_decode__fail(err, PL_ERR_MALFORMED, offset, "not JSON");
    }
    /* One code for two overflows. */
    if (code == json_error_numeric_overflow && strncmp(why->text, "real", 4) == 0) {
        return pl_decode__fail(err, PL_ERR_MALFORMED, offset, PL_TEXT_REAL);
    }
    return pl_decode__fail(err, failures[code].status, offset, failures[code].text);
}

/* jansson's tree -> ours. */
struct convert {
    struct pl_arena *arena;
    const char *refused; /* the first thing found that jansson accepts and we do not */
    unsigned depth;
};

static bool convert_value(struct convert *c, const json_t *from, struct pl_value *to);

static bool refuse(struct convert *c, const char *text)
{
    c->refused = text;
    return false;
}

static struct pl_str copy_str(struct convert *c, const char *s, size_t len)
{
    char *copy = pl_arena_alloc(c->arena, len);

    memcpy(copy, s, len);
    return (struct pl_str){copy, len};
}

static bool convert_array(struct convert *c, const json_t *from, struct pl_value *to)
{
    const size_t count = json_array_size(from);
    struct pl_value *items = pl_arena_alloc(c->arena, count * sizeof(*items));

    for (size_t i = 0; i < count; i++) {
        if (!convert_value(c, json_array_get(from, i), &items[i])) {
            return false;
        }
    }
    to->type = PL_ARRAY;
    to->u.array.items = items;
    to->u.array.count = count;
    return true;
}

/* Iterates in the order of the source. */
static bool convert_map(struct convert *c, json_t *from, struct pl_value *to)
{
    const size_t count = json_object_size(from);
    struct pl_member *members = pl_arena_alloc(c->arena, count * sizeof(*members));
    struct pl_member *member = members;

    for (void *it = json_object_iter(from); it; it = json_object_iter_next(from, it)) {
        member->key = copy_str(c, json_object_iter_key(it), json_object_iter_key_len(it));
        if (!convert_value(c, json_object_iter_value(it), &member->value)) {
            return false;
        }
        member++;
    }
    to->type = PL_MAP;
    to->u.map.members = members;
    to->u.map.count = count;
    return true;
}

static bool convert_container(struct convert *c, const json_t *from, struct pl_value *to)
{
    bool ok;

    if (c->depth == PL_MAX_DEPTH) {
        return refuse(c, PL_TEXT_DEPTH);
    }
    c->depth++;
    /* The iterator wants a json_t it may write to, but does not. */
    ok = json_is_array(from) ? convert_array(c, from, to) : convert_map(c, (json_t *)from, to);
    c->depth--;
    return ok;
}

static bool convert_integer(struct convert *c, const json_t *from, struct pl_value *to)
{
    to->type = PL_INT_VALUE;
    to->u.integer = json_integer_value(from);
    return (to->u.integer >= -PL_INT_MAX && to->u.integer <= PL_INT_MAX) ||
           refuse(c, PL_TEXT_INTEGER);
}

static bool convert_value(struct convert *c, const json_t *from, struct pl_value *to)
{
    switch (json_typeof(from)) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        return convert_container(c, from, to);
    case JSON_INTEGER:
        return convert_integer(c, from, to);
    case JSON_REAL:
        to->type = PL_REAL;
        to->u.real = json_real_value(from);
        return true;
    case JSON_STRING:
        to->type = PL_STRING;
        to->u.string = copy_str(c, json_string_value(from), json_string_length(from));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        to->type = PL_BOOL;
        to->u.boolean = json_is_true(from);
        return true;
    case JSON_NULL:
        break;
    }
    to->type = PL_NULL;
    return true;
}

static int decode(const uint8_t *data, size_t len, struct pl_arena *a, const struct pl_value **ret,
                  struct pl_decode_error *err)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    struct convert c = {.arena = a};
    json_error_t why;
    json_t *tree = json_loadb((const char *)data, len, flags, &why);
    struct pl_value *root;
    bool ok;

    if (!tree) {
        return fail_as_jansson(err, &why);
    }
    root = pl_arena_alloc(a, sizeof(*root));
    ok = convert_value(&c, tree, root);
    json_decref(tree);
    if (!ok) {
        return pl_decode__fail(err, PL_ERR_MALFORMED, len, c.refused);
    }
    *ret = root;
    return 0;
}

static void put_separator(struct pl_buf *out, enum pl_codec_place place, bool first)
{
    if (place == PL_PLACE_MEMBER_VALUE) {
        pl_buf_append_byte(out, ':');
    } else if (!first) {
        pl_buf_append_byte(out, ',');
    }
}

static void put_close(struct pl_buf *out, bool is_map)
{
    pl_buf_append_byte(out, is_map ? '}' : ']');
}

static void put_map(struct pl_buf *out, size_t member_count)
{
    (void)member_count;
    pl_buf_append_byte(out, '{');
}

static void put_array(struct pl_buf *out, size_t count)
{
    (void)count;
    pl_buf_append_byte(out, '[');
}

static bool needs_escape(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

static void escape(struct pl_buf *out, char c)
{
    static const char names[] = "\"\\\b\f\n\r\t";
    static const char shorts[] = "\"\\bfnrt";
    const char *found = c != '\0' ? strchr(names, c) : NULL;

    if (found) {
        pl_buf_append_byte(out, '\\');
        pl_buf_append_byte(out, (uint8_t)shorts[found - names]);
    } else {
        pl_buf_printf(out, "\\u%04x", (unsigned char)c);
    }
}

static void put_str(struct pl_buf *out, struct pl_str s)
{
    size_t start = 0;

    pl_buf_reserve(out, s.len + 2);
    pl_buf_append_byte(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (needs_escape(s.s[i])) {
            pl_buf_append(out, s.s + start, i - start);
            escape(out, s.s[i]);
            start = i + 1;
        }
    }
    pl_buf_append(out, s.s + start, s.len - start);
    pl_buf_append_byte(out, '"');
}

static void put_integer(struct pl_buf *out, int64_t n)
{
    char text[24];
    const int len = snprintf(text, sizeof(text), "%lld", (long long)n);

    pl_buf_append(out, text, (size_t)len);
}

/* The fewest digits that read back equal; 17 always do. 15 are never too many, as %g drops zeros at
 * the end, but for subnormal numbers, which hold fewer. */
static void put_real(struct pl_buf *out, double d)
{
    char text[40];
    char *comma;

    for (int digits = fabs(d) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text) - 2, "%.*g", digits, d);
        if (strtod(text, NULL) == d) {
            break;
        }
    }
    /* A program that called setlocale may have another radix character. */
    comma = strchr(text, ',');
    if (comma) {
        *comma = '.';
    }
    pl_buf_append_str(out, text);
    if (!strpbrk(text, ".e")) {
        pl_buf_append_str(out, ".0");
    }
}

static void put_boolean(struct pl_buf *out, bool b)
{
    pl_buf_append_str(out, b ? "true" : "false");
}

static void put_null(struct pl_buf *out)
{
    pl_buf_append_str(out, "null");
}

const struct pl_codec_ops pl_codec__json = {
    .decode = decode,
    .separate = put_separator,
    .close = put_close,
    .map = put_map,
    .array = put_array,
    .str = put_str,
    .integer = put_integer,
    .real = put_real,
    .boolean = put_boolean,
    .null = put_null,
};
