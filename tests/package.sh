#!/usr/bin/env bash
# Makes the package and sees that what is in it works: checksums, the same bytes twice, the program, manual pages, and the
# unit for systemd, whose sandbox must not get weaker.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

archive=$(packaging/release.sh --out "$scratch/one" | tail -n 1)
again=$(packaging/release.sh --out "$scratch/two" | tail -n 1)
cmp "$archive" "$again"
(cd "$scratch/one" && sha256sum --check --quiet ./*.sha256)
tar -C "$scratch" -xzf "$archive"
root=$(echo "$scratch"/amop-*/)

for page in "$root"/man/man1/*.1; do
    # Warnings of the formatter are mistakes in the page.
    if command -v man >/dev/null; then man --warnings -E UTF-8 -l "$page" 2>&1 >/dev/null | (! grep .); fi
done
bash -n "$root/completions/amop.bash"

# What the unit runs before it starts a node, with a consortium of this moment in the place of /etc/amop.
"$root/bin/amop" certs ca --name consortium --out "$scratch/ca" >/dev/null
"$root/bin/amop" certs institution --name bank-a --ca "$scratch/ca" --out "$scratch/bank-a" >/dev/null
"$root/bin/amop" certs node --name node-1 --institution "$scratch/bank-a" --out "$scratch/etc" >/dev/null
cp "$root/etc/amop.example.toml" "$scratch/etc/amop.toml"
check=$(sed -n "s,^ExecStartPre=/usr/local/bin/amop \(.*\) /etc/amop/amop.toml$,\1,p" "$root/systemd/amop.service")
# shellcheck disable=SC2086 # several words
"$root/bin/amop" $check "$scratch/etc/amop.toml"

command -v systemd-analyze >/dev/null || { apt-get update -qq && apt-get install -qq -y systemd; }
unit=$scratch/amop.service
# So that its program is there.
sed "s,/usr/local/bin/amop,$root/bin/amop," "$root/systemd/amop.service" >"$unit"
systemd-analyze verify --man=no "$unit"
systemd-analyze security --offline=yes --threshold=15 "$unit" >"$scratch/security" ||
    { cat "$scratch/security"; exit 1; }
tail -n 1 "$scratch/security"
