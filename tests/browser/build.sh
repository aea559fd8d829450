#!/bin/sh
# Fetches what the browser is driven with; does nothing where that is up to date.
set -eu
cd "$(dirname "$0")"
if [ ! node_modules/built -nt package-lock.json ]; then
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  touch node_modules/built
fi
