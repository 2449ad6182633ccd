#!/usr/bin/env bash
# Runs what README.md shows. Every `sh` block is taken from README.md itself, so the document
# cannot promise what does not work. A block's kind stands in the comment line before it:
#
#   <!-- run: tests -->    the gates run this command as a stage of their own; here it is skipped
#   <!-- run: devnet -->   kept running; the blocks after it find the devnet up
#   <!-- run: background --> kept running as long as this script
#   <!-- run -->           must succeed
#
# With the release build present this takes some seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
readme=$PWD/README.md
scratch=$(mktemp -d)
pids=()
stop() {
    local status=$?
    # Each has a process group of its own, so that what it started hears it too.
    for pid in "${pids[@]}"; do kill -INT -- "-$pid" 2>/dev/null || true; done
    wait
    if [ $status -ne 0 ]; then
        for log in "$scratch"/*.log; do printf '\n---- %s\n' "$log"; tail -n 30 "$log"; done
    fi
    rm -rf "$scratch"
}
trap stop EXIT

# until_true SECONDS COMMAND…: waits for a condition, with a deadline.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "gave up waiting for: $*"; return 1; }
        read -rt 0.1 <> <(:) || true
    done
}

# Blocks into numbered files, each with its kind.
awk -v dir="$scratch" '
    /^<!-- run/ { kind = $0; sub(/^<!-- run:? */, "", kind); sub(/ *-->.*/, "", kind); if (kind == "") kind = "once"; next }
    /^```sh/    { if (kind == "") { print "README.md line " NR ": a block without <!-- run -->" > "/dev/stderr"; exit 1 }
                  n++; file = sprintf("%s/%02d.%s", dir, n, kind); printf "" > file; inside = 1; next }
    /^```/      { inside = 0; kind = ""; next }
    inside      { print > file }
' "$readme"

run_background() { # FILE LOG
    set -m
    bash -euo pipefail "$1" >"$2" 2>&1 </dev/null &
    pids+=($!)
    set +m
}
rm -rf .amop/trade

for block in "$scratch"/[0-9]*; do
    kind=${block##*.}
    printf '%s: %s\n' "$kind" "$(head -n 1 "$block")"
    case $kind in
    tests) ;;
    devnet)
        rm -f .amop/devnet/devnet.json
        run_background "$block" "$block.log"
        until_true 120 test -e .amop/devnet/devnet.json
        ;;
    background)
        run_background "$block" "$block.log"
        ;;
    once) bash -euo pipefail "$block" ;;
    *) echo "README.md: unknown kind of block: $kind"; exit 1 ;;
    esac
done
echo "every command of README.md works"
