#!/usr/bin/env bash
# Makes images of Debian packages and of this machine's Rust toolchain, under the names that the Dockerfile and
# docker-compose.yml ask for: for an engine that cannot pull them. Grafana is in no Debian package and gets none.
#
# Needs root and debootstrap. Prometheus is this machine's `prometheus` if there is one, whatever its version.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:-target/ship}
mkdir -p "$work"

argument() { sed -n "s/^ARG $1=//p" Dockerfile; }
service() { sed -n "s|^ *image: \(.*$1:.*\)|\1|p" docker-compose.yml; }

rootfs=$work/rootfs
if [ ! -e "$work/rootfs-made" ]; then
    rm -rf "$rootfs"
    debootstrap --variant=minbase \
        --include=gcc,libc6-dev,ca-certificates,busybox-static,haproxy,prometheus,prometheus-node-exporter \
        bookworm "$rootfs" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
    rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/usr/share/{doc,man,locale}
    touch "$work/rootfs-made"
fi
docker image inspect stand-in-debian >/dev/null 2>&1 || tar -C "$rootfs" -c . | docker import - stand-in-debian >/dev/null

# build NAME <<DOCKERFILE: from what is in $work/context.
build() {
    # The label tells compose.sh to make it anew: what it is made of changes.
    docker build -q -t "$1" --label stand-in=yes -f - "$work/context"
}

rm -rf "$work/context"
mkdir -p "$work/context/cargo/registry"
cp -al "$(rustc --print sysroot)" "$work/context/rust" 2>/dev/null || cp -a "$(rustc --print sysroot)" "$work/context/rust"
rm -rf "$work/context/rust/share"
cargo fetch --locked --quiet
registry=${CARGO_HOME:-$HOME/.cargo}/registry
cp -a "$registry/cache" "$registry/index" "$work/context/cargo/registry"
build "$(argument RUST_IMAGE)" <<'DOCKERFILE'
FROM stand-in-debian
COPY rust /usr/local/rust
# Not where the Dockerfile mounts its own, empty, cache.
COPY cargo /opt/cargo
ENV PATH=/usr/local/rust/bin:/usr/bin:/bin CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true
DOCKERFILE
rm -rf "$work/context/rust" "$work/context/cargo"

build "$(argument SAMPLE_IMAGE)" <<'DOCKERFILE'
FROM stand-in-debian AS debian
FROM scratch
COPY --from=debian /bin/busybox /bin/busybox
RUN ["/bin/busybox", "--install", "/bin"]
DOCKERFILE

build "$(service haproxy)" <<'DOCKERFILE'
FROM stand-in-debian
USER haproxy
ENTRYPOINT ["/usr/sbin/haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
DOCKERFILE

build "$(service node-exporter)" <<'DOCKERFILE'
FROM stand-in-debian
USER nobody
ENTRYPOINT ["/usr/bin/prometheus-node-exporter"]
DOCKERFILE

cp "$(command -v prometheus || echo "$rootfs/usr/bin/prometheus")" "$work/context/prometheus"
build "$(service prom/prometheus)" <<'DOCKERFILE'
FROM stand-in-debian
COPY prometheus /bin/prometheus
RUN mkdir -p /etc/prometheus /prometheus && chown nobody /prometheus
USER nobody
ENTRYPOINT ["/bin/prometheus"]
DOCKERFILE
rm -r "$work/context"
