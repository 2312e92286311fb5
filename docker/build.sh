#!/usr/bin/env bash
# Builds the release programs side by side: target/release/relay, and target/release/worker-agent as a static file that
# runs in any image. On a host that is not Linux the agent is built inside a Rust container.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quiet=(--quiet)
[ "${1:-}" = --verbose ] && quiet=()

cargo build "${quiet[@]}" --release --locked -p relay

machine=$(uname -m)
[ "$machine" = arm64 ] && machine=aarch64
target=$machine-unknown-linux-gnu
# With --target, build scripts and macros stay dynamic: they can't be built static.
build=(cargo build "${quiet[@]}" --release --locked -p worker-agent --target "$target")
flags='-C target-feature=+crt-static'
if [ "$(uname -s)" = Linux ]; then
    RUSTFLAGS=$flags "${build[@]}"
else
    docker run --rm -v "$PWD":/src -w /src -e RUSTFLAGS="$flags" rust:1-slim "${build[@]}"
fi
install -m 755 "target/$target/release/worker-agent" target/release/worker-agent
