//! Resources of the platform: limits of its containers (`[platform] memory`, `cpus`, `pids`, `disk`), and the memory and
//! disk space that its machine must keep free (`min_free_memory`, `min_free_disk`).

use toml::Spanned;

use super::serde_util::ConfigError;
use crate::engine_kind::JobContainers;
use crate::min_free::{MinFree, Minimum};

/// Resource limits of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Maximum memory, in bytes.
    pub memory: u64,
    /// Maximum CPU use, in thousandths of a CPU; `None` for all CPUs.
    pub millicpus: Option<u64>,
    /// Maximum number of processes and threads.
    pub pids: u32,
    /// Maximum disk space of a job in its own container, in bytes; `None` for no limit.
    pub disk: Option<u64>,
}

const MIB: u64 = 1024 * 1024;

impl ResourceLimits {
    /// Returns the default limits of a container with one job or with all jobs.
    fn default_of(containers: JobContainers) -> Self {
        // Enough for a compiler and its threads, and for four jobs with that.
        let (memory, pids) = match containers {
            JobContainers::Job => (4096 * MIB, 512),
            JobContainers::Shared => (8192 * MIB, 2048),
        };
        Self { memory, millicpus: None, pids, disk: None }
    }
}

/// Lowest memory limit that is accepted, in bytes: enough for a container with the agent and a worker.
const MIN_MEMORY: u64 = 256 * MIB;
/// Default limit of disk space, in bytes: enough for a large build with its dependencies.
const DEFAULT_DISK: u64 = 20 * 1024 * MIB;
/// Lowest limit of disk space that is accepted, in bytes: enough for a worker's own settings and logs.
const MIN_DISK: u64 = 64 * MIB;
/// Lowest process limit that is accepted: enough for an agent and a worker with its tools.
const MIN_PIDS: u32 = 64;

/// Checks the limits of a container, and fills in the defaults.
pub(super) fn resolve_limits(
    containers: JobContainers,
    memory: Option<Spanned<String>>,
    cpus: Option<Spanned<f64>>,
    pids: Option<Spanned<u32>>,
) -> Result<ResourceLimits, ConfigError> {
    let default = ResourceLimits::default_of(containers);
    let memory = match memory {
        None => default.memory,
        Some(text) => {
            parse_size(text.get_ref()).filter(|bytes| *bytes >= MIN_MEMORY).ok_or_else(|| ConfigError {
                range: text.span(),
                reason: format!(
                    "[platform] memory = '{}': write it like 8GiB or 512MiB, at least 256MiB",
                    common::text_format::one_line(text.get_ref(), 40)
                ),
            })?
        }
    };
    let millicpus = match cpus {
        None => None,
        Some(cpus) => Some(to_thousandths(*cpus.get_ref()).ok_or_else(|| ConfigError {
            range: cpus.span(),
            reason: format!("[platform] cpus = {}: must be 0.1 to 1024", cpus.get_ref()),
        })?),
    };
    let pids = match pids {
        None => default.pids,
        Some(pids) if *pids.get_ref() >= MIN_PIDS => pids.into_inner(),
        Some(pids) => {
            let reason = format!("[platform] pids = {}: must be at least {MIN_PIDS}", pids.get_ref());
            return Err(ConfigError { range: pids.span(), reason });
        }
    };
    Ok(ResourceLimits { memory, millicpus, pids, disk: None })
}

/// Checks the limit of disk space, and fills in the default. Only a container with a single job has such a limit.
///
/// # Errors
/// Returns an error for a limit that can't be kept.
pub(super) fn resolve_disk(
    containers: JobContainers,
    disk: Option<Spanned<String>>,
) -> Result<Option<u64>, ConfigError> {
    let limit = match disk {
        None => Some(DEFAULT_DISK),
        Some(text) if text.get_ref().trim() == "0" => None,
        Some(text) => {
            let bytes = parse_size(text.get_ref()).filter(|bytes| *bytes >= MIN_DISK);
            Some(bytes.ok_or_else(|| ConfigError {
                range: text.span(),
                reason: format!(
                    "[platform] disk = '{}': write it like 20GiB or 512MiB, at least 64MiB, or 0 for no limit",
                    common::text_format::one_line(text.get_ref(), 40)
                ),
            })?)
        }
    };
    Ok(limit.filter(|_| containers == JobContainers::Job))
}

/// Checks the settings, and fills in the defaults of `min_free_memory` and `min_free_disk`.
///
/// # Errors
/// Returns the first invalid setting.
pub(super) fn resolve_min_free(
    memory: Option<Spanned<String>>,
    disk: Option<Spanned<String>>,
) -> Result<MinFree, ConfigError> {
    let default = MinFree::default();
    let minimum = |name: &str, text: Option<Spanned<String>>, default| match text {
        None => Ok(default),
        Some(text) if text.get_ref().trim() == "0" => Ok(Minimum::Set(0)),
        Some(text) => parse_size(text.get_ref()).map(Minimum::Set).ok_or_else(|| ConfigError {
            range: text.span(),
            reason: format!(
                "[platform] {name} = '{}': write it like 256MiB or 2GiB, or 0 for none",
                common::text_format::one_line(text.get_ref(), 40)
            ),
        }),
    };
    Ok(MinFree {
        memory: minimum("min_free_memory", memory, default.memory)?,
        disk: minimum("min_free_disk", disk, default.disk)?,
    })
}

/// Parses a size such as `8GiB`, and returns it in bytes.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "m" | "mb" | "mib" => MIB,
        "g" | "gb" | "gib" => 1024 * MIB,
        "t" | "tb" | "tib" => 1024 * 1024 * MIB,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn to_thousandths(cpus: f64) -> Option<u64> {
    if !(0.1..=1024.0).contains(&cpus) {
        return None;
    }
    // Formatted and parsed again, because a cast of a float may be inexact.
    format!("{:.0}", cpus * 1000.0).parse().ok()
}

impl ResourceLimits {
    /// Formats the limits for display.
    pub fn describe(&self) -> String {
        let cpus =
            self.millicpus.map_or("all CPUs".to_owned(), |millis| format!("{} CPUs", format_cpus(millis)));
        let disk = self.disk.map_or_else(String::new, |disk| format!(", {} MiB of disk space", disk / MIB));
        format!("{} MiB of memory, {cpus}, {} processes{disk}", self.memory / MIB, self.pids)
    }
}

/// Formats thousandths of a CPU as a decimal number.
pub fn format_cpus(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_container_with_one_job_has_a_limit_of_disk_space() {
        let resolve = |containers, disk: Option<&str>| {
            resolve_disk(containers, disk.map(|text| Spanned::new(0..1, text.to_owned())))
                .map_err(|e| e.reason)
        };
        let (job, shared) = (JobContainers::Job, JobContainers::Shared);
        assert_eq!((resolve(shared, None), resolve(job, None)), (Ok(None), Ok(Some(DEFAULT_DISK))));
        assert_eq!((resolve(job, Some("0")), resolve(job, Some("64MiB"))), (Ok(None), Ok(Some(MIN_DISK))));
        assert_eq!(resolve(shared, Some("1GiB")), Ok(None));
        for bad in ["63MiB", "1", "", "many"] {
            assert!(resolve(job, Some(bad)).unwrap_err().contains("at least 64MiB"), "{bad}");
        }
    }

    #[test]
    fn sizes_are_parsed_with_long_and_short_units() {
        for (text, expected) in [
            ("8GiB", Some(8192 * MIB)),
            ("512 MiB", Some(512 * MIB)),
            ("4g", Some(4096 * MIB)),
            ("1T", Some(1024 * 1024 * MIB)),
            ("8", None),
            ("", None),
            ("-1G", None),
            ("1.5G", None),
            ("99999999999999999999G", None),
            ("18446744073709551615G", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
        assert_eq!(to_thousandths(1.5), Some(1500));
        assert_eq!(to_thousandths(f64::NAN), None);
        assert_eq!(format_cpus(1500), "1.500");
    }
}
