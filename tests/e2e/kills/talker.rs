//! A stand-in for Codex that tells numbered messages, many a second, until it is told to stop: what the real one can't
//! be made to do. Whoever reads the registry can then say which message is missing, doubled or out of place.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::event::EventBody;
use common::event_line::{EventLine, Source};
use relay_tests::harness::{Engine, Site};

/// Bursts of 10, so that several share a group and kills fall between and inside of them. The full stop keeps a number
/// apart from whatever stands behind it in a file of another format.
const SCRIPT: &str = r#"#!/bin/sh
if [ "$1" = --version ]; then echo codex-cli 0.169.0; exit; fi
cat >/dev/null
echo '{"type":"thread.started","thread_id":"t"}'
echo '{"type":"turn.started"}'
n=0
until [ -e stop ]; do
    burst=$((n + 10))
    while [ $n -lt $burst ]; do
        n=$((n + 1))
        echo '{"type":"item.completed","item":{"id":"item_'$n'","type":"agent_message","text":"message '$n'."}}'
    done
    sleep 0.04
done
echo $n >>told
echo '{"type":"turn.completed","usage":{"input_tokens":1,"cached_input_tokens":0,"output_tokens":1}}'
"#;

/// Jobs at once.
pub(crate) const JOBS: u32 = 3;

/// A site on this machine whose Codex is the talker.
pub(crate) fn site() -> Site {
    let site = Site::new(Engine::Local);
    let program = site.state_home().join("talker");
    fs::write(&program, SCRIPT).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let codex = format!("program = \"{}\"\nsandbox = \"off\"", program.display());
    site.configure(&format!("max_jobs = {JOBS}\n[codex]\n{codex}\n"));
    // A provider of one's own counts as credentials.
    site.write_codex("config.toml", "model_provider = \"none\"\n");
    site
}

/// Launches a talker in a workspace of its own.
pub(crate) fn launch(site: &Site, workspace: &str) -> String {
    site.write(&format!("workspace-projects/{workspace}/README"), "a workspace\n");
    let dir = format!("workspace-projects/{workspace}");
    site.relay(&["launch", "-q", "-n", workspace, "-w", &dir, "talk"]).trim().to_owned()
}

/// Tells a workspace's talker to come to its end.
pub(crate) fn stop(site: &Site, workspace: &str) {
    site.write(&format!("workspace-projects/{workspace}/stop"), "");
}

/// How many messages the talker of a workspace has told in all, once it has ended by itself.
pub(crate) fn told(site: &Site, workspace: &str) -> u64 {
    let path = site.root().join(format!("workspace-projects/{workspace}/told"));
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// What a registry makes of what was told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events in the logs.
    pub(crate) events: u64,
    /// Messages that were told and are not there.
    pub(crate) lost: u64,
    /// Events that are there twice.
    pub(crate) duplicated: u64,
    /// Places where a sequence, an id or a message is not the next one.
    pub(crate) gaps: u64,
}

impl Tally {
    /// Adds one job's log, in which at least the messages up to `told` have to be.
    pub(crate) fn add(&mut self, site: &Site, job: &str, told: u64) {
        let lines = site.events(job);
        self.events += lines.len() as u64;
        let messages: Vec<u64> = lines.iter().filter_map(message).collect();
        let (mut last, mut id) = (0, 0);
        for number in &messages {
            self.duplicated += u64::from(*number <= last);
            self.gaps += u64::from(*number > last + 1);
            last = last.max(*number);
        }
        self.lost += told.saturating_sub(messages.len() as u64);
        let mut seq = std::collections::BTreeMap::new();
        for line in &lines {
            let last = seq.insert((line.source == Source::Agent, line.epoch), line.seq).unwrap_or(0);
            self.duplicated += u64::from(line.seq <= last);
            self.gaps += u64::from(line.seq > last + 1 || line.id <= id);
            id = line.id;
        }
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn join(&mut self, other: Self) {
        self.events += other.events;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.gaps += other.gaps;
    }

    /// The end of a figure.
    pub(crate) fn text(&self) -> String {
        let Self { events, lost, duplicated, gaps } = self;
        format!("{events} events, {lost} lost, {duplicated} duplicated, {gaps} gaps")
    }

    /// Whether every event is there exactly once and in order.
    pub(crate) fn is_right(&self) -> bool {
        (self.lost, self.duplicated, self.gaps) == (0, 0, 0)
    }
}

fn message(line: &EventLine) -> Option<u64> {
    let EventBody::Message { text } = &line.event.as_ref()?.body else { return None };
    text.strip_prefix("message ")?.strip_suffix('.')?.parse().ok()
}
