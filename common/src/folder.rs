//! Use of a working folder by jobs: one job works in a folder at a time, unless its jobs share it.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;

/// Maximum length of a record's `shared_with` list: the other jobs that worked in the job's folder. Each change of the
/// list is an event with the whole list, so a long list would be expensive where many jobs share a folder.
pub const MAX_SHARED_WITH: usize = 10;
/// Maximum number of jobs that [`describe_sharing`] names.
const MAX_NAMED: usize = 3;

/// Use of its working folder by a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderUse {
    /// The job works in the folder, and waits while another job works there.
    #[default]
    Alone,
    /// The job works in the folder, and does not wait for other jobs there.
    Shared,
    /// The job works in its own clone of the repository, not in the folder.
    OwnPlace,
}

impl FolderUse {
    /// Returns true for [`Self::Alone`], the default.
    pub fn is_alone(&self) -> bool {
        *self == Self::Alone
    }
}

/// Describes the jobs that worked in a job's folder, such as `demo#2 and demo#3 worked in the same folder at the same
/// time`; `None` without such jobs.
pub fn describe_sharing(jobs: &[JobId]) -> Option<String> {
    let names: Vec<String> = jobs.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let (last, others) = names.split_last()?;
    let names = match others.join(", ") {
        others if jobs.len() > MAX_NAMED => format!("{others}, {last} and others"),
        others if others.is_empty() => last.clone(),
        others => format!("{others} and {last}"),
    };
    Some(format!("{names} worked in the same folder at the same time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Changes, Event, EventBody, FinalState};
    use crate::event_line::{EventLine, Source};
    use crate::record::JobRecord;

    fn line(source: Source, body: EventBody) -> EventLine {
        let event = Some(Event { at: jiff::Timestamp::UNIX_EPOCH, body });
        EventLine { id: 1, job: "demo#1".parse().unwrap(), epoch: 1, seq: 1, source, event }
    }

    #[test]
    fn changes_in_a_shared_folder_name_the_jobs_that_may_have_made_them() {
        let shared = |source, jobs: &[&str]| {
            let jobs = jobs.iter().map(|job| job.parse().unwrap()).collect();
            line(source, EventBody::FolderShared { jobs })
        };
        let changes = Some(Changes { files: 3, insertions: 10, deletions: 2 });
        let state = FinalState::Completed;
        let mut lines = vec![
            line(Source::Relay, EventBody::Queued(Box::default())),
            // An agent can't record which jobs share the folder.
            shared(Source::Agent, &["x#1"]),
        ];
        let record = JobRecord::rebuild(&lines).unwrap();
        assert!(!String::from_utf8(record.to_bytes().unwrap()).unwrap().contains("shared_with"));
        lines.extend([
            shared(Source::Relay, &["demo#2", "demo#3"]),
            shared(Source::Relay, &["demo#2"]),
            line(Source::Agent, EventBody::Finished { state, error: None, exit_code: Some(0), changes }),
            shared(Source::Relay, &["demo#4"]),
        ]);
        let record = JobRecord::rebuild(&lines).unwrap();
        assert_eq!(record.shared_with, ["demo#2".parse().unwrap()], "the last list before the end");
        let summary = record.summary.clone().unwrap();
        let expected = "3 files changed (+10 -2; demo#2 worked in the same folder at the same time)";
        assert!(summary.lines().any(|line| line == expected), "{summary}");
        assert_eq!(serde_json::from_slice::<JobRecord>(&record.to_bytes().unwrap()).unwrap(), record);
    }

    #[test]
    fn a_shared_folder_names_at_most_three_other_jobs() {
        let describe = |count: u32| {
            let jobs: Vec<JobId> = (1..=count).map(|n| format!("a#{n}").parse().unwrap()).collect();
            describe_sharing(&jobs)
        };
        assert_eq!(describe(0), None);
        for (count, names) in
            [(1, "a#1"), (2, "a#1 and a#2"), (3, "a#1, a#2 and a#3"), (4, "a#1, a#2, a#3 and others")]
        {
            let expected = format!("{names} worked in the same folder at the same time");
            assert_eq!(describe(count), Some(expected));
        }
    }
}
