//! `none`: a list is answered as the model ranks it.

use super::{Answering, Build, Policy};

/// The registry's entry.
pub(super) const POLICY: Policy = Policy {
    name: "none",
    title: "No defence: the target as it is",
    section: None,
    build: Build::Open(|_| Ok(Answering::AsRanked)),
};
