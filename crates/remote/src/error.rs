//! What can go wrong with a recommender that others run.

use std::path::PathBuf;

/// Errors of this crate. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Usage, a file, a key, or what the service answered is to blame.
    #[error("{0}")]
    Refused(String),
    /// A file of a dataset cannot be read.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The service did not answer, or not in time.
    #[error("{0}")]
    Failed(String),
    /// The budget is spent before all is answered.
    #[error(
        "the budget of {budget} questions is spent: {answered} are answered and kept in {}, {lost} were asked and their answers lost; \
         --resume with a higher --budget goes on from there",
        .ledger.display()
    )]
    Budget {
        /// The most questions that may be asked.
        budget: u64,
        /// Those whose answers are kept.
        answered: u64,
        /// Those that were, or may have been, answered to nobody.
        lost: u64,
        /// Where the answers are kept.
        ledger: PathBuf,
    },
    /// A signal came; what was answered is kept.
    #[error("interrupted; what was answered is kept in {}, and --resume goes on from there", .0.display())]
    Interrupted(PathBuf),
    /// What was asked could not be written down, or not be read again.
    #[error("{}: what was asked could not be written down: {source}", path.display())]
    State {
        /// The ledger.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }
}

impl From<Error> for service::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(message) => Self::Request(message),
            Error::Artifact(error) => Self::Request(error.to_string()),
            Error::Interrupted(path) => Self::Interrupted(path),
            Error::State { path, source } => Self::State { path, source },
            Error::Failed(_) | Error::Budget { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// True for an error of this crate for which the caller's usage, files or target are to blame.
pub fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref() {
        Some(Error::Refused(_)) => true,
        Some(Error::Artifact(error)) => error.is_input(),
        _ => false,
    }
}
