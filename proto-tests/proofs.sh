#!/usr/bin/env bash
# `cargo test` for the package of proofs: proto-tests/proofs.sh --test sim [-- when_quiet]
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --locked --manifest-path proto-tests/proofs/Cargo.toml --target-dir target/proofs "$@"
