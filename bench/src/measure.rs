//! What Linux says of a process, and what to make of several rounds. CPU times are user+sys of the whole process, in the kernel's ticks of 10 ms:
//! what is measured must take long against that.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// CPU time of a process and of its children that it has waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// Its own.
    pub(crate) own: Duration,
    /// Its dead children's.
    pub(crate) children: Duration,
}

/// CPU time of process `pid` until now.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The name may hold anything, but the last bracket ends it.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| -> anyhow::Result<u64> {
        Ok(fields.get(index).context("/proc/PID/stat is shorter than expected")?.parse()?)
    };
    let duration = |n: u64| Duration::from_millis(n * 10);
    Ok(Cpu { own: duration(ticks(11)? + ticks(12)?), children: duration(ticks(13)? + ticks(14)?) })
}

/// Resident memory of process `pid`, in KiB.
pub(crate) fn rss_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/PID/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The middle one; of an even number, the lower of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The smallest value that `percent` of all do not exceed; NaN of nothing.
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Microseconds.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// One line on where and under what load this ran.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    format!(
        "machine: {cores} cores, {}, {} GiB, Linux {}, load {}",
        field("model name"),
        kib >> 20,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((median(&values), percentile(&values, 99.0), percentile(&values, 100.0)), (50.0, 99.0, 100.0));
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(rss_kib(std::process::id()).unwrap() > 100);
        cpu(std::process::id()).unwrap();
    }
}
