//! Top-k: the k most probable tokens (A. Fan, M. Lewis, Y. Dauphin, "Hierarchical Neural Story Generation", 2018).

use super::options::number;
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "top-k",
    aliases: &[],
    doc: "Keeps the k most probable tokens.",
    source: "Fan, Lewis, Dauphin 2018, arXiv:1805.04833",
    place: Place::OrderedUnlessMirostat,
    flags: &[number!(
        top_k,
        "top-k",
        "a whole number, 0 for off",
        |_: u32| true,
        "Draw from the N most probable tokens; 0 = off"
    )],
    build: |options, setup| {
        let k = options.top_k as usize;
        Ok((k > 0 && k < setup.n_vocab).then(|| Box::new(TopK { k }) as Box<dyn Stage>))
    },
};

#[derive(Clone)]
struct TopK {
    k: usize,
}

impl Stage for TopK {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        candidates.keep_top(self.k);
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, tokens};

    #[test]
    fn keeps_the_k_largest_and_breaks_ties_by_id() {
        let logits = [1.0, 5.0, 3.0, 5.0, 4.0];
        assert_eq!(tokens(&mut chain("top-k", |o| o.top_k(2)), &logits), [1, 3]);
        assert_eq!(
            tokens(&mut chain("top-k", |o| o.top_k(3)), &logits),
            [1, 3, 4]
        );
        assert_eq!(tokens(&mut chain("top-k", |o| o.top_k(1)), &[2.0; 5]), [0]);
    }

    #[test]
    fn is_off_at_zero_and_beyond_the_vocabulary() {
        for k in [0, 5, 6, u32::MAX] {
            let kept = tokens(
                &mut chain("top-k", |o| o.top_k(k)),
                &[1.0, 5.0, 3.0, 5.0, 4.0],
            );
            assert_eq!(kept.len(), 5, "top_k {k}");
        }
    }
}
