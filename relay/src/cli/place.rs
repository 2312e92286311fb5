//! The job's place: its own clone of the repository that contains the workspace. The job's result is a branch.

use std::fs::File;
use std::path::Path;

use clap::Args;
use common::origin::FollowUp;
use common::place::{PlaceSpec, check_branch};

use super::base_job::BaseJob;
use super::follow_up::EarlierJob;
use super::resolve::{Launch, LaunchPlace};
use super::{Context, base_job};
use crate::config::Config;
use crate::exit::Failure;
use crate::git::base::StartCommit;
use crate::git::source::Source;

/// Flags for a clone of the job's own.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PlaceFlags {
    /// Work in a clone of the repository instead of the folder, and hand the result back as a branch [default name:
    /// relay/NAME-N]
    #[arg(
        long,
        value_name = "NAME",
        visible_alias = "worktree",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with = "in_place"
    )]
    pub(super) branch: Option<String>,
    /// Commit that the clone starts from, or NAME#N for the result of a job, for which the new job waits [default: HEAD
    /// with the uncommitted files]
    #[arg(long, value_name = "REF|JOB", conflicts_with = "in_place")]
    pub(super) base: Option<String>,
    /// Leave out uncommitted files
    #[arg(long, conflicts_with = "in_place")]
    pub(super) clean: bool,
    /// Work in the folder itself, not in a clone; the default unless relay.toml says otherwise
    #[arg(long)]
    pub(super) in_place: bool,
    /// Work in the folder itself, not in a clone, and don't wait for other jobs that work there
    #[arg(long, conflicts_with_all = ["branch", "base", "clean"])]
    pub(super) share: bool,
}

/// The clone that flags and settings request for a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PlaceRequest {
    /// Name of the branch; `None` for one named after the job.
    branch: Option<String>,
    /// Commit to start from; `None` for HEAD.
    reference: Option<String>,
    /// True if uncommitted files are left out.
    skips_uncommitted: bool,
    /// Number of jobs that try the same task, if there are several. Their named branches are numbered.
    pub(super) attempts: Option<u32>,
}

impl PlaceRequest {
    /// Returns the request for a clone at exactly this commit.
    pub(super) fn at_commit(commit: &str) -> Self {
        Self { branch: None, reference: Some(commit.to_owned()), skips_uncommitted: true, attempts: None }
    }
}

impl PlaceFlags {
    /// Returns the requested clone; `None` if the job works in the folder itself. The setting `[workspace] branch` only
    /// applies to folders in a repository.
    ///
    /// # Errors
    /// Exit code 2 for flags that need `--branch`, and for an invalid name of a branch.
    pub(super) fn resolve(&self, config: &Config, folder: &Path) -> Result<Option<PlaceRequest>, Failure> {
        let is_set_in_config = || {
            Ok::<_, Failure>(
                !(self.in_place || self.share) && config.branch && Source::search(folder)?.is_some(),
            )
        };
        if self.branch.is_none() && !is_set_in_config()? {
            return match (&self.base, self.clean) {
                (None, false) => Ok(None),
                (Some(_), _) => {
                    Err(Failure::usage("--base needs --branch: without it the job works in the folder"))
                }
                (None, true) => {
                    Err(Failure::usage("--clean needs --branch: without it the job works in the folder"))
                }
            };
        }
        let branch = self.branch.clone().filter(|branch| !branch.is_empty());
        if let Some(branch) = &branch {
            check_branch(branch).map_err(|why| Failure::usage(format!("--branch: {why}")))?;
        }
        Ok(Some(PlaceRequest {
            branch,
            reference: self.base.clone(),
            skips_uncommitted: self.clean,
            attempts: None,
        }))
    }
}

impl PlaceRequest {
    /// Returns the names of the branches that the user has named.
    fn branch_names(&self) -> Vec<String> {
        match (&self.branch, self.attempts) {
            (None, _) => Vec::new(),
            (Some(branch), None) => vec![branch.clone()],
            (Some(branch), Some(attempts)) => (1..=attempts).map(|n| format!("{branch}-{n}")).collect(),
        }
    }
}

/// Prepares the place (clone) of a launched job, and returns the pack with the uncommitted files. The repository is not
/// changed.
///
/// # Errors
/// Exit code 2 if the workspace lies in no usable repository or the request can't be fulfilled, 5 if git fails.
pub(super) fn prepare_place(
    context: &Context,
    launch: &mut Launch,
    request: &PlaceRequest,
    is_quiet: bool,
) -> Result<Option<File>, Failure> {
    let source = Source::find(&launch.workspace.host_path)?;
    let subfolder = source.subfolder.to_str().ok_or_else(|| {
        Failure::usage(format!("workspace {} has a name that is not UTF-8", source.subfolder.display()))
    })?;
    for branch in request.branch_names() {
        source.check_new_branch(&branch)?;
    }
    let branch = request.branch.as_deref();
    let base = request.reference.as_deref().and_then(base_job::parse_base_job);
    let base = base.map(|job| base_job::find_base_job(context, &job, &source)).transpose()?;
    let reference = match &base {
        Some(BaseJob::Ended { commit }) => Some(commit.as_str()),
        // The result of this job is not known yet. The parent of its base takes the result's place.
        Some(BaseJob::Unfinished { place, .. }) => Some(place.parent()),
        None => request.reference.as_deref(),
    };
    let start = StartCommit::prepare(&source, reference, request.skips_uncommitted)?;
    if !is_quiet {
        start.notes.iter().for_each(|note| context.output.print_note(note));
    }
    // The new job has no number yet, so its branch has a preliminary name.
    let spec = PlaceSpec::new(&start.base, &start.parent, branch.unwrap_or("relay/job"), subfolder);
    let mut spec = spec.map_err(Failure::usage)?;
    if let Some(BaseJob::Unfinished { job, .. }) = &base {
        spec = spec.on_result_of(job);
        launch.schedule.wait_for_base(job);
    }
    launch.place = Some(LaunchPlace { spec, is_named: branch.is_some() });
    Ok(start.pack)
}

/// Prepares the place (clone) of a follow-up, if the earlier job had a place. A resumed job continues the earlier job's
/// result, in the same clone if the agent still has it. A retried job starts from the earlier job's base.
///
/// # Errors
/// The errors of [`prepare_place`].
pub(super) fn prepare_follow_up_place(
    context: &Context,
    launch: &mut Launch,
    earlier: &EarlierJob,
    is_quiet: bool,
) -> Result<Option<File>, Failure> {
    let Some(place) = &earlier.spec.place else { return Ok(None) };
    let is_resume = launch.origin.follows.as_ref().is_some_and(|follows| follows.how == FollowUp::Resume);
    let base_job = launch.schedule.base_job.take().or_else(|| earlier.record.base_job.clone());
    if let Some(job) = base_job.filter(|_| !is_resume) {
        let request = PlaceRequest { reference: Some(job.to_string()), ..PlaceRequest::default() };
        return prepare_place(context, launch, &request, is_quiet);
    }
    let result = earlier.record.result.as_ref();
    let recorded_commit =
        result.map(|result| result.commit.as_ref().filter(|_| is_resume).unwrap_or(&result.base));
    let base = recorded_commit.filter(|base| !base.is_empty()).map_or(place.base(), String::as_str);
    let spec =
        PlaceSpec::new(base, place.parent(), "relay/job", place.subfolder()).map_err(Failure::usage)?;
    let spec = if is_resume { spec.continuing(place, &earlier.record.job) } else { spec };
    launch.place = Some(LaunchPlace { spec, is_named: false });
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_settings_decide_about_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::load(dir.path()).unwrap();
        let flags = PlaceFlags::default();
        assert_eq!(flags.resolve(&config, dir.path()), Ok(None));
        let base = PlaceFlags { base: Some("main".to_owned()), ..PlaceFlags::default() };
        assert!(base.resolve(&config, dir.path()).unwrap_err().message.starts_with("--base needs --branch"));
        let named = PlaceFlags { branch: Some("mine".to_owned()), ..PlaceFlags::default() };
        assert_eq!(named.resolve(&config, dir.path()).unwrap().unwrap().branch.as_deref(), Some("mine"));
        let bad = PlaceFlags { branch: Some("a..b".to_owned()), ..PlaceFlags::default() };
        assert_eq!(bad.resolve(&config, dir.path()).unwrap_err().code as u8, 2);
        config.branch = true;
        assert_eq!(flags.resolve(&config, dir.path()), Ok(None), "the folder is in no repository");
        let made = std::process::Command::new("git").args(["init", "-q"]).arg(dir.path()).status().unwrap();
        assert!(made.success());
        assert_eq!(flags.resolve(&config, dir.path()), Ok(Some(PlaceRequest::default())));
        assert_eq!(PlaceFlags { share: true, ..flags.clone() }.resolve(&config, dir.path()), Ok(None));
        assert_eq!(PlaceFlags { in_place: true, ..flags }.resolve(&config, dir.path()), Ok(None));
    }
}
