//! A job's place: the job's own clone of a repository, and the branch that gets the job's commits. Pure.
//!
//! A spec is untrusted, so each part of it is checked when it is read. No part can act as an option of git, as a path
//! outside of the place, or as another git reference.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;

/// Maximum length of a branch's name, in bytes. A file name has at most 255 bytes, and git adds `.lock`.
const MAX_BRANCH: usize = 200;
/// Maximum length of a subfolder's path, in bytes: the maximum of Linux.
const MAX_SUBFOLDER: usize = 4096;

/// The clone that a job works in: the commit that it starts from, the branch for the result, and the working folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedSpec")]
pub struct PlaceSpec {
    base: String,
    parent: String,
    branch: String,
    subfolder: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    continues: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_job: Option<JobId>,
}

/// The fields of a [`PlaceSpec`] before they are checked.
#[derive(Deserialize)]
struct UncheckedSpec {
    base: String,
    parent: String,
    branch: String,
    #[serde(default)]
    subfolder: String,
    #[serde(default)]
    continues: Option<JobId>,
    base_job: Option<JobId>,
}

impl TryFrom<UncheckedSpec> for PlaceSpec {
    type Error = String;

    fn try_from(spec: UncheckedSpec) -> Result<Self, String> {
        let place = Self::new(&spec.base, &spec.parent, &spec.branch, &spec.subfolder)?;
        Ok(Self { continues: spec.continues, base_job: spec.base_job, ..place })
    }
}

impl PlaceSpec {
    /// Creates the spec of a place; the methods with the same names as the arguments describe the arguments.
    ///
    /// # Errors
    /// One line with the reason.
    pub fn new(base: &str, parent: &str, branch: &str, subfolder: &str) -> Result<Self, String> {
        for id in [base, parent] {
            if !is_commit_id(id) {
                return Err(format!("'{}' is not the full id of a commit", shorten(id)));
            }
        }
        if base.len() != parent.len() {
            return Err("the two commits of a place have ids of different lengths".to_owned());
        }
        check_branch(branch)?;
        check_subfolder(subfolder)?;
        let [base, parent, branch, subfolder] = [base, parent, branch, subfolder].map(str::to_owned);
        Ok(Self { base, parent, branch, subfolder, continues: None, base_job: None })
    }

    /// Returns the same place with a branch that is named after the job, such as `relay/demo-1`.
    #[must_use]
    pub fn named_after(mut self, job: &JobId) -> Self {
        self.branch = format!("relay/{}-{}", job.name(), job.number());
        self
    }

    /// Returns the same place for a job that continues the Codex thread of `earlier`, whose place was `earlier_place`.
    #[must_use]
    pub fn continuing(mut self, earlier_place: &Self, earlier: &JobId) -> Self {
        self.continues = earlier_place.continues.clone().or_else(|| Some(earlier.clone()));
        self
    }

    /// Returns the first job of the Codex thread that this job continues. Its clone is used again if it still exists.
    pub fn continues(&self) -> Option<&JobId> {
        self.continues.as_ref()
    }

    /// Returns the same place with a branch of this name.
    ///
    /// # Errors
    /// One line that names the branch and the rule that it breaks.
    pub fn with_branch(self, branch: &str) -> Result<Self, String> {
        check_branch(branch)?;
        Ok(Self { branch: branch.to_owned(), ..self })
    }

    /// Returns the same place, but starting from the result of `job`, which has not ended yet.
    #[must_use]
    pub fn on_result_of(self, job: &JobId) -> Self {
        Self { base_job: Some(job.clone()), ..self }
    }

    /// Returns the same place, but starting from `commit`: the result of the base job, which has ended.
    ///
    /// # Errors
    /// One line if `commit` is not the full id of a commit.
    pub fn with_known_base(self, commit: &str) -> Result<Self, String> {
        Self::new(commit, commit, &self.branch, &self.subfolder)
    }

    /// Returns the job whose result the worker will start from; `None` once that result is known. Until then, the base
    /// and the parent are only placeholders.
    pub fn base_job(&self) -> Option<&JobId> {
        self.base_job.as_ref()
    }

    /// Returns the full id of the commit that the worker starts from, in lower-case hexadecimal digits.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the full id of the commit that the caller named. It is the base itself, or the parent of the base if the
    /// base contains the caller's uncommitted changes.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// Returns the name of the branch, without `refs/heads/`.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Returns the working folder, relative to the top of the repository; empty for the top itself.
    pub fn subfolder(&self) -> &str {
        &self.subfolder
    }
}

fn shorten(text: &str) -> String {
    crate::text_format::one_line(text, 80)
}

/// Returns true for the full id of a git object, SHA-1 or SHA-256, in lower-case hexadecimal digits.
pub fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks the name of a branch by the rules of `git check-ref-format --branch`.
///
/// # Errors
/// One line that names the branch and the rule.
pub fn check_branch(name: &str) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("'{}' can't be the name of a branch: {why}", shorten(name)));
    if name.is_empty() || name.len() > MAX_BRANCH {
        return refuse(&format!("it needs 1 to {MAX_BRANCH} bytes"));
    }
    if name.starts_with('-') || matches!(name, "HEAD" | "@") {
        return refuse("git reads it as something else");
    }
    let is_forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    if let Some(c) = name.chars().find(|c| is_forbidden(*c)) {
        return refuse(&format!("it contains {c:?}"));
    }
    if let Some(sequence) = ["..", "@{", "//"].into_iter().find(|sequence| name.contains(sequence)) {
        return refuse(&format!("it contains '{sequence}'"));
    }
    if name.starts_with('/') || name.ends_with('/') || name.ends_with('.') {
        return refuse("it begins with '/', or ends with '/' or '.'");
    }
    if name.split('/').any(|part| part.starts_with('.') || part.strip_suffix(".lock").is_some()) {
        return refuse("a part of it begins with '.' or ends with '.lock'");
    }
    Ok(())
}

fn check_subfolder(folder: &str) -> Result<(), String> {
    if folder.is_empty() {
        return Ok(());
    }
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    if folder.len() > MAX_SUBFOLDER || folder.contains('\0') || !folder.split('/').all(is_plain) {
        return Err(format!("'{}' is not a folder below the top of a repository", shorten(folder)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn place(branch: &str, subfolder: &str) -> Result<PlaceSpec, String> {
        PlaceSpec::new(ID, ID, branch, subfolder)
    }

    #[test]
    fn base_and_parent_are_full_commit_ids_of_the_same_length() {
        let long = "ab".repeat(32);
        assert!(PlaceSpec::new(&long, &long, "a", "").is_ok());
        for bad in ["", "HEAD", &ID[1..], &ID.to_uppercase(), &format!("{ID}\n"), "--upload-pack=evil"] {
            assert!(PlaceSpec::new(bad, ID, "a", "").is_err(), "{bad}");
            assert!(PlaceSpec::new(ID, bad, "a", "").is_err(), "{bad}");
        }
        assert!(PlaceSpec::new(ID, &long, "a", "").is_err());
    }

    #[test]
    fn a_branch_name_is_accepted_if_git_accepts_it() {
        let good = ["relay/demo-1", "a", "a.b", "ünï", "a@b", "a{b", "x/HEAD", "a-", "@a"];
        let bad = [
            "", "-a", "HEAD", "@", ".a", "a/.b", "a..b", "a.", "a/", "/a", "a//b", "a.lock", "a.lock/b",
            "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a@{0}", "a\nb", "a\u{7f}", "a\0b",
        ];
        for (names, is_accepted) in [(&good[..], true), (&bad[..], false)] {
            for name in names {
                assert_eq!(place(name, "").is_ok(), is_accepted, "{name:?}");
                // Git reads the first ones as something else, and no argument can contain a zero byte.
                if matches!(*name, "@" | "HEAD" | "-a") || name.contains('\0') {
                    continue;
                }
                let git = std::process::Command::new("git")
                    .args(["check-ref-format", "--branch", name])
                    .current_dir("/")
                    .output()
                    .unwrap();
                assert_eq!(git.status.success(), is_accepted, "git on {name:?}");
            }
        }
        assert!(place(&"a".repeat(201), "").is_err());
    }

    #[test]
    fn a_branch_can_be_named_after_any_job() {
        let name = "a".repeat(41);
        for job in ["demo#1", "d-_x#7", &format!("{name}#{}", u32::MAX)] {
            let named = place("mine", "").unwrap().named_after(&job.parse().unwrap());
            assert_eq!(named.branch(), format!("relay/{}", job.replace('#', "-")));
            assert_eq!(check_branch(named.branch()), Ok(()));
        }
    }

    #[test]
    fn a_subfolder_can_not_lead_out_of_the_place() {
        for good in ["", "a", "a/b c", "..a/b.."] {
            assert!(place("b", good).is_ok(), "{good}");
        }
        for bad in ["/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.git", ".GIT/hooks", "a\0b"] {
            assert!(place("b", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn json_with_an_invalid_part_is_refused() {
        let good = place("relay/demo-1", "sub").unwrap();
        let json = serde_json::to_string(&good).unwrap();
        assert_eq!(
            json,
            format!(r#"{{"base":"{ID}","parent":"{ID}","branch":"relay/demo-1","subfolder":"sub"}}"#)
        );
        assert_eq!(serde_json::from_str::<PlaceSpec>(&json).unwrap(), good);
        for (from, to) in [("demo-1", "demo..1"), ("\"sub\"", "\"../sub\""), ("\"0123", "\"012")] {
            let json = json.replace(from, to);
            assert!(serde_json::from_str::<PlaceSpec>(&json).is_err(), "{json}");
        }
    }
}
