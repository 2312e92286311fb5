//! Images of a job's prompt. They are fetched from the relay before the first command, into a folder that only the
//! agent writes.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::event::{FailureKind, JobError};
use common::job::MAX_TOTAL_IMAGE_BYTES;
use common::stream::{StreamError, StreamService};

use super::own_place::Wait;
use super::supervisor::Supervisor;
use crate::place::folder;
use crate::stream_request::OpenedStream;

/// Maximum length of the archive, in bytes: the images and their headers.
const MAX_ARCHIVE: u64 = MAX_TOTAL_IMAGE_BYTES + (1 << 20);
/// Maximum time that one read from the relay's stream may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of attempts to fetch the images, if the connection is lost each time.
const MAX_ATTEMPTS: u32 = 20;

impl Supervisor {
    /// Fetches the images of the job, if it has any.
    ///
    /// # Errors
    /// The images could not be fetched.
    pub(super) async fn fetch_images(&mut self) -> Result<(), JobError> {
        if self.spec.images.is_empty() {
            return Ok(());
        }
        let failed = |reason: String| JobError {
            kind: FailureKind::SetupFailed,
            message: format!("the images of the job could not be fetched: {reason}"),
            step: None,
        };
        let output = self.resources.output.clone();
        for _ in 0..MAX_ATTEMPTS {
            let opening = output.streams.open(&output.run, StreamService::FetchImages);
            let OpenedStream { job_side: socket, result } = match self.wait_unless_ended(opening).await {
                Wait::Done(opened) => opened.map_err(|error| failed(error.to_string()))?,
                Wait::Interrupted => return Ok(()),
            };
            let (folder, names) = (self.resources.images_folder.clone(), self.spec.images.clone());
            let unpacking = tokio::task::spawn_blocking(move || unpack(socket, Path::new(&folder), &names));
            let unpacked = match self.wait_unless_ended(unpacking).await {
                Wait::Done(unpacked) => unpacked.map_err(|error| failed(error.to_string()))?,
                Wait::Interrupted => return Ok(()),
            };
            match (unpacked, result.wait().await) {
                (_, Err(StreamError::Lost)) => {}
                (_, Err(StreamError::Refused(reason))) => return Err(failed(reason)),
                (unpacked, _) => return unpacked.map_err(|error| failed(error.to_string())),
            }
        }
        Err(failed("the connection to the relay was lost again and again".to_owned()))
    }

    /// Removes the folder of the images.
    pub(super) fn remove_images(&self) {
        let path = self.resources.images_folder.clone();
        if !path.is_empty() {
            tokio::task::spawn_blocking(move || folder::remove(path.as_ref()));
        }
    }
}

/// Unpacks the archive that the socket delivers. Only files with the expected names are written.
fn unpack(socket: OwnedFd, folder: &Path, names: &[String]) -> io::Result<()> {
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut archive = tar::Archive::new((&socket).take(MAX_ARCHIVE));
    let mut missing: Vec<&String> = names.iter().collect();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        let Some(index) = missing.iter().position(|name| name.as_bytes() == path) else {
            return Err(io::Error::other("the archive holds a file that the job does not have"));
        };
        let path = folder.join(missing.remove(index));
        io::copy(&mut entry, &mut File::create(&path)?)?;
        // The worker may be another user.
        fs::set_permissions(&path, Permissions::from_mode(0o444))?;
    }
    // Reads the stream to its end, so that the relay does not find it closed early.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    if missing.is_empty() { Ok(()) } else { Err(io::Error::other("an image is missing")) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Sends an archive of `files` and unpacks it, for a job with the images `1.png` and `2.jpg`.
    fn send_and_unpack(folder: &Path, files: &[&str]) -> io::Result<()> {
        let (mut relay, agent) = UnixStream::pair()?;
        let mut builder = tar::Builder::new(Vec::new());
        for name in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            builder.append_data(&mut header, name, &b"abc"[..])?;
        }
        relay.write_all(&builder.into_inner()?)?;
        drop(relay);
        unpack(agent.into(), folder, &["1.png".to_owned(), "2.jpg".to_owned()])
    }

    #[test]
    fn only_the_expected_images_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("images");
        fs::create_dir(&folder).unwrap();
        send_and_unpack(&folder, &["1.png", "2.jpg"]).unwrap();
        assert_eq!(fs::read(folder.join("2.jpg")).unwrap(), b"abc");
        assert_eq!(fs::metadata(folder.join("1.png")).unwrap().permissions().mode() & 0o777, 0o444);
        for wrong in [&["1.png"][..], &["1.png", "1.png"], &["1.png", "3.gif"], &[]] {
            let other = dir.path().join(format!("other{}{}", wrong.len(), wrong.last().unwrap_or(&"")));
            fs::create_dir(&other).unwrap();
            assert!(send_and_unpack(&other, wrong).is_err(), "{wrong:?}");
        }
    }
}
