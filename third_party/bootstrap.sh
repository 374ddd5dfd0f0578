#!/bin/bash
# bootstrap.sh demo                    installs what is missing, builds, and starts the demonstration
# bootstrap.sh test [PRESET]           installs what is missing, builds, runs the tests of a workflow
#                                      preset: test (the default), test-release, test-tsan
# bootstrap.sh fuzz [SECONDS] [NAME..] every fuzzer (or those named) for so long; 60 is the default
# bootstrap.sh setup demo|test         installs only
#
# For Debian 12 and 13, on a fresh clone, from any current directory, as root or as a user with
# sudo. What is there already is not installed again: then it is silent, asks for no password and
# reaches no network. Packages come from wherever apt on this machine gets them.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."

packages_build=(ca-certificates cmake g++ gcc libc6-dev libidn2-dev libjansson-dev liblmdb-dev
    libmicrohttpd-dev libsodium-dev libtomlplusplus-dev libudns-dev libuv1-dev nettle-dev
    ninja-build pkgconf)
# What the demonstration talks with; see third_party/demo.sh.
packages_demo=(curl libnet-ssleay-perl openssl python3 swaks)
# clang with its runtime is for the fuzzers; swaks, msmtp and curl are clients that the relay must
# get on with; python3-dkim and Mail::DKIM verify what it signs; libssl-dev is the other
# engine that signs (SMTPD_RSA). None of these brings a mail system
# along (--no-install-recommends).
packages_test=(clang curl libclang-rt-dev libcmocka-dev libmail-dkim-perl libnet-ssleay-perl libssl-dev
    msmtp openssl python3 python3-dkim python3-dnspython python3-yaml swaks)
# The two judges of style, whose verdict changes with their version: Debian 12's count. Elsewhere
# these two checks say that they are skipped.
packages_style=(clang-format-14 clang-tidy-14)

usage() {
    sed -n '2,6s/^# //p' "$0" >&2
    exit 2
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "bootstrap: there is no sudo. As root, run: $*" >&2
        exit 1
    fi
}

missing() { # prints those of its arguments that are not installed
    local package status
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null) || true
        grep -qx installed <<<"$status" || echo "$package"
    done
}

lists_are_fresh=
fresh_lists() { # once, and only when something must be fetched
    [ -n "$lists_are_fresh" ] || as_root apt-get update -qq
    lists_are_fresh=yes
}

get() {
    local wanted
    mapfile -t wanted < <(missing "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    fresh_lists
    echo "installing: ${wanted[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "${wanted[@]}" >/dev/null
}

codename() {
    sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

get_mbedtls() {
    case $(dpkg-query -W -f '${Version}' libmbedtls-dev 2>/dev/null || true) in
        3.6.*) return 0 ;;
    esac
    ! third_party/mbedtls.sh .deps/mbedtls --check || return 0
    fresh_lists
    case $(apt-cache policy libmbedtls-dev) in
        *'Candidate: 3.6.'*) get libmbedtls-dev ;;
        *)
            get dpkg-dev
            third_party/mbedtls.sh .deps/mbedtls
            ;;
    esac
}

get_mbedtls_tsan() {
    ! third_party/mbedtls.sh .deps/mbedtls-tsan --tsan --check || return 0
    get dpkg-dev
    third_party/mbedtls.sh .deps/mbedtls-tsan --tsan
}

setup_demo() {
    get "${packages_build[@]}" "${packages_demo[@]}"
    get_mbedtls
}

setup_test() {
    local packages=("${packages_build[@]}" "${packages_test[@]}")
    [ "$(codename)" != bookworm ] || packages+=("${packages_style[@]}")
    get "${packages[@]}"
    get_mbedtls
    third_party/tools.sh build/tools
    third_party/kubernetes_types.sh build/kubernetes-types
}

# Twice the time is plenty: a fuzzer that hangs in spite of its own limits is ended. New inputs
# stay in build/fuzz/found; what is worth keeping is copied into tests/fuzz/corpus by hand.
fuzz_one() { # NAME SECONDS
    local name=$1 seconds=$2 folder=build/fuzz/found/$1 words=()
    mkdir -p "$folder/corpus" "$folder/crashes"
    [ ! -e "tests/fuzz/$name.dict" ] || words=(-dict="tests/fuzz/$name.dict")
    if UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 timeout -k 10 $((seconds * 2 + 60)) \
        "build/fuzz/tests/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -malloc_limit_mb=512 -max_len=65536 -print_final_stats=1 "${words[@]}" \
        -artifact_prefix="$folder/crashes/" "$folder/corpus" "tests/fuzz/corpus/$name" \
        >"$folder/log" 2>&1; then
        echo "fuzz_$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log") runs"
    else
        echo "fuzz_$name: FAILED; $folder/log ends with:"
        tail -n 40 "$folder/log"
        return 1
    fi
}

run_fuzzers() { # SECONDS [NAME...]
    local seconds=$1 source
    shift
    if [ $# = 0 ]; then
        for source in tests/fuzz/fuzz_*.c; do
            source=${source##*/fuzz_}
            set -- "$@" "${source%.c}"
        done
    fi
    cmake --workflow --preset fuzz
    export -f fuzz_one
    # Two at a time: the machines that this runs on have two cores.
    printf '%s\n' "$@" | xargs -P 2 -I NAME bash -c "fuzz_one NAME $seconds"
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || {
    echo "bootstrap: this is no Debian; the packages that are needed stand in $0" >&2
    exit 1
}
case ${1:-} in
    demo)
        setup_demo
        cmake --workflow --preset demo
        exec third_party/demo.sh
        ;;
    test)
        preset=${2:-test}
        case $preset in test | test-release | test-tsan) ;; *) usage ;; esac
        setup_test
        [ "$preset" != test-tsan ] || get_mbedtls_tsan
        exec cmake --workflow --preset "$preset"
        ;;
    fuzz)
        setup_test
        run_fuzzers "${2:-60}" "${@:3}"
        ;;
    setup)
        case ${2:-} in
            demo) setup_demo ;;
            test)
                setup_test
                get_mbedtls_tsan
                ;;
            *) usage ;;
        esac
        ;;
    *) usage ;;
esac
