//! What a client of a service can be told instead of a list.

use std::path::{Path, PathBuf};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model behind the service failed.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// A question that cannot be answered: an unknown item, a list longer than the catalogue.
    #[error("{0}")]
    Request(String),
    /// A key that cannot be used.
    #[error("{}: {message}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A service that others run did not answer, or not in time.
    #[error("{0}")]
    Failed(String),
    /// A signal came; what was answered is kept.
    #[error("interrupted; what was done is kept in {}, and --resume goes on from there", .0.display())]
    Interrupted(PathBuf),
    /// Answers could not be kept, or not be read again.
    #[error("{}: the state for --resume could not be saved", path.display())]
    State {
        /// The file or directory they are kept in.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn key(path: &Path, message: impl Into<String>) -> Self {
        Self::Key { path: path.to_owned(), message: message.into() }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// True for an error of this crate, or of a model in it, for which the caller's question or files are to blame.
pub fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref() {
        Some(Error::Request(_) | Error::Key { .. }) => true,
        Some(Error::Model(error)) => models::is_input(error),
        _ => models::is_input(error),
    }
}
