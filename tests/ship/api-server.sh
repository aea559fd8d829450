#!/usr/bin/env bash
# Applies the manifests to a real Kubernetes API server, with RBAC and the restricted pod security profile enforced: no
# scheduler, no kubelet, so nothing runs. Not part of CI, because building the server takes a quarter of an hour.
#
# Needs Go, etcd, kubectl, openssl and what manifests.sh needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$root/target/ship
version=1.36.3
directories=(proxy prometheus grafana)

# The server's module names its parts, which are released as modules of their own, by a version that does not exist.
build_server() {
    mkdir -p "$work/api-server"
    cd "$work/api-server"
    source=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    install -m 644 "$source/cmd/kube-apiserver/apiserver.go" main.go
    install -m 644 "$source/go.sum" go.sum
    {
        sed 's/^module .*/module apiserver/' "$source/go.mod"
        echo "require k8s.io/kubernetes v$version"
        sed -nE "s/^\t(k8s.io\/[a-z-]+) v0\.0\.0( .*)?$/replace \1 => \1 v0.${version#1.}/p" "$source/go.mod"
    } >go.mod
    go mod tidy
    go build -o kube-apiserver .
    cd "$root"
}
[ -x "$work/api-server/kube-apiserver" ] || build_server

run=$(mktemp -d)
processes=()
finish() {
    status=$?
    trap - EXIT
    [ $status = 0 ] || tail -n 20 "$run"/*.log >&2
    # The server would wait for its database, and neither has anything to keep.
    kill -KILL "${processes[@]}" 2>/dev/null || true
    wait
    rm -rf "$run"
    exit $status
}
trap finish EXIT

etcd --data-dir "$run/etcd" --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
    --listen-peer-urls http://127.0.0.1:12380 >"$run/etcd.log" 2>&1 &
processes+=($!)
openssl genrsa -out "$run/accounts.pem" 2048 2>/dev/null
echo 'secret,admin,1,"system:masters"' >"$run/tokens.csv"
"$work/api-server/kube-apiserver" --etcd-servers http://127.0.0.1:12379 --bind-address 127.0.0.1 --secure-port 16443 \
    --cert-dir "$run/certificates" --authorization-mode RBAC --token-auth-file "$run/tokens.csv" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$run/accounts.pem" \
    --service-account-signing-key-file "$run/accounts.pem" >"$run/api-server.log" 2>&1 &
processes+=($!)
# Not the configuration of the user who runs this.
export KUBECONFIG=$run/config
kube() { kubectl --server https://127.0.0.1:16443 --insecure-skip-tls-verify --token secret "$@"; }
for _ in $(seq 120); do
    kube get --raw /readyz >/dev/null 2>&1 && break
    sleep 1
done

for directory in "${directories[@]}"; do
    kube apply --validate=strict -f "scripts/kubernetes/$directory/"
done
echo "== again: nothing changes"
# kubectl says `configured` also where only what the server fills in differs; generations count changes.
generations() {
    kube get deployment,statefulset,networkpolicy,poddisruptionbudget -n monitoring-tools \
        -o 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.generation}{"\n"}{end}'
}
generations >"$run/before"
for directory in "${directories[@]}"; do
    kube apply -f "scripts/kubernetes/$directory/" >/dev/null
done
generations | diff "$run/before" -

echo "== the overlays"
for overlay in scripts/kustomize/*; do
    kube apply --dry-run=server -k "$overlay"
done

echo "== the pods, as their controllers would create them"
"$work/venv/bin/python" - "${directories[@]}" <<'PYTHON' >"$run/pods.yaml"
import pathlib, sys, yaml

for directory in sys.argv[1:]:
    for file in pathlib.Path("scripts/kubernetes", directory).glob("*.yaml"):
        for workload in filter(None, yaml.safe_load_all(file.read_text())):
            if workload["kind"] not in ("Deployment", "StatefulSet"):
                continue
            pod = workload["spec"]["template"]
            pod["metadata"] |= {k: workload["metadata"][k] for k in ("name", "namespace")}
            # The controller of a StatefulSet adds the volumes of claims.
            claims = workload["spec"].get("volumeClaimTemplates", [])
            for claim in claims:
                name = claim["metadata"]["name"]
                pod["spec"]["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": name}})
            print(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod"} | pod))
            print("---")
PYTHON
kube create --dry-run=server -f "$run/pods.yaml"
# That the profile is enforced at all: the same pods, as root.
if sed 's/runAsNonRoot: true/runAsNonRoot: false/' "$run/pods.yaml" | kube create --dry-run=server -f - 2>"$run/refused"; then
    exit 1
fi
grep -c 'violates PodSecurity "restricted' "$run/refused"

echo "== rights"
# may ANSWER ACCOUNT VERB KIND
may() {
    answer=$(kube auth can-i "$3" "$4" -n monitoring-tools --as "system:serviceaccount:monitoring-tools:$2" || true)
    echo "$2: $3 $4: $answer"
    [ "$answer" = "$1" ]
}
may yes prometheus list pods
may yes prometheus watch pods
may no prometheus list secrets
may no prometheus delete pods
may no prometheus-proxy list pods
may no grafana list pods
