#!/usr/bin/env bash
# A client of Misakey's boxes against a server that has just been set up with `serve --dev`. What it is made with is
# fetched from the Python registry into target/. Usage: tests/clients/misakey.sh (after cargo build --release); CHINWAG_BIN
# names another binary.

set -euo pipefail
cd "$(dirname "$0")/../.."

chinwag=${CHINWAG_BIN:-target/release/chinwag}
unset "${!CHINWAG_@}"
[ -x "$chinwag" ] || { echo "clients: no $chinwag; run: cargo build --release" >&2; exit 1; }

python=target/clients/misakey/bin/python
[ -x "$python" ] || python3 -m venv target/clients/misakey
"$python" -m pip install --quiet --disable-pip-version-check -r tests/clients/misakey/requirements.txt

home=$(mktemp -d)
server=
finish() {
    local status=$?
    trap - EXIT
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$home"
    exit $status
}
trap finish EXIT
trap 'exit 1' INT TERM

touch "$home/log"
"$chinwag" serve --dev --listen 127.0.0.1:0 --data "$home/data" 2>"$home/log" &
server=$!
address=
for _ in $(seq 200); do
    address=$(grep -o '127\.0\.0\.1:[0-9]*' "$home/log" | head -n 1 || true)
    [ -z "$address" ] || break
    sleep 0.05
done
[ -n "$address" ] || { echo "clients: the server does not say where it listens" >&2; cat "$home/log" >&2; exit 1; }
for user in olga ann bob eve; do
    echo "$user $("$chinwag" token create --data "$home/data" --user "$user@example.org")"
done >"$home/tokens"
timeout 120 "$python" tests/clients/misakey/client.py "http://$address/misakey" "$home/tokens"
