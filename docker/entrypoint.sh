#!/bin/sh
# Started by tini: runs the agent, or another command if `docker run` names one.
set -eu
: "${CODEX_HOME:?is set by the image}"

# A volume keeps its first owner, even if the image is built for another user later. The worker can replace this folder
# by a link: with -h, chown then changes only the link.
if [ "$(stat -c %u "$CODEX_HOME")" != "$(id -u worker)" ]; then
    chown -hR worker: "$CODEX_HOME"
fi

if [ "$#" -gt 0 ]; then
    exec "$@"
fi
exec /usr/local/bin/worker-agent run --state /var/lib/worker-agent
