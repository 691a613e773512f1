//! A wrong file costs neither time nor memory, whatever it claims: each is opened in a process of
//! its own, whose peak memory is read from the system.
#![cfg(target_os = "linux")]

mod cases;
mod machine;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use formats::{Access, Gguf};

const TIME_MAX: Duration = Duration::from_millis(100);
const MEMORY_MAX_KIB: u64 = 64 << 10;

/// Names the file that the child process opens.
const FILE: &str = "PUMICE_LIMITS_FILE";

/// What the child process reports.
struct Cost {
    time: Duration,
    peak_kib: u64,
    output: String,
}

/// Not a check of its own: the child's side of the tests below.
#[test]
fn child() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    for access in [Access::Mmap, Access::Read] {
        let start = Instant::now();
        let error = Gguf::open(Path::new(&path), access).expect_err("a wrong file");
        println!("time_us {}", start.elapsed().as_micros());
        println!("error {error}");
    }
    println!("peak_kib {}", peak_kib());
}

/// Peak resident memory of this process.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Opens the file in a child process, both ways.
fn cost_of(path: &Path) -> Cost {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(FILE, path)
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    assert!(child.status.success(), "{}: {output}", path.display());
    let numbers = |name| {
        output
            .lines()
            .filter_map(move |line| line.split_once(name)?.1.parse().ok())
    };
    let times: Vec<u64> = numbers("time_us ").collect();
    assert_eq!(times.len(), 2, "{output}");
    let time = Duration::from_micros(times.into_iter().max().unwrap());
    let peak_kib = numbers("peak_kib ").next().unwrap();
    Cost {
        time,
        peak_kib,
        output,
    }
}

/// Opens the file; returns what the child process wrote.
fn check(name: &str, path: &Path) -> String {
    // A busy machine may stop any process for a while, so a slow run has a second chance.
    let mut cost = cost_of(path);
    if cost.time >= TIME_MAX {
        cost = cost_of(path);
    }
    println!("{name}: {:?}, {} KiB", cost.time, cost.peak_kib);
    assert!(cost.time < TIME_MAX, "{name}: {:?}", cost.time);
    assert!(
        cost.peak_kib < MEMORY_MAX_KIB,
        "{name}: {} KiB",
        cost.peak_kib
    );
    cost.output
}

#[test]
fn no_wrong_file_costs_time_or_memory() {
    if machine::is_slow() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, case) in cases::metadata::CASES.iter().chain(cases::tensors::CASES) {
        let path = folder.path().join(name);
        let case = case();
        std::fs::write(&path, case.bytes).unwrap();
        let output = check(name, &path);
        assert!(
            case.says.iter().all(|part| output.contains(part)),
            "{name}: {output}"
        );
    }
}

/// The size of a file says nothing about its truth: these have a gibibyte of zeros at the end,
/// which would satisfy any count.
#[test]
fn no_wrong_giant_costs_time_or_memory() {
    if machine::is_slow() {
        return;
    }
    let header = |n_tensors: u64, n_keys: u64| {
        [
            &b"GGUF\x03\0\0\0"[..],
            &n_tensors.to_le_bytes(),
            &n_keys.to_le_bytes(),
        ]
        .concat()
    };
    // The first of two entries: a key "k" and its type. The second key is empty, which is an error.
    let key = |ty: u32| {
        let start = header(0, 2);
        [&start[..], &1u64.to_le_bytes(), b"k", &ty.to_le_bytes()].concat()
    };
    let array = |element_type: u32, len: u64| {
        let start = key(9);
        [&start[..], &element_type.to_le_bytes(), &len.to_le_bytes()].concat()
    };
    // Nothing is wrong with any of these names, until the last one comes a second time.
    let names = |n: u64| (0..n - 1).chain([0]).map(|i| format!("{i:020}"));
    let long = |name: String| [&20u64.to_le_bytes()[..], name.as_bytes()].concat();
    let keys = names(1 << 16).flat_map(|name| [&long(name)[..], &[0; 5]].concat());
    let tensors = names(1 << 16).flat_map(|name| [&long(name)[..], &[0; 16]].concat());
    let giants = [
        (
            "as many keys as possible",
            header(0, 1 << 16).into_iter().chain(keys).collect(),
        ),
        (
            "as many tensors as possible",
            header(1 << 16, 0).into_iter().chain(tensors).collect(),
        ),
        ("zeros", vec![]),
        ("tensors", header(1 << 16, 0)),
        ("tensors over cap", header(1 << 24, 0)),
        ("keys", header(0, 1 << 16)),
        ("keys over cap", header(0, 1 << 24)),
        ("bytes", array(0, 1 << 29)),
        ("strings", array(8, 1 << 26)),
        ("arrays", array(9, 1 << 26)),
        ("largest vocabulary known", array(0, 16 << 20)),
        ("empty strings", array(8, 1 << 18)),
        ("arrays in an array", array(9, 1 << 16)),
        ("numbers", array(12, 1 << 26)),
        (
            "string",
            [&key(8)[..], &(1u64 << 29).to_le_bytes()].concat(),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, start) in giants {
        let path = folder.path().join(name.replace(' ', "_"));
        let mut file = File::create(&path).unwrap();
        file.write_all(&start).unwrap();
        file.set_len(1 << 30).unwrap();
        check(name, &path);
    }
}
