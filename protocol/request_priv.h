#ifndef PL_PROTOCOL_REQUEST_PRIV_H
#define PL_PROTOCOL_REQUEST_PRIV_H

#include "protocol/request.h"

/* What the parsers of requests share: a request is a table of fields, each naming its member, how
 * its value is read and what is accepted, so the text of an error and the check it belongs to stand
 * in one row. */

struct pl_request_context {
    struct pl_arena *arena;
    const struct pl_request_limits *limits; /* NULL where nothing is limited */
    struct pl_request_error *err;
    bool user_channels; /* `channels` may name user:… too: where one publishes to, not what one is
                           granted */
};

/* Reads v into *ret, or PL_ERR_INVALID if it is not what is accepted. */
typedef int pl_request_read_fn(const struct pl_value *v, struct pl_arena *a, void *ret);

struct pl_request_field {
    const char *name;
    const char *accepts; /* "an integer": what the error's text says */
    pl_request_read_fn *read;
    size_t offset;     /* of what read fills, in the request's struct */
    size_t has_offset; /* of the bool that tells whether it was there; 0: there is none */
    bool required;
};

/* Fills *ret from the members of v that the table names. A member that is null counts as absent. */
int pl_request__fields(const struct pl_request_context *c, const struct pl_value *v,
                       const struct pl_request_field *fields, size_t count, void *ret);

/* The member, or NULL if it is absent or null. */
const struct pl_value *pl_request__member(const struct pl_value *v, const char *name);

/* Writes the text of the error and returns status. */
int pl_request__fail(const struct pl_request_context *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The readers. The texts beside them are what they accept. */
#define PL_ACCEPTS_USER_ID   "an integer, or a string of 1 to 128 bytes without control characters"
#define PL_ACCEPTS_NAME      "a string of 1 to 128 bytes without control characters"
#define PL_ACCEPTS_STRING    "a string that is not empty"
#define PL_ACCEPTS_POSITION  "an integer from 0 to 2^53-1"
#define PL_ACCEPTS_COMMUNITY "an integer from 1 to 2^53-1"
#define PL_ACCEPTS_CHANNEL \
    "a name of 1 to 128 of A-Z a-z 0-9 . _ : - that is not reserved (control, user:...)"
#define PL_ACCEPTS_MAP "a map"
pl_request_read_fn pl_request__read_user_id;   /* struct pl_str, normalised; article ids too */
pl_request_read_fn pl_request__read_name;      /* struct pl_str */
pl_request_read_fn pl_request__read_string;    /* struct pl_str */
pl_request_read_fn pl_request__read_position;  /* int64_t */
pl_request_read_fn pl_request__read_community; /* struct pl_str: 42 -> "community:42" */
pl_request_read_fn pl_request__read_channel;   /* struct pl_str */
pl_request_read_fn pl_request__read_target;    /* struct pl_str: a channel, or user:… */
pl_request_read_fn pl_request__read_map;       /* const struct pl_value * */

/* A list being read: room for every entry, sorted and made unique at the end. */
struct pl_request_list {
    struct pl_str *items;
    size_t count;
};

/* Reads v, an array of what read accepts, to the end of the list, which has room for it.
 * entry_accepts is the plural: "integers from 1 to 2^53-1". */
int pl_request__read_list(const struct pl_request_context *c, const char *name,
                          const struct pl_value *v, pl_request_read_fn *read,
                          const char *entries_accepted, struct pl_request_list *list);
struct pl_request_list pl_request__list_new(struct pl_arena *a, size_t room);
void pl_request__list_sort(struct pl_request_list *list);
bool pl_request__list_holds(const struct pl_request_list *sorted, struct pl_str s);

/* `<ids_key>` and `channels` of v, sorted and unique. PL_ERR_NO_CHANNEL if neither is there. */
int pl_request__channels(const struct pl_request_context *c, const struct pl_value *v,
                         const char *ids_key, struct pl_request_list *ret);

/* A limit of 0 is none. */
static inline bool pl_request__beyond(size_t n, size_t limit)
{
    return limit != 0 && n > limit;
}

#endif
