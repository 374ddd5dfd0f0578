#!/bin/bash
# mbedtls.sh PREFIX [--tsan]
#
# Builds a static mbedTLS 3.6 LTS into PREFIX, for a Debian whose own is older (Debian 12 has
# 2.28, without TLS 1.3), or with ThreadSanitizer's instrumentation for the tsan preset. The
# source is Debian 13's package: fetched by apt from the mirror this machine is set up with, in a
# private apt state, and checked by apt against Debian's signed lists. Does nothing when PREFIX
# is up to date.
set -euo pipefail

prefix=$(realpath -m "$1")
flags="-fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE"
[ "${2:-}" = --tsan ] && flags="-fsanitize=thread -g -O1 -fPIE"
stamp=$prefix/.built-with
# The options that Debian's package sets beyond upstream's defaults, no more and no less, so that
# both behave alike. Threading is what lets handshakes run on a pool.
options="MBEDTLS_DEPRECATED_WARNING MBEDTLS_THREADING_C MBEDTLS_THREADING_PTHREAD MBEDTLS_CMAC_C MBEDTLS_SSL_DTLS_SRTP"
key="$options | $flags | $(gcc -dumpfullversion)"
[ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt's download user must be able to enter

uris=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed 's|/*$||' | sort -u)
main=$(grep -E '/debian$' <<<"$uris" | head -n 1 || true)
security=$(grep -E -- '-security$' <<<"$uris" | head -n 1 || true)
if [ -z "$main" ]; then
    echo "mbedtls.sh: apt on this machine knows no Debian mirror; run apt-get update first" >&2
    exit 1
fi
mkdir -p "$work"/{parts,lists/partial,archives/partial,source}
: >"$work/status"
entry() {
    printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' "$1" "$2" \
        /usr/share/keyrings/debian-archive-keyring.gpg
}
{
    entry "$main" trixie
    [ -z "$security" ] || entry "$security" trixie-security
} >"$work/parts/trixie.sources"
cat >"$work/apt.conf" <<EOF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$work/parts";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache::archives "$work/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "3";
EOF
export APT_CONFIG=$work/apt.conf
echo "mbedTLS 3.6: fetching the source"
apt-get -qq update
version=$(apt-cache showsrc --only-source mbedtls | sed -n 's/^Version: //p' | grep '^3\.6\.' | sort -V | tail -n 1)
(cd "$work/source" && apt-get -qq source --only-source "mbedtls=$version" >/dev/null)
source=$(echo "$work"/source/mbedtls-*/)

# Into the header itself, not by -D: programs that include the installed header must see the same
# structures as the library was built with.
for option in $options; do
    echo "#define $option"
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
