#!/usr/bin/env bash
# Builds the images and runs docker-compose.yml on a real Docker engine: scaled up and down, with a node killed, while
# Prometheus' API tells what became of the applications. Images that cannot be pulled are stood in for (stand-ins.sh);
# Grafana cannot, so of it only what it would be given is checked.
#
# Needs root, docker.io, docker-compose, debootstrap, iptables, curl, Python and a Rust toolchain; ten minutes, most of
# them for the release build.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=target/ship
mkdir -p $work
export COMPOSE_PROJECT_NAME=rsocket-proxy-test
. tests/ship/engine.sh
services=(proxy balancer node-exporter agent-node agent-balancer job prometheus)

finish() {
    status=$?
    trap - EXIT
    if [ $status != 0 ]; then
        compose ps || true
        compose logs --tail=20 || true
    fi
    compose down --volumes --timeout 5 >/dev/null 2>&1 || true
    stop_engine
    exit $status
}
trap finish EXIT

step() { printf '\n== %s\n' "$*"; }

# first LABEL QUERY: that label, or `value`, of the first series of Prometheus' answer; nothing where there is none.
first() {
    reach curl -sf --data-urlencode "query=$2" http://127.0.0.1:9090/api/v1/query | python3 -c '
import json, sys
found = json.load(sys.stdin)["data"]["result"]
label = sys.argv[1]
print("" if not found else found[0]["value"][1] if label == "value" else found[0]["metric"][label])' "$1"
}

# shows QUERY VALUE: waits until Prometheus says so.
shows() {
    for _ in $(seq 120); do
        got=$(first value "$1" 2>/dev/null || true)
        if [ "$got" = "$2" ]; then
            echo "$1 is $2"
            return
        fi
        sleep 1
    done
    echo "$1 is '$got', not $2" >&2
    return 1
}

# grows QUERY: waits until its value is greater than now.
grows() {
    before=$(first value "$1")
    before=${before:-0}
    for _ in $(seq 120); do
        after=$(first value "$1" 2>/dev/null || true)
        if [ "${after:-0}" -gt "$before" ]; then
            echo "$1 was $before, is $after"
            return
        fi
        sleep 1
    done
    echo "$1 stays $before" >&2
    return 1
}

# cluster N: N nodes, of which each sees all, and every application behind them.
cluster() {
    shows 'count(up{job="proxies"} == 1)' "$1"
    shows "count(prometheus_proxy_cluster_members{state=\"active\"} == $1)" "$1"
    shows 'sum(prometheus_proxy_scrape_active_connections)' 2
    shows 'up{job="node", instance="web-1"}' 1
    shows 'up{job="haproxy", instance="balancer"}' 1
    grows 'last_over_time(report_runs_total{job="report"}[5m])'
}

nodes() {
    docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter label=com.docker.compose.service=proxy
}

# A node that applications are connected to.
busy_node() {
    address=$(first instance 'topk(1, prometheus_proxy_scrape_active_connections)')
    for node in $(nodes); do
        if docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$node" |
            grep -qx "${address%:*}"; then
            echo "$node"
        fi
    done
}

step "images"
absent=
for image in $(sed -n 's/^ARG [A-Z]*_IMAGE=\(.*:.*\)/\1/p' Dockerfile) \
    $(sed -n 's/^ *image: \(.*:.*\)/\1/p' docker-compose.yml); do
    stand_in=$(docker image inspect --format '{{index .Config.Labels "stand-in"}}' "$image" 2>/dev/null || echo missing)
    [ -n "$stand_in" ] || continue
    # Where one cannot be pulled, no other can.
    if [ -n "$absent" ] || ! timeout 300 docker pull -q "$image" 2>/dev/null; then
        absent="$absent $image"
    fi
done
echo "not available:${absent:- none}"
case "$absent" in
    "" | " grafana/"*) ;;
    *) tests/ship/stand-ins.sh $work ;;
esac
docker build -q -t prometheus-rsocket-proxy --target proxy .
docker build -q -t prometheus-rsocket-proxy-sample-job --target sample-job .

step "the image"
docker image inspect --format '{{.Size}} bytes, user {{.Config.User}}' prometheus-rsocket-proxy
[ "$(docker image inspect --format '{{.Size}}' prometheus-rsocket-proxy)" -lt 40000000 ]
[ "$(docker image inspect --format '{{.Config.User}}' prometheus-rsocket-proxy)" = 65532:65532 ]
docker run --rm --read-only --cap-drop ALL --network none prometheus-rsocket-proxy --version

step "three nodes"
case "$absent" in
    *" grafana/"*) ;;
    *) services+=(grafana) ;;
esac
compose up -d --no-build "${services[@]}"
cluster 3
for node in $(nodes); do
    for _ in $(seq 60); do
        [ "$(docker inspect --format '{{.State.Health.Status}}' "$node")" != healthy ] || break
        sleep 1
    done
    docker inspect --format '{{.Name}} is {{.State.Health.Status}}' "$node" | grep 'healthy$'
done

step "five nodes"
compose up -d --no-build --no-recreate --scale proxy=5 "${services[@]}"
cluster 5

step "a node is killed"
killed=$(busy_node)
# Like a machine that is gone: docker starts it again only where it ended by itself.
docker kill "$killed"
cluster 4

step "a node is stopped"
stopped=$(busy_node)
docker stop --time 40 "$stopped"
[ "$(docker inspect --format '{{.State.ExitCode}}' "$stopped")" = 0 ]
docker logs "$stopped" 2>&1 | grep 'msg="drained"'
cluster 3

step "two nodes"
docker rm "$killed" "$stopped"
compose up -d --no-build --no-recreate --scale proxy=2 "${services[@]}"
cluster 2

step "nothing was lost"
# Each run of the job has a number of its own: as many as were acknowledged came to Prometheus.
acknowledged=$(compose logs job 2>/dev/null | grep -c 'pushed and acknowledged')
shows "changes(report_runs_total{job=\"report\"}[1h]) + 1 >= bool $acknowledged" 1

step "a target per application"
compose -f docker-compose.yml -f docker-compose.targets.yml up -d --no-build --no-deps prometheus
shows 'up{proxied_by="rsocket", job="node", instance="web-1"}' 1
shows 'up{proxied_by="rsocket", job="haproxy", instance="balancer"}' 1
grows 'last_over_time(report_runs_total{job="report"}[5m])'

step "what Grafana is given"
# What it makes of the dashboards is for manifests.sh to check.
sed -n 's|^ *- \(\./[^:]*\):.*|\1|p' docker-compose.yml | xargs ls -d
