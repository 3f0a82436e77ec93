//! Figures of the process itself, from /proc.

use std::fs;

use crate::metrics::text::Text;

/// Ticks a second in /proc: a constant of Linux for programs, whatever the kernel's own clock does.
const USER_HZ: u64 = 100;

/// Writes the families that Prometheus' client libraries call `process_`. What /proc does not tell is left out.
pub(super) fn write(text: &mut Text) {
    let figures = [
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            resident_bytes(),
        ),
        ("process_open_fds", "Open file descriptors.", open_fds()),
        (
            "process_start_time_seconds",
            "Start of the process, in Unix time.",
            start_time(),
        ),
    ];
    for (name, help, value) in figures {
        if let Some(value) = value {
            text.gauge(name, help);
            text.sample(name, &[], value);
        }
    }
    if let Some(seconds) = cpu_seconds() {
        let name = "process_cpu_seconds_total";
        text.counter(name, "Processor time, user and system.");
        text.sample(name, &[], seconds);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = field(&status, "VmRSS:")?;
    Some(kibibytes * 1024)
}

fn open_fds() -> Option<u64> {
    let all = fs::read_dir("/proc/self/fd").ok()?.count();
    // The directory that is being read is one of them.
    u64::try_from(all.saturating_sub(1)).ok()
}

fn start_time() -> Option<u64> {
    let boot_time = field(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    let ticks = stat_field(22)?;
    Some(boot_time + ticks / USER_HZ)
}

fn cpu_seconds() -> Option<f64> {
    let ticks = stat_field(14)? + stat_field(15)?;
    Some(ticks as f64 / USER_HZ as f64)
}

/// A field of proc_pid_stat(5), counted from 1 as there.
fn stat_field(number: usize) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    // The second is the program's name in parentheses, which may hold anything; field 3 comes after it.
    let (_, from_third) = own.rsplit_once(')')?;
    from_third.split_whitespace().nth(number - 3)?.parse().ok()
}

/// The first number on the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let rss = resident_bytes().unwrap();
        assert!((1 << 20..1 << 34).contains(&rss), "{rss}");
        assert!(open_fds().unwrap() >= 3);
        let before = cpu_seconds().unwrap();
        while cpu_seconds().unwrap() <= before {} // a tick is 10 ms
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let age = now as i64 - start_time().unwrap() as i64;
        assert!((-2..3600).contains(&age), "{age}");
    }
}
