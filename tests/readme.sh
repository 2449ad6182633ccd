#!/usr/bin/env bash
# Runs what README.md shows. Every `sh` block is taken from README.md itself, so the document
# cannot promise what does not work. What to do with a block stands in the comment line before it:
#
#   <!-- run -->                     it must succeed
#   <!-- run again until "TEXT" -->  it is repeated until it prints TEXT
#   <!-- run until "TEXT" -->        it is started and kept running; ready when it has printed TEXT
#   <!-- run elsewhere: STAGE -->    the gates run it as a stage of their own; skipped here
#
# With the release build present this takes some seconds. Everything it started is stopped at its
# end, however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
pids=()

stop() {
    local status=$? deadline=$((SECONDS + 20))
    # Each has a process group of its own, so that what it started hears it too.
    for pid in "${pids[@]}"; do kill -INT -- "-$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        while kill -0 -- "-$pid" 2>/dev/null; do
            if [ $SECONDS -ge $deadline ]; then
                echo "still running after 20 s, killed: $(cat "$scratch/$pid.what")"
                kill -KILL -- "-$pid" 2>/dev/null || true
                [ $status -ne 0 ] || status=1
            fi
            sleep 0.1
        done
    done
    wait
    if [ $status -ne 0 ]; then
        for log in "$scratch"/*.log; do printf '\n---- %s\n' "$log"; tail -n 30 "$log"; done
    fi
    rm -rf "$scratch"
    trap - EXIT
    exit $status
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

# Blocks into numbered files; beside each, in NN.how, what to do with it.
awk -v dir="$scratch" '
    /^<!-- run.*-->$/ { how = $0; sub(/^<!-- /, "", how); sub(/ -->$/, "", how); next }
    /^```sh$/ { if (how == "") { print "README.md line " NR ": a block without <!-- run -->" > "/dev/stderr"; exit 1 }
                block = sprintf("%s/%02d", dir, ++n); print how > (block ".how"); printf "" > (block ".sh"); next }
    /^```/    { block = ""; how = ""; next }
    block     { print > (block ".sh") }
' README.md
# Cargo may be told to build elsewhere.
if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    sed -i "s,target/release/,$CARGO_TARGET_DIR/release/,g" "$scratch"/*.sh
fi

# keep BLOCK TEXT: starts the block and waits until it has printed TEXT.
keep() {
    local log="${1%.sh}.log" deadline=$((SECONDS + 600))
    set -m
    bash -euo pipefail "$1" >"$log" 2>&1 </dev/null &
    set +m
    local pid=$!
    pids+=("$pid")
    head -n 1 "$1" >"$scratch/$pid.what"
    until grep -qF "$2" "$log"; do
        kill -0 "$pid" 2>/dev/null || { echo "ended before it printed: $2"; return 1; }
        [ $SECONDS -lt $deadline ] || { echo "did not print in time: $2"; return 1; }
        sleep 0.1
    done
}

# again BLOCK TEXT: repeats the block until it prints TEXT.
again() {
    local deadline=$((SECONDS + 60)) output
    until output=$(bash -euo pipefail "$1" </dev/null 2>&1) && grep -qF "$2" <<<"$output"; do
        [ $SECONDS -lt $deadline ] || { echo "$output"; echo "did not print in time: $2"; return 1; }
        sleep 0.1
    done
    echo "$output"
}

rm -rf .amop/trade
for block in "$scratch"/[0-9]*.sh; do
    how=$(cat "${block%.sh}.how")
    printf '\n%s\n' "== $how: $(head -n 1 "$block")"
    case $how in
    "run") bash -euo pipefail "$block" </dev/null ;;
    "run again until "*) text=${how#run again until \"}; again "$block" "${text%\"}" ;;
    "run until "*) text=${how#run until \"}; keep "$block" "${text%\"}" ;;
    "run elsewhere: "*) grep -q "^stage_${how#run elsewhere: }()" .ci/run ;;
    *) echo "README.md: cannot read <!-- $how -->"; exit 1 ;;
    esac
done
printf '\nevery command of README.md works\n'
