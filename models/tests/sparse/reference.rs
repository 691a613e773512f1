//! A decoder of latent attention with an indexer, as plainly as it can be written: in double
//! precision, one position after the other, a sort for the choice. Dense networks only.

use formats::{Array, Gguf, Value};
use std::collections::HashMap;

type Row = Vec<f64>;

pub(crate) struct Reference {
    tensors: HashMap<String, Row>,
    sizes: Sizes,
}

struct Sizes {
    n_layer: usize,
    n_head: usize,
    n_rot: usize,
    n_nope: usize,
    kv_rank: usize,
    index_heads: usize,
    index_dim: usize,
    top_k: usize,
    base: f64,
    eps: f64,
    /// The indexer turns halves rather than neighbours.
    halves: bool,
    /// Blocks that choose.
    chooses: Vec<bool>,
}

pub(crate) struct Expected {
    /// Of all positions, one after the other.
    pub(crate) logits: Vec<f64>,
    /// The smallest distance between a chosen score and one that is not, over the largest of the row.
    pub(crate) margin: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Matrix `[rows, x.len()]` times x.
fn times(m: &[f64], x: &[f64]) -> Row {
    m.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn rms(x: &[f64], weight: &[f64], eps: f64) -> Row {
    let size = (dot(x, x) / x.len() as f64 + eps).sqrt();
    x.iter().zip(weight).map(|(x, w)| x / size * w).collect()
}

fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> Row {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let centred: Row = x.iter().map(|x| x - mean).collect();
    rms(&centred, weight, eps).iter().zip(bias).map(|(x, b)| x + b).collect()
}

impl Reference {
    pub(crate) fn new(gguf: &Gguf, halves: bool) -> Reference {
        let m = gguf.metadata();
        let arch = m.str("general.architecture").unwrap().unwrap();
        let key = |word: &str| format!("{arch}.{word}");
        let int = |word: &str| m.u32(&key(word)).unwrap().unwrap() as usize;
        let float = |word: &str| f64::from(m.f32(&key(word)).unwrap().unwrap());
        let (n_layer, n_rot) = (int("block_count"), int("rope.dimension_count"));
        let types = m.iter().find(|(name, _)| *name == key("attention.indexer.types"));
        let sizes = Sizes {
            n_layer,
            n_rot,
            n_head: int("attention.head_count"),
            n_nope: int("attention.key_length_mla") - n_rot,
            kv_rank: int("attention.kv_lora_rank"),
            index_heads: int("attention.indexer.head_count"),
            index_dim: int("attention.indexer.key_length"),
            top_k: int("attention.indexer.top_k"),
            base: float("rope.freq_base"),
            eps: float("attention.layer_norm_rms_epsilon"),
            halves,
            chooses: match types {
                Some((_, Value::Array(Array::Bool(flags)))) => flags.clone(),
                _ => vec![true; n_layer],
            },
        };
        let floats = |t| -> Row {
            let bytes = gguf.data(t).unwrap().chunks_exact(4);
            bytes.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        };
        let tensors = gguf.tensors().iter().map(|t| (t.name.clone(), floats(t))).collect();
        Reference { tensors, sizes }
    }

    fn tensor(&self, name: &str) -> &[f64] {
        self.tensors.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Turns the first `n_rot` values.
    fn rotate(&self, x: &mut [f64], pos: usize, halves: bool) {
        let n = self.sizes.n_rot;
        for i in 0..n / 2 {
            let (a, b) = if halves { (i, i + n / 2) } else { (2 * i, 2 * i + 1) };
            let angle = pos as f64 * self.sizes.base.powf(-2.0 * i as f64 / n as f64);
            let (sin, cos) = angle.sin_cos();
            (x[a], x[b]) = (x[a] * cos - x[b] * sin, x[a] * sin + x[b] * cos);
        }
    }

    pub(crate) fn run(&self, ids: &[u32]) -> Expected {
        let s = &self.sizes;
        let embd = self.tensor("token_embd.weight");
        let width = self.tensor("output_norm.weight").len();
        let row = |&id: &u32| embd[id as usize * width..(id as usize + 1) * width].to_vec();
        let mut x: Vec<Row> = ids.iter().map(row).collect();
        let mut margin = f64::INFINITY;
        let mut seen: Vec<Vec<usize>> = Vec::new();
        for il in 0..s.n_layer {
            let blk = |name: &str| self.tensor(&format!("blk.{il}.{name}"));
            let norm = |x: &Row| rms(x, blk("attn_norm.weight"), s.eps);
            let input: Vec<Row> = x.iter().map(norm).collect();
            let compress = |h: &Row| {
                rms(&times(blk("attn_q_a.weight"), h), blk("attn_q_a_norm.weight"), s.eps)
            };
            let compressed: Vec<Row> = input.iter().map(compress).collect();
            if s.chooses[il] {
                seen = self.choose(il, &input, &compressed, &mut margin);
            }
            let attended = self.attend(il, &input, &compressed, &seen);
            for (x, y) in x.iter_mut().zip(attended) {
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
                let h = rms(x, blk("ffn_norm.weight"), s.eps);
                let (gate, up) =
                    (times(blk("ffn_gate.weight"), &h), times(blk("ffn_up.weight"), &h));
                let hidden: Row =
                    gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                let y = times(blk("ffn_down.weight"), &hidden);
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
            }
        }
        let last = |x: &Row| {
            times(self.tensor("output.weight"), &rms(x, self.tensor("output_norm.weight"), s.eps))
        };
        Expected { logits: x.iter().flat_map(last).collect(), margin }
    }

    /// The positions that each position sees.
    fn choose(
        &self,
        il: usize,
        input: &[Row],
        compressed: &[Row],
        margin: &mut f64,
    ) -> Vec<Vec<usize>> {
        let s = &self.sizes;
        let blk = |name: &str| self.tensor(&format!("blk.{il}.indexer.{name}"));
        let mut keys: Vec<Row> = Vec::new();
        let mut seen = Vec::new();
        for (pos, (h, c)) in input.iter().zip(compressed).enumerate() {
            let k = times(blk("attn_k.weight"), h);
            let mut k = layer_norm(&k, blk("k_norm.weight"), blk("k_norm.bias"), 1e-6);
            self.rotate(&mut k, pos, s.halves);
            keys.push(k);
            let mut q = times(blk("attn_q_b.weight"), c);
            q.chunks_exact_mut(s.index_dim).for_each(|q| self.rotate(q, pos, s.halves));
            let weights = times(blk("proj.weight"), h);
            let scale = 1.0 / ((s.index_heads * s.index_dim) as f64).sqrt();
            let score = |k: &Row| -> f64 {
                let heads = q.chunks_exact(s.index_dim).zip(&weights);
                heads.map(|(q, w)| w * scale * dot(q, k).max(0.0)).sum()
            };
            let scores: Row = keys.iter().map(score).collect();
            let mut order: Vec<usize> = (0..=pos).collect();
            // The sort is stable: of equal ones the lower comes first.
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            if order.len() > s.top_k {
                let largest = scores.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
                let gap = scores[order[s.top_k - 1]] - scores[order[s.top_k]];
                *margin = margin.min(gap / largest);
                order.truncate(s.top_k);
            }
            seen.push(order);
        }
        seen
    }

    /// What attention adds to each position.
    fn attend(
        &self,
        il: usize,
        input: &[Row],
        compressed: &[Row],
        seen: &[Vec<usize>],
    ) -> Vec<Row> {
        let s = &self.sizes;
        let blk = |name: &str| self.tensor(&format!("blk.{il}.{name}"));
        let width = s.n_nope + s.n_rot;
        let (k_b, v_b) = (blk("attn_k_b.weight"), blk("attn_v_b.weight"));
        let (k_size, v_size) = (k_b.len() / s.n_head, v_b.len() / s.n_head);
        let mut rows: Vec<(Row, Row)> = Vec::new();
        let mut out = Vec::new();
        for (pos, (h, c)) in input.iter().zip(compressed).enumerate() {
            let mut latent = times(blk("attn_kv_a_mqa.weight"), h);
            let mut key = latent.split_off(s.kv_rank);
            self.rotate(&mut key, pos, false);
            rows.push((rms(&latent, blk("attn_kv_a_norm.weight"), s.eps), key));
            let mut q = times(blk("attn_q_b.weight"), c);
            let mut heads: Row = Vec::new();
            for (head, q) in q.chunks_exact_mut(width).enumerate() {
                let (q, turned) = q.split_at_mut(s.n_nope);
                self.rotate(turned, pos, false);
                let q = times(&k_b[head * k_size..(head + 1) * k_size], q);
                let score = |&t: &usize| {
                    (dot(&q, &rows[t].0) + dot(turned, &rows[t].1)) / (width as f64).sqrt()
                };
                let scores: Row = seen[pos].iter().map(score).collect();
                let most = scores.iter().fold(f64::NEG_INFINITY, |a: f64, &b| a.max(b));
                let weights: Row = scores.iter().map(|s| (s - most).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut mean = vec![0.0; s.kv_rank];
                for (&t, w) in seen[pos].iter().zip(&weights) {
                    mean.iter_mut().zip(&rows[t].0).for_each(|(m, x)| *m += w / total * x);
                }
                heads.extend(times(&v_b[head * v_size..(head + 1) * v_size], &mean));
            }
            out.push(times(blk("attn_output.weight"), &heads));
        }
        out
    }
}
