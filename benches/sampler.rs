//! What a token costs in the sampler, at the vocabulary sizes of the models that people run.
//!
//! `cargo bench --bench sampler`. A decode step of a small model takes some milliseconds; the chain's aim is
//! 60 us at 150,000 tokens on one thread.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pumice::sample::{Sampler, SamplerOptions, top_logprobs};
use std::hint::black_box;

/// Logits spread like a model's: a bell with a few far ahead.
fn logits(n_vocab: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut unit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n_vocab)
        .map(|_| 2.5 * ((0..8).map(|_| unit()).sum::<f32>() - 4.0))
        .collect()
}

fn chains() -> Vec<(&'static str, SamplerOptions)> {
    let default = SamplerOptions::default().seed(Some(1));
    let penalties = default.clone().repeat_penalty(1.1).presence_penalty(0.1);
    let dry = default
        .clone()
        .dry_multiplier(0.8)
        .dry_sequence_breakers(vec![]);
    vec![
        ("default", default.clone()),
        (
            "greedy",
            SamplerOptions::greedy().samplers("temperature".parse().expect("a known name")),
        ),
        ("penalties", penalties),
        ("dry, 4096 tokens", dry),
        ("top-p alone", default.clone().top_k(0).min_p(0.0)),
        ("min-p alone", default.clone().top_k(0).top_p(1.0)),
        (
            "typical alone",
            default
                .clone()
                .top_k(0)
                .top_p(1.0)
                .min_p(0.0)
                .typical_p(0.95),
        ),
        ("mirostat", default.clone().mirostat(2)),
        (
            "no sampler",
            default.samplers("".parse().expect("the empty order")),
        ),
    ]
}

fn sampler(c: &mut Criterion) {
    let mut group = c.benchmark_group("sample");
    for n_vocab in [49_152, 151_936, 262_144] {
        let logits = logits(n_vocab);
        for (name, options) in chains() {
            let mut sampler = Sampler::new(&options, n_vocab).expect("legal options");
            (0..4096).for_each(|i| sampler.accept(i * 31 % 977));
            group.bench_function(BenchmarkId::new(name, n_vocab), |b| {
                b.iter(|| sampler.sample(black_box(&logits)).expect("finite logits"));
            });
        }
        group.bench_function(BenchmarkId::new("top_logprobs 5", n_vocab), |b| {
            b.iter(|| top_logprobs(black_box(&logits), 5).expect("finite logits"));
        });
    }
    group.finish();
}

criterion_group!(benches, sampler);
criterion_main!(benches);
