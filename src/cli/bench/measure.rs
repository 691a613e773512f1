//! Running the tests of one configuration.

use anyhow::Context as _;
use models::device::cpu_time;
use models::profile::Profile;
use models::{Cancel, ContextOptions};
use pumice::Model;
use pumice::engine::Engine;
use std::time::{Duration, Instant};

/// One test: a prompt, or tokens one by one, on top of a context that is already filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// Tokens run as one prompt.
    pub(super) n_prompt: usize,
    /// Tokens run one by one.
    pub(super) n_gen: usize,
    /// Tokens that the context holds before.
    pub(super) n_depth: usize,
}

impl Test {
    /// Tokens that are timed.
    pub(super) fn n_tokens(self) -> usize {
        self.n_prompt + self.n_gen
    }

    /// What llama-bench calls it.
    pub(super) fn name(self) -> String {
        let what = match (self.n_prompt, self.n_gen) {
            (p, 0) => format!("pp{p}"),
            (0, g) => format!("tg{g}"),
            (p, g) => format!("pp{p}+tg{g}"),
        };
        if self.n_depth == 0 { what } else { format!("{what} @ d{}", self.n_depth) }
    }
}

/// Measurements of one test.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    /// Wall time of each repetition.
    pub(super) times: Vec<Duration>,
    /// Shortest wall time of a single generated token.
    pub(super) best_token: Option<Duration>,
    /// Processor time of all repetitions.
    pub(super) cpu: Option<Duration>,
    /// Energy of all repetitions in joules.
    pub(super) joules: Option<f64>,
    /// Bytes that a decode row reads, halfway through the test.
    pub(super) bytes_per_token: u64,
    /// Operations in the matrices of the layers for one row.
    pub(super) operations_per_token: u64,
    /// Where the time of one more repetition went, if asked for.
    pub(super) profile: Option<Profile>,
}

/// Runs `tests` in turn, `repetitions` times, after one unmeasured round; in turn, so that a
/// disturbance of the machine hits all of them alike.
///
/// # Errors
/// A context that cannot be made, or a failed step.
pub(super) fn run(
    model: &Model,
    options: &ContextOptions,
    n_batch: usize,
    tests: &[Test],
    (repetitions, profiled): (usize, bool),
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Vec<Samples>> {
    let longest = tests.iter().map(|t| t.n_depth + t.n_tokens()).max().unwrap_or(1);
    let options = ContextOptions { n_ctx: Some(longest), ..options.clone() };
    let mut engine =
        Engine::new(model.core(), &options, n_batch).context("cannot run the model")?;
    let mut all = vec![Samples::default(); tests.len()];
    for round in 0..=repetitions {
        for (test, samples) in tests.iter().zip(&mut all) {
            let which =
                if round == 0 { "warm-up".into() } else { format!("{round}/{repetitions}") };
            progress(&format!("{} {which}", test.name()));
            one(&mut engine, *test, (round > 0).then_some(samples), false)?;
        }
    }
    if profiled {
        // A repetition of its own: taking the time of every phase takes some, too.
        for (test, samples) in tests.iter().zip(&mut all) {
            progress(&format!("{} profile", test.name()));
            let profile = one(&mut engine, *test, Some(&mut Samples::default()), true)?;
            samples.profile = Some(profile);
        }
    }
    for (test, samples) in tests.iter().zip(&mut all) {
        let middle = test.n_depth + test.n_gen / 2;
        samples.bytes_per_token = engine.context().decode_bytes(middle);
        samples.operations_per_token = engine.context().row_operations();
    }
    Ok(all)
}

/// One repetition; a warm-up generates a single token. Returns where its time went, which is nowhere
/// unless it is `profiled`.
fn one(
    engine: &mut Engine,
    test: Test,
    samples: Option<&mut Samples>,
    profiled: bool,
) -> anyhow::Result<Profile> {
    let n_vocab = engine.context().n_vocab();
    let ids: Vec<u32> = random_ids(n_vocab).take(test.n_depth + test.n_tokens()).collect();
    let (depth, timed) = ids.split_at(test.n_depth);
    let (prompt, generated) = timed.split_at(test.n_prompt);
    let cancel = Cancel::new();
    if engine.sequence(0).held() != depth && engine.truncate(0, depth.len()) < depth.len()
        || engine.sequence(0).held() != depth
    {
        engine.truncate(0, 0);
        engine.push(0, depth, 0)?;
        engine.run(&cancel, &mut |_, _, _| {})?;
    }
    engine.set_profiled(profiled);
    let cpu = cpu_time();
    let energy = Energy::now();
    let start = Instant::now();
    let mut best = Duration::MAX;
    if !prompt.is_empty() {
        engine.push(0, prompt, 1)?;
        engine.run(&cancel, &mut |_, _, _| {})?;
    }
    let n_gen = if samples.is_some() { generated.len() } else { generated.len().min(1) };
    for id in &generated[..n_gen] {
        let token = Instant::now();
        engine.push(0, &[*id], 1)?;
        engine.run(&cancel, &mut |_, _, _| {})?;
        best = best.min(token.elapsed());
    }
    let profile = engine.context().profile();
    engine.set_profiled(false);
    let Some(samples) = samples else { return Ok(profile) };
    samples.times.push(start.elapsed());
    if n_gen > 0 {
        samples.best_token = Some(samples.best_token.map_or(best, |b| b.min(best)));
    }
    let spent = cpu_time().zip(cpu).map(|(now, then)| now.saturating_sub(then));
    samples.cpu = spent.map(|s| s + samples.cpu.unwrap_or_default());
    let joules = Energy::now().zip(energy).and_then(|(now, then)| now.since(then));
    samples.joules = joules.map(|j| j + samples.joules.unwrap_or_default());
    Ok(profile)
}

/// Ids that are the same in every run and spread over the vocabulary.
fn random_ids(n_vocab: usize) -> impl Iterator<Item = u32> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % n_vocab as u64) as u32
    })
}

/// The processor's energy counter in microjoules, where the system has one and lets us read it.
#[derive(Clone, Copy)]
struct Energy(u64);

impl Energy {
    fn now() -> Option<Energy> {
        let text = std::fs::read_to_string("/sys/class/powercap/intel-rapl:0/energy_uj").ok()?;
        text.trim().parse().ok().map(Energy)
    }

    /// Joules since an earlier reading; `None` when the counter has started anew.
    fn since(self, then: Energy) -> Option<f64> {
        self.0.checked_sub(then.0).map(|micro| micro as f64 * 1e-6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_as_people_know_them() {
        let name = |n_prompt, n_gen, n_depth| Test { n_prompt, n_gen, n_depth }.name();
        assert_eq!(name(512, 0, 0), "pp512");
        assert_eq!(name(0, 128, 8192), "tg128 @ d8192");
        assert_eq!(name(16, 4, 0), "pp16+tg4");
    }

    #[test]
    fn ids_are_below_the_vocabulary_and_repeat() {
        let ids: Vec<u32> = random_ids(100).take(1000).collect();
        assert!(ids.iter().all(|&id| id < 100) && ids.iter().any(|&id| id > 90));
        assert!(ids.iter().copied().eq(random_ids(100).take(1000)));
    }
}
