//! Memory that this process may use, and processor time that it has used.

use std::path::Path;
use std::time::Duration;

/// A bound on memory and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes.
    pub bytes: u64,
    /// "this machine", "the cgroup" or "the options".
    pub source: &'static str,
}

/// The memory that weights, cache and scratch must fit: the machine's, or the cgroup's if less.
/// `None` where the system does not say.
pub fn memory_limit() -> Option<MemoryLimit> {
    let total = physical_memory().map(|bytes| MemoryLimit { bytes, source: "this machine" });
    let group = cgroup_value("memory.max", "memory/memory.limit_in_bytes")
        .map(|bytes| MemoryLimit { bytes, source: "the cgroup" });
    match (total, group) {
        (Some(t), Some(g)) if g.bytes < t.bytes => Some(g),
        (t, g) => t.or(g),
    }
}

/// Processor time of all threads of this process so far; `None` where the system does not say.
pub fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        // SAFETY: all-zero is a valid rusage, and getrusage fills the one it is given.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)?
        };
        let time = |t: libc::timeval| {
            let seconds = u64::try_from(t.tv_sec).ok()?;
            Some(Duration::new(seconds, u32::try_from(t.tv_usec).ok()? * 1000))
        };
        Some(time(usage.ru_utime)? + time(usage.ru_stime)?)
    }
    #[cfg(not(unix))]
    None
}

/// Memory that nobody uses or that the system can free at once, such as cached files; `None` where it
/// does not say.
pub fn available_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return meminfo("MemAvailable:");
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
fn physical_memory() -> Option<u64> {
    meminfo("MemTotal:")
}

/// A line of the system's table, in bytes.
#[cfg(target_os = "linux")]
fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn physical_memory() -> Option<u64> {
    // SAFETY: sysconf takes no pointers.
    let (pages, size) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).ok()?.checked_mul(u64::try_from(size).ok()?)
}

#[cfg(not(unix))]
fn physical_memory() -> Option<u64> {
    None
}

/// A limit of the process's cgroup: the v2 file, else the v1 file. "max" is no limit.
fn cgroup_value(v2: &str, v1: &str) -> Option<u64> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = membership.lines().find_map(|l| l.strip_prefix("0::/")).unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    // Any ancestor may hold the tightest limit.
    let mut folder = root.join(own);
    let mut least: Option<u64> = None;
    loop {
        if let Some(v) = read_number(&folder.join(v2)) {
            least = Some(least.map_or(v, |l| l.min(v)));
        }
        if folder == root || !folder.pop() {
            break;
        }
    }
    least.or_else(|| read_number(&root.join(v1)))
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        if cfg!(target_os = "linux") {
            assert!(memory_limit().is_some_and(|m| m.bytes > 1 << 20));
        }
    }
}
