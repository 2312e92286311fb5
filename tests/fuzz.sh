#!/usr/bin/env bash
# Feeds every reader of outside bytes with whatever a fuzzer comes up with.
#
#   ./tests/fuzz.sh [SECONDS [TARGET...]]      SECONDS for each target, 60 unless told
#
# With RELAY_TEST_NIGHTLY=1 each target runs 10^9 times, or for SECONDS, then 4 hours unless told.
#
# A panic, an abort, a hang of 10 s or too much memory is a finding: the input that does it is kept, named, and the
# script fails. What is found to lead somewhere new is kept in target/fuzz and begins the next run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib.sh
. tests/lib.sh

nightly=$([ "${RELAY_TEST_NIGHTLY:-}" != 1 ] || printf 1)
seconds=${1:-${nightly:+14400}}
seconds=${seconds:-60}
shift $(($# > 0 ? 1 : 0))
targets=("$@")
[ $# -gt 0 ] || targets=(agent-frame relay-frame spool event-log codex config requests records)

# libFuzzer is C++; its coverage counters come with any stable compiler.
command -v c++ >/dev/null 2>&1 || apt_install g++
machine=$(rustc -vV | sed -n 's/^host: //p')
home=$PWD/target/fuzz
mkdir -p "$home"
# The flags of `cargo fuzz --sanitizer none`.
flags='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters'
flags+=' -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing'
# With --target, build scripts and macros stay as they are.
RUSTFLAGS=$flags CARGO_TARGET_DIR=$home/build cargo build --quiet --release --locked --target "$machine" \
    --manifest-path tests/fuzz/Cargo.toml

# fuzz TARGET : one target; its figure, or its finding.
fuzz() {
    local target=$1 log=$home/$1.log corpus=$home/$1.corpus limit executions length=8192
    local options=(-timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$home/$target-")
    case $target in
        # A little more than the longest frame.
        *-frame) length=1100000 ;;
        # More than what is kept of a line.
        codex) length=70000 ;;
    esac
    [ ! -f "tests/fuzz/$target.dict" ] || options+=(-dict="tests/fuzz/$target.dict")
    mkdir -p "$corpus"
    limit=(-max_total_time="$seconds")
    [ -z "$nightly" ] || limit+=(-runs=1000000000)
    if ! "$home/build/$machine/release/$target" "${options[@]}" "${limit[@]}" -max_len="$length" \
        "$corpus" "tests/fuzz/seeds/$target" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        fail "fuzz target $target: a finding, its input is $(grep -ao "$home/$target-[^ ]*" "$log" | tail -n 1)"
        return
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    figure "C01: target $target: $executions executions, 0 findings"
}

# figure TEXT : the same line that the tests print.
figure() {
    printf 'figure: %s\n' "$1"
    [ -z "${RELAY_TEST_FIGURES:-}" ] || printf 'figure: %s\n' "$1" >>"$RELAY_TEST_FIGURES"
}

# Two at a time: a fuzzer keeps a core busy.
failed=0
for ((at = 0; at < ${#targets[@]}; at += 2)); do
    running=()
    for target in "${targets[@]:at:2}"; do
        fuzz "$target" &
        running+=($!)
    done
    for pid in "${running[@]}"; do
        wait "$pid" || failed=1
    done
done
exit "$failed"
