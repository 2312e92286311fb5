//! Recovery of a run's events from an earlier process.
//!
//! A torn end is truncated. Damage before valid records, or a missing segment, is always reported. The events before
//! the damage are kept, and the files from there on are set aside for inspection, next to the run's folder as
//! `NAME.N.EPOCH.corrupt-1` and so on.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use common::event::{Event, EventBody};
use common::wire;

use super::header::SegmentHeader;
use super::run_id::RunId;
use super::scan::{SegmentScan, TrailingBytes, salvage_payloads, scan_segment};
use super::segment::{self, SegmentSpan};

/// Maximum number of damaged files of a run that are set aside, so that they can't fill a disk. Others are deleted.
const MAX_SET_ASIDE_FILES: u32 = 16;

/// Result of a recovery.
#[derive(Debug, Default)]
pub(super) struct RecoveredEvents {
    /// Segments with their valid content, oldest first.
    pub(super) spans: Vec<SegmentSpan>,
    pub(super) last_event: Option<Event>,
    /// Number for the next segment, which no file has.
    pub(super) unused_segment_number: u32,
    /// Report of the damage, in one line.
    pub(super) damage_report: Option<String>,
    /// Final events of the run, if they were found intact after the damage.
    pub(super) final_events: Vec<Event>,
}

/// Reads the segments in a run's folder, and removes or sets aside unusable ones.
pub(super) fn recover(dir: &Path, run: &RunId) -> io::Result<RecoveredEvents> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        numbers.extend(entry?.file_name().to_str().and_then(segment::parse_segment_number));
    }
    numbers.sort_unstable();
    let mut pass = RecoveryPass {
        run,
        kept_segments: Vec::new(),
        last_payload: None,
        obsolete_segments: Vec::new(),
        bad_segments: Vec::new(),
        final_events: Vec::new(),
    };
    for (n, number) in numbers.iter().enumerate() {
        let bytes = match fs::read(segment::segment_path(dir, *number)) {
            Ok(bytes) => bytes,
            Err(error) if is_file_error(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        pass.scan_file(*number, &bytes, n + 1 == numbers.len());
    }
    let RecoveryPass {
        kept_segments: kept,
        last_payload: last,
        obsolete_segments: obsolete,
        bad_segments: bad,
        final_events: end,
        ..
    } = pass;
    for number in obsolete {
        fs::remove_file(segment::segment_path(dir, number))?;
    }
    let last_seq = kept.last().map_or(0, |span: &SegmentSpan| span.next_seq - 1);
    let damage = match set_aside_segments(dir, run, &bad, kept.last())? {
        _ if bad.is_empty() => None,
        report => Some(format!(
            "the agent's spool was damaged after event {last_seq} of this run: later events that were not sent are \
             missing here ({report})"
        )),
    };
    let last = last.as_deref().and_then(|payload| wire::decode(payload).ok());
    let number = numbers.last().map_or(1, |last| last.saturating_add(1));
    Ok(RecoveredEvents {
        spans: kept,
        last_event: last,
        unused_segment_number: number,
        damage_report: damage,
        final_events: end,
    })
}

/// Returns true if an error affects only one file, and not the whole machine.
fn is_file_error(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let file_errors = [Errno::IO, Errno::ISDIR, Errno::NOENT, Errno::UCLEAN, Errno::BADMSG, Errno::NXIO];
    Errno::from_io_error(error).is_some_and(|errno| file_errors.contains(&errno))
}

/// State of the recovery while it reads one file after the other.
struct RecoveryPass<'a> {
    run: &'a RunId,
    kept_segments: Vec<SegmentSpan>,
    /// Payload of the last valid event.
    last_payload: Option<Vec<u8>>,
    /// Files whose events are all obsolete.
    obsolete_segments: Vec<u32>,
    /// Files that are damaged, or follow damage.
    bad_segments: Vec<u32>,
    final_events: Vec<Event>,
}

impl RecoveryPass<'_> {
    fn scan_file(&mut self, segment_number: u32, bytes: &[u8], is_last: bool) {
        let header = SegmentHeader::decode(bytes).filter(|(header, _)| header.run == *self.run);
        let Some((header, begin)) = header else {
            if is_last && SegmentHeader::is_torn(bytes, self.run) {
                self.obsolete_segments.push(segment_number);
            } else {
                self.bad_segments.push(segment_number);
            }
            return;
        };
        let scan = scan_segment(bytes, &header, begin);
        if scan.has_jump {
            self.obsolete_segments.extend(self.kept_segments.drain(..).map(|span| span.segment_number));
            self.obsolete_segments.append(&mut self.bad_segments);
            self.last_payload = None;
            self.final_events.clear();
        }
        let is_consecutive = self
            .kept_segments
            .last()
            .is_none_or(|last| last.next_seq == scan.first_seq && last.segment_number + 1 == segment_number);
        if !self.bad_segments.is_empty() || !is_consecutive {
            self.bad_segments.push(segment_number);
            self.salvage_final_events(bytes, begin, &header);
            return;
        }
        if let Some((start, end)) = scan.last_payload {
            self.last_payload = Some(bytes[start..end].to_vec());
        }
        // A crash can only truncate the newest file, so a truncated older file is damaged too.
        if scan.trailing_bytes == TrailingBytes::Damaged
            || (scan.trailing_bytes == TrailingBytes::Torn && !is_last)
        {
            self.bad_segments.push(segment_number);
            self.salvage_final_events(bytes, scan.valid_end, &header);
        }
        let SegmentScan {
            first_seq: first, next_seq: next, first_record_offset: begin, valid_end: end, ..
        } = scan;
        self.kept_segments.push(SegmentSpan {
            segment_number,
            salt: header.salt,
            first_seq: first,
            next_seq: next,
            first_event_offset: begin as u64,
            end_offset: end as u64,
        });
    }

    /// Searches the bytes after damage for the final events of the run, because the outcome of a job must be reported
    /// in any case.
    fn salvage_final_events(&mut self, bytes: &[u8], start: usize, header: &SegmentHeader) {
        for payload in salvage_payloads(bytes, start, header.salt, header.first_seq) {
            match wire::decode::<Event>(payload) {
                Ok(event @ Event { body: EventBody::Cleanup { .. }, .. }) => self.final_events = vec![event],
                Ok(event @ Event { body: EventBody::Finished { .. }, .. }) => self.final_events.push(event),
                _ => self.final_events.clear(),
            }
        }
    }
}

/// Moves damaged files next to the run's folder, but leaves the valid part of the segment `kept`. Returns their new
/// names as a text.
fn set_aside_segments(
    dir: &Path,
    run: &RunId,
    damaged: &[u32],
    kept: Option<&SegmentSpan>,
) -> io::Result<String> {
    let root = dir.parent().unwrap_or(dir);
    let mut new_names = Vec::new();
    for number in damaged {
        let path = segment::segment_path(dir, *number);
        let mut names = (1..=MAX_SET_ASIDE_FILES).map(|n| format!("{}.corrupt-{n}", run.folder_name()));
        let free_name = names.find(|name| !root.join(name).exists());
        let kept_span = kept.filter(|span| span.segment_number == *number);
        match (&free_name, kept_span) {
            (Some(name), Some(span)) => {
                // The copy must be complete before the file is truncated.
                fs::copy(&path, root.join(name))?;
                File::open(root.join(name))?.sync_all()?;
                truncate(&path, span.end_offset)?;
            }
            (Some(name), None) => fs::rename(&path, root.join(name))?,
            (None, Some(span)) => truncate(&path, span.end_offset)?,
            (None, None) => fs::remove_file(&path)?,
        }
        new_names.extend(free_name);
    }
    File::open(root)?.sync_all()?;
    Ok(match new_names.as_slice() {
        [] => "too many damaged files were kept before: these are deleted".to_owned(),
        [one] => format!("the damaged file is kept as {}", root.join(one).display()),
        [first, .., last] => {
            format!("the damaged files are kept as {} to {last}", root.join(first).display())
        }
    })
}

fn truncate(path: &Path, length: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}
