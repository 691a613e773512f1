//! Twenty thousand damaged copies of a small file: each is opened or refused, nothing else happens.

mod common;
mod machine;

use std::time::{Duration, Instant};

use formats::{Array, Endian, Gguf, Value};

const MUTATIONS: u64 = 20_000;
const TIME_MAX: Duration = Duration::from_secs(60);
#[cfg(target_os = "linux")]
const MEMORY_MAX_KIB: u64 = 64 << 10;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): the same
/// numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Lengths and counts that break naive arithmetic.
const NASTY: [u64; 12] = [
    0,
    1,
    7,
    255,
    1 << 16,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    (1 << 61) + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Damages `bytes` in one way.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(8) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next() as u8,
        3 => overwrite(bytes, at, &NASTY[random.below(NASTY.len())].to_le_bytes()),
        4 => overwrite(bytes, at, &(random.below(64) as u32).to_le_bytes()),
        5 => {
            // A splice: a piece from elsewhere, over or between what is here.
            let from = random.below(bytes.len());
            let piece = bytes[from..bytes.len().min(from + 1 + random.below(64))].to_vec();
            if random.below(2) == 0 {
                overwrite(bytes, at, &piece);
            } else {
                bytes.splice(at..at, piece);
            }
        }
        6 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(16)))),
        _ => bytes.truncate(at),
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (to, from) in bytes[at..].iter_mut().zip(with) {
        *to = *from;
    }
}

/// Touches everything that a file offers.
fn read_all(gguf: &Gguf) -> usize {
    let mut n_read = 0;
    for (key, value) in gguf.metadata().iter() {
        assert_eq!(
            gguf.metadata().get(key).map(Value::value_type),
            Some(value.value_type())
        );
        let _ = (gguf.metadata().u32_per(key, 3), gguf.metadata().f32(key));
        n_read += value.describe().len();
        if let Value::Array(Array::String(strings)) = value {
            n_read += strings.iter_bytes().map(<[u8]>::len).sum::<usize>();
        }
    }
    for tensor in gguf.tensors() {
        match gguf.data(tensor) {
            Ok(data) => assert_eq!(data.len() as u64, tensor.n_bytes),
            Err(error) => assert_eq!(gguf.endian(), Endian::Big, "{error}"),
        }
        n_read += tensor.n_bytes as usize;
    }
    n_read
}

#[test]
fn damaged_files_are_opened_or_refused() {
    let whole = [Endian::Little, Endian::Big].map(|e| common::sample().endian(e).to_bytes());
    let (mut random, start, slow) = (Random(7), Instant::now(), machine::is_slow());
    let (mut n_good, mut n_read) = (0, 0);
    for i in 0..MUTATIONS {
        let mut bytes = whole[usize::from(i % 8 == 0)].clone();
        for _ in 0..1 + random.below(3) {
            damage(&mut bytes, &mut random);
        }
        match Gguf::from_bytes(bytes) {
            Ok(gguf) => {
                n_good += 1;
                n_read += read_all(&gguf);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        assert!(start.elapsed() < TIME_MAX || slow, "hangs at mutation {i}");
    }
    println!(
        "{n_good} of {MUTATIONS} opened, {n_read} bytes, {:?}",
        start.elapsed()
    );
    // Were every copy refused, or none, the damage would not test much.
    assert!(
        n_good > MUTATIONS / 100 && n_good < MUTATIONS / 2,
        "{n_good} opened"
    );
    if !slow {
        check_memory();
    }
}

/// The peak memory of the whole test process is small: no count was believed.
#[cfg(target_os = "linux")]
fn check_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak_kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak {peak_kib} KiB");
    assert!(peak_kib < MEMORY_MAX_KIB, "{peak_kib} KiB");
}

#[cfg(not(target_os = "linux"))]
fn check_memory() {}
