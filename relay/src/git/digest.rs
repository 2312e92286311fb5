//! The digest of a change, which can be computed again from the two commits.

use std::fs::File;
use std::io::{Read, Seek};

use sha2::{Digest, Sha256};

use super::GitError;
use super::command::WORK_LIMIT;
use super::job_repository::JobRepository;

/// Command whose output is hashed; each call appends the two commits. `diff-tree` ignores the settings of users.
pub const DIFF_COMMAND: &str = "git diff-tree -r -p --binary --full-index --no-renames --no-color --no-ext-diff \
                                --no-textconv --diff-algorithm=myers --unified=3 --src-prefix=a/ --dst-prefix=b/";
/// Size of the buffer through which a diff is read, in bytes.
const BUFFER_SIZE: usize = 64 * 1024;

/// Digest of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeDigest {
    /// Id of the tree of the newer commit.
    pub tree: String,
    /// SHA-256 of the diff, in hexadecimal.
    pub diff_sha256: String,
    /// Length of the diff, in bytes.
    pub diff_bytes: u64,
}

/// Computes the digest of the change between two commits of a job's repository.
///
/// # Errors
/// Git's own message.
pub fn digest_change(repository: &JobRepository, base: &str, commit: &str) -> Result<ChangeDigest, GitError> {
    let tree = repository.git("rev-parse").args(["--verify", &format!("{commit}^{{tree}}")]).text()?;
    let failed = |e: std::io::Error| GitError::io("the diff can't be read", &e);
    let mut diff = repository.temporary_file().map_err(failed)?;
    let output = diff.try_clone().map_err(failed)?;
    let mut words = DIFF_COMMAND.split_whitespace().skip(1);
    let call = repository.git(words.next().unwrap_or_default()).args(words).args([base, commit]);
    call.output_file(output).limit(WORK_LIMIT).output()?;
    diff.rewind().map_err(failed)?;
    let (diff_sha256, diff_bytes) = hash_file(&mut diff).map_err(failed)?;
    Ok(ChangeDigest { tree, diff_sha256, diff_bytes })
}

fn hash_file(file: &mut File) -> std::io::Result<(String, u64)> {
    let (mut sha256, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER_SIZE]);
    loop {
        let read_bytes = file.read(&mut buffer)?;
        if read_bytes == 0 {
            return Ok((hex::encode(sha256.finalize()), bytes));
        }
        sha256.update(&buffer[..read_bytes]);
        bytes += read_bytes as u64;
    }
}
