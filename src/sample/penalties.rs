//! Penalties on tokens of the last `repeat_last_n`: repetition (N. S. Keskar et al., "CTRL: A Conditional
//! Transformer Language Model for Controllable Generation", 2019; a negative logit is multiplied instead of
//! divided, so that the penalty never helps), presence and frequency (as the OpenAI API defines them).

use super::options::{Window, number};
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage};
use std::collections::{HashMap, VecDeque};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "penalties",
    aliases: &[],
    doc: "Lowers the logits of tokens that stand in the last part of the text.",
    source: "Keskar et al. 2019, arXiv:1909.05858; OpenAI API reference",
    place: Place::Ordered,
    flags: &[
        number!(
            repeat_last_n,
            "repeat-last-n",
            "a whole number from -1",
            |n: i32| n >= -1,
            "How many of the last tokens the penalties look at; 0 = off, -1 = all"
        ),
        number!(
            repeat_penalty,
            "repeat-penalty",
            "a number above 0, at most 1000",
            |r: f32| r > 0.0 && r <= 1000.0,
            "Divide the logits of repeated tokens; 1 = off"
        ),
        number!(
            presence_penalty,
            "presence-penalty",
            "a number from -1000 to 1000",
            |p: f32| (-1000.0..=1000.0).contains(&p),
            "Subtract this from the logits of repeated tokens; 0 = off"
        ),
        number!(
            frequency_penalty,
            "frequency-penalty",
            "a number from -1000 to 1000",
            |f: f32| (-1000.0..=1000.0).contains(&f),
            "Subtract this from the logits of repeated tokens, times their count; 0 = off"
        ),
    ],
    build: |options, setup| {
        let window = Window::new(options.repeat_last_n);
        let penalties = Penalties {
            repeat: options.repeat_penalty,
            presence: options.presence_penalty,
            frequency: options.frequency_penalty,
            window,
            recent: VecDeque::new(),
            counts: HashMap::with_capacity(match window {
                Window::Last(n) => setup.n_vocab.min(n.get() as usize + 1),
                Window::Off | Window::All => 0,
            }),
        };
        let neutral =
            penalties.repeat == 1.0 && penalties.presence == 0.0 && penalties.frequency == 0.0;
        let on = window != Window::Off && !neutral;
        Ok(on.then(|| Box::new(penalties) as Box<dyn Stage>))
    },
};

#[derive(Clone)]
struct Penalties {
    repeat: f32,
    presence: f32,
    frequency: f32,
    window: Window,
    /// The window's tokens, oldest first; not kept when the window is everything.
    recent: VecDeque<u32>,
    /// How often each token stands in the window.
    counts: HashMap<u32, u32>,
}

impl Stage for Penalties {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        if self.counts.is_empty() {
            return;
        }
        candidates.edit(self.counts.keys().copied(), |token, logit| {
            let Some(&count) = self.counts.get(&token) else {
                return logit;
            };
            let repeated = if logit > 0.0 {
                logit / self.repeat
            } else {
                logit * self.repeat
            };
            repeated - count as f32 * self.frequency - self.presence
        });
    }

    fn accept(&mut self, token: u32) {
        *self.counts.entry(token).or_insert(0) += 1;
        let Window::Last(n) = self.window else { return };
        self.recent.push_back(token);
        if self.recent.len() > n.get() as usize
            && let Some(old) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&old);
            }
        }
    }

    fn reset(&mut self) {
        self.recent.clear();
        self.counts.clear();
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{accept, chain, logits};

    const STEP: [f32; 4] = [2.0, -2.0, 1.0, 0.5];

    #[test]
    fn each_penalty_does_what_its_definition_says() {
        let mut repeat = chain("penalties", |o| o.repeat_penalty(2.0));
        accept(&mut repeat, &[0, 1, 0]);
        assert_eq!(logits(&mut repeat, &STEP), [1.0, -4.0, 1.0, 0.5]);
        let mut presence = chain("penalties", |o| o.presence_penalty(0.25));
        accept(&mut presence, &[0, 1, 0]);
        assert_eq!(logits(&mut presence, &STEP), [1.75, -2.25, 1.0, 0.5]);
        let mut frequency = chain("penalties", |o| o.frequency_penalty(0.25));
        accept(&mut frequency, &[0, 1, 0]);
        assert_eq!(logits(&mut frequency, &STEP), [1.5, -2.25, 1.0, 0.5]);
    }

    #[test]
    fn after_a_sampler_that_narrows_the_list_is_edited() {
        let mut late = chain("top-k;penalties", |o| o.top_k(3).presence_penalty(5.0));
        late.accept(0);
        assert_eq!(
            logits(&mut late, &STEP),
            [-3.0, f32::NEG_INFINITY, 1.0, 0.5]
        );
    }

    #[test]
    fn tokens_leave_the_window() {
        let mut last_two = chain("penalties", |o| o.presence_penalty(1.0).repeat_last_n(2));
        accept(&mut last_two, &[0, 1, 0, 2]);
        assert_eq!(logits(&mut last_two, &STEP), [1.0, -2.0, 0.0, 0.5]);
        let mut all = chain("penalties", |o| o.presence_penalty(1.0).repeat_last_n(-1));
        accept(&mut all, &[0, 1, 0, 2]);
        assert_eq!(logits(&mut all, &STEP), [1.0, -3.0, 0.0, 0.5]);
        all.reset();
        assert_eq!(logits(&mut all, &STEP), STEP);
        let mut off = chain("penalties", |o| o.presence_penalty(1.0).repeat_last_n(0));
        off.accept(0);
        assert_eq!(logits(&mut off, &STEP), STEP);
    }

    #[test]
    fn an_accepted_token_outside_the_vocabulary_is_harmless() {
        let mut penalties = chain("penalties", |o| o.presence_penalty(1.0));
        penalties.accept(u32::MAX);
        assert_eq!(logits(&mut penalties, &STEP), STEP);
    }
}
