#!/usr/bin/env bash
# Plants the bugs of src/planted.rs one by one and lets the proofs look for them, each in a bounded form. Prints which proof
# found which bug; one that none finds fails, and so does a proof that finds something where no bug is in.
#   proto-tests/planted.sh [BUG...]
set -euo pipefail
cd "$(dirname "$0")/.."
logs=target/planted
rm -rf "$logs"
mkdir -p "$logs"

# The proofs, and which of their tests run.
suites=(sim model fsm packer conformance)
declare -A filter=([sim]='--skip speed' [model]='' [fsm]='' [packer]='' [conformance]='rfc --skip ledger')
export HERALD_SIM_SEEDS=500 HERALD_DUEL_SEEDS=100 HERALD_MODEL_STATES=2000 RUST_BACKTRACE=0

tests=()
for suite in "${suites[@]}"; do tests+=(--test "$suite"); done
proto-tests/proofs.sh --features planted --no-run "${tests[@]}" 2> "$logs/build.log" \
  || { tail -n 40 "$logs/build.log"; exit 1; }

# BUG SUITE BINARY FILTER...: the names of the tests that failed, into a file; nothing where all passed. What takes longer than
# twenty seconds, of one or two without a bug, hangs: that is a find too.
look() {
  local bug=$1 suite=$2 binary=$3
  local log=$logs/$bug.$suite
  shift 3
  local status=0
  HERALD_PLANTED=${bug#none} timeout 20 "$binary" "$@" > "$log.log" 2>&1 < /dev/null || status=$?
  sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log.log" > "$log.failed"
  grep -q '^test result: ' "$log.log" || [ "$status" -eq 0 ] || echo "ended with $status" >> "$log.failed"
  grep -q '^running [1-9]' "$log.log" || echo 'ran nothing' >> "$log.failed"
}
export -f look
export logs

if [ $# -gt 0 ]; then bugs=("$@"); else
  mapfile -t bugs < <(sed -n '/^bugs! {/,/^}/s/^    \([A-Z][A-Za-z]*\),$/\1/p' src/planted.rs)
fi
[ ${#bugs[@]} -gt 0 ] || { echo "no bugs to plant"; exit 1; }
for bug in none "${bugs[@]}"; do
  for suite in "${suites[@]}"; do
    binary=$(sed -n "s|^ *Executable .*(\(.*/$suite-[0-9a-f]*\))\$|\1|p" "$logs/build.log")
    echo "$bug $suite $binary${filter[$suite]:+ ${filter[$suite]}}"
  done
done | xargs -P "$(nproc)" -L 1 bash -c 'look "$@"' look

caught() { wc -l < "$logs/$1.$2.failed"; }
printf '%-24s' bug
printf '%-13s' "${suites[@]}"
echo 'caught by, for instance'
missed=()
for bug in "${bugs[@]}"; do
  printf '%-24s' "$bug"
  first=
  for suite in "${suites[@]}"; do
    count=$(caught "$bug" "$suite")
    printf '%-13s' "$([ "$count" -eq 0 ] && echo - || echo "$count")"
    [ -n "$first" ] || [ "$count" -eq 0 ] || first="$suite: $(head -n 1 "$logs/$bug.$suite.failed")"
  done
  echo "${first:-NOTHING}"
  [ -n "$first" ] || missed+=("$bug")
done
for suite in "${suites[@]}"; do
  [ "$(caught none "$suite")" -eq 0 ] || { echo "without a bug $suite fails:"; cat "$logs/none.$suite.failed"; missed+=("none ($suite)"); }
done
[ ${#missed[@]} -eq 0 ] || { echo "not as it should be: ${missed[*]}; logs in $logs"; exit 1; }
echo "${#bugs[@]} bugs planted, each one caught; nothing caught where there is none"
