#!/bin/sh
# The pages that come from the tables are what the tables print now. `cmake --build --preset
# release --target generate` writes them again.
set -eu
cd "$(dirname "$0")/../.."
: "${SMTPD_BINARY:=build/release/smtpd}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
broken=0
compare() {
    "$SMTPD_BINARY" document "$1" >"$work/page"
    if ! diff -u "$2" "$work/page"; then
        echo "$2 is not what \`smtpd document $1\` prints: build the target 'generate'"
        broken=1
    fi
}
compare example smtpd.toml.example
compare manual docs/configuration.md
compare verbs docs/verbs.md
compare metrics docs/metrics.md
exit $broken
