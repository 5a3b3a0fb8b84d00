#!/usr/bin/env bash
# Writes deploy/kubernetes/*.yaml from the chart. HELM=… names the program; it renders for one version of Kubernetes.
set -euo pipefail
cd "$(dirname "$0")/../deploy"
out=${1:-kubernetes}

# render NAME [VALUES…]
render() {
    local name=$1
    shift
    {
        echo "# Made of deploy/helm by scripts/manifests.sh. kubectl apply -f $name.yaml"
        echo "# Checked against the schemas of Kubernetes; no test applies it to a cluster."
        "${HELM:-helm}" template resonantgenesis helm/resonantgenesis --skip-tests --kube-version 1.34.0 "$@" |
            grep -v -e '^# Source:' -e 'app.kubernetes.io/managed-by' | sed 's/ *$//'
    } >"$out/$name.yaml"
}

render embedded
render many-nodes --values kubernetes/many-nodes.values.yaml
