//! The one error type of the crate. It separates what was read from what could not be written, because a stage answers
//! the first with exit code 2 (the caller must change something) and the second with 1 (the run failed).

use std::path::{Path, PathBuf};

/// A cause from below: I/O, Parquet, JSON.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened or read to its end: it is missing, truncated or not in its format.
    #[error("cannot read {}: {expected}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was expected of it, and what to do.
        expected: String,
        /// What the reader said.
        source: Cause,
    },
    /// A file was read and its contents break a rule.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Which column, row, tensor or key; what was expected; what to do.
        message: String,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Cause,
    },
    /// Values handed to a writer break the file's rules, so nothing was written.
    #[error("cannot write {}: {message}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Which value and which rule.
        message: String,
    },
}

impl Error {
    /// True where the fault lies in what was read: missing, truncated, of the wrong type, or not belonging together.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Content { .. })
    }

    /// The file at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Content { path, .. }
            | Self::Write { path, .. }
            | Self::Unwritable { path, .. } => path,
        }
    }

    /// A file that could not be opened or read to its end; `expected` says what it should be and what to do.
    pub fn read(path: &Path, expected: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Read { path: path.to_owned(), expected: expected.into(), source: source.into() }
    }

    /// A file that was read and breaks a rule.
    pub fn content(path: &Path, message: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), message: message.into() }
    }

    /// A file that the system would not let us write.
    pub fn write(path: &Path, source: impl Into<Cause>) -> Self {
        Self::Write { path: path.to_owned(), source: source.into() }
    }

    /// Values that break the rules of the file they were meant for.
    pub fn unwritable(path: &Path, message: impl Into<String>) -> Self {
        Self::Unwritable { path: path.to_owned(), message: message.into() }
    }
}
