#!/usr/bin/env bash
# Licences, bans and sources of the lock file, by cargo-deny; it is built once into the cache.
set -euo pipefail
cache=${HERALD_CACHE:-$HOME/.cache/herald}
bin=$cache/tools/bin/cargo-deny
[ -x "$bin" ] || cargo install cargo-deny --locked --root "$cache/tools"
cargo fetch --locked
"$bin" --offline --all-features check --hide-inclusion-graph bans licenses sources
