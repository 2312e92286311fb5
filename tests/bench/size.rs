//! Sizes of the program files.

use std::fs;
use std::path::Path;

use relay_tests::harness::programs;

use crate::Fallible;
use crate::table::{Figure, Report, Row, Target};

/// Measures the group `size` and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    report.add_heading("the programs as files");
    let agent = programs::dir().join("worker-agent");
    let linked = if is_dynamic(&agent)? { "dynamic, not as docker/build.sh makes it" } else { "static" };
    let row = Row::new(&format!("worker-agent ({linked})"), file_size(&agent)?);
    report.add_row(row.target(Target::AtMost(6.0)));
    report.add_row(Row::new("relay", file_size(&programs::dir().join("relay"))?));
    Ok(())
}

fn file_size(file: &Path) -> Fallible<Figure> {
    #[expect(clippy::cast_precision_loss, reason = "the size is some megabytes")]
    let bytes = fs::metadata(file)?.len() as f64;
    Ok(Figure::MiB(bytes / 1024.0 / 1024.0))
}

/// Returns true if an ELF file (64 bit, little endian) is a dynamic program: its program header names an interpreter.
fn is_dynamic(file: &Path) -> Fallible<bool> {
    const PT_INTERP: u16 = 3;
    let bytes = fs::read(file)?;
    let read_u16 = |at: usize| {
        let bytes = bytes.get(at..at + 2).ok_or("not an ELF file");
        bytes.map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err("not an ELF file of 64 bits".into());
    }
    // The offset of the table has 64 bits, but the table follows the ELF header directly, so 16 bits are enough.
    let (table, size, count) = (read_u16(32)?, read_u16(54)?, read_u16(56)?);
    for n in 0..usize::from(count) {
        if read_u16(usize::from(table) + n * usize::from(size))? == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}
