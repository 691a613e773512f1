//! What can go wrong between a file and its logits.

use formats::TensorType;

/// Everything the `models` crate reports. Each variant carries what was found, what was expected
/// and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file itself is at fault.
    #[error(transparent)]
    File(#[from] formats::Error),
    /// A tensor type or kernel is at fault.
    #[error(transparent)]
    Quant(#[from] quant::Error),
    /// `general.architecture` names something this build does not know.
    #[error("unknown model architecture {found:?} (general.architecture); known are: {known}")]
    UnknownArch {
        /// What the file says it is.
        found: String,
        /// The registry's names, separated by commas.
        known: String,
    },
    /// A metadata key that the architecture needs is absent.
    #[error("metadata key {key:?} is missing; expected {expected}")]
    MissingKey {
        /// The full key.
        key: String,
        /// What it should hold.
        expected: String,
    },
    /// A metadata value is out of its range or contradicts another.
    #[error("metadata key {key:?} is {found}; expected {expected}")]
    BadValue {
        /// The full key.
        key: String,
        /// The value found.
        found: String,
        /// The values that would be right.
        expected: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("tensor {name:?} is missing; expected shape [{expected}] (rows last)")]
    MissingTensor {
        /// The tensor's name.
        name: String,
        /// Its shape in the file's order.
        expected: String,
    },
    /// A tensor has another shape than the metadata ask for.
    #[error("tensor {name:?} has shape [{found}]; expected [{expected}] (row length first)")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// Its shape in the file.
        found: String,
        /// The shape that follows from the metadata.
        expected: String,
    },
    /// A tensor has a type that its role cannot have.
    #[error("tensor {name:?} has type {found}; expected {expected}")]
    TensorKind {
        /// The tensor's name.
        name: String,
        /// Its type in the file.
        found: TensorType,
        /// The types its role allows.
        expected: &'static str,
    },
    /// The file holds tensors that the architecture has no use for: computing without them would
    /// give wrong answers.
    #[error("{count} tensor(s) of the file have no place in architecture {arch:?}, first {name:?}")]
    UnclaimedTensor {
        /// The first such tensor.
        name: String,
        /// How many there are.
        count: usize,
        /// The architecture.
        arch: String,
    },
    /// The model does not fit this machine.
    #[error(
        "not enough memory: weights {weights} MiB + KV cache {kv} MiB + scratch {scratch} MiB \
         exceed the {limit} MiB that {source_of_limit} allows; a smaller context (-c), KV type \
         (-ctk, -ctv) or micro-batch (-ub) needs less"
    )]
    Memory {
        /// MiB of tensor data.
        weights: u64,
        /// MiB of KV cache and other per-sequence state.
        kv: u64,
        /// MiB of activations.
        scratch: u64,
        /// MiB that may be used.
        limit: u64,
        /// "this machine", "the cgroup" or "the options".
        source_of_limit: &'static str,
    },
    /// A step would run past the end of the context.
    #[error(
        "context overflow: sequence {seq} holds {used} positions and {asked} more were asked for, \
         but the context has {n_ctx}; a larger one is set with -c"
    )]
    ContextOverflow {
        /// The sequence.
        seq: usize,
        /// Positions it holds.
        used: usize,
        /// Positions that the step adds.
        asked: usize,
        /// Positions there are.
        n_ctx: usize,
    },
    /// A row of a step is not usable.
    #[error("row {row} of the step: {what} is {found}; expected {expected}")]
    BadRow {
        /// Index of the row.
        row: usize,
        /// Which part of it.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The values that would be right.
        expected: String,
    },
    /// Logits of a model that has none.
    #[error(
        "a model of architecture {arch:?} has no logits: it turns whole texts into vectors and \
         cannot continue them (see the commands embed and rerank)"
    )]
    NoLogits {
        /// The architecture.
        arch: String,
    },
    /// Embeddings of a model whose encoder serves its decoder.
    #[error("a model of an encoder and a decoder makes no embeddings: its encoder alone does")]
    TwoStacks,
    /// A text for an encoder that is not there.
    #[error("the model has no encoder beside its decoder, and so takes no text for one")]
    NoEncoder,
    /// A decoder that reads an encoder's rows, before there are any.
    #[error("sequence {seq} has no text in the encoder, which its decoder continues from")]
    NotEncoded {
        /// The sequence.
        seq: usize,
    },
    /// Scores of a model that has none.
    #[error(
        "the file has no classifier (tensor \"cls.output.weight\"), so that it gives no scores; \
         pooling none, mean, cls and last are possible"
    )]
    NoClassifier,
    /// An input of an embedding is not usable.
    #[error("input {input}: {what} is {found}; expected {expected}")]
    BadInput {
        /// Index of the input.
        input: usize,
        /// Which part of it.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The values that would be right.
        expected: String,
    },
    /// A vector holds NaN or an infinity.
    #[error(
        "the rows of input {input} are not finite; {origin} is the first place with such a value"
    )]
    NotFiniteRow {
        /// Index of the input.
        input: usize,
        /// The first layer (or the embedding) that produced it.
        origin: String,
    },
    /// The logits hold NaN or an infinity.
    #[error("logits of row {row} are not finite; {origin} is the first place with such a value")]
    NotFinite {
        /// Index of the row in the step.
        row: usize,
        /// The first layer (or the embedding, or the output) that produced it.
        origin: String,
    },
    /// The step was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A worker thread panicked; the step is lost, the engine is not.
    #[error("a worker thread failed: {0}")]
    Worker(String),
    /// The system refused threads or memory.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl From<crate::team::Stop> for Error {
    fn from(stop: crate::team::Stop) -> Self {
        match stop {
            crate::team::Stop::Cancelled => Error::Cancelled,
            crate::team::Stop::Panicked(message) => Error::Worker(message),
        }
    }
}
