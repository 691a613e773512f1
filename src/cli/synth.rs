//! `pumice synth`: models with random weights, to measure speed on or to compare runtimes with.

use clap::builder::PossibleValuesParser;
use pumice::synth::{Recipe, SHAPES, Shape};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Shape of the model, one that people run
    #[arg(long, value_name = "NAME", value_parser = shape_names())]
    #[arg(required_unless_present = "arch", conflicts_with = "arch")]
    shape: Option<String>,
    /// A tiny model of this architecture instead, all tensors F32; see 'pumice archs'
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Seed of the tiny model's weights
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "shape")]
    seed: u64,
    /// Type of the weights: Q4_K_M, Q5_K_M, or a tensor type for all matrices
    #[arg(long = "type", value_name = "TYPE", default_value = "Q4_K_M", conflicts_with = "arch")]
    ty: Recipe,
    /// Receives the model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// The known shapes, for the command line.
pub(super) fn shape_names() -> PossibleValuesParser {
    PossibleValuesParser::new(SHAPES.iter().map(|s| s.name))
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let size = |path: &PathBuf| std::fs::metadata(path).map(|m| m.len() >> 10);
    match (&args.shape, &args.arch) {
        (Some(name), _) => {
            let shape = Shape::find(name).expect("clap lets known names through alone");
            pumice::synth::write(shape, args.ty, &args.output)?;
            eprintln!("{name} {}, {} MiB", args.ty, size(&args.output)? >> 10);
        }
        (None, arch) => {
            let arch = arch.as_deref().expect("clap asks for one of the two");
            pumice::synth::write_tiny(arch, args.seed, &args.output)?;
            eprintln!("tiny {arch}, seed {}, {} KiB", args.seed, size(&args.output)?);
        }
    }
    super::out::write_all(format!("{}\n", args.output.display()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
