#!/usr/bin/env bash
# StaticBackend's published clients against a server that has just been set up with `serve --dev`. They are fetched from
# the npm registry into target/. Usage: tests/clients/staticbackend.sh (after cargo build --release); CHINWAG_BIN names
# another binary.

set -euo pipefail
cd "$(dirname "$0")/../.."

clients=target/clients/staticbackend
mkdir -p "$clients"
cp tests/clients/staticbackend/* "$clients/"
(cd "$clients" && npm install --no-package-lock --no-audit --no-fund --silent)

. tests/clients/server.sh
timeout 120 node "$clients/main.mjs" "http://$address/staticbackend"
