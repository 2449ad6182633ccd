#!/usr/bin/env bash
# Builds the program and packs it with all that an operator needs of it, the same bytes for the same commit and
# toolchain, and writes checksums.
#
#   packaging/release.sh [--target TRIPLE] [--out DIR]
#
# Without --target: for this machine, with its C library. --target x86_64-unknown-linux-musl makes a program that
# needs none (rustup target add x86_64-unknown-linux-musl, and musl-gcc, which Debian has in musl-tools).
set -euo pipefail
cd "$(dirname "$0")/.."
target='' out=target/dist
while [ $# -gt 0 ]; do
    case $1 in
        --target) target=${2:?--target needs a triple}; shift 2 ;;
        --out) out=${2:?--out needs a directory}; shift 2 ;;
        *) echo "usage: packaging/release.sh [--target TRIPLE] [--out DIR]" >&2; exit 2 ;;
    esac
done

built=${CARGO_TARGET_DIR:-target}${target:+/$target}/release/amop
cargo build --release --locked -p amop ${target:+--target "$target"}
version=$("$built" --version | cut -d' ' -f2)
name=amop-$version-${target:-$(rustc -vV | sed -n 's/^host: //p')}

mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/$name
install -D -m 755 -t "$root/bin" "$built"
install -D -m 644 -t "$root/systemd" packaging/systemd/*
install -D -m 644 -t "$root/grafana" packaging/grafana/*
install -D -m 644 -t "$root/doc" README.md LICENSE CHANGELOG.md docs/*.md
install -D -m 644 amop.example.toml "$root/etc/amop.example.toml"
"$built" man "$root/man/man1" >/dev/null
mkdir "$root/completions"
for shell in bash zsh fish; do "$built" completions "$shell" >"$root/completions/amop.$shell"; done

# Nothing of this machine and this moment gets in.
date=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar -C "$scratch" --sort=name --owner=0 --group=0 --numeric-owner --mode=go+rX-w --mtime="@$date" -cf - "$name" |
    gzip -n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$out/$name.tar.gz"
