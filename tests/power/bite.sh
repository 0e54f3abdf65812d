#!/usr/bin/env bash
# Shows that the power test can fail: takes our own sync out of a copy of the sources, builds the copy, and cuts its
# power. A server that acknowledges what is not on the disk has to be caught; if it is not, this script fails.
#
# The product has no switch for this, and must not have one. Run once per change of the committer, as root:
# `tests/power/bite.sh`; `docs/durability.md` records what it said.

set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" -eq 0 ] || { echo "bite: power cuts need root" >&2; exit 2; }
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --exclude=./target --exclude=./.git -cf - . | tar -xf - -C "$copy"

# The same type, and no effect: the length is asked for and thrown away. Only the syncs that come with every commit are
# taken out, the log's and its mark's: a directory whose making was not synced would be refused before anything is lost.
mapfile -t files < <(grep -lE '\.sync_data\(\)' "$copy"/src/store/sled/{committer,highwater}.rs || true)
[ ${#files[@]} -eq 2 ] || { echo "bite: the syncs are not where they were; teach this script where they are" >&2; exit 2; }
sed -i -E 's/\.sync_data\(\)/.metadata().map(drop)/g' "${files[@]}"
echo "bite: took out $(cat "${files[@]}" | grep -c '\.metadata()\.map(drop)') syncs in ${#files[@]} files"

CARGO_TARGET_DIR=$PWD/target/bite cargo build --locked --manifest-path "$copy/Cargo.toml" ||
    { echo "bite: the copy without its syncs does not build" >&2; exit 2; }
cargo test --locked --release --test power --no-run

out=$copy/power.out
if CHINWAG_BIN=$PWD/target/bite/debug/chinwag CHINWAG_POWER_CUTS=${CHINWAG_POWER_CUTS:-5} RUST_BACKTRACE=0 \
    cargo test --locked --release --test power -- --ignored --nocapture >"$out" 2>&1; then
    grep -E '^(NOTICE|power|cut)' "$out" || true
    echo "bite: NOT CAUGHT: the power test passes without a sync" >&2
    exit 1
fi
grep -E '^(seed|cut|power|until then|the server|not |a power cut|    )' "$out" | head -n 30
# A harness that broke for a reason of its own has caught nothing.
grep -qE '(lost|vanished|gaps|reused)=[1-9]|the server (ended instead of serving|did not become ready)|not everything could be read' \
    "$out" || { echo "bite: the test failed, but not by finding a loss" >&2; exit 2; }
echo "bite: caught: without the sync, acknowledged messages are lost, and the test says so"
