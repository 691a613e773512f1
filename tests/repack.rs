//! Weights with rows side by side: the same answers as in place, the same bits in steps of any size.

use pumice::formats::TensorType;
use pumice::models::{ActBits, Cancel, Context, ContextOptions, Model, Row};
use pumice::quant::{Isa, packed_kernels};
use pumice::synth::{self, Shape};
use std::sync::Arc;

fn model(recipe: &str) -> Arc<Model> {
    let shape = Shape::find("tiny").unwrap();
    let gguf = synth::build(shape, recipe.parse().unwrap()).unwrap();
    Arc::new(Model::new(Arc::new(gguf)).unwrap())
}

fn context(model: &Arc<Model>, repack: bool, n_ubatch: usize, act: ActBits) -> Context {
    let n_threads = Some(2);
    let n_ctx = Some(64);
    let options = ContextOptions { n_ctx, n_ubatch, n_threads, repack, act, ..Default::default() };
    Context::new(model.clone(), &options).unwrap()
}

/// Logits of 40 tokens, one row after another.
fn logits(context: &mut Context) -> Vec<f32> {
    logits_of(context, 40, 0)
}

/// Logits of `n` tokens from position `first` on, one row after another.
fn logits_of(context: &mut Context, n: usize, first: usize) -> Vec<f32> {
    let token = |pos: usize| 3 + 11 * pos as u32 % 200;
    let row = |pos: usize| Row { token: token(pos), seq: 0, pos, logits: pos >= first };
    let rows: Vec<Row> = (0..n).map(row).collect();
    let mut all = Vec::new();
    context.step(&rows, &Cancel::new(), &mut |_, l| all.extend_from_slice(l)).unwrap();
    all
}

/// Squared error relative to the size of `b`.
fn nmse(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    error / b.iter().map(|&b| square(b)).sum::<f64>()
}

fn is_packed(context: &Context) -> bool {
    context.kernels().iter().any(|k| k.kernel.contains("packed"))
}

#[test]
fn packed_weights_answer_as_those_in_place() {
    for recipe in ["Q4_K_M", "Q4_0", "Q8_0"] {
        let model = model(recipe);
        let mut plain = context(&model, false, 512, ActBits::I16);
        let mut packed = context(&model, true, 512, ActBits::I16);
        assert!(!is_packed(&plain), "{recipe}");
        let isa = Isa::detect();
        let has = isa != Isa::Scalar && packed_kernels(TensorType::Q8_0, isa).unwrap().is_some();
        assert_eq!(is_packed(&packed), has, "{recipe}");
        let off = nmse(&logits(&mut packed), &logits(&mut plain));
        assert!(off < 1e-8, "{recipe}: {off:e}");
    }
}

#[test]
fn blocks_of_columns_have_the_bits_of_all_columns_at_once() {
    // So many rows that every one of several workers has a block of its own, and blocks that differ in
    // length.
    let n = 401;
    for (recipe, repack) in [("Q4_K_M", true), ("Q4_K_M", false), ("Q8_0", true), ("F16", false)] {
        let model = model(recipe);
        let run = |n_threads: usize| {
            let n_threads = Some(n_threads);
            let options =
                ContextOptions { n_ctx: Some(512), n_threads, repack, ..Default::default() };
            logits_of(&mut Context::new(model.clone(), &options).unwrap(), n, n - 5)
        };
        let alone = run(1);
        assert!(alone.iter().all(|x| x.is_finite()) && !alone.is_empty(), "{recipe}");
        for n_threads in [2, 3] {
            assert!(alone == run(n_threads), "{recipe}, packed {repack}, {n_threads} workers");
        }
    }
}

#[test]
fn packed_weights_give_the_same_bits_in_steps_of_any_size() {
    for recipe in ["Q4_K_M", "Q8_0"] {
        let model = model(recipe);
        let mut whole = context(&model, true, 512, ActBits::I8);
        if !is_packed(&whole) {
            println!("skipped: this instruction set has no packed kernels");
            return;
        }
        let expected = logits(&mut whole);
        for n_ubatch in [1, 3, 7, 16, 33] {
            let found = logits(&mut context(&model, true, n_ubatch, ActBits::I8));
            let same = found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{recipe}, -ub {n_ubatch}");
        }
    }
}

#[test]
fn contexts_of_a_model_share_the_packed_copy() {
    let model = model("Q4_0");
    let first = context(&model, true, 16, ActBits::I8);
    let Some((done, all)) = model.repacked() else { panic!("asked for") };
    assert_eq!(done, all, "all is there when a context is");
    let second = context(&model, true, 16, ActBits::I8);
    assert_eq!(model.repacked(), Some((done, all)), "nothing is packed again");
    drop((first, second));
}

#[test]
fn sixteen_bits_are_closer_than_eight() {
    let model = model("F32");
    let exact = logits(&mut context(&model, true, 512, ActBits::I8));
    let model = self::model("Q8_0");
    let eight = logits(&mut context(&model, true, 512, ActBits::I8));
    let sixteen = logits(&mut context(&model, true, 512, ActBits::I16));
    // What the weights lost stands between both and the floats; between each other stands the rounding.
    assert!(nmse(&eight, &sixteen) > 1e-7, "{:e}", nmse(&eight, &sixteen));
    assert!(nmse(&sixteen, &exact) <= nmse(&eight, &exact) * 1.01);
}
