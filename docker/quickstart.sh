#!/usr/bin/env bash
# From a clone to a worker that was launched, watched and summarised. Installs nothing system-wide unless
# --install-docker is given; everything lies in target/.
#
#   ./docker/quickstart.sh [--engine docker|local] [--install-docker]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../tests/lib.sh
. tests/lib.sh

engine="" install_docker=0
while [ $# -gt 0 ]; do
    case $1 in
        --engine) engine=${2:?--engine needs docker or local}; shift ;;
        --install-docker) install_docker=1 ;;
        *) say "usage: ./docker/quickstart.sh [--engine docker|local] [--install-docker]"; exit 2 ;;
    esac
    shift
done
case $engine in '' | docker | local) ;; *) say "error: unknown engine '$engine': docker or local"; exit 2 ;; esac

site=$PWD/target/quickstart
projects=$site/workspace-projects
model_pid=""

clean_up() {
    [ ! -x target/programs/relay ] || [ ! -d "$site/platform" ] || target/programs/relay --root "$site" down --force >/dev/null 2>&1 || true
    [ -z "$model_pid" ] || kill "$model_pid" 2>/dev/null || true
    stop_docker_if_started
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Which engine, and why.
if [ "$engine" = local ]; then
    why="asked for with --engine local"
elif engine_answers; then
    engine=docker why="an engine answers"
elif [ "$install_docker" = 1 ]; then
    ensure_docker
    engine=docker why="installed and started as asked for with --install-docker"
elif [ "$engine" = docker ]; then
    fail "no docker engine answers: start it, or add --install-docker"
    exit 5
else
    engine=local why="no docker engine answers; --install-docker would install one"
fi
say "engine: $engine ($why)"

# Which model: the user's own, or a scripted one.
codex_home=${CODEX_HOME:-$HOME/.codex}
if [ -n "${CODEX_API_KEY:-}${OPENAI_API_KEY:-}" ] || [ -s "$codex_home/auth.json" ]; then
    say "model: yours (credentials found)"
    scripted=0
else
    say "model: scripted, on this machine (no credentials found: set CODEX_API_KEY to use a real one)"
    scripted=1
fi

ensure_cargo
say "building relay and worker-agent, unoptimised (the first time takes some minutes)"
./docker/build.sh --dev
relay=$PWD/target/programs/relay
in_site() { "$relay" --root "$site" "$@"; }

# The project: everything relay knows of it is in platform/relay.toml.
# (Volumes and running parts of an earlier run are taken up again.)
mkdir -p "$site/platform" "$projects/demo"
rm -rf "$projects/demo/checkout"
# A worker runs as whoever owns its folder. Root's own folder would make it root inside the container; it need not be.
[ "$engine" = local ] || [ "$(id -u)" != 0 ] || chown -R 1000:1000 "$projects"
./docker/sample.sh "$projects"
{
    printf '[platform]\nengine = "%s"\nname = "relay-quickstart"\ncerts = "%s"\n' "$engine" "$PWD/docker/certs"
    if [ "$engine" = local ]; then
        codex=$(command -v codex || ensure_codex "$PWD/target/codex")
        printf '[codex]\nprogram = "%s"\n' "$codex"
        # Codex's own sandbox needs unprivileged namespaces; where there are none, its commands would all fail.
        unshare --user true 2>/dev/null || printf 'sandbox = "off"\n'
    fi
} >"$site/platform/relay.toml"

if [ "$scripted" = 1 ]; then
    address=127.0.0.1
    [ "$engine" = local ] || [ "$(uname -s)" != Linux ] ||
        address=$(ip -4 -o addr show dev docker0 | sed 's/.* inet \([0-9.]*\).*/\1/')
    rm -f "$site/model"
    target/programs/scripted-model --listen "$address:0" --port-file "$site/model" --scripts tests/scripts \
        --write-codex-home "$site/codex-home" >"$site/model.log" 2>&1 &
    model_pid=$!
    until [ -s "$site/model" ]; do
        kill -0 "$model_pid" 2>/dev/null || { cat "$site/model.log" >&2; exit 1; }
        sleep 0.05
    done
    export CODEX_HOME=$site/codex-home
fi

if [ "$engine" = docker ]; then
    ensure_base_image
    copy_host_certs docker/certs
    # The agent is the image's last layer: building again is a matter of a second.
    say "building the platform image (the first time takes a minute or two)"
    in_site up --yes --build >"$site/build.log" 2>&1 || { tail -n 15 "$site/build.log" >&2; exit 5; }
fi
in_site up --yes

say ""
task='[script:work] Clone ../origin.git into ./checkout, install its dependencies, run its tests, change the greeting from
"Hello" to "Good morning" (the test too), run the tests again and commit the change.'
say "\$ relay launch -w workspace-projects/demo \"Clone … install … test … change … commit\""
in_site launch -w "$projects/demo" "$task"
say ""
say "\$ relay events -f    (the live steps)"
in_site events -f demo
say ""
say "\$ relay status demo"
in_site status demo
say ""
say "\$ relay wait demo    (the summary, as it is delivered at the end)"
in_site wait demo
say ""
say "Try it yourself: $relay --root $site up, then launch, status, logs -f, cancel. It is all in $site."
