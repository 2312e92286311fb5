#!/usr/bin/env bash
# Plays seeds of the simulation with every fault it knows, and each planted bug until it is found.
#
#   ./tests/sim.sh [SEEDS]      20,000 unless told
#
# Tells how many seeds were played and what was found. Fails if a seed lost, doubled or held up anything, or if a planted
# bug was not found within 1,000 seeds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export RELAY_SIM_SEEDS=${1:-20000}
cargo test --quiet --release --locked -p relay-tests --test sim -- --nocapture n17_ planted::
