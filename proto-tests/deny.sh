#!/usr/bin/env bash
# Licences, bans and sources of every lock file in the tree, by cargo-deny; it is built once into the cache.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${HERALD_CACHE:-$HOME/.cache/herald}
bin=$cache/tools/bin/cargo-deny
[ -x "$bin" ] || cargo install cargo-deny --locked --root "$cache/tools"
for package in . proto-tests/proofs proto-tests/fuzz; do
  cargo fetch --locked --manifest-path "$package/Cargo.toml"
  "$bin" --offline --manifest-path "$package/Cargo.toml" --config deny.toml --all-features \
    check --hide-inclusion-graph bans licenses sources
done
