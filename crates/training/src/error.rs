//! What can go wrong while a model trains: the model itself, a loss that is no number, a state that cannot be kept or taken
//! up, a signal.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model that trains failed, or was asked for what it cannot do.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// A setting or a saved state that the run cannot use.
    #[error("{0}")]
    Request(String),
    /// Training cannot go on: a loss that is not a number, a variable without a gradient.
    #[error("{0}")]
    Training(String),
    /// A signal came; what was done is saved.
    #[error("interrupted; what was done is kept in {}, and --resume goes on from there", .0.display())]
    Interrupted(PathBuf),
    /// The state to resume from could not be written.
    #[error("{}: the state for --resume could not be saved", path.display())]
    State {
        /// The state's directory.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

impl From<artifact::Error> for Error {
    fn from(error: artifact::Error) -> Self {
        Self::Model(error.into())
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// True for an error of this crate, or of a model in it, for which the caller's settings or files are to blame, not the run.
pub fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref() {
        Some(Error::Request(_)) => true,
        Some(Error::Model(error)) => models::is_input(error),
        _ => models::is_input(error),
    }
}
