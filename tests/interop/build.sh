#!/bin/sh
# Builds the peers that this machine's tools allow; does nothing where they are up to date.
set -eu
cd "$(dirname "$0")"
mkdir -p target
if command -v flock >/dev/null; then
  exec 9>target/lock
  flock 9
fi

# fresh STAMP SOURCE...: is the stamp younger than every source?
fresh() {
  stamp=$1
  shift
  [ -e "$stamp" ] && [ -z "$(find "$@" -newer "$stamp" ! -path '*/target/*' -type f -print)" ]
}

if ! command -v mvn >/dev/null || ! command -v javac >/dev/null; then
  echo "java: skipped, needs mvn and a JDK" >&2
elif ! fresh java/proxy/target/built java ../../clients/java; then
  # Jars of versions no longer wanted must not stay on the class path.
  rm -rf java/*/target
  # The tests of clients/java are run by a test of their own.
  (cd java && mvn -q -B package -Dmaven.test.skip)
  touch java/proxy/target/built
fi

if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  echo "python: skipped, needs python3 with venv" >&2
elif ! fresh python/.venv/built python/requirements.txt; then
  python3 -m venv --clear python/.venv
  python/.venv/bin/pip install --quiet --requirement python/requirements.txt
  touch python/.venv/built
fi

if ! command -v go >/dev/null; then
  echo "prometheus-3: skipped, needs go" >&2
elif ! fresh prometheus-3/target/built build.sh; then
  mkdir -p prometheus-3/target
  # Without the services by which it finds targets elsewhere, which take most of the time to build.
  CGO_ENABLED=0 GOBIN="$PWD/prometheus-3/target" go install -trimpath -tags remove_all_sd \
    github.com/prometheus/prometheus/cmd/prometheus@v0.316.0
  touch prometheus-3/target/built
fi
