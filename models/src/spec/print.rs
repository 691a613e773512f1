//! Prints a spec as one formula a layer; equal neighbours are folded.

use super::{Act, Attn, Body, Branch, Ffn, Layer, ModelSpec, Norm, RopeScaling, Window};
use std::fmt;

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "x = {}token_embd[id]", factor(self.stack.input.scale))?;
        let layers = &self.stack.layers;
        let mut first = 0;
        while first < layers.len() {
            let same = layers[first..].iter().take_while(|l| **l == layers[first]).count();
            match same {
                1 => writeln!(f, "layer {first}")?,
                _ => writeln!(f, "layers {first} to {}", first + same - 1)?,
            }
            layer(f, &layers[first])?;
            first += same;
        }
        let head = &self.head;
        write!(f, "logits = {}", factor(head.scale))?;
        if let Some(cap) = head.softcap {
            write!(f, "softcap[{cap}] ")?;
        }
        writeln!(f, "output({}(x))", self.stack.norm.name)
    }
}

fn layer(f: &mut fmt::Formatter<'_>, layer: &Layer) -> fmt::Result {
    for stage in &layer.stages {
        let sum: Vec<String> = stage.branches.iter().map(branch).collect();
        writeln!(f, "  x += {}", sum.join(" + "))?;
    }
    Ok(())
}

fn factor(scale: f32) -> String {
    if scale == 1.0 { String::new() } else { format!("{scale} * ") }
}

fn normed(norm: Option<&Norm>, inner: String) -> String {
    norm.map_or(inner.clone(), |n| format!("{}({inner})", n.name))
}

fn branch(b: &Branch) -> String {
    let inner = normed(b.norm.as_ref(), "x".into());
    let body = match &b.body {
        Body::Attn(a) => format!("{}({inner})", attn(a)),
        Body::Ffn(n) => format!("{}({inner})", ffn("ffn", n)),
        Body::Moe(m) => format!(
            "{}({inner})",
            ffn(&format!("moe[{} of {}]", m.n_expert_used, m.n_expert), &m.ffn)
        ),
        Body::ShortConv(c) => format!("shortconv[{} taps]({inner})", c.n_taps),
    };
    format!("{}{}", factor(b.scale), normed(b.norm_out.as_ref(), body))
}

fn attn(a: &Attn) -> String {
    let mut s = format!("attn[{}/{} heads of {}", a.n_head, a.n_head_kv, a.head_dim_k);
    if a.head_dim_v != a.head_dim_k {
        s += &format!("/{}", a.head_dim_v);
    }
    if let Window::Sliding(n) = a.window {
        s += &format!(", window {n}");
    }
    if let Some(r) = &a.rope {
        s += &format!(", rope {} of base {}", r.n_rot, r.base);
        s += match r.scaling {
            RopeScaling::None => "",
            RopeScaling::Linear { .. } => " linear",
            RopeScaling::Freqs => " freqs",
            RopeScaling::Yarn { .. } => " yarn",
            RopeScaling::Long { .. } => " long",
        };
    }
    for (on, name) in
        [(a.qk_norm.is_some(), "qk norm"), (a.sinks, "sinks"), (a.softcap.is_some(), "softcap")]
    {
        if on {
            s = s + ", " + name;
        }
    }
    s + "]"
}

fn ffn(name: &str, n: &Ffn) -> String {
    let act = match n.act {
        Act::Silu => "silu",
        Act::GeluTanh => "gelu_tanh",
        Act::Gelu => "gelu",
        Act::ClampedSwiglu { .. } => "clamped swiglu",
    };
    format!("{name}[{}{act} {}]", if n.gated { "gated " } else { "" }, n.n_ff)
}
