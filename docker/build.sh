#!/usr/bin/env bash
# Builds the release programs side by side: target/release/relay and target/release/worker-agent. On Linux both are static:
# the agent has to run in any image, and relay starts sooner without a dynamic linker. Elsewhere the agent is
# built inside a Rust container.
#
#   ./docker/build.sh [--dev] [--verbose]
#
# --dev builds all programs of the workspace into target/programs instead, unoptimised and in half the time: for the
# tests, which share this build, and for a first try.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../tests/lib.sh
. tests/lib.sh
# The programs are taken from here below.
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
    mkdir -p target/programs
    for program in relay worker-agent scripted-model; do
        # The agent becomes a layer of images: symbols would make it several times as large.
        strip --strip-debug -o "target/programs/$program" "target/$CARGO_BUILD_TARGET/debug/$program"
    done
    exit
fi

machine=$(uname -m)
[ "$machine" = arm64 ] && machine=aarch64
target=$machine-unknown-linux-gnu
# The linker drops what remains of the tables for unwinding, those of the standard library.
flags='-C target-feature=+crt-static -C force-unwind-tables=no'
flags+=' -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-T,docker/release.ld'
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=
if [ "$(printf '%s\n' 2.36 "${libc#glibc }" | sort -V | head -n 1)" = 2.36 ]; then
    # Older C libraries can't start a static program whose relocations are packed.
    flags+=' -C link-arg=-Wl,-z,pack-relative-relocs'
fi
# With --target, build scripts and macros stay dynamic: they can't be built static.
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
    # Elsewhere, one build serves both purposes.
    cargo build "${quiet[@]}" --locked -p relay-tests --bin scripted-model
    mkdir -p target/programs
    install -m 755 target/release/relay target/release/worker-agent target/debug/scripted-model target/programs/
fi
