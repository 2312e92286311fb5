//! The talker: a script that runs instead of Codex and reports many numbered messages per second until it is stopped.
//! The numbers show which message in the registry is missing, duplicated or out of order.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::event::EventBody;
use common::event_line::{EventLine, Source};
use relay_tests::harness::{Engine, Site};

/// Program of the talker. Messages come in bursts of 10, so that a commit contains several, and kills hit between and
/// inside of bursts. The full stop ends the number in files of any format.
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

/// Number of jobs that run at once.
pub(crate) const JOBS: u32 = 3;

/// Creates a site with engine `local` whose Codex is the talker.
pub(crate) fn site() -> Site {
    let site = Site::new(Engine::Local);
    let program = site.state_home().join("talker");
    fs::write(&program, SCRIPT).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let codex = format!("program = \"{}\"\nsandbox = \"off\"", program.display());
    site.configure(&format!("max_jobs = {JOBS}\n[codex]\n{codex}\n"));
    // A custom provider counts as credentials.
    site.write_codex("config.toml", "model_provider = \"none\"\n");
    site
}

pub(crate) fn launch(site: &Site, workspace: &str) -> String {
    site.write(&format!("workspace-projects/{workspace}/README"), "a workspace\n");
    let dir = format!("workspace-projects/{workspace}");
    site.relay(&["launch", "-q", "-n", workspace, "-w", &dir, "talk"]).trim().to_owned()
}

/// Tells the talker of a workspace to stop.
pub(crate) fn stop(site: &Site, workspace: &str) {
    site.write(&format!("workspace-projects/{workspace}/stop"), "");
}

/// Returns the number of messages that the talker of a workspace has reported. It must have ended by itself.
pub(crate) fn reported_messages(site: &Site, workspace: &str) -> u64 {
    let path = site.root().join(format!("workspace-projects/{workspace}/told"));
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Result of comparing event logs with the reported messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Number of events in the logs.
    pub(crate) events: u64,
    /// Number of reported messages that are missing.
    pub(crate) lost: u64,
    /// Number of duplicate events.
    pub(crate) duplicated: u64,
    /// Number of events whose sequence number, id or message number is not the next one.
    pub(crate) gaps: u64,
}

impl Tally {
    /// Adds the log of a job, which must contain at least the messages up to number `reported`.
    pub(crate) fn add(&mut self, site: &Site, job: &str, reported: u64) {
        let lines = site.events(job);
        self.events += lines.len() as u64;
        let messages: Vec<u64> = lines.iter().filter_map(message_number).collect();
        let (mut last, mut id) = (0, 0);
        for number in &messages {
            self.duplicated += u64::from(*number <= last);
            self.gaps += u64::from(*number > last + 1);
            last = last.max(*number);
        }
        self.lost += reported.saturating_sub(messages.len() as u64);
        let mut seq = std::collections::BTreeMap::new();
        for line in &lines {
            let last = seq.insert((line.source == Source::Agent, line.epoch), line.seq).unwrap_or(0);
            self.duplicated += u64::from(line.seq <= last);
            self.gaps += u64::from(line.seq > last + 1 || line.id <= id);
            id = line.id;
        }
    }

    /// Adds the counts of another tally.
    pub(crate) fn add_counts_of(&mut self, other: Self) {
        self.events += other.events;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.gaps += other.gaps;
    }

    /// Returns the numbers as text for a figure.
    pub(crate) fn text(&self) -> String {
        let Self { events, lost, duplicated, gaps } = self;
        format!("{events} events, {lost} lost, {duplicated} duplicated, {gaps} gaps")
    }

    /// Returns true if the logs contain every event exactly once and in order.
    pub(crate) fn is_complete(&self) -> bool {
        (self.lost, self.duplicated, self.gaps) == (0, 0, 0)
    }
}

fn message_number(line: &EventLine) -> Option<u64> {
    let EventBody::Message { text } = &line.event.as_ref()?.body else { return None };
    text.strip_prefix("message ")?.strip_suffix('.')?.parse().ok()
}
