#!/bin/bash
# kubernetes_types.sh DIR
#
# The types of Kubernetes and the compiler that checks them, for tests/e2e/test_manifests.py, from npm
# into DIR (25 MB), without running any script of theirs. Only where node and npm are there already:
# Debian's npm is several hundred packages, too much for one test. Where npm reaches no registry, this
# says so and the test says that it is skipped; in either case nothing else depends on it.
set -euo pipefail
dir=$(realpath -m "$1")
packages=(kubernetes-types@1.30.0 typescript@5.9.3)
stamp=$dir/.installed

[ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ] || exit 0
command -v node >/dev/null && command -v npm >/dev/null || exit 0
echo "fetching the types of Kubernetes: ${packages[*]}"
rm -rf "$dir"
mkdir -p "$dir"
if ! npm install --prefix "$dir" --ignore-scripts --no-audit --no-fund --no-save \
    --fetch-retries=1 --fetch-timeout=20000 "${packages[@]}" >"$dir/log" 2>&1; then
    echo "kubernetes_types.sh: npm gave none of them; the types of docs/kubernetes stay unchecked here"
    rm -rf "$dir/node_modules"
    exit 0
fi
echo "${packages[*]}" >"$stamp"
