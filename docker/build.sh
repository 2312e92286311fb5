#!/usr/bin/env bash
# Builds the release programs side by side: target/release/relay and target/release/worker-agent. On Linux both are static:
# the agent has to run in any image, and relay starts sooner without a dynamic linker. Elsewhere the agent is
# built inside a Rust container.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# The programs are taken from here below.
unset CARGO_TARGET_DIR
mkdir -p target/release

quiet=(--quiet)
[ "${1:-}" = --verbose ] && quiet=()

machine=$(uname -m)
[ "$machine" = arm64 ] && machine=aarch64
target=$machine-unknown-linux-gnu
# A panic aborts, and stripped programs have no backtraces: tables for unwinding would only make them larger.
flags='-C target-feature=+crt-static -C force-unwind-tables=no'
# With --target, build scripts and macros stay dynamic: they can't be built static.
build=(cargo build "${quiet[@]}" --release --locked --target "$target")
if [ "$(uname -s)" = Linux ]; then
    RUSTFLAGS=$flags "${build[@]}" -p relay -p worker-agent
    install -m 755 "target/$target/release/relay" "target/$target/release/worker-agent" target/release/
else
    cargo build "${quiet[@]}" --release --locked -p relay
    docker run --rm -v "$PWD":/src -w /src -e RUSTFLAGS="$flags" rust:1-slim "${build[@]}" -p worker-agent
    install -m 755 "target/$target/release/worker-agent" target/release/
fi
