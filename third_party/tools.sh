#!/bin/bash
# tools.sh DIR
#
# Programs that only tests and measurements need, and that must not be installed on a developer's
# machine: Postfix would replace its mail system, Knot, Unbound and Prometheus would start a daemon.
# Their packages are downloaded, with those libraries of theirs that the machine lacks, and unpacked into
# DIR/root. DIR/bin has a wrapper for each program: it finds the libraries. Nothing is installed, no root
# is needed, and a second call finds everything there and reaches no network. A library that the machine
# loses later shows in the next call.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=apt.sh
. "$here/apt.sh"
dir=$(realpath -m "$1")
packages=(postfix knot knot-dnsutils unbound haproxy prometheus python3-prometheus-client systemd)
programs=(smtp-source smtp-sink postfix postconf postalias postmap postqueue postsuper
    knotd knotc kdig unbound haproxy prometheus promtool systemd-analyze systemd-socket-activate)
stamp=$dir/.unpacked

is_complete() {
    [ "$(cat "$stamp" 2>/dev/null)" = "${packages[*]} ${programs[*]}" ] || return 1
    local program
    for program in "${programs[@]}"; do
        case $("$dir/bin/$program" --unpacked-libraries 2>&1) in
            *'not found'*) return 1 ;;
        esac
    done
}

write_wrapper() { # PROGRAM PATH
    cat >"$dir/bin/$1" <<W
#!/bin/sh
# Written by third_party/tools.sh
root=\$(dirname "\$(dirname "\$(realpath "\$0")")")/root
export LD_LIBRARY_PATH="\$root/usr/lib/postfix:\$root/usr/lib/$triplet:\$root/lib/$triplet:\$root/usr/lib/$triplet/systemd:\$root/lib/systemd\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
[ "\${1:-}" != --unpacked-libraries ] || exec ldd "\$root/$2"
exec "\$root/$2" "\$@"
W
    chmod 755 "$dir/bin/$1"
}

! is_complete || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching programs for the tests: ${packages[*]}"
apt_private "$work"
# --reinstall: also when the machine happens to have one of them, since DIR must be whole.
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends --download-only --reinstall \
    install "${packages[@]}" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    exit 1
}
rm -rf "$dir"
mkdir -p "$dir/root" "$dir/bin"
for package in "$work"/archives/*.deb; do
    dpkg-deb -x "$package" "$dir/root"
done
triplet=$(gcc -print-multiarch)
for program in "${programs[@]}"; do
    for path in usr/sbin usr/bin; do
        if [ -x "$dir/root/$path/$program" ]; then
            write_wrapper "$program" "$path/$program"
            continue 2
        fi
    done
    echo "tools.sh: ${packages[*]} have no $program" >&2
    exit 1
done
echo "${packages[*]} ${programs[*]}" >"$stamp"
is_complete || {
    echo "tools.sh: a library is missing" >&2
    exit 1
}
