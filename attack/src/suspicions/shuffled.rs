//! `shuffled`: the lists hold the right items in no order. What is learned is the set: a loss that reads the order gives way to
//! `set`, and agreement is that of whole lists. Against a service that shuffles what it answers, short lists are worth more: the
//! set of ten items says which are the best ten, that of a hundred only which are the best hundred.

use super::Suspicion;

/// The registry's entry.
pub(super) const SUSPICION: Suspicion =
    Suspicion { name: "shuffled", title: "Lists are in no order", ordered: false, build: None };
