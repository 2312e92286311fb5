//! Tests of the agent's caches of repositories: a second job fetches only new objects, and no worker can write to them.

#![expect(clippy::unwrap_used, reason = "a harness of tests: a panic is how it reports")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::place::PlaceSpec;
use common::stream::StreamService;

use crate::support::streams::{git, job_repository};
use crate::support::{Agent, DEADLINE, Relay, StartOptions, relay_and_agent_with};

/// Size of the large file in the repository, in bytes. Git can't compress the file.
const FILE_SIZE: usize = 4 << 20;

/// A fake relay and its agent, whose workers run as another user, and the bare repository of all jobs.
struct Setup {
    relay: Relay,
    agent: Agent,
    bare: PathBuf,
    job_count: u32,
}

impl Setup {
    async fn new() -> Self {
        let user = serde_json::json!({"user": "nobody"});
        let (mut relay, agent) = relay_and_agent_with(&user, &StartOptions::default()).await;
        fs::set_permissions(agent.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let big: Vec<u8> = noise.take(FILE_SIZE).collect();
        let (bare, _) = job_repository(agent.dir.path(), &[("big", &big), ("a", b"0\n")]);
        relay.streams.repository = Some(bare.clone());
        Self { relay, agent, bare, job_count: 0 }
    }

    /// Writes `text` into the file `a` of the caller's repository and commits it; returns the id of the commit.
    fn commit(&self, text: &str) -> String {
        let caller = self.agent.dir.path().join("caller");
        fs::write(caller.join("a"), text).unwrap();
        git(&caller, &["commit", "-qam", text]);
        git(&caller, &["rev-parse", "HEAD"])
    }

    /// Runs a job that starts from `base`; returns the job's output, and the number of bytes sent for its clone.
    async fn run(&mut self, base: &str, parent: &str, line: &str) -> (String, usize) {
        self.job_count += 1;
        git(&self.bare, &["update-ref", "refs/heads/base", base]);
        let job = format!("demo#{}", self.job_count);
        let mut spec = self.agent.shell_spec(&job, line);
        "/not/here".clone_into(&mut spec.workspace);
        spec.place =
            Some(PlaceSpec::new(base, parent, &format!("relay/demo-{}", self.job_count), "").unwrap());
        let before = self.relay.streams.sent_bytes;
        self.relay.start(&spec).await;
        let run = self.relay.until_completed(&job).await;
        let warned = run.events.iter().any(|event| matches!(event.body, EventBody::Warning { .. }));
        assert!(!warned, "{:?}", run.events);
        (run.log_text(), self.relay.streams.sent_bytes - before)
    }

    fn base(&self) -> String {
        git(&self.bare, &["rev-parse", "base"])
    }

    fn cache(&self) -> PathBuf {
        let caches = fs::read_dir(self.agent.dir.path().join("state.repositories")).unwrap();
        let mut caches: Vec<PathBuf> = caches.map(|entry| entry.unwrap().path()).collect();
        caches.retain(|path| path.extension().is_some_and(|end| end == "git"));
        assert_eq!(caches.len(), 1, "{caches:?}");
        caches.remove(0)
    }

    /// Waits until the clone for the next job is prepared, and returns its path.
    async fn prepared_clone(&self) -> PathBuf {
        let clone = self.cache().with_extension("git.next").join("clone");
        let deadline = Instant::now() + DEADLINE;
        while !clone.exists() {
            assert!(Instant::now() < deadline, "no clone is prepared");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        clone
    }
}

#[tokio::test]
async fn a_second_job_fetches_only_what_is_new() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut setup = Setup::new().await;
    let first = setup.base();
    let (text, sent) = setup.run(&first, &first, "cat a; git log --oneline | wc -l").await;
    assert!(text.ends_with("0\n1\n") && sent > FILE_SIZE, "{sent}: {text}");
    let opened = setup.relay.streams.opened_services.len();
    let (text, sent) = setup.run(&first, &first, "cat a; git fsck --strict; echo $?").await;
    assert!(text.contains("\n0\n") && text.ends_with("\n0\n"), "{text}");
    assert_eq!((sent, setup.relay.streams.opened_services.len()), (0, opened), "nothing had to be fetched");

    let second = setup.commit("1\n");
    let (text, sent) = setup.run(&second, &second, "cat a; git commit -q --allow-empty -m x").await;
    assert!(text.ends_with("\n1\n") && sent < FILE_SIZE / 8, "{sent}: {text}");
    assert_eq!(git(&setup.bare, &["log", "--format=%s", "base..result"]), "x");
    // Two commits with uncommitted files of the caller. Neither contains the other.
    for (text, max_sent) in [("2\n", FILE_SIZE / 8), ("3\n", FILE_SIZE / 8)] {
        let caller = setup.agent.dir.path().join("caller");
        for arguments in [&["reflog", "expire", "--expire=now", "--all"][..], &["gc", "-q", "--prune=now"]] {
            git(&caller, arguments);
        }
        let base = setup.commit(text);
        git(&caller, &["reset", "-q", "--hard", &second]);
        let (shown, sent) = setup.run(&base, &second, "cat a; git show -s --format=%P").await;
        assert!(shown.ends_with(&format!("\n{text}{second}\n")) && sent < max_sent, "{sent}: {shown}");
    }
}

#[tokio::test]
async fn no_worker_can_write_to_a_cache_and_a_damaged_cache_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut setup = Setup::new().await;
    let base = setup.base();
    setup.run(&base, &base, "true").await;
    let cache = setup.cache();
    let prepared = setup.prepared_clone().await;
    let line = format!(
        "ls {}; cd {}; touch x objects/x objects/pack/x refs/bases/x; for file in HEAD config objects/pack/*; do \
         echo x >> $file; chmod u+w $file; rm -f $file; done; ls objects/pack | wc -l",
        prepared.display(),
        cache.display()
    );
    let before = tree(&cache);
    let (text, _) = setup.run(&base, &base, &line).await;
    assert_eq!(tree(&cache), before);
    assert!(text.contains("Permission denied"), "no worker enters the folder of the next clone: {text}");

    // Git notices that it can't use this clone, and a new one is made from the cache.
    let index = setup.prepared_clone().await.join(".git/index");
    fs::write(&index, "damaged").unwrap();
    let (text, sent) =
        setup.run(&base, &base, "git status --porcelain; git fsck --strict; echo $?; cat a").await;
    assert!(text.ends_with("\n0\n0\n") && sent == 0, "{sent}: {text}");
    fs::remove_dir_all(setup.prepared_clone().await.parent().unwrap()).unwrap();

    let packs = fs::read_dir(cache.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    let pack = packs.into_iter().find(|path| path.extension().is_some_and(|end| end == "pack")).unwrap();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 1000].fill(0);
    fs::write(&pack, bytes).unwrap();
    let (text, sent) = setup.run(&base, &base, "git fsck --strict; echo $?; cat a").await;
    assert!(text.ends_with("\n0\n0\n") && sent > FILE_SIZE, "{sent}: {text}");
    // The next job fetches everything into a new cache. From a damaged one, no clone was prepared.
    let (_, sent) = setup.run(&base, &base, "true").await;
    assert!(sent > FILE_SIZE, "{sent}");
    let (_, sent) = setup.run(&base, &base, "true").await;
    assert_eq!(sent, 0);
}

#[tokio::test]
async fn jobs_that_start_at_the_same_time_share_one_fetch() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut setup = Setup::new().await;
    let base = setup.base();
    let jobs: Vec<String> = (1..=4).map(|n| format!("demo#{n}")).collect();
    for job in &jobs {
        let mut spec = setup.agent.shell_spec(job, "cat a; git status --porcelain");
        "/not/here".clone_into(&mut spec.workspace);
        spec.place = Some(PlaceSpec::new(&base, &base, "b", "").unwrap());
        setup.relay.start(&spec).await;
    }
    for job in &jobs {
        let text = setup.relay.until_completed(job).await.log_text();
        assert!(text.ends_with("\n0\n"), "{text}");
    }
    let fetches =
        setup.relay.streams.opened_services.iter().filter(|service| **service == StreamService::FetchPlace);
    assert_eq!(fetches.count(), 1);
}

/// Returns the paths, sizes and modes of all files in a folder and its subfolders.
fn tree(folder: &std::path::Path) -> Vec<(PathBuf, u64, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push((path, meta.len(), meta.permissions().mode()));
        }
    }
    found.sort();
    found
}
