//! Tests of the folders of git that a job needs, with disks in memory.

use std::collections::BTreeMap;

use super::*;

/// A disk in memory: paths of files and their texts. A text `->TARGET` is a symbolic link.
struct Files(BTreeMap<PathBuf, String>);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
    }
}

impl Disk for Files {
    fn read(&self, path: &Path) -> Option<String> {
        let path = self.canonicalize(path.parent()?)?.join(path.file_name()?);
        self.0.get(&path).filter(|text| !text.starts_with("->")).cloned()
    }

    fn kind(&self, path: &Path) -> Option<EntryKind> {
        let path = self.canonicalize(path.parent()?)?.join(path.file_name()?);
        match self.0.get(&path) {
            Some(text) if text.starts_with("->") => Some(EntryKind::Other),
            Some(_) => Some(EntryKind::File),
            None => self.0.keys().any(|file| file.starts_with(&path)).then_some(EntryKind::Folder),
        }
    }

    fn canonicalize(&self, path: &Path) -> Option<PathBuf> {
        let mut real = PathBuf::from("/");
        for part in path.components().skip(1) {
            match part.as_os_str().to_str()? {
                "." => {}
                ".." => drop(real.pop()),
                name => real.push(name),
            }
            if let Some(target) = self.0.get(&real).and_then(|text| text.strip_prefix("->")) {
                real = PathBuf::from(target);
            }
        }
        self.0.keys().any(|file| file.starts_with(&real)).then_some(real)
    }
}

/// Files of the repository `/p/w/main` with two linked worktrees (one has a submodule) and two submodules (one has
/// another), of the project's repository `/p`, and of `/q`, in which jobs may not work.
const REPOSITORY: [(&str, &str); 24] = [
    ("/p/w/main/.git/HEAD", "ref: refs/heads/main\n"),
    ("/p/w/main/.git/objects/x", ""),
    ("/p/w/main/sub/deep/file", ""),
    ("/p/w/tree/.git", "gitdir: /p/w/main/.git/worktrees/tree\n"),
    ("/p/w/tree/sub/file", ""),
    ("/p/w/main/.git/worktrees/tree/commondir", "../..\n"),
    ("/p/w/main/.git/worktrees/tree/gitdir", "/p/w/tree/.git\n"),
    ("/p/w/relative/.git", "gitdir: ../main/.git/worktrees/relative\n"),
    ("/p/w/main/.git/worktrees/relative/commondir", "../..\n"),
    ("/p/w/main/.git/worktrees/relative/gitdir", "../../../../relative/.git\n"),
    ("/p/w/main/mod/.git", "gitdir: ../.git/modules/mod\n"),
    ("/p/w/main/.git/modules/mod/config", "[core]\n\tbare = false\n\tworktree = ../../../mod\n"),
    ("/p/w/main/other/.git", "gitdir: ../.git/modules/other\n"),
    (
        "/p/w/main/.git/modules/other/config",
        "[core]\n\tworktree = \"../../../other\"\n[remote \"x\"]\n\tworktree = no\n",
    ),
    ("/p/w/main/mod/nested/.git", "gitdir: ../../.git/modules/mod/modules/nested\n"),
    ("/p/w/main/.git/modules/mod/modules/nested/config", "[core]\n\tworktree = ../../../../../mod/nested\n"),
    ("/p/w/tree/mod/.git", "gitdir: /p/w/main/.git/worktrees/tree/modules/mod\n"),
    ("/p/w/main/.git/worktrees/tree/modules/mod/config", "[core]\n\tworktree = ../../../../../../tree/mod\n"),
    ("/p/w/plain/file", ""),
    ("/p/.git/HEAD", "ref: refs/heads/main\n"),
    ("/p/.git/objects/x", ""),
    ("/p/src/file", ""),
    ("/q/.git/HEAD", "ref: refs/heads/main\n"),
    ("/q/.git/objects/x", ""),
];

fn folders_for(extra_files: &[(&str, &str)], workspace: &str) -> Result<Vec<PathBuf>, GitLinkError> {
    let disk = Files::new(&[&REPOSITORY[..], extra_files].concat());
    git_folders(Path::new(workspace), &[PathBuf::from("/p"), PathBuf::from("/p/w")], &disk)
}

#[test]
fn each_kind_of_workspace_gets_the_folders_that_git_writes() {
    let (tree, relative) = ("/p/w/main/.git/worktrees/tree", "/p/w/main/.git/worktrees/relative");
    for (workspace, expected) in [
        ("/p/w/main", &[][..]),
        ("/p/w/main/sub/deep", &["/p/w/main/.git"]),
        ("/p/w/tree", &[tree, "/p/w/main/.git"]),
        ("/p/w/tree/sub", &[tree, "/p/w/main/.git"]),
        ("/p/w/relative", &[relative, "/p/w/main/.git"]),
        ("/p/w/main/mod", &["/p/w/main/.git/modules/mod"]),
        ("/p/w/main/other", &["/p/w/main/.git/modules/other"]),
        ("/p/w/main/mod/nested", &["/p/w/main/.git/modules/mod/modules/nested"]),
        ("/p/w/tree/mod", &["/p/w/main/.git/worktrees/tree/modules/mod"]),
        ("/p/w/plain", &["/p/.git"]),
        ("/p/src", &["/p/.git"]),
        ("/p", &[]),
        // No job may work in a repository that contains the roots.
        ("/q/sub", &[]),
    ] {
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(folders_for(&[], workspace), Ok(expected), "{workspace}");
    }
}

#[test]
fn a_git_file_gives_no_access_to_a_folder_that_is_outside_or_does_not_point_back() {
    let missing = |path: &str| GitLinkError::Missing(path.into());
    let not_mutual = |path: &str| GitLinkError::NotMutual(path.into());
    let outside = |path: &str| GitLinkError::Outside(path.into());
    let git = "/p/w/evil/.git";
    // Content of the workspace's `.git`, files that an attacker could write elsewhere, and the expected error.
    for (text, planted, expected) in [
        ("rubbish\n", vec![], GitLinkError::NotGit),
        ("", vec![], GitLinkError::NotGit),
        ("gitdir: /nowhere\n", vec![], missing("/nowhere")),
        ("gitdir: ../main/.git\n", vec![], not_mutual("/p/w/main/.git")),
        ("gitdir: ../..\n", vec![], not_mutual("/p")),
        ("gitdir: ../main/.git/worktrees/tree\n", vec![], not_mutual("/p/w/main/.git/worktrees/tree")),
        ("gitdir: ../main/.git/modules/mod\n", vec![], not_mutual("/p/w/main/.git/modules/mod")),
        // The folder names the workspace, but its `commondir` is no repository, or not the one that it belongs to.
        (
            "gitdir: ../x/worktrees/y\n",
            vec![
                ("/p/w/x/worktrees/y/commondir", "../..\n"),
                ("/p/w/x/worktrees/y/gitdir", "/p/w/evil/.git\n"),
            ],
            not_mutual("/p/w/x/worktrees/y"),
        ),
        (
            "gitdir: ../x/worktrees/y\n",
            vec![
                ("/p/w/x/worktrees/y/commondir", "/p/w/main/.git\n"),
                ("/p/w/x/worktrees/y/gitdir", "/p/w/evil/.git\n"),
            ],
            not_mutual("/p/w/x/worktrees/y"),
        ),
        (
            "gitdir: ../x/worktrees/y\n",
            vec![
                ("/p/w/x/worktrees/y/commondir", "/gone\n"),
                ("/p/w/x/worktrees/y/gitdir", "/p/w/evil/.git\n"),
            ],
            missing("/gone"),
        ),
        // A real worktree of a repository in which no job may work.
        (
            "gitdir: /q/.git/worktrees/y\n",
            vec![
                ("/q/.git/worktrees/y/commondir", "../..\n"),
                ("/q/.git/worktrees/y/gitdir", "/p/w/evil/.git\n"),
            ],
            outside("/q/.git/worktrees/y"),
        ),
        // A submodule's folder names the workspace, but is in no repository whose work tree contains the workspace.
        (
            "gitdir: ../x/modules/y\n",
            vec![("/p/w/x/modules/y/config", "[core]\n\tworktree = /p/w/evil\n")],
            not_mutual("/p/w/x/modules/y"),
        ),
        ("->/p/w/main/.git", vec![], GitLinkError::NotGit),
    ] {
        let files = [vec![(git, text)], planted].concat();
        assert_eq!(folders_for(&files, "/p/w/evil"), Err(expected), "{files:?}");
    }
    // A symbolic link that stays in the workspace is allowed.
    let inside = [(git, "->/p/w/evil/real"), ("/p/w/evil/real/HEAD", "x")];
    assert_eq!(folders_for(&inside, "/p/w/evil"), Ok(Vec::new()));
    // The `.git` file of one submodule names the folder of another.
    let swapped = [("/p/w/main/other/.git", "gitdir: ../.git/modules/mod\n")];
    assert_eq!(folders_for(&swapped, "/p/w/main/other"), Err(not_mutual("/p/w/main/.git/modules/mod")));
}

#[test]
fn a_project_that_is_a_linked_worktree_does_not_forbid_its_workspaces() {
    let files = [
        ("/p/.git", "gitdir: /q/.git/worktrees/p\n"),
        ("/q/.git/worktrees/p/commondir", "../..\n"),
        ("/q/.git/worktrees/p/gitdir", "/p/.git\n"),
        ("/p/w/plain/file", ""),
        ("/p/src/file", ""),
        ("/q/.git/HEAD", "x"),
        ("/q/.git/objects/x", ""),
    ];
    let disk = Files::new(&files);
    let folders_for = |workspace: &str| {
        git_folders(Path::new(workspace), &[PathBuf::from("/p"), PathBuf::from("/p/w")], &disk)
    };
    assert_eq!(folders_for("/p/w/plain"), Ok(Vec::new()));
    let outside = GitLinkError::Outside("/q/.git/worktrees/p".into());
    assert_eq!((folders_for("/p/src"), folders_for("/p")), (Err(outside.clone()), Err(outside.clone())));
    assert_eq!(
        outside.to_string(),
        "is a linked worktree or submodule, and its repository /q/.git/worktrees/p is outside of the folders that jobs \
         may write"
    );
}

#[test]
fn the_setting_core_worktree_is_read_as_git_writes_it() {
    for (settings, expected) in [
        ("[core]\n\tworktree = ../x\n", Some("../x")),
        ("[CORE]\n  WorkTree=../x\n[remote]\n worktree = no", Some("../x")),
        ("[core]\n\tworktree = \"../a \\\"b\\\"\"\n", Some("../a \"b\"")),
        ("[core \"sub\"]\n\tworktree = ../x\n", None),
        ("worktree = ../x\n", None),
        ("[core]\n\tworktree = a\n\tworktree = b\n", Some("b")),
        ("", None),
    ] {
        assert_eq!(worktree_setting(settings).as_deref(), expected, "{settings:?}");
    }
}
