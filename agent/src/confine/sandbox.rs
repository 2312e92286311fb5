//! Sandbox of one job. It starts each of the job's commands in Codex's sandbox, and creates the profile that Codex uses
//! for its model's commands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::job::JobSpec;
use common::text_format::one_line;

use super::caches::Caches;
use super::codex_programs::CodexPrograms;
use super::placeholders::Placeholders;
use super::{repository, temp_dir};
use crate::environment::Variables;
use crate::sandbox_check::{SandboxCheck, process_namespace};
use crate::sandbox_profile::{Profile, quote_toml};
use crate::shim::protocol::{Command, SandboxLauncher};
use crate::workspace::WorkspaceDir;

/// Name of the profile in Codex's configuration.
const PROFILE_NAME: &str = "relay";
/// Names in a project's root from which programs outside of the sandbox read settings and commands.
const PROJECT_SETTINGS: [&str; 5] = [".codex", ".agents", ".claude", ".mcp.json", ".vscode"];
/// Variables that the launcher (`codex sandbox`) needs to find Codex's programs and home. They come from the agent,
/// never from a job.
const LAUNCHER_VARIABLES: [&str; 4] = ["PATH", "HOME", "CODEX_HOME", "LANG"];

/// Settings that all sandboxes of an agent share.
#[derive(Debug, Clone)]
pub(crate) struct SharedSettings {
    /// Path of Codex's program.
    pub(crate) codex: String,
    /// Environment of the launcher (`codex sandbox`).
    pub(crate) env: Variables,
    /// Paths that no job may see.
    pub(crate) hidden_paths: Vec<PathBuf>,
    /// Folders that jobs may only read, because the sandbox's own programs take settings or programs from there.
    pub(crate) protected_folders: Vec<PathBuf>,
    /// Codex's programs, which must stay visible inside hidden folders.
    pub(crate) codex_programs: CodexPrograms,
    /// Roots of projects whose settings jobs may only read.
    pub(crate) projects: Vec<PathBuf>,
    /// Folders that jobs may work in.
    pub(crate) roots: Vec<String>,
    /// Folder for temporary files that jobs may write.
    pub(crate) temp_dir: String,
    /// State directory of the agent.
    pub(crate) state: PathBuf,
    /// Caches of package managers.
    pub(crate) caches: Caches,
}

#[derive(Debug, Clone)]
pub(crate) struct JobSandbox {
    launcher_argv: Vec<String>,
    launcher_env: Variables,
    /// Properties of the sandbox around shell commands.
    shell_check: SandboxCheck,
    /// Profile of the commands of Codex's model.
    model_profile: Profile,
    caches: Caches,
    temp_dir: String,
    placeholders: Arc<Placeholders>,
}

impl SharedSettings {
    /// Returns the environment of the launcher, taken from the environment of workers.
    pub(crate) fn launcher_env(worker_env: &Variables) -> Variables {
        let variables = worker_env.iter().filter(|(name, _)| LAUNCHER_VARIABLES.contains(&name.as_str()));
        variables.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Returns the sandbox of a job that works in `folder`, and may write to its output folder `output`.
    ///
    /// # Errors
    /// One line with the reason why no sandbox can be created.
    pub(crate) fn job_sandbox(
        &self,
        folder: &WorkspaceDir,
        output: Option<&WorkspaceDir>,
    ) -> Result<JobSandbox, String> {
        let workspace = folder.path();
        if workspace.chars().any(char::is_control) {
            return Err(
                "the workspace's path has control characters: no sandbox can be made there".to_owned()
            );
        }
        if let Some(hidden) = self.hidden_paths.iter().find(|hidden| Path::new(workspace).starts_with(hidden))
        {
            return Err(format!(
                "the workspace lies in {}, which no job may see: choose another folder with -w",
                hidden.display()
            ));
        }
        let repository = repository::git_folders(Path::new(workspace), &self.roots).map_err(|error| {
            format!("the workspace {error}: `relay launch --branch` works in a clone of it")
        })?;
        // A folder that is not a repository may become one, so its settings are protected too.
        let may_become_repository =
            !Path::new(workspace).join(".git").join("HEAD").exists() && repository.is_empty();
        self.sandbox(folder, output, &repository, may_become_repository)
    }

    /// Returns the sandbox of a command of the agent that works in `folder`. Nothing in the folder decides about the
    /// sandbox, also if a job has made it look like a repository.
    ///
    /// # Errors
    /// One line with the reason why no sandbox can be created.
    pub(crate) fn folder_sandbox(&self, folder: &WorkspaceDir) -> Result<JobSandbox, String> {
        self.sandbox(folder, None, &[], false)
    }

    fn sandbox(
        &self,
        folder: &WorkspaceDir,
        output: Option<&WorkspaceDir>,
        repository: &[PathBuf],
        may_become_repository: bool,
    ) -> Result<JobSandbox, String> {
        let workspace = folder.path();
        let mut model = self.profile(workspace, repository, false)?;
        self.codex_programs.expose_aliases(&mut model)?;
        let mut shell = self.profile(workspace, repository, may_become_repository)?;
        if let Some(output) = output {
            model.allow_write(output.path(), false);
            shell.allow_write(output.path(), false);
        }
        let mut settings = self.protected_settings(repository);
        settings.retain(|path| {
            path.to_str().is_some_and(|path| shell.readable.iter().any(|readable| readable == path))
        });
        let placeholders = Arc::new(Placeholders::create(&settings)?);
        let broken = |error: io::Error| format!("no sandbox can be made: {error}");
        let shim_program = std::env::current_exe().map_err(broken)?;
        let shell_check = SandboxCheck {
            workspace: (workspace.to_owned(), folder.identity()),
            profile: shell,
            processes: process_namespace().map_err(broken)?,
        };
        let launcher_argv = self.launcher_argv(&shell_check.profile, &shim_program.to_string_lossy());
        let (launcher_env, caches, temp_dir) = (self.env.clone(), self.caches.clone(), self.temp_dir.clone());
        Ok(JobSandbox {
            launcher_argv,
            launcher_env,
            shell_check,
            model_profile: model,
            caches,
            temp_dir,
            placeholders,
        })
    }

    fn profile(
        &self,
        workspace: &str,
        repository: &[PathBuf],
        may_become_repository: bool,
    ) -> Result<Profile, String> {
        let mut profile = Profile::default();
        let is_project = self.projects.iter().any(|project| project.starts_with(workspace));
        profile.allow_write(workspace, may_become_repository && !is_project);
        for folder in repository.iter().filter_map(|folder| folder.to_str()) {
            profile.allow_write(folder, false);
        }
        for folder in [temp_dir::DEFAULT_TEMP_DIR, &self.temp_dir] {
            profile.allow_write(folder, true);
        }
        profile.allow_write(&self.caches.folder().to_string_lossy(), true);
        for path in self.protected_folders.iter().chain(&self.protected_settings(repository)) {
            profile.protect(&path.to_string_lossy());
        }
        for path in self.hidden_paths.iter().filter(|path| path.symlink_metadata().is_ok()) {
            profile.hide(path_for_profile(path)?);
        }
        self.codex_programs.expose_program(&mut profile)?;
        Ok(profile)
    }

    /// Returns the paths of the projects' settings, which jobs may only read. Jobs can't create missing settings
    /// either, except a repository.
    fn protected_settings(&self, workspace_git_folders: &[PathBuf]) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for project in &self.projects {
            paths.extend(PROJECT_SETTINGS.map(|name| project.join(name)));
            let git = project.join(".git");
            // In a linked worktree or a submodule `.git` is a file that points to the settings.
            paths.extend(git.is_file().then(|| git.clone()));
            let repository = Some(git).filter(|git| git.join("HEAD").exists());
            let linked = repository::git_folders(project, &self.roots).unwrap_or_default();
            let git = repository.into_iter().chain(linked);
            paths.extend(git.flat_map(|git| repository::settings_paths(&git, workspace_git_folders)));
        }
        paths
    }

    /// Returns the command line of the launcher, which runs a shim. The launcher never enters the workspace, so it
    /// takes no settings from there.
    fn launcher_argv(&self, profile: &Profile, shim_program: &str) -> Vec<String> {
        let mut argv: Vec<String> = [&self.codex, "sandbox", "-P", PROFILE_NAME].map(str::to_owned).into();
        argv.extend(profile_settings(profile));
        argv.extend(["-C", "/", "--", shim_program, "shim", "--inside"].map(str::to_owned));
        argv
    }
}

impl JobSandbox {
    /// Puts the sandbox around a command.
    pub(crate) fn wrap(&self, command: &mut Command) {
        command.confine = Some(Box::new(SandboxLauncher {
            argv: self.launcher_argv.clone(),
            env: self.launcher_env.clone(),
            check: self.shell_check.clone(),
        }));
    }

    /// Returns the same sandbox for commands that start in `folder`, a subfolder of the workspace.
    pub(crate) fn for_subfolder(self, folder: &WorkspaceDir) -> Self {
        let workspace = (folder.path().to_owned(), folder.identity());
        Self { shell_check: SandboxCheck { workspace, ..self.shell_check }, ..self }
    }

    /// Returns the paths of settings files that were replaced while the job ran. The job could write to the new files.
    pub(crate) fn replaced_settings(&self) -> Vec<&Path> {
        self.placeholders.replaced_paths()
    }

    /// Sets variables that make a command's tools use paths that they can write.
    pub(crate) fn redirect(&self, env: &mut Variables, spec: &JobSpec) {
        self.caches.redirect(env, &spec.env);
        if env.contains_key("TMPDIR") && !spec.env.contains_key("TMPDIR") {
            env.insert("TMPDIR".to_owned(), self.temp_dir.clone());
        }
    }

    /// Returns the arguments that give `codex exec` the same sandbox for its model's commands, without the workspace's
    /// own settings: those settings name programs that Codex starts outside of the sandbox.
    pub(crate) fn codex_arguments(&self) -> Vec<String> {
        let workspace = &self.shell_check.workspace.0;
        let mut arguments =
            vec!["-c".to_owned(), format!("default_permissions={}", quote_toml(PROFILE_NAME))];
        arguments.extend(profile_settings(&self.model_profile));
        let folders = Path::new(workspace).ancestors().filter_map(Path::to_str);
        let untrusted: Vec<String> =
            folders.map(|folder| format!("{}={{trust_level=\"untrusted\"}}", quote_toml(folder))).collect();
        arguments.extend(["-c".to_owned(), format!("projects={{{}}}", untrusted.join(","))]);
        arguments
    }
}

/// Returns a path as text for a profile. Fails for a path that a profile can't express, because such a path can't be
/// hidden.
fn path_for_profile(path: &Path) -> Result<&str, String> {
    path.to_str().filter(|path| !path.chars().any(char::is_control)).ok_or_else(|| {
        format!(
            "{} must be hidden from jobs, and a path with such characters can't be: rename it, or end the program that created it",
            one_line(&path.to_string_lossy(), 300)
        )
    })
}

fn profile_settings(profile: &Profile) -> [String; 4] {
    [
        "-c".to_owned(),
        format!("permissions.{PROFILE_NAME}.filesystem={}", profile.filesystem_toml()),
        "-c".to_owned(),
        format!("permissions.{PROFILE_NAME}.network.enabled=true"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn shared_settings(dir: &Path) -> SharedSettings {
        let env = Variables::from([("HOME".to_owned(), dir.join("home").display().to_string())]);
        SharedSettings {
            codex: "/opt/codex".to_owned(),
            env: SharedSettings::launcher_env(&env),
            hidden_paths: vec![dir.join("p/platform"), dir.join("missing")],
            protected_folders: vec![dir.join("p/codex-home"), dir.join("home")],
            codex_programs: CodexPrograms::default(),
            projects: vec![dir.join("p")],
            roots: vec![dir.join("p").display().to_string()],
            temp_dir: "/tmp".to_owned(),
            state: dir.join("p/platform/state"),
            caches: Caches::open(&env, Path::new("/state")).unwrap(),
        }
    }

    #[test]
    fn codex_and_commands_get_one_profile_and_the_launcher_no_job_data() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for folder in ["p/platform", "p/codex-home", "p/.git", "home"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        fs::write(dir.join("p/.git/HEAD"), "x\n").unwrap();
        let workspace = dir.join("p").display().to_string();
        let folder = WorkspaceDir::open(&workspace, &[]).unwrap();
        let sandbox = shared_settings(&dir).job_sandbox(&folder, None).unwrap();
        let mut spec = JobSpec::new("a#1".parse().unwrap(), common::job::Runner::Codex, "do it", "/w s");
        spec.env.insert("LD_PRELOAD".to_owned(), "evil.so".to_owned());
        spec.prompt = "echo secret".to_owned();
        spec.runner = common::job::Runner::Shell;
        let mut command = Command {
            argv: vec!["sh".to_owned(), "-c".to_owned(), spec.prompt.clone()],
            env: spec.env.clone(),
            cwd: ".".to_owned(),
            user: None,
            stdin: String::new(),
            interrupt_first: false,
            orphan_report: None,
            confine: None,
        };
        sandbox.wrap(&mut command);
        let confine = command.confine.unwrap();
        assert!(!confine.env.contains_key("LD_PRELOAD"), "{:?}", confine.env);
        let words = confine.argv.join(" ");
        assert!(!words.contains("echo secret"), "{words}");
        assert!(
            words.starts_with("/opt/codex sandbox -P relay -c permissions.relay.filesystem={"),
            "{words}"
        );
        assert!(words.ends_with(" shim --inside") && words.contains(" -C / -- "), "{words}");
        let profile = |access: &str, path: &str| format!("\"{}\"=\"{access}\"", dir.join(path).display());
        let codex = sandbox.codex_arguments().join(" ");
        for words in [&words, &codex] {
            assert!(words.contains(&profile("none", "p/platform")), "{words}");
            assert!(words.contains(&profile("read", "p/codex-home")), "{words}");
            assert!(words.contains(&profile("write", "p/.git")), "{words}");
            assert!(!words.contains("missing") && !words.contains(&profile("write", "home")), "{words}");
        }
        assert!(codex.starts_with("-c default_permissions=\"relay\" "), "{codex}");
        assert!(codex.contains(&format!("\"{workspace}\"={{trust_level=\"untrusted\"}}")), "{codex}");
    }

    #[test]
    fn no_job_works_in_a_hidden_folder() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("p/platform/ws")).unwrap();
        let folder = WorkspaceDir::open(&dir.join("p/platform/ws").display().to_string(), &[]).unwrap();
        let refused = shared_settings(&dir).job_sandbox(&folder, None).unwrap_err();
        assert!(refused.contains("no job may see"), "{refused}");
    }

    #[test]
    fn links_to_a_repository_in_a_folder_that_a_job_has_written_change_no_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for folder in ["p/platform", "p/codex-home", "p/main/.git/worktrees/x", "p/out", "home"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        fs::write(dir.join("p/out/.git"), "gitdir: /nowhere\n").unwrap();
        let folder = WorkspaceDir::open(&dir.join("p/out").display().to_string(), &[]).unwrap();
        let settings = shared_settings(&dir);
        assert!(settings.job_sandbox(&folder, None).is_err());
        let sandbox = settings.folder_sandbox(&folder).unwrap();
        assert_eq!(sandbox.shell_check.workspace.0, folder.path());
        let is_elsewhere = |path: &&String| path.starts_with("/nowhere") || path.contains("/p/main");
        assert_eq!(sandbox.shell_check.profile.writable.iter().find(is_elsewhere), None);
    }
}
