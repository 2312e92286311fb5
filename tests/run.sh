#!/usr/bin/env bash
# Installs what the tests need and runs all tests. A missing Docker, podman or Codex is a failure: no test is skipped.
#
#   ./tests/run.sh [--no-install] [--release] [--nightly]
#
# --release tests the release programs instead of unoptimised ones, and takes some minutes more.
# --nightly implies --release, adds fuzzing and more development tools, and repeats tests as often as the design
# requires. It takes hours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib.sh
. tests/lib.sh

profile=default programs=target/programs
for argument; do
    case $argument in
        --no-install) export RELAY_NO_INSTALL=1 ;;
        --release) programs=target/release ;;
        --nightly) profile=nightly programs=target/release; export RELAY_TEST_NIGHTLY=1 ;;
        *) say "usage: ./tests/run.sh [--no-install] [--release] [--nightly]"; exit 2 ;;
    esac
done
trap 'kill $(jobs -p) 2>/dev/null || true; remove_podman_user || true; stop_docker_if_started' EXIT
trap 'exit 130' INT TERM
# step NAME... : prints the heading of a step, with the seconds since the start.
step() { say ""; say "== $* == (${SECONDS} s)"; }
# wait_for PID LOG : waits for a background task, prints its output LOG and returns its exit code.
wait_for() {
    local result=0
    wait "$1" || result=$?
    cat "$2" >&2
    return "$result"
}

step tools
mkdir -p target
ensure_cargo
packages=()
# need COMMAND PACKAGE : adds the package to those that are installed, unless the command exists.
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || packages+=("$2"); }
[ -x /bin/busybox ] || packages+=(busybox-static)
# Programs with which the tests disconnect networks.
need ip iproute2
need nft nftables
need sysctl procps
need python3 python3-minimal
need tmux tmux
need strace strace
need curl curl
# The shells for which there are completions, and the program that checks the man pages.
need fish fish
need zsh zsh
need groff groff-base
[ "$profile" != nightly ] || need gradle gradle
# The container engines, and the modules that pip needs.
engine_answers || command -v dockerd >/dev/null || packages+=(docker.io iptables)
command -v podman >/dev/null || packages+=(podman netavark iptables)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
[ ${#packages[@]} = 0 ] || apt_install "${packages[@]}"
ensure_cargo_tools "$PWD/target/tools"
ensure_docker "$PWD/target/dockerd.log"
ensure_podman "$PWD/target/podman"
ensure_podman_user
# In the background: installations, which mostly wait for the network and the disk.
(
    ensure_base_image
    ensure_codex "$PWD/target/codex" >/dev/null
    ensure_claude "$PWD/target/claude" >/dev/null
    ensure_mcp_client "$PWD/target/mcp-client" >/dev/null
    [ "$profile" != nightly ] || ensure_idle_tools "$PWD/target/idle-tools"
) >target/tools.log 2>&1 &
tools=$!
if [ "$programs" = target/release ]; then
    # Before use_static_target, because the release programs are built with other flags.
    ./docker/build.sh >target/build.log 2>&1 &
    building=$!
fi
use_static_target

step format and licences
cargo fmt --all --check
cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
if grep -rInE '^(<{7}|>{7}) ' --exclude-dir=target --exclude-dir=.git .; then
    fail "these lines are left from a merge"
fi
# The fuzz targets are a workspace of their own. Fails if its lock file is out of date.
cargo metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null
cargo deny --log-level error check --hide-inclusion-graph bans licenses sources
# Some machines can't reach the advisory database.
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check --hide-inclusion-graph advisories
else
    say "advisories: not checked, the database is out of reach"
fi

step build of the programs and the tests
# In one call, so that each crate is built once: the tests add features to some crates.
cargo build --quiet --workspace --bins --tests --locked
install_programs
# nextest gets these lists instead of calling cargo, which would wait for the lints that run at the same time.
cargo metadata --locked --format-version 1 >target/cargo-metadata.json
cargo nextest list --cargo-quiet --workspace --locked --list-type binaries-only --message-format json >target/tests.json

step image
wait_for "$tools" target/tools.log
[ "$programs" != target/release ] || wait_for "$building" target/build.log
RELAY_TEST_CODEX=$(ensure_codex "$PWD/target/codex")
export RELAY_TEST_CODEX
RELAY_TEST_CLAUDE=$(ensure_claude "$PWD/target/claude")
export RELAY_TEST_CLAUDE
RELAY_TEST_MCP_PYTHON=$(ensure_mcp_client "$PWD/target/mcp-client")
export RELAY_TEST_MCP_PYTHON
export RELAY_TEST_BIN_DIR=$PWD/$programs
export RELAY_TEST_IDLE_TOOLS=$PWD/target/idle-tools
copy_host_certs docker/certs
site=$PWD/target/image
mkdir -p "$site/platform" "$site/workspace-projects"
printf '[platform]\nengine = "docker"\nname = "relay-test-image"\nimage = "relay-platform:test"\ncerts = "%s"\n' \
    "$PWD/docker/certs" >"$site/platform/relay.toml"
"$programs/relay" --root "$site" up --yes --build >target/image.log 2>&1 || { tail -n 30 target/image.log >&2; exit 1; }
"$programs/relay" --root "$site" down >/dev/null

export RELAY_TEST_FIGURES=$PWD/target/figures.txt
: >"$RELAY_TEST_FIGURES"

if [ "$profile" = nightly ]; then
    step fuzz
    ./tests/fuzz.sh
fi

# Lints and documentation. They run with idle priority beside the tests.
lint() {
    cargo clippy --quiet --workspace --all-targets --locked -- -D warnings &&
        RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --document-private-items --locked
}

step tests, lints, documentation
rm -f target/lints.done
{
    chrt --idle --pid 0 "$BASHPID"
    result=0
    lint >target/lints.log 2>&1 || result=$?
    echo "$result" >target/lints.done
    exit "$result"
} &
lints=$!
# Four tests per core, because most tests wait for most of their time.
threads=$(($(nproc) * 4))
# The output of the lints and the figures are printed before nextest's summary, which comes last.
cargo nextest run --cargo-metadata target/cargo-metadata.json --binaries-metadata target/tests.json \
    --profile "$profile" --test-threads "$threads" --run-ignored all --no-fail-fast 2>&1 |
    awk -v figures="$RELAY_TEST_FIGURES" '
        /^ +Summary \[/ {
            while (system("test -e target/lints.done")) system("sleep 1")
            system("cat target/lints.log")
            while ((getline line < figures) > 0) print line
        }
        { print; fflush() }'
wait "$lints"
