//! The error for what only the caller can mend. Everything else that goes wrong is a failed run.

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The usage, the settings or an input are not right. A binary whose error chain holds one exits with 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    message: String,
    source: Option<Cause>,
}

impl Refusal {
    /// A refusal that says which file, line or key, what was expected and what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// A refusal for a reason that another error gives.
    pub fn because(message: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self { message: message.into(), source: Some(source.into()) }
    }
}
