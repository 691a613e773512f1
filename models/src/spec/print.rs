//! Prints a spec as one formula a layer; equal neighbours are folded.

use super::{
    Act, Attn, Body, Branch, Ffn, Gate, Head, Kv, Layer, ModelSpec, Moe, Norm, Pooling, Read,
    RopeScaling, Score, Span, Stack, Stage, Streams, Sureness, Window,
};
use std::fmt;

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(encoder) = &self.encoder {
            stack(f, encoder)?;
            writeln!(f, "encoder = {}", normed(encoder.norm.as_ref(), "x".into()))?;
        }
        stack(f, &self.stack)?;
        head(f, &self.head, &normed(self.stack.norm.as_ref(), "x".into()))?;
        match &self.unmask {
            None => Ok(()),
            Some(u) => {
                let about = if u.shifted { "the next token" } else { "its own token" };
                let first = match u.sureness {
                    Sureness::Probability => "likeliest token",
                    Sureness::Entropy => "least entropy",
                };
                let block = u.block.map_or(String::new(), |n| format!(", {n} positions at a time"));
                writeln!(f, "fills masks{block}: {first} first, a row is about {about}")
            }
        }
    }
}

fn stack(f: &mut fmt::Formatter<'_>, stack: &Stack) -> fmt::Result {
    input(f, stack)?;
    let layers = &stack.layers;
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
    Ok(())
}

fn input(f: &mut fmt::Formatter<'_>, stack: &Stack) -> fmt::Result {
    let i = &stack.input;
    let mut sum = format!("{}token_embd[id]", factor(i.scale));
    if i.positions {
        sum += " + position_embd[pos]";
    }
    if i.types {
        sum += " + token_types[0]";
    }
    writeln!(f, "x = {}", normed(i.norm.as_ref(), sum))?;
    if let Some(p) = &i.per_layer {
        writeln!(f, "e = {} values of per_layer_token_embd[id] and per_layer_model_proj(x)", p.n)?;
    }
    match &stack.streams {
        Streams::One => Ok(()),
        Streams::AltUp { n, active, .. } => {
            writeln!(f, "{n} alternating streams, layers compute on stream {active}")
        }
    }
}

fn head(f: &mut fmt::Formatter<'_>, head: &Head, x: &str) -> fmt::Result {
    if head.logits {
        write!(f, "logits = {}", factor(head.scale))?;
        if let Some(cap) = head.softcap {
            write!(f, "softcap[{cap}] ")?;
        }
        writeln!(f, "output({x})")?;
    }
    if head.logits && head.pooling == Pooling::Last && head.classifier.is_none() {
        return Ok(());
    }
    let dense = |sum, name: &&str| format!("{name}({sum})");
    let pooled = head.dense.iter().fold(format!("{}({x})", head.pooling), dense);
    match &head.classifier {
        None => writeln!(f, "embedding = {pooled}"),
        Some(c) => writeln!(f, "{} scores = cls({}({x}))", c.n_out, c.from),
    }
}

fn layer(f: &mut fmt::Formatter<'_>, layer: &Layer) -> fmt::Result {
    layer.stages.iter().try_for_each(|s| writeln!(f, "  {}", stage(s)))
}

fn stage(s: &Stage) -> String {
    let sum: Vec<String> = s.branches.iter().map(branch).collect();
    let sum = normed(s.norm_out.as_ref(), sum.join(" + "));
    let whole = s.factor != 1.0 || s.factor_name.is_some() || s.norm_after.is_some();
    if s.norm_out.is_none() && s.scale == 1.0 && !whole {
        return format!("x += {sum}");
    }
    let sum = if s.scale == 1.0 { sum } else { format!("{} * ({sum})", s.scale) };
    if !whole {
        return format!("x += {sum}");
    }
    let name = s.factor_name.map_or(String::new(), |n| format!("{n} * "));
    let all = format!("{}{name}(x + {sum})", factor(s.factor));
    format!("x = {}", normed(s.norm_after.as_ref(), all))
}

fn factor(scale: f32) -> String {
    if scale == 1.0 { String::new() } else { format!("{scale} * ") }
}

fn norm(n: &Norm, inner: &str) -> String {
    format!("{}({inner})", n.name.unwrap_or("norm"))
}

fn normed(n: Option<&Norm>, inner: String) -> String {
    n.map_or(inner.clone(), |n| norm(n, &inner))
}

fn read(r: Read) -> &'static str {
    match r {
        Read::Stream => "x",
        Read::LayerInput => "layer_input",
    }
}

fn branch(b: &Branch) -> String {
    let inner = normed(b.norm.as_ref(), read(b.read).into());
    let body = match &b.body {
        Body::Attn(a) => format!("{}({inner})", attn(a)),
        Body::Mla(m) => format!("{m}({inner})"),
        Body::Ffn(n) => format!("{}({inner})", ffn("ffn", n)),
        Body::Moe(m) => format!("{}({inner})", moe(m)),
        Body::Recurrent(r) => format!("{r}({inner})"),
        Body::Linear(name) => format!("{name}({inner})"),
        Body::LowRank(l) => format!("laurel[rank {}]({inner})", l.rank),
        Body::PerLayer(_) => format!("proj(act(inp_gate({inner})) * e)"),
    };
    format!("{}{}", factor(b.scale), normed(b.norm_out.as_ref(), body))
}

fn attn(a: &Attn) -> String {
    let mut words = vec![format!("{}/{} heads of {}", a.n_head, a.n_head_kv, a.head_dim_k)];
    if a.head_dim_v != a.head_dim_k {
        words[0] += &format!("/{}", a.head_dim_v);
    }
    let mut say = |on: bool, word: &str| {
        if on {
            words.push(word.into());
        }
    };
    match a.kv {
        Kv::Own => {}
        Kv::KeyAsValue => say(true, "keys as values"),
        Kv::Encoder => say(true, "keys and values of the encoder"),
        Kv::Layer(il) => say(true, &format!("keys and values of layer {il}")),
    }
    say(!a.causal, "both directions");
    match a.window {
        Window::Full => {}
        Window::Sliding(n) => say(true, &format!("window {n}")),
        Window::Chunked(n) => say(true, &format!("chunks of {n}")),
        Window::Symmetric(n) => say(true, &format!("window {n} to both sides")),
    }
    if let Some(r) = &a.rope {
        let scaling = match r.scaling {
            RopeScaling::None => "",
            RopeScaling::Linear { .. } => " linear",
            RopeScaling::Freqs => " freqs",
            RopeScaling::Yarn { .. } => " yarn",
            RopeScaling::Long { .. } => " long",
        };
        say(true, &format!("rope {} of base {}{scaling}", r.n_rot, r.base));
    }
    say(a.alibi.is_some(), "alibi");
    say(a.relative.is_some(), "relative bias");
    say(a.clamp.is_some(), "clamp");
    if let Some(n) = &a.qk_norm {
        let span = match n.span {
            Span::Head => "",
            Span::EachHead => " of each head",
            Span::Whole => " of whole rows",
        };
        say(true, &format!("qk norm{span}{}", if n.after_rope { " after rope" } else { "" }));
    }
    say(a.v_norm.is_some(), "v norm");
    say(a.value_scale != 1.0, "scaled values");
    say(a.temperature.is_some(), "temperature by position");
    say(a.sinks, "sinks");
    say(a.softcap.is_some(), "softcap");
    match a.gate {
        None => {}
        Some(Gate::Sigmoid(_)) => say(true, "sigmoid gate"),
        Some(Gate::Softplus(_)) => say(true, "softplus gate"),
    }
    say(a.sub_norm.is_some(), "sub norm");
    format!("attn[{}]", words.join(", "))
}

fn ffn(name: &str, n: &Ffn) -> String {
    let act = match n.act {
        Act::Silu => "silu",
        Act::GeluTanh => "gelu_tanh",
        Act::Gelu => "gelu",
        Act::Relu => "relu",
        Act::Relu2 => "relu2",
        Act::ClampedSwiglu { .. } => "clamped swiglu",
        Act::Xielu { .. } => "xielu",
    };
    let sub = if n.sub_norm.is_some() { ", sub norm" } else { "" };
    let sparse = if n.sparsity.is_some() { ", sparse" } else { "" };
    format!("{name}[{}{act} {}{sub}{sparse}]", if n.gated { "gated " } else { "" }, n.n_ff)
}

fn moe(m: &Moe) -> String {
    let score = match m.score {
        Score::Softmax | Score::SoftmaxOfChosen => "softmax",
        Score::Sigmoid => "sigmoid",
        Score::SparseMixer { .. } => "sparse mixer",
    };
    let mut name = format!("moe[{} of {} by {score}", m.n_expert_used, m.n_expert);
    if let Some(g) = &m.groups {
        name += &format!(", {} of {} groups", g.n_used, g.n);
    }
    if m.router.read != Read::Stream {
        name += &format!(" of {}", read(m.router.read));
    }
    if let Some(s) = &m.shared {
        name += &format!(", {} always", ffn("ffn", &s.ffn));
    }
    if let Some(a) = &m.adjugate {
        name += &format!(", ffn {} for every {} experts", a.n_ff, a.n_expert_each);
    }
    ffn(&(name + "]"), &m.ffn)
}
