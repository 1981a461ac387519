//! `softmax`: cross entropy against weights that fall with the place by `distill.fall`.

use super::{ListLoss, as_set};

/// The registry's entry.
pub(super) const LOSS: ListLoss = ListLoss {
    name: "softmax",
    title: "Cross entropy against weights that fall with the place, items outside at 0",
    ordered: true,
    negatives: as_set,
    value: |catalogue, lists, settings| {
        Ok(catalogue.list_softmax(lists.states, lists.answers, lists.negatives, settings.fall)?)
    },
};
