//! Recovery of a run's events from an earlier process.
//!
//! A torn end is cut off. Damage with something good after it, or a missing segment, is always reported: what
//! precedes it is kept, and the files from there on are set aside next to the run's folder as
//! `NAME.N.EPOCH.corrupt-1` and so on, where they stay for inspection.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use common::event::{Event, EventBody};
use common::wire;

use super::header::Header;
use super::run_id::RunId;
use super::scan::{Rest, Scan, salvage, scan};
use super::segment::{self, Span};

/// Maximum number of files of one run that are set aside. Any further ones are deleted, so that no damage fills a disk.
const MAX_SET_ASIDE: u32 = 16;

/// Result of a recovery.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Segments with their good content, oldest first.
    pub(super) spans: Vec<Span>,
    /// Last good event.
    pub(super) last: Option<Event>,
    /// Serial that no file has.
    pub(super) serial: u32,
    /// Report of the damage, in one line.
    pub(super) damage: Option<String>,
    /// End of the run, if it was found intact after the damage.
    pub(super) end: Vec<Event>,
}

/// Reads the segments in a run's folder, and cleans up among them.
pub(super) fn recover(dir: &Path, run: &RunId) -> io::Result<Recovered> {
    let mut serials = Vec::new();
    for entry in fs::read_dir(dir)? {
        serials.extend(entry?.file_name().to_str().and_then(segment::serial));
    }
    serials.sort_unstable();
    let mut pass = RecoveryPass {
        run,
        kept: Vec::new(),
        last: None,
        obsolete: Vec::new(),
        bad: Vec::new(),
        end: Vec::new(),
    };
    for (n, serial) in serials.iter().enumerate() {
        let bytes = match fs::read(segment::path(dir, *serial)) {
            Ok(bytes) => bytes,
            Err(error) if is_file_error(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        pass.scan_file(*serial, &bytes, n + 1 == serials.len());
    }
    let RecoveryPass { kept, last, obsolete, bad, end, .. } = pass;
    for serial in obsolete {
        fs::remove_file(segment::path(dir, serial))?;
    }
    let behind = kept.last().map_or(0, |span: &Span| span.next - 1);
    let damage = match set_aside(dir, run, &bad, kept.last())? {
        _ if bad.is_empty() => None,
        aside => Some(format!(
            "the agent's spool was damaged after event {behind} of this run: later events that were not sent are \
             missing here ({aside})"
        )),
    };
    let last = last.as_deref().and_then(|payload| wire::decode(payload).ok());
    let serial = serials.last().map_or(1, |last| last.saturating_add(1));
    Ok(Recovered { spans: kept, last, serial, damage, end })
}

/// Returns true if an error concerns this one file, not the machine at this moment.
fn is_file_error(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_files = [Errno::IO, Errno::ISDIR, Errno::NOENT, Errno::UCLEAN, Errno::BADMSG, Errno::NXIO];
    Errno::from_io_error(error).is_some_and(|errno| of_files.contains(&errno))
}

/// State of the pass over the files.
struct RecoveryPass<'a> {
    run: &'a RunId,
    kept: Vec<Span>,
    /// Payload of the last good event.
    last: Option<Vec<u8>>,
    /// Files without any content that counts.
    obsolete: Vec<u32>,
    /// Files that are damaged, or follow damage.
    bad: Vec<u32>,
    end: Vec<Event>,
}

impl RecoveryPass<'_> {
    fn scan_file(&mut self, serial: u32, bytes: &[u8], is_last: bool) {
        let header = Header::decode(bytes).filter(|(header, _)| header.run == *self.run);
        let Some((header, begin)) = header else {
            if is_last && Header::is_torn(bytes, self.run) {
                self.obsolete.push(serial);
            } else {
                self.bad.push(serial);
            }
            return;
        };
        let scan = scan(bytes, &header, begin);
        if scan.jumped {
            self.obsolete.extend(self.kept.drain(..).map(|span| span.serial));
            self.obsolete.append(&mut self.bad);
            self.last = None;
            self.end.clear();
        }
        let follows =
            self.kept.last().is_none_or(|last| last.next == scan.first && last.serial + 1 == serial);
        if !self.bad.is_empty() || !follows {
            self.bad.push(serial);
            self.salvage(bytes, begin, &header);
            return;
        }
        if let Some((from, to)) = scan.last {
            self.last = Some(bytes[from..to].to_vec());
        }
        // A crash cuts the newest file only.
        if scan.rest == Rest::Damaged || (scan.rest == Rest::Torn && !is_last) {
            self.bad.push(serial);
            self.salvage(bytes, scan.end, &header);
        }
        let Scan { first, next, begin, end, .. } = scan;
        self.kept.push(Span { serial, salt: header.salt, first, next, begin: begin as u64, end: end as u64 });
    }

    /// Searches after damage for the end of the run: the outcome of a job has to be reported whatever else is lost.
    fn salvage(&mut self, bytes: &[u8], from: usize, header: &Header) {
        for payload in salvage(bytes, from, header.salt, header.first) {
            match wire::decode::<Event>(payload) {
                Ok(event @ Event { body: EventBody::Cleanup { .. }, .. }) => self.end = vec![event],
                Ok(event @ Event { body: EventBody::Finished { .. }, .. }) => self.end.push(event),
                _ => self.end.clear(),
            }
        }
    }
}

/// Sets files aside; the good part of `kept` stays, if it is one of them. Returns the text to report.
fn set_aside(dir: &Path, run: &RunId, bad: &[u32], kept: Option<&Span>) -> io::Result<String> {
    let root = dir.parent().unwrap_or(dir);
    let mut aside = Vec::new();
    for serial in bad {
        let path = segment::path(dir, *serial);
        let mut names = (1..=MAX_SET_ASIDE).map(|n| format!("{}.corrupt-{n}", run.folder()));
        let free = names.find(|name| !root.join(name).exists());
        let stays = kept.filter(|span| span.serial == *serial);
        match (&free, stays) {
            (Some(name), Some(span)) => {
                // The copy has all of it before the file loses any.
                fs::copy(&path, root.join(name))?;
                File::open(root.join(name))?.sync_all()?;
                truncate(&path, span.end)?;
            }
            (Some(name), None) => fs::rename(&path, root.join(name))?,
            (None, Some(span)) => truncate(&path, span.end)?,
            (None, None) => fs::remove_file(&path)?,
        }
        aside.extend(free);
    }
    File::open(root)?.sync_all()?;
    Ok(match aside.as_slice() {
        [] => "too many damaged files were kept before: these are deleted".to_owned(),
        [one] => format!("the damaged file is kept as {}", root.join(one).display()),
        [first, .., last] => {
            format!("the damaged files are kept as {} to {last}", root.join(first).display())
        }
    })
}

fn truncate(path: &Path, end: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(end)?;
    file.sync_all()
}
