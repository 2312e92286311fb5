//! Texts about the vitals of a machine: its load, and its free memory and disk space.

use common::vitals::{MachineVitals, Space};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Formats a size: `120 MiB`, `1.5 GiB`, `31 GiB`.
pub fn format_size(bytes: u64) -> String {
    match bytes {
        0..GIB => format!("{} MiB", bytes / MIB),
        _ if bytes < 10 * GIB && !bytes.is_multiple_of(GIB) => {
            format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
        }
        _ => format!("{} GiB", bytes / GIB),
    }
}

fn format_space(space: Space) -> String {
    let (available, total) = (format_size(space.available), format_size(space.total));
    match (available.rsplit_once(' '), total.rsplit_once(' ')) {
        (Some((available, unit)), Some((_, total_unit))) if unit == total_unit => {
            format!("{available} of {total}")
        }
        _ => format!("{available} of {total}"),
    }
}

/// Returns the space on the disk of a machine that has the least available space.
fn fullest_disk(vitals: &MachineVitals) -> Option<Space> {
    let disks = vitals.workspaces.into_iter().chain(vitals.state);
    disks.min_by_key(|disk| disk.available)
}

/// Formats the vitals in a few words, for a head line: `load 0.52 on 4 cores, 2.1 of 7.8 GiB memory free, 31 GiB disk
/// free`.
pub fn short_text(vitals: &MachineVitals) -> String {
    let memory = vitals.memory.map(|memory| format!("{} memory free", format_space(memory)));
    let disk = fullest_disk(vitals).map(|disk| format!("{} disk free", format_size(disk.available)));
    [Some(format_load(vitals)), memory, disk].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Formats all vitals, in one line.
pub fn full_text(vitals: &MachineVitals) -> String {
    let memory = vitals.memory.map(|memory| {
        let limit = vitals.memory_limit.map_or("", |_| " (a limit of its container or cgroup)");
        format!("{} memory free{limit}", format_space(memory))
    });
    let swap =
        vitals.swap.filter(|swap| swap.total > 0).map(|swap| format!("{} swap free", format_space(swap)));
    let disk = |disk: Option<Space>, of: &str| {
        disk.map_or_else(
            || format!("disk of {of} unknown"),
            |disk| format!("{} free for {of}", format_space(disk)),
        )
    };
    let disks = [disk(vitals.workspaces, "workspaces"), disk(vitals.state, "the agent's state")].map(Some);
    let parts = [Some(format_load(vitals)), memory, swap].into_iter().chain(disks).flatten();
    parts.collect::<Vec<_>>().join(", ")
}

/// Describes the machine at the moment when a job stalled or was killed, in one sentence.
pub fn describe_moment(vitals: &MachineVitals) -> String {
    let memory = vitals.memory.map(|memory| format!("{} memory free", format_space(memory)));
    let swap =
        vitals.swap.filter(|swap| swap.total > 0).map(|swap| format!("{} swap free", format_space(swap)));
    let disk = fullest_disk(vitals).map(|disk| format!("{} disk free", format_size(disk.available)));
    let parts = [memory, swap, disk, Some(format_load(vitals))].into_iter().flatten();
    format!("the machine had {}", parts.collect::<Vec<_>>().join(", "))
}

/// Formats the load: `load 0.52 on 4 cores`.
fn format_load(vitals: &MachineVitals) -> String {
    let (load, cores) =
        (vitals.load_milli / 10, crate::plural::format_count(vitals.cores.into(), "core", "cores"));
    format!("load {}.{:02} on {cores}", load / 100, load % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals() -> MachineVitals {
        let space = |total, available| Some(Space { total, available });
        MachineVitals {
            cores: 2,
            load_milli: 1529,
            memory: space(8 * GIB, 120 * MIB),
            memory_limit: None,
            swap: space(0, 0),
            workspaces: space(100 * GIB, 31 * GIB),
            state: space(20 * GIB, 4 * GIB + GIB / 2),
        }
    }

    #[test]
    fn vitals_have_a_short_text_a_full_text_and_a_text_in_the_past_tense() {
        let mut vitals = vitals();
        assert_eq!(
            short_text(&vitals),
            "load 1.52 on 2 cores, 120 MiB of 8 GiB memory free, 4.5 GiB disk free"
        );
        assert_eq!(
            describe_moment(&vitals),
            "the machine had 120 MiB of 8 GiB memory free, 4.5 GiB disk free, load 1.52 on 2 cores"
        );
        assert_eq!(
            full_text(&vitals),
            "load 1.52 on 2 cores, 120 MiB of 8 GiB memory free, 31 of 100 GiB free for workspaces, 4.5 of 20 GiB free \
             for the agent's state"
        );
        vitals.memory_limit = Some(8 * GIB);
        vitals.swap = Some(Space { total: GIB, available: 0 });
        (vitals.workspaces, vitals.cores) = (None, 1);
        assert_eq!(
            full_text(&vitals),
            "load 1.52 on 1 core, 120 MiB of 8 GiB memory free (a limit of its container or cgroup), 0 MiB of 1 GiB swap \
             free, disk of workspaces unknown, 4.5 of 20 GiB free for the agent's state"
        );
    }

    #[test]
    fn unknown_vitals_are_left_out() {
        let unknown = MachineVitals { cores: 4, ..MachineVitals::default() };
        assert_eq!(short_text(&unknown), "load 0.00 on 4 cores");
        assert_eq!(describe_moment(&unknown), "the machine had load 0.00 on 4 cores");
    }

    #[test]
    fn sizes_below_10_gib_have_at_most_one_decimal() {
        for (bytes, text) in [
            (0, "0 MiB"),
            (180 * MIB, "180 MiB"),
            (GIB - 1, "1023 MiB"),
            (GIB, "1 GiB"),
            (GIB + GIB / 2, "1.5 GiB"),
            (10 * GIB + 1, "10 GiB"),
            (931 * GIB, "931 GiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
    }
}
