#!/bin/sh
# Every C file is as clang-format 14 writes it; other versions write it otherwise, so only that one is asked.
# format.sh --fix rewrites instead (make format).
set -eu
cd "$(dirname "$0")/../.."
tool=clang-format-14
command -v $tool >/dev/null || { echo "format: $tool is missing (cmake/packages.sh test)"; exit 1; }
sources() {
    find protocol server tests bench -name node_modules -prune -o -name '*.[ch]' -print0
}
case ${1-} in
--fix) sources | xargs -0 $tool -i && exit ;;
'') ;;
*) echo "format: what is $1?" && exit 2 ;;
esac
if ! found=$(sources | xargs -0 $tool --dry-run --Werror 2>&1); then
    printf '%s\n' "$found" | sed -n 's/^\([^ :]*\):\([0-9]*\):[0-9]*: error:.*/\1:\2/p' | sort -u | head -n 50
    echo 'format: make format puts these right'
    exit 1
fi
echo 'format: ok'
