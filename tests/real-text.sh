#!/usr/bin/env bash
# The main job, through the command line alone: a real text of 120,000 lines goes through eight publishers at once
# while three subscribers read it from the start and the server is killed (-9) twice. Afterwards all three have what
# was acknowledged, no more and no less, in one order.
#
# The text is the sources of some crates this one is built with: they are on every machine that has built it, and
# Cargo.lock says which versions. Usage: tests/real-text.sh (after cargo build --release); CHINWAG_BIN names another
# binary.

set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

lines_wanted=120000
publishers=8
subscribers=3
# Seconds that publishing may take, and then reading the rest.
bound=300
rest_bound=60

chinwag=${CHINWAG_BIN:-target/release/chinwag}
unset "${!CHINWAG_@}"
[ -x "$chinwag" ] || { echo "real-text: no $chinwag; run: cargo build --release" >&2; exit 1; }
chinwag=$(realpath "$chinwag")

home=$(mktemp -d)
server=
children=()
finish() {
    local status=$?
    trap - EXIT
    for pid in $server "${children[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ $status -eq 0 ]; then rm -rf "$home"; else echo "real-text: FAILED; see $home" >&2; fi
    exit $status
}
trap finish EXIT
trap 'exit 1' INT TERM

fail() {
    echo "real-text: $*" >&2
    exit 1
}

# until_true SECONDS WHAT COMMAND...: waits for a condition.
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "not in time: $what"
        sleep 0.05
    done
}

# ---- the text

# Lines with something in them, no control characters but tabs, no invalid UTF-8, of a length that people write.
a_real_text() {
    local crate
    for crate in actix-http actix-web clap_builder regex-automata rustix serde_json sled tokio tungstenite uuid; do
        local version folder
        version=$(awk -v name="\"$crate\"" '$1 == "name" { found = $3 == name } found && $1 == "version" { print $3 }' \
            Cargo.lock | tr -d '"' | tail -n 1)
        folder=$(find "${CARGO_HOME:-$HOME/.cargo}"/registry/src -mindepth 2 -maxdepth 2 -name "$crate-$version*" |
            sort | head -n 1)
        [ -n "$folder" ] && find "$folder" -name '*.rs' -print0 | sort -z | xargs -0 cat
    done
}
a_real_text | iconv -c -f UTF-8 -t UTF-8 | grep -v '[^[:print:][:space:]'$'\x80-\xff'']' | tr -d '\r\f\v' |
    awk 'NF && length($0) <= 2000' | awk -v n=$lines_wanted 'NR <= n' >"$home/text"
total=$(wc -l <"$home/text")
[ "$total" -ge 100000 ] || fail "found only $total lines of text; run: cargo fetch --locked"
head -n 1 "$home/text" >"$home/first"
tail -n +2 "$home/text" | split -n "r/$publishers" -d -a 1 - "$home/part-"

# ---- the server

port=$((15000 + RANDOM % 17000))
serve() {
    "$chinwag" serve --dev --listen "127.0.0.1:$port" --data "$home/data" >"$home/serve.out" 2>>"$home/serve.log" &
    server=$!
    until_true 60 "the server is ready" grep -q "listening on http://127.0.0.1:$port" "$home/serve.out"
}
kill_and_restart() {
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    serve
}
token() {
    "$chinwag" token create --user "$1" --ttl 1h --data "$home/data"
}

began=$SECONDS
serve
url=http://127.0.0.1:$port

# ---- publishers, subscribers, kills

CHINWAG_TOKEN=$(token publisher-0) timeout 60 "$chinwag" pub real-text --create --url "$url" \
    <"$home/first" >"$home/acks-first"
subscriber_pids=()
for i in $(seq $subscribers); do
    token=$(token "subscriber-$i")
    CHINWAG_TOKEN=$token timeout $bound "$chinwag" sub real-text --since start --url "$url" \
        >"$home/read-$i" 2>"$home/read-$i.log" &
    subscriber_pids+=($!)
    children+=($!)
done
publisher_pids=()
for i in $(seq 0 $((publishers - 1))); do
    token=$(token "publisher-$i")
    CHINWAG_TOKEN=$token timeout $bound "$chinwag" pub real-text --create --url "$url" \
        <"$home/part-$i" >"$home/acks-$i" 2>"$home/acks-$i.log" &
    publisher_pids+=($!)
    children+=($!)
done

acked() { cat "$home"/acks-? | wc -l; }
acked_at_least() { [ "$(acked)" -ge "$1" ]; }
kills=0
for third in 1 2; do
    until_true $bound "a third more is acknowledged" acked_at_least $((total * third / 3))
    kill_and_restart
    kills=$((kills + 1))
done
[ "$(acked)" -lt $((total - 1)) ] || fail "everything was published before the last kill; nothing was shown"

for pid in "${publisher_pids[@]}"; do
    wait "$pid" || fail "a publisher ended with $?; its log is in $home"
done
has_read_all() { [ "$(grep -c '"event":"message_posted"' "$home/read-$1")" -ge "$total" ] || ! sleep 0.5; }
for i in $(seq $subscribers); do
    until_true $rest_bound "subscriber $i reads everything" has_read_all "$i"
done
took=$((SECONDS - began))
for pid in "${subscriber_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
wait "${subscriber_pids[@]}" 2>/dev/null || true

# ---- the same for everybody

# In JSON a quote inside a string is written \", so these patterns meet members only, never text.
member() { sed -E "s/.*\"$1\":\"?([^\",}]*).*/\1/" "$2"; }
places() { paste -d ' ' <(member seq "$1") <(member id "$1") <(member client_id "$1"); }

cat "$home/acks-first" "$home"/acks-? >"$home/acks"
places "$home/acks" | sort -n >"$home/acknowledged"
[ "$(wc -l <"$home/acknowledged")" -eq "$total" ] ||
    fail "$total lines went in, $(wc -l <"$home/acknowledged") were acknowledged"
for i in $(seq $subscribers); do
    member seq "$home/read-$i" | awk '$1 != NR { print "record " NR " has seq " $1; exit 1 }' ||
        fail "subscriber $i: the seqs are not 1, 2, 3, ..."
    grep '"event":"message_posted"' "$home/read-$i" >"$home/messages-$i"
    places "$home/messages-$i" >"$home/list-$i"
    cmp "$home/acknowledged" "$home/list-$i" || fail "subscriber $i has other messages than were acknowledged"
done
# As serde_json writes it (RFC 8259, section 7): of the characters in this text only these three are escaped.
sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' "$home/text" | sort >"$home/text-in"
sed -E 's/.*"content":\{"text":"(([^"\\]|\\.)*)".*/\1/' "$home/messages-1" | sort >"$home/text-out"
cmp "$home/text-in" "$home/text-out" || fail "the text that came out is not the text that went in"

kill -9 "$server"
wait "$server" 2>/dev/null || true
server=
"$chinwag" data verify --data "$home/data" >"$home/verify" 2>&1 || fail "data verify: $(tail -n 3 "$home/verify")"

echo "real-text: lines=$total acked=$total publishers=$publishers subscribers=$subscribers kills=$kills seconds=$took" \
    "per_second=$((total / (took > 0 ? took : 1))): one text, one order, nothing lost, nothing twice"
