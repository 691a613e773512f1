//! Bodies with a state of fixed size: one way to lower and run them all.

use super::Cx;
use super::conv::ShortConv;
use super::delta::{GatedDelta, Kda};
use super::linear::{Dest, Linear, Source};
use super::mamba::Mamba;
use super::mamba2::Mamba2;
use super::rwkv::ChannelMix;
use super::rwkv6::Rwkv6;
use super::rwkv7::Rwkv7;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::Recurrent;
use crate::team::{Stop, Worker};

/// A lowered body with a state of fixed size.
pub(crate) trait Mixer: Send + Sync {
    /// Every matrix, for listings.
    fn linears(&self) -> Vec<&Linear>;

    /// Runs the rows of a micro-batch; every worker calls it.
    ///
    /// # Errors
    /// [`Stop`] as every phase.
    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop>;
}

/// Binds the tensors `PREFIX...` of a body.
///
/// # Errors
/// Missing or misshapen tensors, or types without kernels.
pub(crate) fn bind(
    lower: &mut Lower<'_>,
    p: &str,
    body: &Recurrent,
) -> Result<Box<dyn Mixer>, Error> {
    Ok(match body {
        Recurrent::ShortConv(c) => Box::new(ShortConv::bind(lower, p, c)?),
        Recurrent::Mamba(m) => Box::new(Mamba::bind(lower, p, m)?),
        Recurrent::Mamba2(m) => Box::new(Mamba2::bind(lower, p, m)?),
        Recurrent::Delta(d) => Box::new(GatedDelta::bind(lower, p, d)?),
        Recurrent::Kda(k) => Box::new(Kda::bind(lower, p, k)?),
        Recurrent::Rwkv6(r) => Box::new(Rwkv6::bind(lower, p, r)?),
        Recurrent::Rwkv7(r) => Box::new(Rwkv7::bind(lower, p, r)?),
        Recurrent::ChannelMix(c) => Box::new(ChannelMix::bind(lower, p, c)?),
    })
}
