# Sourced by the tests of other systems' clients: starts a server that has just been set up with `serve --dev`, whose address
# is in `address` and whose data is in `$home/data` then, and stops it at the end. CHINWAG_BIN names another binary than the
# release build.

chinwag=${CHINWAG_BIN:-target/release/chinwag}
unset "${!CHINWAG_@}"
[ -x "$chinwag" ] || { echo "clients: no $chinwag; run: cargo build --release" >&2; exit 1; }

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
