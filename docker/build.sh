#!/usr/bin/env bash
# Builds the release programs target/release/relay and target/release/worker-agent. On Linux both are static: the agent
# must run in any image, and relay starts faster this way. On other systems the agent is built in a Rust container.
#
#   ./docker/build.sh [--dev] [--verbose]
#
# --dev instead builds all programs of the workspace into target/programs, unoptimised and in half the time: for
# docker/quickstart.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../tests/lib.sh
. tests/lib.sh
# This script takes the programs from target/.
unset CARGO_TARGET_DIR

quiet=(--quiet) dev=0
for argument; do
    case $argument in
        --dev) dev=1 ;;
        --verbose) quiet=() ;;
        *) say "usage: ./docker/build.sh [--dev] [--verbose]"; exit 2 ;;
    esac
done

if [ "$dev" = 1 ] && [ "$(uname -s)" = Linux ]; then
    use_static_target
    cargo build "${quiet[@]}" --locked --workspace --bins
    install_programs
    exit
fi

machine=$(uname -m)
[ "$machine" = arm64 ] && machine=aarch64
target=$machine-unknown-linux-gnu
# Tables for unwinding would only make the programs larger: a panic aborts, and stripped programs have no backtraces. The
# linker drops those of the standard library.
flags='-C target-feature=+crt-static -C force-unwind-tables=no'
flags+=' -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-T,docker/release.ld'
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=
if [ "$(printf '%s\n' 2.36 "${libc#glibc }" | sort -V | head -n 1)" = 2.36 ]; then
    # Older C libraries can't start a static program whose relocations are packed.
    flags+=' -C link-arg=-Wl,-z,pack-relative-relocs'
fi
# With --target, the flags don't affect build scripts and macros, which can't be static.
build=(cargo build "${quiet[@]}" --release --locked --target "$target")
mkdir -p target/release
if [ "$(uname -s)" = Linux ]; then
    RUSTFLAGS=$flags "${build[@]}" -p relay -p worker-agent
    install -m 755 "target/$target/release/relay" "target/$target/release/worker-agent" target/release/
else
    cargo build "${quiet[@]}" --release --locked -p relay
    docker run --rm -v "$PWD":/src -w /src -e RUSTFLAGS="$flags" rust:1-slim "${build[@]}" -p worker-agent
    install -m 755 "target/$target/release/worker-agent" target/release/
fi
if [ "$dev" = 1 ]; then
    # On other systems, the release programs are used for --dev, too.
    cargo build "${quiet[@]}" --locked -p relay-tests --bin scripted-model
    mkdir -p target/programs
    install -m 755 target/release/relay target/release/worker-agent target/debug/scripted-model target/programs/
fi
