//! What can go wrong with a model: an operation that fails, a tensor that does not fit, a request that cannot be met, a
//! file of the contract that cannot be read.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed; shapes and device are in the source.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file of the contract between stages could not be read or written.
    #[error("{0}")]
    Artifact(#[from] artifact::Error),
    /// A set of weights does not belong to the architecture and sizes asked for.
    #[error("{0}")]
    Weights(String),
    /// A request that the model cannot meet: an unknown item, a list longer than the catalogue.
    #[error("{0}")]
    Request(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// True for an error of this crate for which the caller's settings or files are to blame, not the run.
pub fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::Weights(_) | Error::Request(_)))
}
