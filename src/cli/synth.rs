//! `pumice synth`: models of real shapes with random weights, to measure speed on.

use clap::builder::PossibleValuesParser;
use pumice::synth::{Recipe, SHAPES, Shape};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Shape of the model
    #[arg(long, value_name = "NAME", value_parser = shape_names())]
    shape: String,
    /// Type of the weights: Q4_K_M, Q5_K_M, or a tensor type for all matrices
    #[arg(long = "type", value_name = "TYPE", default_value = "Q4_K_M")]
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
    let shape = Shape::find(&args.shape).expect("clap lets known names through alone");
    pumice::synth::write(shape, args.ty, &args.output)?;
    let bytes = std::fs::metadata(&args.output)?.len();
    eprintln!("{} {}, {} MiB", shape.name, args.ty, bytes >> 20);
    super::out::write_all(format!("{}\n", args.output.display()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
