#!/bin/sh
# Makes the pictures of the status page in docs/images again.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p docs/images
PROXY_TEST_SCREENSHOTS=$PWD/docs/images PROXY_TEST_REQUIRE_ALL=1 \
  cargo test --test integration status_page::screenshots
