#!/bin/sh
# A job that runs now and then, and ends each time: it pushes what it did, and waits for the acknowledgement.
set -u
trap 'exit 0' TERM INT
runs=0
while :; do
    started=$(date +%s)
    sleep 1
    runs=$((runs + 1))
    prometheus-rsocket-proxy push --proxy "$PROXY" <<METRICS || echo "run $runs was not pushed" >&2
# HELP report_last_success_timestamp_seconds When the report was last made.
# TYPE report_last_success_timestamp_seconds gauge
report_last_success_timestamp_seconds{job="report"} $(date +%s)
# HELP report_duration_seconds How long that took.
# TYPE report_duration_seconds gauge
report_duration_seconds{job="report"} $(($(date +%s) - started))
# HELP report_runs_total Reports made.
# TYPE report_runs_total counter
report_runs_total{job="report"} $runs
METRICS
    sleep "$EVERY" &
    wait $!
done
