# Sourced: chooses a Docker engine, and gives `compose`, and `reach`, which runs a command where published ports are.
#
# The engine is the one that DOCKER_HOST names or that runs already. Else, as root, one of our own is started, in a network
# namespace of its own, so that it leaves the machine's network alone; it ends with `stop_engine`.

engine=

reach() {
    if [ -n "$engine" ]; then
        nsenter --net="/proc/$(cat "$engine/pid")/ns/net" "$@"
    else
        "$@"
    fi
}

start_engine() {
    # Not below the working directory: the names of sockets have to be short.
    engine=$(mktemp -d -t engine.XXXXXX)
    export DOCKER_HOST=unix://$engine/socket
    unshare --net sh -c 'ip link set lo up; exec dockerd --data-root "$1" --exec-root "$2/exec" --pidfile "$2/pid" \
        --host "unix://$2/socket"' sh "$PWD/$work/engine" "$engine" >"$work/engine.log" 2>&1 &
    for _ in $(seq 120); do
        docker info >/dev/null 2>&1 && return
        sleep 0.5
    done
    tail "$work/engine.log" >&2
    return 1
}

stop_engine() {
    [ -n "$engine" ] || return 0
    kill "$(cat "$engine/pid")"
    wait
    rm -rf "$engine"
}

export DOCKER_BUILDKIT=1
# Debian's own client builds with BuildKit, others need a plugin for that.
if ! docker buildx version >/dev/null 2>&1 && [ -x /usr/bin/docker ]; then
    PATH=/usr/bin:$PATH
fi
docker info >/dev/null 2>&1 || start_engine
if docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
else
    compose() { docker-compose "$@"; }
fi
