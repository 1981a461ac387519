//! What can be wrong with the slices handed in.

/// A fault in the shapes of what was handed in; never in the numbers themselves.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Lists are cut from one flat slice, which must divide into rows of k.
    #[error("{ids} answered ids do not divide into lists of {k}")]
    RaggedAnswers {
        /// The length asked for.
        k: usize,
        /// How many ids there are.
        ids: usize,
    },
    /// A mean, and hence an interval, needs at least one user.
    #[error("an interval needs at least one user, found none")]
    NoUsers,
    /// An interval needs at least one resample.
    #[error("an interval needs at least one bootstrap resample, found none")]
    NoResamples,
    /// Indices are drawn as 32-bit numbers.
    #[error("the bootstrap draws among at most {most} users, found {found}", most = u32::MAX)]
    TooManyUsers {
        /// How many users there are.
        found: usize,
    },
    /// Two slices that speak of the same users or items differ in length.
    #[error("slices that must be of one length hold {left} and {right} numbers")]
    LengthMismatch {
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
}
