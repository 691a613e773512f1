//! Two real models against exact arithmetic, as the README of the golden sets defines it.

mod common;

use models::{ActBits, Cancel, Context, ContextOptions, Model, Row};
use pumice::{formats, models, quant};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Largest KL divergence to exact, as a multiple of llama.cpp's.
const MAX_KL_RATIO: f64 = 1.05;
/// KL divergence allowed with activations of 16 bits.
const MAX_KL_I16: f64 = 1e-4;
/// Points of top-1 agreement that may be missing against llama.cpp.
const TOP1_SLACK: f64 = 0.01;
/// Margin from which a forced greedy step must be right.
const MARGIN: f64 = 0.3;

fn isa() -> quant::Isa {
    match std::env::var("PUMICE_ISA") {
        Ok(name) => name.parse().unwrap(),
        Err(_) => quant::Isa::detect(),
    }
}

/// The portable kernels are some thirty times slower: they run on a part of one text, and are held
/// to llama.cpp's mean over all of it.
fn is_slow() -> bool {
    isa() == quant::Isa::Scalar
}

/// `PUMICE_TEST_PART`: a part of the texts is enough. For instruction sets that are forced beside
/// the best one.
fn is_part() -> bool {
    std::env::var_os("PUMICE_TEST_PART").is_some()
}

/// The model, unless it or the time for it is missing: portable kernels are held to the texts of
/// the smaller model alone.
fn open_fast(file: &str) -> Option<Arc<Model>> {
    if is_slow() {
        eprintln!("skipped: too much work for the portable kernels");
        return None;
    }
    open(file)
}

fn open(file: &str) -> Option<Arc<Model>> {
    let path = common::real_model(file)?;
    let gguf = formats::Gguf::open(&path, formats::Access::Mmap).unwrap();
    Some(Arc::new(Model::new(Arc::new(gguf)).unwrap()))
}

fn context(model: &Arc<Model>, n_ctx: usize, n_ubatch: usize, act: ActBits) -> Context {
    let options = ContextOptions {
        n_ctx: Some(n_ctx),
        n_ubatch,
        act,
        isa: isa(),
        // The tests themselves run side by side, and the number of threads changes no bit.
        n_threads: Some(1),
        ..ContextOptions::default()
    };
    Context::new(model.clone(), &options).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Runs `ids` from an empty cache; logits of the positions for which `wanted` holds.
fn logits(
    context: &mut Context,
    ids: &[u32],
    wanted: impl Fn(usize) -> bool,
    mut sink: impl FnMut(usize, &[f32]),
) {
    context.truncate(0, 0);
    let rows: Vec<Row> = ids
        .iter()
        .enumerate()
        .map(|(pos, &token)| Row { token, seq: 0, pos, logits: wanted(pos) })
        .collect();
    context.step(&rows, &Cancel::new(), &mut |row, logits| sink(row, logits)).unwrap();
}

/// log(sum(exp(x))) in double precision.
fn log_sum_exp(x: &[f32]) -> f64 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|&v| f64::from(v - max).exp()).sum();
    f64::from(max) + sum.ln()
}

fn argmax(x: &[f32]) -> u32 {
    let best = x.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.unwrap().0 as u32
}

/// KL divergence over the 32 most likely tokens and the rest together, and whether the first
/// choice is the same.
fn compare(exact: &Value, i: usize, logits: &[f32]) -> (f64, bool) {
    let top = ids(&exact["top_ids"][i]);
    let exact_logits = numbers(&exact["top_logits"][i]);
    let lse = exact["lse"][i].as_f64().unwrap();
    let ours = log_sum_exp(logits);
    let mut kl = 0.0;
    for (&id, &logit) in top.iter().zip(&exact_logits) {
        let log_p = logit - lse;
        kl += log_p.exp() * (log_p - (f64::from(logits[id as usize]) - ours));
    }
    let in_top: std::collections::HashSet<u32> = top.iter().copied().collect();
    let rest: f64 = (0u32..)
        .zip(logits)
        .filter(|(id, _)| !in_top.contains(id))
        .map(|(_, &v)| (f64::from(v) - ours).exp())
        .sum();
    let rest_logp = exact["rest_logp"][i].as_f64().unwrap();
    kl += rest_logp.exp() * (rest_logp - rest.ln());
    (kl, argmax(logits) == top[0])
}

/// Pooled KL and top-1 agreement of all texts of a model, ours and llama.cpp's best.
fn check_distance(file: &str, folder: &str, texts: &[&str]) {
    let (Some(model), Some(goldens)) = (open(file), common::goldens("models")) else { return };
    let (sizes, texts, n_tokens) = match (is_slow(), is_part()) {
        (true, _) => (&[512][..], &texts[..1], 96),
        (false, true) => (&[7, 512][..], &texts[..2], 1024),
        (false, false) => (&[1, 7, 512][..], texts, 1024),
    };
    let close = [(512, ActBits::I16)].into_iter().filter(|_| !is_slow());
    for (n_ubatch, act) in sizes.iter().map(|&n| (n, ActBits::I8)).chain(close) {
        let mut context = context(&model, 1024, n_ubatch, act);
        let (mut kl, mut same, mut n) = (0.0, 0.0, 0.0);
        let (mut their_kl, mut their_same) = ([0.0; 2], [0.0; 2]);
        for text in texts {
            let golden = json(&goldens.join(folder).join(format!("{text}.json")));
            let exact = &golden["exact"];
            let mut all = ids(&golden["ids"]);
            all.truncate(n_tokens);
            let mut positions = ids(&exact["pos"]);
            positions.retain(|&pos| (pos as usize) < n_tokens);
            let at = |pos: usize| positions.binary_search(&(pos as u32)).ok();
            logits(
                &mut context,
                &all,
                |pos| at(pos).is_some(),
                |pos, logits| {
                    let (one, top) = compare(exact, at(pos).unwrap(), logits);
                    kl += one;
                    same += f64::from(u8::from(top));
                },
            );
            let count = positions.len() as f64;
            n += count;
            for (i, how) in ["fa_off", "fa_on"].iter().enumerate() {
                let theirs = &golden["llamacpp"][how];
                their_kl[i] += theirs["kl_top32_mean"].as_f64().unwrap() * count;
                their_same[i] += theirs["top1_agree"].as_f64().unwrap() * count;
            }
        }
        let best_kl = their_kl[0].min(their_kl[1]) / n;
        let best_same = their_same[0].max(their_same[1]) / n;
        let (kl, same) = (kl / n, same / n);
        println!(
            "{folder} micro-batch {n_ubatch}, {act}: KL {kl:.3e} (llama.cpp {best_kl:.3e}, ratio {:.3}), \
             top-1 {same:.4} (llama.cpp {best_same:.4})",
            kl / best_kl
        );
        let most = if act == ActBits::I16 { MAX_KL_I16 } else { MAX_KL_RATIO * best_kl };
        assert!(kl <= most, "{act}: KL {kl:e} against {best_kl:e}");
        assert!(same >= best_same - TOP1_SLACK, "top-1 {same} against {best_same}");
    }
}

/// Greedy text, forced: no miss where the margin is clear.
fn check_greedy(file: &str, folder: &str) {
    let (Some(model), Some(goldens)) = (open_fast(file), common::goldens("models")) else { return };
    let golden = json(&goldens.join(folder).join("greedy.json"));
    let mut context = context(&model, 512, 512, ActBits::I8);
    let (mut checked, mut missed) = (0, Vec::new());
    for run in golden["runs"].as_array().unwrap() {
        let (prompt, steps) = (ids(&run["prompt_ids"]), ids(&run["ids"]));
        let margins = numbers(&run["margins"]);
        let all = [&prompt[..], &steps[..]].concat();
        let first = prompt.len() - 1;
        let wanted = |pos: usize| pos >= first && pos - first < steps.len();
        logits(&mut context, &all, wanted, |pos, logits| {
            let step = pos - first;
            if margins[step] >= MARGIN {
                checked += 1;
                if argmax(logits) != steps[step] {
                    missed.push((run["prompt"].to_string(), step, margins[step]));
                }
            }
        });
    }
    println!("{folder}: {} of {checked} greedy steps missed", missed.len());
    assert!(checked > 200 && missed.is_empty(), "{missed:?}");
}

/// Perplexity: no further from exact than llama.cpp, as far as that can be told.
fn check_perplexity(file: &str, folder: &str) {
    let (Some(model), Some(goldens)) = (open_fast(file), common::goldens("models")) else { return };
    let golden = json(&goldens.join(folder).join("ppl.json"));
    let all = ids(&golden["ids"]);
    let n_ctx = 512;
    let mut context = context(&model, n_ctx, 512, ActBits::I8);
    let mut ours = Vec::new();
    for chunk in all.chunks_exact(n_ctx) {
        let mut chunk = chunk.to_vec();
        if let Some(bos) = golden["bos"].as_u64() {
            chunk[0] = bos as u32;
        }
        let scored = n_ctx / 2..n_ctx - 1;
        let mut nll = 0.0;
        logits(
            &mut context,
            &chunk,
            |pos| scored.contains(&pos),
            |pos, logits| {
                nll += log_sum_exp(logits) - f64::from(logits[chunk[pos + 1] as usize]);
            },
        );
        ours.push(nll);
    }
    let chunks = |who: &str| numbers(&golden["chunk_nll"][who])[..ours.len()].to_vec();
    let (exact, theirs) = (chunks("exact"), chunks("llamacpp_fa_off"));
    let sum = |of: &[f64]| -> f64 { of.iter().sum() };
    // Rounding is noise: what one chunk loses by it another gains. So the two sums are compared as far as
    // the spread of their differences, chunk by chunk, lets them be told apart.
    let differences = ours.iter().zip(&theirs).map(|(a, b)| (a - b) * (a - b));
    let spread = differences.sum::<f64>().sqrt();
    let (nll, exact, theirs) = (sum(&ours), sum(&exact), sum(&theirs));
    println!("{folder}: nll {nll:.3}, exact {exact:.3}, llama.cpp {theirs:.3} (+-{spread:.3})");
    let (off, their_off) = ((nll - exact).abs(), (theirs - exact).abs());
    assert!(off <= their_off + 2.0 * spread, "{nll} {exact} {theirs}, spread {spread}");
    // Of few chunks the spread says little; this holds of any number.
    assert!(off < 2.5e-3 * exact, "{nll} {exact}");
}

#[test]
fn smollm2_is_as_close_to_exact_as_its_peer() {
    check_distance(common::SMOLLM2, "smollm2", &["prose", "code", "multi", "chat"]);
}

#[test]
fn gemma3_is_as_close_to_exact_as_its_peer() {
    if open_fast(common::GEMMA3).is_some() {
        check_distance(common::GEMMA3, "gemma3-270m", &["prose", "code", "multi", "qa"]);
    }
}

#[test]
fn smollm2_greedy_steps_are_right_where_they_are_clear() {
    check_greedy(common::SMOLLM2, "smollm2");
}

#[test]
fn gemma3_greedy_steps_are_right_where_they_are_clear() {
    check_greedy(common::GEMMA3, "gemma3-270m");
}

#[test]
fn smollm2_perplexity_is_as_close_to_exact_as_its_peer() {
    check_perplexity(common::SMOLLM2, "smollm2");
}

#[test]
fn gemma3_perplexity_is_as_close_to_exact_as_its_peer() {
    check_perplexity(common::GEMMA3, "gemma3-270m");
}

/// Logits of every position as bits.
fn bits(model: &Arc<Model>, ids: &[u32], threads: usize, ub: usize, strict: bool) -> Vec<u32> {
    let options = ContextOptions {
        n_ctx: Some(256),
        n_ubatch: ub,
        n_threads: Some(threads),
        steady: true,
        isa: isa(),
        deterministic: strict,
        ..ContextOptions::default()
    };
    let mut context = Context::new(model.clone(), &options).unwrap();
    let mut out = Vec::new();
    logits(&mut context, ids, |pos| pos % 9 == 0, |_, l| out.extend(l.iter().map(|v| v.to_bits())));
    out
}

fn check_bits(file: &str) {
    let Some(model) = open_fast(file) else { return };
    let ids: Vec<u32> = (0..80).map(|i| 300 + 37 * i).collect();
    for ub in [1, 16, 512] {
        let one = bits(&model, &ids, 1, ub, false);
        for threads in [2, 4] {
            assert!(one == bits(&model, &ids, threads, ub, false), "{threads} threads, -ub {ub}");
        }
    }
    let one = bits(&model, &ids, 2, 1, true);
    for ub in [3, 7, 16, 33, 512] {
        assert!(one == bits(&model, &ids, 2, ub, true), "deterministic, -ub {ub}");
    }
    // Steps of up to 16 rows agree without the flag as well.
    assert!(one == bits(&model, &ids, 2, 16, false), "-ub 16");
}

#[test]
fn smollm2_gives_the_same_bits_for_any_threads_and_micro_batch() {
    check_bits(common::SMOLLM2);
}

#[test]
fn gemma3_gives_the_same_bits_for_any_threads_and_micro_batch() {
    check_bits(common::GEMMA3);
}

/// The last row of sequence 0 when 15 others decode beside it, against the row alone.
fn check_beside(file: &str) {
    let Some(model) = open_fast(file) else { return };
    let run = |n_seq: usize| {
        let options = ContextOptions {
            n_ctx: Some(64),
            n_seq: 16,
            n_threads: Some(2),
            steady: true,
            isa: isa(),
            ..ContextOptions::default()
        };
        let mut context = Context::new(model.clone(), &options).unwrap();
        let mut out = Vec::new();
        for pos in 0..12 {
            let rows: Vec<Row> = (0..n_seq)
                .map(|seq| {
                    let token = 1000 + 17 * pos as u32 + 131 * seq as u32;
                    Row { token, seq, pos, logits: seq == 0 }
                })
                .collect();
            context
                .step(&rows, &Cancel::new(), &mut |_, l| {
                    out = l.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
                })
                .unwrap();
        }
        out
    };
    assert!(run(1) == run(16), "a row depends on its neighbours");
}

#[test]
fn smollm2_decodes_a_row_alike_alone_and_beside_15_others() {
    check_beside(common::SMOLLM2);
}

#[test]
fn gemma3_decodes_a_row_alike_alone_and_beside_15_others() {
    check_beside(common::GEMMA3);
}
