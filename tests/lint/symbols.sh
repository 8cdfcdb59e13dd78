#!/bin/sh
# symbols.sh BUILD_DIR: every external symbol of our libraries begins with pl_. What is not part of a module's contract
# is static.
set -eu
libraries=$(find "$1" -name 'libpl_*.a' | sort)
[ -n "$libraries" ] || { echo "symbols: no libpl_*.a under $1: build first"; exit 1; }
# shellcheck disable=SC2086 # a list of paths without blanks
bad=$(nm -A -g --defined-only $libraries |
    awk 'NF == 3 && $NF !~ /^(pl_|__odr_asan|__asan|__sanitizer|__gcov|__start_|__stop_)/ { print $1, $NF }' | sort -u)
[ -z "$bad" ] || { printf 'not prefixed with pl_:\n%s\n' "$bad"; exit 1; }
echo 'symbols: ok'
