#!/bin/sh
# Installs the Debian 12 packages that are missing. When none is, it does nothing and needs no rights.
#
#   cmake/packages.sh run            to build and run parleyd
#   cmake/packages.sh run test       to run the tests besides
#   cmake/packages.sh run bench      to measure Parley beside other servers
#   cmake/packages.sh --list test    only prints the names
#
# command/package is wanted unless the command is there, whoever installed it: a newer Node.js, say, is left alone.
set -eu

run='make gcc libc6-dev cmake ninja-build pkg-config/pkgconf curl/curl
    libwebsockets-dev libwebsockets-evlib-uv libuv1-dev libhiredis-dev libjwt-dev
    libjansson-dev libmsgpack-dev libinih-dev zlib1g-dev'

test='clang/clang libclang-rt-14-dev clang-format-14/clang-format-14
    libcmocka-dev libssl-dev openssl/openssl
    python3 python3-websockets python3-msgpack python3-jwt
    node/nodejs npm/npm chromium/chromium fonts-dejavu-core
    nginx-light haproxy prometheus/prometheus
    systemd-analyze/systemd mandoc/mandoc man/man-db dpkg-shlibdeps/dpkg-dev file/file python3-yaml
    redis-server/redis-server redis-sentinel/redis-sentinel python3-redis python3-django'

bench='nginx-light libnginx-mod-nchan node/nodejs npm/npm python3 python3-tornado python3-jwt python3-msgpack
    redis-server/redis-server'

die() {
    printf 'packages.sh: %s\n' "$1" >&2
    exit 1
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing() {
    for entry; do
        case $entry in
        */*) command -v "${entry%/*}" >/dev/null || echo "${entry#*/}" ;;
        *) is_installed "$entry" || echo "$entry" ;;
        esac
    done
}

list=false
wanted=
for name; do
    case $name in
    --list) list=true ;;
    run) wanted="$wanted $run" ;;
    test) wanted="$wanted $test" ;;
    bench) wanted="$wanted $bench" ;;
    *) die "unknown list: $name (run, test, bench)" ;;
    esac
done
[ -n "$wanted" ] || die 'which list: run, test, bench?'

if $list; then
    for entry in $wanted; do echo "${entry#*/}"; done
    exit
fi
if ! command -v dpkg-query >/dev/null; then
    echo "packages.sh: not a Debian, so nothing is installed. Needed: $("$0" --list "$@" | tr '\n' ' ')" >&2
    exit 0
fi

# shellcheck disable=SC2086 # words are what is meant
packages=$(missing $wanted | sort -u | tr '\n' ' ')
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    die "missing packages, and neither root nor sudo to install them. As root: apt-get install $packages"
fi
echo "Installing: $packages"
apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null
}
# --no-remove: better to stop than to take something away for what we want.
# shellcheck disable=SC2086
if ! { apt update && apt install --yes --no-install-recommends --no-remove $packages; }; then
    die "apt-get could not install: $packages"
fi
