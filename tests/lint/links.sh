#!/bin/sh
# links.sh BUILD_DIR: base, protocol and core do no I/O of their own. None of their objects needs a symbol of
# libwebsockets, libuv or hiredis, and none needs a socket, a file descriptor to wait for, or (outside base) a clock.
set -eu
network='(lws_|uv_|redis)'
io='(socket|connect|bind|listen|accept4?|send|sendto|sendmsg|recv|recvfrom|recvmsg|select|poll|ppoll|epoll_.*)$'
clock='(time|gettimeofday|clock_gettime|sleep|usleep|nanosleep|clock_nanosleep)$'

# needs LIBRARY PATTERN: prints the undefined symbols that match.
needs() {
    file=$(find "$1" -name "libpl_$2.a" | head -n 1)
    [ -n "$file" ] || { echo "links: no libpl_$2.a under $1: build first"; return; }
    nm -A -u "$file" | awk -v pattern="^$3" '{ sub(/@.*/, "", $NF) } $NF ~ pattern { print $1, "needs", $NF }'
}

bad=$(
    needs "$1" base "$network|^$io"
    needs "$1" protocol "$network|^$io|^$clock"
    needs "$1" core "$network|^$io|^$clock"
)
[ -z "$bad" ] || { printf '%s\n' "$bad"; exit 1; }
echo 'links: ok'
