#!/usr/bin/env bash
# Records the output of the real Codex for each script in scripts/ as NAME.jsonl, and its exit code in exits.txt.
#
#   tests/transcripts/record.sh CODEX SCRIPTED_MODEL
#
# CODEX is the native binary (ensure_codex of tests/lib.sh prints its path), SCRIPTED_MODEL the program scripted-model.
# The results go to a folder named after Codex's version. Ids, addresses and paths, which differ from run to run, are
# replaced by constants.
set -euo pipefail

here=$(cd -- "$(dirname -- "$0")" && pwd)
codex=$(realpath -- "$1")
model=$(realpath -- "$2")

version=$("$codex" --version)
out=$here/${version##* }
# Not in the system's temporary folder, where Codex stores no helper programs.
work=$(mktemp -d "$here/.recording.XXXXXX")
pids=()
# shellcheck disable=SC2329 # called by the trap
end() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap end EXIT

"$model" --scripts "$here/scripts" --write-codex-home "$work/codex" >"$work/address" &
pids+=("$!")
until [ -s "$work/address" ]; do sleep 0.05; done

# run NAME [CODEX_ARG...] : starts Codex in a new workspace; sets $worker to its process id.
run() {
    local name=$1
    shift
    rm -rf "$work/ws" "${work:?}/home"
    mkdir -p "$work/ws" "$work/home"
    # With an empty environment, so that no settings of this machine affect the recording.
    printf 'Do it. [script:%s]\n' "$name" | env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$work/home" \
        LANG=C.UTF-8 CODEX_HOME="$work/codex" "$codex" exec --json --skip-git-repo-check -C "$work/ws" \
        -s danger-full-access "$@" - >"$work/$name.jsonl" 2>"$work/$name.stderr" &
    worker=$!
    pids+=("$worker")
}

# keep NAME : waits for the exit of Codex and stores the recording.
keep() {
    local name=$1 code=0 address
    wait "$worker" || code=$?
    address=$(cat "$work/address")
    sed -e "s|$work/ws|/ws|g" -e "s|${address%/v1}|http://127.0.0.1:8080|g" \
        -e 's/"thread_id":"[0-9a-f-]*"/"thread_id":"00000000-0000-7000-8000-000000000000"/' \
        "$work/$name.jsonl" >"$out/$name.jsonl"
    printf '%s %s\n' "$name" "$code" >>"$work/exits.txt"
    printf '%-26s exit %s, %s lines\n' "$name" "$code" "$(wc -l <"$out/$name.jsonl")" >&2
}

# interrupt NAME TEXT : sends SIGINT to Codex when it has printed TEXT, and stores the recording.
interrupt() {
    local limit=$((SECONDS + 60))
    until grep -qs "$2" "$work/$1.jsonl"; do
        [ "$SECONDS" -lt "$limit" ] || { echo "$1 never printed $2" >&2 && exit 1; }
        sleep 0.05
    done
    # $worker is Codex itself, the last process of the pipeline: env has executed it.
    kill -INT "$worker"
    keep "$1"
}

mkdir -p "$out"
for name in message command-ok command-failing command-slow commands-parallel file-change plan \
    turn-ends-before-command http-400 http-401 http-403 http-429-rate http-429-usage-limit http-429-usage-reset \
    context-length quota; do
    run "$name"
    keep "$name"
done

retries=(-c model_providers.scripted.request_max_retries=0 -c model_providers.scripted.stream_max_retries=5)
for name in http-500 http-500-passing http-503 server-error disconnect; do
    run "$name" "${retries[@]}"
    keep "$name"
done
run stall "${retries[@]}" -c model_providers.scripted.stream_idle_timeout_ms=500
keep stall

run sigint
interrupt sigint item.started
run sigint-silent
interrupt sigint-silent turn.started
# No program listens on port 9.
run no-server -c 'model_providers.scripted.base_url="http://127.0.0.1:9/v1"'
interrupt no-server Reconnecting
run no-key -c 'model_providers.scripted.env_key="NO_SUCH_KEY"'
keep no-key

sort "$work/exits.txt" >"$out/exits.txt"
