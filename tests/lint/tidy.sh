#!/bin/sh
# tidy.sh BUILD_DIR [FILE...]: clang-tidy 14 on the sources of that build tree, one process per file. Minutes, so by hand
# (make lint LINT_TIDY=1) and not among the tests.
set -eu
cd "$(dirname "$0")/../.."
build=$1
shift
[ -f "$build/compile_commands.json" ] || { echo "tidy: no compile_commands.json in $build: configure first"; exit 1; }
command -v clang-tidy-14 >/dev/null || { echo 'tidy: clang-tidy-14 is missing (apt-get install clang-tidy-14)'; exit 1; }
[ $# -gt 0 ] || set -- protocol server
# The compile commands are gcc's: a warning that clang does not know is not a finding.
find "$@" -name '*.c' -print0 |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option
echo 'tidy: ok'
