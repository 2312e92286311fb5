//! Tests of the script with the real git, and of the functions that parse the script's output.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

fn run(folder: &Path, arguments: &[&str]) -> (i32, Vec<u8>) {
    let output = Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    (output.status.code().unwrap(), output.stdout)
}

fn shell(folder: &Path, line: &str) {
    let line = format!("set -e; C() {{ git -c user.name=t -c user.email=t@e commit -q \"$@\"; }}; {line}");
    let output = Command::new("sh").args(["-c", &line]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

/// Returns the changes that a job with this command line would report.
fn changes_of_job(folder: &Path, location: &str, line: &str) -> Changes {
    let (code, output) = run(folder, &["begin", location]);
    assert_eq!(code, 0);
    let before = parse_baseline(&output, location == "top").unwrap();
    shell(folder, line);
    let (code, output) = run(folder, &["count", &before.head, &before.tree, location]);
    assert_eq!(code, 0, "{line}");
    parse_counts(&output, &before.new_files)
}

fn changes(files: u32, insertions: u32, deletions: u32) -> Changes {
    Changes { files, insertions, deletions }
}

#[test]
fn tracked_binary_and_new_files_are_counted() {
    let diff = b"3\t1\ta b\x00-\t-\tpic.png\x000\t7\tgone\x00";
    let output = [&diff[..], b"\x01\x00", b"12 3 then then\n12 3 then then\n13 1 now now\n"].concat();
    assert_eq!(parse_counts(&output, &NewFiles::new()), changes(6, 3, 8));
    let before = count_new_files([&b"12 3 then then"[..], b"9 9 gone gone"].into_iter());
    assert_eq!(parse_counts(&output, &before), changes(5, 3, 8));
    assert_eq!(parse_counts(b"\x01\x00", &before), Changes::default());
}

#[test]
fn only_two_object_ids_are_a_baseline() {
    let id = "a".repeat(40);
    let good = parse_baseline(format!("{id}\n{id}\n7 1 x y\n").as_bytes(), true).unwrap();
    assert_eq!(good.new_files.len(), 1);
    assert_eq!(
        parse_baseline(format!("{id}\n{id}\n").as_bytes(), true),
        Ok(Baseline::clean(id.clone(), true))
    );
    for bad in ["", "\n\n", &id, &format!("{id}\n--output=x\n")] {
        assert!(parse_baseline(bad.as_bytes(), true).is_err(), "{bad}");
    }
}

#[test]
fn jobs_that_follow_each_other_in_a_folder_report_their_own_changes() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    shell(top, "git init -q -b main .; printf 'a\\nb\\n' >f; echo x >g; git add .; C -m one");
    assert_eq!(changes_of_job(top, "top", "true"), Changes::default());
    // None of these jobs commits, so each change is that of one job.
    assert_eq!(changes_of_job(top, "top", "echo c >>f"), changes(1, 1, 0));
    assert_eq!(changes_of_job(top, "top", "echo new >h"), changes(1, 0, 0));
    assert_eq!(changes_of_job(top, "top", "true"), Changes::default());
    assert_eq!(changes_of_job(top, "top", "echo d >>f; echo more >>h; echo y >i"), changes(3, 1, 0));
    assert_eq!(changes_of_job(top, "top", "printf 'a\\nb\\n' >f"), changes(1, 0, 2), "undone");
    assert_eq!(changes_of_job(top, "top", "rm g"), changes(1, 0, 1));
    assert_eq!(changes_of_job(top, "top", "true"), Changes::default());
    // A job that commits the work of earlier jobs reports it as its own change.
    assert_eq!(changes_of_job(top, "top", "git add -A; C -m two"), changes(2, 3, 0));
    assert_eq!(changes_of_job(top, "top", "echo z >>f; C -am three"), changes(1, 1, 0));
    shell(top, "echo mine >>f");
    assert_eq!(
        changes_of_job(top, "top", "C -am four"),
        changes(1, 1, 0),
        "it committed changes from before the job"
    );
    shell(top, "git mv f moved; printf 'a\\tb\\n' >\"$(printf 'odd\\nname')\"");
    assert_eq!(changes_of_job(top, "top", "true"), Changes::default());
    assert_eq!(
        changes_of_job(top, "top", "echo 1 >>moved; echo 2 >>\"$(printf 'odd\\nname')\""),
        changes(2, 1, 0)
    );
}

#[test]
fn a_subfolder_an_unborn_branch_and_conflicts_are_counted_too() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    shell(top, "git init -q -b main .; mkdir sub; echo a >sub/a; git add .");
    assert_eq!(changes_of_job(top, "below", "true"), Changes::default(), "no commit yet");
    assert_eq!(changes_of_job(top, "below", "echo b >>sub/a"), changes(1, 1, 0));
    shell(top, "C -am one; echo dirty >>sub/a; echo out >outside");
    let sub = top.join("sub");
    assert_eq!(changes_of_job(&sub, "below", "true"), Changes::default());
    assert_eq!(changes_of_job(&sub, "below", "echo c >>a; echo n >new; echo o >../other"), changes(2, 1, 0));
    shell(
        top,
        "git checkout -q -f; git clean -qfd; git checkout -q -b x; echo x >sub/a; C -am x; \
                git checkout -q main; echo y >sub/a; C -am y; ! git merge -q x 2>/dev/null",
    );
    assert_eq!(changes_of_job(top, "top", "true"), Changes::default(), "an unresolved conflict");
    assert_eq!(changes_of_job(top, "top", "echo y >sub/a; git add .; C -m merged"), changes(1, 0, 4));
    fs::write(top.join(".gitignore"), "ignored\n").unwrap();
    fs::create_dir(top.join("ignored")).unwrap();
    assert_eq!(run(&top.join("ignored"), &["begin", "below"]).0, NO_REPOSITORY);
    let alone = tempfile::tempdir().unwrap();
    assert_eq!(run(alone.path(), &["begin", "below"]).0, NO_REPOSITORY);
}

#[test]
fn the_index_and_the_work_tree_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    shell(top, "git init -q .; echo a >f; git add .; C -m one; echo b >f; echo staged >g; git add g");
    let index = fs::read(top.join(".git/index")).unwrap();
    assert_eq!(run(top, &["begin", "top"]).0, 0);
    assert_eq!(fs::read(top.join(".git/index")).unwrap(), index);
    assert!(!top.join(".git/index.lock").exists());
}
