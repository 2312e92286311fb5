//! End-to-end tests of the real programs, with one file for each behaviour.
//!
//! Tests that need the real Codex or Docker are ignored on a plain machine; `tests/run.sh` installs both and runs all.

#![expect(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod agents;
mod bad_input;
mod boxes;
mod cancel;
mod clocks;
mod codex;
mod command_line;
mod completions;
mod container;
mod container_death;
mod delivery;
mod doctor;
mod escapes;
mod evidence;
mod explain;
mod extend;
mod fake_engine;
mod flood;
mod folders;
mod follow_ups;
mod following;
mod freeze;
mod hooks;
mod idle_tools;
mod inheritance;
mod init;
mod kills;
mod leftover_state;
mod limits;
mod machine;
mod many_agents;
mod mcp;
mod model;
mod model_gateway;
mod model_meter;
mod notices;
mod output_kills;
mod partition;
mod place_cache;
mod place_codex;
mod place_follow_ups;
mod place_hostile;
mod place_kills;
mod places;
mod podman;
mod port_access;
mod queue;
mod readme;
mod recovery;
mod registry;
mod requests;
mod sandbox;
mod shell_jobs;
mod stalls;
mod storage;
mod storage_many;
mod storage_place;
mod subscribers;
mod top;
mod trust;
mod waiting;
mod warnings;
