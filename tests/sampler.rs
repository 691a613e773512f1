//! The sampler as a user of the library meets it: distributions, replay, order, and the errors.

use proptest::prelude::*;
use pumice::sample::{SampleError, Sampler, SamplerOptions, TokenBias, top_logprobs};

/// Options that change nothing: the model's own distribution.
fn plain() -> SamplerOptions {
    SamplerOptions::default()
        .samplers("".parse().unwrap())
        .seed(Some(11))
}

/// Logits of a made-up step: a few likely tokens and a long tail.
fn step(n_vocab: usize, salt: u64) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n_vocab)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
            let cube = unit * unit * unit;
            20.0 * cube * cube - 8.0 * unit
        })
        .collect()
}

/// The chi-square statistic of `counts` against `expected`.
fn chi_square(counts: &[f64], expected: &[f64]) -> f64 {
    counts
        .iter()
        .zip(expected)
        .map(|(o, e)| (o - e) * (o - e) / e)
        .sum()
}

#[test]
fn draws_follow_the_distribution() {
    let probabilities = [0.4, 0.25, 0.2, 0.1, 0.04, 0.01];
    let logits: Vec<f32> = probabilities
        .iter()
        .map(|p: &f64| p.ln() as f32 + 3.0)
        .collect();
    let n = 60_000;
    let mut sampler = Sampler::new(&plain(), 6).unwrap();
    let mut counts = [0.0; 6];
    for _ in 0..n {
        counts[sampler.sample(&logits).unwrap() as usize] += 1.0;
    }
    let expected = probabilities.map(|p| p * f64::from(n));
    let chi = chi_square(&counts, &expected);
    // Five degrees of freedom: 20.5 is exceeded by chance once in a thousand, and the seed is fixed.
    assert!(chi < 20.5, "chi-square {chi}: {counts:?}");
}

#[test]
fn temperature_and_top_k_shape_the_draws() {
    let probabilities = [0.5f64, 0.3, 0.15, 0.05];
    let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
    let options = plain()
        .samplers("top-k;temperature".parse().unwrap())
        .top_k(3)
        .temperature(2.0);
    let mut sampler = Sampler::new(&options, 4).unwrap();
    let n = 40_000;
    let mut counts = [0.0; 4];
    for _ in 0..n {
        counts[sampler.sample(&logits).unwrap() as usize] += 1.0;
    }
    assert_eq!(counts[3], 0.0, "cut off by top-k");
    let roots = [0.5f64.sqrt(), 0.3f64.sqrt(), 0.15f64.sqrt()];
    let sum: f64 = roots.iter().sum();
    let chi = chi_square(&counts[..3], &roots.map(|r| r / sum * f64::from(n)));
    assert!(chi < 13.8, "chi-square {chi}, two degrees of freedom");
}

#[test]
fn a_seed_gives_these_tokens_on_every_platform() {
    let options = SamplerOptions::default()
        .seed(Some(42))
        .temperature(1.5)
        .min_p(0.01);
    let mut sampler = Sampler::new(&options, 4096).unwrap();
    let tokens: Vec<u32> = (0..12)
        .map(|i| sampler.sample(&step(4096, i)).unwrap())
        .collect();
    assert_eq!(
        tokens,
        [
            2798, 3686, 920, 3705, 2922, 2300, 529, 2537, 2314, 3617, 1320, 1340
        ]
    );
}

#[test]
fn replay_reset_and_clone_go_on_alike() {
    let options = SamplerOptions::default()
        .seed(Some(3))
        .temperature(2.0)
        .repeat_penalty(1.3)
        .dry_multiplier(0.8)
        .dry_sequence_breakers(vec![])
        .xtc_probability(0.5)
        .xtc_threshold(0.02);
    let run = |sampler: &mut Sampler, from: u64| -> Vec<u32> {
        let mut next = |i| {
            let token = sampler.sample(&step(500, i)).unwrap();
            sampler.accept(token);
            token
        };
        (from..from + 40).map(&mut next).collect()
    };
    let mut sampler = Sampler::new(&options, 500).unwrap();
    let first = run(&mut sampler, 0);
    let mut branch = sampler.clone();
    let second = run(&mut sampler, 40);
    assert_eq!(
        run(&mut branch, 40),
        second,
        "a clone goes on as the original"
    );
    sampler.reset();
    assert_eq!(run(&mut sampler, 0), first, "a reset starts again");
    assert_eq!(
        run(&mut Sampler::new(&options, 500).unwrap(), 0),
        first,
        "a seed replays"
    );
    let other = run(&mut Sampler::new(&options.seed(Some(4)), 500).unwrap(), 0);
    assert_ne!(other, first, "another seed, another text");
}

#[test]
fn a_random_seed_can_be_asked_for_and_replays() {
    let options = SamplerOptions::default().temperature(3.0);
    let mut sampler = Sampler::new(&options, 300).unwrap();
    let draw = |s: &mut Sampler| {
        (0..20)
            .map(|i| s.sample(&step(300, i)).unwrap())
            .collect::<Vec<_>>()
    };
    let tokens = draw(&mut sampler);
    let mut again = Sampler::new(&options.seed(Some(sampler.seed())), 300).unwrap();
    assert_eq!(draw(&mut again), tokens);
    let seeds: std::collections::HashSet<u64> = (0..4)
        .map(|_| Sampler::new(&SamplerOptions::default(), 1).unwrap().seed())
        .collect();
    assert!(seeds.len() > 1, "random seeds differ");
}

#[test]
fn the_order_is_the_one_asked_for() {
    // Top-p before temperature sees the sharp distribution, after it the flat one.
    let logits: Vec<f32> = [0.8f32, 0.1, 0.06, 0.04].iter().map(|p| p.ln()).collect();
    let kept = |order: &str| {
        let options = plain()
            .samplers(order.parse().unwrap())
            .top_p(0.85)
            .temperature(100.0);
        let mut sampler = Sampler::new(&options, 4).unwrap();
        sampler.sample(&logits).unwrap();
        (
            sampler.candidates().len(),
            sampler.chain().collect::<Vec<_>>().join(";"),
        )
    };
    assert_eq!(
        kept("top-p;temperature"),
        (2, "top-p;temperature".to_owned())
    );
    assert_eq!(
        kept("temperature;top-p"),
        (4, "temperature;top-p".to_owned())
    );
    assert_eq!(
        kept("top-p"),
        (2, "top-p".to_owned()),
        "what the order leaves out does not run"
    );
}

#[test]
fn the_default_chain_is_the_documented_one() {
    let sampler = Sampler::new(&SamplerOptions::default(), 1000).unwrap();
    assert_eq!(
        sampler.chain().collect::<Vec<_>>(),
        ["top-k", "top-p", "min-p", "temperature"]
    );
    let mirostat = SamplerOptions::default().mirostat(2).repeat_penalty(1.1);
    let sampler = Sampler::new(&mirostat, 1000).unwrap();
    assert_eq!(
        sampler.chain().collect::<Vec<_>>(),
        ["penalties", "temperature", "mirostat"]
    );
}

#[test]
fn greedy_takes_the_best_whatever_the_seed() {
    let logits = step(3000, 5);
    let best = (0..3000)
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap() as u32;
    for seed in 0..20 {
        let mut sampler = Sampler::new(&SamplerOptions::greedy().seed(Some(seed)), 3000).unwrap();
        assert_eq!(sampler.sample(&logits).unwrap(), best);
    }
}

#[test]
fn logits_that_are_no_distribution_are_errors_that_name_the_token() {
    let mut sampler = Sampler::new(&SamplerOptions::default(), 200).unwrap();
    for (value, at) in [
        (f32::NAN, 0),
        (-f32::NAN, 199),
        (f32::INFINITY, 63),
        (f32::NAN, 192),
    ] {
        let mut logits = step(200, 1);
        logits[at] = value;
        let error = sampler.sample(&logits).unwrap_err();
        assert!(
            matches!(error, SampleError::NotFinite { token, .. } if token as usize == at),
            "{error}"
        );
    }
    let error = sampler.sample(&[f32::NEG_INFINITY; 200]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no token can be drawn: all logits are -inf after the model"
    );
    let error = sampler.sample(&[0.0; 199]).unwrap_err();
    assert_eq!(
        error,
        SampleError::Logits {
            found: 199,
            n_vocab: 200
        }
    );
    assert!(
        sampler.sample(&step(200, 1)).is_ok(),
        "an error leaves the sampler as it was"
    );
}

#[test]
fn bans_that_leave_nothing_are_named() {
    let ban = |token| TokenBias {
        token,
        bias: f32::NEG_INFINITY,
    };
    let options = SamplerOptions::default().logit_bias(vec![ban(0), ban(1)]);
    let error = Sampler::new(&options, 2)
        .unwrap()
        .sample(&[1.0, 2.0])
        .unwrap_err();
    assert_eq!(
        error,
        SampleError::NoCandidates {
            after: "logit-bias"
        }
    );
}

#[test]
fn padding_is_never_drawn_even_when_it_is_no_number() {
    let mut sampler = Sampler::new(&plain(), 3).unwrap();
    for _ in 0..100 {
        assert!(sampler.sample(&[0.0, 0.0, 0.0, 50.0, f32::NAN]).unwrap() < 3);
    }
}

#[test]
fn options_survive_json_and_refuse_unknown_fields() {
    let options = SamplerOptions::default()
        .seed(Some(u64::MAX))
        .samplers("min-p".parse().unwrap());
    let json = serde_json::to_string(&options).unwrap();
    assert_eq!(
        serde_json::from_str::<SamplerOptions>(&json).unwrap(),
        options
    );
    let partial: SamplerOptions = serde_json::from_str(r#"{"top_k": 3}"#).unwrap();
    assert_eq!(partial, SamplerOptions::default().top_k(3));
    assert!(serde_json::from_str::<SamplerOptions>(r#"{"topk": 3}"#).is_err());
}

#[test]
fn the_constructor_refuses_what_the_table_refuses() {
    let broken = [
        SamplerOptions::default().temperature(f32::NAN),
        SamplerOptions::default().temperature(f32::INFINITY),
        SamplerOptions::default().top_p(-0.1),
        SamplerOptions::default().min_p(1.1),
        SamplerOptions::default().typical_p(f32::NAN),
        SamplerOptions::default().xtc_probability(2.0),
        SamplerOptions::default().mirostat(3),
        SamplerOptions::default().mirostat_tau(0.0),
        SamplerOptions::default().repeat_last_n(-2),
        SamplerOptions::default().repeat_penalty(0.0),
        SamplerOptions::default().frequency_penalty(f32::INFINITY),
        SamplerOptions::default().dry_base(0.5),
        SamplerOptions::default().dry_allowed_length(0),
        SamplerOptions::default().dry_sequence_breakers(vec![String::new()]),
        SamplerOptions::default().dry_breaker_tokens(vec![vec![]]),
        SamplerOptions::default().logit_bias(vec![TokenBias {
            token: 0,
            bias: f32::NAN,
        }]),
    ];
    for options in broken {
        let error = Sampler::new(&options, 10).err().map(|e| e.to_string());
        assert!(
            error.as_ref().is_some_and(|e| e.contains("found ")),
            "{options:?}: {error:?}"
        );
    }
    assert!(Sampler::new(&SamplerOptions::default(), 0).is_err());
}

/// Any legal options whose samplers are all on.
fn any_options() -> impl Strategy<Value = SamplerOptions> {
    let shape = (
        0.0f32..3.0,
        1u32..200,
        0.0f32..1.0,
        0.0f32..1.0,
        0.0f32..1.0,
    );
    let edits = (
        0.0f32..1.0,
        0.0f32..1.0,
        0.1f32..3.0,
        -2.0f32..2.0,
        0.0f32..3.0,
    );
    let known = [
        "penalties",
        "dry",
        "top-k",
        "typical",
        "top-p",
        "min-p",
        "xtc",
        "temperature",
    ];
    let order = Just(known.to_vec())
        .prop_shuffle()
        .prop_map(|names| names.join(";").parse().unwrap());
    (shape, edits, order, prop::bool::ANY, any::<u64>()).prop_map(
        |(shape, edits, order, mirostat, seed)| {
            let (t, k, p, min_p, typical) = shape;
            let (chance, threshold, repeat, presence, range) = edits;
            SamplerOptions::default()
                .samplers(order)
                .seed(Some(seed))
                .temperature(t)
                .dynatemp_range(range)
                .top_k(k)
                .top_p(p)
                .min_p(min_p)
                .typical_p(typical)
                .xtc_probability(chance)
                .xtc_threshold(threshold)
                .repeat_penalty(repeat)
                .presence_penalty(presence)
                .dry_multiplier(0.5)
                .dry_sequence_breakers(vec![])
                .mirostat(if mirostat { 2 } else { 0 })
        },
    )
}

/// Logits with what a model and a grammar may give: large values, ties, and `-inf`.
fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        4 => -20.0f32..20.0,
        1 => Just(3.0f32),
        1 => Just(f32::NEG_INFINITY),
        1 => prop::num::f32::NORMAL,
    ];
    prop::collection::vec(logit, 1..400)
}

proptest! {
    #[test]
    fn any_chain_draws_a_token_that_can_be_drawn(options in any_options(), mut logits in any_logits()) {
        logits.push(0.0);
        let mut sampler = Sampler::new(&options, logits.len()).unwrap();
        for _ in 0..4 {
            let token = sampler.sample(&logits).unwrap();
            prop_assert!(logits[token as usize] > f32::NEG_INFINITY);
            let kept = sampler.candidates();
            prop_assert!(kept.iter().any(|c| c.token == token));
            let sum: f32 = kept.iter().map(|c| c.p).sum();
            prop_assert!((sum - 1.0).abs() < 1e-4, "probabilities add up to {}", sum);
            sampler.accept(token);
        }
    }

    #[test]
    fn top_k_keeps_what_a_full_sort_keeps(logits in any_logits(), k in 1u32..300) {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        order.retain(|&t| logits[t as usize] > f32::NEG_INFINITY);
        order.truncate(k as usize);
        prop_assume!(!order.is_empty());
        let options = plain().samplers("top-k".parse().unwrap()).top_k(k);
        let mut sampler = Sampler::new(&options, logits.len()).unwrap();
        sampler.sample(&logits).unwrap();
        let mut kept: Vec<u32> = sampler.candidates().iter().map(|c| c.token).collect();
        if (k as usize) >= logits.len() {
            kept.sort_by_key(|t| order.iter().position(|o| o == t));
        }
        prop_assert_eq!(&kept, &order);
        let top: Vec<u32> = top_logprobs(&logits, k as usize).unwrap().iter().map(|t| t.token).collect();
        prop_assert_eq!(&top, &order);
    }

    #[test]
    fn an_edit_of_the_whole_vocabulary_equals_one_of_the_list(
        logits in any_logits(), text in prop::collection::vec(0u32..400, 0..80),
    ) {
        prop_assume!(logits.iter().any(|x| *x > f32::NEG_INFINITY));
        let run = |order: &str| {
            let options = plain().samplers(order.parse().unwrap()).top_k(399).presence_penalty(0.5)
                .repeat_penalty(1.2).frequency_penalty(0.1);
            let mut sampler = Sampler::new(&options, logits.len().max(400)).unwrap();
            let mut padded = logits.clone();
            padded.resize(logits.len().max(400), f32::NEG_INFINITY);
            text.iter().for_each(|&t| sampler.accept(t));
            sampler.sample(&padded).unwrap();
            let mut kept: Vec<_> = sampler.candidates().iter().map(|c| (c.token, c.logit)).collect();
            kept.sort_by_key(|k| k.0);
            kept
        };
        prop_assert_eq!(run("penalties"), run("top-k;penalties"));
    }
}
