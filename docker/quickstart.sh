#!/usr/bin/env bash
# Builds relay, launches a worker, follows it and prints its summary. Installs nothing system-wide unless
# --install-docker is given; all files are in target/.
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

# Chooses the engine and says why.
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

# Chooses the model: the user's own if there are credentials, otherwise a scripted one.
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

# Creates the project, with its settings in platform/relay.toml. Volumes of an earlier run are used again.
mkdir -p "$site/platform" "$projects/demo"
rm -rf "$projects/demo/checkout"
# Workers run as the owner of this folder. Root gives it away, so that the worker is not root in the container.
[ "$engine" = local ] || [ "$(id -u)" != 0 ] || chown -R 1000:1000 "$projects"
./docker/sample.sh "$projects/demo"
{
    printf '[platform]\nengine = "%s"\nname = "relay-quickstart"\ncerts = "%s"\n' "$engine" "$PWD/docker/certs"
    if [ "$engine" = local ]; then
        codex=$(command -v codex || ensure_codex "$PWD/target/codex")
        printf '[codex]\nprogram = "%s"\n' "$codex"
        # Codex's sandbox needs unprivileged user namespaces. Without them, all commands of Codex would fail.
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
    # Building again takes only a second, because the agent is the last layer of the image.
    say "building the platform image (the first time takes a minute or two)"
    in_site up --yes --build >"$site/build.log" 2>&1 || { tail -n 15 "$site/build.log" >&2; exit 5; }
fi
in_site up --yes

say ""
task='[script:work] Clone ./origin.git into ./checkout, install its dependencies, run its tests, change the greeting from
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
