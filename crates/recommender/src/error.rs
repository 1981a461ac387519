//! What can go wrong with a model: an operation that fails, a tensor that does not fit, a setting that
//! cannot be met, a file of the contract that cannot be read.

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
    /// Training cannot go on: a loss that is not a number, a variable without a gradient.
    #[error("{0}")]
    Training(String),
    /// A signal came; what was done is saved.
    #[error("interrupted; what was done is kept in {}, and --resume goes on from there", .0.display())]
    Interrupted(std::path::PathBuf),
    /// The state to resume from could not be written.
    #[error("{}: the state for --resume could not be saved", path.display())]
    State {
        /// The state's directory.
        path: std::path::PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// True for an error of this crate for which the caller's settings or files are to blame, not the run.
pub fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::Weights(_) | Error::Request(_)))
}
