//! `none`: answers are taken as they are.

use super::Suspicion;

/// The registry's entry.
pub(super) const SUSPICION: Suspicion =
    Suspicion { name: "none", title: "Answers are as ranked", ordered: true, build: None };
