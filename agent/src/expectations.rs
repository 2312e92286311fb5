//! Check of a job's expectations (`--expect`) by a script. The script runs like any command of the job: as the worker's
//! user or in the sandbox.

use std::time::Duration;

use common::expectation::Expectation;
use common::place::is_commit_id;
use tokio::time::timeout;

use crate::confine::sandbox::JobSandbox;
use crate::environment::{Variables, strip_secrets};
use crate::process::{Exit, OutputPipes, OutputSource, capture};
use crate::shim::protocol::Command;
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Script that checks expectations; the header of `expectations.sh` documents the arguments.
const SCRIPT: &str = concat!(include_str!("git_env.sh"), include_str!("expectations.sh"));
/// Timeout of one call of the script, in which git compares all files of the work tree.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Line that the script prints for a met expectation.
const MET: &str = "met";

/// Settings for running the script in the working folder of one job.
#[derive(Debug, Clone)]
pub(crate) struct ExpectationCheck {
    /// Worker's environment without the job's own values, because git starts programs that its environment names.
    pub(crate) env: Variables,
    pub(crate) user: Option<UserIds>,
    pub(crate) folder: WorkspaceDir,
    pub(crate) sandbox: Option<JobSandbox>,
}

impl ExpectationCheck {
    /// Returns the commit that `HEAD` names; empty if there is none. Called before the job's first command.
    ///
    /// # Errors
    /// One line with the reason.
    pub(crate) async fn read_base(&self) -> Result<String, String> {
        let id = self.run(&["begin".to_owned()]).await?.trim().to_owned();
        if id.is_empty() || is_commit_id(&id) { Ok(id) } else { Err("git gave no id of a commit".to_owned()) }
    }

    /// Returns one line for each expectation that is not met. `base` is the result of [`Self::read_base`].
    ///
    /// # Errors
    /// One line with the reason why the expectations can't be checked.
    pub(crate) async fn find_unmet(
        &self,
        base: &str,
        expected: &[Expectation],
    ) -> Result<Vec<String>, String> {
        let mut arguments = vec!["check".to_owned(), base.to_owned()];
        arguments.extend(expected.iter().map(ToString::to_string));
        let output = self.run(&arguments).await?;
        let results: Vec<&str> = output.lines().collect();
        if results.len() != expected.len() {
            return Err("git or the shell failed".to_owned());
        }
        let unmet = expected.iter().zip(results).filter(|(_, result)| *result != MET);
        Ok(unmet.map(|(expectation, result)| format!("{expectation}: {result}")).collect())
    }

    async fn run(&self, arguments: &[String]) -> Result<String, String> {
        let argv = ["sh", "-c", SCRIPT, "sh"].into_iter().map(str::to_owned).chain(arguments.iter().cloned());
        let mut command = Command {
            argv: argv.collect(),
            env: strip_secrets(&self.env, &Variables::new()),
            cwd: ".".to_owned(),
            user: self.user,
            stdin: String::new(),
            interrupt_first: false,
            orphan_report: None,
            confine: None,
        };
        if let Some(sandbox) = &self.sandbox {
            sandbox.wrap(&mut command);
        }
        let call = capture(command, OutputPipes::Split, OutputSource::Stdout, Some(&self.folder));
        match timeout(SCRIPT_TIMEOUT, call).await {
            Err(_) => Err(format!("they could not be checked within {} s", SCRIPT_TIMEOUT.as_secs())),
            Ok(Ok((Some(Exit::Code(0)), output))) => Ok(String::from_utf8_lossy(&output).into_owned()),
            Ok(Ok(_)) => Err("their check was killed".to_owned()),
            Ok(Err(event)) => Err(format!("their check could not be run ({event:?})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let settings =
            ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
        let output =
            process::Command::new("git").current_dir(folder).args(settings).args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
    }

    /// Runs the script in a folder.
    fn script(folder: &Path, arguments: &[&str]) -> Vec<String> {
        let output = process::Command::new("sh")
            .current_dir(folder)
            .args(["-c", SCRIPT, "sh"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn commits_and_changes_count_from_the_base_on() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let check = |base: &str| script(top, &["check", base, "commit", "change"]);
        let nothing = "the working folder is in no git repository";
        assert_eq!(check(""), [nothing, nothing]);
        git(top, &["init", "-q"]);
        assert_eq!(script(top, &["begin"]), [""; 0]);
        assert_eq!(check("")[0], "the repository has no commit");
        git(top, &["commit", "-q", "--allow-empty", "-m", "one"]);
        assert_eq!(check("")[0], MET, "the first commit of an empty repository");
        let base = script(top, &["begin"]).remove(0);
        let short = &base[..12];
        let unmet = [format!("HEAD has no commit since {short}"), format!("no file differs from {short}")];
        assert_eq!(check(&base), unmet);
        fs::write(top.join("new"), "x").unwrap();
        assert_eq!(check(&base), [unmet[0].as_str(), MET], "an untracked file is a change");
        git(top, &["add", "."]);
        git(top, &["commit", "-qm", "two"]);
        assert_eq!(check(&base), [MET, MET]);
        git(top, &["rm", "-q", "new"]);
        git(top, &["commit", "-qm", "three"]);
        assert_eq!(check(&base), [MET, unmet[1].as_str()], "two commits that cancel each other out");
    }

    #[test]
    fn only_a_regular_file_inside_the_working_folder_counts() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("dist/-a b")).unwrap();
        fs::write(top.join("dist/-a b/-out"), "").unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, top.join(from)).unwrap();
        link("..", "up");
        link("dist", "inner");
        link("../secret", "link");
        rustix::fs::mkfifoat(rustix::fs::CWD, top.join("fifo"), 0o600.into()).unwrap();
        for (path, result) in [
            ("dist/-a b/-out", MET),
            ("./inner/-a b/-out", MET),
            ("up/secret", "its path leads out of the working folder"),
            ("link", "it is a symbolic link"),
            ("dist", "it is a folder"),
            ("fifo", "it is no regular file"),
            ("dist/none", "it does not exist"),
            ("none/none", "it does not exist"),
        ] {
            assert_eq!(script(&top, &["check", "", &format!("file:{path}")]), [result], "{path}");
        }
    }

    #[test]
    fn no_program_that_a_repository_names_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        git(top, &["init", "-q"]);
        fs::write(top.join("file"), "one").unwrap();
        git(top, &["add", "."]);
        git(top, &["commit", "-qm", "one"]);
        let base = script(top, &["begin"]).remove(0);
        let marker = top.join(".git/marker");
        let evil = format!("touch {}; cat", marker.display());
        for name in ["core.fsmonitor", "diff.external", "filter.x.clean", "diff.x.textconv", "core.pager"] {
            git(top, &["config", name, &evil]);
        }
        fs::write(top.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
        fs::write(top.join("file"), "two").unwrap();
        assert_eq!(script(top, &["check", &base, "commit", "change"])[1], MET);
        assert!(!marker.exists());
    }
}
