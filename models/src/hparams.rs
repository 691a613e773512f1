//! Hyper-parameters: the metadata of a file under the words of its architecture.
//!
//! Everything is checked here once: ranges, divisibility, finite floats. Arrays with one entry a
//! layer and plain numbers are both legal for most keys. Guesses about files that lack a key stand
//! in [`crate::quirks`].

use crate::error::Error;
use crate::spec::{
    Act, Attn, Ffn, Groups, Kv, Moe, Norm, NormKind, Pairing, QkNorm, Rope, RopeScaling, Score,
    Shared, Span, Window, moe,
};
use formats::{Gguf, Metadata};
use std::sync::Arc;

/// Most blocks a model may say it has; the largest known have under 200.
pub const MAX_LAYERS: usize = 4096;
/// Largest width or count that any dimension key may give.
pub const MAX_DIM: usize = 1 << 24;
/// Most experts a model may say it has.
pub const MAX_EXPERTS: usize = 4096;

/// The metadata of one model, read and checked.
#[derive(Clone, Debug)]
pub struct Hparams {
    gguf: Arc<Gguf>,
    /// `general.architecture`.
    pub arch: String,
    /// Blocks that are run: those of the file without the ones that only predict further tokens.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Context the model was trained with.
    pub n_ctx_train: usize,
    /// Rows of `token_embd.weight`; padded ids included.
    pub n_vocab: usize,
    /// Query heads, per layer; 0 = the layer has no attention.
    pub n_head: Vec<usize>,
    /// Key/value heads, per layer; 0 = the layer has no keys and values.
    pub n_head_kv: Vec<usize>,
    /// Feed-forward width, per layer.
    pub n_ff: Vec<usize>,
    /// Width of a key head.
    pub head_dim_k: usize,
    /// Width of a value head.
    pub head_dim_v: usize,
    /// Values of a head that are rotated.
    pub n_rot: usize,
    /// Experts; 0 = dense.
    pub n_expert: usize,
    /// Experts used per row.
    pub n_expert_used: usize,
}

fn bad(key: String, found: impl ToString, expected: impl ToString) -> Error {
    Error::BadValue { key, found: found.to_string(), expected: expected.to_string() }
}

impl Hparams {
    /// Reads the keys that every architecture has, under the name `arch`.
    ///
    /// # Errors
    /// A missing key, a wrong type or a value out of range, with the key's name.
    pub fn read(gguf: Arc<Gguf>, arch: &str) -> Result<Hparams, Error> {
        let (m, arch) = (gguf.metadata(), arch.to_string());
        let n_layer = n_layer(m, &arch)?;
        let n_embd = dim(m, &arch, "embedding_length", MAX_DIM)?;
        let n_ctx_train = dim(m, &arch, "context_length", 1 << 31)?;
        let per_layer = |key: &str, or: Option<&[usize]>| -> Result<Vec<usize>, Error> {
            let key = format!("{arch}.{key}");
            let Some(values) = m.u32_per(&key, n_layer)? else {
                return or.map(<[usize]>::to_vec).ok_or_else(|| Error::MissingKey {
                    key,
                    expected: format!("a number, or one for each of {n_layer} blocks"),
                });
            };
            let values: Vec<usize> = values.into_iter().map(|v| v as usize).collect();
            match values.iter().find(|&&v| v > MAX_DIM) {
                Some(v) => Err(bad(key, v, format!("at most {MAX_DIM}"))),
                None => Ok(values),
            }
        };
        let n_head = per_layer("attention.head_count", None)?;
        let n_head_kv = per_layer("attention.head_count_kv", Some(&n_head))?;
        for (il, (&h, &kv)) in n_head.iter().zip(&n_head_kv).enumerate() {
            if kv > 0 && (h == 0 || h % kv != 0) {
                return Err(bad(
                    format!("{arch}.attention.head_count"),
                    format!("{h} with {kv} key/value heads in block {il}"),
                    "a positive multiple of attention.head_count_kv",
                ));
            }
        }
        let n_ff = per_layer("feed_forward_length", Some(&vec![0; n_layer]))?;
        let most = n_head.iter().copied().max().unwrap_or(0);
        let even = n_embd / most.max(1);
        let head_dim_k = opt_dim(m, &arch, "attention.key_length")?.unwrap_or(even);
        let head_dim_v = opt_dim(m, &arch, "attention.value_length")?.unwrap_or(even);
        let n_rot = opt_dim(m, &arch, "rope.dimension_count")?.unwrap_or(head_dim_k);
        let bad_head = head_dim_k == 0 || head_dim_v == 0;
        if most > 0 && (n_rot > head_dim_k || n_rot % 2 != 0 || bad_head) {
            let key = format!("{arch}.rope.dimension_count");
            return Err(bad(key, n_rot, format!("an even number up to the head's {head_dim_k}")));
        }
        let (n_expert, n_expert_used) = n_experts(m, &arch)?;
        let n_vocab = gguf.tensor("token_embd.weight").map_or(0, |t| t.rows() as usize);
        Ok(Hparams {
            arch,
            n_layer,
            n_embd,
            n_ctx_train,
            n_vocab,
            n_head,
            n_head_kv,
            n_ff,
            head_dim_k,
            head_dim_v,
            n_rot,
            n_expert,
            n_expert_used,
            gguf,
        })
    }

    /// The file.
    pub fn gguf(&self) -> &Arc<Gguf> {
        &self.gguf
    }

    /// The full key of an architecture's word: `"rope.freq_base"` is `"llama.rope.freq_base"`.
    pub fn key(&self, word: &str) -> String {
        format!("{}.{word}", self.arch)
    }

    /// A float under the architecture's name; it must be finite.
    ///
    /// # Errors
    /// Another type, or NaN or an infinity.
    pub fn f32(&self, word: &str) -> Result<Option<f32>, Error> {
        let key = self.key(word);
        match self.gguf.metadata().f32(&key)? {
            Some(v) if !v.is_finite() => Err(bad(key, v, "a finite number")),
            v => Ok(v),
        }
    }

    /// A float that must be above zero.
    ///
    /// # Errors
    /// As [`Hparams::f32`], or a value of zero or less.
    pub fn positive(&self, word: &str) -> Result<Option<f32>, Error> {
        match self.f32(word)? {
            Some(v) if v <= 0.0 => Err(bad(self.key(word), v, "a number above 0")),
            v => Ok(v),
        }
    }

    /// A float that bounds something, where 0 means no bound.
    ///
    /// # Errors
    /// As [`Hparams::f32`], or a value below zero.
    pub fn bound(&self, word: &str) -> Result<Option<f32>, Error> {
        match self.f32(word)? {
            Some(v) if v < 0.0 => Err(bad(self.key(word), v, "0 (no bound) or more")),
            v => Ok(v.filter(|&v| v > 0.0)),
        }
    }

    /// A factor, 1 where the file names none (or 0, which some converters write for that).
    ///
    /// # Errors
    /// As [`Hparams::f32`].
    pub fn scale(&self, word: &str) -> Result<f32, Error> {
        Ok(self.f32(word)?.filter(|&v| v != 0.0).unwrap_or(1.0))
    }

    /// Leading layers that have a dense network where the others have experts.
    ///
    /// # Errors
    /// As [`Hparams::usize`].
    pub fn n_dense(&self) -> Result<usize, Error> {
        Ok(self.usize("leading_dense_block_count")?.unwrap_or(0))
    }

    /// A count under the architecture's name.
    ///
    /// # Errors
    /// Another type, or a value beyond [`MAX_DIM`].
    pub fn usize(&self, word: &str) -> Result<Option<usize>, Error> {
        opt_dim(self.gguf.metadata(), &self.arch, word)
    }

    /// A count under the architecture's name that must be there and above 0.
    ///
    /// # Errors
    /// As [`Hparams::usize`], a missing key, or 0.
    pub fn size(&self, word: &str) -> Result<usize, Error> {
        dim(self.gguf.metadata(), &self.arch, word, MAX_DIM)
    }

    /// Length of a convolution over time.
    ///
    /// # Errors
    /// As [`Hparams::size`], or a number outside 2 to 64.
    pub fn taps(&self, word: &str) -> Result<usize, Error> {
        match self.size(word)? {
            n @ 2..=64 => Ok(n),
            n => Err(bad(self.key(word), n, "the convolution's length, 2 to 64")),
        }
    }

    /// [`Hparams::size`] that must divide `whole`, which is `of`.
    ///
    /// # Errors
    /// As [`Hparams::size`], or a number that does not divide.
    pub fn divisor(&self, word: &str, whole: usize, of: &str) -> Result<usize, Error> {
        match self.size(word)? {
            n if whole.is_multiple_of(n) => Ok(n),
            n => Err(bad(self.key(word), n, format!("a divisor of {of}, which is {whole}"))),
        }
    }

    /// A flag under the architecture's name.
    ///
    /// # Errors
    /// Another type.
    pub fn bool(&self, word: &str) -> Result<Option<bool>, Error> {
        Ok(self.gguf.metadata().bool(&self.key(word))?)
    }

    /// A string under the architecture's name.
    ///
    /// # Errors
    /// Another type.
    pub fn str(&self, word: &str) -> Result<Option<&str>, Error> {
        Ok(self.gguf.metadata().str(&self.key(word))?)
    }

    /// Floats under the architecture's name, one for each block; infinities are values like others.
    ///
    /// # Errors
    /// Another type, too few, or NaN.
    pub fn f32_per(&self, word: &str) -> Result<Option<Vec<f32>>, Error> {
        let key = self.key(word);
        match self.gguf.metadata().f32_per(&key, self.n_layer)? {
            Some(v) if v.iter().any(|x| x.is_nan()) => Err(bad(key, "NaN", "numbers")),
            v => Ok(v),
        }
    }

    /// Rows of the matrix `NAME.weight` in block `il`, where the file has it.
    pub fn rows(&self, il: usize, name: &str) -> Option<usize> {
        let rows = self.gguf.tensor(&format!("blk.{il}.{name}.weight"))?.rows();
        usize::try_from(rows).ok().filter(|&n| n <= MAX_DIM)
    }

    /// Maker of RMS norms with the file's epsilon.
    ///
    /// # Errors
    /// When the epsilon is missing or not a finite number above or at zero.
    pub fn rms(&self) -> Result<impl Fn(&'static str) -> Norm + Copy + use<>, Error> {
        self.norm(NormKind::Rms, "attention.layer_norm_rms_epsilon")
    }

    /// Maker of layer norms with the file's epsilon.
    ///
    /// # Errors
    /// As [`Hparams::rms`].
    pub fn layer_norm(&self) -> Result<impl Fn(&'static str) -> Norm + Copy + use<>, Error> {
        self.norm(NormKind::Layer, "attention.layer_norm_epsilon")
    }

    fn norm(
        &self,
        kind: NormKind,
        word: &str,
    ) -> Result<impl Fn(&'static str) -> Norm + Copy + use<>, Error> {
        let eps = self.f32(word)?.ok_or_else(|| Error::MissingKey {
            key: self.key(word),
            expected: "the epsilon of the norms".into(),
        })?;
        if eps < 0.0 {
            return Err(bad(self.key(word), eps, "0 or more"));
        }
        Ok(move |name| Norm { kind, eps, name: Some(name) })
    }

    /// Whether the file has the tensor `NAME.weight` in block `il`.
    pub fn has(&self, il: usize, name: &str) -> bool {
        self.gguf.tensor(&format!("blk.{il}.{name}.weight")).is_some()
    }

    /// Grouped-query attention of one block with the file's sizes and rotation.
    ///
    /// # Errors
    /// As [`Hparams::rope`].
    pub fn attn(&self, il: usize, pairing: Pairing) -> Result<Attn, Error> {
        Ok(Attn {
            n_head: self.n_head[il],
            n_head_kv: self.n_head_kv[il],
            head_dim_k: self.head_dim_k,
            head_dim_v: self.head_dim_v,
            kv: Kv::Own,
            window: Window::Full,
            causal: true,
            rope: Some(self.rope(pairing)?),
            alibi: None,
            relative: None,
            clamp: self.bound("attention.clamp_kqv")?,
            qk_norm: None,
            v_norm: None,
            value_scale: 1.0,
            scale: match self.f32("attention.scale")? {
                // Some converters write 0 for "the usual scale".
                None | Some(0.0) => 1.0 / (self.head_dim_k as f32).sqrt(),
                Some(scale) => scale,
            },
            temperature: None,
            softcap: None,
            sinks: false,
            gate: None,
            sub_norm: None,
        })
    }

    /// RMS norm of queries and keys before the rotation.
    ///
    /// # Errors
    /// As [`Hparams::rms`].
    pub fn qk_norm(&self, span: Span) -> Result<Option<QkNorm>, Error> {
        let Norm { kind, eps, .. } = self.rms()?("attn_q_norm");
        Ok(Some(QkNorm { kind, eps, span, weight: true, after_rope: false }))
    }

    /// A gated feed-forward network of one block with the file's width.
    pub fn gated(&self, il: usize, act: Act) -> Ffn {
        Ffn { n_ff: self.n_ff[il], gated: true, act, sub_norm: None, sparsity: None }
    }

    /// A feed-forward network without gate.
    pub fn plain(&self, il: usize, act: Act) -> Ffn {
        Ffn { gated: false, ..self.gated(il, act) }
    }

    /// Width of one expert.
    ///
    /// # Errors
    /// A value beyond [`MAX_DIM`].
    pub fn n_ff_exp(&self, il: usize) -> Result<usize, Error> {
        Ok(self.usize("expert_feed_forward_length")?.unwrap_or(self.n_ff[il]))
    }

    /// The mixture that the file's `expert_*` keys describe, with gated experts. A shared network
    /// is there exactly where the block has `ffn_up_shexp`.
    ///
    /// # Errors
    /// Values out of range, or a scoring function that is not known.
    pub fn experts(&self, il: usize, act: Act) -> Result<Moe, Error> {
        let n_ff = self.n_ff_exp(il)?;
        let shared = || {
            let n_ff = match self.usize("expert_shared_feed_forward_length")? {
                Some(n) if n > 0 => n,
                _ => n_ff * self.usize("expert_shared_count")?.unwrap_or(1).clamp(1, MAX_EXPERTS),
            };
            Ok::<_, Error>(Shared { ffn: Ffn { n_ff, ..self.gated(il, act) }, scale: 1.0 })
        };
        let shared = if self.has(il, "ffn_up_shexp") { Some(shared()?) } else { None };
        let score = match self.usize("expert_gating_func")?.unwrap_or(0) {
            0 | 1 => Score::Softmax,
            2 => Score::Sigmoid,
            3 => Score::SoftmaxOfChosen,
            other => {
                let known = "1 (softmax), 2 (sigmoid) or 3 (softmax of the chosen)";
                return Err(bad(self.key("expert_gating_func"), other, known));
            }
        };
        let scale = self.scale("expert_weights_scale")?;
        let ffn = Ffn { n_ff, ..self.gated(il, act) };
        Ok(Moe {
            score,
            groups: self.groups()?,
            renorm: self.bool("expert_weights_norm")?.unwrap_or(false),
            scale,
            shared,
            ..moe(self.n_expert, self.n_expert_used, ffn)
        })
    }

    fn groups(&self) -> Result<Option<Groups>, Error> {
        let n = self.usize("expert_group_count")?.unwrap_or(1);
        let n_used = self.usize("expert_group_used_count")?.unwrap_or(n);
        if n <= 1 {
            return Ok(None);
        }
        // A group's score is the sum of two, and the groups that are kept must hold enough.
        let each = self.n_expert / n;
        let fits = self.n_expert.is_multiple_of(n) && each >= 2 && (1..=n).contains(&n_used);
        if !fits || n_used * each < self.n_expert_used {
            return Err(bad(
                self.key("expert_group_count"),
                format!("{n_used} of {n} groups"),
                format!(
                    "groups of 2 or more out of {} experts that hold the {} used",
                    self.n_expert, self.n_expert_used
                ),
            ));
        }
        Ok(Some(Groups { n, n_used }))
    }

    /// The rotation that the file describes.
    ///
    /// # Errors
    /// A scaling kind that is not known, or numbers out of range.
    pub fn rope(&self, pairing: Pairing) -> Result<Rope, Error> {
        let base = self.positive("rope.freq_base")?.unwrap_or(crate::quirks::ROPE_BASE);
        let kind = self.str("rope.scaling.type")?;
        let factor = match self.positive("rope.scaling.factor")? {
            Some(f) => f,
            None => self.positive("rope.scale_linear")?.unwrap_or(1.0),
        };
        let n_ctx_orig =
            self.usize("rope.scaling.original_context_length")?.unwrap_or(self.n_ctx_train);
        let attn_factor = self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let scaling = match kind {
            None if factor != 1.0 => RopeScaling::Linear { factor },
            None | Some("none") => RopeScaling::Freqs,
            Some("linear") => RopeScaling::Linear { factor },
            Some("yarn") => RopeScaling::Yarn {
                factor,
                n_ctx_orig,
                beta_fast: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                magnitude: attn_factor * self.yarn_magnitude(factor)?,
            },
            Some("longrope") => RopeScaling::Long { n_ctx_orig, attn_factor },
            Some(other) => {
                let key = self.key("rope.scaling.type");
                return Err(bad(key, other, "none, linear, yarn or longrope"));
            }
        };
        Ok(Rope { pairing, n_rot: self.n_rot, base, scaling })
    }

    /// Factor of YaRN on cos and sin: what the file says, else 1 + 0.1 ln(factor). Files with a
    /// log multiplier scale the softmax instead, and leave cos and sin as they are.
    fn yarn_magnitude(&self, factor: f32) -> Result<f32, Error> {
        if let Some(magnitude) = self.positive("rope.scaling.yarn_attn_factor")? {
            return Ok(magnitude);
        }
        let multiplier = self.f32("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
        Ok(if multiplier == 0.0 { 1.0 + 0.1 * factor.max(1.0).ln() } else { 1.0 })
    }

    /// The rotation of windowed layers: `rope.freq_base_swa` and `rope.dimension_count_swa` where
    /// the file has them, and never stretched.
    ///
    /// # Errors
    /// Numbers out of range.
    pub fn local_rope(&self, global: &Rope) -> Result<Rope, Error> {
        let base = self.positive("rope.freq_base_swa")?.unwrap_or(global.base);
        let n_rot = self.usize("rope.dimension_count_swa")?.unwrap_or(global.n_rot);
        Ok(Rope { base, n_rot, scaling: RopeScaling::None, ..global.clone() })
    }
}

/// `block_count` less `nextn_predict_layers`: the last blocks only guess tokens ahead.
fn n_layer(m: &Metadata, arch: &str) -> Result<usize, Error> {
    let all = dim(m, arch, "block_count", MAX_LAYERS)?;
    let ahead = count(m, arch, "nextn_predict_layers")?;
    all.checked_sub(ahead).filter(|&n| n > 0).ok_or_else(|| {
        let key = format!("{arch}.nextn_predict_layers");
        bad(key, ahead, format!("less than the {all} of block_count"))
    })
}

/// Experts there are, and experts used per row.
fn n_experts(m: &Metadata, arch: &str) -> Result<(usize, usize), Error> {
    let (n, used) = (count(m, arch, "expert_count")?, count(m, arch, "expert_used_count")?);
    if n > MAX_EXPERTS || used > n || (n > 0 && used == 0) {
        return Err(bad(
            format!("{arch}.expert_used_count"),
            format!("{used} of {n}"),
            format!("1 to expert_count, which is at most {MAX_EXPERTS}"),
        ));
    }
    Ok((n, used))
}

fn opt_dim(m: &Metadata, arch: &str, word: &str) -> Result<Option<usize>, Error> {
    let key = format!("{arch}.{word}");
    match m.u64(&key)? {
        Some(v) if v > MAX_DIM as u64 => Err(bad(key, v, format!("at most {MAX_DIM}"))),
        v => Ok(v.map(|v| v as usize)),
    }
}

fn count(m: &Metadata, arch: &str, word: &str) -> Result<usize, Error> {
    Ok(opt_dim(m, arch, word)?.unwrap_or(0))
}

fn dim(m: &Metadata, arch: &str, word: &str, max: usize) -> Result<usize, Error> {
    let key = format!("{arch}.{word}");
    match m.u64(&key)? {
        Some(v) if v == 0 || v > max as u64 => Err(bad(key, v, format!("1 to {max}"))),
        Some(v) => Ok(v as usize),
        None => Err(Error::MissingKey { key, expected: format!("a number from 1 to {max}") }),
    }
}
