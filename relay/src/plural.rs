//! Numbers formatted with their nouns.

/// Formats a number with its noun: `1 file`, `3 files`.
pub fn format_count(n: u64, singular: &str, plural: &str) -> String {
    let noun = if n == 1 { singular } else { plural };
    format!("{n} {noun}")
}

/// Formats the capacity of a platform: `4 jobs at once`.
pub fn format_capacity(max_jobs: u32) -> String {
    format!("{} at once", format_count(max_jobs.into(), "job", "jobs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0, 1, 2].map(|n| format_count(n, "file", "files")), ["0 files", "1 file", "2 files"]);
        assert_eq!([1, 4].map(format_capacity), ["1 job at once", "4 jobs at once"]);
    }
}
