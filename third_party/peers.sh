#!/bin/bash
# peers.sh DIR [NAME...]
#
# The relays that bench/run measures beside ours: exim, opensmtpd and haraka, each into DIR/NAME, and
# what Postfix (which tools.sh has) needs to log users in. Debian's packages are downloaded, with
# those libraries that the machine lacks, and unpacked; Haraka comes from npm without its optional
# plugins and without running any script. Nothing is installed, no root is needed, and a second
# call finds everything there and reaches no network.
#
# One that cannot be had does not stop the others: DIR/NAME/failed then says why, in one line, and
# the next call tries again.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=apt.sh
. "$here/apt.sh"
dir=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- exim opensmtpd haraka sasl
declare -A packages=([exim]=exim4-daemon-light [opensmtpd]=opensmtpd [sasl]="libsasl2-modules libsasl2-modules-db sasl2-bin"
    [haraka]=haraka@3.3.4)
work=

# Called in a condition, where set -e does not hold.
fetch_debian() { # NAME PACKAGE...
    local name=$1 package
    shift
    command -v apt-get >/dev/null || {
        echo "apt-get is not there" >"$dir/$name/log"
        return 1
    }
    if [ -z "$work" ]; then
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT
        # Without fresh lists the download says what is wrong.
        apt_private "$work" >"$dir/$name/log" 2>&1 || true
    fi
    rm -f "$work"/archives/*.deb
    # --reinstall: also when the machine happens to have one of them.
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends --download-only \
        --reinstall install "$@" >>"$dir/$name/log" 2>&1 || return 1
    mkdir -p "$dir/$name/root"
    for package in "$work"/archives/*.deb; do
        dpkg-deb -x "$package" "$dir/$name/root" 2>>"$dir/$name/log" || return 1
        dpkg-deb -W --showformat '${Package} ${Version}\n' "$package" >>"$dir/$name/versions" ||
            return 1
    done
}

fetch_npm() { # NAME PACKAGE
    command -v node >/dev/null && command -v npm >/dev/null || {
        echo "node and npm are not there" >"$dir/$1/log"
        return 1
    }
    npm install --prefix "$dir/$1" --ignore-scripts --no-audit --no-fund --no-save --omit=optional \
        --fetch-retries=1 --fetch-timeout=20000 "$2" >"$dir/$1/log" 2>&1
}

fetch() { # NAME
    local name=$1 words
    read -ra words <<<"${packages[$name]}"
    [ "$(cat "$dir/$name/.unpacked" 2>/dev/null)" != "${words[*]}" ] || return 0
    echo "fetching $name: ${words[*]}" >&2
    rm -rf "${dir:?}/$name"
    mkdir -p "$dir/$name"
    if case $name in
        haraka) fetch_npm "$name" "${words[@]}" ;;
        *) fetch_debian "$name" "${words[@]}" ;;
    esac; then
        echo "${words[*]}" >"$dir/$name/.unpacked"
    else
        grep -m 1 -E '^(W: Failed|E:|npm error)|not there' "$dir/$name/log" >"$dir/$name/failed" ||
            echo "could not be fetched: see $dir/$name/log" >"$dir/$name/failed"
    fi
}

for name in "$@"; do
    fetch "$name"
done
