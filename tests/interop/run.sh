#!/bin/sh
# run.sh PROGRAM [ARGUMENT]...: becomes one of the built peers, keeping the process id.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
shift
case $program in
  python)
    exec "$here/python/.venv/bin/python" "$here/python/app.py" "$@" ;;
  *)
    # Starts fast on few cores; set JAVA_OPTS where steady speed matters.
    # shellcheck disable=SC2086
    exec java ${JAVA_OPTS--XX:TieredStopAtLevel=1 -XX:+UseSerialGC} -jar "$here/java/$program/target/$program.jar" "$@" ;;
esac
