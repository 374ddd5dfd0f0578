#!/bin/bash
# mbedtls.sh PREFIX [--tsan] [--check]
#
# Builds a static mbedTLS 3.6 LTS into PREFIX, for a Debian whose own is older (Debian 12 has
# 2.28, without TLS 1.3), or with ThreadSanitizer's instrumentation for the tsan preset. The
# source is Debian 13's package: fetched by apt from the mirror this machine is set up with, in a
# private apt state, and checked by apt against Debian's signed lists. Does nothing when PREFIX
# was built like this before; remove PREFIX to get a newer 3.6. --check only says whether it was.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=apt.sh
. "$here/apt.sh"

prefix=$(realpath -m "$1")
flags="-fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE"
check=
for word in "${@:2}"; do
    case $word in
        --tsan) flags="-fsanitize=thread -g -O1 -fPIE" ;;
        --check) check=yes ;;
        *) echo "usage: mbedtls.sh PREFIX [--tsan] [--check]" >&2; exit 2 ;;
    esac
done
stamp=$prefix/.built-with
# The options that Debian's package sets beyond upstream's defaults, no more and no less, so that
# both behave alike. Threading is what lets handshakes run on a pool.
options="MBEDTLS_DEPRECATED_WARNING MBEDTLS_THREADING_C MBEDTLS_THREADING_PTHREAD MBEDTLS_CMAC_C MBEDTLS_SSL_DTLS_SRTP"
key="$options | $flags | $(gcc -dumpfullversion 2>/dev/null || true)"
[ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && exit 0
[ -z "$check" ] || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "mbedTLS 3.6: fetching Debian's source"
apt_private "$work"
apt_private_sources "$work" trixie
version=$(apt-cache showsrc --only-source mbedtls | sed -n 's/^Version: //p' |
    grep '^3\.6\.' | sort -V | tail -n 1)
mkdir "$work/source"
(cd "$work/source" && apt-get -qq source --only-source "mbedtls=$version" >/dev/null)
source=$(echo "$work"/source/mbedtls-*/)

# Into the header itself, not by -D: programs that include the installed header must see the same
# structures as the library was built with.
for option in $options; do
    printf '#undef %s\n#define %s\n' "$option" "$option"
done >>"$source/include/mbedtls/mbedtls_config.h"

echo "mbedTLS $version: building"
rm -rf "$prefix"
if ! {
    cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib -DENABLE_PROGRAMS=OFF \
        -DENABLE_TESTING=OFF -DUSE_STATIC_MBEDTLS_LIBRARY=ON -DUSE_SHARED_MBEDTLS_LIBRARY=OFF \
        -DCMAKE_C_FLAGS="$flags" &&
        cmake --build "$work/build" --target install
} >"$work/log" 2>&1; then
    tail -n 30 "$work/log" >&2
    exit 1
fi
echo "$key" >"$stamp"
