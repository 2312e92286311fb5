#!/usr/bin/env bash
# Fuzzes all code that reads bytes from outside: the targets of tests/fuzz.
#
#   ./tests/fuzz.sh [SECONDS [TARGET...]]      SECONDS for each target, 60 by default
#
# With RELAY_TEST_NIGHTLY=1 each target runs until 10^9 executions or SECONDS, 4 hours by default, are reached.
#
# A panic, an abort, a hang of 10 s or too much memory is a finding: the script keeps and names the input that causes
# it, and fails. Inputs that reach new code stay in target/fuzz for the next run.
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

# libFuzzer is written in C++. Its coverage counters need no nightly Rust compiler.
command -v c++ >/dev/null 2>&1 || apt_install g++
machine=$(rustc -vV | sed -n 's/^host: //p')
home=$PWD/target/fuzz
mkdir -p "$home"
# The compiler flags of `cargo fuzz --sanitizer none`.
flags='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters'
flags+=' -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing'
# With --target, build scripts and macros are built without these flags.
RUSTFLAGS=$flags CARGO_TARGET_DIR=$home/build cargo build --quiet --release --locked --target "$machine" \
    --manifest-path tests/fuzz/Cargo.toml

# fuzz TARGET : fuzzes one target; prints its figure, or its finding.
fuzz() {
    local target=$1 log=$home/$1.log corpus=$home/$1.corpus limit executions length=8192
    local options=(-timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$home/$target-")
    case $target in
        # A little more than the length of the longest frame.
        *-frame) length=1100000 ;;
        # More than the length to which a line is truncated.
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
    figure "random bytes, target $target (fault C01): $executions executions, 0 findings"
}

# figure TEXT : prints a figure in the same form as the tests do.
figure() {
    printf 'figure: %s\n' "$1"
    [ -z "${RELAY_TEST_FIGURES:-}" ] || printf 'figure: %s\n' "$1" >>"$RELAY_TEST_FIGURES"
}

# Two targets at a time, because a fuzzer uses a whole core.
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
