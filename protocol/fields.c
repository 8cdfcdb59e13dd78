#include "protocol/request_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/status.h"

enum {
    NAME_MAX_BYTES = 128
};

int pl_request__fail(const struct pl_request_context *c, int status, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(c->err->text, sizeof(c->err->text), fmt, args);
    va_end(args);
    return status;
}

const struct pl_value *pl_request__member(const struct pl_value *v, const char *name)
{
    const struct pl_value *member = pl_value_get(v, name);

    return member && member->type != PL_NULL ? member : NULL;
}

static int read_field(const struct pl_request_context *c, const struct pl_value *v,
                      const struct pl_request_field *f, char *ret)
{
    const struct pl_value *member = pl_request__member(v, f->name);
    int status = PL_ERR_INVALID;

    if (!member && !f->required) {
        return 0;
    }
    if (member) {
        status = f->read(member, c->arena, ret + f->offset);
    }
    if (status != 0) {
        return pl_request__fail(c, status, "%s: %s", f->name, f->accepts);
    }
    if (f->has_offset != 0) {
        *(bool *)(ret + f->has_offset) = true;
    }
    return 0;
}

int pl_request__fields(const struct pl_request_context *c, const struct pl_value *v,
                       const struct pl_request_field *fields, size_t count, void *ret)
{
    for (size_t i = 0; i < count; i++) {
        int status = read_field(c, v, &fields[i], ret);

        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static struct pl_str format_id(struct pl_arena *a, const char *prefix, int64_t id)
{
    char text[40];
    const int len = snprintf(text, sizeof(text), "%s%" PRId64, prefix, id);
    char *copy = pl_arena_alloc(a, (size_t)len);

    memcpy(copy, text, (size_t)len);
    return (struct pl_str){copy, (size_t)len};
}

static bool is_name(struct pl_str s)
{
    if (s.len < 1 || s.len > NAME_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.s[i] < 0x20 || s.s[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

int pl_request__read_name(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    (void)a;
    if (v->type != PL_STRING || !is_name(v->u.string)) {
        return PL_ERR_INVALID;
    }
    *(struct pl_str *)ret = v->u.string;
    return 0;
}

int pl_request__read_user_id(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    if (v->type != PL_INT_VALUE) {
        return pl_request__read_name(v, a, ret);
    }
    *(struct pl_str *)ret = format_id(a, "", v->u.integer);
    return 0;
}

int pl_parse_user_id(const struct pl_value *v, struct pl_arena *a, struct pl_str *ret)
{
    return v ? pl_request__read_user_id(v, a, ret) : PL_ERR_INVALID;
}

int pl_request__read_string(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    (void)a;
    if (v->type != PL_STRING || v->u.string.len == 0) {
        return PL_ERR_INVALID;
    }
    *(struct pl_str *)ret = v->u.string;
    return 0;
}

int pl_request__read_position(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    (void)a;
    if (v->type != PL_INT_VALUE || v->u.integer < 0) {
        return PL_ERR_INVALID;
    }
    *(int64_t *)ret = v->u.integer;
    return 0;
}

int pl_request__read_map(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    (void)a;
    if (v->type != PL_MAP) {
        return PL_ERR_INVALID;
    }
    *(const struct pl_value **)ret = v;
    return 0;
}

int pl_request__read_community(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    if (v->type != PL_INT_VALUE || v->u.integer < 1) {
        return PL_ERR_INVALID;
    }
    *(struct pl_str *)ret = format_id(a, "community:", v->u.integer);
    return 0;
}

bool pl_parse_cursor(struct pl_str s, int64_t *ret)
{
    int64_t n = 0;

    if (s.len < 1 || s.len > 16) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.s[i] < '0' || s.s[i] > '9') {
            return false;
        }
        n = 10 * n + (s.s[i] - '0');
    }
    if (n > PL_INT_MAX) {
        return false;
    }
    *ret = n;
    return true;
}

static bool has_prefix(struct pl_str s, struct pl_str prefix)
{
    return s.len >= prefix.len && memcmp(s.s, prefix.s, prefix.len) == 0;
}

static bool is_channel_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == ':' || c == '-';
}

static bool is_channel(struct pl_str s)
{
    const struct pl_str community = PL_LIT("community:");
    int64_t id;

    if (s.len < 1 || s.len > NAME_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!is_channel_byte(s.s[i])) {
            return false;
        }
    }
    if (has_prefix(s, community)) {
        struct pl_str number = {s.s + community.len, s.len - community.len};

        return pl_parse_cursor(number, &id) && number.s[0] != '0';
    }
    return !pl_str_eq(s, PL_LIT("control")) && !pl_str_eq(s, PL_LIT("user:"));
}

int pl_request__read_channel(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    if (v->type == PL_STRING && has_prefix(v->u.string, PL_LIT("user:"))) {
        return PL_ERR_INVALID;
    }
    return pl_request__read_target(v, a, ret);
}

int pl_request__read_target(const struct pl_value *v, struct pl_arena *a, void *ret)
{
    (void)a;
    if (v->type != PL_STRING || !is_channel(v->u.string)) {
        return PL_ERR_INVALID;
    }
    *(struct pl_str *)ret = v->u.string;
    return 0;
}

struct pl_request_list pl_request__list_new(struct pl_arena *a, size_t room)
{
    return (struct pl_request_list){pl_arena_alloc(a, room * sizeof(struct pl_str)), 0};
}

int pl_request__read_list(const struct pl_request_context *c, const char *name,
                          const struct pl_value *v, pl_request_read_fn *read,
                          const char *entries_accepted, struct pl_request_list *list)
{
    bool ok = v->type == PL_ARRAY;

    for (size_t i = 0; ok && i < v->u.array.count; i++) {
        ok = read(&v->u.array.items[i], c->arena, &list->items[list->count]) == 0;
        list->count += ok;
    }
    return ok ? 0
              : pl_request__fail(c, PL_ERR_INVALID, "%s: an array of %s", name, entries_accepted);
}

static int compare(const void *left, const void *right)
{
    return pl_str_compare(*(const struct pl_str *)left, *(const struct pl_str *)right);
}

void pl_request__list_sort(struct pl_request_list *list)
{
    size_t kept = 0;

    if (list->count == 0) {
        return;
    }
    qsort(list->items, list->count, sizeof(list->items[0]), compare);
    for (size_t i = 1; i < list->count; i++) {
        if (!pl_str_eq(list->items[i], list->items[kept])) {
            list->items[++kept] = list->items[i];
        }
    }
    list->count = kept + 1;
}

bool pl_request__list_holds(const struct pl_request_list *sorted, struct pl_str s)
{
    return sorted->count > 0 &&
           bsearch(&s, sorted->items, sorted->count, sizeof(sorted->items[0]), compare) != NULL;
}
