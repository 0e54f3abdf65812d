#!/usr/bin/env bash
# A client of Misakey's boxes against a server that has just been set up with `serve --dev`. What it is made with is
# fetched from the Python registry into target/. Usage: tests/clients/misakey.sh (after cargo build --release); CHINWAG_BIN
# names another binary.

set -euo pipefail
cd "$(dirname "$0")/../.."

python=target/clients/misakey/bin/python
[ -x "$python" ] || python3 -m venv target/clients/misakey
"$python" -m pip install --quiet --disable-pip-version-check -r tests/clients/misakey/requirements.txt

. tests/clients/server.sh
for user in olga ann bob eve; do
    echo "$user $("$chinwag" token create --data "$home/data" --user "$user@example.org")"
done >"$home/tokens"
timeout 120 "$python" tests/clients/misakey/client.py "http://$address/misakey" "$home/tokens"
