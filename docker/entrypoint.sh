#!/bin/sh
# What tini starts: the agent, or the command that was given instead (for a look inside).
set -eu
: "${CODEX_HOME:?is set by the image}"

# A volume keeps the owner that it was first filled with, also when the image is built for another user later. The
# worker can write beside this folder: -h, so that a link put in its place leads to no other file.
if [ "$(stat -c %u "$CODEX_HOME")" != "$(id -u worker)" ]; then
    chown -hR worker: "$CODEX_HOME"
fi

if [ "$#" -gt 0 ]; then
    exec "$@"
fi
exec /usr/local/bin/worker-agent run --state /var/lib/worker-agent
