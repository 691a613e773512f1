//! Routed experts: choose, group rows by expert, two grouped products, weigh and sum.
//!
//! Phases: prepare · router · gather · hidden · prepare · down · combine. A network that every row
//! goes through (shared) takes part in the same phases. A row's result is the sum over its experts
//! in the order of choice, so it does not depend on what else is in the step.

mod bank;
mod route;

use super::Cx;
use super::ffn::Names;
use super::linear::{self, Acts, Dest, Linear, Source};
use super::norm::Norm;
use crate::bind::Binder;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, Read};
use crate::team::{Stop, Worker};
use bank::{Bank, BankNames, Job, SharedNet};
use std::sync::Arc;

pub(crate) struct Moe {
    router: Linear,
    /// What the router reads where that is not what the experts read.
    router_source: Option<(Read, Option<Norm>)>,
    /// Added to the scores for choosing.
    select_bias: Option<Arc<[f32]>>,
    experts: Bank,
    adjugate: Option<Bank>,
    shared: Option<SharedNet>,
    spec: spec::Moe,
}

/// The selection bias under the names that files have for it.
fn select_bias(b: &Binder, p: &str, n: usize) -> Result<Option<Arc<[f32]>>, Error> {
    for name in ["exp_probs_b.bias", "exp_probs_b.weight", "exp_probs_b"] {
        if let Some(bias) = b.opt_vector(&format!("{p}{name}"), n)? {
            return Ok(Some(bias));
        }
    }
    Ok(None)
}

impl Moe {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, m: &spec::Moe) -> Result<Moe, Error> {
        let (b, n, n_embd) = (lower.binder, m.n_expert, lower.n_embd);
        let router = b.matrix(&format!("{p}ffn_gate_inp"), n, n_embd)?;
        let select_bias = select_bias(b, p, n)?;
        let own = m.router.read != Read::Stream || m.router.norm.is_some();
        let router_norm =
            m.router.norm.as_ref().map(|norm| Norm::bind(b, p, norm, n_embd)).transpose()?;
        let names = BankNames {
            fused: "ffn_gate_up_exps",
            each: Names { gate: "ffn_gate_exps", up: "ffn_up_exps", down: "ffn_down_exps" },
        };
        let experts = Bank::bind(lower, p, &m.ffn, &names, (n, 1))?;
        let adjugate = match &m.adjugate {
            None => None,
            Some(a) => {
                let names = BankNames {
                    fused: "ffn_gate_up_chexps",
                    each: Names {
                        gate: "ffn_gate_chexps",
                        up: "ffn_up_chexps",
                        down: "ffn_down_chexps",
                    },
                };
                let ffn = spec::Ffn { n_ff: a.n_ff, ..m.ffn.clone() };
                Some(Bank::bind(lower, p, &ffn, &names, (n, a.n_expert_each))?)
            }
        };
        let shared = m.shared.as_ref().map(|s| SharedNet::bind(lower, p, s)).transpose()?;
        let w = &mut lower.widths;
        w.n_expert = w.n_expert.max(n);
        w.n_expert_used = w.n_expert_used.max(m.n_expert_used);
        if adjugate.is_some() {
            w.o = w.o.max(n_embd);
        }
        w.keep |= m.router.read == Read::LayerInput;
        Ok(Moe {
            router: lower.linear(router)?,
            router_source: own.then_some((m.router.read, router_norm)),
            select_bias,
            experts,
            adjugate,
            shared,
            spec: m.clone(),
        })
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut all = vec![&self.router];
        all.extend(self.experts.linears());
        all.extend(self.adjugate.iter().flat_map(Bank::linears));
        all.extend(self.shared.iter().flat_map(SharedNet::linears));
        all
    }

    /// Whether the router reads what the layer's first stage read.
    pub(crate) fn reads_layer_input(&self) -> bool {
        self.spec.router.read == Read::LayerInput
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let acts = self.router_logits(w, cx, src)?;
        let routes = self.route(cx, &cx.bufs.private[w.index()]);
        let (experts, n) = (&self.experts, src.cols);
        let (Some(bank), Some(a)) = (&self.adjugate, &self.spec.adjugate) else {
            let job = Job { bank: experts, shared: self.shared.as_ref(), factor: 1.0, plus: false };
            return self.run_bank(w, cx, (src, &acts), &routes, job, dest);
        };
        // The shared networks read what the experts gave, and their results come on top of it.
        let job = Job { bank: experts, shared: None, factor: 1.0, plus: false };
        self.run_bank(w, cx, (src, &acts), &routes, job, Dest::Set(&cx.bufs.o, n))?;
        let src = Source::plain(&cx.bufs.o, n);
        let acts = linear::prepare(w, cx, &src, &bank.hidden.users())?;
        let job = Job { bank, shared: None, factor: a.scale, plus: true };
        self.run_bank(w, cx, (&src, &acts), &routes, job, dest)
    }

    /// The router's logits (and the shared network's gate) to their buffers. Returns the experts'
    /// input, prepared.
    fn router_logits<'a>(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'a>,
        src: &Source<'_>,
    ) -> Result<Acts<'a>, Stop> {
        let (n, b) = (cx.n_rows(), cx.bufs);
        let gate = self.shared.as_ref().and_then(|s| s.gate.as_ref());
        let shared = self.shared.as_ref().map_or(self.experts.hidden.users(), |s| s.hidden.users());
        let [a, c] = self.experts.hidden.users();
        let users = [a, c, shared[0], shared[1], gate.unwrap_or(a), &self.router];
        let logits = (&self.router, Dest::Set(&b.router, self.spec.n_expert));
        let Some((read, norm)) = &self.router_source else {
            let acts = linear::prepare(w, cx, src, &users)?;
            let jobs = [logits, (gate.unwrap_or(&self.router), Dest::Set(&b.g, 1))];
            linear::project(w, cx, &acts, n, &jobs[..1 + usize::from(gate.is_some())]);
            w.barrier()?;
            return Ok(acts);
        };
        let own = Source { norm: norm.as_ref(), ..Source::plain(cx.read(*read), src.cols) };
        let acts = linear::prepare(w, cx, &own, &[&self.router])?;
        linear::project(w, cx, &acts, n, &[logits]);
        w.barrier()?;
        let acts = linear::prepare(w, cx, src, &users[..5])?;
        if let Some(gate) = gate {
            linear::project(w, cx, &acts, n, &[(gate, Dest::Set(&b.g, 1))]);
            w.barrier()?;
        }
        Ok(acts)
    }
}
