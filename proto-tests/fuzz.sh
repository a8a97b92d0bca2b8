#!/usr/bin/env bash
# Runs every fuzz target for some seconds, as many at a time as there are cores:
#   proto-tests/fuzz.sh SECONDS [TARGET...]
#   proto-tests/fuzz.sh build      only builds them
#
# cargo-fuzz is built once into the cache. Inputs to begin with: proto-tests/fuzz/seeds/TARGET (regressions among them), and
# where HERALD_CORPORA names their folder, streams that other speakers are fuzzed with. What is found on the way stays in
# target/fuzz; an input that fails is printed there with its name, and belongs into seeds/TARGET once it is understood.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: proto-tests/fuzz.sh SECONDS|build [TARGET...]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' proto-tests/fuzz/Cargo.toml | grep -vx herald-fuzz)
cache=${HERALD_CACHE:-$HOME/.cache/herald}
[ -x "$cache/tools/bin/cargo-fuzz" ] || cargo install cargo-fuzz --locked --root "$cache/tools"
work=$PWD/target/fuzz
mkdir -p "$work"
"$cache/tools/bin/cargo-fuzz" build --fuzz-dir proto-tests/fuzz -s none --target-dir "$work/build"
[ "$seconds" != build ] || exit 0

# Streams of others: for the targets that read whole messages or bodies of them.
others=
if [ -n "${HERALD_CORPORA:-}" ]; then
  others=$work/others
  if [ ! -d "$others" ]; then
    mkdir -p "$others.part"
    for archive in "$HERALD_CORPORA"/qlyoung-corpi/*-unique.tar.gz; do tar -xzf "$archive" -C "$others.part" --strip-components=1; done
    mv "$others.part" "$others"
  fi
  [ "$(ls "$others" | wc -l)" -gt 2000 ] || { echo "HERALD_CORPORA has no streams to begin with"; exit 1; }
fi

# TARGET: its log, and its exit status beside it.
run() {
  local target=$1 status=0
  local inputs=("$work/corpus/$target" "proto-tests/fuzz/seeds/$target")
  mkdir -p "${inputs[0]}" "$work/artifacts/$target"
  case $target in message | open | update | stream) [ -z "$others" ] || inputs+=("$others") ;; esac
  "$work"/build/*/release/"$target" "${inputs[@]}" -artifact_prefix="$work/artifacts/$target/" -max_total_time="$seconds" \
    -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 >"$work/$target.log" 2>&1 || status=$?
  echo "$status" > "$work/$target.status"
}
export -f run
export work others seconds

for target in "${targets[@]}"; do rm -f "$work/$target.log" "$work/$target.status"; done
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I {} bash -c 'run {}'

failed=()
for target in "${targets[@]}"; do
  log=$work/$target.log
  status=$(cat "$work/$target.status" 2>/dev/null || echo 'no status')
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 || true)
  printf '%-14s %9s runs  %s\n' "$target" "${runs:-0}" "$coverage"
  if [ "$status" != 0 ]; then
    failed+=("$target")
    tail -n 40 "$log"
  elif [ "${runs:-0}" -lt 100 ]; then
    failed+=("$target (hardly ran)")
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
echo "${#targets[@]} targets, $seconds s each, nothing found"
