#!/usr/bin/env bash
# Checks the Kubernetes manifests: against the schemas of Kubernetes, with two tools; that Kustomize builds what
# `kubectl apply -f` of the directories gives; that pods are as restricted as they say; that the hardened overlay finds
# its files; and that the rendered files are up to date. And the dashboards, against Grafana's model of them. Needs Go and Python, nothing of a cluster.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=target/ship
directories=(scripts/kubernetes/proxy scripts/kubernetes/prometheus scripts/kubernetes/grafana)
overlays=(connections durable hardened targets)

if [ ! -e $work/venv/made ] || [ tests/ship/requirements.txt -nt $work/venv/made ]; then
    python3 -m venv --clear $work/venv
    $work/venv/bin/pip install --quiet --requirement tests/ship/requirements.txt
    touch $work/venv/made
fi
# install NAME PACKAGE
install() {
    [ -x "$work/bin/$1" ] || GOBIN="$PWD/$work/bin" go install "$2"
}
install kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
install kustomize sigs.k8s.io/kustomize/kustomize/v5@v5.8.1

scripts/kubernetes/render.sh --check

$work/venv/bin/python tests/ship/schemas.py $work/schemas
conform() {
    $work/bin/kubeconform -strict -summary -kubernetes-version 1.37.0 \
        -schema-location "$work/schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json" "$@"
}
conform "${directories[@]}"
for directory in "${directories[@]}"; do
    $work/venv/bin/kubernetes-validate --quiet --strict "$directory"/*.yaml
done

$work/bin/kustomize build scripts/kubernetes >$work/base.yaml
conform $work/base.yaml
for overlay in "${overlays[@]}"; do
    $work/bin/kustomize build scripts/kustomize/$overlay >$work/$overlay.yaml
    conform $work/$overlay.yaml
done

$work/venv/bin/python tests/ship/manifests.py $work/base.yaml "${directories[@]/%/\/}"
$work/venv/bin/python tests/ship/hardened.py $work/base.yaml $work/hardened.yaml
$work/venv/bin/python tests/ship/targets.py $work/base.yaml $work/targets.yaml
$work/venv/bin/python tests/ship/dashboards.py scripts/grafana/dashboards/*.json
