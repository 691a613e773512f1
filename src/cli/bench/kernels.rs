//! `bench --kernels`: the kernels alone, one thread, beside what the machine can do.
//!
//! Bursts of about half a millisecond, in turn with the limit's own loop, and the best of each: on a
//! machine with other load, means say nothing.

use super::report::{self, Format};
use crate::cli::out;
use anyhow::{Context as _, bail};
use formats::TensorType;
use quant::{
    Isa, Kernels, Out, PACK_ROWS, Regime, SUPPORTED, kernels, limits, pack, packed_kernels,
    random_blocks,
};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Weights that are walked through, so that none are in a cache when they come by again.
const POOL: usize = 192 << 20;
/// Bytes of weights per burst that come from memory.
const BURST: usize = 3 << 20;
/// Bytes of weights that stay in the second-level cache.
const CACHED: usize = 300 << 10;
/// How long one figure is measured.
const PATIENCE: Duration = Duration::from_millis(80);
/// Rounds of the register-only loop in a burst.
const ROUNDS: usize = 4_000;
/// Bytes that are made up; the rest of the pool repeats them.
const MADE_UP: usize = 1 << 20;

/// What a kernel is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    regime: Regime,
    k: usize,
    n_cols: usize,
    /// Whether the weights stay in a cache.
    cached: bool,
}

const SHAPES: &[Shape] = &[
    Shape { regime: Regime::Rows, k: 2048, n_cols: 1, cached: false },
    Shape { regime: Regime::Rows, k: 2048, n_cols: 1, cached: true },
    Shape { regime: Regime::Rows, k: 2048, n_cols: 4, cached: false },
    Shape { regime: Regime::Panel, k: 2048, n_cols: 512, cached: false },
    Shape { regime: Regime::Panel, k: 8192, n_cols: 128, cached: false },
];

impl Shape {
    fn name(self) -> String {
        let driver = if self.regime == Regime::Rows { "rows" } else { "panel" };
        let from = match (self.regime, self.cached) {
            (Regime::Panel, _) => "",
            (_, true) => " from cache",
            (_, false) => " from memory",
        };
        format!("{driver} {} x {}{from}", self.k, self.n_cols)
    }
}

/// One kernel on one shape.
struct Figure {
    ty: TensorType,
    isa: Isa,
    id: &'static str,
    shape: Shape,
    /// Whether the table picks this instruction set on this machine.
    picked: bool,
    /// Clock cycles for 32 weights times one column.
    cycles: f64,
    /// Bytes of weights a second.
    bytes: f64,
    /// Operations a second.
    operations: f64,
    /// Part of the limit from the same bursts: of the read speed for rows from memory, of the int8
    /// peak for panels. `None` where there is no such limit.
    part: Option<f64>,
}

/// Measures kernels of `types` (all when empty) on `isa`, or on every row of the table that this
/// machine runs.
///
/// # Errors
/// A name that is no type with kernels.
pub(super) fn run(types: &[String], isa: Option<Isa>, form: Format) -> anyhow::Result<ExitCode> {
    let types = chosen(types)?;
    let rows = match isa {
        Some(isa) => vec![isa.check()?],
        None => Isa::available().into_iter().rev().collect(),
    };
    let mut figures = Vec::new();
    for ty in types {
        for &isa in &rows {
            let plain = kernels(ty, isa)?;
            for kern in [plain].into_iter().chain(packed_kernels(ty, isa)?) {
                for shapes in SHAPES.chunk_by(|a, b| a.k == b.k) {
                    let pool = pool(kern, shapes[0].k)?;
                    for &shape in shapes {
                        figures.extend(figure(&pool, kern, shape)?);
                    }
                }
            }
        }
    }
    let text = match form {
        Format::Json => format!("{:#}\n", Value::Array(figures.iter().map(json).collect())),
        Format::Csv => csv(&figures),
        Format::Md => report::table(&HEAD, &figures.iter().map(cells).collect::<Vec<_>>()),
    };
    out::write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<TensorType>> {
    let find = |name: &String| {
        let found = SUPPORTED.iter().find(|ty| ty.name().eq_ignore_ascii_case(name));
        found.copied().with_context(|| {
            let known: Vec<&str> = SUPPORTED.iter().map(|ty| ty.name()).collect();
            format!("--kernels {name}: expected types out of {}", known.join(" "))
        })
    };
    match names {
        [] => Ok(SUPPORTED.to_vec()),
        names => names.iter().map(find).collect(),
    }
}

/// Rows of `k` weights as the kernels read them, many times what caches hold.
fn pool(kern: &Kernels, k: usize) -> anyhow::Result<Vec<u8>> {
    let ty = kern.tensor_type();
    let group = PACK_ROWS * ty.row_bytes(k).context("whole blocks")?;
    let mut one = vec![0; MADE_UP.next_multiple_of(group)];
    random_blocks(ty, 1, &mut one)?;
    if kern.is_packed() {
        let rows = one.clone();
        pack(ty, &rows, k, &mut one)?;
    }
    Ok(one.iter().copied().cycle().take(POOL / group * group).collect())
}

/// Prepared columns on a cache line boundary, as the engine has them.
struct Columns {
    buffer: Vec<u8>,
    start: usize,
}

impl Columns {
    fn new(kernels: &Kernels, shape: Shape) -> Columns {
        let bytes = kernels.act().bytes(shape.k);
        let mut buffer = vec![0u8; shape.n_cols * bytes + 64];
        let start = buffer.as_ptr().align_offset(64).min(64);
        buffer.truncate(start + shape.n_cols * bytes);
        for (c, column) in buffer[start..].chunks_exact_mut(bytes).enumerate() {
            let value = |i| ((i * 37 + c * 11) % 101) as f32 - 50.0;
            let x: Vec<f32> = (0..shape.k).map(value).collect();
            kernels.prepare(&x, column, shape.regime);
        }
        Columns { buffer, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Measures one kernel; `None` for a driver that the type does not have.
fn figure(pool: &[u8], kern: &Kernels, shape: Shape) -> anyhow::Result<Option<Figure>> {
    let (ty, isa) = (kern.tensor_type(), kern.isa());
    let Shape { k, n_cols, .. } = shape;
    let row = ty.row_bytes(k).context("whole blocks")?;
    let panel = shape.regime == Regime::Panel;
    // Floats have one driver.
    if panel && kern.panel_scratch(n_cols) == 0 {
        return Ok(None);
    }
    let n_rows = match (panel, shape.cached) {
        (true, _) => kern.panel_rows(),
        (false, true) => (CACHED / row).next_multiple_of(PACK_ROWS),
        (false, false) => (BURST / row).next_multiple_of(PACK_ROWS),
    };
    let bytes = n_rows * row;
    if bytes > pool.len() {
        bail!("{ty}: a burst of {bytes} bytes, expected at most {}", pool.len());
    }
    let windows = if shape.cached { 1 } else { pool.len() / bytes };
    let columns = Columns::new(kern, shape);
    let mut y = vec![0f32; n_rows * n_cols];
    let mut scratch = vec![0u8; kern.panel_scratch(n_cols)];
    let (mut time, mut limit, mut cycle) = (f64::MAX, f64::MAX, f64::MAX);
    let start = Instant::now();
    let mut i = 0;
    while i < 3 || start.elapsed() < PATIENCE {
        let w = &pool[i * 5 % windows * bytes..][..bytes];
        let mut out = Out::new(&mut y, n_cols, n_rows, n_rows);
        time = time.min(seconds(|| match panel {
            false => kern.rows(w, k, n_rows, columns.bytes(), n_cols, &mut out),
            true => kern.panel(w, k, n_rows, columns.bytes(), n_cols, &mut out, &mut scratch),
        }));
        let w = &pool[(i * 5 + 2) % windows * bytes..][..bytes];
        limit = limit.min(seconds(|| match panel {
            false => _ = std::hint::black_box(limits::read(w, 8 << 10)),
            true => _ = std::hint::black_box(limits::int8_peak(isa, ROUNDS)),
        }));
        cycle = cycle.min(seconds(|| {
            std::hint::black_box(chain(CHAIN));
        }));
        i += 1;
    }
    let operations = (2 * n_rows * k * n_cols) as f64 / time;
    let peak = limits::int8_operations(isa, ROUNDS) as f64 / limit;
    let part = match (panel, shape.cached) {
        (true, _) if peak > 0.0 => Some(operations / peak),
        (false, false) => Some(limit / time),
        _ => None,
    };
    let groups = (n_rows * k * n_cols) as f64 / 32.0;
    Ok(Some(Figure {
        ty,
        isa,
        id: kern.id(),
        shape,
        picked: picked(kern)?,
        cycles: time / (cycle / CHAIN as f64) / groups,
        bytes: bytes as f64 / time,
        operations,
        part,
    }))
}

/// Whether the engine takes these kernels on this machine: the best instruction set's, and of those the ones
/// for packed rows where there are any.
fn picked(kern: &Kernels) -> anyhow::Result<bool> {
    let best = Isa::detect();
    let packed = packed_kernels(kern.tensor_type(), best)?;
    Ok(kern.isa() == best && kern.is_packed() == packed.is_some())
}

/// Cycles of a [`chain`].
const CHAIN: usize = 6 * 4_000;

/// Takes `cycles` cycles of the clock: operations of one cycle each (shift and exclusive-or on
/// x86-64; where one instruction does both the figures of cycles are too small by up to a half),
/// every one of which needs the one before.
fn chain(cycles: usize) -> u64 {
    let mut x = std::hint::black_box(88_172_645_463_325_252u64);
    for _ in 0..cycles / 6 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

const HEAD: [&str; 7] = ["kernel", "picked", "shape", "cycles/32", "GB/s", "GOP/s", "of limit"];

fn cells(f: &Figure) -> Vec<String> {
    vec![
        f.id.into(),
        if f.picked { "yes" } else { "" }.into(),
        f.shape.name(),
        format!("{:.2}", f.cycles),
        format!("{:.2}", f.bytes * 1e-9),
        format!("{:.0}", f.operations * 1e-9),
        f.part.map_or("-".into(), |p| format!("{:.0} %", 100.0 * p)),
    ]
}

fn json(f: &Figure) -> Value {
    json!({
        "kernel": f.id,
        "type": f.ty.name(),
        "isa": f.isa.name(),
        "picked": f.picked,
        "driver": if f.shape.regime == Regime::Rows { "rows" } else { "panel" },
        "k": f.shape.k,
        "n_cols": f.shape.n_cols,
        "cached": f.shape.cached,
        "cycles_per_32": f.cycles,
        "bytes_per_second": f.bytes,
        "operations_per_second": f.operations,
        "limit_percent": f.part.map(|p| 100.0 * p),
    })
}

fn csv(figures: &[Figure]) -> String {
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let head = line(HEAD.iter().map(|h| (*h).to_owned()).collect());
    figures.iter().fold(head, |text, f| text + &line(cells(f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap(), SUPPORTED);
        let some = chosen(&["q4_k".into(), "Q8_0".into()]).unwrap();
        assert_eq!(some.iter().map(|ty| ty.name()).collect::<Vec<_>>(), ["Q4_K", "Q8_0"]);
        let e = chosen(&["q9".into()]).unwrap_err().to_string();
        assert!(e.starts_with("--kernels q9: expected types out of ") && e.contains("Q4_K"), "{e}");
    }

    #[test]
    fn every_driver_of_a_type_gives_a_figure() {
        let kern = kernels(TensorType::Q8_0, Isa::Scalar).unwrap();
        for &shape in SHAPES {
            let f = figure(&pool(kern, shape.k).unwrap(), kern, shape).unwrap().unwrap();
            assert!(f.cycles > 0.0 && f.bytes > 0.0 && f.operations > 0.0, "{}", shape.name());
            let limited = shape.regime == Regime::Rows && !shape.cached;
            assert_eq!(f.part.is_some(), limited, "the scalar row has no int8 peak");
        }
        // Floats have one driver.
        let panel = SHAPES.iter().find(|s| s.regime == Regime::Panel).unwrap();
        let kern = kernels(TensorType::F16, Isa::Scalar).unwrap();
        assert!(figure(&pool(kern, panel.k).unwrap(), kern, *panel).unwrap().is_none());
    }

    #[test]
    fn one_set_of_kernels_of_a_type_is_picked() {
        for &ty in SUPPORTED {
            let of = |isa| [Some(kernels(ty, isa).unwrap()), packed_kernels(ty, isa).unwrap()];
            let all = Isa::available().into_iter().flat_map(of).flatten();
            assert_eq!(all.filter(|k| picked(k).unwrap()).count(), 1, "{ty}");
        }
    }
}
