#ifndef PL_BUS_REDIS_LIBRARY_H
#define PL_BUS_REDIS_LIBRARY_H

#include <stddef.h>

/* The function library that nodes load into Redis: the text of server/bus/parley.lua, made into an
 * array by the build (redis_library.cmake). */
extern const char pl_redis_library[]; /* NUL-terminated, for printing; the NUL is not part of it */
extern const size_t pl_redis_library_len;

/* What parley_version answers. parley.lua says it, `local VERSION = …`; the build refuses another
 * number here. */
enum {
    PL_REDIS_LIBRARY_VERSION = 2
};

#endif
