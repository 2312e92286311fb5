//! Sizes of the program files.

use std::fs;
use std::path::Path;

use relay_tests::harness::programs;

use crate::Fallible;
use crate::table::{Figure, Report, Row, Target};

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    report.heading("the programs as files");
    let agent = programs::dir().join("worker-agent");
    let linked = if needs_a_loader(&agent)? { "dynamic, not as docker/build.sh makes it" } else { "static" };
    let row = Row::new(&format!("worker-agent ({linked})"), mebibytes(&agent)?);
    report.row(row.target(Target::AtMost(6.0)));
    report.row(Row::new("relay", mebibytes(&programs::dir().join("relay"))?));
    Ok(())
}

fn mebibytes(file: &Path) -> Fallible<Figure> {
    #[expect(clippy::cast_precision_loss, reason = "the size is some megabytes")]
    let bytes = fs::metadata(file)?.len() as f64;
    Ok(Figure::MiB(bytes / 1024.0 / 1024.0))
}

/// Returns true if an ELF file (64 bit, little endian) names a program interpreter, which means that it is not static.
fn needs_a_loader(file: &Path) -> Fallible<bool> {
    const PT_INTERP: u16 = 3;
    let bytes = fs::read(file)?;
    let short = |at: usize| {
        let bytes = bytes.get(at..at + 2).ok_or("not an ELF file");
        bytes.map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err("not an ELF file of 64 bits".into());
    }
    // `e_phoff` is 64 bits long, but the table follows the header directly.
    let (table, size, count) = (short(32)?, short(54)?, short(56)?);
    for n in 0..usize::from(count) {
        if short(usize::from(table) + n * usize::from(size))? == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}
