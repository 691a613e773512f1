//! What can go wrong in the library, from file to text.

use crate::sample::{OptionError, SampleError};
use crate::text::template::TemplateError;
use crate::text::tokenizer::TokenizerError;
use std::path::PathBuf;

/// Everything the library reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a readable model file.
    #[error(transparent)]
    File(#[from] formats::Error),
    /// The model cannot be built from the file, or a step failed.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// The vocabulary is unusable, or text cannot be encoded with it.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is unusable, or refuses the conversation.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A sampling option is out of its range.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// No token can be drawn.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A prompt without a single token.
    #[error("the prompt is empty: there is nothing to continue")]
    EmptyPrompt,
    /// A model that fills masks has none.
    #[error(
        "metadata key \"tokenizer.ggml.mask_token_id\" is missing; expected the token that this \
         model fills"
    )]
    NoMask,
    /// A checkpoint cannot be converted.
    #[error(transparent)]
    Convert(#[from] crate::convert::ConvertError),
    /// More values of a vector were asked for than it has.
    #[error("{found} dimensions are not possible: the model's vectors have {full} (1 or more)")]
    Dimensions {
        /// What was asked for.
        found: usize,
        /// Values of a whole vector.
        full: usize,
    },
    /// A file that the user named.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Classes of errors, for exit codes and status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that cannot be: options, prompts, conversations.
    Request,
    /// A file is missing, damaged or not supported.
    File,
    /// The work was cancelled.
    Cancelled,
    /// Memory or threads are short.
    Resources,
    /// A defect or a failed computation.
    Internal,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Option(_) | Error::EmptyPrompt | Error::Dimensions { .. } => ErrorKind::Request,
            Error::Template(TemplateError::Syntax(_)) => ErrorKind::File,
            Error::Template(_) => ErrorKind::Request,
            Error::File(_)
            | Error::Tokenizer(_)
            | Error::Convert(_)
            | Error::NoMask
            | Error::Io { .. } => ErrorKind::File,
            Error::Sample(_) => ErrorKind::Internal,
            Error::Model(e) => match e {
                models::Error::Cancelled => ErrorKind::Cancelled,
                models::Error::Memory { .. } | models::Error::System { .. } => ErrorKind::Resources,
                models::Error::ContextOverflow { .. }
                | models::Error::NoLogits { .. }
                | models::Error::NoClassifier
                | models::Error::BadInput { .. } => ErrorKind::Request,
                models::Error::BadRow { .. }
                | models::Error::NotFinite { .. }
                | models::Error::NotFiniteRow { .. }
                | models::Error::Worker(_) => ErrorKind::Internal,
                _ => ErrorKind::File,
            },
        }
    }

    /// Whether the work was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }
}
