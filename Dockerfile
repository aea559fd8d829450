# The final image is the one static binary and the roots that TLS clients trust. BuildKit is needed (Docker 23 or later has
# it on; before, DOCKER_BUILDKIT=1).
#
#   docker build -t prometheus-rsocket-proxy .
#
# Other bases: --build-arg RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot, for one.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG RUNTIME_IMAGE=scratch
ARG SAMPLE_IMAGE=busybox:1.37.0

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY crates crates
COPY benches benches
COPY examples examples
COPY templates templates
COPY src src
# With a target named, build scripts and macros stay dynamic: RUSTFLAGS is for what runs in the image alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --release --locked --bin prometheus-rsocket-proxy --target "$target" \
    && cp "target/$target/release/prometheus-rsocket-proxy" /prometheus-rsocket-proxy

# A job with a shell, for docker-compose.yml: `--target sample-job`.
FROM ${SAMPLE_IMAGE} AS sample-job
COPY --from=build /prometheus-rsocket-proxy /bin/prometheus-rsocket-proxy
COPY scripts/compose/job.sh /job.sh
USER 65532:65532
ENTRYPOINT ["/bin/sh", "/job.sh"]

FROM ${RUNTIME_IMAGE} AS proxy
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="prometheus-rsocket-proxy" \
    org.opencontainers.image.description="Pull metrics from applications that can only open connections outwards" \
    org.opencontainers.image.source="https://github.com/Mateo00/prometheus-rsocket-proxy" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /prometheus-rsocket-proxy /prometheus-rsocket-proxy
# A number, so that Kubernetes can tell that it is not root. Nothing is written anywhere.
USER 65532:65532
# RSocket over TCP and WebSocket, HTTP, gossip, calls between nodes.
EXPOSE 7001 8081 8080 7946/udp 7947
# In the clear, and without a password: docs/web-configuration.md has what to give a container with --web.config.file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/prometheus-rsocket-proxy", "healthcheck"]
ENTRYPOINT ["/prometheus-rsocket-proxy"]
