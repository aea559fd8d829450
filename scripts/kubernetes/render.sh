#!/usr/bin/env bash
# Writes the ConfigMaps that carry what docker-compose.yml mounts as files: run it after a change to the alerts or the
# dashboards. With --check it writes nothing and fails where one is out of date.
set -euo pipefail
cd "$(dirname "$0")/.."

# config_map NAME FILE...
config_map() {
    printf '# Made by scripts/kubernetes/render.sh.\napiVersion: v1\nkind: ConfigMap\n'
    printf 'metadata:\n  name: %s\n  namespace: monitoring-tools\ndata:\n' "$1"
    shift
    for file; do
        printf '  %s: |\n' "$(basename "$file")"
        sed 's/^\(.\)/    \1/' "$file"
    done
}

# write FILE NAME SOURCE...
write() {
    target=$1
    shift
    if [ "${check:-}" = yes ]; then
        config_map "$@" | diff -q "$target" - >/dev/null || { echo "$target is out of date: run $0" >&2; exit 1; }
    else
        config_map "$@" >"$target"
    fi
}

[ "${1:-}" != --check ] || check=yes
write kubernetes/prometheus/prometheus-rules.yaml prometheus-server-rules prometheus/rules.yml
write kubernetes/grafana/grafana-provisioning.yaml grafana-provisioning grafana/datasources.yml grafana/dashboards.yml
write kubernetes/grafana/grafana-dashboards.yaml grafana-dashboards grafana/dashboards/*.json
