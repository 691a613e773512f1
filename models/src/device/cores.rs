//! Which processors this process may use, and how many threads are best when nobody says.

#[cfg(target_os = "linux")]
use std::path::Path;

/// A processor (a hardware thread) that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cpu {
    /// The system's number of it.
    id: usize,
    /// (package, core): hardware threads of one core share it.
    core: (u64, u64),
    /// Speed in some unit that all processors of the machine share; `None` = unknown.
    speed: Option<u64>,
}

/// A core slower than this part of the fastest is one of those that save energy. Favoured cores of
/// one kind differ by a tenth at most; efficient cores reach 40 to 75 %.
const FAST_PERCENT: u64 = 80;

/// Threads to use when nobody says: physical cores that are made for speed, within the process's
/// affinity and processor quota.
pub fn default_threads() -> usize {
    let cpus = cpus();
    match fast_cores(&cpus).len() {
        0 => usable_threads(),
        n => n.min(usable_threads()),
    }
}

/// Hardware threads that this process may use: its affinity and its processor quota allow no more
/// to run at a time.
pub fn usable_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Ties the calling thread to one processor: the `index`-th that this process may use, one of each
/// fast core first. Returns whether the system did so.
pub fn pin_thread(order: &PinOrder, index: usize) -> bool {
    match order.0.get(index % order.0.len().max(1)) {
        Some(&id) => pin(id),
        None => false,
    }
}

/// Processors in the order in which workers are tied to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinOrder(Vec<usize>);

impl PinOrder {
    /// As the process's affinity is now; empty where the system does not say.
    pub fn new() -> PinOrder {
        let cpus = cpus();
        let mut order = fast_cores(&cpus);
        order
            .extend(cpus.iter().map(|c| c.id).filter(|id| !order.contains(id)).collect::<Vec<_>>());
        PinOrder(order)
    }
}

impl Default for PinOrder {
    fn default() -> Self {
        PinOrder::new()
    }
}

/// One processor of each fast core, by number.
fn fast_cores(cpus: &[Cpu]) -> Vec<usize> {
    let fastest = cpus.iter().filter_map(|c| c.speed).max().unwrap_or(0);
    let is_fast = |c: &&Cpu| c.speed.is_none_or(|s| s * 100 >= fastest * FAST_PERCENT);
    let mut seen = std::collections::BTreeSet::new();
    cpus.iter().filter(is_fast).filter(|c| seen.insert(c.core)).map(|c| c.id).collect()
}

#[cfg(target_os = "linux")]
fn cpus() -> Vec<Cpu> {
    let root = Path::new("/sys/devices/system/cpu");
    // Where the kernel tells kinds of cores apart it has a list of each kind's.
    let efficient = read(Path::new("/sys/devices/cpu_atom/cpus")).map_or(vec![], |t| list(&t));
    let cpu = |id: usize| {
        let folder = root.join(format!("cpu{id}"));
        let number = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
        let speed = match efficient.contains(&id) {
            true => Some(1),
            // A list of efficient cores says all there is to say.
            false if !efficient.is_empty() => Some(1024),
            false => number("cpu_capacity").or_else(|| number("cpufreq/cpuinfo_max_freq")),
        };
        let package = number("topology/physical_package_id").unwrap_or(0);
        // A processor of which nothing is known is a core of its own.
        let core = number("topology/core_id").unwrap_or(u64::MAX - id as u64);
        Cpu { id, core: (package, core), speed }
    };
    affinity().into_iter().map(cpu).collect()
}

#[cfg(not(target_os = "linux"))]
fn cpus() -> Vec<Cpu> {
    vec![]
}

#[cfg(target_os = "linux")]
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A list such as "0-3,8,10-11"; what cannot be read is left out.
#[cfg(target_os = "linux")]
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // More than any machine has: nothing that a list may make us allocate.
        (first <= last && last < 1 << 16).then_some(first..=last)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// Numbers of the processors that the calling thread may run on.
#[cfg(target_os = "linux")]
fn affinity() -> Vec<usize> {
    // SAFETY: all-zero is a valid set, and sched_getaffinity fills the one whose size it is given.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        match libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) {
            0 => set,
            _ => return vec![],
        }
    };
    // SAFETY: the numbers are within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&i| unsafe { libc::CPU_ISSET(i, &set) }).collect()
}

#[cfg(target_os = "linux")]
fn pin(id: usize) -> bool {
    // SAFETY: all-zero is a valid set; `id` came out of such a set, so it is within its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(id, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn pin(_id: usize) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(id: usize, core: u64, speed: Option<u64>) -> Cpu {
        Cpu { id, core: (0, core), speed }
    }

    #[test]
    fn this_machine_has_threads() {
        assert!((1..=usable_threads()).contains(&default_threads()));
    }

    #[test]
    fn hardware_threads_of_a_core_count_once() {
        let cpus: Vec<Cpu> = (0..8).map(|i| cpu(i, i as u64 % 4, Some(1024))).collect();
        assert_eq!(fast_cores(&cpus), [0, 1, 2, 3]);
        // Affinity left one core's two threads and another's second.
        assert_eq!(fast_cores(&[cpus[1].clone(), cpus[5].clone(), cpus[6].clone()]), [1, 6]);
        // The same numbers in another package are other cores.
        let other = Cpu { core: (1, 0), ..cpu(8, 0, Some(1024)) };
        assert_eq!(fast_cores(&[cpus[0].clone(), other]), [0, 8]);
    }

    #[test]
    fn cores_that_save_energy_do_not_count_where_there_are_fast_ones() {
        // A phone: one prime, three big, four small cores.
        let phone: Vec<Cpu> = [1024, 870, 870, 870, 325, 325, 325, 325]
            .iter()
            .enumerate()
            .map(|(i, &s)| cpu(i, i as u64, Some(s)))
            .collect();
        assert_eq!(fast_cores(&phone), [0, 1, 2, 3]);
        // Affinity left small ones alone: they are what there is.
        assert_eq!(fast_cores(&phone[4..]), [4, 5, 6, 7]);
        // Favoured cores of one kind.
        let favoured = [cpu(0, 0, Some(5_700_000)), cpu(1, 1, Some(5_400_000))];
        assert_eq!(fast_cores(&favoured), [0, 1]);
        // Nothing is known.
        assert_eq!(fast_cores(&[cpu(0, 0, None), cpu(1, 1, None)]), [0, 1]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert!(list("").is_empty() && list("x,3-1,0-99999999999").is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pinned_thread_may_run_on_one_processor() {
        let order = PinOrder::new();
        let all = affinity();
        assert_eq!(order.0.len(), all.len());
        for index in [0, 1, all.len()] {
            let order = order.clone();
            let pinned = std::thread::spawn(move || pin_thread(&order, index).then(affinity));
            let now =
                pinned.join().unwrap().expect("the system ties a thread to its own processor");
            assert_eq!(now.len(), 1);
            assert!(all.contains(&now[0]));
        }
        assert_eq!(affinity(), all, "other threads are left alone");
    }
}
