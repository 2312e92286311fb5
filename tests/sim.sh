#!/usr/bin/env bash
# Runs many seeds of the simulation with all its faults, and each planted bug until it is found.
#
#   ./tests/sim.sh [SEEDS]      20,000 by default
#
# Prints how many seeds were run and what was found. Fails if an event was lost, duplicated or not delivered in time, or
# if a planted bug was not found within 1,000 seeds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export RELAY_SIM_SEEDS=${1:-20000}
cargo test --quiet --release --locked -p relay-tests --test sim -- --nocapture n17_ planted::
