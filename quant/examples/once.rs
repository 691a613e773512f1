//! One call of a kernel, for a tool that counts instructions.
//!
//! `once rows|packed|panel TYPE ISA [TIMES]` multiplies 64 rows of 2048 weights with 1 column (`rows`, and
//! `packed` for rows side by side) or 64 (`panel`) and prints how many groups of 32 weights times columns
//! that was. Only what happens in `measured` is to be counted, or the difference between two numbers of
//! times; `.ci/instructions` does both.

use formats::TensorType;
use pumice_quant::{
    Isa, Kernels, Out, Regime, is_packable, kernels, pack, packed_kernels, random_blocks,
};

const K: usize = 2048;
const ROWS: usize = 64;

#[inline(never)]
fn measured(
    kernels: &Kernels,
    regime: Regime,
    (w, acts, n_cols): (&[u8], &[u8], usize),
    y: &mut [f32],
    scratch: &mut [u8],
) {
    let mut out = Out::new(y, n_cols, ROWS, ROWS);
    match regime {
        Regime::Rows => kernels.rows(w, K, ROWS, acts, n_cols, &mut out),
        Regime::Panel => kernels.panel(w, K, ROWS, acts, n_cols, &mut out, scratch),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (driver, ty, isa, times) = match &args[..] {
        [driver, ty, isa] => (driver, ty, isa, 1),
        [driver, ty, isa, times] => (driver, ty, isa, times.parse().expect("a number of times")),
        _ => {
            eprintln!("usage: once rows|packed|panel TYPE ISA [TIMES]");
            std::process::exit(2);
        }
    };
    let (regime, n_cols) = match driver.as_str() {
        "rows" | "packed" => (Regime::Rows, 1),
        "panel" => (Regime::Panel, 64),
        other => panic!("{other:?}: expected rows, packed or panel"),
    };
    let ty = TensorType::ALL.iter().copied().find(|t| t.name() == ty).expect("a tensor type");
    let isa: Isa = isa.parse().expect("an instruction set");
    let mut kernels = kernels(ty, isa).expect("kernels on this machine");
    let mut w = vec![0; ROWS * ty.row_bytes(K).expect("whole blocks")];
    random_blocks(ty, 1, &mut w).expect("a type that can be made up");
    if driver == "packed" {
        if !is_packable(ty) {
            return println!("0");
        }
        let src = w.clone();
        pack(ty, &src, K, &mut w).expect("a type that can be packed");
        kernels = packed_kernels(ty, isa).expect("this machine has it").expect("packed kernels");
    }
    let bytes = kernels.act().bytes(K);
    let mut acts = vec![0; n_cols * bytes];
    for (c, dst) in acts.chunks_exact_mut(bytes).enumerate() {
        let x: Vec<f32> = (0..K).map(|i| ((i * 37 + c * 11) % 101) as f32 - 50.0).collect();
        kernels.prepare(&x, dst, regime);
    }
    let mut y = vec![0.0; n_cols * ROWS];
    let mut scratch = vec![0; kernels.panel_scratch(n_cols)];
    for _ in 0..times {
        measured(kernels, regime, (&w, &acts, n_cols), &mut y, &mut scratch);
    }
    assert!(y.iter().all(|v| v.is_finite()), "{ty}: a result that is not finite");
    println!("{}", ROWS * K / 32 * n_cols);
}
