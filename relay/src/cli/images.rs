//! Images that are handed to the worker with the task.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::job::{MAX_IMAGES, MAX_TOTAL_IMAGE_BYTES};
use common::text_format::one_line;
use rustix::fs::OFlags;

use crate::exit::Failure;

/// Maximum size of one image, in bytes.
const MAX_IMAGE_SIZE: u64 = 20 << 20;

/// Images of a launch, in one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchImages {
    /// Names of the files in the archive, in the order of the flags.
    pub names: Vec<String>,
    /// The archive (tar).
    pub archive: Arc<[u8]>,
}

/// Reads the images of `-i`; `None` without any.
///
/// # Errors
/// Exit code 2 with one line that names the image and what is wrong with it.
pub(super) fn read_images(paths: &[PathBuf], cwd: &Path) -> Result<Option<LaunchImages>, Failure> {
    if paths.is_empty() {
        return Ok(None);
    }
    if paths.len() > MAX_IMAGES {
        return Err(Failure::usage(format!("--image: at most {MAX_IMAGES} images")));
    }
    let (mut names, mut builder, mut total) = (Vec::new(), tar::Builder::new(Vec::new()), 0);
    for (index, path) in paths.iter().enumerate() {
        let refuse =
            |why: &str| Failure::usage(format!("--image {}: {why}", one_line(&path.to_string_lossy(), 200)));
        let bytes = read_image(&cwd.join(path)).map_err(|why| refuse(&why))?;
        total += bytes.len() as u64;
        if total > MAX_TOTAL_IMAGE_BYTES {
            return Err(refuse(&format!(
                "all images together are larger than {} MiB",
                MAX_TOTAL_IMAGE_BYTES >> 20
            )));
        }
        let ending = ending_of_format(&bytes)
            .ok_or_else(|| refuse("is no image that the model can read: use PNG, JPEG, GIF or WebP"))?;
        let name = format!("{}.{ending}", index + 1);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, &name, &*bytes).map_err(|e| refuse(&e.to_string()))?;
        names.push(name);
    }
    let archive = builder.into_inner().map_err(|e| Failure::usage(format!("--image: {e}")))?;
    Ok(Some(LaunchImages { names, archive: archive.into() }))
}

fn read_image(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("can't be read: {e}"),
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a file that the caller names, opened with the caller's rights"
    )]
    // NONBLOCK: opening a pipe or a terminal must not block.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = file.map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_IMAGE_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_IMAGE_SIZE {
        return Err(format!("is larger than {} MiB", MAX_IMAGE_SIZE >> 20));
    }
    Ok(bytes)
}

/// Returns the usual file name ending of an image, by its first bytes; `None` for a format that models can't read.
fn ending_of_format(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_bytes_decide_about_the_format_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("a.bin", b"\x89PNG\r\n\x1a\nrest");
        write("b", b"\xff\xd8\xff\xe0");
        write("c", b"GIF89a");
        write("d", b"RIFF\0\0\0\0WEBPVP8 ");
        write("e.png", b"not an image");
        let read = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            read_images(&paths, dir.path())
        };
        assert_eq!(read(&[]).unwrap(), None);
        let images = read(&["a.bin", "b", "c", "d"]).unwrap().unwrap();
        assert_eq!(images.names, ["1.png", "2.jpg", "3.gif", "4.webp"]);
        let mut archive = tar::Archive::new(&*images.archive);
        let sizes: Vec<u64> = archive.entries().unwrap().map(|entry| entry.unwrap().size()).collect();
        assert_eq!(sizes, [12, 4, 6, 16]);
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), 0o600.into()).unwrap();
        let big = File::create(dir.path().join("big")).unwrap();
        big.set_len(MAX_IMAGE_SIZE + 1).unwrap();
        for (name, why) in [
            ("none", "does not exist"),
            (".", "is no regular file"),
            ("pipe", "is no regular file"),
            ("big", "is larger than 20 MiB"),
            ("e.png", "use PNG, JPEG, GIF or WebP"),
        ] {
            let refused = read(&["a.bin", name]).unwrap_err();
            assert_eq!(refused.code as u8, 2);
            assert!(refused.message.starts_with(&format!("--image {name}: ")), "{}", refused.message);
            assert!(refused.message.contains(why), "{}", refused.message);
        }
        assert!(read(&["b"; MAX_IMAGES + 1]).unwrap_err().message.contains("at most"));
    }
}
