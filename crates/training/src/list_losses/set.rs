//! `set`: which items a list holds, whatever their order.

use super::{ListLoss, as_set};

/// The registry's entry.
pub(super) const LOSS: ListLoss = ListLoss {
    name: "set",
    title: "The list against items outside, its order ignored",
    ordered: false,
    negatives: as_set,
    value: |catalogue, lists, _| Ok(catalogue.list_set(lists.states, lists.answers, lists.negatives)?),
};
